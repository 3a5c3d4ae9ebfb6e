"""Events for who may see that all is well, but not what is in the backups: without the names of files. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from shared.domain.event import Event
from shared.domain.events import AnyEvent
from shared.domain.events_restore import RestoreCancelled, RestoreCompleted, RestoreFailed, RestoreRequested

_HIDDEN: Final[dict[type[Event], dict[str, Any]]] = {
    RestoreRequested: {"paths": (), "folder": ""},
    RestoreCompleted: {"places": (), "warnings": ()},
    RestoreFailed: {"message": "The restore failed.", "hint": "", "left": ()},
    RestoreCancelled: {"left": ()},
}


def veiled(event: AnyEvent) -> AnyEvent:
    """The event without names of files; the very same one when it has none."""
    hidden = _HIDDEN.get(type(event))
    return event if hidden is None else msgspec.structs.replace(event, **hidden)
