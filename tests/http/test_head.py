"""The grammar of heads and of chunks, as properties: no socket, no application."""

from __future__ import annotations

import itertools
import re
import string

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from veza.http import head as heads
from veza.http.chunked import ChunkError, Dechunker
from veza.http.refusal import Refused

TOKEN = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30).map(str.strip)
TARGET = st.text("abcXYZ019-._~/?&=+%25:@!$'()*,;", max_size=30).map(lambda rest: "/" + rest)
RESERVED = {"host", "content-length", "transfer-encoding", "connection", "upgrade", "expect"}
HEADERS = st.lists(st.tuples(TOKEN.filter(lambda name: name.lower() not in RESERVED), VALUE), max_size=8)
METHOD = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])


def _raw(method: str, target: str, headers: list[tuple[str, str]], version: str = "1.1") -> bytes:
    lines = [f"{method} {target} HTTP/{version}", "Host: a", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


@given(METHOD, TARGET, HEADERS, st.none() | st.integers(0, 10**15))
def test_what_is_written_is_read(
    method: str, target: str, headers: list[tuple[str, str]], length: int | None
) -> None:
    framing = [] if length is None else [("Content-Length", str(length))]
    if "%00" in target.partition("?")[0]:
        return
    head = heads.parse(_raw(method, target, headers + framing))
    assert (head.method, head.target.decode(), head.length, head.chunked) == (method, target, length, False)
    assert head.path + ("?" + head.query.decode() if "?" in target else "") == target
    assert head.headers[1 : 1 + len(headers)] == [
        (name.lower().encode(), value.encode()) for name, value in headers
    ]
    assert head.keep_alive


@given(st.binary(max_size=200).map(lambda noise: noise.replace(b"\r\n\r\n", b"")))
@example(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1")
def test_noise_is_refused_or_read_but_never_crashes(noise: bytes) -> None:
    try:
        head = heads.parse(noise + b"\r\n\r\n")
    except Refused as refused:
        assert 400 <= refused.status < 600
    else:
        assert head.method


@given(st.data(), METHOD, TARGET, HEADERS)
def test_a_head_with_a_byte_changed_is_never_framed_otherwise_than_h11_frames_it(
    data: st.DataObject, method: str, target: str, headers: list[tuple[str, str]]
) -> None:
    """Two independent parsers: whatever we accept, a stricter reader of the RFC must frame in the same way."""
    framing = data.draw(
        st.sampled_from(
            [[], [("Content-Length", "7")], [("Transfer-Encoding", "chunked")], [("Content-Length", "1")] * 2]
        )
    )
    raw = bytearray(_raw(method, target, headers + framing))
    at = data.draw(st.integers(0, len(raw) - 5))
    raw[at] = data.draw(st.integers(0, 255))
    if bytes(raw).find(b"\r\n\r\n") != len(raw) - 4:
        return
    try:
        head = heads.parse(bytes(raw))
    except Refused:
        return
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    peer.receive_data(bytes(raw))
    event = peer.next_event()
    assert isinstance(event, h11.Request)
    lengths = [value for name, value in event.headers if name == b"content-length"]
    assert lengths == ([] if head.length is None else [b"%d" % head.length])
    assert any(name == b"transfer-encoding" for name, _ in event.headers) == head.chunked


@given(HEADERS, st.integers(1, 400))
def test_glancing_at_the_start_of_a_good_head_refuses_nothing(
    headers: list[tuple[str, str]], cut: int
) -> None:
    raw = _raw("GET", "/ok", headers)
    heads.glance(raw[: min(cut, len(raw) - 1)])


@pytest.mark.parametrize(
    ("line", "version", "keep_alive"),
    [
        ("", "1.1", True),
        ("Connection: close", "1.1", False),
        ("Connection: Keep-Alive, Close", "1.1", False),
        ("Connection: upgrade", "1.1", True),
        ("", "1.0", False),
        ("Connection: keep-alive", "1.0", True),
        ("", "1.7", True),
    ],
)
def test_keep_alive(line: str, version: str, keep_alive: bool) -> None:
    raw = f"GET / HTTP/{version}\r\nHost: a\r\n{line}{chr(13) + chr(10) if line else ''}\r\n".encode()
    assert heads.parse(raw).keep_alive is keep_alive


def test_icecast_sources_speak_http_1_0() -> None:
    for method in ("SOURCE", "PUT"):
        head = heads.parse(f"{method} /live/x ICE/1.0\r\nauthorization: Basic x\r\n\r\n".encode())
        assert (head.method, head.version, head.path, head.keep_alive) == (method, "1.0", "/live/x", False)


@pytest.mark.parametrize(
    ("line", "status", "hinted"),
    [
        ("GET /search?q=électriques HTTP/1.1", 400, True),
        ("GET /é HTTP/1.0", 400, True),
        ("GET /two words HTTP/1.1", 400, False),
        ("é /search HTTP/1.1", 400, False),
        ("GET /%C3%A9 HTTP/1.é", 400, False),
        ("GET /" + "é" * heads.TARGET_LIMIT + " HTTP/1.1", 414, False),
    ],
)
def test_accents_in_an_address_are_refused_with_a_word_on_how_to_write_them(
    line: str, status: int, hinted: bool
) -> None:
    with pytest.raises(Refused) as refused:
        heads.parse(line.encode() + b"\r\nHost: a\r\n\r\n")
    assert (refused.value.status, "percent-encode" in refused.value.sentence) == (status, hinted)


def test_arguments_and_elements() -> None:
    head = heads.parse(
        b"GET /ws?token=a%20b+c&token=2&x= HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Protocol: veza.v1, tok\r\n"
        b"Sec-WebSocket-Protocol: other\r\n\r\n"
    )
    assert head.argument("token") == "a b c"
    assert head.argument("x") == ""
    assert head.argument("y") is None
    assert head.elements(b"sec-websocket-protocol") == ["veza.v1", "tok", "other"]
    assert "a%20b" not in repr(head)


CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
EXTENSION = st.sampled_from([b"", b";a=b", b' ; quoted="x y"', b";x"])
TRAILERS = st.lists(st.sampled_from([b"A: b", b"X-Sum: 0123"]), max_size=3)


def _chunked(chunks: list[bytes], extension: bytes, trailers: list[bytes]) -> bytes:
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    return body + b"0\r\n" + b"".join(line + b"\r\n" for line in trailers) + b"\r\n"


def _feed(decoder: Dechunker, data: bytes, cuts: list[int]) -> bytes:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    found = b""
    for start, stop in itertools.pairwise(edges):
        if decoder.done:
            decoder.rest += data[start:stop]
        else:
            found += decoder.feed(data[start:stop])
    return found


@given(CHUNKS, EXTENSION, TRAILERS, st.binary(max_size=20), st.lists(st.integers(0, 1000), max_size=12))
def test_chunks_come_out_as_they_went_in_however_they_are_cut(
    chunks: list[bytes], extension: bytes, trailers: list[bytes], behind: bytes, cuts: list[int]
) -> None:
    decoder = Dechunker()
    assert _feed(decoder, _chunked(chunks, extension, trailers) + behind, cuts) == b"".join(chunks)
    assert decoder.done
    assert decoder.rest == behind


@given(CHUNKS, st.integers(0, 500), st.integers(0, 255), st.lists(st.integers(0, 1000), max_size=4))
def test_damaged_chunks_are_read_alike_however_they_are_cut(
    chunks: list[bytes], at: int, byte: int, cuts: list[int]
) -> None:
    data = bytearray(_chunked(chunks, b"", []))
    data[at % len(data)] = byte

    def outcome(cuts: list[int]) -> tuple[bool, bytes, bytes] | None:
        decoder = Dechunker()
        try:
            found = _feed(decoder, bytes(data), cuts)
        except ChunkError:
            return None
        return decoder.done, found, decoder.rest

    assert outcome(cuts) == outcome([])


@given(st.binary(max_size=80), st.lists(st.integers(0, 100), max_size=4))
def test_noise_is_no_chunk_unless_it_looks_like_one(noise: bytes, cuts: list[int]) -> None:
    decoder = Dechunker()
    try:
        _feed(decoder, noise, cuts)
    except ChunkError:
        return
    assert not noise or re.match(rb"[0-9A-Fa-f\r]", noise)
