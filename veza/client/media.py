"""Tracks and streams as this client reads them. Unknown fields are ignored, so the server may grow."""

from datetime import datetime

from veza.client.frames import Frame


class Person(Frame, frozen=True, kw_only=True):
    """Whose something is."""

    id: int
    username: str
    avatar: str | None = None


class Track(Frame, frozen=True, kw_only=True):
    """A track as its reader sees it.

    `status` is `processing`, `ready` or `failed`; then `failure` says why, to the owner. What processing finds out is
    None until it is ready. Durations are in milliseconds, sizes in bytes, bit rates in bits a second.
    """

    id: int
    name: str
    title: str
    status: str
    artist: str | None = None
    album: str | None = None
    genre: str | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    is_public: bool = True
    failure: str | None = None
    kind: str = "audio"
    content_type: str | None = None
    size: int = 0
    duration_ms: int | None = None
    codec: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    bit_rate: int | None = None
    width: int | None = None
    height: int | None = None
    lossless: bool | None = None
    loudness_lufs: float | None = None
    peak_dbtp: float | None = None
    has_cover: bool = False
    has_hls: bool = False
    play_count: int = 0
    like_count: int = 0
    comment_count: int = 0
    repost_count: int = 0
    liked: bool = False
    reposted: bool = False
    owner: Person | None = None
    created_at: datetime | None = None


class StreamUrls(Frame, frozen=True, kw_only=True):
    """Addresses that carry their own permission, until `expires_at`. They may be relative to the server's."""

    url: str
    hls_url: str | None = None
    expires_at: datetime | None = None
    content_type: str | None = None


class Peaks(Frame, frozen=True, kw_only=True):
    """A waveform: the lowest and the highest sample (−128 … 127) of each of `points` equal parts of a track."""

    points: int
    min: list[int]
    max: list[int]


class TrackComment(Frame, frozen=True, kw_only=True):
    """Something said about a place in a track."""

    id: int
    content: str
    at_ms: int
    user: Person | None = None
    created_at: datetime | None = None


class LiveStream(Frame, frozen=True, kw_only=True):
    """A stream as its reader sees it; `state` is `created`, `live`, `interrupted` or `ended`.

    `room` and `room_id` are its chat, `song` is what its source says plays, `listeners` those at this moment.
    """

    id: int
    slug: str
    title: str
    state: str = "created"
    description: str | None = None
    category: str = "other"
    visibility: str = "public"
    record: bool = False
    listeners: int = 0
    peak_listeners: int = 0
    song: str | None = None
    content_type: str | None = None
    room: str | None = None
    room_id: int | None = None
    owner: Person | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    created_at: datetime | None = None


class ListenLinks(Frame, frozen=True, kw_only=True):
    """Where to listen; those of private streams authorise themselves until `expires_at`."""

    progressive: str
    hls: str
    socket: str
    expires_at: datetime | None = None


class SourceSettings(Frame, frozen=True, kw_only=True):
    """What to enter in the program that broadcasts, its secret included; the `repr` shows nothing of that."""

    server: str
    port: int
    tls: bool
    mount: str
    user: str
    password: str
    icecast_url: str
    ffmpeg: str
    publish_socket: str
    rtmp_url: str | None = None
    listen: ListenLinks | None = None

    def __repr__(self) -> str:
        return f"SourceSettings(server={self.server!r}, port={self.port!r}, mount={self.mount!r})"


class StreamKey(Frame, frozen=True, kw_only=True):
    """A stream's key, shown this once. The `repr` does not."""

    stream_key: str
    source: SourceSettings | None = None

    def __repr__(self) -> str:
        return "StreamKey()"


class NewStream(LiveStream, frozen=True, kw_only=True):
    """A stream just made, with its key, which is shown this once. The `repr` does not."""

    stream_key: str
    source: SourceSettings | None = None

    def __repr__(self) -> str:
        return f"NewStream(id={self.id!r}, slug={self.slug!r})"
