"""`veza migrate`: bring the database to this version's schema, and say what was done."""

import trio

from veza import config, log


def run() -> None:
    settings = config.load()
    log.setup(settings.log_format, "warning")
    from veza.commands.database import reachable
    from veza.db.migrate import Migrated, load_migrations
    from veza.db.migrate import migrate as bring_up_to_date

    async def main() -> Migrated:
        async with reachable(settings) as url:
            return await bring_up_to_date(url)

    done = trio.run(main)
    names = {migration.version: migration.name for migration in load_migrations()}
    if done.fresh:
        print(f"the database was empty and has the schema of version {max(names):04} now")
    elif done.applied:
        for version in done.applied:
            print(f"applied {version:04} {names[version]}")
    else:
        print("the database is up to date")
