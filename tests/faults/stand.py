"""Where protocols are disturbed on file systems in files: each trial has a copy of the drive that all begin with."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from shared.domain.events import Kind
from tests.faults import strace
from tests.faults.drives import FIRST_RUN, build_drive, opened
from tests.faults.images import copy_image, make_image, mounted
from tests.faults.judge import Judge, nobody_works, points, recover, shape
from tests.faults.processes import DONE, Running
from tests.faults.protocols import Protocol
from tests.faults.restores import STRUCK
from tests.faults.transfers import TAKE
from tests.faults.worker import different
from tests.support.builders import a_run

ALL: Final = {**STRUCK, "take a snapshot": TAKE}
WEIGHTS: Final = {"take a snapshot": 4, "complete a snapshot": 2, "make an archive": 2, "make a golden copy": 2}
RELUCTANT_SECONDS: Final = 0.02


@dataclass
class Stand:
    """One protocol on one kind of file system."""

    place: Path
    name: str
    kind: str
    judge: Judge = field(init=False)
    goal: dict[bytes, tuple[object, ...]] = field(init=False)
    there: set[tuple[Kind, str]] = field(init=False)
    calls: list[tuple[str, int]] = field(init=False)
    seconds: float = field(init=False)

    @property
    def protocol(self) -> Protocol:
        """What is tried."""
        return ALL[self.name]

    @property
    def ready(self) -> Path:
        """The image that each trial has a copy of."""
        return self.place / "ready"

    @property
    def drive(self) -> Path:
        """Where the drive is mounted, in every trial."""
        return self.place / "mount"

    @property
    def root(self) -> Path:
        """The store on it."""
        return self.drive / "store"

    def prepare(self, base: Path) -> None:
        """Make the drive, and run the protocol undisturbed on a copy of it."""
        self.place.mkdir()
        copy_image(base, self.ready)
        with mounted(self.ready, self.drive), opened(self.root) as (_, folder):
            self.judge = Judge.of(self.protocol, folder)
            # What a preparation makes besides is a bystander, too.
            self.protocol.prepare(folder)
            self.judge = _with_more(self.judge, Judge.of(self.protocol, folder))
        self.seconds = min(self._undisturbed() for _ in range(2))
        with self.copy():
            running = Running(self.protocol, self.root, FIRST_RUN, self.said)
            tracer = strace.attach(running.pid, strace.options(self.log))
            running.begin()
            assert (outcome := running.outcome()) == DONE, (outcome, self.what_was_said())
            os.waitpid(tracer, 0)
            self.calls = strace.changes(self.log, self.drive)
            with opened(self.root) as (_, folder):
                self.judge.learn(folder)
                recover(folder)
                wrong = list(self.judge.recovered(folder))
                assert wrong == [], wrong
                self.goal, self.there = shape(folder), points(folder)

    def _undisturbed(self) -> float:
        with self.copy():
            running = self.begun()
            started = time.monotonic()
            assert (outcome := running.outcome()) == DONE, (outcome, self.what_was_said())
            return time.monotonic() - started

    @contextmanager
    def copy(self) -> Iterator[Path]:
        """A copy of the drive, mounted."""
        copy_image(self.ready, self.image)
        with mounted(self.image, self.drive):
            yield self.drive

    @property
    def image(self) -> Path:
        """The copy that a trial works on."""
        return self.place / "image"

    @property
    def log(self) -> Path:
        """What strace tells."""
        return self.place / "log"

    @property
    def said(self) -> Path:
        """What the process said that ended badly."""
        return self.place / "said"

    def what_was_said(self) -> str:
        """Its words."""
        return self.said.read_text() if self.said.exists() else ""

    def begun(self) -> Running:
        """The protocol, under way."""
        self.said.write_text("")
        running = Running(self.protocol, self.root, FIRST_RUN, self.said)
        running.begin()
        return running

    def stopped_at(self, call: str, number: int, disturbance: str) -> str:
        """Run it until a call of its main process is disturbed, and to its end; returns how it ended."""
        self.said.write_text("")
        running = Running(self.protocol, self.root, FIRST_RUN, self.said)
        tracer = strace.attach(running.pid, strace.options(self.log, f"{call}:{disturbance}:when={number}"))
        running.begin()
        outcome = running.outcome()
        os.waitpid(tracer, 0)
        return outcome

    def paused_at(self, call: str, number: int, strike: Callable[[], None]) -> str:
        """Run it, have it stand still after a call of its main process, strike, and let it go on to its end."""
        self.said.write_text("")
        running = Running(self.protocol, self.root, FIRST_RUN, self.said)
        tracer = strace.attach(running.pid, strace.options(self.log, f"{call}:signal=SIGSTOP:when={number}"))
        running.begin()
        strace.wait_for(self.log, "stopped by SIGSTOP")
        try:
            strike()
        finally:
            os.kill(running.pid, signal.SIGCONT)
            outcome = running.outcome()
            os.waitpid(tracer, 0)
        return outcome

    def judged(self, outcome: str, *, mend: Callable[[], None] = lambda: None) -> Iterator[str]:
        """What is wrong with the drive that is mounted, after a run that ended like this, and after the next one.

        `mend` takes the trouble away that is still there, before anybody clears up.
        """
        with opened(self.root) as (_, folder):
            nobody_works(folder, self.protocol.job)
            yield from self.judge.now(folder)
            yield from self.protocol.beside(self.drive, done=outcome == DONE, over=False)
            mend()
            recover(folder)
            yield from self.judge.recovered(folder)
            if outcome == DONE and (there := points(folder)) != self.there:
                yield f"it was done, but these are not as they were then: {sorted(there ^ self.there)}"
            second = Running(self.protocol, self.root, a_run(), self.said)
            second.begin()
            if (outcome := second.outcome()) != DONE:
                yield f"the second run was {outcome}: {self.what_was_said()}"
                return
            recover(folder)
            yield from self.judge.recovered(folder)
            yield from self.protocol.beside(self.drive, done=True, over=True)
            yield from different(self.goal, shape(folder))


def _with_more(before: Judge, after: Judge) -> Judge:
    """A judge who knows what was there before and after a preparation; the victim is as it was before it."""
    return Judge(after.protocol, {**after.trees, **before.trees}, {**after.packed, **before.packed}, after.members)


def chosen(stands: dict[str, Stand], place: Path, kind: str, random: Random) -> Stand:
    """A stand with a protocol, those that make restore points more often than others; prepared once each."""
    (name,) = random.choices(list(ALL), weights=[WEIGHTS.get(name, 1) for name in ALL])
    if name not in stands:
        stands[name] = Stand(place / str(len(stands)), name, kind)
        stands[name].prepare(place / "base")
    return stands[name]


def make_base(path: Path, kind: str, *options: str) -> None:
    """Make an image with the drive that all protocols begin with."""
    make_image(path, kind, *options)
    with mounted(path, path.parent / "making") as drive:
        build_drive(drive / "store")


@contextmanager
def neighbour(drive: Path, *, there: bool) -> Iterator[None]:
    """Somebody else on the same drive who wants what he writes to be there at once: it makes everybody's names durable.

    What was written to their files need not be.
    """
    if not there:
        yield
        return
    pid = os.fork()
    if pid == 0:
        _write_for_ever(drive / "neighbour")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _write_for_ever(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        while True:
            os.write(descriptor, b"note")
            os.fsync(descriptor)
            time.sleep(RELUCTANT_SECONDS / 10)
    finally:
        os._exit(0)


def phase(folder: Path, protocol: Protocol) -> str:
    """How far a run was, by what is on the drive."""
    kind, name = protocol.victim
    place = {Kind.SNAPSHOT: "hourly", Kind.ARCHIVE: "archives", Kind.GOLDEN: "monthly"}[kind]
    partial = any(entry.startswith(".partial-") for top in (folder, folder / place) for entry in os.listdir(top))
    trash = any((folder / ".trash" / run / kind / name).exists() for run in os.listdir(folder / ".trash"))
    facts = {"partial": partial, "in place": (folder / place / name).exists(), "in trash": trash}
    return ", ".join(fact for fact, true in facts.items() if true) or "neither"
