"""`python -m tests.faults.states PLACE TOLD KIND STATES SEED...`: record a run for each seed, and judge its states.

Half of them are what the drive held after so many of the writes; the other half what a drive may hold that reorders
writes between two flushes, and is in the middle of one of them when the power goes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec

from tests.faults.images import copy_image, make_memory, mounted
from tests.faults.processes import DONE, KILLED
from tests.faults.recorder import Replay, recorded
from tests.faults.stand import Stand, chosen, make_base, neighbour


class State(msgspec.Struct, frozen=True):
    """One state of a drive: of which run, after how many of its writes and flushes, and what was wrong with it."""

    seed: int
    protocol: str
    position: int
    of: int
    reordered: bool
    wrong: list[str]


def states(stand: Stand, seed: int, random: Random, wanted: int) -> Iterator[State]:
    """Record a run, and judge some states of its drive, from the first to the last."""
    with_neighbour = random.random() < 0.5
    copy_image(stand.ready, stand.image)
    with recorded(stand.image, stand.place) as recorder:
        with mounted(recorder.mount, stand.drive) as drive, neighbour(drive, there=with_neighbour):
            begin = recorder.position
            assert (outcome := stand.begun().outcome()) == DONE, (outcome, stand.what_was_said())
            done_at = recorder.position
        records = recorder.records
    rolling = stand.place / "rolling"
    copy_image(stand.ready, rolling)
    replay = Replay(rolling, records)
    for at in sorted(random.choices(range(begin, len(replay) + 1), k=wanted)):
        reordered = random.random() < 0.5
        wrong = _judge(stand, replay, (at, done_at), random if reordered else None)
        yield State(seed, stand.name, at - begin, len(replay) - begin, reordered, wrong)
    replay.close()


def _judge(stand: Stand, replay: Replay, moment: tuple[int, int], random: Random | None) -> list[str]:
    at, done_at = moment
    if random is None:
        replay.forward(at)
    else:
        replay.forward(max(replay.done, *(flush for flush in (0, *replay.flushes()) if flush <= at)))
    copy_image(stand.place / "rolling", stand.image)
    if random is not None:
        replay.reorder(stand.image, at, random)
    with mounted(stand.image, stand.drive):
        return list(stand.judged(DONE if at >= done_at else KILLED))


def main(words: list[str]) -> None:
    """Record and judge for each seed."""
    place, kind, wanted = make_memory(Path(words[0])), words[2], int(words[3])
    make_base(place / "base", kind)
    stands: dict[str, Stand] = {}
    with Path(words[1]).open("wb") as told:
        for seed in map(int, words[4:]):
            random = Random(seed)  # noqa: S311  # to be repeated, not to be secret
            for state in states(chosen(stands, place, kind, random), seed, random, wanted):
                told.write(msgspec.json.encode(state) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
