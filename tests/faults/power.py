"""`python -m tests.faults.power PLACE TOLD KIND SEED...`: cut the power once for each seed; one line of JSON each.

A seed says which protocol it is, whether a neighbour syncs the same drive meanwhile, and when the power goes: at the
k-th call by which the main process changes the drive, or at a moment of the whole run, programs and all.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from random import Random

import msgspec

from tests.faults import strace
from tests.faults.images import cut_off, make_memory, mounted
from tests.faults.processes import KILLED
from tests.faults.stand import Stand, chosen, make_base, neighbour, phase
from tests.support.builders import HOST


class Cut(msgspec.Struct, frozen=True):
    """One power cut: of what and when, how far the run was, how it ended, and what was wrong afterwards."""

    seed: int
    protocol: str
    when: str
    phase: str
    outcome: str
    wrong: list[str]


def cut(stand: Stand, seed: int, random: Random) -> Cut:
    """Cut the power once."""
    by_call, with_neighbour = random.random() < 0.5, random.random() < 0.5
    with stand.copy() as drive, neighbour(drive, there=with_neighbour):
        if by_call:
            call, number = random.choice(stand.calls)
            when = f"{call} {number}"
            outcome = stand.stopped_at(call, number, strace.KILL)
            far = phase(stand.root / HOST, stand.protocol)
            cut_off(drive)
        else:
            share = random.uniform(0, 1.05)
            when = f"{share:.0%}"
            running = stand.begun()
            time.sleep(stand.seconds * share)
            far = phase(stand.root / HOST, stand.protocol)
            cut_off(drive)
            os.kill(running.pid, signal.SIGKILL)
            outcome = running.outcome()
    wrong = [] if not by_call or outcome == KILLED else [f"it was {outcome}: {stand.what_was_said()}"]
    with mounted(stand.image, stand.drive):
        wrong += stand.judged(outcome)
    return Cut(seed, stand.name, f"{when}{', with a neighbour' if with_neighbour else ''}", far, outcome, wrong)


def main(words: list[str]) -> None:
    """Cut the power for each seed."""
    place, kind = make_memory(Path(words[0])), words[2]
    make_base(place / "base", kind)
    stands: dict[str, Stand] = {}
    with Path(words[1]).open("wb") as told:
        for seed in map(int, words[3:]):
            random = Random(seed)  # noqa: S311  # to be repeated, not to be secret
            told.write(msgspec.json.encode(cut(chosen(stands, place, kind, random), seed, random)) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
