"""The settings: one typed, frozen object, read once from the environment.

Nothing else in the program looks at `os.environ`. A wrong value stops the start with one line that names the variable.
Durations are seconds (float), sizes bytes (int).
"""

from pathlib import Path

import msgspec

KiB = 1024
MiB = 1024 * KiB


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting of the program, with its default."""

    # where we are
    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str | None = None
    environment: str = "development"
    data: Path = Path("veza-data")
    log_format: str = "console"
    log_level: str = "info"

    # database
    database_url: str | None = None  # None: embedded
    db_pool_size: int = 8
    db_acquire_timeout: float = 5.0
    db_statement_timeout: float = 10.0

    # secrets and tokens
    jwt_secret: str = ""
    jwt_expiration: float = 24 * 3600.0
    jwt_refresh_expiration: float = 168 * 3600.0
    refresh_grace: float = 60.0
    secret_key: str = ""
    argon2_memory_kib: int = 19 * 1024
    argon2_time_cost: int = 2
    argon2_waiting: int = 50

    # web
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None

    # mail
    smtp_host: str | None = None
    smtp_port: int = 587
    smtp_username: str | None = None
    smtp_password: str | None = None
    smtp_from: str | None = None
    smtp_tls: str = "starttls"

    # the door
    head_limit: int = 16 * KiB
    head_timeout: float = 10.0
    body_limit: int = 1 * MiB
    body_timeout: float = 30.0  # without a byte
    send_timeout: float = 60.0  # without progress
    shutdown_send_timeout: float = 5.0
    shutdown_timeout: float = 9.0
    keep_alive_timeout: float = 75.0
    max_connections: int = 12_000
    max_connections_per_ip: int = 500

    # sockets
    ws_frame_limit: int = 64 * KiB
    ws_connections_per_user: int = 5
    ws_connections_per_ip: int = 100
    ws_handshake_timeout: float = 10.0
    ws_ping_interval: float = 30.0
    ws_idle_timeout: float = 60.0
    outlet_limit: int = 1 * MiB
    outlet_close_grace: float = 5.0

    # rates
    rate_messages_per_minute: float = 60.0
    rate_messages_burst: int = 10
    rate_frames_per_second: float = 20.0
    rate_frames_burst: int = 40
    abuse_refusals: int = 100
    abuse_window: float = 10.0
    rate_rest_per_minute: float = 600.0
    rate_rest_burst: int = 120
    rate_login_per_minute: int = 5

    # rooms
    room_ring_messages: int = 500
    room_ring_bytes: int = 512 * KiB
    room_members_max: int = 20_000
    room_idle: float = 120.0
    room_presence_limit: int = 500  # above it, presence is summed up
    room_receipts_limit: int = 100
    room_pins_max: int = 50
    reactions_max: int = 20
    typing_expires: float = 5.0
    fanout_max_wait: float = 0.010
    ledger_max_batch: int = 500
    ledger_max_waiting: int = 20_000

    # later capabilities
    media_workers: int = 1
