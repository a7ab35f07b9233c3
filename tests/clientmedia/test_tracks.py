"""Uploading with the client: plain, resumed over a line that breaks, refused in the middle."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import trio

from tests.chat.conftest import Build
from tests.clientmedia.kit import client_of, line_to, soon
from tests.media.inputs import Inputs
from veza.client import ApiError, AuthFailed, Unreachable, UploadFailed, VezaClient, reading, tus


async def test_a_file_becomes_a_track(build: Build, inputs: Inputs) -> None:
    async with soon(build()) as house, client_of(house, await house.person()) as client:
        told: list[tuple[int, int]] = []
        size = inputs["flac"].stat().st_size
        track = await client.upload(
            inputs["flac"],
            title="Ünder “quotes”",
            tags=["one", "two"],
            public=False,
            progress=lambda sent, total: told.append((sent, total)),
        )
        assert told[-1] == (size, size)
        assert [sent for sent, _ in told] == sorted(sent for sent, _ in told)
        assert (track.title, track.tags, track.is_public) == ("Ünder “quotes”", ("one", "two"), False)
        assert (track.size, track.kind, track.content_type) == (size, "audio", "audio/flac")
        heard: list[float] = []
        track = await client.wait_ready(track.id, progress=heard.append, timeout=120)
        assert (track.status, track.artist, track.lossless) == ("ready", "The Tests", True)
        assert heard == sorted(heard)
        assert all(0 <= part <= 1 for part in heard)
        assert [found.id for found in (await client.my_tracks()).items] == [track.id]
        peaks = await client.peaks(track.id)
        assert len(peaks.max) == len(peaks.min) == peaks.points
        assert max(peaks.max) > 20
        urls = await client.stream_urls(track.id)
        async with VezaClient("http://nobody.invalid") as anybody:  # the address alone is enough
            answer = await anybody._http.get(urls.url, headers={"range": "bytes=0-3"})
            assert (answer.status_code, answer.content) == (206, b"fLaC")
        comment = await client.comment(track.id, "here", 500)
        assert [said.content for said in (await client.comments(track.id)).items] == [comment.content]
        await client.delete_track(track.id)
        with pytest.raises(ApiError) as gone:
            await client.track(track.id)
        assert gone.value.status == 404


async def test_a_long_upload_goes_on_where_the_line_broke(
    build: Build, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "READ", 64 * 1024)
    monkeypatch.setattr(tus, "FIRST_DELAY", 0.05)
    file = inputs["wav_24"]
    size = file.stat().st_size
    async with soon(build()) as house, line_to(house) as line:
        async with client_of(house, await house.person(), line.port) as client:
            told: list[int] = []
            cuts = iter((size * 0.3, size * 0.7, size * 2))
            cut = next(cuts)

            def moved(sent: int, _total: int) -> None:
                nonlocal cut
                told.append(sent)
                if sent > cut:
                    cut = next(cuts)
                    line.hiccup()

            track = await client.upload(file, resumable=True, title="long", progress=moved)
            assert (track.title, track.size) == ("long", size)
            assert any(after < before for before, after in pairwise(told)), "never cut"
            stored = trio.Path(house.app.services.library.original(track.name, "wav"))
            assert await stored.read_bytes() == await trio.Path(file).read_bytes()


async def test_what_is_no_track_is_refused_with_the_reason(build: Build, tmp_path: Path) -> None:
    text = tmp_path / "song.mp3"
    text.write_text("la la la " * 1000)
    async with (
        soon(build(upload_limit=1024 * 1024)) as house,
        client_of(house, await house.person()) as client,
    ):
        for resumable in (False, True):
            with pytest.raises(ApiError) as refused:
                await client.upload(text, resumable=resumable)
            assert refused.value.status == 415
        large = tmp_path / "large.wav"
        with large.open("wb") as hole:
            hole.truncate(200 * 1024 * 1024)
        told = [0]
        for resumable in (False, True):
            with pytest.raises(ApiError) as refused:
                await client.upload(large, resumable=resumable, progress=lambda sent, _: told.append(sent))
            assert refused.value.status == 413
        assert told[-1] < 20 * 1024 * 1024, "all of it was sent to be refused"
        with pytest.raises(OSError, match="No such file"):
            await client.upload(tmp_path / "nothing.mp3")
        client.tokens = None
        with pytest.raises(AuthFailed):
            await client.upload(text)


async def test_a_plain_upload_that_breaks_says_so(build: Build, inputs: Inputs) -> None:
    async with soon(build()) as house, line_to(house) as line:
        async with client_of(house, await house.person(), line.port) as client:
            with pytest.raises(Unreachable):
                await client.upload(inputs["wav"], resumable=False, progress=lambda _sent, _total: line.cut())
            line.mend()
            assert (await client.my_tracks()).items == []


async def test_a_track_that_cannot_be_processed_says_why(build: Build) -> None:
    async with soon(build()) as house:
        owner = await house.person()
        (row,) = await house.sql(
            "INSERT INTO tracks (owner_id, name, title, extension, content_type, size, status, failure)"
            " VALUES ($1, 'noise', 'Noise', 'mp3', 'audio/mpeg', 1, 'failed', 'It is all noise.') RETURNING id",
            owner.id,
        )
        async with client_of(house, owner) as client:
            for progress in (None, lambda _part: None):
                with pytest.raises(UploadFailed, match="noise") as failed:
                    await client.wait_ready(row[0], progress=progress)
                assert failed.value.track.id == row[0]
