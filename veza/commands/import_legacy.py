"""`veza import-legacy URL`: bring people, rooms and messages over from the older program's database."""

import sys
from typing import TYPE_CHECKING

from veza import config, log
from veza.config import SettingError
from veza.grammar import parse_database_url

if TYPE_CHECKING:
    from veza.db.legacy import Copied


def run(url: str) -> None:
    """Copy, tell how far it is, and say what was brought and what was not.

    Raises:
        Problem: a server works on the database, or the older one is not what it should be.
    """
    try:
        parse_database_url(url)
    except ValueError as error:
        raise SettingError("URL", str(error)) from None
    settings = config.load()
    log.setup(settings.log_format, "warning")
    from veza.commands.database import with_database
    from veza.db import legacy
    from veza.db.lock import hold_database
    from veza.db.pool import Database

    def told(done: legacy.Copied) -> None:
        if sys.stderr.isatty():
            print(f"\r{_counted(done)} …\x1b[K", end="", file=sys.stderr, flush=True)

    async def work(database: Database) -> legacy.Copied:
        # A running server would not notice: its rooms know their messages by heart.
        async with hold_database(database, patience=0.0):
            return await database.exclusive(legacy.copy, url, told)

    done = with_database(settings, work)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    known = f" ({done.known} messages were here already)" if done.known else ""
    print(f"brought {_counted(done)}{known}")
    for reason, count in sorted(done.left.items()):
        print(f"left behind: {count} {reason}")


def _counted(done: "Copied") -> str:
    return f"{done.users} people, {done.rooms} rooms, {done.messages} messages"
