"""What a benchmark is told: where it may write, and how much it may do."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from shared.domain.errors import BackupManagerError


class BenchmarkBroken(BackupManagerError):
    """What was measured is not what should have been measured: no number of this run means anything."""


@dataclass(frozen=True, slots=True)
class Options:
    """`folder` is empty and goes when the benchmark ends; `quick` only shows that everything works."""

    folder: Path
    quick: bool = False

    def size(self, full: int, *, quick: int) -> int:
        """How many of something there are."""
        return quick if self.quick else full

    def rounds(self, full: int) -> int:
        """How often everything is measured."""
        return 1 if self.quick else full

    def say(self, words: str) -> None:
        """Tell whoever waits what is being done."""
        print(f"  {words}", file=sys.stderr, flush=True)
