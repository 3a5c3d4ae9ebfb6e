"""What is heard of runs and slots: a run has one outcome, and a slot is settled once and never before its time."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.faults.simulation.world import World

OUTCOMES: Final = frozenset({"Completed", "Failed", "Abandoned", "Cancelled"})
WORKED: Final = frozenset({"SnapshotCompleted", "ArchiveCompleted", "RetentionCompleted"})
WRONG_CLOCK: Final = timedelta(days=1, hours=1)
"""The clock of the simulation may be a day fast, and a slot by that clock is as good as any."""

Slot = tuple[str, str, str]


class Slots:
    """All runs and slots."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._runs: defaultdict[str, list[str]] = defaultdict(list)
        self._slot_of: dict[str, Slot] = {}
        self._settled: dict[Slot, str] = {}

    def heard(self, host: str, kind: str, body: dict[str, Any], at: datetime) -> None:
        """An event of a host was recorded."""
        job = next((job for job in ("Snapshot", "Archive", "Retention") if kind.startswith(job)), "")
        outcome = kind.removeprefix(job)
        if "slot" not in body:
            return
        slot = (body["job"] if kind == "SlotSkipped" else job.lower(), host, str(body["slot"]))
        if job and outcome in OUTCOMES | {"Started"}:
            self._run_went(str(body["run"]), slot, outcome)
        final = outcome in {"Completed", "Cancelled"} or (outcome == "Failed" and body.get("final"))
        if kind == "SlotSkipped" or (job and final):
            self._settle(slot, str(body.get("code", kind)), at)

    def _run_went(self, run: str, slot: Slot, outcome: str) -> None:
        went = self._runs[run]
        went.append(outcome)
        self._slot_of[run] = slot
        if len(went) > 2 or went.count("Started") > 1 or (len(went) == 2 and "Started" not in went):
            self._world.wrong(f"the run {run} of {slot} went {went}")

    def _settle(self, slot: Slot, now: str, at: datetime) -> None:
        before, self._settled[slot] = self._settled.get(slot, ""), now
        # What waited in the spool of a drive that was away comes later than the word that it was away; and while the
        # log is away, nobody knows that a slot has failed for good or was skipped: it is tried once more.
        if before not in {"", "store"} and (before in WORKED or not self._world.log_was_away()):
            self._world.wrong(f"the slot {slot} was settled twice, by {before} and now by {now}")
        if datetime.fromisoformat(slot[2]) > at + WRONG_CLOCK:
            self._world.wrong(f"the slot {slot} was settled long before its time")

    def open_runs(self) -> list[str]:
        """The runs of which nobody has said how they ended."""
        return [
            run
            for run, went in self._runs.items()
            # An archive run that has only made a golden copy ends by its slot being skipped.
            if went == ["Started"] and self._settled.get(self._slot_of[run]) != "SlotSkipped"
        ]
