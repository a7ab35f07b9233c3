"""Searching what was said: millions of messages, of which a person may read some.

A common word is in hundreds of thousands of messages, most of them in rooms one has no business in. So nobody looks at
all of them: messages are gone through from the newest on, 65,536 ids at a time (the index knows these stretches), until
the page is full. Where a word is rare, the rest is looked at in one go. And a search ends after some thousands of
messages that hold the words but are in other rooms: the page says up to where it has looked, and the next one goes on
there. So every search costs about the same, and none leaves anything out.

Whoever is in few small rooms, or names one, has the index look into these rooms alone.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from veza.db.messages import READABLE, Message, Place, some
from veza.db.search_words import Reading

_STRETCH: Final = 16  # bits of an id within its stretch; the index says the same
_LOOKED_AT: Final = 2_000  # messages with the words, in one search
_CHECKED: Final = 2_500  # messages that are read for whether words stand in a row, which no index knows
# As `stems`, but that the last word in English is not followed by the first in French.
_IN_ORDER: Final = """(to_tsvector('search_english', m.content) || '~:100'::tsvector
    || to_tsvector('search_french', m.content))"""
_SCANS: Final = 24  # looks into the index for one step: rooms, times stretches
_STRETCHES: Final = 16
_PART: Final = (
    20  # of all messages: whose rooms hold less than one of so many has the index look into them alone
)


class Heard(msgspec.Struct, frozen=True):
    """Messages, the newest first. `before`: the next page goes on below this id; None: there is no more."""

    messages: list[tuple[Message, Place]]
    before: int | None


class Where(msgspec.Struct, frozen=True):
    """What `reader` searches. `public`: public rooms too, not only those he belongs to. `before`: below this id."""

    reader: int
    public: bool = False
    room_id: int | None = None
    author_id: int | None = None
    before: int | None = None


class _Rooms(msgspec.Struct, frozen=True):
    """`own`: rooms of the reader. `banned`: rooms he is banned from. `few`: the index looks into `own` alone."""

    own: list[int]
    banned: list[int]
    few: bool
    said: int  # in `own`, ever


class _Query(msgspec.Struct, frozen=True):
    """`words`: what the index is asked. `exact`: what is to be found; another only where words stand in a row."""

    words: str
    exact: str


async def heard(conn: Any, where: Where, reading: Reading, limit: int) -> Heard:
    """Messages that hold the words, out of what may be read."""
    if reading.said is None or reading.loose is None:
        return Heard([], None)
    newest = await conn.fetchval("SELECT max(id) FROM messages")
    rooms = await _rooms(conn, where, newest or 0)
    if rooms is None or not (rooms.own or where.public):
        return Heard([], None)
    top = newest
    if where.before is not None and top is not None:
        top = min(top, where.before - 1)
    if top is None or top < 1:
        return Heard([], None)
    ids, reached = await _walk(conn, where, rooms, _Query(reading.loose, reading.said), top, limit + 1)
    page = ids[:limit]
    before = page[-1] if len(ids) > limit else reached
    return Heard(await some(conn, page), before)


async def _rooms(conn: Any, where: Where, newest: int) -> _Rooms | None:
    """None: the room that is named is not the reader's to read."""
    if where.room_id is not None:
        said = await conn.fetchval(
            f"SELECT r.last_seq FROM rooms r WHERE r.id = $2 AND {READABLE}", where.reader, where.room_id
        )
        return None if said is None else _Rooms([where.room_id], [], True, said)
    row = await conn.fetchrow(
        """WITH banned AS MATERIALIZED (
               SELECT room_id FROM room_sanctions
               WHERE user_id = $1 AND kind = 'ban' AND (until IS NULL OR until > now())
           )
           SELECT coalesce(array_agg(r.id), '{}'), coalesce(sum(r.last_seq), 0)::bigint,
                  ARRAY(SELECT room_id FROM banned)
           FROM room_members m JOIN rooms r ON r.id = m.room_id
           WHERE m.user_id = $1 AND r.last_seq > 0 AND m.room_id NOT IN (SELECT room_id FROM banned)""",
        where.reader,
    )
    # Where the rooms are a good part of everything, words are soon found in them anyway.
    few = not where.public and len(row[0]) <= _SCANS and row[1] * _PART <= newest
    return _Rooms(row[0], row[2], few, row[1])


async def _walk(
    conn: Any, where: Where, rooms: _Rooms, query: _Query, top: int, wanted: int
) -> tuple[list[int], int | None]:
    """Ids from `top` down, and up to where was looked: None for down to the first."""
    most, unchecked = _LOOKED_AT, _CHECKED
    stretch = _stretch_of(top)
    ids: list[int] = []
    looked_at, seen, step = 0, 0, 1
    scans = max(1, _SCANS // len(rooms.own)) if rooms.few else _STRETCHES
    whole = rooms.few and rooms.said <= most  # whatever there is is little enough
    while not whole:
        step = min(step, stretch + 1, _STRETCHES, scans)
        span = list(range(stretch, stretch - step, -1))
        count, found, checked, cut = await _look(
            conn, where, rooms, query, top, span, wanted - len(ids), unchecked
        )
        ids += found
        unchecked -= checked
        if cut is not None:
            return ids, cut
        looked_at, seen, stretch = looked_at + count, seen + step, stretch - step
        if stretch < 0:
            return ids, None
        top = _last_of(stretch)
        if len(ids) >= wanted or looked_at >= most:
            return ids, top + 1
        left, dense = stretch + 1, looked_at / seen
        soon = (wanted - len(ids)) * seen <= 8 * len(ids)  # some stretches more, and the page is full
        if looked_at + dense * left <= most and not soon:
            # The rest seems little enough to be looked at in one go. But what was said long ago may be another thing
            # than what was said lately: so here and there it is tried.
            probes = sorted({stretch * part // 4 for part in (0, 1, 2, 3)})[:scans]
            tried = (await _look(conn, where, rooms, query, top, probes, 0, 0))[0]
            dense = max(dense, tried / len(probes))
            whole = looked_at + dense * left <= most
        # As many as will, by what was seen so far, about use up what may still be looked at.
        step = max(1, min(2 * step, int((most - looked_at) / max(dense, 1))))
    _, found, _, cut = await _look(conn, where, rooms, query, top, None, wanted - len(ids), unchecked)
    return ids + found, cut


def _stretch_of(id: int) -> int:
    return id >> _STRETCH


def _last_of(stretch: int) -> int:
    return ((stretch + 1) << _STRETCH) - 1


async def _look(
    conn: Any,
    where: Where,
    rooms: _Rooms,
    query: _Query,
    top: int,
    span: list[int] | None,
    wanted: int,
    unchecked: int,
) -> tuple[int, list[int], int, int | None]:
    """How many messages of these stretches (None: of all) up to `top` hold the words, and the newest that may be read.

    Where words must stand in a row: of the newest `unchecked` that may be read; how many were, and the last of them if
    there may be more. Nothing but the index of words can serve: the other conditions are written so that no other index
    fits them.
    """
    args: list[Any] = [query.words, top, wanted, rooms.own]
    inside = "(m.id + 0) <= $2"
    if rooms.few:
        inside += " AND (m.room_id + 0) = ANY ($4::bigint[])"
        readable = "true"
    else:
        readable = "c.room_id = ANY ($4::bigint[])"
        if where.public:
            args.append(rooms.banned)
            readable = f"""({readable} OR (SELECT r.kind = 'public' FROM rooms r WHERE r.id = c.room_id))
                AND c.room_id <> ALL ($5::bigint[])"""
    if span is not None:
        args.append(span)
        inside += f" AND (m.id >> {_STRETCH}) = ANY (${len(args)}::bigint[])"
    if where.author_id is not None:
        args.append(where.author_id)
        readable += f" AND c.user_id = ${len(args)}"
    candidates = f"""candidates AS MATERIALIZED (
            SELECT m.id, m.room_id, m.user_id FROM messages m
            WHERE m.content IS NOT NULL AND stems(m.content) @@ $1::tsquery AND {inside}
        )"""
    newest = f"""SELECT c.id FROM (SELECT * FROM candidates ORDER BY id DESC OFFSET 0) AS c
                 WHERE {readable} AND $4::bigint[] IS NOT NULL"""
    if query.words == query.exact:
        row = await conn.fetchrow(
            f"WITH {candidates} SELECT (SELECT count(*) FROM candidates), ARRAY({newest} LIMIT $3)", *args
        )
        return row[0], row[1], 0, None
    args += query.exact, unchecked
    row = await conn.fetchrow(
        f"""WITH {candidates}, checked AS MATERIALIZED ({newest} LIMIT ${len(args)})
            SELECT (SELECT count(*) FROM candidates),
                   ARRAY(SELECT c.id FROM checked c JOIN messages m ON m.id = c.id
                         WHERE coalesce({_IN_ORDER} @@ ${len(args) - 1}::tsquery, false)
                         ORDER BY c.id DESC LIMIT $3),
                   (SELECT count(*) FROM checked), (SELECT min(id) FROM checked)""",
        *args,
    )
    return row[0], row[1], row[2], row[3] if row[2] >= unchecked else None


async def work_in(conn: Any) -> None:
    """Work what was posted into the index. Quick where nothing was."""
    await conn.execute("SELECT gin_clean_pending_list('messages_words')")
