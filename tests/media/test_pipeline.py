"""What becomes of every kind of file. In this process, for a child would say the same at ten times the cost."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from tests.media.inputs import Inputs, ffmpeg, tone
from veza.media import cover, pipeline
from veza.media.findings import Findings
from veza.media.opening import Unplayable
from veza.media.pipeline import process
from veza.media.playlists import rate_of

# What is found of each: kind, codec, rate, channels, milliseconds, lossless, renditions.
FILES: dict[str, tuple[str, str, int, int, int, bool, str]] = {
    "mp3": ("audio", "mp3", 44_100, 2, 2000, False, "aac64 aac128"),
    "mp3_320": ("audio", "mp3", 44_100, 2, 2000, False, "aac64 aac128 aac256"),
    "mp3_vbr_bare": ("audio", "mp3", 44_100, 2, 2038, False, "aac64"),
    "mp3_mono_8k": ("audio", "mp3", 8_000, 1, 1000, False, "aac40"),
    "mp3_tiny": ("audio", "mp3", 44_100, 2, 100, False, "aac64 aac128"),
    "wav_float": ("audio", "pcm_f32le", 44_100, 2, 1000, True, "aac64 aac128 aac256 flac"),
    "wav_51": ("audio", "pcm_s16le", 48_000, 6, 1000, True, "aac64 aac128 aac256 flac"),
    "flac_96k": ("audio", "flac", 96_000, 2, 1000, True, "aac64 aac128 aac256 flac"),
    "opus": ("audio", "opus", 48_000, 2, 2000, False, "aac64 aac128"),
    "vorbis": ("audio", "vorbis", 44_100, 2, 2000, False, "aac64 aac128"),
    "m4a": ("audio", "aac", 44_100, 2, 2020, False, "aac64 aac128"),
    "webm": ("video", "opus", 48_000, 2, 2000, False, "aac64 aac128 240p"),
    "mp4": ("video", "aac", 44_100, 2, 2020, False, "aac64 aac128 240p"),
    # Not as they should be: what decodes counts.
    "mp3_truncated": ("audio", "mp3", 44_100, 2, 994, False, "aac64 aac128"),
    "flac_truncated": ("audio", "flac", 44_100, 2, 882, True, "aac64 aac128 aac256 flac"),
    "wav_truncated": ("audio", "pcm_s16le", 44_100, 2, 1000, True, "aac64 aac128 aac256 flac"),
    "wav_lying": ("audio", "pcm_s16le", 48_000, 8, 459, True, "aac64 aac128 aac256 flac"),
}


def made(source: Path, into: Path) -> Findings:
    into.mkdir(exist_ok=True)
    return process(source, into, lambda share, seconds: None)


def renditions(into: Path) -> set[str]:
    return {path.name for path in (into / "hls").iterdir() if path.is_dir()}


def read(*arguments: str) -> str:
    """What ffmpeg says, which must complain of nothing."""
    done = subprocess.run([ffmpeg(), "-v", "error", "-nostdin", *arguments], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def variants(into: Path) -> list[tuple[dict[str, str], str]]:
    """The attributes and the address of each variant of the master playlist."""
    text = (into / "hls" / "master.m3u8").read_text()
    found = []
    for line, address in re.findall(r"#EXT-X-STREAM-INF:([^\n]+)\n([^\n]+)", text):
        pairs = re.findall(r'([A-Z-]+)=("[^"]*"|[^,]+)', line)
        found.append(({name: value.strip('"') for name, value in pairs}, address))
    return found


@pytest.mark.parametrize("name", FILES)
def test_what_is_found(inputs: Inputs, tmp_path: Path, name: str) -> None:
    kind, codec, rate, channels, milliseconds, lossless, wanted = FILES[name]
    found = made(inputs[name], tmp_path)
    assert (found.kind, found.codec, found.sample_rate, found.channels, found.lossless) == (
        kind,
        codec,
        rate,
        channels,
        lossless,
    )
    assert abs(found.duration_ms - milliseconds) <= 30
    assert renditions(tmp_path) == set(wanted.split())
    peaks = msgspec.json.decode((tmp_path / "peaks.json").read_bytes())
    assert peaks["version"] == 1 and peaks["points"] == len(peaks["min"]) == len(peaks["max"]) == 1800
    assert -128 <= min(peaks["min"]) < 0 < max(peaks["max"]) <= 127
    assert (found.loudness_lufs is None) == (milliseconds < 400)
    assert found.peak_dbtp is not None and -21 < found.peak_dbtp < -9
    if name in (
        "mp3_320",
        "wav_float",
        "mp4",
        "mp3_tiny",
        "webm",
    ):  # the list and all it names, read by somebody else
        read("-i", str(tmp_path / "hls" / "master.m3u8"), "-map", "0", "-f", "null", "-")


@pytest.mark.parametrize("name", ["empty", "zip", "html", "noise", "header_only", "mp4_headless"])
def test_what_cannot_be_decoded(inputs: Inputs, tmp_path: Path, name: str) -> None:
    with pytest.raises(Unplayable) as refused:
        made(inputs[name], tmp_path)
    assert refused.value.reason.endswith(".")


def test_a_film_gets_every_size_up_to_its_own(inputs: Inputs, tmp_path: Path) -> None:
    found = made(inputs["mp4_720"], tmp_path)
    assert (found.width, found.height, found.has_cover) == (1280, 720, True)
    told = [(v["RESOLUTION"], v["AUDIO"], v["CODECS"]) for v, _ in variants(tmp_path)]
    assert [(size, sound) for size, sound, _ in told] == [
        ("426x240", "aac64"),
        ("640x360", "aac64"),
        ("854x480", "aac64"),
        ("1280x720", "aac128"),
    ]
    assert all(re.fullmatch(r"avc1\.6400[0-9A-F]{2},mp4a\.40\.2", codecs) for _, _, codecs in told)
    init = (tmp_path / "hls" / "720p" / "init.mp4").read_bytes()
    assert init[init.index(b"avcC") + 5 :].hex().upper().startswith(told[-1][2][5:11])


def test_a_film_without_sound(inputs: Inputs, tmp_path: Path) -> None:
    found = made(inputs["mp4_silent"], tmp_path)
    assert (found.kind, found.codec, found.channels, found.loudness_lufs) == ("video", "h264", None, None)
    assert not (tmp_path / "peaks.json").exists()
    assert [v["CODECS"][:5] for v, _ in variants(tmp_path)] == ["avc1."]


def test_segments_of_six_seconds_and_the_bit_rates_they_need(inputs: Inputs, tmp_path: Path) -> None:
    made(inputs.make("mp3", *tone(14), "-b:a", "128k"), tmp_path)
    for told, address in variants(tmp_path):
        directory = (tmp_path / "hls" / address).parent
        text = (tmp_path / "hls" / address).read_text()
        lengths = [float(each) for each in re.findall(r"#EXTINF:([0-9.]+)", text)]
        assert (
            len(lengths) == 3
            and all(abs(each - 6) < 0.05 for each in lengths[:2])
            and "#EXT-X-ENDLIST" in text
        )
        sizes = [(directory / f"{number}.m4s").stat().st_size for number in range(3)]
        # The last is too short to count for itself, and with its neighbour just short enough.
        assert sum(lengths[1:]) <= 9
        peak = max(
            8 * sizes[0] / lengths[0], 8 * sizes[1] / lengths[1], 8 * sum(sizes[1:]) / sum(lengths[1:])
        )
        average = 8 * sum(sizes) / sum(lengths)
        assert int(told["BANDWIDTH"]) == pytest.approx(max(peak, average), abs=1)
        assert int(told["AVERAGE-BANDWIDTH"]) == pytest.approx(average, abs=1)
        assert rate_of(directory).peak == int(told["BANDWIDTH"])
        assert told["CODECS"] == "mp4a.40.2"


@pytest.mark.parametrize("name", ["wav_24", "flac_96k"])
def test_of_a_lossless_source_no_bit_is_lost(inputs: Inputs, tmp_path: Path, name: str) -> None:
    made(inputs[name], tmp_path)
    assert variants(tmp_path)[-1][0]["CODECS"] == "fLaC"
    same = [
        read("-i", str(path), "-map", "0:a", "-c:a", "pcm_s24le", "-f", "md5", "-")
        for path in (inputs[name], tmp_path / "hls" / "flac" / "index.m3u8")
    ]
    assert same[0] == same[1]


def test_loudness_and_peak_are_those_of_the_standard(inputs: Inputs, tmp_path: Path) -> None:
    """EBU Tech 3341, cases 1 and 2: a sine of −23 (−33) dBFS in both ears is as loud as that. And case 15 and on: a
    sine at a quarter of the rate whose samples all miss its crest, by 3 dB."""
    for level in (-23, -33):
        amplitude = 10 ** (level / 20)
        source = ("-f", "lavfi", "-i", f"aevalsrc={amplitude}*sin(1000*2*PI*t):s=48000:d=5:c=mono")
        path = inputs.make("wav", *source, "-af", "pan=stereo|c0=c0|c1=c0", "-c:a", "pcm_s24le")
        assert made(path, tmp_path / str(level)).loudness_lufs == pytest.approx(level, abs=0.1)
    crest = ("-f", "lavfi", "-i", "aevalsrc=min(0.5\\,t)*sin(12000*2*PI*t+PI/4):s=48000:d=1:c=mono")
    found = made(inputs.make("wav", *crest, "-c:a", "pcm_s24le"), tmp_path / "crest")
    assert found.peak_dbtp is not None and -6.4 <= found.peak_dbtp <= -5.8


def test_silence_has_no_loudness_and_a_flat_waveform(inputs: Inputs, tmp_path: Path) -> None:
    found = made(inputs["wav_silent"], tmp_path)
    assert (found.loudness_lufs, found.peak_dbtp) == (None, None)
    peaks = msgspec.json.decode((tmp_path / "peaks.json").read_bytes())
    assert set(peaks["min"] + peaks["max"]) == {0}


def test_the_waveform_is_where_the_sound_is(inputs: Inputs, tmp_path: Path) -> None:
    """A second of silence, a second at half of full scale, a second of silence; whatever the header promises."""
    sound = "aevalsrc='if(between(t,1,2),0.5*sin(100*2*PI*t),0)':s=44100:d=3:c=mono"
    source = inputs.make("wav", "-f", "lavfi", "-i", sound, "-c:a", "pcm_s16le")
    made(source, tmp_path)
    peaks = msgspec.json.decode((tmp_path / "peaks.json").read_bytes())
    assert max(peaks["max"][:598]) == 0 and max(peaks["max"][1202:]) == 0
    assert set(peaks["max"][625:1175:25]) <= {63, 64} or max(peaks["max"][602:1198]) == 64
    assert min(peaks["min"][602:1198]) == -64


def test_a_picture_that_is_too_large_is_no_cover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def png(size: tuple[int, int]) -> bytes:
        held = io.BytesIO()
        Image.new("RGB", size, "red").save(held, "PNG")
        return held.getvalue()

    path = tmp_path / "cover.webp"
    assert not cover.cover_from(png((10_000, 6_000)), path)  # a few kilobytes that become 180 MB
    assert not cover.cover_from(png((100, 100))[:-30], path) and not cover.cover_from(b"no picture", path)
    assert not path.exists()
    assert cover.cover_from(png((3000, 1500)), path)
    with Image.open(path) as image:
        assert (image.format, image.size) == ("WEBP", (1000, 500))


def test_what_is_longer_than_we_take(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "LONGEST", 1.0)
    monkeypatch.setattr(pipeline, "_TELL_EVERY", 0.0)
    with pytest.raises(Unplayable, match="longer"):
        made(inputs.make("mp3", *tone(14), "-b:a", "128k"), tmp_path)


def test_progress_goes_up_to_the_end(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_TELL_EVERY", 0.0)
    told: list[Any] = []
    process(inputs["mp3"], tmp_path, lambda share, seconds: told.append(share))
    assert told == sorted(told) and told[-1] == 1.0 and len(told) > 10 and told[0] < 0.2
