"""Anchors on the drive: what the head of the log was on some days.

No hash chain can show that its tail was cut off, or that all of it was made anew. Whoever does that to the database
would have to change this file on the backup drive as well.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Final

import msgspec

from shared.adapters.store import Store

ANCHORS_FILE: Final = ".anchors.jsonl"
READ_LIMIT_BYTES: Final = 64 * 1024 * 1024


class Anchor(msgspec.Struct, frozen=True):
    """The newest position of the log at a moment (UTC), and the hash that was there."""

    position: int
    hash: str
    at: datetime


def read_anchors(store: Store) -> list[Anchor]:
    """The anchors on the drive, oldest first. A line that was cut off by a crash is left out. Raises OSError."""
    try:
        descriptor = os.open(ANCHORS_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=store.descriptor)
    except FileNotFoundError:
        return []
    with os.fdopen(descriptor, "rb") as file:
        lines = file.read(READ_LIMIT_BYTES).split(b"\n")
    # Every whole line ends with a newline; what comes after the last one was never finished.
    return [
        msgspec.json.decode(line, type=Anchor) for line in lines[:-1] if line.startswith(b"{") and line.endswith(b"}")
    ]


def write_anchor(store: Store, anchor: Anchor) -> None:
    """Add an anchor, durably. Raises OSError and StoreRefused."""
    store.check()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(ANCHORS_FILE, flags, 0o644, dir_fd=store.descriptor)
    try:
        # A newline first, too: should the last writer have died in the middle of its line, ours is still whole.
        os.write(descriptor, b"\n" + msgspec.json.encode(anchor) + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.fsync(store.descriptor)
