"""`veza serve`: read the settings, set the logs up, hand over to the composition root."""

import errno
import os
import resource
from pathlib import Path

from veza import config, log
from veza.config import Settings
from veza.errors import Problem


def run(host: str | None = None, port: int | None = None, data: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT; the options count more than the environment.

    Raises:
        Problem: the port is taken, or another reason not to start that a person can set right.
    """
    given = {"HOST": host, "PORT": port, "VEZA_DATA": data}
    environ = {**os.environ, **{name: str(value) for name, value in given.items() if value is not None}}
    settings = config.load(environ)
    log.setup(settings.log_format, settings.log_level)
    _allow_many_connections()
    from veza import app  # late: a wrong setting is told before the whole program is read

    try:
        app.run(settings.with_secrets())
    except* OSError as group:
        problem = _why_not_listening(settings, group)
        if problem is None:
            raise
        raise problem from None


def _why_not_listening(settings: Settings, group: ExceptionGroup[OSError]) -> Problem | None:
    error: BaseException = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    where = f"{settings.host}:{settings.port}"
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return Problem(
            f"port {settings.port} is taken: something listens on {where} already (PORT chooses another)"
        )
    if number == errno.EACCES and settings.port < 1024:
        return Problem(f"port {settings.port} may not be used by this user: choose a PORT above 1023")
    if number in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) or type(error).__name__ == "gaierror":
        return Problem(f"HOST={settings.host!r} is no address of this machine")
    return None


def _allow_many_connections() -> None:
    """Each connection is an open file, and the usual limit is meant for other programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            pass  # what we have must do
