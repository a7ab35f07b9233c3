"""One search for everything: people, rooms, tracks, listings, and what was said."""

from collections.abc import Iterable

import msgspec

from veza.client.frames import DirectMessage, Frame, RoomMessage, decode_message
from veza.client.listings import BriefListing
from veza.client.media import Track
from veza.client.models import Room, User
from veza.client.transport import Transport, read_as


class Suggestion(Frame, frozen=True, kw_only=True):
    """How what one is typing could end; `type` and `id` say what it is."""

    type: str
    text: str
    id: int | str | None = None
    detail: str | None = None


class Found(Frame, frozen=True, kw_only=True):
    """What was found, the best first; messages only of rooms one may read."""

    people: tuple[User, ...] = ()
    rooms: tuple[Room, ...] = ()
    tracks: tuple[Track, ...] = ()
    listings: tuple[BriefListing, ...] = ()
    messages: tuple[RoomMessage | DirectMessage, ...] = ()


class Tag(Frame, frozen=True, kw_only=True):
    """A word tracks are tagged with, and how many are."""

    tag: str
    count: int = 0


class _Tags(msgspec.Struct):
    tags: tuple[Tag, ...] = ()


class _Found(msgspec.Struct):
    people: tuple[User, ...] = ()
    rooms: tuple[Room, ...] = ()
    tracks: tuple[Track, ...] = ()
    listings: tuple[BriefListing, ...] = ()
    messages: tuple[msgspec.Raw, ...] = ()


class _Suggestions(msgspec.Struct):
    suggestions: tuple[Suggestion, ...] = ()


class Finding(Transport):
    """What `VezaClient` offers of searching."""

    async def search(self, query: str, *, types: Iterable[str] = (), limit: int = 10) -> Found:
        """Look everywhere, or only for some `types`: people, rooms, tracks, listings, messages; `limit` of each."""
        params = {"q": query, "type": ",".join(types) or None, "limit": limit}
        found = await self.get("search", _Found, **params)
        messages = tuple(decode_message(raw) for raw in found.messages)
        return Found(
            people=found.people,
            rooms=found.rooms,
            tracks=found.tracks,
            listings=found.listings,
            messages=messages,
        )

    async def suggest(
        self, query: str, *, types: Iterable[str] = (), limit: int = 8
    ) -> tuple[Suggestion, ...]:
        """What one may be about to type."""
        params = {"q": query, "type": ",".join(types) or None, "limit": limit}
        return read_as(
            _Suggestions, await self.request("GET", "search/autocomplete", params=params)
        ).suggestions

    async def tags(self, beginning: str | None = None, *, limit: int = 20) -> tuple[Tag, ...]:
        """What tracks are tagged with, the most frequent first."""
        return (await self.get("tags", _Tags, search=beginning, limit=limit)).tags

    async def trending_tags(self, *, days: int = 30, limit: int = 20) -> tuple[Tag, ...]:
        """Those of tracks of the last days, what is played and liked most first."""
        return (await self.get("tags/trending", _Tags, days=days, limit=limit)).tags
