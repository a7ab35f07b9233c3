"""`/search` and `/tags`: everything by words, names by their beginnings, and what tracks are tagged with.

What is found is what the asker may see; the queries decide that. Messages are for those who are logged in.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct
from quart import Blueprint, Response

from veza.actors import track_rules
from veza.actors.frames import DirectMessage, RoomMessage
from veza.actors.registry import Identity
from veza.db import search as found_by
from veza.db import search_words, suggestions, track_lists
from veza.db.message_search import Where, heard
from veza.db.offers import Brief
from veza.db.search import RoomFound
from veza.db.suggestions import Suggestion
from veza.db.track_lists import TagCount
from veza.db.tracks import Track
from veza.db.users import Profile
from veza.http.api.access import perhaps_signed_in
from veza.http.api.chat import message_shown
from veza.http.api.envelope import ok
from veza.http.api.intake import takes_query
from veza.http.api.openapi import answers
from veza.http.api.services import services
from veza.http.api.track_forms import TagsQuery

search = Blueprint("search", __name__)

_KINDS: Final = ("people", "rooms", "tracks", "listings", "messages")
_LIMIT: Final = Meta(ge=1, le=100, extra={"says": "Must be a whole number from 1 to 100."})

Text = Annotated[
    str, Meta(min_length=1, max_length=200, extra={"says": "Must have 1 to 200 characters.", "trim": True})
]
Kinds = Annotated[str, Meta(max_length=100)]


def _kinds(text: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds a list separated by commas names, in our order; all for none. Raises ValueError."""
    asked = {part.strip() for part in (text or "").split(",")} - {""}
    if not asked <= set(known):
        raise ValueError(f"Must be some of {', '.join(known)}, separated by commas.")
    return tuple(kind for kind in known if kind in asked) if asked else known


class SearchQuery(Struct, frozen=True, kw_only=True):
    """`q` may hold `"words in a row"`, `or` and `-not`. `limit`: of each kind."""

    q: Text
    type: Kinds | None = None
    limit: Annotated[int, _LIMIT] = 10

    def __repr__(self) -> str:
        return "SearchQuery()"

    def check(self) -> Any:
        try:
            _kinds(self.type, _KINDS)
        except ValueError as error:
            yield "type", str(error)


class BeginningQuery(Struct, frozen=True, kw_only=True):
    """`q` is what was typed so far."""

    q: Text
    type: Kinds | None = None
    limit: Annotated[int, Meta(ge=1, le=20, extra={"says": "Must be a whole number from 1 to 20."})] = 8

    def __repr__(self) -> str:
        return "BeginningQuery()"

    def check(self) -> Any:
        try:
            _kinds(self.type, suggestions.KINDS)
        except ValueError as error:
            yield "type", str(error)


class TrendingQuery(Struct, frozen=True):
    days: Annotated[int, Meta(ge=1, le=366, extra={"says": "Must be a whole number from 1 to 366."})] = 30
    limit: Annotated[int, _LIMIT] = 20


class Found(Struct, frozen=True, kw_only=True):
    """What matches best first, messages the newest first. Kinds that were not asked for are empty."""

    people: list[Profile]
    rooms: list[RoomFound]
    tracks: list[Track]
    listings: list[Brief]
    messages: list[RoomMessage | DirectMessage]


class Suggestions(Struct, frozen=True):
    suggestions: list[Suggestion]


class Tags(Struct, frozen=True):
    tags: list[TagCount]


@search.get("/search")
@perhaps_signed_in
@takes_query(SearchQuery)
@answers(Found)
async def search_everything(identity: Identity | None, query: SearchQuery) -> Response:
    """People, rooms, tracks and listings by words; and messages of rooms one belongs to, and of one's conversations."""
    asker = identity.user_id if identity is not None else None
    return ok(await services().db.read(_search, asker, query.q, _kinds(query.type, _KINDS), query.limit))


@search.get("/search/autocomplete")
@perhaps_signed_in
@takes_query(BeginningQuery)
@answers(Suggestions)
async def autocomplete(identity: Identity | None, query: BeginningQuery) -> Response:
    """Names of people, rooms, tracks and listings that have words which begin like those typed."""
    asker = identity.user_id if identity is not None else None
    kinds = _kinds(query.type, suggestions.KINDS)
    return ok(Suggestions(await services().db.read(_suggest, asker, query.q, kinds, query.limit)))


@search.get("/tags")
@perhaps_signed_in
@takes_query(TagsQuery)
@answers(Tags)
async def list_tags(identity: Identity | None, query: TagsQuery) -> Response:
    """The tags of the newest 3,000 tracks that begin so, the most frequent first."""
    beginning = track_rules.one_line(query.search or "").lower()
    return ok(Tags(await services().db.read(track_lists.tags, beginning, query.limit)))


@search.get("/tags/trending")
@perhaps_signed_in
@takes_query(TrendingQuery)
@answers(Tags)
async def trending_tags(identity: Identity | None, query: TrendingQuery) -> Response:
    """The tags of the tracks of the last days, those that are played and liked most first."""
    return ok(Tags(await services().db.read(track_lists.trending, query.days, query.limit)))


async def _search(conn: Any, asker: int | None, text: str, kinds: tuple[str, ...], limit: int) -> Found:
    reading = await search_words.read(conn, text)
    people, rooms, tracks, listings, messages = (kind in kinds for kind in _KINDS)
    said = []
    if messages and asker is not None:
        said = (await heard(conn, Where(asker), reading, limit)).messages
    return Found(
        people=await found_by.people(conn, asker, reading, limit) if people else [],
        rooms=await found_by.rooms(conn, asker, reading, limit) if rooms else [],
        tracks=await found_by.found_tracks(conn, asker, reading, limit) if tracks else [],
        listings=await found_by.listings(conn, asker, reading, limit) if listings else [],
        messages=[message_shown(message, place) for message, place in said],
    )


async def _suggest(
    conn: Any, asker: int | None, text: str, kinds: tuple[str, ...], limit: int
) -> list[Suggestion]:
    """In turn the likeliest of each kind."""
    reading = await search_words.read(conn, text)
    lists = [await suggestions.begun(conn, asker, kind, reading, limit) for kind in kinds]
    turns = [each[at] for at in range(limit) for each in lists if at < len(each)]
    return turns[:limit]
