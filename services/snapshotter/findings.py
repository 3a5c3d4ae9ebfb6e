"""What a finished run shows besides its snapshot: alerts and holds. Pure."""

from __future__ import annotations

from typing import Final

from services.snapshotter import steps
from services.snapshotter.file_list import Tally
from shared.domain.events import AlertRaised, AnyEvent, HoldPlaced, NewEvent, Quality, SnapshotCompleted
from shared.domain.ids import event_id

MIN_RECOPIED_FILES: Final = 100


def findings(completed: SnapshotCompleted, tally: Tally) -> list[NewEvent]:
    """The facts that follow from a finished run, under ids of its own steps."""
    found: list[tuple[int, AnyEvent]] = []
    if completed.quality is Quality.SUSPECT:
        reason = completed.warnings[0]
        found.append((steps.SUSPECT, AlertRaised(kind="shrunken_source", evidence=reason, run=completed.run)))
        found.append((steps.HOLD, HoldPlaced(reason=reason, pinned=completed.base)))
    if sharing_collapsed(tally):
        evidence = (
            f"{tally.recopied:,} files that had not changed were copied instead of shared with {completed.base}; "
            f"{tally.unchanged:,} were shared. Is hard linking broken on this drive?"
        )
        found.append((steps.SHARING, AlertRaised(kind="sharing_collapsed", evidence=evidence, run=completed.run)))
    return [NewEvent(event_id(completed.run, step), event) for step, event in found]


def sharing_collapsed(tally: Tally) -> bool:
    """Whether more unchanged files were copied than shared: rsync is silent about a base it could not use."""
    return tally.recopied >= MIN_RECOPIED_FILES and tally.recopied > tally.unchanged
