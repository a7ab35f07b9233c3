"""A shelf of tracks behind a real door, with a clock that tests turn and a table of tracks in place of a database."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import trio

from tests.http.house import House, open_house
from veza.config import Settings
from veza.db.errors import Unavailable
from veza.db.media_files import MediaFile, by_names
from veza.db.pool import Database
from veza.http.cors import Cors
from veza.http.media import MediaRoutes
from veza.http.sending import Sender
from veza.http.tracks_shelf import TracksShelf
from veza.media.library import Library
from veza.security.origins import Origins
from veza.security.signing import Signer

KEY = "0123456789abcdef0123456789abcdef"
EXPIRES = 1893456000
NOW = EXPIRES - 1000.0
SONG = os.urandom(300_000)
MASTER = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\naac128/index.m3u8\n"


class Tracks:
    """What the database would say."""

    def __init__(self) -> None:
        self.rows: dict[str, MediaFile] = {}
        self.asked = 0
        self.away = False

    async def read(self, unit: Any, names: Sequence[str]) -> Mapping[str, MediaFile]:
        assert unit is by_names
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.away:
            raise Unavailable("gone")
        return {name: self.rows[name] for name in names if name in self.rows}


class Shop:
    """The open shelf: a track `plouf` with renditions, and one that is still being processed, `fresh`."""

    def __init__(self, data: Path) -> None:
        self.now = NOW
        self.tracks = Tracks()
        self.library = Library(data)
        self.library.prepare()
        self.sender = Sender()
        self.files = self.sender.files
        self.signer = Signer(KEY)
        self.house: House
        self.add("plouf", "mp3", "audio/mpeg", SONG, filename="Plouf! (été).mp3", has_hls=True)
        self.add("fresh", "ogg", "application/ogg", SONG[:1000])
        tree = self.library.hls("plouf")
        (tree / "aac128").mkdir(parents=True)
        (tree / "master.m3u8").write_bytes(MASTER)
        (tree / "aac128" / "index.m3u8").write_text("#EXTM3U\n")
        (tree / "aac128" / "init.mp4").write_bytes(SONG[:700])
        (tree / "aac128" / "0.m4s").write_bytes(SONG[:9000])

    def add(
        self,
        name: str,
        extension: str,
        content_type: str,
        data: bytes,
        *,
        filename: str | None = None,
        has_hls: bool = False,
    ) -> Path:
        path = self.library.original(name, extension)
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        self.tracks.rows[name] = MediaFile(extension, content_type, filename, has_hls)
        return path

    def url(self, name: str = "plouf", *, more: str = "", expires: int = EXPIRES) -> str:
        return self.signer.stream_url(name, expires) + more

    def tree(self, file: str = "master.m3u8", name: str = "plouf", *, expires: int = EXPIRES) -> str:
        return self.signer.hls_url(name, expires).removesuffix("master.m3u8") + file

    def media(self, settings: Settings) -> MediaRoutes:
        shelf = TracksShelf(self.library, cast(Database, self.tracks), self.signer, clock=lambda: self.now)
        cors = Cors(Origins(settings.allowed_origins, settings.public_url))
        return MediaRoutes(settings, [shelf], cors=cors, sender=self.sender)


@contextlib.asynccontextmanager
async def open_shop(data: Path, config: Settings | None = None) -> AsyncIterator[Shop]:
    shop = Shop(data)
    async with open_house(config=config, media=shop.media) as shop.house:
        yield shop
