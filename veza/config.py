"""The settings: one typed, frozen object, read once from the environment.

Nothing else in the program looks at `os.environ`. A wrong value stops the start with one line that names the variable,
and no line ever shows a secret. Durations are seconds (float), sizes bytes (int).

A field is its own documentation: the text beside its type is what `docs/settings.md` prints, and the variable is the
field's name in capitals (`data` is `VEZA_DATA`).
"""

import enum
import functools
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args, get_origin
from urllib.parse import quote

import msgspec

from veza import grammar
from veza.errors import Problem

KiB = 1024
MiB = 1024 * KiB

SHORTEST_SECRET: Final = 32  # bytes; what HS256 asks for (RFC 7518 §3.2)
KNOWN_SECRETS: Final = frozenset(
    {"your-super-secret-key", "changeme", "secret"}
)  # a placeholder is no secret


class SettingError(Problem):
    """A setting that cannot be; the text is one line for people, naming the variable."""

    exit_code = 2

    def __init__(self, variable: str, sentence: str) -> None:
        super().__init__(f"{variable} {sentence}")
        self.variable = variable


class Kind(enum.Enum):
    """How a setting is written, where its Python type does not say."""

    DURATION = "duration"
    SIZE = "size"
    COUNT = "count"
    PORT = "port"
    RATE = "number"
    SECRET = "secret"
    URL = "base URL"
    ORIGINS = "list of origins"
    NETWORKS = "list of addresses or networks"
    DATABASE = "database URL"


Duration = Annotated[float, Kind.DURATION]
Size = Annotated[int, Kind.SIZE]
Count = Annotated[int, Kind.COUNT]
Port = Annotated[int, Kind.PORT]
Rate = Annotated[float, Kind.RATE]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting of the program, with its default. Its `repr` leaves secrets out."""

    # Where it is
    host: Annotated[str, "address to listen on; `0.0.0.0` or `::` for all"] = "127.0.0.1"
    port: Annotated[Port, "the one port everything is served on; `0` takes any free one"] = 8080
    public_url: Annotated[
        str | None, Kind.URL, "where people reach the server: base of absolute links, and its own origin"
    ] = None
    environment: Annotated[
        Literal["development", "production"],
        "`production` refuses weak secrets and closes development's doors",
    ] = "development"
    data: Annotated[Path, "data directory: embedded database, generated secrets, outbox, media"] = Path(
        "veza-data"
    )
    log_format: Annotated[Literal["console", "json"], "lines for people or for machines"] = "console"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], "what is worth a line"] = "info"

    # Database
    database_url: Annotated[
        str | None,
        Kind.DATABASE,
        "PostgreSQL to use; without it (and without `DB_*`) the server runs its own",
    ] = None
    db_pool_size: Annotated[Count, "connections kept to the database"] = 8
    db_acquire_timeout: Annotated[Duration, "longest wait for a free connection, then 503"] = 5.0
    db_statement_timeout: Annotated[Duration, "longest time one statement may run"] = 10.0

    # Secrets and tokens
    jwt_secret: Annotated[
        str, Kind.SECRET, "signs access tokens; ≥ 32 bytes in production, generated once in development"
    ] = ""
    jwt_expiration: Annotated[Duration, "how long an access token is good"] = 24 * 3600.0
    jwt_refresh_expiration: Annotated[Duration, "how long a refresh token is good"] = 168 * 3600.0
    refresh_grace: Annotated[
        Duration, "how long a rotated refresh token stays good (races, lost replies)"
    ] = 60.0
    secret_key: Annotated[
        str, Kind.SECRET, "signs URLs; ≥ 32 bytes in production, generated once in development"
    ] = ""
    argon2_memory_kib: Annotated[Count, "argon2id memory in KiB"] = 19 * 1024
    argon2_time_cost: Annotated[Count, "argon2id passes"] = 2
    argon2_waiting: Annotated[Count, "password checks that may wait for a thread, then 503"] = 50

    # Web
    allowed_origins: Annotated[
        tuple[str, ...],
        Kind.ORIGINS,
        "other sites whose pages may call the server, `https://app.example` or `http://localhost:*`; "
        "development adds any port of localhost",
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...], Kind.NETWORKS, "proxies whose `X-Forwarded-*` count, such as `10.0.0.0/8, ::1`"
    ] = ()
    tls_cert: Annotated[Path | None, "certificate chain (PEM); with `TLS_KEY` the port speaks TLS"] = None
    tls_key: Annotated[Path | None, "private key (PEM)"] = None

    # Mail
    smtp_host: Annotated[
        str | None, "mail server; without it mails are written to `outbox/` in the data directory"
    ] = None
    smtp_port: Annotated[Port, "its port"] = 587
    smtp_username: Annotated[str | None, "its account"] = None
    smtp_password: Annotated[str | None, Kind.SECRET, "its password"] = None
    smtp_from: Annotated[str | None, "sender of our mails"] = None
    smtp_tls: Annotated[Literal["starttls", "tls", "none"], "how the line to it is encrypted"] = "starttls"

    # The door
    head_limit: Annotated[Size, "longest request head, then 431"] = 16 * KiB
    head_timeout: Annotated[Duration, "time for a request head to be complete, then 408"] = 10.0
    body_limit: Annotated[Size, "longest request body of the REST API, then 413"] = 1 * MiB
    body_timeout: Annotated[Duration, "time without a byte of a request body, then 408"] = 30.0
    send_timeout: Annotated[Duration, "time without progress of an answer, then reset"] = 60.0
    shutdown_send_timeout: Annotated[Duration, "the same while shutting down"] = 5.0
    shutdown_timeout: Annotated[Duration, "time for an orderly end after SIGTERM"] = 9.0
    keep_alive_timeout: Annotated[Duration, "how long an idle connection is kept for the next request"] = 75.0
    max_connections: Annotated[Count, "connections at the same time"] = 12_000
    max_connections_per_ip: Annotated[Count, "connections at the same time from one address"] = 500

    # Sockets
    ws_frame_limit: Annotated[Size, "longest frame from a client, then close 1009"] = 64 * KiB
    ws_connections_per_user: Annotated[Count, "chat sockets one person may hold"] = 5
    ws_connections_per_ip: Annotated[Count, "chat sockets one address may hold"] = 100
    ws_handshake_timeout: Annotated[Duration, "time for the websocket handshake"] = 10.0
    ws_ping_interval: Annotated[Duration, "time between two pings of the server"] = 30.0
    ws_idle_timeout: Annotated[Duration, "silence after which a socket is closed"] = 60.0
    outlet_limit: Annotated[Size, "bytes that may wait for a slow reader, then close 1013"] = 1 * MiB
    outlet_close_grace: Annotated[Duration, "time to finish a close, then reset"] = 5.0

    # Rates
    rate_messages_per_minute: Annotated[Rate, "messages a minute and person"] = 60.0
    rate_messages_burst: Annotated[Count, "messages at once"] = 10
    rate_frames_per_second: Annotated[Rate, "other frames a second and person"] = 20.0
    rate_frames_burst: Annotated[Count, "other frames at once"] = 40
    rate_statuses_per_minute: Annotated[Rate, "changes of status a minute and person"] = 30.0
    rate_statuses_burst: Annotated[Count, "changes of status at once"] = 5
    abuse_refusals: Annotated[Count, "refusals within `ABUSE_WINDOW` that close a socket with 4008"] = 100
    abuse_window: Annotated[Duration, "see `ABUSE_REFUSALS`"] = 10.0
    rate_rest_per_minute: Annotated[Rate, "REST requests a minute and person, or address without a login"] = (
        600.0
    )
    rate_rest_burst: Annotated[Count, "REST requests at once"] = 120
    rate_mails_per_hour: Annotated[
        Rate, "mails an hour to one address that anybody can ask for (resets, confirmations)"
    ] = 3.0
    rate_login_per_minute: Annotated[Count, "login attempts a minute for one account from one address"] = 5
    rate_plays_per_minute: Annotated[
        Rate, "reports of plays a minute and person, or address without a login"
    ] = 60.0
    rate_plays_burst: Annotated[Count, "reports of plays at once"] = 30

    # Rooms
    room_ring_messages: Annotated[Count, "recent messages a room keeps in memory for resuming clients"] = 500
    room_ring_bytes: Annotated[Size, "the same in bytes"] = 512 * KiB
    room_members_max: Annotated[Count, "members of one room"] = 20_000
    rooms_owned_max: Annotated[Count, "rooms one person may own"] = 100
    room_idle: Annotated[Duration, "how long a room without listeners stays in memory"] = 120.0
    room_presence_limit: Annotated[Count, "people online above which a room sums presence up"] = 500
    room_receipts_limit: Annotated[Count, "members above which a room sends no read receipts"] = 100
    room_pins_max: Annotated[Count, "pinned messages of a room"] = 50
    reactions_max: Annotated[Count, "distinct reactions of a message"] = 20
    reads_saved_after: Annotated[Duration, "how long read marks wait to be written together"] = 1.0
    typing_expires: Annotated[Duration, "how long somebody who typed is shown typing"] = 5.0
    fanout_max_wait: Annotated[Duration, "longest wait to send several messages as one write"] = 0.010
    ledger_max_batch: Annotated[Count, "messages committed at once"] = 500
    ledger_max_waiting: Annotated[Count, "messages waiting for a commit, then UNAVAILABLE"] = 20_000

    # Media
    media_workers: Annotated[Count, "child processes that work on tracks at the same time"] = 1
    media_url_lifetime: Annotated[Duration, "how long a signed media address is good, at most 24h"] = (
        6 * 3600.0
    )
    upload_limit: Annotated[Size, "largest track, then 413"] = 100 * MiB
    upload_reserve: Annotated[Size, "disk space that uploads leave free, else 507"] = 256 * MiB
    upload_lifetime: Annotated[Duration, "how long an unfinished resumable upload is kept"] = 24 * 3600.0
    uploads_per_user: Annotated[Count, "uploads one person may have under way"] = 10
    tracks_owned_max: Annotated[Count, "tracks one person may own"] = 2_000
    playlists_owned_max: Annotated[Count, "playlists one person may own"] = 200
    playlist_items_max: Annotated[Count, "tracks of one playlist"] = 1_000
    image_limit: Annotated[Size, "largest avatar image, then 413"] = 2 * MiB
    follows_max: Annotated[Count, "people one person may follow"] = 5_000
    blocks_max: Annotated[Count, "people one person may block"] = 5_000

    # Market
    listings_open_max: Annotated[Count, "open listings one person may have"] = 200
    offers_open_max: Annotated[Count, "open offers one person may have made"] = 100
    listing_image_limit: Annotated[Size, "largest image of a listing, then 413"] = 5 * MiB

    # Notifications
    digest_every: Annotated[
        Duration, "how often at most somebody gets a mail of what he has not read; `0`: never"
    ] = 24 * 3600.0

    # Live streams
    streams_owned_max: Annotated[Count, "streams one person may have that have not ended"] = 20
    streams_kept_max: Annotated[
        Count, "streams one person may have in all, those that have ended included"
    ] = 1_000
    rtmp_port: Annotated[Port, "port for broadcasts by RTMP (OBS), customarily `1935`; `0`: none"] = 0
    stream_ring_seconds: Annotated[Duration, "how far back a stream is kept in memory for its listeners"] = (
        30.0
    )
    stream_ring_bytes: Annotated[Size, "the same in bytes"] = 4 * MiB
    stream_burst: Annotated[Size, "bytes a new listener gets at once, so that sound starts at once"] = (
        64 * KiB
    )
    stream_pass_wait: Annotated[Duration, "longest wait to send several chunks as one write"] = 0.080
    stream_grace: Annotated[Duration, "how long listeners wait for a source that dropped to come back"] = 30.0
    stream_stall: Annotated[Duration, "silence after which a source counts as dropped"] = 15.0
    stream_frame_limit: Annotated[Size, "longest frame of a browser that broadcasts"] = 4 * MiB
    stream_keys_per_minute: Annotated[Count, "wrong stream keys a minute from one address for one mount"] = 10
    stream_listeners_max: Annotated[Count, "listeners of one stream"] = 10_000
    stream_hls_segment: Annotated[Duration, "length of a live HLS segment"] = 2.0
    stream_hls_window: Annotated[Count, "segments in a live playlist"] = 6
    stream_hls_most: Annotated[
        Count, "streams for which live HLS is made at the same time, a process each"
    ] = 16
    stream_hls_idle: Annotated[Duration, "how long live HLS goes on being made when nobody asks"] = 60.0

    @property
    def production(self) -> bool:
        return self.environment == "production"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [
            (field.attribute, getattr(self, field.attribute))
            for field in fields()
            if field.kind not in (Kind.SECRET, Kind.DATABASE)
        ]

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def with_secrets(self) -> Self:
        """These settings with the secrets that development may leave out: read from the data directory, or made there.

        Raises:
            SettingError: the data directory cannot be written.
        """
        missing = [
            field for field in fields() if field.attribute in GENERATED and not getattr(self, field.attribute)
        ]
        if not missing:
            return self
        found = _generated_secrets(self.data)
        return msgspec.structs.replace(self, **{field.attribute: found[field.attribute] for field in missing})


GENERATED: Final = ("jwt_secret", "secret_key")
SECTIONS: Final = {  # the first field of each section, for the printed table
    "host": "Where it is",
    "database_url": "Database",
    "jwt_secret": "Secrets and tokens",
    "allowed_origins": "Web",
    "smtp_host": "Mail",
    "head_limit": "The door",
    "ws_frame_limit": "Sockets",
    "rate_messages_per_minute": "Rates",
    "room_ring_messages": "Rooms",
    "media_workers": "Media",
    "listings_open_max": "Market",
    "streams_owned_max": "Live streams",
}
DATABASE_PARTS: Final = {  # what DATABASE_URL may be put together from
    "DB_HOST": "database server (name, address, or directory of its socket); `localhost` when only others are set",
    "DB_PORT": "its port, `5432`",
    "DB_USERNAME": "its account, `postgres`",
    "DB_PASSWORD": "its password",
    "DB_NAME": "the database's name, `veza`",
}


class Field(msgspec.Struct, frozen=True):
    """One setting as `load` and the documentation see it."""

    attribute: str
    variable: str
    kind: Kind | None
    type: Any
    optional: bool
    default: Any
    doc: str


@functools.cache
def fields() -> tuple[Field, ...]:
    """All settings in the order they are documented."""
    return tuple(_field(info) for info in msgspec.structs.fields(Settings))


def _field(info: msgspec.structs.FieldInfo) -> Field:
    base, kind, doc = info.type, None, ""
    if get_origin(base) is Annotated:
        base, *notes = get_args(base)
        kind = next((note for note in notes if isinstance(note, Kind)), None)
        doc = next((note for note in notes if isinstance(note, str)), "")
    optional = type(None) in get_args(base)
    if optional:
        (base,) = (part for part in get_args(base) if part is not type(None))
    variable = "VEZA_DATA" if info.name == "data" else info.name.upper()
    return Field(info.name, variable, kind, base, optional, info.default, doc)


def variables() -> frozenset[str]:
    """The names of all environment variables that are settings."""
    return frozenset(field.variable for field in fields()) | DATABASE_PARTS.keys()


def load(environ: Mapping[str, str] | None = None, dotenv: Path | None = Path(".env")) -> Settings:
    """The settings of this process: `environ` (default: the process's own) before the file `dotenv`, if there is one.

    An empty variable counts as absent. Nothing is written: secrets that development may leave out stay empty until
    `Settings.with_secrets`.

    Raises:
        SettingError: a value is wrong, or the values do not go together.
    """
    given = {**read_dotenv(dotenv), **(os.environ if environ is None else environ)}
    given = {name: value.strip() for name, value in given.items() if value.strip()}
    values = {
        field.attribute: _read(field, given[field.variable]) for field in fields() if field.variable in given
    }
    if "database_url" not in values and ("DB_HOST" in given or "DB_NAME" in given):
        values["database_url"] = _compose_database_url(given)
    settings = Settings(**values)
    _check(settings)
    if not settings.production:
        local = ("http://localhost:*", "http://127.0.0.1:*")
        origins = tuple(dict.fromkeys((*settings.allowed_origins, *local)))
        settings = msgspec.structs.replace(settings, allowed_origins=origins)
    return settings


def read_dotenv(path: Path | None) -> dict[str, str]:
    """What a `.env` file sets; nothing if there is none. Values are taken as they stand: `$` has no meaning."""
    if path is None or not path.is_file():
        return {}
    from dotenv.parser import parse_stream

    found: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8") as stream:
            for binding in parse_stream(stream):
                if binding.error:
                    raise SettingError(str(path), f"line {binding.original.line}: is not NAME=value")
                if binding.key is not None:
                    found[binding.key] = binding.value or ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(str(path), f"cannot be read: {_reason(error)}") from None
    return found


def _read(field: Field, text: str) -> Any:
    try:
        return _grammar(field)(text)
    except ValueError as error:
        shown = "" if field.kind in (Kind.SECRET, Kind.DATABASE) else f"={text[:60]!r}"
        raise SettingError(f"{field.variable}{shown}", str(error)) from None


def _grammar(field: Field) -> Callable[[str], Any]:
    if field.kind is not None and field.kind in _GRAMMARS:
        return _GRAMMARS[field.kind]
    if get_origin(field.type) is Literal:
        return lambda text: grammar.parse_choice(text, get_args(field.type))
    return _PLAIN[field.type]


_GRAMMARS: Final[dict[Kind, Callable[[str], Any]]] = {
    Kind.DURATION: grammar.parse_duration,
    Kind.SIZE: grammar.parse_size,
    Kind.COUNT: grammar.parse_count,
    Kind.PORT: grammar.parse_port,
    Kind.RATE: grammar.parse_rate,
    Kind.URL: grammar.parse_base_url,
    Kind.ORIGINS: grammar.list_of(grammar.parse_origin),
    Kind.NETWORKS: grammar.list_of(grammar.parse_network),
    Kind.DATABASE: grammar.parse_database_url,
}
_PLAIN: Final[dict[Any, Callable[[str], Any]]] = {
    str: str,
    int: grammar.parse_integer,
    float: grammar.parse_rate,
    bool: grammar.parse_bool,
    Path: Path,
}


def _compose_database_url(given: Mapping[str, str]) -> str:
    host = given.get("DB_HOST", "localhost")
    try:
        port = grammar.parse_port(given.get("DB_PORT", "5432")) or 5432
    except ValueError as error:
        raise SettingError(f"DB_PORT={given['DB_PORT'][:60]!r}", str(error)) from None
    account = quote(given.get("DB_USERNAME", "postgres"), safe="")
    if password := given.get("DB_PASSWORD"):
        account += ":" + quote(password, safe="")
    name = quote(given.get("DB_NAME", "veza"), safe="")
    if host.startswith("/"):  # the directory of a unix socket
        return f"postgresql://{account}@/{name}?host={quote(host, safe='/')}&port={port}"
    return f"postgresql://{account}@{f'[{host}]' if ':' in host else host}:{port}/{name}"


def _check(settings: Settings) -> None:
    """Whether the values go together."""
    for present, absent in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        path = getattr(settings, present)
        if path is None:
            continue
        if getattr(settings, absent) is None:
            raise SettingError(absent.upper(), f"is missing: {present.upper()} is of no use without it")
        if not os.access(path, os.R_OK) or path.is_dir():
            raise SettingError(present.upper(), f"names {str(path)!r}, which is not a file we can read")
    if not settings.production:
        return
    for attribute in GENERATED:
        secret, variable = getattr(settings, attribute), attribute.upper()
        if not secret:
            raise SettingError(
                variable, "is missing: production needs one of at least 32 bytes (openssl rand -hex 32)"
            )
        if secret.lower() in KNOWN_SECRETS:
            raise SettingError(variable, "is a well-known placeholder: make one with openssl rand -hex 32")
        if len(secret.encode()) < SHORTEST_SECRET:
            raise SettingError(
                variable, "is too short: production needs at least 32 bytes (openssl rand -hex 32)"
            )
    if settings.smtp_host and not settings.public_url:
        raise SettingError("PUBLIC_URL", "is missing: mails (SMTP_HOST is set) could not link to the server")


def _generated_secrets(data: Path) -> dict[str, str]:
    """Development's secrets: made by whoever comes first, the same for everybody after."""
    path = data / "secrets.json"
    try:
        data.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            made = msgspec.json.encode({name: secrets.token_urlsafe(48) for name in GENERATED})
            draft = path.with_name(f".secrets-{secrets.token_hex(8)}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
            with os.fdopen(descriptor, "wb") as file:
                file.write(made)
            try:
                os.link(draft, path)  # fails if another process was first: then its secrets count
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except OSError as error:
        raise SettingError(f"VEZA_DATA={str(data)!r}", f"cannot be used: {_reason(error)}") from None
    except msgspec.MsgspecError:
        raise SettingError(
            "VEZA_DATA", f"holds a damaged {path.name}: remove it and new secrets are made"
        ) from None
    if any(len(found.get(name, "")) < SHORTEST_SECRET for name in GENERATED):
        raise SettingError("VEZA_DATA", f"holds a damaged {path.name}: remove it and new secrets are made")
    return found


def _reason(error: Exception) -> str:
    """What went wrong, in words, without the path that the sentence names already."""
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else "it is not UTF-8 text"
