"""What lies in a restore point, as JSON and pages say it."""

from __future__ import annotations

import stat
from datetime import datetime, timedelta
from typing import Final

import msgspec

from shared.adapters.point_tree import Item, Page
from shared.domain.host_state import EPOCH
from shared.domain.paths import shown, token_of

LARGEST_PAGE: Final = 1000


class FileEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something in a restore point.

    `name` is safe to show; `path` is exact, and stands in addresses as it is. `type` is file, folder, link, pipe,
    socket, device or mount.
    """

    name: str
    path: str
    type: str
    size_bytes: int | None = None
    modified: datetime | None = None
    mode: str = ""
    owner: int | None = None
    group: int | None = None
    inode: int | None = None
    target: str = ""


class Folder(msgspec.Struct, frozen=True):
    """Some of what a folder holds, in the order of the names. `next`, given back as `after`, brings the next page."""

    path: str
    total: int
    entries: list[FileEntry]
    next: str | None = None


def entry_of(item: Item, parent: bytes) -> FileEntry:
    """An item of a folder."""
    path = parent + b"/" + item.name if parent else item.name
    name, token = shown(item.name), token_of(path)
    if item.status is None:
        return FileEntry(name, token, item.kind)
    return FileEntry(
        name,
        token,
        item.kind,
        item.status.st_size if item.kind in {"file", "link"} else None,
        moment_ns(item.status.st_mtime_ns),
        f"{stat.S_IMODE(item.status.st_mode):04o}",
        item.status.st_uid,
        item.status.st_gid,
        item.status.st_ino,
        shown(item.target),
    )


def folder_of(page: Page, path: bytes) -> Folder:
    """A page of a folder."""
    last = token_of(page.items[-1].name) if page.more and page.items else None
    return Folder(token_of(path), page.total, [entry_of(item, path) for item in page.items], last)


def moment_ns(nanoseconds: int) -> datetime | None:
    """The instant of so many nanoseconds since 1970; None when no calendar has it: a host may write down anything."""
    try:
        return EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return None
