"""What the accounts' and people's views take and give, as types; the OpenAPI document is made from them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from veza.actors import rules
from veza.db.users import COUNTED, Profile, User

_EMAIL_SAYS: Final = "Must be an e-mail address of at most 100 characters."
_PASSWORD_SAYS: Final = "Must have 8 to 128 characters."

Username = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=50,
        pattern="^[A-Za-z0-9_]+$",
        extra={"says": "Must have 3 to 50 letters, digits and underscores."},
    ),
]
# Local part of the usual characters, a domain of labels with at least one dot (RFC 5321's addresses in use).
Email = Annotated[
    str,
    Meta(
        max_length=100,
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9-]{2,63}$",
        extra={"says": _EMAIL_SAYS, "trim": True},
        extra_json_schema={"format": "email"},
    ),
]
NewPassword = Annotated[
    str,
    Meta(
        min_length=8,
        max_length=128,
        extra={"says": _PASSWORD_SAYS},
        extra_json_schema={"format": "password"},
    ),
]
GivenPassword = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1000,
        extra={"says": "Must be a text."},
        extra_json_schema={"format": "password"},
    ),
]
Name = Annotated[
    str,
    Meta(
        max_length=50,
        pattern="^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
        extra={"says": "Must be one line of at most 50 characters.", "trim": True},
    ),
]
Opaque = Annotated[str, Meta(min_length=1, max_length=512, extra={"says": "Must be a token."})]


class Registration(Struct, frozen=True):
    username: Username
    email: Email
    password: NewPassword
    first_name: Name | None = None
    last_name: Name | None = None

    def check(self) -> Iterator[tuple[str, str]]:
        # `$` in a pattern also matches before a last newline.
        if self.username.endswith("\n"):
            yield "username", "Must have 3 to 50 letters, digits and underscores."


Typed = Annotated[str, Meta(min_length=1, max_length=255, extra={"says": "Must be a text.", "trim": True})]


Code = Annotated[str, Meta(min_length=1, max_length=64, extra={"says": "Must be a code.", "trim": True})]


class Login(Struct, frozen=True):
    """`username` is accepted instead of `email`. `totp_code`, or `recovery_code`, where the account has a second
    factor; either is taken in either field."""

    password: GivenPassword
    email: Typed | None = None
    username: Typed | None = None
    totp_code: Code | None = None
    recovery_code: Code | None = None

    def check(self) -> Iterator[tuple[str, str]]:
        if self.email is None and self.username is None:
            yield "email", "This field is required."


class Refresh(Struct, frozen=True):
    refresh_token: Opaque


class Logout(Struct, frozen=True):
    refresh_token: Opaque | None = None


class TokenByMail(Struct, frozen=True):
    token: Opaque


class AddressOnly(Struct, frozen=True):
    email: Email


class PerhapsAddress(Struct, frozen=True):
    email: Email | None = None


class PasswordReset(Struct, frozen=True):
    token: Opaque
    new_password: NewPassword


class PasswordChange(Struct, frozen=True):
    current_password: GivenPassword
    new_password: NewPassword


NO_CONTROL: Final = "Must not hold control characters."


def plain(name: str, text: object) -> Iterator[tuple[str, str]]:
    """The complaint of the field `name` about a text of several lines, however they end, that holds more than text."""
    if isinstance(text, str) and rules.holds_control(text.replace("\r\n", "\n")):
        yield name, NO_CONTROL


def one_line(name: str, text: str | None) -> Iterator[tuple[str, str]]:
    """The complaint of the field `name` about a text that is not one line of what can be shown."""
    if text is not None and not text.isprintable():
        yield name, "Must be one line of text."


Bio = Annotated[str, Meta(max_length=2000, extra={"says": "Must be a text of at most 2000 characters."})]
Address = Annotated[
    str,
    Meta(
        max_length=500,
        pattern="^(https?://|/)[^\\s]+$",
        extra={"says": "Must be an http(s) address of at most 500 characters."},
    ),
]


class ProfileForm(Struct, frozen=True):
    """What is left out stays; null takes a value away (not the username)."""

    username: Username | UnsetType = UNSET
    first_name: Name | UnsetType | None = UNSET
    last_name: Name | UnsetType | None = UNSET
    bio: Bio | UnsetType | None = UNSET
    avatar: Address | UnsetType | None = UNSET

    def check(self) -> Iterator[tuple[str, str]]:
        if isinstance(self.username, str) and self.username.endswith("\n"):
            yield "username", "Must have 3 to 50 letters, digits and underscores."
        yield from plain("bio", self.bio)


class Paging(Struct, frozen=True):
    """A numbered page. Numbered pages reach as far as lists are counted, and no further."""

    page: Annotated[int, Meta(ge=1, extra={"says": "Must be a whole number, 1 or more."})] = 1
    limit: Annotated[int, Meta(ge=1, le=100, extra={"says": "Must be a whole number from 1 to 100."})] = 20

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.limit

    def check(self) -> Iterator[tuple[str, str]]:
        if self.page * self.limit > COUNTED:
            yield "page", f"Pages reach to the {COUNTED:,}th entry; search for something narrower."


SearchText = Annotated[
    str, Meta(max_length=100, extra={"says": "Must have at most 100 characters.", "trim": True})
]


class PeopleQuery(Paging, frozen=True):
    search: SearchText | None = None


class PeopleSearch(Paging, frozen=True, kw_only=True):
    q: Annotated[
        str,
        Meta(min_length=1, max_length=100, extra={"says": "Must have 1 to 100 characters.", "trim": True}),
    ]


# Answers ---------------------------------------------------------------------------------------------


class SignedIn(Struct, frozen=True):
    """`token` and `access_token` are the same; `expires_at` and `expires_in` (seconds) are about it."""

    user: User
    token: str
    access_token: str
    refresh_token: str
    expires_at: datetime
    expires_in: int


class TokenPair(Struct, frozen=True):
    """What OAuth 2 clients look for beside the envelope (RFC 6749 §5.1)."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "Bearer"


class SessionShown(Struct, frozen=True):
    """One login; `current` is the one that asks."""

    id: UUID
    user_agent: str | None
    ip: str | None
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    current: bool


class SessionList(Struct, frozen=True):
    sessions: list[SessionShown]


class SessionsEnded(Struct, frozen=True):
    ended: int


class People(Struct, frozen=True):
    users: list[Profile]
