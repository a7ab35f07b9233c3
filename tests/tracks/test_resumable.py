"""Uploads that survive a broken line: tus 1.0, as its clients speak it, and what goes wrong with them."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import trio

from tests.media.inputs import Inputs
from tests.tracks.conftest import LIMIT, Open, Studio, until
from tests.tracks.wire import Reply, ask
from veza.http.api import spool

TUS = {"tus-resumable": "1.0.0"}
BODY = {**TUS, "content-type": "application/offset+octet-stream"}


def metadata(**values: str) -> str:
    return ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in values.items())


async def announce(studio: Studio, length: int, token: str | None = None, **words: str) -> str:
    """Announce an upload; its address below the base."""
    headers = {**TUS, "upload-length": str(length)}
    if words:
        headers["upload-metadata"] = metadata(**words)
    reply = await studio.ask("POST", "/uploads", headers=headers, token=token or studio.me.token)
    assert reply.status == 201, reply.body
    assert reply.headers["upload-offset"] == "0"
    return reply.headers["location"].removeprefix("/api/v1")


async def send(studio: Studio, path: str, offset: int, body: Any, **how: Any) -> Reply:
    headers = {**BODY, "upload-offset": str(offset), **how.pop("headers", {})}
    return await studio.ask("PATCH", path, body, headers=headers, **how)


async def offset_of(studio: Studio, path: str) -> int:
    reply = await studio.ask("HEAD", path, headers=TUS)
    assert reply.status == 200 and reply.headers["cache-control"] == "no-store"
    return int(reply.headers["upload-offset"])


async def test_what_is_offered(studio: Studio) -> None:
    for path in ("/uploads", "/uploads/some"):
        reply = await studio.ask("OPTIONS", path, token=None)
        assert reply.status == 204 and reply.headers["tus-version"] == "1.0.0"
        assert reply.headers["tus-max-size"] == str(LIMIT)
        assert reply.headers["tus-extension"].split(",") == [
            "creation",
            "creation-with-upload",
            "expiration",
            "checksum",
            "termination",
        ]
        assert "sha1" in reply.headers["tus-checksum-algorithm"].split(",")


async def test_pieces_become_a_track(studio: Studio, song: bytes) -> None:
    words = {"filename": "Ünïcode.mp3", "filetype": "audio/mpeg", "title": "In Pieces", "tags": "Piece,Meal"}
    path = await announce(studio, len(song), **words)
    half = len(song) // 2
    reply = await send(studio, path, 0, song[:half])
    assert reply.status == 204 and reply.headers["upload-offset"] == str(half)
    assert reply.headers["tus-resumable"] == "1.0.0" and "veza-track-id" not in reply.headers
    assert parsedate_to_datetime(reply.headers["upload-expires"]).timestamp() > 0
    head = await studio.ask("HEAD", path, headers=TUS)
    assert head.headers["upload-offset"] == str(half) and head.headers["upload-length"] == str(len(song))
    assert head.headers["upload-metadata"] == metadata(**words)

    reply = await send(studio, path, half, song[half:])
    assert reply.status == 204 and reply.body == b"" and reply.headers["upload-offset"] == str(len(song))
    track_id = int(reply.headers["veza-track-id"])
    track = (await studio.ask("GET", f"/tracks/{track_id}")).data
    assert track["title"] == "In Pieces" and track["filename"] == "Ünïcode.mp3"
    assert track["tags"] == ["piece", "meal"] and track["extension"] == "mp3"
    assert (studio.directory(track) / "original.mp3").read_bytes() == song
    assert not list(studio.library.resumable.iterdir())

    # The answer may have been lost: asked again, it is the same, and there is still one track.
    again = await send(studio, path, len(song), b"", headers={"accept": "application/json"})
    assert again.status == 200 and again.data["id"] == track_id
    assert (await studio.ask("GET", path)).data["track"]["id"] == track_id
    assert (await studio.ask("GET", "/tracks/my")).data["total"] == 1
    assert (await send(studio, path, 0, song)).status == 409


async def test_a_whole_file_at_once(studio: Studio, trusting: None) -> None:
    headers = {**BODY, "upload-length": "5", "upload-metadata": metadata(name="Five.mp3", is_public="no")}
    reply = await studio.ask("POST", "/uploads", b"12345", headers=headers)
    assert reply.status == 201 and reply.headers["upload-offset"] == "5"
    track = reply.data["track"]
    assert track["title"] == "Five" and track["is_public"] is False
    assert reply.headers["veza-track-id"] == str(track["id"])


async def test_a_broken_line_loses_nothing_that_arrived(studio: Studio, trusting: None) -> None:
    path = await announce(studio, LIMIT)

    async def breaks() -> AsyncIterator[bytes]:
        yield bytes(LIMIT // 4)
        await trio.sleep_forever()

    file = studio.library.resumable
    async with trio.open_nursery() as nursery:
        headers = {**BODY, "upload-offset": "0"}

        async def patch() -> None:
            await ask(
                studio.port,
                "PATCH",
                f"/api/v1{path}",
                breaks(),
                token=studio.me.token,
                headers=headers,
                length=LIMIT,
            )

        nursery.start_soon(patch)
        await until(lambda: any(entry.stat().st_size for entry in file.iterdir()))
        # Meanwhile it is taken: one at a time, and the other is told at once.
        for method in ("PATCH", "DELETE"):
            reply = await studio.ask(method, path, headers=headers)
            assert (reply.status, reply.code) == (423, "UPLOAD_LOCKED")
            assert reply.headers["tus-resumable"] == "1.0.0"
        nursery.cancel_scope.cancel()
    desk = studio.house.app.services.desk
    await until(lambda: not desk.open)
    offset = await offset_of(studio, path)
    assert offset == LIMIT // 4
    reply = await send(studio, path, offset, bytes(LIMIT - offset))
    assert reply.status == 204 and "veza-track-id" in reply.headers


async def test_a_server_that_died_knows_how_far_it_was(open_studio: Open, trusting: None) -> None:
    async with open_studio() as studio:
        path = await announce(studio, 10)
        await send(studio, path, 0, b"1234")
        me = studio.me
    async with open_studio() as studio:
        studio.me = me
        assert await offset_of(studio, path) == 4
        assert "veza-track-id" in (await send(studio, path, 4, b"567890")).headers


async def test_an_offset_that_is_not_there(studio: Studio) -> None:
    path = await announce(studio, 10)
    await send(studio, path, 0, b"1234")
    for offset in (0, 3, 5, 10):
        reply = await send(studio, path, offset, b"x")
        assert (reply.status, reply.code) == (409, "OFFSET_CONFLICT")
        assert reply.headers["upload-offset"] == "4"
    assert await offset_of(studio, path) == 4


async def test_two_at_once_one_wins(studio: Studio) -> None:
    path = await announce(studio, LIMIT)
    replies: list[Reply] = []

    async def patch(byte: bytes) -> None:
        replies.append(await send(studio, path, 0, byte * (LIMIT // 2)))

    async with trio.open_nursery() as nursery:
        for byte in (b"a", b"b", b"c"):
            nursery.start_soon(patch, byte)
    assert sorted(reply.status for reply in replies)[0] == 204
    assert all(reply.status in (409, 423) for reply in replies if reply.status != 204)
    assert len([reply for reply in replies if reply.status == 204]) == 1
    assert await offset_of(studio, path) == LIMIT // 2
    (file,) = studio.library.resumable.iterdir()
    assert len(set(file.read_bytes())) == 1


async def test_checksums(studio: Studio, trusting: None) -> None:
    path = await announce(studio, 12)

    def checksum(name: str, data: bytes) -> dict[str, str]:
        return {"upload-checksum": f"{name} {b64encode(hashlib.new(name, data).digest()).decode()}"}

    for name in ("sha1", "sha256", "md5"):
        wrong = await send(
            studio, path, await offset_of(studio, path), b"abcx", headers=checksum(name, b"abcd")
        )
        assert (wrong.status, wrong.code) == (460, "CHECKSUM_MISMATCH")
        offset = await offset_of(studio, path)
        right = await send(studio, path, offset, b"abcd", headers=checksum(name, b"abcd"))
        assert right.status == 204 and right.headers["upload-offset"] == str(offset + 4)
    assert "veza-track-id" in right.headers
    for header in ("crc32 AAAA", "sha1", "sha1 ***", ""):
        reply = await send(studio, path, 0, b"", headers={"upload-checksum": header})
        assert reply.status in (400, 409)


async def test_giving_up(studio: Studio, trusting: None) -> None:
    path = await announce(studio, 10)
    await send(studio, path, 0, b"1234")
    assert (await studio.ask("DELETE", path, headers=TUS)).status == 204
    assert studio.nothing_left()
    for method in ("HEAD", "PATCH", "DELETE"):
        headers = {**BODY, "upload-offset": "4"}
        assert (await studio.ask(method, path, headers=headers)).status == 404
    # A track that an upload has become stays.
    path = await announce(studio, 4)
    track = (await send(studio, path, 0, b"1234")).headers["veza-track-id"]
    assert (await studio.ask("DELETE", path, headers=TUS)).status == 204
    assert (await studio.ask("GET", f"/tracks/{track}")).status == 200


async def test_a_track_takes_its_upload_along(open_studio: Open, trusting: None) -> None:
    async with open_studio(uploads_per_user=1) as studio:
        path = await announce(studio, 4)
        track = (await send(studio, path, 0, b"1234")).headers["veza-track-id"]
        assert (await studio.ask("DELETE", f"/tracks/{track}")).status == 200
        assert (await studio.ask("HEAD", path, headers=TUS)).status == 404
        await announce(studio, 4)  # it does not count as unfinished again


async def test_what_is_no_media_goes_at_once(studio: Studio, inputs: Inputs) -> None:
    data = inputs["html"].read_bytes()
    path = await announce(studio, len(data), filename="song.mp3")
    reply = await send(studio, path, 0, data)
    assert (reply.status, reply.code) == (415, "NOT_MEDIA")
    assert studio.nothing_left()
    assert (await studio.ask("HEAD", path, headers=TUS)).status == 404


async def test_others_know_nothing_of_it(studio: Studio) -> None:
    path = await announce(studio, 10)
    other = await studio.house.person()
    headers = {**BODY, "upload-offset": "0"}
    for method in ("HEAD", "GET", "PATCH", "DELETE"):
        assert (await studio.ask(method, path, headers=headers, token=other.token)).status == 404
        assert (await studio.ask(method, path, headers=headers, token=None)).status == 401
    for name in ("nonsense", "0" * 32, "..%2f..%2fetc"):
        assert (await studio.ask("HEAD", f"/uploads/{name}", headers=TUS)).status == 404


async def test_more_than_was_announced(studio: Studio) -> None:
    path = await announce(studio, 10)
    assert (await send(studio, path, 0, bytes(11))).status == 413

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(5)

    reply = await send(studio, path, 0, pieces(), length=None)
    assert (reply.status, reply.code) == (413, "TOO_LARGE")
    assert await offset_of(studio, path) == 0


BAD_ANNOUNCEMENTS: list[tuple[dict[str, str], int]] = [
    ({}, 400),
    ({"upload-length": "ten"}, 400),
    ({"upload-length": "-1"}, 400),
    ({"upload-length": str(LIMIT + 1)}, 413),
    ({"upload-length": "0"}, 415),
    ({"upload-length": "10", "upload-defer-length": "1"}, 400),
    ({"upload-length": "10", "upload-metadata": "title"}, 201),
    ({"upload-length": "10", "upload-metadata": "title ***"}, 400),
    ({"upload-length": "10", "upload-metadata": "title eA==,title eA=="}, 400),
    ({"upload-length": "10", "upload-metadata": "title /w=="}, 400),
    ({"upload-length": "10", "upload-metadata": "title AA=="}, 400),
    ({"upload-length": "10", "upload-metadata": metadata(title="x" * 201)}, 400),
    ({"upload-length": "10", "upload-metadata": metadata(is_public="perhaps")}, 400),
    ({"upload-length": "10", "tus-resumable": "0.2.2"}, 412),
]


async def test_bad_announcements(studio: Studio) -> None:
    for headers, status in BAD_ANNOUNCEMENTS:
        reply = await studio.ask("POST", "/uploads", headers={**TUS, **headers})
        assert reply.status == status, (headers, reply.body)
        assert reply.headers["tus-resumable"] == "1.0.0"
    unversioned = await studio.ask("POST", "/uploads", headers={"upload-length": "10"})
    assert unversioned.status == 412 and unversioned.headers["tus-version"] == "1.0.0"
    path = await announce(studio, 10)
    plain = await studio.ask("PATCH", path, b"x", headers={**TUS, "upload-offset": "0"})
    assert plain.status == 415
    assert (await studio.ask("PATCH", path, b"x", headers=BODY)).status == 400


async def test_one_person_has_so_many_under_way(open_studio: Open, trusting: None) -> None:
    async with open_studio(uploads_per_user=2) as studio:
        first = await announce(studio, 4)
        await announce(studio, 4)
        reply = await studio.ask("POST", "/uploads", headers={**TUS, "upload-length": "4"})
        assert (reply.status, reply.code) == (429, "TOO_MANY_UPLOADS")
        assert len(list(studio.library.resumable.iterdir())) == 2
        await send(studio, first, 0, b"1234")
        await announce(studio, 4)


async def test_too_many_tracks_keep_the_upload(open_studio: Open, trusting: None) -> None:
    async with open_studio(tracks_owned_max=1) as studio:
        path = await announce(studio, 4)
        track = await studio.track()
        reply = await send(studio, path, 0, b"1234")
        assert (reply.status, reply.code) == (409, "TOO_MANY_TRACKS")
        await studio.ask("DELETE", f"/tracks/{track['id']}")
        assert "veza-track-id" in (await send(studio, path, 4, b"")).headers


async def test_a_full_disk_keeps_what_there_is(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, trusting: None
) -> None:
    path = await announce(studio, LIMIT)
    assert (await send(studio, path, 0, bytes(1000))).status == 204

    def writev(file: int, pieces: Any) -> int:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(spool, "writev", writev)
    reply = await send(studio, path, 1000, bytes(LIMIT - 1000))
    assert (reply.status, reply.code) == (507, "INSUFFICIENT_STORAGE")
    monkeypatch.undo()
    assert await offset_of(studio, path) == 1000


async def test_what_nobody_comes_back_for_goes(studio: Studio, trusting: None) -> None:
    late, kept, finished = [await announce(studio, 4) for _ in range(3)]
    track = (await send(studio, finished, 0, b"1234")).headers["veza-track-id"]
    for path in (late, finished):
        await studio.house.sql(
            "UPDATE uploads SET expires_at = now() WHERE id = $1::uuid", path.removeprefix("/uploads/")
        )
    reply = await send(studio, late, 0, b"1234")
    assert (reply.status, reply.code) == (410, "UPLOAD_EXPIRED")
    services = studio.house.app.services
    assert await services.desk.sweep(services.db, services.library) == 2
    assert [entry.name for entry in studio.library.resumable.iterdir()] == [
        kept.removeprefix("/uploads/").replace("-", "")
    ]
    assert (await studio.ask("HEAD", late, headers=TUS)).status == 404
    assert (await studio.ask("GET", f"/tracks/{track}")).status == 200


async def test_clients_that_know_only_post(studio: Studio, trusting: None) -> None:
    path = await announce(studio, 4)
    headers = {**BODY, "upload-offset": "0", "x-http-method-override": "PATCH"}
    assert "veza-track-id" in (await studio.ask("POST", path, b"1234", headers=headers)).headers
    assert (await studio.ask("POST", path, headers={**TUS, "x-http-method-override": "PUT"})).status == 405


async def test_pages_of_other_sites_may_speak_it(studio: Studio) -> None:
    origin = {"origin": "https://app.example"}
    preflight = await studio.ask(
        "OPTIONS",
        "/uploads/x",
        token=None,
        headers={**origin, "access-control-request-method": "PATCH"},
    )
    assert preflight.status == 204 and "PATCH" in preflight.headers["access-control-allow-methods"]
    allowed = preflight.headers["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "tus-resumable", "upload-offset", "upload-checksum", "content-type"} <= set(
        allowed
    )
    reply = await studio.ask("POST", "/uploads", headers={**TUS, **origin, "upload-length": "4"})
    assert reply.headers["access-control-allow-origin"] == "https://app.example"
    exposed = reply.headers["access-control-expose-headers"].lower().split(", ")
    assert {"location", "upload-offset", "upload-expires", "tus-resumable", "veza-track-id"} <= set(exposed)
    strange = await studio.ask(
        "POST", "/uploads", headers={**TUS, "origin": "https://evil.example", "upload-length": "4"}
    )
    assert "access-control-allow-origin" not in strange.headers


async def test_methods_that_are_not_possible(studio: Studio) -> None:
    reply = await studio.ask("PUT", "/uploads")
    assert reply.status == 405 and reply.headers["allow"] == "OPTIONS, POST"
    reply = await studio.ask("DELETE", "/tracks")
    assert reply.status == 405 and {"GET", "POST"} <= set(reply.headers["allow"].split(", "))
