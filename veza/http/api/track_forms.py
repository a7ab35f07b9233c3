"""What people say about tracks, as types: the fields of an upload, changes, and what lists are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from veza.actors import rules, track_rules
from veza.actors.track_rules import TAG_LENGTH, TAGS, TITLE_LENGTH
from veza.db.tracks import TrackChange
from veza.http.api.envelope import ApiError, invalid
from veza.http.api.intake import form_of
from veza.http.api.models import NO_CONTROL, Paging, SearchText

_TAGS_SAY: Final = f"Must be at most {TAGS} tags of at most {TAG_LENGTH} characters."
_YES_NO: Final = {"on": "true", "yes": "true", "off": "false", "no": "false"}


def _says(most: int) -> dict[str, Any]:
    return {"says": f"Must be one line of at most {most} characters.", "trim": True}


Title = Annotated[str, Meta(max_length=TITLE_LENGTH, extra=_says(TITLE_LENGTH))]
Line = Annotated[str, Meta(max_length=200, extra=_says(200))]
Genre = Annotated[str, Meta(max_length=50, extra=_says(50))]
Description = Annotated[
    str, Meta(max_length=5000, extra={"says": "Must have at most 5000 characters.", "trim": True})
]
TagText = Annotated[
    str,
    Meta(
        max_length=2 * TAGS * (TAG_LENGTH + 2),
        description="Separated by commas.",
        extra={"says": _TAGS_SAY},
    ),
]


class TrackFields(Struct, frozen=True):
    """What may be said of a track with its file. Without a title, its file's name becomes one; what else is left out is
    taken from the file's own tags."""

    title: Title | None = None
    artist: Line | None = None
    album: Line | None = None
    genre: Genre | None = None
    tags: TagText = ""
    description: Description | None = None
    is_public: bool = True

    def check(self) -> Iterator[tuple[str, str]]:
        yield from _lines(self)
        yield from _tags(self.tags)


class TrackEdit(Struct, frozen=True):
    """What is left out stays; null takes a value away (not the title). `tags` as a list, or a text with commas."""

    title: Title | UnsetType = UNSET
    artist: Line | UnsetType | None = UNSET
    album: Line | UnsetType | None = UNSET
    genre: Genre | UnsetType | None = UNSET
    description: Description | UnsetType | None = UNSET
    tags: Annotated[list[str], Meta(max_length=2 * TAGS)] | TagText | UnsetType | None = UNSET
    is_public: bool | UnsetType = UNSET

    def check(self) -> Iterator[tuple[str, str]]:
        if isinstance(self.title, str) and not track_rules.one_line(self.title):
            yield "title", f"Must have 1 to {TITLE_LENGTH} characters."
        yield from _lines(self)
        if not isinstance(self.tags, UnsetType):
            yield from _tags(self.tags or "")

    def change(self) -> TrackChange:
        """As the database takes it."""
        given: dict[str, Any] = {}
        for name in ("title", "artist", "album", "genre", "description", "is_public"):
            value = getattr(self, name)
            if value is not UNSET:
                given[name] = _tidied(name, value)
        if not isinstance(self.tags, UnsetType):
            given["tags"] = tuple(track_rules.tags(self.tags or ""))
        return TrackChange(frozenset(given), **given)


class Words(Struct, frozen=True):
    """What is known of a track before it is one, written as it will be stored."""

    title: str
    artist: str | None
    album: str | None
    genre: str | None
    description: str | None
    tags: tuple[str, ...]
    is_public: bool
    filename: str | None


def read_fields(fields: Mapping[str, list[str]]) -> TrackFields:
    """The fields of a form or of an upload's metadata. Raises ApiError 400 with `details`.

    Each may be there once; `tags` more often, and then all of them count.
    """
    raw: dict[str, str] = {}
    for name, values in fields.items():
        if name == "tags":
            raw[name] = ",".join(values)
        elif len(values) > 1 and name in TrackFields.__struct_fields__:
            raise invalid({name: "Was sent more than once."})
        else:
            raw[name] = values[0]
    if "is_public" in raw:
        said = raw["is_public"].strip().lower()
        raw["is_public"] = _YES_NO.get(said, said)
        if not said:
            del raw["is_public"]
    found: TrackFields = form_of(TrackFields).read(raw, strict=False)
    return found


def words(fields: TrackFields, filename: str | None) -> Words:
    """What is stored of it."""
    name = track_rules.filename(filename)
    return Words(
        title=_tidied("title", fields.title) or track_rules.title_from(name),
        artist=_tidied("artist", fields.artist),
        album=_tidied("album", fields.album),
        genre=_tidied("genre", fields.genre),
        description=_tidied("description", fields.description),
        tags=tuple(track_rules.tags(fields.tags)),
        is_public=fields.is_public,
        filename=name,
    )


def _tidied(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return (value.strip() if name == "description" else track_rules.one_line(value)) or None


def _lines(form: TrackFields | TrackEdit) -> Iterator[tuple[str, str]]:
    for name in ("title", "artist", "album", "genre", "description"):
        text = getattr(form, name)
        if not isinstance(text, str):
            continue
        if name == "description":
            text = text.replace("\r\n", "\n")
        elif "\n" in text:
            yield name, "Must be one line."
            continue
        if rules.holds_control(text):
            yield name, NO_CONTROL


def _tags(given: str | list[str]) -> Iterator[tuple[str, str]]:
    found = track_rules.tags(given)
    if len(found) > TAGS or any(len(tag) > TAG_LENGTH for tag in found):
        yield "tags", _TAGS_SAY


# Lists -------------------------------------------------------------------------------------------------


class TracksQuery(Paging, frozen=True, kw_only=True):
    """`tags`: separated by commas, a track has them all. `uploader`: an id or a username."""

    search: SearchText | None = None
    tags: TagText | None = None
    genre: Genre | None = None
    artist: Line | None = None
    uploader: Annotated[str, Meta(max_length=50, extra={"says": "Must be an id or a username."})] | None = (
        None
    )
    sort: Annotated[
        Literal["new", "popular", "title"], Meta(extra={"says": "Must be new, popular or title."})
    ] = "new"


class MyTracksQuery(Paging, frozen=True, kw_only=True):
    status: (
        Annotated[
            Literal["processing", "ready", "failed"],
            Meta(extra={"says": "Must be processing, ready or failed."}),
        ]
        | None
    ) = None


class TagsQuery(Struct, frozen=True):
    """`search`: beginnings of tags only."""

    search: Annotated[str, Meta(max_length=TAG_LENGTH, extra={"trim": True})] | None = None
    limit: Annotated[int, Meta(ge=1, le=200, extra={"says": "Must be a whole number from 1 to 200."})] = 50


class StreamQuery(Struct, frozen=True):
    """`absolute`: with scheme and host, for other programs."""

    absolute: bool = False


class StatsQuery(Struct, frozen=True):
    """The last so many days, today (UTC) among them."""

    days: Annotated[int, Meta(ge=1, le=366, extra={"says": "Must be a whole number from 1 to 366."})] = 30


class Play(Struct, frozen=True):
    """`listened_s`: seconds heard since the last report of this play; they add up over a day. `completed`: it was heard
    to its end."""

    listened_s: Annotated[float, Meta(ge=0, le=86_400, extra={"says": "Must be seconds, from 0 to 86400."})]
    completed: bool = False


def no_track() -> ApiError:
    return ApiError(404, "TRACK_NOT_FOUND", "This track does not exist.")
