"""All that is kept about a person, for himself: page by page, each row as the JSON it is given out as.

Nothing secret is in it (password, tokens, keys, the second factor's secret), and of others only what they show
everybody, id and name; what they wrote is theirs, in letters and with offers. A page is one query of its own: who
writes meanwhile is not held up, and nothing is held between two.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

PAGE: Final = 500

Key = tuple[Any, ...]


class Section(msgspec.Struct, frozen=True):
    """One file of the export.

    Attributes:
        name: without extension; one JSON value a line.
        columns: what is told of each row.
        source: FROM and WHERE; `$1` is the person.
        key: by which pages go on, unique; an index gives this order, or a person has few.
        rows: of a page.
    """

    name: str
    columns: str
    source: str
    key: tuple[str, ...]
    rows: int = PAGE

    def query(self, first: bool) -> str:
        keys = ", ".join(self.key)
        marks = ", ".join(f"${n + 3}" for n in range(len(self.key)))
        onward = "" if first else f" AND ({keys}) > ({marks})"
        return (
            f"SELECT row_to_json((SELECT d FROM (SELECT {self.columns}) AS d))::text, {keys}"
            f" FROM {self.source}{onward} ORDER BY {keys} LIMIT $2"
        )


class Page(msgspec.Struct, frozen=True):
    """`key` None: it was the last one."""

    lines: list[str]
    key: Key | None


class TrackFile(msgspec.Struct, frozen=True):
    id: int
    name: str
    extension: str
    title: str


class ListingImage(msgspec.Struct, frozen=True):
    listing_id: int
    n: int
    hash: str


def _person(table: str, mine: str, theirs: str, name: str) -> Section:
    """People one has a tie to."""
    return Section(
        name,
        "u.id, u.username, t.created_at AS since",
        f"{table} t JOIN users u ON u.id = t.{theirs} WHERE t.{mine} = $1",
        (f"t.{theirs}",),
    )


def _track(table: str, name: str) -> Section:
    """Tracks one has a tie to. The title of one that is hidden by now is its owner's business."""
    return Section(
        name,
        "l.track_id, CASE WHEN t.owner_id = $1 OR t.is_public THEN t.title END AS title, l.created_at",
        f"{table} l JOIN tracks t ON t.id = l.track_id WHERE l.user_id = $1",
        ("l.created_at", "l.track_id"),
    )


SECTIONS: Final = (
    Section(
        "sessions",
        "s.id, s.user_agent, s.ip, s.created_at, s.last_used_at, s.expires_at, s.revoked_at, s.revoked_reason",
        "sessions s WHERE s.user_id = $1",
        ("s.created_at", "s.id"),
    ),
    Section(
        "preferences",
        "p.kind, p.socket, p.email",
        "notification_preferences p WHERE p.user_id = $1",
        ("p.kind",),
    ),
    _person("follows", "follower_id", "followed_id", "following"),
    _person("follows", "followed_id", "follower_id", "followers"),
    _person("blocks", "blocker_id", "blocked_id", "blocks"),
    _person("mutes", "muter_id", "muted_id", "mutes"),
    Section(
        "rooms",
        "r.id, r.name, r.kind, r.description, m.role, r.owner_id = $1 AS own, m.joined_at, m.last_read_seq",
        "room_members m JOIN rooms r ON r.id = m.room_id WHERE m.user_id = $1 AND r.kind <> 'direct'",
        ("m.room_id",),
    ),
    Section(
        "conversations",
        "r.id, u.id AS user_id, u.username, r.created_at, r.last_message_at",
        "room_members m JOIN rooms r ON r.id = m.room_id JOIN users u ON u.id = r.user_low + r.user_high - $1"
        " WHERE m.user_id = $1 AND r.kind = 'direct'",
        ("m.room_id",),
    ),
    Section(
        "messages",
        "m.id, m.room_id, m.seq, m.content, m.message_type, m.media_url, m.media_type, m.duration, m.reply_to,"
        " m.created_at, m.edited_at",
        "messages m WHERE m.user_id = $1 AND m.deleted_at IS NULL",
        ("m.room_id", "m.nonce"),
    ),
    Section(
        "reactions",
        "x.message_id, x.emoji, x.created_at",
        "reactions x WHERE x.user_id = $1",
        ("x.message_id", "x.emoji"),
        10 * PAGE,  # small ones, sorted anew for every page
    ),
    Section(
        "tracks",
        "t.id, t.title, t.artist, t.album, t.genre, t.description, t.tags, t.is_public, t.status, t.kind, t.filename,"
        " t.extension, t.content_type, t.size, t.duration_ms, t.play_count, t.like_count, t.comment_count,"
        " t.repost_count, t.stream_id, t.created_at, t.updated_at",
        "tracks t WHERE t.owner_id = $1",
        ("t.id",),
    ),
    Section(
        "playlists",
        "p.id, p.title, p.description, p.is_public, p.created_at, p.updated_at,"
        " (SELECT coalesce(json_agg(i.track_id ORDER BY i.position), '[]') FROM playlist_items i"
        "  WHERE i.playlist_id = p.id) AS track_ids",
        "playlists p WHERE p.owner_id = $1",
        ("p.id",),
    ),
    _track("track_likes", "likes"),
    _track("track_reposts", "reposts"),
    Section(
        "comments",
        "c.id, c.track_id, c.content, c.at_ms, c.created_at",
        "track_comments c WHERE c.user_id = $1",
        ("c.id",),
    ),
    Section(
        "plays",
        "p.track_id, p.day, p.listened_ms, p.completed",
        "track_plays p WHERE p.user_id = $1",
        ("p.track_id", "p.day", "p.listener"),
        10 * PAGE,
    ),
    Section(
        "streams",
        "s.id, s.slug, s.title, s.description, s.category, s.visibility, s.record, s.state, s.room_id, s.started_at,"
        " s.ended_at, s.peak_listeners, s.listener_count, s.listened_s, s.created_at",
        "streams s WHERE s.owner_id = $1",
        ("s.id",),
    ),
    Section(
        "listings",
        "l.id, l.title, l.description, l.state, c.slug AS category, l.price_cents, l.currency, l.exchange_for,"
        " l.location, l.status, l.created_at, l.updated_at, l.sold_at",
        "listings l JOIN categories c ON c.id = l.category_id WHERE l.owner_id = $1",
        ("l.id",),
    ),
    Section(
        "favorites",
        "f.listing_id, l.title, f.created_at",
        "listing_favorites f JOIN listings l ON l.id = f.listing_id WHERE f.user_id = $1",
        ("f.created_at", "f.listing_id"),
    ),
    Section(
        "offers",
        "o.id, o.listing_id, l.title AS listing,"
        " CASE WHEN o.buyer_id = $1 THEN 'sent' ELSE 'received' END AS direction,"
        " u.id AS user_id, u.username, o.amount_cents, o.currency, o.proposed_listing_id,"
        " CASE WHEN o.buyer_id = $1 THEN o.message END AS message, o.status, o.counter_amount_cents,"
        " o.counter_proposed_listing_id, CASE WHEN o.seller_id = $1 THEN o.counter_message END AS counter_message,"
        " o.created_at, o.updated_at, o.expires_at, o.decided_at",
        "offers o JOIN listings l ON l.id = o.listing_id"
        " JOIN users u ON u.id = o.buyer_id + o.seller_id - $1 WHERE (o.buyer_id = $1 OR o.seller_id = $1)",
        ("o.id",),
    ),
    Section(
        "notifications",
        "n.id, n.kind, u.username, n.data, n.created_at, n.read_at",
        "notifications n LEFT JOIN users u ON u.id = n.actor_id WHERE n.user_id = $1",
        ("n.id",),
    ),
    Section(
        "reports",
        "p.id, p.target_type, p.target_id, p.category, p.reason, p.status, p.created_at, p.handled_at",
        "reports p WHERE p.reporter_id = $1",
        ("p.target_type", "p.target_id"),
    ),
    Section(
        "sanctions",
        "s.id, s.kind, s.until, s.reason, s.created_at, s.lifted_at",
        "sanctions s WHERE s.user_id = $1",
        ("s.id",),
    ),
    Section(
        "room_sanctions",
        "s.room_id, r.name AS room, s.kind, s.until, s.reason, s.created_at",
        "room_sanctions s JOIN rooms r ON r.id = s.room_id WHERE s.user_id = $1",
        ("s.room_id", "s.kind"),
    ),
    Section(
        "uploads",
        "x.id, x.length, x.metadata, x.created_at, x.expires_at",
        "uploads x WHERE x.user_id = $1",
        ("x.id",),
    ),
)

_PROFILE: Final = """
    SELECT row_to_json((SELECT d FROM (SELECT u.id, u.username, u.email, u.first_name, u.last_name, u.bio, u.avatar,
            u.role, u.is_verified, u.presence, u.presence_text, u.last_seen_at, u.last_login_at, u.banned_until,
            u.muted_until, u.created_at, u.updated_at,
            EXISTS (SELECT FROM two_factor f WHERE f.user_id = u.id AND f.enabled_at IS NOT NULL)
                AS second_factor) AS d))::text
    FROM users u WHERE u.id = $1 AND u.deleted_at IS NULL
"""


async def profile(conn: Any, user_id: int) -> str | None:
    """The account itself, as JSON; None where it is gone."""
    found: str | None = await conn.fetchval(_PROFILE, user_id)
    return found


async def page(conn: Any, section: Section, user_id: int, after: Key | None) -> Page:
    """The rows behind the key `after` (None: from the beginning), as lines of JSON."""
    rows = await conn.fetch(section.query(after is None), user_id, section.rows, *(after or ()))
    return Page([row[0] for row in rows], tuple(rows[-1][1:]) if len(rows) == section.rows else None)


async def track_files(conn: Any, user_id: int, after: int) -> list[TrackFile]:
    """Whose original files are there, by id from after `after`."""
    rows = await conn.fetch(
        "SELECT id, name, extension, title FROM tracks WHERE owner_id = $1 AND id > $2 ORDER BY id LIMIT $3",
        user_id,
        after,
        PAGE,
    )
    return [TrackFile(*row) for row in rows]


async def images(conn: Any, user_id: int, after: int) -> list[ListingImage]:
    """The images of his listings, of those after the id `after`; those of one listing come together."""
    rows = await conn.fetch(
        """SELECT i.listing_id, i.n, i.hash FROM listing_images i
           WHERE i.listing_id IN (SELECT id FROM listings WHERE owner_id = $1 AND id > $2 ORDER BY id LIMIT 50)
           ORDER BY i.listing_id, i.n""",
        user_id,
        after,
    )
    return [ListingImage(*row) for row in rows]


async def last_listing(conn: Any, user_id: int, after: int) -> int | None:
    """Up to which listing `images` looks; None where there are no further ones."""
    found: int | None = await conn.fetchval(
        "SELECT max(id) FROM (SELECT id FROM listings WHERE owner_id = $1 AND id > $2 ORDER BY id LIMIT 50) AS next",
        user_id,
        after,
    )
    return found
