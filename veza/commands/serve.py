"""`veza serve`: read the settings, set the logs up, hand over to the composition root."""

import os
from pathlib import Path

from veza import config, log


def run(host: str | None = None, port: int | None = None, data: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT; the options count more than the environment."""
    given = {"HOST": host, "PORT": port, "VEZA_DATA": data}
    environ = {**os.environ, **{name: str(value) for name, value in given.items() if value is not None}}
    settings = config.load(environ)
    log.setup(settings.log_format, settings.log_level)
    from veza import app  # late: a wrong setting is told before the whole program is read

    app.run(settings.with_secrets())
