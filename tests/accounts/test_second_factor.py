"""Codes of authenticators against RFC 6238's own, and codes as people type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.security import second_factor
from veza.security.second_factor import STEP, SecretBox, Unreadable

# RFC 6238, appendix B (SHA-1); of its eight digits the last six.
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
VECTORS = {
    59: "287082",
    1111111109: "081804",
    1111111111: "050471",
    1234567890: "005924",
    2000000000: "279037",
    20000000000: "353130",
}


@pytest.mark.parametrize(("now", "code"), VECTORS.items())
def test_the_rfcs_codes(now: int, code: str) -> None:
    assert second_factor.step_of(SECRET, code, now) == now // STEP


@given(now=st.integers(600, 4 * 10**9), off=st.integers(-5, 5), within=st.floats(0, 29.9))
def test_a_code_belongs_to_its_step_and_is_good_one_step_around_it(now: int, off: int, within: float) -> None:
    step = now // STEP
    code = second_factor.pyotp.TOTP(SECRET).generate_otp(step)
    found = second_factor.step_of(SECRET, code, (step + off) * STEP + within)
    if abs(off) <= 1:
        # Neighbours may have the same code by chance; then the present step counts.
        assert found is not None and abs(found - step) <= 1
    elif found is not None:
        assert second_factor.pyotp.TOTP(SECRET).generate_otp(found) == code


@given(st.text(max_size=12))
def test_nothing_else_is_a_code(text: str) -> None:
    if not (len(text) == 6 and text.isascii() and text.isdigit()):
        assert second_factor.step_of(SECRET, text, 59) is None


@given(data=st.data())
def test_a_recovery_code_is_the_same_however_it_is_typed(data: st.DataObject) -> None:
    (code, other, *_) = second_factor.new_recovery_codes()
    letters = second_factor.plain(code)
    typed = "".join(
        data.draw(st.sampled_from([letter, letter.upper(), f" {letter}", f"-{letter}"])) for letter in letters
    )
    assert second_factor.is_recovery(second_factor.plain(typed))
    assert second_factor.recovery_hash(typed) == second_factor.recovery_hash(code)
    assert second_factor.recovery_hash(typed) != second_factor.recovery_hash(other)


def test_a_secret_is_for_one_person_under_one_key() -> None:
    box = SecretBox("a key of a server, long enough for everything")
    sealed = box.seal(7, SECRET)
    assert box.open(7, sealed) == SECRET
    assert box.seal(7, SECRET) != sealed
    for other, user_id, data in (
        (box, 8, sealed),
        (SecretBox("another key of a server, long enough as well"), 7, sealed),
        (box, 7, sealed[:-1]),
        (box, 7, b""),
    ):
        with pytest.raises(Unreadable):
            other.open(user_id, data)
