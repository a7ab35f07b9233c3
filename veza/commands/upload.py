"""`veza upload FILE…`: one after the other goes up, each is waited for until it can be heard.

On a terminal each file has a bar with speed and time left, then one for its processing. What became of a file is a
line on standard output: its name and its page. What went wrong is a line on stderr, and the others go on; the exit code
is 1 if anything did.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import trio
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from veza.client import ApiError, AuthFailed, ClientError, Track, VezaClient
from veza.client.link import single_error
from veza.commands.lines import harmless
from veza.commands.login import ANOTHER, log_in, server_url, told_as_problems
from veza.errors import Problem

NAME_SHOWN: Final = 32


class Words(msgspec.Struct, frozen=True):
    """What is said of all files of one command; None is left to the files' own tags."""

    title: str | None = None
    artist: str | None = None
    album: str | None = None
    genre: str | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    public: bool = True


def run(files: list[Path], words: Words, server: str | None, user: str | None, wait: bool) -> None:
    """Upload them.

    Raises:
        Problem: nothing could be begun, or some file did not become a track.
    """
    if words.title is not None and len(files) > 1:
        raise WrongUse("--title is for one file; several are called by their tags or names")
    for file in files:
        if not file.is_file():
            raise Problem(f"{file}: {'is a directory' if file.is_dir() else 'there is no such file'}")
    url = server_url(server)
    with told_as_problems(ANOTHER):
        complaints = trio.run(_main, url, files, words, user, wait)
    if complaints:
        several = f"{len(complaints)} of {len(files)} files did not become tracks"
        raise Problem(several if len(files) > 1 else complaints[0])


class WrongUse(Problem):
    """A command that makes no sense as it is written."""

    exit_code = 2


async def _main(url: str, files: list[Path], words: Words, user: str | None, wait: bool) -> list[str]:
    async with VezaClient(url) as client:
        await log_in(client, url, user, register=False)
        with _bars() as bars:
            return await Batch(client, words, bars, wait).run(files)


class Batch:
    """The files of one command."""

    def __init__(self, client: VezaClient, words: Words, bars: "Bars", wait: bool) -> None:
        self._client = client
        self._words = words
        self._bars = bars
        self._wait = wait
        self._alone = True
        self._complaints: list[str] = []

    async def run(self, files: list[Path]) -> list[str]:
        """What went wrong, a line for each file that did not become a track."""
        self._alone = len(files) == 1
        async with single_error(), trio.open_nursery() as nursery:
            for file in files:
                track = await self._upload(file)
                if track is not None and self._wait:
                    nursery.start_soon(self._process, file, track)  # while the next one goes up
                elif track is not None:
                    self._done(file, track)
        return self._complaints

    async def _upload(self, file: Path) -> Track | None:
        words = self._words
        with self._bars.bar(file.name, os.path.getsize(file)) as moved:  # noqa: ASYNC240 (it was looked at just now)
            try:
                return await self._client.upload(
                    file,
                    title=words.title,
                    artist=words.artist,
                    album=words.album,
                    genre=words.genre,
                    description=words.description,
                    tags=words.tags,
                    public=words.public,
                    progress=lambda sent, _size: moved(sent),
                )
            except AuthFailed:
                raise  # the next one would fare no better
            except (ClientError, OSError) as error:
                self._fail(file, error)
        return None

    async def _process(self, file: Path, track: Track) -> None:
        with self._bars.bar(f"{file.name}: processing", None) as moved:
            try:
                track = await self._client.wait_ready(track.id, progress=lambda part: moved(int(part * 100)))
            except ClientError as error:
                self._fail(file, error)
                return
        self._done(file, track)

    def _done(self, file: Path, track: Track) -> None:
        page = self._client.absolute(f"/tracks/{track.id}")
        self._bars.say(f"{harmless(file.name)}: {page}")

    def _fail(self, file: Path, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        details = error.details.items() if isinstance(error, ApiError) else ()
        more = "".join(f" {field}: {sentence}" for field, sentence in details if isinstance(sentence, str))
        line = f"{harmless(file.name)}: {reason}{more}"
        self._complaints.append(line)
        if not self._alone:  # else it is what the command ends with
            self._bars.complain(line)


class Bars:
    """Bars on a terminal; nothing elsewhere."""

    def __init__(self, shown: Progress | None) -> None:
        self._shown = shown

    @contextlib.contextmanager
    def bar(self, label: str, size: int | None) -> Iterator[Callable[[int], None]]:
        """A bar for as long as something takes; what it gives is told how far that is: bytes, or percent without."""
        if self._shown is None:
            yield lambda _at: None
            return
        name = harmless(label)
        short = name if len(name) <= NAME_SHOWN else f"{name[: NAME_SHOWN - 1]}…"
        shown, columns = self._shown, size is not None
        task: TaskID = shown.add_task(short, total=size if size is not None else 100, bytes=columns)
        try:
            yield lambda at: shown.update(task, completed=at)
        finally:
            shown.remove_task(task)

    def say(self, line: str) -> None:
        """On standard output, whole, above the bars."""
        if self._shown is not None and sys.stdout.isatty():
            self._shown.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def complain(self, line: str) -> None:
        if self._shown is not None:
            self._shown.console.print(line, markup=False, highlight=False, soft_wrap=True, style="red")
        else:
            print(f"veza: {line}", file=sys.stderr, flush=True)


class _Size(DownloadColumn):
    """Bytes, for what is measured in bytes."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.fields.get("bytes") else Text()


class _Speed(TransferSpeedColumn):
    """Bytes a second, likewise."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.fields.get("bytes") else Text()


@contextlib.contextmanager
def _bars() -> Iterator[Bars]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Bars(None)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%"),
        _Size(),
        _Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, expand=True, transient=True) as shown:
        yield Bars(shown)
