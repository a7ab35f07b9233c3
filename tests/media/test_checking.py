"""What is audio or video, and what only says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.media.inputs import Inputs
from veza.media import checking, checking_child
from veza.media.checking import Checked, NotMedia, check
from veza.media.opening import Unplayable

GOOD = {
    "mp3_vbr_bare": ("audio", "mp3", "audio/mpeg"),
    "mp3_tagged": ("audio", "mp3", "audio/mpeg"),  # its cover is no film
    "mp3_tiny": ("audio", "mp3", "audio/mpeg"),
    "wav_float": ("audio", "wav", "audio/wav"),
    "flac_96k": ("audio", "flac", "audio/flac"),
    "opus": ("audio", "opus", "audio/ogg"),
    "vorbis": ("audio", "ogg", "audio/ogg"),
    "m4a_cover": ("audio", "m4a", "audio/mp4"),
    "aac": ("audio", "aac", "audio/aac"),
    "webm_audio": ("audio", "webm", "audio/webm"),
    "webm": ("video", "webm", "video/webm"),
    "mp4_silent": ("video", "mp4", "video/mp4"),
    "ts": ("video", "ts", "video/mp2t"),
    "mp3_named_wav": ("audio", "mp3", "audio/mpeg"),  # what it is counts, not what it is called
    "flac_truncated": ("audio", "flac", "audio/flac"),
    "wav_lying": ("audio", "wav", "audio/wav"),
}
BAD = {
    "empty": "empty",
    "zip": "ZIP",
    "html": "web page",
    "text": "no audio or video",
    "noise": "no audio or video",
    "header_only": "Nothing in this file can be decoded",
    "mp4_headless": "not whole",
}


def said_of(path: Path) -> Any:
    """What the child would say, said in this process: it costs a tenth."""
    try:
        return checking_child.look(path)
    except Unplayable as error:
        return error.reason


@pytest.mark.parametrize("name", GOOD)
def test_the_real_container_is_named(inputs: Inputs, name: str) -> None:
    said = said_of(inputs[name])
    assert (said["kind"], said["extension"], said["content_type"]) == GOOD[name]
    assert said["duration_ms"] > 0


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_media_is_refused_with_the_reason(inputs: Inputs, name: str) -> None:
    assert BAD[name] in said_of(inputs[name])


def test_a_playlist_opens_nothing_else(inputs: Inputs, tmp_path: Path) -> None:
    """FFmpeg would follow these to other files of the server, or to addresses inside its network."""
    secret = inputs["mp3"]
    playlist = tmp_path / "list.mp3"
    playlist.write_text(f"\n#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{secret}\n#EXT-X-ENDLIST\n")
    concat = tmp_path / "concat.mp3"
    concat.write_text(f"ffconcat version 1.0\nfile '{secret}'\n")
    dash = tmp_path / "dash.mp4"
    dash.write_text(
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
        f'<Representation id="0" bandwidth="1"><BaseURL>file://{secret}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    )
    for path in (playlist, concat, dash):
        assert "no audio or video file" in said_of(path)


async def test_a_child_of_its_own_looks(inputs: Inputs) -> None:
    assert await check(inputs["mp3"]) == Checked("audio", "mp3", "audio/mpeg", 2000)
    with pytest.raises(NotMedia) as refused:
        await check(inputs["zip"])
    assert refused.value.reason == "This is a ZIP archive, not audio or video."


async def test_who_gives_up_leaves_no_child(inputs: Inputs, tmp_path: Path) -> None:
    pipe = tmp_path / "nobody-writes"
    os.mkfifo(pipe)  # opening it hangs
    with trio.move_on_after(0.3) as hurry:
        await check(pipe)
    assert hurry.cancelled_caught
    assert str(pipe) not in running()


async def test_a_file_that_takes_for_ever_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "SECONDS", 0.3)
    pipe = tmp_path / "nobody-writes"
    os.mkfifo(pipe)
    with pytest.raises(NotMedia, match="too long"):
        await check(pipe)
    assert str(pipe) not in running()


def running() -> str:
    """The command lines of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # gone meanwhile
            continue
    return "\n".join(lines)


def test_the_server_loads_no_decoder() -> None:
    program = (
        "import sys, veza.app, veza.media.checking; print([m for m in ('av', 'PIL') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
