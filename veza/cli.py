"""The `veza` command: names, options and how errors are told. What the commands do is in `veza/commands/`.

Nothing heavy is imported here: `veza --help` answers at once. Whatever a person can set right ends in one line on
stderr, never in a traceback. Exit codes: 0 done, 1 a problem, 2 wrong usage or setting, 130 interrupted.
"""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from veza import __version__
from veza.errors import Problem

cli = typer.Typer(
    name="veza",
    help="Chat, audio and a marketplace for musicians: one program, one port.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
admin = typer.Typer(
    no_args_is_help=True, help="Care for a server: make administrators, help who lost a phone."
)
cli.add_typer(admin, name="admin")


def main() -> NoReturn:
    """The console script."""
    try:
        cli(prog_name="veza", standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except BaseException as error:
        problem = _problem_in(error)
        if problem is None:
            raise
        print(f"veza: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
    sys.exit(0)


def _problem_in(error: BaseException) -> Problem | None:
    """The problem a person can set right behind an exception, which nurseries may have wrapped in groups."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, Problem):
        return error
    database = sys.modules.get("veza.db.errors")  # if it is not loaded, none of its errors was raised
    if database is not None and isinstance(error, database.DatabaseError):
        return Problem(str(error))
    return None


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"veza {__version__}")
        raise typer.Exit


@cli.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Settings come from environment variables and a file `.env`: see docs/settings.md."""


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on, instead of HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, instead of PORT.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data directory, instead of VEZA_DATA.")] = None,
) -> None:
    """Start the server, with a PostgreSQL of its own unless one is configured."""
    from veza.commands.serve import run

    run(host, port, data)


@cli.command()
def demo(
    host: Annotated[str | None, typer.Option(help="Address to listen on, instead of HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, instead of PORT.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Where it is kept.", show_default="veza-demo, never VEZA_DATA")
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="Fewer and shorter tracks, less for sale.")] = False,
) -> None:
    """See it living: a server of its own with people, music, a market and a live stream."""
    from veza.commands.demo.running import run

    run(host, port, data, small)


@cli.command()
def migrate() -> None:
    """Bring the database to this version's schema. `serve` does so by itself."""
    from veza.commands.migrate import run

    run()


@admin.command()
def create(
    username: Annotated[str | None, typer.Option(help="Letters, digits, underscore.")] = None,
    email: Annotated[str | None, typer.Option()] = None,
    password: Annotated[
        str | None, typer.Option(help="Asked for when left out; piped input works too.", show_default=False)
    ] = None,
    role: Annotated[str, typer.Option(help="admin or super_admin.")] = "super_admin",
) -> None:
    """Make an administrator, or make one of somebody who is already registered."""
    from veza.commands.admin import create as run

    run(username, email, password, role)


@admin.command()
def two_factor_off(username: Annotated[str, typer.Argument(help="Whose.")]) -> None:
    """Switch off the second factor of somebody who lost phone and recovery codes."""
    from veza.commands.admin import two_factor_off as run

    run(username)


@cli.command()
def chat(
    room: Annotated[
        str, typer.Argument(help="Name of a room, `#12` for its id, or `@name` for a person.")
    ] = "general",
    server: Annotated[
        str | None, typer.Option(help="The server's URL.", envvar="VEZA_SERVER", show_default="the local one")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Who to log in as.", envvar="VEZA_USER")] = None,
    register: Annotated[bool, typer.Option("--register", help="Make a new account first.")] = False,
) -> None:
    """Talk in a room from this terminal. `echo hi | veza chat general` works too."""
    from veza.commands.chat import run

    run(room, server, user, register)


_SERVER = typer.Option(help="The server's URL.", envvar="VEZA_SERVER", show_default="the local one")
_USER = typer.Option(help="Who to log in as.", envvar="VEZA_USER")


@cli.command()
def upload(
    files: Annotated[list[Path], typer.Argument(help="Audio or video of any kind.", show_default=False)],
    title: Annotated[str | None, typer.Option(help="What one file is called.")] = None,
    artist: Annotated[str | None, typer.Option()] = None,
    album: Annotated[str | None, typer.Option()] = None,
    genre: Annotated[str | None, typer.Option()] = None,
    description: Annotated[str | None, typer.Option()] = None,
    tags: Annotated[str, typer.Option(help="Separated by commas.")] = "",
    private: Annotated[bool, typer.Option("--private", help="Nobody else hears it.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until it can be heard.")] = True,
    server: Annotated[str | None, _SERVER] = None,
    user: Annotated[str | None, _USER] = None,
) -> None:
    """Upload tracks. What is not told is taken from the files' own tags."""
    from veza.commands.upload import Words, run

    split = tuple(tag for tag in (part.strip() for part in tags.split(",")) if tag)
    run(files, Words(title, artist, album, genre, description, split, not private), server, user, wait)


@cli.command()
def stream(
    source: Annotated[str, typer.Argument(help="A file, or `-` for standard input.", show_default=False)],
    title: Annotated[str | None, typer.Option(help="What the stream is called.")] = None,
    slug: Annotated[str | None, typer.Option(help="An existing stream, with --key.")] = None,
    key: Annotated[
        str | None, typer.Option(help="Its key.", envvar="VEZA_STREAM_KEY", show_envvar=True)
    ] = None,
    category: Annotated[str, typer.Option(help="music, talk, podcast, gaming, news, education, …")] = "music",
    visibility: Annotated[str, typer.Option(help="public, unlisted or private.")] = "public",
    record: Annotated[bool, typer.Option("--record", help="Keep it: it becomes a track.")] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Play the file again and again.")] = False,
    song: Annotated[str | None, typer.Option(help="What is playing; by default from its tags.")] = None,
    content_type: Annotated[
        str | None, typer.Option("--content-type", help="What it is, where its bytes do not tell.")
    ] = None,
    server: Annotated[str | None, _SERVER] = None,
    user: Annotated[str | None, _USER] = None,
) -> None:
    """Broadcast a file as it is heard, or standard input: `ffmpeg … -f mp3 - | veza stream -`."""
    from veza.commands.stream import Show, run

    show = Show(source, title, slug, key, category, visibility, record, loop, song, content_type)
    run(show, server, user)


@cli.command()
def doctor() -> None:
    """Check settings, database, port and disk, and say what to do."""
    from veza.commands.doctor import run

    run()


@cli.command("import-legacy")
def import_legacy(
    url: Annotated[str, typer.Argument(help="postgresql://… of the older program's database.")],
) -> None:
    """Copy users, rooms and messages from the older program's database. May be repeated."""
    from veza.commands.import_legacy import run

    run(url)
