"""Where on a host the parts of a restore point came from, and where beside that they go. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from shared.domain.errors import RunFailed
from shared.domain.restore_request import encode_path

_PLAIN: Final = re.compile(rb"[A-Za-z0-9_.@%+=,-]+")
"""Names that every ssh, shell and rsync takes as they are. Others only travel inside rsync's own protocol."""


class Beside(msgspec.Struct, frozen=True):
    """A fresh directory on the host, and what goes into it: folders inside the restore point, and paths from there."""

    container: str
    sources: tuple[tuple[bytes, bytes], ...]


class InPlace(msgspec.Struct, frozen=True):
    """The directory on the host over which paths of the restore point go."""

    root: str
    paths: tuple[bytes, ...]


def roots_of(host_paths: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """For each path that is backed up: the directory on the host above it, and its path inside a snapshot."""
    found = []
    for path in host_paths:
        head, marker, tail = path.partition("/./")
        prefix, inside = (head, tail) if marker else ("", path)
        found.append(((prefix.rstrip("/") + "/").encode(), inside.strip("/").encode()))
    return found


def beside(host_paths: Sequence[str], wanted: Sequence[bytes], suffix: str) -> list[Beside]:
    """A directory beside each original: `/home/alice.restored-…`, which gets `alice` with all that is in it.

    An odd name cannot be told to every ssh: what has one goes beside the nearest folder above it that has none.
    Raises RunFailed for what was never on the host under the paths that are set.
    """
    found: dict[str, list[tuple[bytes, bytes]]] = {}
    for path in wanted:
        root, parts = _root_of(host_paths, path), path.split(b"/")
        plain = 0
        while plain < len(parts) and _PLAIN.fullmatch(parts[plain]):
            plain += 1
        if plain == 0:
            raise _no_place(path)
        container = (root + b"/".join(parts[:plain])).decode() + f".restored-{suffix}"
        above, rest = parts[: plain - 1], parts[plain - 1 :]
        found.setdefault(container, []).append((b"/".join(above), b"/".join(rest)))
    return [Beside(container, tuple(sources)) for container, sources in found.items()]


def in_place(host_paths: Sequence[str], wanted: Sequence[bytes]) -> list[InPlace]:
    """Where the originals are. Raises RunFailed for what was never on the host under the paths that are set."""
    found: dict[str, list[bytes]] = {}
    for path in wanted:
        root = _root_of(host_paths, path)
        if not all(_PLAIN.fullmatch(part) for part in (root + path).split(b"/")[:-1] if part):
            raise RunFailed(
                f"On the way to {encode_path(path)} lies a name that cannot be told to every ssh.",
                "Restore the folder above it, or beside the original.",
                code="place",
            )
        found.setdefault(root.decode(), []).append(path)
    return [InPlace(root, tuple(paths)) for root, paths in found.items()]


def ways(host_paths: Sequence[str], wanted: Sequence[bytes]) -> list[str]:
    """The folders on the host between the paths that are backed up and what is to be restored, from the top down.

    Below a name that cannot be told to every ssh nothing is named: a fresh directory never goes there.
    """
    found: dict[str, None] = {}
    for path in wanted:
        root, inside = _rooted(host_paths, path)
        parts = path.split(b"/")
        for count in range(inside.count(b"/") + 2 if inside else 1, len(parts)):
            if not _PLAIN.fullmatch(parts[count - 1]):
                break
            found[(root + b"/".join(parts[:count])).decode()] = None
    return list(found)


def _root_of(host_paths: Sequence[str], path: bytes) -> bytes:
    return _rooted(host_paths, path)[0]


def _rooted(host_paths: Sequence[str], path: bytes) -> tuple[bytes, bytes]:
    for root, inside in roots_of(host_paths):
        if not inside or path == inside or path.startswith(inside + b"/") or inside.startswith(path + b"/"):
            return root, inside
    raise _no_place(path)


def _no_place(path: bytes) -> RunFailed:
    return RunFailed(
        f"It cannot be told where on the host {encode_path(path)} belongs.",
        "Restore it to a folder on the server.",
        code="place",
    )
