"""What becomes of restores, in plain words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from shared.domain import events
from shared.domain.wording import duration, size

MAX_NAMED: Final = 3


def _requested(event: events.RestoreRequested) -> str:
    what = _named(event.paths) if event.paths else "everything"
    by = f" by {event.by}" if event.by else ""
    if event.target == "folder":
        where = f"below {event.folder}"
    else:
        where = "back to the host, OVER THE ORIGINAL" if event.over_original else "back to the host"
    return f"A restore of {what} from {event.kind} {event.point} {where} was asked for{by}."


def _progressed(event: events.RestoreProgressed) -> str:
    eta = f", {duration(event.eta_seconds)} left" if event.eta_seconds is not None else ""
    doing = "Comparing" if event.stage == "verify" else "Restoring"
    moved = f"{size(event.transferred_bytes)} at {size(event.bytes_per_second)}/s"
    return f"{doing}: {event.percent} %, {event.files:,} files, {moved}{eta}."


def _completed(event: events.RestoreCompleted) -> str:
    text = (
        f"Restored and verified: {event.files:,} files, {size(event.size_bytes)}, in "
        f"{duration(event.duration_seconds)}. It is in {_named(event.places)}."
    )
    return " ".join([text, *event.warnings[:1]])


def _failed(event: events.RestoreFailed) -> str:
    again = "" if event.final else " It will be tried again."
    return f"The restore failed: {event.message} {event.hint}".rstrip() + again + _left(event.left)


def _cancelled(event: events.RestoreCancelled) -> str:
    by = f" by {event.by}" if event.by else ""
    return f"The restore was called off{by}.{_left(event.left)}"


def _left(places: tuple[str, ...]) -> str:
    return f" What was written so far lies in {_named(places)}." if places else ""


def _named(things: tuple[str, ...]) -> str:
    more = len(things) - MAX_NAMED
    return ", ".join(things[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


RESTORE_WORDS: Final[dict[type, Callable[[Any], str]]] = {
    events.RestoreRequested: _requested,
    events.RestoreStarted: lambda e: f"The restore started on {e.worker} (attempt {e.attempt}).",
    events.RestoreProgressed: _progressed,
    events.RestoreCompleted: _completed,
    events.RestoreFailed: _failed,
    events.RestoreCancelled: _cancelled,
    events.RestoreAbandoned: lambda _: "The restore was abandoned: its worker vanished. It begins anew.",
}
