"""Signed addresses of a whole server: from its REST answers to the bytes, over the real database."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio

from tests.chat.conftest import (  # noqa: F401
    Build,
    House,
    Person,
    build,
    database_url,
    house,
    settings,
    shared_database,
)
from veza.db.media_files import MediaFile, by_names

SONG = os.urandom(200_000)


@pytest.fixture
async def web(house: House) -> AsyncIterator[httpx.AsyncClient]:  # noqa: F811
    with trio.fail_after(60):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.port}", timeout=60) as web:
            yield web


async def _add(house: House, owner: Person, name: str, status: str = "ready") -> int:  # noqa: F811
    path = house.app.services.library.original(name, "mp3")
    await trio.Path(path.parent).mkdir(parents=True)
    await trio.Path(path).write_bytes(SONG)
    rows = await house.sql(
        "INSERT INTO tracks (owner_id, name, title, status, filename, extension, content_type, size, is_public)"
        " VALUES ($1, $2, 'T', $3, 'a.mp3', 'mp3', 'audio/mpeg', $4, false) RETURNING id",
        owner.id,
        name,
        status,
        len(SONG),
    )
    found: int = rows[0][0]
    return found


async def test_from_the_api_to_the_bytes_and_to_the_end(house: House, web: httpx.AsyncClient) -> None:  # noqa: F811
    owner = await house.person()
    track = await _add(house, owner, f"song-{owner.id}")
    login = {"Authorization": f"Bearer {owner.token}"}
    urls = (await web.get(f"/api/v1/tracks/{track}/stream", headers=login)).json()["data"]
    assert (await web.get(f"/api/v1/tracks/{track}/stream")).status_code == 404, "it is private"
    whole = await web.get(urls["url"])  # but its address opens it to whoever holds that
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, SONG, "audio/mpeg")
    assert "content-encoding" not in whole.headers
    part = await web.get(urls["url"], headers={"Range": "bytes=-1000", "If-Range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, SONG[-1000:])
    assert part.headers["content-range"] == f"bytes 199000-199999/{len(SONG)}"
    saved = await web.get(f"/api/v1/tracks/{track}/download", headers=login, follow_redirects=True)
    assert saved.headers["content-disposition"] == 'attachment; filename="a.mp3"'
    assert saved.content == SONG
    metrics = (await web.get("/metrics")).text
    assert "veza_media_bytes_sent_total" in metrics
    assert (await web.delete(f"/api/v1/tracks/{track}", headers=login)).status_code == 200
    gone = await web.get(urls["url"])
    assert (gone.status_code, gone.json()["code"]) == (404, "NOT_FOUND")


async def test_which_tracks_are_heard(house: House, web: httpx.AsyncClient) -> None:  # noqa: F811
    owner = await house.person()
    names = {status: f"{status}-{owner.id}" for status in ("ready", "processing", "failed")}
    for status, name in names.items():
        await _add(house, owner, name, status)
    found: dict[str, Any] = dict(await house.db.read(by_names, [*names.values(), "nobody"]))
    heard = MediaFile("mp3", "audio/mpeg", "a.mp3", has_hls=False)
    assert found == {names["ready"]: heard, names["processing"]: heard}
    signer = house.app.services.signer
    expires = int(time.time()) + 600
    for status, answered in [("ready", 200), ("processing", 200), ("failed", 404)]:
        assert (await web.get(signer.stream_url(names[status], expires))).status_code == answered
