"""Two lists of files are compared as a naive dictionary would compare them, in a stream, whatever the names are."""

from __future__ import annotations

import base64
import hashlib
import re
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.snapshotter.file_list import Tally, checksums_of, compare
from shared.domain.file_list import NO_CHECKSUM, Change, parse_line, real_name

SECONDS = (b"2026/11/23-01:46:33", b"2026/11/23-01:46:34", b"1995/08/10-00:00:00")
BLANK_CHECKSUM = b" " * 32
UNCHANGED = b"         "
NEW = b"+++++++++"


@dataclass(frozen=True)
class Node:
    """What a path is. `content` is a file's bytes or a link's target."""

    kind: str
    content: bytes = b""
    mode: int = 0o644
    mtime: bytes = SECONDS[0]

    @property
    def size(self) -> int:
        return 4096 if self.kind == "d" else len(self.content)

    @property
    def checksum(self) -> bytes:
        """A stand-in for xxh128: what matters is that it differs where the content does."""
        return hashlib.md5(self.content, usedforsecurity=False).hexdigest().encode() if self.kind == "f" else b"-"


Tree = Mapping[bytes, Node]

NAMES = st.lists(
    st.binary(min_size=1, max_size=4).map(lambda raw: re.sub(rb"[/\0]", b"x", raw))
    | st.sampled_from(
        [b"a", b"b", b" ", b"#", b"\\", b"\\#012", b"\n", b"\x1b", b"\x7f", b"|", b"-", b"!", b"\xff", b" -> x"]
    ),
    min_size=1,
    max_size=3,
).map(b"/".join)
NODES = st.builds(
    Node,
    kind=st.sampled_from("fffdL"),
    content=st.sampled_from([b"", b"one", b"two", b"three", b" => x", b"//", b"||||"]),
    mode=st.sampled_from([0o644, 0o600]),
    mtime=st.sampled_from(SECONDS),
)
TREES = st.dictionaries(NAMES, NODES, max_size=8)
SHARING = st.sampled_from(["works", "copies", "has no base"])


@st.composite
def two_trees(draw: st.DrawFn) -> tuple[Tree, Tree]:
    """A tree, and what became of it: some of it as it was, some of it changed, some new."""
    old = draw(TREES)
    kept = {name: draw(st.just(node) | NODES) for name, node in old.items() if draw(st.booleans())}
    return old, {**draw(TREES), **kept}


def escaped(name: bytes) -> bytes:
    """The name as rsync prints it with -8."""

    def octal(match: re.Match[bytes]) -> bytes:
        return b"\\#%03o" % match[0][0]

    return re.sub(rb"[\x01-\x08\x0a-\x1f]|\\(?=#[0-9]{3})", octal, name)


def printed(name: bytes, node: Node, itemized: bytes, checksum: bytes) -> bytes:
    """A line of rsync's output."""
    shown = escaped(name) + (b"/" if node.kind == "d" else b"")
    link = b" -> " + escaped(node.content) if node.kind == "L" else b""
    return b"%b//%b|%b|%d|%b|%b" % (shown, itemized, checksum, node.size, node.mtime, link)


def itemized(old: Node | None, new: Node, sharing: str) -> bytes:
    """What rsync 3.5 prints for a path in a fresh directory beside a base (each seen from the real one)."""
    kind = new.kind.encode()
    as_it_was = old is not None and old.kind == new.kind and sharing != "has no base"
    if new.kind == "d":
        return b"cd" + (NEW if not as_it_was else UNCHANGED if old == new else b"...p.....")
    if new.kind == "L":
        return (b"hL" + UNCHANGED) if as_it_was and old == new else b"cL" + (b"c.t......" if as_it_was else NEW)
    if old is None or not as_it_was or (old.content, old.mtime) != (new.content, new.mtime):
        return b">f" + (b".st......" if as_it_was else NEW)
    if old.mode != new.mode:
        return b"cf...p....."
    return (b"h" if sharing == "works" else b"c") + kind + UNCHANGED


def rsync_list(old: Tree, new: Tree, sharing: str = "works") -> list[bytes]:
    """What rsync prints of a tree beside its base, sorted as `sort` does."""
    lines = []
    for name, node in new.items():
        flags = itemized(old.get(name), node, sharing)
        lines.append(printed(name, node, flags, node.checksum if flags[:1] == b">" else BLANK_CHECKSUM))
    return sorted(lines)


def naive(old: Tree, new: Tree, sharing: str) -> tuple[set[tuple[str, bytes, str]], Tally]:
    """The changes as (what, name, kind), and the counts, by two dictionaries."""
    changes, tally = set[tuple[str, bytes, str]](), Tally()
    for name in old.keys() | new.keys():
        before, after = old.get(name), new.get(name)
        if before is not None and (after is None or (before.kind == "d") != (after.kind == "d")):
            changes.add(("removed", name, before.kind))
            tally.removed += before.kind == "f"
            before = None
        if after is None:
            continue
        what = "added" if before is None else changed(before, after, sharing)
        if what in {"unchanged", "recopied"}:
            setattr(tally, what, getattr(tally, what) + (after.kind == "f"))
        else:
            changes.add((what, name, after.kind))
            setattr(tally, what, getattr(tally, what) + (after.kind == "f"))
    return changes, tally


def changed(before: Node, after: Node, sharing: str) -> str:
    """What became of a path that is in both trees and is a folder in both or in none."""
    if before.kind != after.kind:
        return "modified"
    if after.kind == "d":
        return "metadata" if before != after or sharing == "has no base" else "unchanged"
    if (before.content, before.mtime) != (after.content, after.mtime):
        return "modified"
    if before.mode != after.mode and after.kind == "f" and sharing != "has no base":
        return "metadata"
    return "unchanged" if sharing == "works" or after.kind == "L" else "recopied"


@dataclass
class Result:
    """What a comparison gave out."""

    files: list[bytes] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def named(self) -> set[tuple[str, bytes, str]]:
        return {(change.change, name_of(change), change.kind) for change in self.changes}


def name_of(change: Change) -> bytes:
    """The bytes of a change's name."""
    return base64.b64decode(change.path_base64) if change.path_base64 else change.path.encode()


def compared(base: list[bytes], now: list[bytes], linked: Mapping[bytes, bytes] | None = None) -> Result:
    """Everything that a comparison yields."""
    result = Result()
    for line, change in compare(base, now, result.tally, linked or {}):
        result.files += [line[:-1]] if line else []
        result.changes += [msgspec.json.decode(change, type=Change)] if change else []
        assert line[-1:] in {b"", b"\n"}
        assert change[-1:] in {b"", b"\n"}
    return result


def first_list(tree: Tree) -> list[bytes]:
    """The stored list of a first snapshot."""
    return compared([], rsync_list({}, tree)).files


@given(two_trees(), SHARING)
@example(({b"x": Node("f", b"one")}, {b"x": Node("d")}), "works")
@example(({b"x": Node("d"), b"x/a": Node("f")}, {b"x": Node("f", b"one"), b"x!": Node("f")}), "works")
@example(({b"x": Node("f", b"one")}, {b"x": Node("L", b"one")}), "works")
@example(({b"a": Node("f", b"one")}, {b"a": Node("f", b"two")}), "works")  # the same size in the same second
def test_the_comparison_is_that_of_two_dictionaries(trees: tuple[Tree, Tree], sharing: str) -> None:
    old, new = trees
    result = compared(first_list(old), rsync_list(old, new, sharing))
    changes, tally = naive(old, new, sharing)
    assert result.named() == changes
    assert len(result.changes) == len(changes)
    assert result.tally == tally


@given(two_trees(), SHARING)
def test_each_file_has_its_checksum_whether_it_was_transferred_or_not(trees: tuple[Tree, Tree], sharing: str) -> None:
    old, new = trees
    result = compared(first_list(old), rsync_list(old, new, sharing))
    entries = [parse_line(line) for line in result.files]
    assert {real_name(entry.key): entry.checksum for entry in entries} == {
        name: node.checksum for name, node in new.items()
    }
    for change in result.changes:
        node = (old if change.change == "removed" else new)[name_of(change)]
        assert change.xxh128 == (node.checksum.decode() if node.kind == "f" else "")
        assert change.size_bytes == node.size
        assert change.modified_at == node.mtime.decode()


@given(two_trees(), SHARING)
def test_the_new_list_is_sorted_and_reads_as_what_it_says(trees: tuple[Tree, Tree], sharing: str) -> None:
    old, new = trees
    files = compared(first_list(old), rsync_list(old, new, sharing)).files
    entries = [parse_line(line) for line in files]
    assert files == sorted(files)
    assert [entry.key for entry in entries] == sorted(entry.key for entry in entries)
    assert [entry.line()[:-1] for entry in entries] == files
    assert {(real_name(entry.key), entry.kind.decode(), int(entry.size), entry.mtime) for entry in entries} == {
        (name, node.kind, node.size, node.mtime) for name, node in new.items()
    }


@given(st.lists(TREES, min_size=2, max_size=4))
def test_a_list_serves_as_the_base_of_the_next(trees: list[Tree]) -> None:
    files: list[bytes] = []
    before: Tree = {}
    for tree in trees:
        files = compared(files, rsync_list(before, tree)).files
        before = tree
    assert files == first_list(before)
    again = compared(files, rsync_list(before, before))
    assert again.changes == []
    assert again.files == files


@given(st.binary(min_size=1, max_size=30).map(lambda raw: re.sub(rb"[/\0]", b"\\#012", raw)), st.booleans())
@example(b"\\#134", False)
@example(b"\\\\#0123", True)
@example(b"\\#9999", False)
@example(b"\\#1\n", False)
@example(b"\\\n", True)
def test_a_name_comes_back_as_it_was(name: bytes, folder: bool) -> None:
    key = escaped(name) + (b"///" if folder else b"//")
    assert real_name(key) == name


def test_a_name_that_is_not_utf8_is_kept_in_base64() -> None:
    result = compared([], rsync_list({}, {b"caf\xe9": Node("f"), "café".encode(): Node("f"), b"a\nb": Node("f")}))
    assert [(change.path, change.path_base64) for change in result.changes] == [
        ("a\nb", ""),
        ("café", ""),
        ("", base64.b64encode(b"caf\xe9").decode()),
    ]


# Hard links. The lines are real ones: rsync names the first of a group, and prints no checksum for the others.

FIRST = b"home/a//>f+++++++++|5c73e7e3dcbb0395e841f27363849a18|2|2026/11/23-01:46:33|"
FOLLOWER = b"home/b//hf+++++++++|                                |2|2026/11/23-01:46:33| => home/a"
ALONE = b"home/b//>f+++++++++|0500ff9fb08faa789c8a42d344bc37c7|2|2026/11/23-01:46:33|"


def checksums(result: Result) -> dict[bytes, bytes]:
    return {real_name(entry.key): entry.checksum for entry in map(parse_line, result.files)}


def test_a_name_that_became_a_hard_link_does_not_keep_the_checksum_of_what_it_was() -> None:
    before = compared([], [FIRST, ALONE])
    now = [b"home/a//hf         |   |2|2026/11/23-01:46:33|", FOLLOWER]
    result = compared(before.files, now)
    assert checksums(result) == {b"home/a": b"5c73e7e3dcbb0395e841f27363849a18", b"home/b": NO_CHECKSUM}
    assert result.named() == {("modified", b"home/b", "f")}
    assert (result.tally.unchanged, result.tally.modified) == (1, 1)


def test_a_changed_file_is_changed_under_each_of_its_names() -> None:
    before = compared([], [FIRST, FOLLOWER])
    now = [
        b"home/a//hf+++++++++|                                |4|2026/11/23-02:00:00| => home/b",
        b"home/b//>f.st......|07baf267a0c0ef53ec95a82711cc4758|4|2026/11/23-02:00:00|",
    ]
    result = compared(before.files, now)
    assert result.named() == {("modified", b"home/a", "f"), ("modified", b"home/b", "f")}
    assert checksums(result) == {b"home/a": NO_CHECKSUM, b"home/b": b"07baf267a0c0ef53ec95a82711cc4758"}


@pytest.mark.parametrize("first", [b"home/0", b"home/z"])
def test_a_new_name_gets_the_checksum_of_the_file_it_names(first: bytes) -> None:
    """The file may stand further down the list; then the list that was just written is asked."""
    now = sorted(line.replace(b"home/a", first) for line in (FIRST, FOLLOWER))
    once = compared([], now)
    assert once.tally.links == {first}
    assert checksums(once)[b"home/b"] == NO_CHECKSUM
    linked = checksums_of(once.tally.links, once.files)
    assert linked == {first: b"5c73e7e3dcbb0395e841f27363849a18"}
    twice = compared([], now, linked)
    assert set(checksums(twice).values()) == {b"5c73e7e3dcbb0395e841f27363849a18"}
    assert {change.xxh128 for change in twice.changes} == {"5c73e7e3dcbb0395e841f27363849a18"}
    # From then on each name carries it by itself, whichever of them rsync names first.
    now = [
        b"%b//hf         |   |2|2026/11/23-01:46:33|%b" % (name, link)
        for name, link in sorted([(b"home/b", b""), (first, b" => home/b")])
    ]
    assert checksums(compared(twice.files, now)) == checksums(twice)


def test_an_unchanged_group_is_unchanged() -> None:
    before = compared([], [FIRST, FOLLOWER])
    now = [
        b"home/a//hf         |   |2|2026/11/23-01:46:33|",
        b"home/b//hf         |   |2|2026/11/23-01:46:33| => home/a",
    ]
    result = compared(before.files, now)
    assert result.changes == []
    assert result.files == before.files


@pytest.mark.parametrize(
    "line", [b"", b"home/a", b"home/a//>f", b"home/a//>f|x|1|2026", b"created directory /host/.partial-1"]
)
def test_what_is_no_line_of_a_list_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # documented as such
        parse_line(line)


def test_many_files_need_no_memory() -> None:
    def lines(itemized: bytes, checksum: bytes) -> Iterator[bytes]:
        for number in range(60_000):
            yield b"home/alice/%07d//%b|%b|%d|2026/11/23-01:46:33|" % (number, itemized, checksum, number)

    tally, count = Tally(), 0
    tracemalloc.start()
    try:
        for line, change in compare(lines(b"f", b"0" * 32), lines(b"hf" + UNCHANGED, b" " * 32), tally):
            count += len(line) > 0
            assert change == b""
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == tally.unchanged == 60_000
    assert peak < 200_000
