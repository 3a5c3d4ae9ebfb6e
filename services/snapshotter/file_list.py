"""A snapshot's list of files made from rsync's, and what changed since the one before. Pure, and flat in memory.

rsync reports a checksum only for what it transferred; for
the rest the older list's value is carried forward, which is what shares the proof between snapshots. A name that
became one more name of another file has that file's checksum.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Set
from types import MappingProxyType
from typing import Final

import msgspec

from shared.domain.file_list import LINKED, NO_CHECKSUM, Change, Entry, parse_line, real_name


class Tally(msgspec.Struct):
    """What a comparison found, in files."""

    added: int = 0
    modified: int = 0
    metadata: int = 0
    removed: int = 0
    unchanged: int = 0
    recopied: int = 0
    """Files that are the same as in the base and were transferred all the same: sharing does not work."""
    links: set[bytes] = msgspec.field(default_factory=set)
    """Files that got more names, each by the first of its names."""


def compare(
    base: Iterable[bytes], now: Iterable[bytes], tally: Tally, linked: Mapping[bytes, bytes] = MappingProxyType({})
) -> Iterator[tuple[bytes, bytes]]:
    """Merge two sorted lists: yields (line for the new list, line for the change list), either may be empty.

    `linked` has the checksums of files that got more names, as far as they are known.
    """
    olds = iter(base)
    before = next(olds, None)
    for line in now:
        if before is not None and (kind := _kind_as_before(before, line)):
            tally.unchanged += kind == b"f"
            yield before + b"\n", b""
            before = next(olds, None)
            continue
        new = parse_line(line)
        if _linked_anew(new):
            new = _with_checksum(new, linked, tally)
        while before is not None and (old := parse_line(before)).key < new.key:
            yield b"", _removed(old, tally)
            before = next(olds, None)
        if before is not None and old.key == new.key:
            yield _merge(old, new, tally)
            before = next(olds, None)
        else:
            tally.added += new.kind == b"f"
            yield new.line(), _change("added", new)
    while before is not None:
        yield b"", _removed(parse_line(before), tally)
        before = next(olds, None)


_UNCHANGED: Final = b" " * 9 + b"|" + b" " * 32 + b"|"
"""What follows the kind of an entry of which rsync has nothing to report: no flag is set, and no checksum is new."""


def _kind_as_before(old: bytes, new: bytes) -> bytes:
    """The kind of an entry whose line says nothing new; empty for all others.

    Most are like that. Seeing it without taking them apart makes a comparison twice as fast.
    """
    end = new.index(b"//") + 2
    if new[end : end + 1] == b"/":
        end += 1
    what, kind, rest = new[end : end + 1], new[end + 1 : end + 2], end + 2 + len(_UNCHANGED)
    if new[end + 2 : rest] != _UNCHANGED or not old.startswith(new[:end] + kind + b"|"):
        return b""
    # Files are linked to the base (h) or left alone (.); directories are always made (c).
    if what not in b"h." and (what, kind) != (b"c", b"d"):
        return b""
    return kind if old[old.index(b"|", end + 2) + 1 :] == new[rest:] else b""


def _removed(old: Entry, tally: Tally) -> bytes:
    tally.removed += old.kind == b"f"
    return _change("removed", old)


def _merge(old: Entry, new: Entry, tally: Tally) -> tuple[bytes, bytes]:
    what = _what_changed(old, new, tally)
    if new.checksum == NO_CHECKSUM and new.kind == b"f" and not _linked_anew(new):
        new = msgspec.structs.replace(new, checksum=old.checksum)
    return new.line(), _change(what, new) if what else b""


def _linked_anew(new: Entry) -> bool:
    """Whether the name became one more name of another file of this snapshot: it has that file's content now."""
    return new.itemized[:1] == b"h" and new.link[:4] == LINKED and new.itemized[2:].strip(b". ") != b""


def _with_checksum(new: Entry, linked: Mapping[bytes, bytes], tally: Tally) -> Entry:
    first = new.link[len(LINKED) :]
    tally.links.add(first)
    return msgspec.structs.replace(new, checksum=linked.get(first, NO_CHECKSUM))


def names_linked_to(lines: Iterable[bytes]) -> set[bytes]:
    """The files of rsync's list that got more names, each by the first of its names."""
    entries = (parse_line(line) for line in lines if LINKED in line)
    return {entry.link[len(LINKED) :] for entry in entries if _linked_anew(entry)}


def checksums_of(names: Set[bytes], lines: Iterable[bytes]) -> dict[bytes, bytes]:
    """The checksums of some files of a list, by the names that are in it, as far as the list has them."""
    entries = (parse_line(line) for line in lines if line[: line.index(b"//")] in names)
    return {entry.key[:-2]: entry.checksum for entry in entries if entry.checksum != NO_CHECKSUM}


def _what_changed(old: Entry, new: Entry, tally: Tally) -> str:
    is_file = new.kind == b"f"
    same = (old.size, old.mtime, old.link) == (new.size, new.mtime, new.link)
    flags = new.itemized[2:].strip(b". ")
    if new.itemized[:1] == b">" or _linked_anew(new):
        if same and old.checksum in {new.checksum, NO_CHECKSUM}:
            tally.recopied += is_file
            return ""
        tally.modified += is_file
        return "modified"
    if new.itemized[:1] == b"c" and (flags if is_file or new.kind == b"d" else not same):
        tally.metadata += is_file
        return "metadata" if is_file or new.kind == b"d" else "modified"
    # Made here although nothing of it changed: rsync copied it from the base, because it could not link it.
    copied = new.itemized[:1] == b"c"
    tally.recopied += is_file and copied
    tally.unchanged += is_file and not copied
    return ""


_ENCODER: Final = msgspec.json.Encoder()


def _change(what: str, entry: Entry) -> bytes:
    name = real_name(entry.key)
    path, path_base64 = "", ""
    try:
        path = name.decode()
    except UnicodeDecodeError:
        path_base64 = base64.b64encode(name).decode()
    change = Change(
        what,
        entry.kind.decode("ascii", "replace"),
        int(entry.size),
        path,
        path_base64,
        "" if entry.checksum == NO_CHECKSUM else entry.checksum.decode("ascii", "replace"),
        entry.mtime.decode("ascii", "replace"),
    )
    return _ENCODER.encode(change) + b"\n"
