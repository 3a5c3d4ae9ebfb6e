"""What the log has not heard of archives and golden copies although the drive shows it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from services.archiver import steps
from shared.adapters.restore_points import StoredArchive, StoredGolden
from shared.domain.events import (
    ArchiveAbandoned,
    ArchiveDiscovered,
    GoldenDiscovered,
    NewEvent,
)
from shared.domain.host_state import HostState
from shared.domain.ids import derived_id, event_id


def recovered(
    state: HostState, archives: Sequence[StoredArchive], golden: Sequence[StoredGolden], store: str
) -> list[NewEvent]:
    """The facts the log lacks, given that no run is under way (the caller holds the host's lock).

    What the log's last run made is told under its original id; anything else was discovered. A run that is still
    open and left no archive was abandoned.
    """
    last = state.archive_run.run if state.archive_run is not None else None
    left = dict(state.archives_left_open)
    if state.archive_run is not None and state.archive_run.outcome == "running":
        left[state.archive_run.run] = state.archive_run.slot
    ours = {last, *left}
    facts = [_archive(archive, archive.record.event.run in ours, store) for archive in _unknown(archives, state)]
    known = state.golden.keys() | {key.removeprefix("golden/") for key in state.trash}
    facts += [_golden(copy, copy.record.event.run in ours, store) for copy in golden if copy.name not in known]
    made = {archive.record.event.run for archive in archives}
    for run, slot in left.items():
        if run not in made:
            facts.append(NewEvent(event_id(run, steps.ABANDONED), ArchiveAbandoned(run=run, slot=slot)))
    return facts


def _unknown(archives: Sequence[StoredArchive], state: HostState) -> list[StoredArchive]:
    return [
        archive
        for archive in archives
        if archive.name not in state.archives and f"archive/{archive.name}" not in state.trash
    ]


def _archive(archive: StoredArchive, of_last_run: bool, store: str) -> NewEvent:
    event = archive.record.event
    if of_last_run:
        return NewEvent(archive.record.id, event)
    found = ArchiveDiscovered(
        archive=archive.name,
        slot=event.slot,
        store=store,
        snapshot=event.snapshot,
        members=event.members,
        size_bytes=event.size_bytes,
        sha256=event.sha256,
        run=event.run,
    )
    return NewEvent(derived_id("archive-discovered", store, archive.name, str(event.run)), found)


def _golden(copy: StoredGolden, of_last_run: bool, store: str) -> NewEvent:
    event = copy.record.event
    if of_last_run:
        return NewEvent(copy.record.id, event)
    found = GoldenDiscovered(
        golden=copy.name,
        slot=event.slot,
        store=store,
        snapshot=event.snapshot,
        files=event.files,
        size_bytes=event.size_bytes,
        run=event.run,
    )
    return NewEvent(derived_id("golden-discovered", store, copy.name, str(event.run)), found)
