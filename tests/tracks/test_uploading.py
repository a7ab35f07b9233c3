"""A file in a form becomes a track; whatever is wrong with it is told at once, and nothing of it stays."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.media.inputs import Inputs
from tests.tracks.conftest import LIMIT, Open, Studio, until
from tests.tracks.wire import BOUNDARY, FORM, PATIENCE, Reply, ask, form, part, zeros
from veza.http.api import multipart, spool

TRACKS = "/api/v1/tracks"


async def test_a_form_becomes_a_track(studio: Studio, song: bytes) -> None:
    reply = await studio.upload(
        part("title", "  A   Tiny Song "),
        part("file", song, "../../etc/My_song (1).mp3", "Content-Type: audio/mpeg"),
        part("tags", "Techno, #House,techno , deep  house,"),
        part("is_public", "off"),
        part("colour", "unknown fields mean nothing"),
    )
    assert reply.status == 201, reply.body
    track = reply.data
    assert track["title"] == "A Tiny Song" and track["filename"] == "My_song (1).mp3"
    assert track["tags"] == ["techno", "house", "deep house"] and track["is_public"] is False
    assert track["kind"] == "audio" and track["extension"] == "mp3" and track["size"] == len(song)
    assert track["owner"]["id"] == studio.me.id
    assert reply.headers["location"] == f"{TRACKS}/{track['id']}"
    assert studio.library.original(track["name"], "mp3").read_bytes() == song
    assert not list(studio.library.incoming.iterdir())
    jobs = await studio.house.sql("SELECT track_id FROM media_jobs WHERE track_id = $1", track["id"])
    assert len(jobs) == 1
    assert (await studio.ask("GET", f"/tracks/{track['id']}")).data["title"] == "A Tiny Song"


async def test_what_cannot_be_heard_is_no_track(studio: Studio, inputs: Inputs) -> None:
    for name in ("empty", "html", "zip"):
        data = b"" if name == "empty" else inputs[name].read_bytes()
        reply = await studio.upload(part("file", data, "song.mp3", "Content-Type: audio/mpeg"))
        assert (reply.status, reply.code) == (415, "NOT_MEDIA"), reply.body
        assert studio.nothing_left()


async def test_the_name_of_a_file_says_nothing_of_what_it_is(studio: Studio, inputs: Inputs) -> None:
    track = (await studio.upload(part("audio", inputs["wav_tiny"].read_bytes(), "picture.jpg"))).data
    assert track["extension"] == "wav" and track["content_type"].startswith("audio/")
    assert track["title"] == "picture" and track["filename"] == "picture.jpg"


async def test_a_file_may_come_last_slowly_and_without_a_length(
    studio: Studio, song: bytes, trusting: None
) -> None:
    body = form(part("title", "Slow"), part("artist", "Snails"), part("audio", song, "s.mp3"))

    async def drops() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 31):
            yield body[start : start + 31]
            await trio.lowlevel.checkpoint()

    reply = await ask(studio.port, "POST", TRACKS, drops(), token=studio.me.token, headers=FORM, length=None)
    assert reply.status == 201, reply.body
    assert reply.data["artist"] == "Snails"
    assert (studio.directory(reply.data) / "original.mp3").read_bytes() == song


async def test_bytes_that_look_like_a_boundary_are_bytes(studio: Studio, trusting: None) -> None:
    data = (f"\r\n--{BOUNDARY[:-1]}\r\n--{BOUNDARY}x\r\n-" * 40_00).encode()[: LIMIT // 2]
    track = await studio.track(data)
    assert (studio.directory(track) / "original.mp3").read_bytes() == data


# What is wrong ----------------------------------------------------------------------------------------

FILE = part("file", b"not looked at", "song.mp3")
BAD_FIELDS: dict[str, tuple[str, ...]] = {
    "title": ("x" * 201, "two\nlines", "bell\a"),
    "artist": ("x" * 201,),
    "album": ("x" * 201,),
    "genre": ("x" * 51,),
    "description": ("x" * 5001, "\x1b[31m"),
    "tags": (",".join(f"t{i}" for i in range(21)), "x" * 31),
    "is_public": ("perhaps",),
}


async def test_every_field_has_its_limits(studio: Studio, trusting: None) -> None:
    for name, values in BAD_FIELDS.items():
        for value in values:
            reply = await studio.upload(FILE, part(name, value))
            assert (reply.status, reply.code) == (400, "VALIDATION_ERROR"), (name, value[:40])
            assert set(reply.json["details"]) == {name}
    reply = await studio.upload(part("title", "a"), part("title", "b"), FILE)
    assert reply.json["details"] == {"title": "Was sent more than once."}
    reply = await studio.upload(FILE, part("title", b"\xff\xfe"))
    assert reply.json["details"] == {"title": "Must be UTF-8 text."}
    assert studio.nothing_left()


MALFORMED: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "no form": (b"{}", {"content-type": "application/json"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    "no type": (form(FILE), {}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    "no boundary": (form(FILE), {"content-type": "multipart/form-data"}, 400, "INVALID_FORMAT"),
    "too long a boundary": (
        form(FILE),
        {"content-type": f"multipart/form-data; boundary={'x' * 71}"},
        400,
        "INVALID_FORMAT",
    ),
    "another boundary": (
        form(FILE),
        {"content-type": "multipart/form-data; boundary=other"},
        400,
        "INVALID_FORMAT",
    ),
    "nothing": (b"", FORM, 400, "INVALID_FORMAT"),
    "no part": (form(), FORM, 400, "VALIDATION_ERROR"),
    "no file": (form(part("title", "x")), FORM, 400, "VALIDATION_ERROR"),
    "no end": (form(FILE)[:-4], FORM, 400, "INVALID_FORMAT"),
    "cut in a header": (form(FILE)[:60], FORM, 400, "INVALID_FORMAT"),
    "two files": (form(FILE, FILE), FORM, 400, "VALIDATION_ERROR"),
    "two kinds of files": (form(FILE, part("audio", b"x", "y.mp3")), FORM, 400, "VALIDATION_ERROR"),
    "a part without a name": (form(part("x", "y").replace(b'; name="x"', b"")), FORM, 400, "INVALID_FORMAT"),
    "too many fields": (form(*[part(f"f{i}", "") for i in range(33)], FILE), FORM, 400, "INVALID_FORMAT"),
    "too large fields": (form(part("x", "y" * 70_000), FILE), FORM, 400, "INVALID_FORMAT"),
    "too large a header": (form(part("x", "y", "f", f"X: {'y' * 3000}")), FORM, 400, "INVALID_FORMAT"),
    "too many headers": (
        form(part("x", "y", "f", *[f"X-{i}: y" for i in range(9)])),
        FORM,
        400,
        "INVALID_FORMAT",
    ),
}


async def test_malformed_forms_are_told_so(studio: Studio, trusting: None) -> None:
    for what, (body, headers, status, code) in MALFORMED.items():
        reply = await ask(studio.port, "POST", TRACKS, body, token=studio.me.token, headers=headers)
        assert (reply.status, reply.code) == (status, code), what
    assert studio.nothing_left()


async def test_nobody_uploads_without_a_login(studio: Studio) -> None:
    for token in (None, "nonsense"):
        reply = await studio.upload(FILE, token=token)
        assert reply.status == 401 and reply.headers["www-authenticate"].startswith("Bearer")


# Too large ---------------------------------------------------------------------------------------------


async def test_a_length_that_is_too_large_is_refused_before_the_body(studio: Studio) -> None:
    nothing = (b"" for _ in ())

    async def body() -> AsyncIterator[bytes]:
        for piece in nothing:
            yield piece

    reply = await ask(
        studio.port,
        "POST",
        TRACKS,
        body(),
        token=studio.me.token,
        headers=FORM,
        length=LIMIT + multipart.OVERHEAD + 1,
    )
    assert (reply.status, reply.code) == (413, "TOO_LARGE")
    assert reply.json["details"] == {"limit": LIMIT}
    assert "1 MiB" in reply.json["error"]


async def test_who_sends_a_hundred_mebibytes_too_much_still_reads_why(studio: Studio) -> None:
    count = 100 * 1024 * 1024
    start = part("file", b"", "song.mp3")[:-2]

    async def body() -> AsyncIterator[bytes]:
        yield start
        async for piece in zeros(count, 1024 * 1024):
            yield piece

    for length in (count + len(start), None):
        reply = await ask(
            studio.port, "POST", TRACKS, body(), token=studio.me.token, headers=FORM, length=length
        )
        assert (reply.status, reply.code) == (413, "TOO_LARGE")
        assert reply.headers["connection"] == "close"
        assert studio.nothing_left()


async def test_a_file_may_be_as_large_as_it_may_be(studio: Studio, trusting: None) -> None:
    assert (await studio.track(bytes(LIMIT)))["size"] == LIMIT
    reply = await studio.upload(part("file", bytes(LIMIT + 1), "song.mp3"))
    assert (reply.status, reply.code) == (413, "TOO_LARGE")


async def test_what_is_refused_need_not_be_sent(studio: Studio, song: bytes, trusting: None) -> None:
    """`Expect: 100-continue`: go on is said only once nothing speaks against it."""

    async def expecting(token: str, length: int, body: bytes = b"") -> bytes:
        head = (
            f"POST {TRACKS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n"
            f"Authorization: Bearer {token}\r\nContent-Type: {FORM['content-type']}\r\nContent-Length: {length}\r\n\r\n"
        )
        with trio.fail_after(PATIENCE):
            async with await trio.open_tcp_stream("127.0.0.1", studio.port) as stream:
                await stream.send_all(head.encode())
                answer = await stream.receive_some()
                if body:
                    assert answer == b"HTTP/1.1 100 Continue\r\n\r\n"
                    await stream.send_all(body)
                    answer = await stream.receive_some()
        return answer.split(b"\r\n")[0]

    body = form(part("file", song, "song.mp3"))
    assert await expecting("nonsense", 1000) == b"HTTP/1.1 401 Unauthorized"
    assert (await expecting(studio.me.token, 10 * LIMIT)).startswith(b"HTTP/1.1 413")
    assert await expecting(studio.me.token, len(body), body) == b"HTTP/1.1 201 Created"


async def test_a_large_file_does_not_show_in_memory(open_studio: Open, trusting: None) -> None:
    """Of this process, in which server and client are; a hundred mebibytes may raise it by sixteen."""
    peak = Path("/proc/self/clear_refs")
    if not os.access(peak, os.W_OK):
        pytest.skip("the system does not tell peaks of memory")

    def forget() -> None:
        peak.write_text("5")

    def resident(line: str) -> int:
        status = Path("/proc/self/status").read_text()
        return next(int(found.split()[1]) for found in status.splitlines() if found.startswith(line))

    async with open_studio(upload_limit=128 * LIMIT) as studio:
        await studio.track(bytes(LIMIT))  # what is made at first use
        before, after = form(part("file", b"|", "song.mp3")).split(b"|")

        async def body() -> AsyncIterator[bytes]:
            yield before
            async for piece in zeros(100 * LIMIT):
                yield piece
            yield after

        forget()
        start = resident("VmRSS:")
        reply = await ask(
            studio.port, "POST", TRACKS, body(), token=studio.me.token, headers=FORM, length=None
        )
        assert reply.status == 201 and reply.data["size"] == 100 * LIMIT
        assert resident("VmHWM:") - start < 16 * 1024  # KiB


async def test_a_client_that_stalls_is_let_go(open_studio: Open, trusting: None) -> None:
    async with open_studio(body_timeout=0.2) as studio:
        half = Half(studio)
        with trio.fail_after(PATIENCE):
            await half.run()
        assert half.reply is not None and (half.reply.status, half.reply.code) == (408, "REQUEST_TIMEOUT")
        await until(studio.nothing_left)


async def test_what_comes_behind_the_form_is_counted_too(studio: Studio) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield form(FILE)
        async for piece in zeros(4 * LIMIT):
            yield piece

    reply = await ask(studio.port, "POST", TRACKS, body(), token=studio.me.token, headers=FORM, length=None)
    assert reply.status == 413 and studio.nothing_left()


# Bad days ----------------------------------------------------------------------------------------------


async def test_a_disk_that_fills_up(studio: Studio, monkeypatch: pytest.MonkeyPatch, trusting: None) -> None:
    room = 300_000
    real = spool.writev

    def writev(file: int, pieces: Any) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(28, "No space left on device")
        taken = real(file, [bytes(b"".join(pieces))[:room]])
        room -= taken
        return taken

    monkeypatch.setattr(spool, "writev", writev)
    reply = await studio.upload(part("file", bytes(LIMIT), "song.mp3"))
    assert (reply.status, reply.code) == (507, "INSUFFICIENT_STORAGE")
    assert room == 0 and studio.nothing_left()
    monkeypatch.undo()
    room = LIMIT


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB, where we may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_disk_that_is_really_full(
    open_studio: Open, small_disk: Path, song: bytes, trusting: None
) -> None:
    async with open_studio(data=small_disk, upload_limit=8 * LIMIT) as studio:
        large = part("file", bytes(4 * LIMIT), "song.mp3")
        body = form(large)

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 65536):
                yield body[start : start + 65536]

        how = {"token": studio.me.token, "headers": FORM}
        told = await studio.upload(large)  # by its length, before a byte is read
        found = await ask(studio.port, "POST", TRACKS, pieces(), length=None, **how)
        for reply in (told, found):
            assert (reply.status, reply.code) == (507, "INSUFFICIENT_STORAGE")
        assert studio.nothing_left()
        await studio.track(song)  # all of its room is free again


async def test_uploads_leave_some_of_the_disk_free(open_studio: Open) -> None:
    async with open_studio(upload_reserve=2**60) as studio:
        reply = await studio.upload(FILE)
        assert (reply.status, reply.code) == (507, "INSUFFICIENT_STORAGE")
        assert studio.nothing_left()


class Half:
    """An upload that has come half way and waits there."""

    def __init__(self, studio: Studio) -> None:
        self.go_on = trio.Event()
        self.studio = studio
        self.reply: Reply | None = None

    async def run(self) -> None:
        body = form(part("file", bytes(LIMIT), "song.mp3"))

        async def pieces() -> AsyncIterator[bytes]:
            yield body[: LIMIT // 2]
            await self.go_on.wait()
            yield body[LIMIT // 2 :]

        self.reply = await ask(
            self.studio.port,
            "POST",
            TRACKS,
            pieces(),
            token=self.studio.me.token,
            headers=FORM,
            length=len(body),
        )

    async def under_way(self) -> None:
        await until(lambda: any(path.stat().st_size for path in self.studio.library.incoming.iterdir()))


async def test_a_client_that_leaves_leaves_nothing(studio: Studio, trusting: None) -> None:
    half = Half(studio)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(half.run)
        await half.under_way()
        nursery.cancel_scope.cancel()
    desk = studio.house.app.services.desk
    await until(lambda: not desk.open and studio.nothing_left())


async def test_one_person_has_so_many_uploads_under_way(open_studio: Open, trusting: None) -> None:
    async with open_studio(uploads_per_user=1) as studio, trio.open_nursery() as nursery:
        half = Half(studio)
        nursery.start_soon(half.run)
        await half.under_way()
        reply = await studio.upload(FILE)
        assert (reply.status, reply.code) == (429, "TOO_MANY_UPLOADS") and "retry-after" in reply.headers
        other = await studio.house.person()
        assert (await studio.upload(FILE, token=other.token)).status == 201
        half.go_on.set()
        await until(lambda: half.reply is not None)
        assert half.reply is not None and half.reply.status == 201
        assert (await studio.upload(FILE)).status == 201


async def test_who_is_barred_while_his_file_comes_has_no_track(studio: Studio, trusting: None) -> None:
    half = Half(studio)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(half.run)
        await half.under_way()
        await studio.house.sql("UPDATE users SET is_active = false WHERE id = $1", studio.me.id)
        studio.house.app.services.registry.forget_user(studio.me.id)
        half.go_on.set()
    assert half.reply is not None and half.reply.status == 401
    assert studio.nothing_left()


async def test_who_is_muted_while_his_file_comes_has_no_track(studio: Studio, trusting: None) -> None:
    half = Half(studio)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(half.run)
        await half.under_way()
        await studio.house.sql(
            "UPDATE users SET muted_until = now() + interval '1 h' WHERE id = $1", studio.me.id
        )
        studio.house.app.services.registry.changed_user(studio.me.id)
        half.go_on.set()
    assert half.reply is not None and (half.reply.status, half.reply.code) == (403, "MUTED")
    assert studio.nothing_left()


async def test_one_person_has_so_many_tracks(open_studio: Open, trusting: None) -> None:
    async with open_studio(tracks_owned_max=1) as studio:
        first = await studio.track()
        for body in (FILE, part("file", bytes(LIMIT), "song.mp3")):
            reply = await studio.upload(body)
            assert (reply.status, reply.code) == (409, "TOO_MANY_TRACKS")
        await studio.ask("DELETE", f"/tracks/{first['id']}")
        assert studio.nothing_left()
        await studio.track()


async def test_a_server_that_died_left_nothing(open_studio: Open, tmp_path: Path) -> None:
    incoming = tmp_path / "media" / "incoming"
    incoming.mkdir(parents=True)
    (incoming / "half").write_bytes(bytes(1000))
    async with open_studio() as studio:
        assert studio.nothing_left()
