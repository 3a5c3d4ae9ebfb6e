"""Whether what a run will need fits on the drive and into the host's quota. Bytes and inodes, never one alone."""

from __future__ import annotations

from typing import Final

import msgspec

RESERVE_SHARE: Final = 0.02
"""A drive is never filled beyond this share of it: the log's spool and a file system both need room to work."""
LAST_SHARE: Final = 0.01
"""A run that turns out larger than was foreseen is stopped here: it is the half of the reserve."""


class Room(msgspec.Struct, frozen=True):
    """What a drive has. `free_inodes` is None on file systems that make them as they go."""

    total_bytes: int
    free_bytes: int
    total_inodes: int
    free_inodes: int | None


class Need(msgspec.Struct, frozen=True):
    """What a run will probably add, and on what grounds ("like the run before")."""

    size_bytes: int
    inodes: int
    grounds: str


def why_no_room(room: Room, need: Need) -> str:
    """Why a run would not fit, with the numbers; empty when it does."""
    usable_bytes = room.free_bytes - int(room.total_bytes * RESERVE_SHARE)
    if need.size_bytes > usable_bytes:
        return (
            f"The drive has {size(room.free_bytes)} free ({RESERVE_SHARE:.0%} of {size(room.total_bytes)} stay in "
            f"reserve), and {size(need.size_bytes)} are needed: {need.grounds}."
        )
    if room.free_inodes is not None:
        usable_inodes = room.free_inodes - int(room.total_inodes * RESERVE_SHARE)
        if need.inodes > usable_inodes:
            return (
                f"The drive has {room.free_inodes:,} free inodes ({RESERVE_SHARE:.0%} of {room.total_inodes:,} stay "
                f"in reserve), and {need.inodes:,} are needed: {need.grounds}."
            )
    return ""


def why_running_out(room: Room) -> str:
    """Why a run under way has to stop before it takes the last of a drive from all others; empty when it need not."""
    least_bytes, least_inodes = (int(total * LAST_SHARE) for total in (room.total_bytes, room.total_inodes))
    if room.free_bytes >= least_bytes and (room.free_inodes is None or room.free_inodes >= least_inodes):
        return ""
    inodes = "" if room.free_inodes is None else f" and {room.free_inodes:,} inodes"
    return f"The run was stopped: with only {size(room.free_bytes)}{inodes} left, no other host could be backed up."


def why_over_quota(used_bytes: int, quota_bytes: int | None, need: Need) -> str:
    """Why a run would exceed the host's quota, with the numbers; empty when it does not or there is none."""
    if quota_bytes is None or used_bytes + need.size_bytes <= quota_bytes:
        return ""
    return (
        f"The host uses {size(used_bytes)} of its quota of {size(quota_bytes)}, and {size(need.size_bytes)} are "
        f"needed: {need.grounds}."
    )


def size(size_bytes: int) -> str:
    """A size for people: three digits or so, and the unit."""
    value = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"
