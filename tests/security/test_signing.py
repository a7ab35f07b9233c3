"""Signed addresses: what they promise, and what does not pass for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.security.signing import LONGEST, SKEW, Expired, Forged, Signer, TooFarAhead

KEY = "0123456789abcdef0123456789abcdef"
VECTOR = "f93866a35a995a2f31c2783c2a579e5f96bba72ad8d747a952201eb4f5eb699c"
EXPIRES = 1893456000
SIGNER = Signer(KEY)


def test_the_check_vector_of_the_design() -> None:
    assert SIGNER.sign("plouf", EXPIRES) == VECTOR
    assert SIGNER.verify("plouf", EXPIRES, VECTOR, EXPIRES - 10) == EXPIRES
    assert SIGNER.verify("plouf", str(EXPIRES), VECTOR, EXPIRES - 10) == EXPIRES


def test_addresses_carry_their_signatures() -> None:
    assert SIGNER.stream_url("plouf", EXPIRES) == f"/stream/plouf?expires={EXPIRES}&sig={VECTOR}"
    tree, live = SIGNER.sign("hls/plouf", EXPIRES), SIGNER.sign("live/plouf", EXPIRES)
    assert SIGNER.hls_url("plouf", EXPIRES) == f"/hls/{EXPIRES}.{tree}/plouf/master.m3u8"
    assert SIGNER.live_url("plouf", EXPIRES) == f"/live/{EXPIRES}.{live}/plouf"
    assert len({VECTOR, tree, live}) == 3, "an address of one door opens no other"


@pytest.mark.parametrize("name", ["", "a/b", "a:1", "..", "é", "x" * 65, "a\n", "a b"])
def test_only_names_are_signed(name: str) -> None:
    for make in (SIGNER.stream_url, SIGNER.hls_url, SIGNER.live_url):
        with pytest.raises(ValueError):
            make(name, EXPIRES)


@pytest.mark.parametrize(
    "sig",
    [
        "",
        VECTOR[:-1],
        VECTOR + "0",
        VECTOR.upper(),
        "0" * 64,
        VECTOR[:-1] + "d",
        "é" * 64,
        "\udc80",
        VECTOR + "\n",
    ],
)
def test_forged(sig: str) -> None:
    with pytest.raises(Forged):
        SIGNER.verify("plouf", EXPIRES, sig, EXPIRES - 10)


@pytest.mark.parametrize(
    "expires",
    ["", "-1", "+1893456000", "01893456000", "1893456000.0", "1e9", " 1893456000", "１893456000", "9" * 13],
)
def test_a_time_is_written_in_one_way_only(expires: str) -> None:
    with pytest.raises(Forged):
        SIGNER.verify("plouf", expires, VECTOR, EXPIRES - 10)


def test_what_is_signed_is_bound_to_all_of_it() -> None:
    for message, expires, signer in (
        ("ploufs", EXPIRES, SIGNER),
        ("Plouf", EXPIRES, SIGNER),
        ("hls/plouf", EXPIRES, SIGNER),
        ("plouf", EXPIRES + 1, SIGNER),
        ("plouf", EXPIRES, Signer(KEY[::-1])),
    ):
        with pytest.raises(Forged):
            signer.verify(message, expires, VECTOR, EXPIRES - 10)


def test_it_is_good_for_a_time() -> None:
    def at(now: float) -> int:
        return SIGNER.verify("plouf", EXPIRES, VECTOR, now)

    assert at(EXPIRES) == at(EXPIRES + SKEW) == EXPIRES
    with pytest.raises(Expired):
        at(EXPIRES + SKEW + 0.01)
    assert at(EXPIRES - LONGEST) == at(EXPIRES - LONGEST - SKEW) == EXPIRES
    with pytest.raises(TooFarAhead):
        at(EXPIRES - LONGEST - SKEW - 0.01)


def test_a_forged_one_never_learns_that_it_is_late() -> None:
    with pytest.raises(Forged):
        SIGNER.verify("plouf", EXPIRES, "0" * 64, EXPIRES + 1000)


def test_a_short_key_is_no_key() -> None:
    with pytest.raises(ValueError):
        Signer("short")
    assert KEY not in repr(SIGNER)


@given(st.text(), st.text(), st.text())
def test_nothing_else_passes_and_nothing_breaks(message: str, expires: str, sig: str) -> None:
    if sig == VECTOR and expires == str(EXPIRES):
        return
    with pytest.raises(Forged):
        SIGNER.verify("plouf", expires, sig, EXPIRES)
