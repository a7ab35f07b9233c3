"""Access tokens: only ours, only HS256, only fresh ones."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.security.tokens import AccessTokens, TokenRefused, digest, new_secret, same

SECRET = "a secret for tests, long enough for HS256"
SID = "6f57f5f0-2f72-43e2-adb3-e44563c12bb5"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def forge(claims: dict[str, Any], secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, secret, algorithm=algorithm)


def good_claims(**changed: Any) -> dict[str, Any]:
    claims = {"user_id": 7, "username": "nina", "role": "user", "sid": SID, "jti": "x", "typ": "access"}
    return {**claims, "iat": int(Clock.now), "exp": int(Clock.now) + 60, **changed}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> AccessTokens:
    return AccessTokens(SECRET, 3600, clock)


def test_what_is_issued_can_be_read(tokens: AccessTokens, clock: Clock) -> None:
    token, expires = tokens.issue(7, "nina", "moderator", SID)
    claims = tokens.read(token)
    assert (claims.user_id, claims.username, claims.role, claims.sid) == (7, "nina", "moderator", SID)
    assert claims.exp == expires == int(clock.now) + 3600
    assert tokens.issue(7, "nina", "moderator", SID)[0] != token  # each has an id of its own


def test_the_library_agrees_that_it_is_a_jwt() -> None:
    token, _ = AccessTokens(SECRET, 60, time.time).issue(7, "nina", "user", SID)
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    assert jwt.decode(token, SECRET, algorithms=["HS256"])["typ"] == "access"


def test_expiry_is_to_the_second(tokens: AccessTokens, clock: Clock) -> None:
    token, expires = tokens.issue(7, "nina", "user", SID)
    clock.now = expires - 0.001
    tokens.read(token)
    clock.now = expires
    with pytest.raises(TokenRefused) as refused:
        tokens.read(token)
    assert refused.value.expired


@pytest.mark.parametrize("missing", ["exp", "iat", "sid", "jti", "typ", "user_id", "username", "role"])
def test_every_claim_is_required(tokens: AccessTokens, missing: str) -> None:
    claims = good_claims()
    tokens.read(forge(claims))
    del claims[missing]
    with pytest.raises(TokenRefused):
        tokens.read(forge(claims))


@pytest.mark.parametrize(
    "changed",
    [
        {"typ": "refresh"},
        {"typ": ["access"]},
        {"typ": None},
        {"exp": "9999999999"},
        {"exp": None},
        {"exp": True},
        {"exp": [9999999999]},
        {"exp": -1},
        {"user_id": "7"},
        {"user_id": 7.5},
        {"user_id": None},
        {"sid": 7},
        {"username": {"a": 1}},
    ],
)
def test_claims_of_the_wrong_kind(tokens: AccessTokens, changed: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        tokens.read(forge(good_claims(**changed)))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_other_algorithms_are_refused(tokens: AccessTokens, algorithm: str) -> None:
    secret = SECRET * 3
    with pytest.raises(TokenRefused):
        AccessTokens(secret, 60, Clock()).read(forge(good_claims(), secret, algorithm))


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None, 5, ["HS256"]])
def test_no_algorithm_is_refused(tokens: AccessTokens, name: Any) -> None:
    unsigned = f"{_part({'alg': name, 'typ': 'JWT'})}.{_part(good_claims())}."
    signature = forge(good_claims()).rpartition(".")[2]
    for token in (unsigned, unsigned + signature):
        with pytest.raises(TokenRefused):
            tokens.read(token)


def test_headers_that_bring_their_own_key_change_nothing(tokens: AccessTokens) -> None:
    header = {"jku": "https://evil.example/keys", "jwk": {"kty": "oct", "k": "eA"}, "kid": "../../dev/null"}
    token = jwt.encode(
        good_claims(), "another secret, which is long enough", algorithm="HS256", headers=header
    )
    with pytest.raises(TokenRefused):
        tokens.read(token)


@given(st.one_of(st.text(), st.binary().map(lambda raw: raw.decode("latin-1"))))
def test_garbage_is_refused_and_never_raises_anything_else(garbage: str) -> None:
    with pytest.raises(TokenRefused):
        AccessTokens(SECRET, 60, Clock()).read(garbage)


@given(st.data())
def test_no_single_changed_character_goes_unnoticed(data: st.DataObject) -> None:
    token = forge(good_claims())
    at = data.draw(st.integers(0, len(token) - 2))  # the last character holds two bits nobody reads
    other = data.draw(st.sampled_from("ABCxyz019-_.").filter(lambda c: c != token[at]))
    with pytest.raises(TokenRefused):
        AccessTokens(SECRET, 60, Clock()).read(token[:at] + other + token[at + 1 :])


def test_deep_and_long_tokens_cost_little(tokens: AccessTokens) -> None:
    for token in (
        "a" * 10_000_000,
        _part("[" * 100_000) + ".x.y",
        f"{_part({'alg': 'HS256'})}." + "[" * 3000,
    ):
        with pytest.raises(TokenRefused):
            tokens.read(token)


def test_what_is_remembered_of_tokens_is_bounded(
    tokens: AccessTokens, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veza.security.tokens._KEPT", 3)
    issued = [tokens.issue(number, "nina", "user", SID)[0] for number in range(10)]
    for _ in range(2):
        assert [tokens.read(token).user_id for token in issued] == list(range(10))
    assert len(tokens._good) == 3
    assert not any(token in repr(tokens.__dict__) for token in issued)
    clock.now += 3600
    for token in issued:
        with pytest.raises(TokenRefused):
            tokens.read(token)
    assert not tokens._good or all(claims.exp > clock.now for claims in tokens._good.values())


def test_short_secrets_are_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        AccessTokens("x" * 31, 60)
    assert SECRET not in repr(AccessTokens(SECRET, 60))


def test_opaque_secrets_and_their_digests() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100 and all(len(secret) >= 43 for secret in secrets)
    assert len({digest(secret) for secret in secrets}) == 100
    one = secrets.pop()
    assert same(digest(one), digest(one)) and not same(digest(one), digest(new_secret()))
    assert len(digest("\ud800")) == 32
