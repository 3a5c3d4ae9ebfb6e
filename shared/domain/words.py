"""Events in plain words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from shared.domain import events
from shared.domain.events import AnyEvent
from shared.domain.names import snapshot_name
from shared.domain.wording import duration, printable, size
from shared.domain.words_restore import RESTORE_WORDS

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
    kind = "A dry run" if event.dry_run else _a(event.job).capitalize()
    return f"{kind} was asked for{f' by {event.by}' if event.by else ''}."


def _started(event: events.SnapshotStarted) -> str:
    base = f"sharing with {event.base}" if event.base else "with nothing to share yet"
    return f"Snapshot {snapshot_name(event.slot)} started on {event.worker}, {base} (attempt {event.attempt})."


def _settings(event: events.SettingsChanged) -> str:
    first, others = event.changed[:MAX_NAMES], len(event.changed) - MAX_NAMES
    return f"Settings changed: {', '.join(first)}{f' and {others} more' if others > 0 else ''}."


def _dry_run(event: events.DryRunCompleted) -> str:
    return f"Dry run {'went well' if event.ok else 'found problems'}: {' '.join(event.findings)}"


def _archive_started(event: events.ArchiveStarted) -> str:
    also = f" and the golden copy of {event.golden}" if event.golden else ""
    return f"Archive of {event.snapshot}{also} started on {event.worker} (attempt {event.attempt})."


def _archive_progressed(event: events.ArchiveProgressed) -> str:
    eta = f", {duration(event.eta_seconds)} left" if event.eta_seconds is not None else ""
    return (
        f"Packing: {event.members:,} entries, {size(event.read_bytes)} into {size(event.written_bytes)}"
        f" at {size(event.bytes_per_second)}/s{eta}."
    )


def _archived(event: events.ArchiveCompleted) -> str:
    text = (
        f"Archive {event.archive} was packed and read back: {event.members:,} entries, "
        f"{size(event.source_bytes)} in {size(event.size_bytes)}, in {duration(event.duration_seconds)}."
    )
    return " ".join([text, *event.warnings[:1]])


def _again(what: str, event: events.ArchiveFailed | events.RetentionFailed) -> str:
    again = "" if event.final else " It will be tried again."
    return f"{what} of {snapshot_name(event.slot)} failed: {event.message} {event.hint}".rstrip() + again


def _ordered(event: events.RemovalOrdered) -> str:
    covered = f" Still there: {', '.join(event.covered_by[:2])}." if event.covered_by else ""
    return f"The {event.kind} {event.point} is to go ({event.tier}): {'; '.join(event.reasons)}.{covered}"


def _retained(event: events.RetentionCompleted) -> str:
    if event.refused:
        return f"Nothing was removed: {' '.join(event.refused)}"
    foreign = f" Not ours, and left alone: {', '.join(event.foreign[:MAX_NAMES])}." if event.foreign else ""
    return f"Retention: {event.kept:,} kept, {event.removed:,} to the trash, {event.purged:,} purged.{foreign}"


def _a(job: events.Job) -> str:
    return f"{'an' if job is events.Job.ARCHIVE else 'a'} {job}"


def _by(event: Any) -> str:
    return f" by {event.by}" if event.by else ""


def _from(event: Any) -> str:
    return f"{_by(event) if hasattr(event, 'by') else ''}{f' from {event.address}' if event.address else ''}"


def _role(event: events.UserAdded | events.UserChanged) -> str:
    of = f" for {', '.join(event.hosts[:MAX_NAMES]) or 'no host'}" if event.hosts is not None else ""
    return f"{event.role}{of}"


def _user_changed(event: events.UserChanged) -> str:
    role = f" ({_role(event)})" if event.role else ""
    return f"User {event.user}: {event.what} changed{role}{_from(event)}."


def _login_refused(event: events.LoginRefused) -> str:
    if event.attempts > 1:
        return f"{event.attempts:,} more log-ins were refused."
    return f"A log-in{f' as {event.user}' if event.user else ''} was refused{_from(event)}."


_WORDS: Final[dict[type, Callable[[Any], str]]] = RESTORE_WORDS | {
    events.BackupRequested: _requested,
    events.RequestRefused: lambda e: f"The wish for {_a(e.job)} was not granted: {e.reason}.",
    events.SnapshotStarted: _started,
    events.SnapshotProgressed: _progressed,
    events.SnapshotCompleted: _completed,
    events.SnapshotFailed: _failed,
    events.SnapshotAbandoned: lambda e: f"Snapshot {snapshot_name(e.slot)} was abandoned: its worker vanished.",
    events.SnapshotDiscovered: lambda e: f"Snapshot {e.snapshot} was found on the drive: {e.files:,} files.",
    events.SnapshotCancelled: lambda e: f"Snapshot {snapshot_name(e.slot)} was called off{_by(e)}.",
    events.ArchiveStarted: _archive_started,
    events.ArchiveProgressed: _archive_progressed,
    events.ArchiveCompleted: _archived,
    events.ArchiveFailed: lambda e: _again("Archive", e),
    events.ArchiveCancelled: lambda e: f"The archive of {snapshot_name(e.slot)} was called off{_by(e)}.",
    events.ArchiveAbandoned: lambda e: f"The archive of {snapshot_name(e.slot)} was abandoned: its worker vanished.",
    events.ArchiveDiscovered: lambda e: f"Archive {e.archive} was found on the drive: {size(e.size_bytes)}.",
    events.GoldenCompleted: lambda e: f"Golden copy {e.golden} of {e.snapshot}: {e.files:,} files.",
    events.GoldenFailed: lambda e: f"Golden copy {e.golden} failed: {e.message} {e.hint}".rstrip(),
    events.GoldenDiscovered: lambda e: f"Golden copy {e.golden} was found on the drive: {e.files:,} files.",
    events.RetentionStarted: lambda e: f"Retention started on {e.worker} under policy {e.policy}.",
    events.RemovalOrdered: _ordered,
    events.PurgeOrdered: lambda e: (
        f"{e.kind}/{e.point} is to be purged after {duration(e.trashed_seconds)} in the trash."
    ),
    events.PointTrashed: lambda e: f"The {e.kind} {e.point} lies in the trash; `undelete` brings it back.",
    events.PointUndeleted: lambda e: f"The {e.kind} {e.point} was brought back from the trash{_by(e)}.",
    events.PointPurged: lambda e: f"The {e.kind} {e.point} was purged: {e.entries:,} entries.",
    events.PointLost: lambda e: f"The {e.kind} {e.point} is lost{_by(e)}: {e.reason}",
    events.RetentionCompleted: _retained,
    events.RetentionFailed: lambda e: _again("Retention", e),
    events.RetentionCancelled: lambda e: f"Retention of {snapshot_name(e.slot)} was called off{_by(e)}.",
    events.RetentionAbandoned: lambda e: f"Retention of {snapshot_name(e.slot)} was abandoned: its worker vanished.",
    events.PlanConfirmed: lambda e: f"The removal of {len(e.points):,} restore points was confirmed{_by(e)}.",
    events.ClockTrusted: lambda e: f"The clock is trusted{_by(e)}: {e.reason}",
    events.HostFoundOffline: lambda e: e.reason,
    events.SlotSkipped: lambda e: f"The {e.job} of {snapshot_name(e.slot)} was skipped: {e.reason}.",
    events.DryRunCompleted: _dry_run,
    events.HoldPlaced: lambda e: (
        f"Hold: nothing at or before {e.pinned or 'the next snapshot'} is removed. {e.reason}"
        + (f" By {printable(e.by)}." if e.by else "")
    ),
    events.HoldReleased: lambda e: f"The hold was released{f' by {e.by}' if e.by else ''}: {e.reason}",
    events.AlertRaised: lambda e: f"Alert: {e.evidence}",
    events.SettingsChanged: _settings,
    events.StoreMeasured: lambda e: f"The drive {e.store} has {size(e.free_bytes)} of {size(e.total_bytes)} free.",
    events.HostMoved: lambda e: (
        f"{e.points:,} restore points were copied from {e.source} to {e.target}, where it lives now."
    ),
    events.StoreEnrolled: lambda e: f"The drive {e.uuid} is the store {e.store}.",
    events.MessageRejected: lambda e: f"A message on {e.subject} ({e.size_bytes:,} bytes) was refused: {e.reason}",
    events.UserAdded: lambda e: f"User {e.user} was added as {_role(e)}{_from(e)}.",
    events.UserChanged: _user_changed,
    events.UserRemoved: lambda e: f"User {e.user} was removed{_from(e)}.",
    events.LoggedIn: lambda e: f"{e.user} logged in{_from(e)}.",
    events.LoggedOut: lambda e: f"{e.user} logged out{_from(e)}.",
    events.LoginRefused: _login_refused,
    events.TokenMade: lambda e: f"Token {e.token} of {e.user} was made{_from(e)}.",
    events.TokenRevoked: lambda e: f"Token {e.token} of {e.user} was revoked{_from(e)}.",
    events.SetupLinkMade: lambda e: f"A set-up link was made{_by(e)}.",
}
