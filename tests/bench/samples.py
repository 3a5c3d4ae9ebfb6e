"""Numbers that were measured several times, and how they are compared: round by round, never across rounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Self


@dataclass(slots=True)
class Samples:
    """One number for each round. What is compared must have been measured in the same round, in turns."""

    values: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        """Take the number of the next round."""
        self.values.append(value)

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)

    @property
    def lowest(self) -> float:
        """The smallest one."""
        return min(self.values)

    @property
    def highest(self) -> float:
        """The largest one."""
        return max(self.values)

    def over(self, other: Self) -> Samples:
        """The ratio of each round to the same round of the other."""
        return Samples([mine / yours for mine, yours in zip(self.values, other.values, strict=True)])

    def plus(self, other: Self) -> Samples:
        """The sum of each round with the same round of the other."""
        return Samples([mine + yours for mine, yours in zip(self.values, other.values, strict=True)])

    def shown(self, unit: str, digits: int = 2) -> str:
        """The median with its unit and, behind it, the smallest and the largest."""
        spread = f" [{self.lowest:,.{digits}f}-{self.highest:,.{digits}f}]" if len(self.values) > 1 else ""
        return f"{self.median:,.{digits}f}{unit}{spread}"


def of(values: Iterable[float]) -> Samples:
    """Samples of these numbers."""
    return Samples(list(values))
