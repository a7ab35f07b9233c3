"""What is each container's own: tags, links, clusters, tables, fragments, and which splitter is chosen."""

from __future__ import annotations

import struct

import pytest

from tests.media.splitters.sources import Sources, heard, joined
from veza.media.splitters import ENOUGH, Unsupported, splitter_for
from veza.media.splitters.adts import AdtsSplitter
from veza.media.splitters.frames import ID3V2_MOST
from veza.media.splitters.mp3 import Mp3Splitter
from veza.media.splitters.mp4 import Mp4Splitter
from veza.media.splitters.ogg import OggSplitter
from veza.media.splitters.ts import PACKET, TsSplitter
from veza.media.splitters.webm import WebmSplitter, without_cluster


def id3(length: int, *, major: int = 4) -> bytes:
    sizes = bytes(length >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3" + bytes([major, 0, 0]) + sizes + b"\xff\xfb\x90\x00" * (length // 4)


# MP3 and ADTS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mp3", "adts"])
def test_tags_between_songs_are_left_out_and_counted_apart(name: str, sources: Sources) -> None:
    song = sources[name]
    kind = Mp3Splitter if name == "mp3" else AdtsSplitter
    alone = kind()
    frames = alone.feed(song)
    splitter = kind()
    found = splitter.feed(id3(4_000) + song + b"TAG" + bytes(125) + id3(8_000, major=3) + song)
    assert found == frames + frames
    assert splitter.skipped == 0
    assert splitter.tags == 4_010 + 128 + 8_010 + 2 * alone.tags


def test_a_tag_that_says_it_is_longer_than_any_is_no_tag(sources: Sources) -> None:
    lie = b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f"
    splitter = Mp3Splitter()
    found = splitter.feed(lie + sources["mp3"])
    assert joined(found) == joined(Mp3Splitter().feed(sources["mp3"]))
    assert splitter.skipped == len(lie)
    assert ID3V2_MOST < 1 << 28


def test_a_sync_that_no_frame_follows_is_not_believed(sources: Sources) -> None:
    frames = Mp3Splitter().feed(sources["mp3"])
    splitter = Mp3Splitter()
    splitter.feed(b"\xff\xfb\x90\x00" + bytes(1_000))
    assert splitter.feed(joined(frames)) == frames
    assert splitter.skipped == 1_004


def test_songs_of_different_rates_follow_each_other(sources: Sources) -> None:
    first, second = sources["mp3"], sources["mp3-vbr-mono"]
    splitter = Mp3Splitter()
    frames = Mp3Splitter().feed(first) + Mp3Splitter().feed(second)
    assert splitter.feed(first + second) == frames
    assert splitter.skipped == 0


def test_a_frame_is_passed_on_as_soon_as_it_is_whole(sources: Sources) -> None:
    frames = Mp3Splitter().feed(sources["mp3"])
    splitter = Mp3Splitter()
    splitter.feed(joined(frames[:3]))
    assert splitter.feed(frames[3].data) == [frames[3]]


# Ogg -------------------------------------------------------------------------------------------------


def test_every_link_of_a_chain_has_its_header(sources: Sources) -> None:
    songs = [sources["opus"], sources["vorbis"], sources["flac"]]
    splitter = OggSplitter()
    chunks = splitter.feed(b"".join(songs))
    assert joined(chunks) == b"".join(songs)
    headers = list(dict.fromkeys(chunk.header for chunk in chunks if chunk.key))
    assert [b"Opus" in headers[0], b"vorbis" in headers[1], b"FLAC" in headers[2]] == [True] * 3
    assert splitter.header is [chunk.header for chunk in chunks if chunk.key][-1]
    for song in songs:
        begins = next(nth for nth, chunk in enumerate(chunks) if chunk.key and song.startswith(chunk.header))
        assert heard(chunks[begins].header + chunks[begins].data)["sound"] > 0


def test_a_page_whose_sum_is_wrong_is_garbage(sources: Sources) -> None:
    chunks = OggSplitter().feed(sources["opus"])
    spoiled = bytearray(joined(chunks))
    at = len(joined(chunks[:6])) + 100
    spoiled[at] ^= 1
    splitter = OggSplitter()
    found = splitter.feed(bytes(spoiled))
    assert [chunk.data for chunk in found] == [chunk.data for nth, chunk in enumerate(chunks) if nth != 6]
    assert splitter.skipped == len(chunks[6].data)


def test_a_link_without_all_of_its_header_is_not_listened_to(sources: Sources) -> None:
    chunks = OggSplitter().feed(sources["vorbis"])
    splitter = OggSplitter()
    found = splitter.feed(chunks[0].data + joined(chunks[2:]))
    assert not any(chunk.key for chunk in found)
    assert splitter.feed(sources["opus"])[-1].key


# WebM ------------------------------------------------------------------------------------------------


def test_one_may_begin_in_the_middle_of_a_cluster(sources: Sources) -> None:
    chunks = WebmSplitter().feed(sources["webm"])
    cluster = [nth for nth, chunk in enumerate(chunks) if chunk.data.startswith(b"\x1f\x43\xb6\x75")]
    assert 2 <= len(cluster) < 8
    key = cluster[1] + 9
    assert chunks[key].key
    assert chunks[key].header is chunks[key + 1].header
    assert without_cluster(chunks[key].header) == without_cluster(chunks[cluster[0] + 4].header)
    assert heard(chunks[key].header + joined(chunks[key:]))["sound"] > 0.5


def test_a_container_that_begins_anew_gives_a_new_header(sources: Sources) -> None:
    splitter = WebmSplitter()
    first = splitter.feed(sources["webm"])
    sound = splitter.header
    second = splitter.feed(sources["webm-video"])
    assert joined(first + second) == sources["webm"] + sources["webm-video"]
    assert splitter.header != sound
    assert splitter.content_type == "video/webm"
    key = next(nth for nth, chunk in enumerate(second) if chunk.key)
    assert heard(second[key].header + joined(second[key:]))["pictures"] > 20


def test_the_header_says_nothing_of_places_in_a_file(sources: Sources) -> None:
    splitter = WebmSplitter()
    splitter.feed(sources["webm"])
    assert b"\x11\x4d\x9b\x74" not in splitter.header, "SeekHead"
    assert b"\x18\x53\x80\x67\x01" + b"\xff" * 7 in splitter.header


# MPEG-TS ---------------------------------------------------------------------------------------------


def test_chunks_are_whole_packets_few_enough_to_be_soon(sources: Sources) -> None:
    for name in ("ts", "ts-video"):
        for chunk in TsSplitter().feed(sources[name]):
            assert len(chunk.data) % PACKET == 0
            assert len(chunk.data) <= 7 * PACKET


def test_the_header_is_both_tables_and_the_same_for_all(sources: Sources) -> None:
    chunks = TsSplitter().feed(sources["ts-video"])
    headers = {id(chunk.header) for chunk in chunks if chunk.key}
    assert len(headers) == 1
    header = next(chunk.header for chunk in chunks if chunk.key)
    pids = [int.from_bytes(header[at + 1 : at + 3], "big") & 0x1FFF for at in range(0, len(header), PACKET)]
    assert pids == [0, 0x1000]


def test_pictures_without_the_flag_of_random_access_are_found_by_what_they_hold(sources: Sources) -> None:
    data = bytearray(sources["ts-video"])
    for at in range(0, len(data), PACKET):
        if data[at + 3] & 0x20 and data[at + 4]:
            data[at + 5] &= ~0x40
    flagged = [chunk.key for chunk in TsSplitter().feed(sources["ts-video"])]
    assert [chunk.key for chunk in TsSplitter().feed(bytes(data))] == flagged
    assert sum(flagged) == 4


# MP4 -------------------------------------------------------------------------------------------------


def test_fragments_do_not_refer_to_places_in_a_file(sources: Sources) -> None:
    splitter = Mp4Splitter()
    for chunk in splitter.feed(sources["mp4-video"]):
        at = chunk.data.find(b"tfhd")
        while at >= 0:
            assert int.from_bytes(chunk.data[at + 4 : at + 8], "big") & 0x02_0001 == 0x02_0000
            at = chunk.data.find(b"tfhd", at + 4)


def test_long_data_comes_in_pieces_that_are_no_beginnings(sources: Sources) -> None:
    chunks = Mp4Splitter().feed(sources["mp4-video"])
    fragment = next(chunk for chunk in chunks if chunk.key)
    moof = fragment.data[: struct.unpack(">I", fragment.data[:4])[0]]
    long = moof + struct.pack(">I4s", 100_008, b"mdat") + bytes(100_000)
    splitter = Mp4Splitter()
    splitter.feed(fragment.header)
    pieces = splitter.feed(long)
    assert [chunk.key for chunk in pieces] == [True, False, False, False]
    assert joined(pieces) == long
    assert splitter.feed(fragment.data)[0].key


# The choice ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beginning", "names"),
    [
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "WAV"),
        (b"fLaC\x00\x00\x00\x22" + bytes(40), "FLAC without Ogg"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"PK\x03\x04" + bytes(30), "a zip archive"),
        (b"FLV\x01\x05\x00\x00\x00\x09", "FLV"),
    ],
)
def test_what_cannot_be_live_is_refused_with_what_could(beginning: bytes, names: str) -> None:
    with pytest.raises(Unsupported) as refused:
        splitter_for("audio/mpeg", beginning + bytes(20))
    assert names in refused.value.reason
    assert "MP3, AAC (ADTS), Ogg" in refused.value.reason


def test_an_mp4_file_is_refused_with_how_to_fragment_it(sources: Sources) -> None:
    plain = sources._inputs["mp4"].read_bytes()
    with pytest.raises(Unsupported, match="empty_moov"):
        splitter_for("video/mp4", plain[:ENOUGH])


def test_what_is_not_known_is_decided_at_last() -> None:
    nothing = b"la" * ENOUGH
    assert splitter_for("audio/mpeg", nothing[:30_000]) is None
    assert splitter_for("AUDIO/MPEG; x=y", nothing) is not None
    for declared in ("text/html", "", None, "\x00"):
        with pytest.raises(Unsupported, match="no known container"):
            splitter_for(declared, nothing)


@pytest.mark.parametrize("name", ["mp3", "adts", "ts", "opus", "webm"])
def test_a_source_that_comes_to_us_in_the_middle_is_known(name: str, sources: Sources) -> None:
    data = (sources[name][5_000:] + sources[name] * 2)[:ENOUGH]
    found = splitter_for(None, data)
    assert type(found) is type(splitter_for(None, sources[name][:ENOUGH]))
    assert found is not None
    assert any(chunk.key for chunk in found.feed(data))
