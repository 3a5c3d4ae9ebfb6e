"""What a benchmark found, as a table that a person can read and a build can judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.bench.samples import Samples

HEADER: Final = ("", "ours", "yardstick", "ratio", "target", "reached")


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was measured. `reached` is None for what is shown beside a target without being judged."""

    what: str
    ours: str
    yardstick: str = ""
    ratio: str = ""
    target: str = ""
    reached: bool | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What one benchmark found. `notes` say what has to be known to believe the rows."""

    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = field(default_factory=list)

    @property
    def missed(self) -> list[Row]:
        """The rows whose target was not reached."""
        return [row for row in self.rows if row.reached is False]


def compared(
    what: str,
    ours: Samples,
    yardstick: Samples,
    *,
    unit: str,
    digits: int = 2,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Row:
    """A row that sets two measurements beside each other; the median of the ratios of the rounds is judged."""
    ratio = ours.over(yardstick)
    shown = ours.shown(unit, digits), yardstick.shown(unit, digits), ratio.shown("", 2)
    if at_most is not None:
        return Row(what, *shown, f"<= {at_most:g}", ratio.median <= at_most)
    if at_least is not None:
        return Row(what, *shown, f">= {at_least:g}", ratio.median >= at_least)
    return Row(what, *shown)


def below(what: str, ours: Samples, limit: float, *, unit: str, digits: int = 2) -> Row:
    """A row whose median has to stay below a limit."""
    return Row(what, ours.shown(unit, digits), target=f"< {limit:g}{unit}", reached=ours.median < limit)


def show(found: Found, *, judged: bool) -> str:
    """The table as text; without judgement the targets are shown and nothing is said about reaching them."""
    words = {True: "yes", False: "NO", None: ""} if judged else {True: "-", False: "-", None: ""}
    lines = [HEADER]
    lines += [(row.what, row.ours, row.yardstick, row.ratio, row.target, words[row.reached]) for row in found.rows]
    return "\n".join([found.title, *_aligned(lines), *(f"  * {note}" for note in found.notes)])


def _aligned(lines: Sequence[tuple[str, ...]]) -> Iterable[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    kept = [column for column, width in enumerate(widths) if width]
    for line in lines:
        yield "  " + "  ".join(line[column].ljust(widths[column]) for column in kept).rstrip()
