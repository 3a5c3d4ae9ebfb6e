"""Events in plain words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from services.cli.output import duration, size
from shared.adapters.journal import printable
from shared.domain import events
from shared.domain.events import AnyEvent
from shared.domain.names import snapshot_name

MAX_NAMES: Final = 6


def in_words(event: AnyEvent) -> str:
    """The event as one sentence, safe to print."""
    return printable(_WORDS[type(event)](event))


def _completed(event: events.SnapshotCompleted) -> str:
    text = (
        f"Snapshot {event.snapshot} is {event.quality}: {event.files:,} files, {size(event.size_bytes)}; "
        f"{size(event.transferred_bytes)} moved, {size(event.shared_bytes)} shared, "
        f"{event.removed_files:,} files gone since the last, in {duration(event.duration_seconds)}."
    )
    return " ".join([text, *event.warnings[:1]])


def _failed(event: events.SnapshotFailed) -> str:
    again = "" if event.final else " It will be tried again."
    return f"Snapshot of {snapshot_name(event.slot)} failed: {event.message} {event.hint}".rstrip() + again


def _progressed(event: events.SnapshotProgressed) -> str:
    eta = f", {duration(event.eta_seconds)} left" if event.eta_seconds is not None else ""
    moved = f"{size(event.transferred_bytes)} at {size(event.bytes_per_second)}/s"
    return f"Under way: {event.files:,} files, {moved}{eta}."


def _requested(event: events.BackupRequested) -> str:
    kind = "dry run" if event.dry_run else str(event.job)
    return f"A {kind} was asked for{f' by {event.by}' if event.by else ''}."


def _started(event: events.SnapshotStarted) -> str:
    base = f"sharing with {event.base}" if event.base else "with nothing to share yet"
    return f"Snapshot {snapshot_name(event.slot)} started on {event.worker}, {base} (attempt {event.attempt})."


def _settings(event: events.SettingsChanged) -> str:
    first, others = event.changed[:MAX_NAMES], len(event.changed) - MAX_NAMES
    return f"Settings changed: {', '.join(first)}{f' and {others} more' if others > 0 else ''}."


def _dry_run(event: events.DryRunCompleted) -> str:
    return f"Dry run {'went well' if event.ok else 'found problems'}: {' '.join(event.findings)}"


_WORDS: Final[dict[type, Callable[[Any], str]]] = {
    events.BackupRequested: _requested,
    events.RequestRefused: lambda e: f"The wish for a {e.job} was not granted: {e.reason}.",
    events.SnapshotStarted: _started,
    events.SnapshotProgressed: _progressed,
    events.SnapshotCompleted: _completed,
    events.SnapshotFailed: _failed,
    events.SnapshotAbandoned: lambda e: f"Snapshot {snapshot_name(e.slot)} was abandoned: its worker vanished.",
    events.SnapshotDiscovered: lambda e: f"Snapshot {e.snapshot} was found on the drive: {e.files:,} files.",
    events.HostFoundOffline: lambda e: e.reason,
    events.SlotSkipped: lambda e: f"The {e.job} of {snapshot_name(e.slot)} was skipped: {e.reason}.",
    events.DryRunCompleted: _dry_run,
    events.HoldPlaced: lambda e: f"Hold: nothing at or before {e.pinned or 'the next snapshot'} is removed. {e.reason}",
    events.HoldReleased: lambda e: f"The hold was released{f' by {e.by}' if e.by else ''}: {e.reason}",
    events.AlertRaised: lambda e: f"Alert: {e.evidence}",
    events.SettingsChanged: _settings,
    events.StoreEnrolled: lambda e: f"The drive {e.uuid} is the store {e.store}.",
    events.MessageRejected: lambda e: f"A message on {e.subject} ({e.size_bytes:,} bytes) was refused: {e.reason}",
}
