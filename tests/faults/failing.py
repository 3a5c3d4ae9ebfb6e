"""`python -m tests.faults.failing PLACE TOLD TROUBLE SEED...`: one drive for each seed fails, or goes, under a run.

`write` and `writes`: the drive answers one write, or all from one on, with an I/O error; `EROFS`: one call is told that
the drive is read-only; `read-only`: the kernel makes it so; `unmounted`: it goes from its place; `another`: and
another one, with another identity and the same folders, comes into it.
"""

from __future__ import annotations

import errno
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from shared.adapters.store import IDENTITY_FILE
from tests.faults import images
from tests.faults.images import copy_image, make_memory, mounted
from tests.faults.processes import BROKEN, DONE, KILLED
from tests.faults.recorder import MAX_WRITE, NEVER, recorded
from tests.faults.stand import Stand, chosen, make_base
from tests.support.trees import differences, snapshot_of

STAYS_SECONDS: Final = 0.3
"""How much longer a failing drive fails, so that whatever was not written meanwhile has been tried again."""


class Failed(msgspec.Struct, frozen=True):
    """One failure: under what and when, how the run ended, and what was wrong afterwards."""

    seed: int
    protocol: str
    trouble: str
    when: str
    outcome: str
    wrong: list[str]


def refuse_writes(stand: Stand, random: Random, *, all_of_them: bool) -> tuple[str, str, list[str]]:
    """Have the drive fail at a write that a run makes."""
    copy_image(stand.ready, stand.image)
    count = _writes_of(stand)
    copy_image(stand.ready, stand.image)
    with recorded(stand.image, stand.place) as recorder, mounted(recorder.mount, stand.drive):
        _one_at_a_time(stand)
        first = recorder.position + (number := random.randrange(count))
        recorder.fail(first, NEVER if all_of_them else first)
        outcome = stand.begun().outcome()
        if all_of_them:
            time.sleep(STAYS_SECONDS)
    with mounted(stand.image, stand.drive):
        return f"write {number} of {count}", outcome, list(stand.judged(outcome))


def _writes_of(stand: Stand) -> int:
    with recorded(stand.image, stand.place) as recorder, mounted(recorder.mount, stand.drive):
        _one_at_a_time(stand)
        begin = recorder.position
        assert stand.begun().outcome() == DONE, stand.what_was_said()
        return max(1, recorder.position - begin)


def _one_at_a_time(stand: Stand) -> None:
    """Have each request be one write of the recorder: a loop device takes one of several writes for all of them."""
    Path(f"/sys/block/{_device_of(stand)}/queue/max_sectors_kb").write_text(str(MAX_WRITE // 1024))


def refuse_call(stand: Stand, random: Random) -> tuple[str, str, list[str]]:
    """Have one call fail as on a drive that is read-only."""
    call, number = random.choice(stand.calls)
    with stand.copy():
        outcome = stand.stopped_at(call, number, "error=EROFS")
        return f"{call} {number}", outcome, list(stand.judged(outcome))


def make_read_only(stand: Stand, random: Random) -> tuple[str, str, list[str]]:
    """Have the kernel find an error in the file system, and go on reading only."""

    def strike() -> None:
        Path(f"/sys/fs/ext4/{_device_of(stand)}/trigger_fs_error").write_text("1")

    copy_image(stand.ready, stand.image)
    with mounted(stand.image, stand.drive, "errors=remount-ro"):
        when, outcome = _struck(stand, random, strike)
        read_only = _is_read_only(stand.drive)
    with mounted(stand.image, stand.drive):
        wrong = [] if read_only else ["the drive is not read-only"]
        return when, outcome, [*wrong, *stand.judged(outcome)]


def _is_read_only(drive: Path) -> bool:
    """Tried by writing: newer kernels do not say so in the flags of a file system that they gave up."""
    try:
        (drive / "tried").touch()
    except OSError as error:
        return error.errno == errno.EROFS
    return False


def _device_of(stand: Stand) -> str:
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    (device,) = (Path(words[0]).name for words in mounts if words[1] == str(stand.drive))
    return device


def take_away(stand: Stand, random: Random, other: Path | None) -> tuple[str, str, list[str]]:
    """Unmount the drive, and mount another one where it was."""
    copy_image(stand.ready, stand.image)
    wrong: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(mounted(stand.image, stand.drive, gone=True))

        def strike() -> None:
            images.run("umount", "--lazy", str(stand.drive))
            if other is not None:
                stack.enter_context(mounted(other, stand.drive))

        before = None if other is None else _tree_of(other, stand)
        when, outcome = _struck(stand, random, strike)
        wrong += _touched(stand, before)
    images.wait_until_free(stand.image)
    with mounted(stand.image, stand.drive):
        return when, outcome, [*wrong, *stand.judged(outcome)]


def _tree_of(other: Path, stand: Stand) -> object:
    with mounted(other, stand.place / "other"):
        return snapshot_of(stand.place / "other")


def _touched(stand: Stand, before: object) -> Iterator[str]:
    if before is None:
        yield from (f"{name} is in the mount point" for name in os.listdir(stand.drive))
    else:
        yield from (f"on the other drive, {it}" for it in differences(before, snapshot_of(stand.drive)))  # type: ignore[arg-type]


def _struck(stand: Stand, random: Random, strike: Callable[[], None]) -> tuple[str, str]:
    """Strike at a call of the main process, while it stands still, or at any moment of a run."""
    if random.random() < 0.5:
        call, number = random.choice(stand.calls)
        return f"{call} {number}", stand.paused_at(call, number, strike)
    running, share = stand.begun(), random.uniform(0, 1)
    time.sleep(stand.seconds * share)
    strike()
    return f"{share:.0%}", running.outcome()


def another_drive(base: Path, image: Path) -> Path:
    """A drive with the same folders that is another store."""
    copy_image(base, image)
    with mounted(image, image.parent / "making") as drive:
        identity = drive / "store" / IDENTITY_FILE
        content = msgspec.json.decode(identity.read_bytes())
        identity.write_bytes(msgspec.json.encode(content | {"uuid": str(uuid.uuid4())}))
    return image


def main(words: list[str]) -> None:
    """Have a drive fail for each seed."""
    place, trouble = make_memory(Path(words[0])), words[2]
    kind = images.XFS if trouble == "writes" else images.EXT4
    make_base(place / "base", kind)
    other = another_drive(place / "base", place / "other")
    ways: dict[str, Callable[[Stand, Random], tuple[str, str, list[str]]]] = {
        "write": lambda stand, random: refuse_writes(stand, random, all_of_them=False),
        "writes": lambda stand, random: refuse_writes(stand, random, all_of_them=True),
        "EROFS": refuse_call,
        "read-only": make_read_only,
        "unmounted": lambda stand, random: take_away(stand, random, None),
        "another": lambda stand, random: take_away(stand, random, other),
    }
    stands: dict[str, Stand] = {}
    with Path(words[1]).open("wb") as told:
        for seed in map(int, words[3:]):
            random = Random(seed)  # noqa: S311  # to be repeated, not to be secret
            stand = chosen(stands, place, kind, random)
            when, outcome, wrong = ways[trouble](stand, random)
            if outcome in {BROKEN, KILLED}:
                wrong = [f"it was {outcome}: {stand.what_was_said()}", *wrong]
            told.write(msgspec.json.encode(Failed(seed, stand.name, trouble, when, outcome, wrong)) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
