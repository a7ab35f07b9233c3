"""What a source may bring: which of FFmpeg's decoders see its bytes at all."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from tests.media.inputs import ffmpeg
from veza.media.live.feed import Feed
from veza.media.live.making import NothingToHear, make
from veza.media.live.playlist import Playlist
from veza.media.live.segmenter import Publisher


@pytest.mark.parametrize(("sound", "heard"), [("tta", False), ("flac", True)])
def test_only_codecs_that_tracks_may_have_are_decoded(tmp_path: Path, sound: str, heard: bool) -> None:
    inputs = ("-f", "lavfi", "-i", "sine=d=1", "-f", "lavfi", "-i", "testsrc=d=1:s=64x64")
    coded = ("-c:a", sound, "-c:v", "ffv1", "-f", "matroska", "-")
    made = subprocess.run([ffmpeg(), "-loglevel", "error", *inputs, *coded], capture_output=True, check=True)
    file = io.BytesIO(made.stdout)
    run = Feed(lambda: file.read(65536), "video/x-matroska").run()
    assert run is not None
    publisher = Publisher(tmp_path, Playlist.resume(tmp_path, 0.5, 6, now=0.0), 0.0)
    if heard:
        make(run, publisher, 0.5)
        assert publisher.published
    else:
        with pytest.raises(NothingToHear):
            make(run, publisher, 0.5)
