"""`/feed`: what is new from those one follows."""

from __future__ import annotations

from msgspec import Struct, structs
from quart import Blueprint, Response

from veza.actors.registry import Identity
from veza.db import feed as feed_db
from veza.db.feed import Entry
from veza.http.api.access import signed_in
from veza.http.api.envelope import ok
from veza.http.api.intake import takes_query
from veza.http.api.openapi import answers
from veza.http.api.pages import KeyPaging, key_meta, wrong_cursor
from veza.http.api.services import services

feed = Blueprint("feed", __name__, url_prefix="/feed")


class FeedShown(Struct, frozen=True):
    entries: list[Entry]


@feed.get("")
@signed_in
@takes_query(KeyPaging)
@answers(FeedShown, listing=True)
async def news(identity: Identity, query: KeyPaging) -> Response:
    """New tracks and reposts of those one follows, and their broadcasts that are on air; the newest first."""
    try:
        after = None if query.cursor is None else feed_db.Place.read(query.cursor)
    except ValueError:
        raise wrong_cursor() from None
    page = await services().db.read(feed_db.feed, identity.user_id, after, query.limit)
    return ok(FeedShown([_as_it_is(entry) for entry in page.entries]), meta=key_meta(query.limit, page.next))


def _as_it_is(entry: Entry) -> Entry:
    """A broadcast that runs here knows how many listen."""
    streams = services().streams
    if entry.stream is None or streams is None or (live := streams.glance(entry.stream.id)) is None:
        return entry
    stream = structs.replace(entry.stream, listeners=live.listeners, song=live.song)
    return structs.replace(entry, stream=stream)
