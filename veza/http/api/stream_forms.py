"""What the views of `/streams` take and give, as types; the OpenAPI document is made from them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Final, Literal

import regex
from msgspec import UNSET, Meta, Struct, UnsetType

from veza.actors.rules import is_line
from veza.db.stream_lists import Curve, RecordingRow
from veza.db.streams import Stream, room_name
from veza.http.api.addresses import Site
from veza.http.api.chat import Id
from veza.http.api.models import Paging, SearchText, plain

Category = Literal["music", "talk", "podcast", "gaming", "news", "education", "entertainment", "other"]
Visibility = Literal["public", "unlisted", "private"]
State = Literal["created", "live", "interrupted", "ended"]

_CATEGORY_SAYS: Final = "Must be one of music, talk, podcast, gaming, news, education, entertainment, other."
_TITLE_SAYS: Final = "Must be one line of 1 to 200 characters."

Title = Annotated[str, Meta(min_length=1, max_length=200, extra={"says": _TITLE_SAYS, "trim": True})]
Description = Annotated[
    str, Meta(max_length=5000, extra={"says": "Must have at most 5000 characters.", "trim": True})
]
GivenCategory = Annotated[Category, Meta(extra={"says": _CATEGORY_SAYS})]
GivenVisibility = Annotated[Visibility, Meta(extra={"says": "Must be public, unlisted or private."})]


class NewStream(Struct, frozen=True):
    """`record` keeps what is broadcast: it becomes a track when the stream ends."""

    title: Title
    category: GivenCategory = "music"
    description: Description | None = None
    visibility: GivenVisibility = "public"
    record: bool = False

    def check(self) -> Iterator[tuple[str, str]]:
        yield from _texts(self.title, self.description)


class StreamChange(Struct, frozen=True):
    """What is left out stays; null takes the description away."""

    title: Title | UnsetType = UNSET
    category: GivenCategory | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    visibility: GivenVisibility | UnsetType = UNSET
    record: bool | UnsetType = UNSET

    def check(self) -> Iterator[tuple[str, str]]:
        yield from _texts(self.title, self.description)


def _texts(title: str | UnsetType, description: str | UnsetType | None) -> Iterator[tuple[str, str]]:
    # A title of nothing but invisible characters is none.
    if isinstance(title, str) and not (
        is_line(title, 200) and regex.search(r"[\p{L}\p{N}\p{P}\p{S}]", title)
    ):
        yield "title", _TITLE_SAYS
    yield from plain("description", description)


class StreamsQuery(Paging, frozen=True, kw_only=True):
    """`live=true` leaves those on air, `live=false` the others; `owner` is a person's id."""

    category: GivenCategory | None = None
    search: SearchText | None = None
    live: bool | None = None
    owner: Id | None = None


class MineQuery(Paging, frozen=True, kw_only=True):
    """A page of one's own streams."""


class ListenQuery(Struct, frozen=True):
    """`absolute=true` for whole addresses instead of paths of this server."""

    absolute: bool = False


class Deletion(Struct, frozen=True):
    """`discard=true` also throws away recordings that could not become tracks yet."""

    discard: bool = False


# Answers ---------------------------------------------------------------------------------------------


class StreamOwner(Struct, frozen=True):
    id: int
    username: str
    avatar: str | None


class StreamShown(Struct, frozen=True, kw_only=True):
    """A stream as everybody sees it who may. `listeners` are those at this moment, `song` what its source says plays.

    `room_id` is its chat: public streams have a public room; into that of an unlisted one `POST …/chat` leads.
    """

    id: int
    slug: str
    title: str
    description: str | None
    category: Category
    visibility: Visibility
    record: bool
    state: State
    owner: StreamOwner
    room: str
    room_id: int | None
    listeners: int
    peak_listeners: int
    song: str | None
    content_type: str | None
    started_at: datetime | None
    ended_at: datetime | None
    created_at: datetime
    updated_at: datetime


class StreamPageShown(Struct, frozen=True):
    streams: list[StreamShown]
    total: int


class ListenLinks(Struct, frozen=True):
    """Absolute addresses for players and web pages."""

    progressive: str
    hls: str
    socket: str


class SourceSettings(Struct, frozen=True):
    """What to paste into the program that broadcasts. Whoever has it can broadcast: keep it to yourself.

    `server`, `port`, `mount`, `user` and `password` are for Icecast sources (butt, Mixxx, Liquidsoap…), `tls` says
    whether they must use it; `icecast_url` and `ffmpeg` are for FFmpeg; `publish_socket` is for browsers, which add
    their access token. `rtmp_url` is the server for OBS, whose stream key is `password`; null where RTMP is off.
    """

    server: str
    port: int
    tls: bool
    mount: str
    user: str
    password: str
    icecast_url: str
    ffmpeg: str
    publish_socket: str
    rtmp_url: str | None
    listen: ListenLinks


class StreamKeyShown(Struct, frozen=True):
    """The key, shown this once; an earlier one has stopped working."""

    stream_key: str
    source: SourceSettings


class StreamMade(StreamShown, frozen=True, kw_only=True):
    """The new stream, with its key, which is shown this once."""

    stream_key: str
    source: SourceSettings


class StreamStats(Struct, frozen=True):
    """`listened_s`: seconds of all listeners together; `listener_count`: how many came; `bytes_in`: the source's."""

    state: State
    listeners: int
    peak_listeners: int
    listener_count: int
    listened_s: int
    bytes_in: int
    started_at: datetime | None
    ended_at: datetime | None
    curve: Curve
    recordings: list[RecordingRow]


class Listening(Struct, frozen=True):
    """Where to listen. Those of private streams authorise themselves until `expires_at`; the socket of one wants an
    access token."""

    progressive: str
    hls: str
    socket: str
    expires_at: datetime | None


def source_settings(site: Site, slug: str, key: str, rtmp_port: int = 0) -> SourceSettings:
    """Everything to paste, for this key. `rtmp_port`: 0 where RTMP is off."""
    mount = f"{site.prefix}/live/{slug}"
    icecast = f"icecast://source:{key}@{site.authority}{mount}"
    tls = "-tls 1 " if site.tls else ""
    return SourceSettings(
        server=site.host,
        port=site.port,
        tls=site.tls,
        mount=mount,
        user="source",
        password=key,
        icecast_url=icecast,
        ffmpeg=f"ffmpeg -re -i INPUT -vn -c:a libmp3lame -b:a 192k -content_type audio/mpeg -f mp3 {tls}{icecast}",
        publish_socket=site.url(f"/ws/stream/{slug}/publish", "ws"),
        rtmp_url=f"rtmp://{site.authority.rpartition(':')[0]}:{rtmp_port}/live" if rtmp_port else None,
        listen=ListenLinks(
            progressive=site.url(f"/live/{slug}"),
            hls=site.url(f"/live/{slug}/index.m3u8"),
            socket=site.url(f"/ws/stream/{slug}", "ws"),
        ),
    )


def shown_fields(stream: Stream, state: str, listeners: int, song: str | None) -> dict[str, object]:
    """The fields of StreamShown, for it and its subclass."""
    return {
        "id": stream.id,
        "slug": stream.slug,
        "title": stream.title,
        "description": stream.description,
        "category": stream.category,
        "visibility": stream.visibility,
        "record": stream.record,
        "state": state,
        "owner": StreamOwner(stream.owner_id, stream.username, stream.avatar),
        "room": room_name(stream.slug),
        "room_id": stream.room_id,
        "listeners": listeners,
        "peak_listeners": max(stream.peak_listeners, listeners),
        "song": song,
        "content_type": stream.content_type,
        "started_at": stream.started_at,
        "ended_at": stream.ended_at,
        "created_at": stream.created_at,
        "updated_at": stream.updated_at,
    }
