"""What may be asked to be restored, checked once at the edge. Pure.

A path inside a restore point is bytes; where people and JSON see it, it is percent-encoded.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

import msgspec

from shared.domain.errors import BackupManagerError
from shared.domain.event import Kind, Quality
from shared.domain.host_state import HostState

TO_FOLDER: Final = "folder"
TO_HOST: Final = "host"
MAX_PATHS: Final = 100
MAX_PATH_BYTES: Final = 4_000
CURRENT: Final = frozenset({"current", "latest"})
OWN_FILES: Final = frozenset({b".snapshot_complete", b".changes.jsonl.zst", b".files.zst"})
"""Names that only this program writes at the top of a restore point: they are no part of what was backed up."""

_BROKEN_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")
_SAFE: Final = "/ !$&'()*+,;=:@[]{}~^#"


class RestoreRefused(BackupManagerError):
    """A restore that cannot be asked for as it was."""


class RestoreEnded(RestoreRefused):
    """A restore that is over cannot be called off."""


class RestorePoint(msgspec.Struct, frozen=True):
    """A snapshot or golden copy by its name."""

    kind: Kind
    name: str


def encode_path(path: bytes) -> str:
    """A path as text: what is not printable ASCII, and %, as %XX."""
    return quote_from_bytes(path, safe=_SAFE)


def decode_path(text: str) -> bytes:
    """The path inside a restore point that a text names. Raises RestoreRefused for what leads elsewhere."""
    if _BROKEN_ESCAPE.search(text):
        raise RestoreRefused(f"{text[:200]!r} has a % that begins no %XX.", "Write a % itself as %25.")
    path = unquote_to_bytes(text).strip(b"/")
    parts = path.split(b"/")
    if not path or b"\0" in path or any(part in {b"", b".", b".."} for part in parts):
        raise RestoreRefused(
            f"{text[:200]!r} is no path inside a snapshot.", "Allowed: home/alice/letter.txt, without . and .. parts."
        )
    if len(path) > MAX_PATH_BYTES:
        raise RestoreRefused(f"{text[:200]!r}... is longer than {MAX_PATH_BYTES:,} bytes.")
    if parts[0] in OWN_FILES and len(parts) == 1:
        raise RestoreRefused(f"{text!r} belongs to the snapshot itself; it was never on the host.")
    return path


def wanted_paths(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The paths, each once, none inside another, encoded the one way. Raises RestoreRefused."""
    if len(texts) > MAX_PATHS:
        raise RestoreRefused(f"{len(texts):,} paths are more than {MAX_PATHS}.", "Restore the folder above them.")
    paths = sorted({decode_path(text) for text in texts})
    kept = [path for path in paths if not any(path.startswith(other + b"/") for other in paths)]
    return tuple(encode_path(path) for path in kept)


def wanted_point(state: HostState, text: str) -> RestorePoint:
    """The restore point that a text names: a snapshot, a golden month, `current` or `latest`.

    Raises RestoreRefused when there is none.
    """
    if text in CURRENT:
        usable = [
            name
            for name, snapshot in state.snapshots.items()
            if snapshot.quality is Quality.COMPLETE or (text == "latest" and snapshot.quality is Quality.DEGRADED)
        ]
        if usable:
            return RestorePoint(Kind.SNAPSHOT, max(usable))
    for kind in (Kind.SNAPSHOT, Kind.GOLDEN):
        name = text.removeprefix(f"{kind}/")
        if name in state.points(kind):
            return RestorePoint(kind, name)
    trashed = f"snapshot/{text}" in state.trash or f"golden/{text}" in state.trash
    hint = "It lies in the trash: bring it back first." if trashed else "Allowed: a snapshot, a golden month, latest."
    raise RestoreRefused(f"There is no restore point {text[:100]!r} of this host.", hint)


def wanted_folder(text: str, allowed: tuple[str, ...]) -> str:
    """The folder on the server, when it is allowed; the first allowed one for an empty text. Raises RestoreRefused."""
    if not text:
        return allowed[0]
    path = "/" + "/".join(part for part in text.split("/") if part not in {"", "."})
    clean = text.startswith("/") and ".." not in path.split("/") and "\0" not in text
    if not clean or not any(path == folder or path.startswith(f"{folder}/") for folder in allowed):
        raise RestoreRefused(
            f"Nothing is restored to {text[:200]!r}.",
            f"Allowed are these folders and what is below them: {', '.join(allowed)}. RESTORE_FOLDERS says which.",
        )
    return path
