"""`python -m tests.faults.power PLACE TOLD KIND SEED...`: cut the power once for each seed; one line of JSON each.

A seed says which protocol it is, whether a neighbour syncs the same drive meanwhile, and when the power goes: at the
k-th call by which the main process changes the drive, at a moment of the whole run, programs and all, or at its end.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from tests.faults import strace
from tests.faults.images import cut_off, make_memory, mounted
from tests.faults.processes import DONE
from tests.faults.stand import Stand, chosen, make_base, neighbour, phase
from tests.support.builders import HOST

LAST_CALLS: Final = 12


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
    way = random.choices((at_a_call, at_a_moment, at_the_end), weights=(4, 3, 3))[0]
    with_neighbour = random.random() < 0.5
    with stand.copy() as drive, neighbour(drive, there=with_neighbour):
        when, far, outcome = way(stand, random)
    with mounted(stand.image, stand.drive):
        wrong = list(stand.judged(outcome))
    return Cut(seed, stand.name, f"{when}{', with a neighbour' if with_neighbour else ''}", far, outcome, wrong)


def at_a_call(stand: Stand, random: Random) -> tuple[str, str, str]:
    """Before one of the calls, half of the time one of the last: there a run becomes a restore point."""
    calls = stand.calls if random.random() < 0.5 else stand.calls[-LAST_CALLS:]
    call, number = random.choice(calls)
    outcome = stand.stopped_at(call, number, strace.KILL)
    return f"{call} {number}", _cut_off(stand), outcome


def at_a_moment(stand: Stand, random: Random) -> tuple[str, str, str]:
    """At any time of a run, whatever its programs are doing."""
    share = random.random()
    running = stand.begun()
    time.sleep(stand.seconds * share)
    far = _cut_off(stand)
    os.kill(running.pid, signal.SIGKILL)
    return f"{share:.0%}", far, running.outcome()


def at_the_end(stand: Stand, random: Random) -> tuple[str, str, str]:
    """As soon as a run says that it is done."""
    outcome = stand.begun().outcome()
    assert outcome == DONE, stand.what_was_said()
    time.sleep(random.choice((0, 0, 0.05)))
    return "the end", _cut_off(stand), outcome


def _cut_off(stand: Stand) -> str:
    far = phase(stand.root / HOST, stand.protocol)
    cut_off(stand.drive)
    return far


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
