"""Streams: making them, broadcasting to them, listening."""

from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import trio

from veza.client.broadcasting import Programme, broadcast
from veza.client.errors import Unreachable, reason_of
from veza.client.media import ListenLinks, LiveStream, NewStream, StreamKey
from veza.client.models import Page, Room
from veza.client.reading import pieces
from veza.client.transport import Transport, judge, read_as, read_one

SILENCE = 60.0  # seconds without a byte, then a listener gives up


class Streams(Transport):
    """What `VezaClient` offers of live streams."""

    async def create_stream(
        self,
        title: str,
        *,
        description: str | None = None,
        category: str = "music",
        visibility: str = "public",
        record: bool = False,
    ) -> NewStream:
        """Make a stream. Its `stream_key` is shown only now; `new_stream_key` makes another one."""
        body = {
            "title": title,
            "description": description,
            "category": category,
            "visibility": visibility,
            "record": record,
        }
        return read_one(await self.request("POST", "streams", json=body), "stream", NewStream)

    async def streams(self, *, page: int = 1, limit: int = 20, **filters: Any) -> Page[LiveStream]:
        """Public ones, those on air first."""
        params = {"page": page, "limit": limit, **filters}
        return await self._page("streams", "streams", LiveStream, params)

    async def my_streams(self, *, page: int = 1, limit: int = 20) -> Page[LiveStream]:
        """One's own, whatever their visibility: those on air first, then the newest."""
        return await self._page("streams/mine", "streams", LiveStream, {"page": page, "limit": limit})

    async def stream(self, stream: int | str) -> LiveStream:
        """One, by its id or its slug."""
        return read_one(await self.request("GET", _stream(stream)), "stream", LiveStream)

    async def update_stream(self, stream: int | str, **fields: Any) -> LiveStream:
        """Change `title`, `description`, `category`, `visibility`, `record`."""
        return read_one(await self.request("PUT", _stream(stream), json=fields), "stream", LiveStream)

    async def new_stream_key(self, stream: int | str) -> StreamKey:
        """A new key; the old one is good no longer."""
        return read_as(StreamKey, await self.request("POST", f"{_stream(stream)}/key"))

    async def end_stream(self, stream: int | str) -> None:
        """For good: its source and its listeners are sent away, and a recording becomes a track."""
        await self.request("POST", f"{_stream(stream)}/end")

    async def delete_stream(self, stream: int | str) -> None:
        await self.request("DELETE", _stream(stream))

    async def listen_links(self, stream: int | str) -> ListenLinks:
        """Where to listen, whole addresses; those of a private stream let anybody in until they expire."""
        links = await self.get(f"{_stream(stream)}/listen", ListenLinks)
        return ListenLinks(
            progressive=self.absolute(links.progressive),
            hls=self.absolute(links.hls),
            socket=self.absolute(links.socket).replace("http", "ws", 1),
            expires_at=links.expires_at,
        )

    async def join_stream_chat(self, stream: int | str) -> Room:
        """Become a member of its room, if one may hear it; then a socket can `join` it by its id."""
        return read_one(await self.request("POST", f"{_stream(stream)}/chat"), "room", Room)

    # On air --------------------------------------------------------------------------------------------

    async def broadcast(
        self,
        slug: str,
        key: str,
        source: str | PathLike[str] | AsyncIterable[bytes],
        *,
        content_type: str | None = None,
        realtime: bool | None = None,
        name: str | None = None,
        reconnect: bool = True,
        progress: Callable[[int, float], None] | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        """Broadcast MP3, AAC (ADTS), Ogg, WebM or MPEG-TS until the source ends, or the server ends the stream.

        A file is sent as fast as it is heard, by its own frames; what comes from elsewhere is sent as it comes.
        `realtime` says otherwise. When the connection breaks another one is opened, for as long as it takes, and
        begins with the container's header and the piece that had not gone out.

        Args:
            slug, key: which stream, and what proves that one may.
            source: a file, or bytes as they come.
            content_type: what it is, where its bytes do not tell.
            name: shown to listeners' players (`ice-name`).
            reconnect: False to raise `Unreachable` instead.
            progress: told bytes and seconds sent, a few times a second.
            notice: told why the connection broke, each time.

        Raises:
            NotBroadcastable: the source is something else.
            ApiError: 401 for a wrong key, 403 or 409 while somebody else broadcasts, 404.

        Cancelled, the connection is cut; listeners wait a while for another source.
        """
        of_file = isinstance(source, (str, PathLike))
        data = file_bytes(Path(source)) if isinstance(source, (str, PathLike)) else source
        programme = Programme(data, content_type, of_file if realtime is None else realtime)
        secret = b64encode(f"source:{key}".encode()).decode()
        headers = {"Authorization": f"Basic {secret}"}
        if name is not None:
            headers["Ice-Name"] = "".join(letter for letter in name if letter.isprintable()).strip()
        async with trio.open_nursery() as nursery:
            if progress is not None:
                nursery.start_soon(_report, programme, progress)
            error: BaseException | None = None
            try:
                await broadcast(
                    self.url,
                    slug,
                    headers,
                    programme,
                    verify=self.verify,
                    reconnect=reconnect,
                    notice=notice or (lambda _reason: None),
                )
            except Exception as raised:
                error = raised
            nursery.cancel_scope.cancel()
        if progress is not None:
            progress(programme.sent, programme.position)
        if error is not None:
            raise error

    async def set_song(self, slug: str, key: str, song: str) -> None:
        """Say what is playing; listeners' players show it."""
        params = {"mount": f"/live/{slug}", "mode": "updinfo", "song": song}
        try:
            answer = await self._http.get("/admin/metadata", params=params, auth=("source", key))
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.url} cannot be reached: {reason_of(error)}") from None
        if not answer.is_success:
            judge(answer)

    async def listen(self, slug: str, *, url: str | None = None) -> AsyncGenerator[bytes, None]:
        """The stream's bytes from now on, as they come, until it ends.

        Close the iterator when leaving early (`contextlib.aclosing`), or the connection stays until it is forgotten.

        Args:
            url: a signed address, for private streams; where logged in, who we are opens one's own.

        Raises:
            ApiError: 404 when there is no such stream or nobody broadcasts.
            Unreachable: not connected, or cut.
        """
        address = self.absolute(url or f"/live/{quote(slug, safe='')}")
        headers = {"accept": "*/*"}
        if self.tokens is not None and url is None:
            headers["authorization"] = f"Bearer {self.tokens.access_token}"
        timeout = httpx.Timeout(10.0, read=SILENCE)
        try:
            async with self._http.stream("GET", address, headers=headers, timeout=timeout) as answer:
                if not answer.is_success:
                    await answer.aread()
                    judge(answer)
                async for data in answer.aiter_raw():
                    yield data
        except httpx.TimeoutException:
            raise Unreachable(f"nothing was heard of {slug} for {SILENCE:.0f} seconds") from None
        except httpx.HTTPError as error:
            raise Unreachable(f"{slug} cannot be heard: {reason_of(error)}") from None


async def file_bytes(file: Path) -> AsyncIterator[bytes]:
    """All bytes of a file, read in threads."""
    size = (await trio.to_thread.run_sync(file.stat)).st_size
    async for data, _ in pieces(file, 0, size):
        yield data


async def _report(programme: Programme, progress: Callable[[int, float], None]) -> None:
    while True:
        progress(programme.sent, programme.position)
        await trio.sleep(0.25)


def _stream(stream: int | str) -> str:
    return f"streams/{quote(str(stream), safe='')}"
