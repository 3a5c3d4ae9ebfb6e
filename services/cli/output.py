"""How the command line shows things: a table for a person, or JSON for a program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import rich_click as click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.domain.errors import BackupManagerError, SettingsRefused
from shared.domain.wording import printable

json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")

FILE_WIDTH: Final = 300


def console() -> Console:
    """Where tables go: a terminal as wide as it is, or a file in which nothing needs to be broken."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else FILE_WIDTH)


def say(text: str) -> None:
    """Print a line."""
    click.echo(text)


def complain(error: BackupManagerError) -> None:
    """Print what went wrong, and the next step."""
    shown = Console(stderr=True, highlight=False, soft_wrap=True)
    if isinstance(error, SettingsRefused):
        shown.print(Text(f"The settings have {len(error.problems)} problem(s); nothing was started:", style="bold red"))
        for problem in error.problems:
            shown.print(Text(f"  {printable(problem)}"))
        return
    shown.print(Text(printable(error.message), style="bold red"))
    if error.hint:
        shown.print(Text(f"  {printable(error.hint)}"))


def print_json(value: object) -> None:
    """Print a value as one JSON document."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]], *, empty: str) -> None:
    """Print a table, or a sentence when it has no rows. A column whose name begins with > is right-aligned."""
    if not rows:
        say(empty)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    for row in rows:
        shown.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    console().print(shown)


class Moment(click.ParamType[datetime]):
    """A moment: ISO 8601 (UTC unless it names a zone), or an age such as 90m, 2h or 3d."""

    name = "time"
    _spans: Final[dict[str, Callable[[int], timedelta]]] = {
        "s": lambda n: timedelta(seconds=n),
        "m": lambda n: timedelta(minutes=n),
        "h": lambda n: timedelta(hours=n),
        "d": lambda n: timedelta(days=n),
    }

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment that a text names."""
        text = str(value)
        try:
            if text[-1:] in self._spans and text[:-1].isdigit():
                return self._now() - self._spans[text[-1]](int(text[:-1]))
            moment = datetime.fromisoformat(text)
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r} is not a time. Allowed: 2026-03-06T08:00 (UTC), or an age such as 90m, 2h, 3d.", param, ctx
            )
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
