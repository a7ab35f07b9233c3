"""The figures: what each must be, the table people read and the JSON machines read."""

import datetime
import subprocess
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from bench.machine import describe


class Figure(msgspec.Struct, frozen=True):
    """One measured value and, where there is one, the bound it must keep: at least, or at most."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        if self.at_least is not None:
            return self.value >= self.at_least
        if self.at_most is not None:
            return self.value <= self.at_most
        return None

    @property
    def bound(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:,g}"
        return f"≤ {self.at_most:,g}" if self.at_most is not None else ""


class Report(msgspec.Struct):
    """Everything of one call, in the order it was measured."""

    date: str
    revision: str
    command: str
    machine: dict[str, Any]
    figures: list[Figure] = []
    details: dict[str, Any] = {}


_VERDICT: Final = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}


def new_report(command: str) -> Report:
    return Report(
        datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"), _revision(), command, describe()
    )


def show(report: Report, console: Console) -> None:
    table = Table(
        title=f"veza {report.revision}, {report.date}, {report.machine['cpu']}", title_justify="left"
    )
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("must be", justify="right")
    table.add_column("met")
    for figure in report.figures:
        value = f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:,.2f}"
        table.add_row(figure.name, value, figure.unit, figure.bound, _VERDICT[figure.met])
    console.print(table)


def write(report: Report, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))


def _revision() -> str:
    """The commit that was measured, with a + where files differ from it."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude", "*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "of unknown revision"
    return found.stdout.strip()
