"""`python -m tests.faults.worker PLACE PROTOCOL PART EFFECT...`: try a half of all disturbances of one protocol.

PLACE/base is the drive to begin with; without PROTOCOL it is made. Each line of PLACE/PART/told is one disturbance
that struck, as JSON: what it was, and what was wrong then.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import msgspec

from shared.adapters import filesystem
from shared.adapters.filesystem import open_directory
from tests.faults import strace
from tests.faults.drives import FIRST_RUN, build_drive, opened
from tests.faults.judge import Judge, nobody_works, recover, shape
from tests.faults.processes import DONE, KILLED, REFUSED, Running
from tests.faults.protocols import Protocol
from tests.faults.restores import STRUCK
from tests.support.builders import HOST, a_run

PARTS: Final = 2
EFFECTS: Final = {"kill": strace.KILL, "EIO": strace.EIO, "ENOSPC": strace.ENOSPC}


class Tried(msgspec.Struct, frozen=True):
    """One disturbance: of the how-manieth call of a thread, and what was wrong then."""

    who: str
    effect: str
    call: str
    number: int
    wrong: list[str]


@dataclass
class Trial:
    """One protocol on copies of one drive."""

    place: Path
    protocol: Protocol
    judge: Judge = field(init=False)
    goal: dict[bytes, tuple[object, ...]] = field(init=False)

    def prepare(self) -> list[tuple[str, int]]:
        """Run it undisturbed; returns the calls of its main process that change the drive."""
        copy(self.place.parent / "base", self.place / "ready")
        with opened(self.place / "ready/store") as (_, folder):
            self.judge = Judge.of(self.protocol, folder)
            self.protocol.prepare(folder)
        root = self._fresh()
        outcome = self._main(root, "")
        assert outcome == DONE, (outcome, self._said())
        with opened(root) as (_, folder):
            self.judge.learn(folder)
            recover(folder)
            wrong = [*self.judge.recovered(folder), *self.protocol.beside(root.parent, done=True, over=True)]
            assert wrong == [], wrong
            self.goal = shape(folder)
        return strace.changes(self.place / "log", root.parent)

    def main_process(self, call: str, number: int, effect: str) -> list[str]:
        """Disturb the main process at one call; returns what was wrong."""
        root = self._fresh()
        outcome = self._main(root, f"{call}:{EFFECTS[effect]}:when={number}")
        wrong = [] if strace.struck(self.place / "log") else ["it did not strike"]
        return [*wrong, *self._judged(root, outcome, {KILLED if effect == "kill" else REFUSED})]

    def calls_of_programs(self) -> dict[str, list[int]]:
        """The kinds of calls by which its programs change the drive, and which of a thread's calls of a kind do."""
        root = self._fresh()
        assert self._with_traced_programs(root, "", with_main=False) == DONE, self._said()
        found = {change for log in self._logs() for change in strace.changes(log, root.parent)}
        return {call: sorted(number for kind, number in found if kind == call) for call, _ in sorted(found)}

    def program(self, call: str, number: int, effect: str, *, with_main: bool) -> list[str] | None:
        """Disturb a program of it; returns what was wrong, or None when none makes so many calls."""
        root = self._fresh()
        disturbance = f"{call}:{EFFECTS[effect]}:when={number}"
        outcome = self._with_traced_programs(root, disturbance, with_main=with_main)
        if outcome == DONE and not any(strace.struck(log) for log in self._logs()):
            return None
        # What rsync cannot set it may leave; it is the comparison that decides.
        good = {KILLED} if with_main else {REFUSED} if self.protocol.steady else {REFUSED, DONE}
        return self._judged(root, outcome, good)

    def _with_traced_programs(self, root: Path, disturbance: str, *, with_main: bool) -> str:
        for log in self._logs():
            log.unlink()
        given = ["-ff", *strace.options(self.place / "programs", disturbance), *self._only(root)]
        real, logs = self.protocol.program, self.place / "programs"
        script = strace.traced(
            self.place / "bin" / Path(real).name,
            real,
            self.protocol.programs,
            given,
            with_main=logs if with_main else None,
        )
        running = Running(self.protocol, root, FIRST_RUN, self.place / "said", script=script)
        running.begin()
        return running.outcome()

    def _logs(self) -> list[Path]:
        return list(self.place.glob("programs.*"))

    def _only(self, root: Path) -> list[str]:
        """What strace looks at: of the packer only its file, for it also writes to pipes, from several threads."""
        partial = root / HOST / f"archives/.partial-{FIRST_RUN}.tar.gz"
        return ["-P", str(partial)] if "packer" in self.protocol.programs else []

    def _judged(self, root: Path, outcome: str, good: set[str]) -> list[str]:
        wrong = [] if outcome in good else [f"it was {outcome}, not {good}: {self._said()}"]
        beside = partial(self.protocol.beside, root.parent)
        with opened(root) as (_, folder):
            nobody_works(folder, self.protocol.job)
            wrong += [*self.judge.now(folder), *beside(done=outcome == DONE, over=False)]
            recover(folder)
            wrong += self.judge.recovered(folder)
            second = Running(self.protocol, root, a_run(), self.place / "said")
            second.begin()
            if (outcome := second.outcome()) != DONE:
                return [*wrong, f"the second run was {outcome}: {self._said()}"]
            recover(folder)
            wrong += [*self.judge.recovered(folder), *beside(done=True, over=True)]
            wrong += different(self.goal, shape(folder))
        return wrong

    def _main(self, root: Path, disturbance: str) -> str:
        running = Running(self.protocol, root, FIRST_RUN, self.place / "said")
        tracer = strace.attach(running.pid, strace.options(self.place / "log", disturbance))
        running.begin()
        outcome = running.outcome()
        os.waitpid(tracer, 0)
        return outcome

    def _fresh(self) -> Path:
        copy(self.place / "ready", self.place / "drive")
        (self.place / "said").write_text("")
        return self.place / "drive/store"

    def _said(self) -> str:
        return (self.place / "said").read_text()


def copy(source: Path, target: Path) -> None:
    """Copy a drive, hard links and all."""
    if target.exists():
        with open_directory(target.parent) as parent:
            filesystem.remove_tree(target.name, at=parent)
    pid = os.posix_spawnp("cp", ["cp", "-a", str(source), str(target)], os.environ)
    assert os.waitpid(pid, 0)[1] == 0


def different(wanted: dict[bytes, tuple[object, ...]], found: dict[bytes, tuple[object, ...]]) -> Iterator[str]:
    """In what the end is not that of an undisturbed run."""
    for path in sorted(wanted.keys() | found.keys()):
        if wanted.get(path) != found.get(path):
            yield f"in the end {path!r} is {found.get(path)}, not {wanted.get(path)}"


def try_main_process(trial: Trial, part: int, effects: list[str]) -> Iterator[Tried]:
    """Disturb each of its calls that changes the drive, in every way."""
    cases = [(call, number, effect) for call, number in trial.prepare() for effect in effects]
    for call, number, effect in cases[part::PARTS]:
        yield Tried("the main process", effect, call, number, trial.main_process(call, number, effect))


def try_programs(trial: Trial, part: int, effects: list[str]) -> Iterator[Tried]:
    """Disturb its programs at each call of such a kind, for as long as any of them makes so many.

    Those that are not steady are disturbed only where they changed the drive before.
    """
    ways = [
        (effect, with_main) for effect in effects for with_main in (False, True) if effect == "kill" or not with_main
    ]
    known, steady = trial.calls_of_programs(), trial.protocol.steady
    cases = [(call, *way) for call in known for way in ways]
    for call, effect, with_main in cases[part::PARTS]:
        who = "a program and the main process" if with_main else "a program"
        for number in count(1) if steady else known[call]:
            wrong = trial.program(call, number, effect, with_main=with_main)
            if wrong is not None:
                yield Tried(who, effect, call, number, wrong)
            elif steady:
                break


def main(words: list[str]) -> None:
    """Make the base, or try a part of a protocol."""
    place = Path(words[0])
    if len(words) == 1:
        (place / "base").mkdir()
        build_drive(place / "base/store")
        return
    name, part, effects = words[1], int(words[2]), words[3:]
    (place / words[2]).mkdir()
    trial = Trial(place / words[2], STRUCK[name])
    with (trial.place / "told").open("wb") as told:
        for tried in try_main_process(trial, part, effects):
            told.write(msgspec.json.encode(tried) + b"\n")
        for tried in try_programs(trial, part, effects) if trial.protocol.programs else ():
            told.write(msgspec.json.encode(tried) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
