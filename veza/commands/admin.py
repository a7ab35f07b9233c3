"""`veza admin create`: the first administrator, whom nobody could appoint. `veza admin two-factor-off`: a lost phone.

Gives the role to whoever has the name, or makes the account. Whoever may run this on the machine owns it, so nobody is
asked for leave. A running server notices within a minute.
"""

import getpass
import sys

import msgspec

from veza import config, log
from veza.errors import Problem

ROLES = ("admin", "super_admin")


def create(username: str | None, email: str | None, password: str | None, role: str) -> None:
    """Ask for what is not given; say what was done.

    Raises:
        Problem: a value that cannot be, or a name or address that is taken.
    """
    if role not in ROLES:
        raise Problem(f"--role is {role!r}: it must be {' or '.join(ROLES)}")
    settings = config.load()
    log.setup(settings.log_format, "warning")
    from veza.commands.database import with_database
    from veza.db import admins
    from veza.db.errors import Conflict
    from veza.db.pool import Database
    from veza.security.passwords import Passwords

    name = username or _ask("Username")

    async def work(database: Database) -> admins.Appointed:
        if (found := await database.write(admins.promote, name, role)) is not None:
            return found
        form = _checked(name, email or _ask("E-mail address"), password or _ask_password())
        passwords = Passwords(settings.argon2_memory_kib, settings.argon2_time_cost)
        hashed = await passwords.hash(form["password"])
        try:
            return await database.write(admins.appoint, name, form["email"], hashed, role)
        except Conflict as conflict:
            what = "e-mail address" if "email" in (conflict.constraint or "") else "name"
            raise Problem(f"this {what} belongs to somebody else") from None

    done = with_database(settings, work)
    if done.before is None:
        print(f"{done.username} (id {done.user_id}) is a new {role}")
    elif done.before == role:
        print(f"{done.username} (id {done.user_id}) was {role} already")
    else:
        print(f"{done.username} (id {done.user_id}) is {role} now, and was {done.before}")


def two_factor_off(username: str) -> None:
    """Switch somebody's second factor off; the password stays. Noted in the audit log.

    Raises:
        Problem: nobody has that name.
    """
    settings = config.load()
    log.setup(settings.log_format, "warning")
    from veza.commands.database import with_database
    from veza.db import two_factor
    from veza.db.pool import Database

    async def work(database: Database) -> tuple[int, bool] | None:
        return await database.write(two_factor.reset, username)

    found = with_database(settings, work)
    if found is None:
        raise Problem(f"nobody is called {username}")
    user_id, was = found
    if was:
        print(f"{username} (id {user_id}) logs in with the password alone now")
    else:
        print(f"{username} (id {user_id}) had no second factor")


def _checked(username: str, email: str, password: str) -> dict[str, str]:
    """The same rules as for everybody who registers."""
    from veza.http.api.models import Registration

    form = {"username": username, "email": email.strip(), "password": password}
    for field in msgspec.structs.fields(Registration):
        if field.name in form:
            try:
                msgspec.convert(form[field.name], field.type)
            except msgspec.ValidationError:
                says = field.type.__metadata__[0].extra["says"]
                raise Problem(f"{field.name}: {says[0].lower()}{says[1:].rstrip('.')}") from None
    return form


def _ask(what: str) -> str:
    answer = input(f"{what}: ") if sys.stdin.isatty() else sys.stdin.readline()
    if not answer.strip():
        raise Problem(f"no {what.lower()} given")
    return answer.strip()


def _ask_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise Problem("the two passwords differ")
    return password
