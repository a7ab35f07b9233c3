"""Which pages may talk to us."""

from __future__ import annotations

import pytest

from veza.security.origins import Origins
from veza.security.roles import above, at_least


@pytest.mark.parametrize(
    ("origin", "listed"),
    [
        ("https://app.example", True),
        ("HTTPS://App.Example", True),
        ("https://veza.example", True),
        ("http://localhost", True),
        ("http://localhost:5173", True),
        ("http://app.example", False),
        ("https://app.example:8443", False),
        ("https://app.example.evil.org", False),
        ("https://evil.org/https://app.example", False),
        ("https://localhost:5173", False),
        ("http://localhost:", False),
        ("http://localhost:x", False),
        ("http://localhost:１", False),
        ("http://localhost:80:80", False),
        ("http://localhost.evil.org:80", False),
        ("null", False),
        ("", False),
        ("*", False),
    ],
)
def test_origins(origin: str, listed: bool) -> None:
    origins = Origins(["https://app.example/", "http://localhost:*"], "https://veza.example/base")
    assert origins.listed(origin) is listed
    assert origins.allows(origin) is listed
    assert origins.allows(None)


@pytest.mark.parametrize(
    ("origin", "host", "opens"),
    [
        ("http://192.168.1.7:8080", "192.168.1.7:8080", True),
        ("https://Veza.Lan", "veza.lan", True),
        ("http://192.168.1.7:8080", "192.168.1.7", False),
        ("http://evil.example", "192.168.1.7:8080", False),
        ("http://192.168.1.7:8080", "", False),
        ("null", "null", False),
        ("://x", "x", False),
        ("", "", False),
    ],
)
def test_a_server_that_does_not_know_its_name_knows_its_own_pages(
    origin: str, host: str, opens: bool
) -> None:
    assert Origins([]).opens(origin, host) is opens
    assert not Origins([], "https://veza.example").opens(origin, host)
    assert Origins([], "https://veza.example").opens("https://veza.example", host)


def test_a_star_allows_all_but_lists_none() -> None:
    origins = Origins(["*"])
    assert origins.any and origins.allows("https://anybody.example")
    assert not origins.listed("https://anybody.example") and not origins.listed("*")


def test_roles() -> None:
    assert at_least("admin", "moderator") and at_least("admin", "admin") and not at_least("user", "moderator")
    assert not at_least("emperor", "user")
    assert above("super_admin", "admin") and not above("admin", "admin") and not above("user", "admin")
