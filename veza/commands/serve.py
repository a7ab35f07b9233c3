"""`veza serve`: read the settings, set the logs up, hand over to the composition root."""

import os
import resource
from pathlib import Path

from veza import config, log


def run(host: str | None = None, port: int | None = None, data: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT; the options count more than the environment.

    Raises:
        Problem: a reason not to start that a person can set right.
    """
    given = {"HOST": host, "PORT": port, "VEZA_DATA": data}
    environ = {**os.environ, **{name: str(value) for name, value in given.items() if value is not None}}
    settings = config.load(environ)
    log.setup(settings.log_format, settings.log_level)
    _allow_many_connections()
    from veza import app  # late: a wrong setting is told before the whole program is read

    app.run(settings.with_secrets())


def _allow_many_connections() -> None:
    """Each connection is an open file, and the usual limit is meant for other programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            pass  # what we have must do
