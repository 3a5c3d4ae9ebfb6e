"""The comparison that other tests rely on finds every kind of difference, and nothing where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.adapters import process
from tests.support.trees import differences, inodes, snapshot_of

ODD = b"odd \xff\n\x1b[31m -> x"


@pytest.fixture
def original(tmp_path: Path) -> Path:
    root = tmp_path / "original"
    (root / "docs/empty").mkdir(parents=True)
    (root / "docs/a.txt").write_bytes(b"first")
    (root / "docs/b.txt").write_bytes(b"second")
    os.link(root / "docs/a.txt", root / "a-again")
    os.link(root / "docs/a.txt", root / "a-third")
    (root / "link").symlink_to("docs/a.txt")
    (root / "dangling").symlink_to("/nowhere/at/all")
    os.mkfifo(root / "fifo")
    (Path(os.fsdecode(os.fsencode(root) + b"/" + ODD))).write_bytes(b"odd")
    with (root / "sparse").open("wb") as sparse:
        sparse.truncate(4 * 1024 * 1024)
    os.utime(root / "docs/b.txt", ns=(1, 815_000_000_123_456_789))
    return root


@pytest.fixture
async def copy(original: Path) -> Path:
    return await exact_copy(original)


async def exact_copy(original: Path) -> Path:
    target = original.with_name("copy")
    argv = ["cp", "-a", "--sparse=always", "-T", "--", str(original), str(target)]
    finished = await process.run(argv, timeout_seconds=30)
    assert finished.returncode == 0, finished.said
    return target


def keeping_time(path: Path, act: Callable[[], object]) -> None:
    """Do something to a path without leaving a trace in its time or in that of its folder."""
    times = {one: one.lstat() for one in (path, path.parent)}
    act()
    for one, about in times.items():
        if os.path.lexists(one):
            os.utime(one, ns=(about.st_atime_ns, about.st_mtime_ns), follow_symlinks=False)


def test_an_exact_copy_has_no_differences(original: Path, copy: Path) -> None:
    assert differences(snapshot_of(original), snapshot_of(copy)) == []


def test_every_path_is_there_as_bytes(original: Path) -> None:
    entries = snapshot_of(original).entries
    assert entries[ODD].kind == "file"
    assert entries[b"."].kind == "directory"
    assert entries[b"docs/empty"].size == 0
    assert entries[b"dangling"].target == b"/nowhere/at/all"
    assert entries[b"fifo"].kind == "fifo"
    assert entries[b"docs/b.txt"].mtime_ns == 815_000_000_123_456_789
    assert len(entries) == 12


def test_one_flipped_bit_is_found(original: Path, copy: Path) -> None:
    keeping_time(copy / "docs/b.txt", lambda: (copy / "docs/b.txt").write_bytes(b"secone"))
    (sentence,) = differences(snapshot_of(original), snapshot_of(copy))
    assert sentence.startswith("'docs/b.txt': content is sha256 ")


def test_another_size_is_found(original: Path, copy: Path) -> None:
    keeping_time(copy / "docs/b.txt", lambda: (copy / "docs/b.txt").write_bytes(b"second!"))
    found = differences(snapshot_of(original), snapshot_of(copy))
    assert found[0] == "'docs/b.txt': size is 7 bytes, expected 6 bytes"
    assert len(found) == 2


@pytest.mark.parametrize("name", ["docs/b.txt", "docs", "."])
def test_another_mode_is_found(original: Path, copy: Path, name: str) -> None:
    before = (copy / name).stat().st_mode & 0o7777
    (copy / name).chmod(0o2700)
    assert differences(snapshot_of(original), snapshot_of(copy)) == [f"'{name}': mode is 2700, expected {before:04o}"]


@pytest.mark.parametrize("name", ["docs/b.txt", "docs/empty", "link", "fifo", "."])
def test_one_nanosecond_is_found(original: Path, copy: Path, name: str) -> None:
    later = (copy / name).lstat().st_mtime_ns + 1
    os.utime(copy / name, ns=(later, later), follow_symlinks=False)
    expected = [f"'{name}': mtime is {later} ns, expected {later - 1} ns"]
    assert differences(snapshot_of(original), snapshot_of(copy)) == expected
    assert differences(snapshot_of(original), snapshot_of(copy), mtimes=False) == []


def test_another_link_target_is_found(original: Path, copy: Path) -> None:
    def point_elsewhere() -> None:
        (copy / "link").unlink()
        (copy / "link").symlink_to("docs/b.txt")

    keeping_time(copy / "link", point_elsewhere)
    assert differences(snapshot_of(original), snapshot_of(copy)) == [
        "'link': link target is 'docs/b.txt', expected 'docs/a.txt'"
    ]


def test_a_link_that_became_its_target_is_found(original: Path, copy: Path) -> None:
    def follow() -> None:
        (copy / "link").unlink()
        shutil.copy2(copy / "docs/a.txt", copy / "link")

    keeping_time(copy / "link", follow)
    assert differences(snapshot_of(original), snapshot_of(copy)) == ["'link': is a file, expected a symlink"]


def test_a_split_hard_link_is_found(original: Path, copy: Path) -> None:
    def split() -> None:
        (copy / "a-again").unlink()
        shutil.copy2(copy / "docs/a.txt", copy / "a-again")

    keeping_time(copy / "a-again", split)
    found = differences(snapshot_of(original), snapshot_of(copy))
    assert found == [
        "'a-again', 'a-third', 'docs/a.txt': expected to be one file under these names (hard links), but are not",
        "'a-third', 'docs/a.txt': are one file under these names (hard links), which is not expected",
    ]
    assert differences(snapshot_of(original), snapshot_of(copy), links=False) == []


def test_a_missing_name_of_a_hard_link_is_only_missing(original: Path, copy: Path) -> None:
    keeping_time(copy / "a-again", (copy / "a-again").unlink)
    found = differences(snapshot_of(original), snapshot_of(copy))
    assert found == ["'a-again': missing, expected a file"]


def test_missing_and_extra_are_found(original: Path, copy: Path) -> None:
    keeping_time(copy / "docs/empty", (copy / "docs/empty").rmdir)
    keeping_time(copy / "docs/b.txt", (copy / "docs/b.txt").unlink)
    (copy / "extra").write_bytes(b"x")
    assert differences(snapshot_of(original), snapshot_of(copy), root=False) == [
        "'docs/b.txt': missing, expected a file",
        "'docs/empty': missing, expected a directory",
        "'extra': extra, a file that is not expected",
    ]


def test_extended_attributes_are_found(original: Path, copy: Path) -> None:
    try:
        os.setxattr(copy / "docs/b.txt", b"user.colour", b"red")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    os.setxattr(copy / "docs", b"user.tag", b"\xff")
    expected, actual = snapshot_of(original), snapshot_of(copy)
    assert differences(expected, actual) == [
        "'docs': xattrs is {b'user.tag': b'\\xff'}, expected {}",
        "'docs/b.txt': xattrs is {b'user.colour': b'red'}, expected {}",
    ]
    assert differences(expected, actual, xattrs=False) == []


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_owner_is_found(original: Path, copy: Path) -> None:
    os.chown(copy / "link", 1000, 1001, follow_symlinks=False)
    expected, actual = snapshot_of(original), snapshot_of(copy)
    assert differences(expected, actual) == [
        "'link': user is 1000, expected 0",
        "'link': group is 1001, expected 0",
    ]
    assert differences(expected, actual, owners=False) == []


def test_an_excluded_directory_is_not_entered(original: Path) -> None:
    seen: list[bytes] = []

    def exclude(path: bytes) -> bool:
        seen.append(path)
        return path == b"docs"

    tree = snapshot_of(original, exclude=exclude)
    assert not [path for path in tree.entries if path.startswith(b"docs")]
    assert not [path for path in seen if path.startswith(b"docs/")]


def test_links_out_of_the_tree_are_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "way-out").symlink_to(outside)
    assert list(snapshot_of(root).entries) == [b".", b"way-out"]
    assert inodes(root) == {}


def test_a_folder_that_is_itself_a_link_may_be_the_root(tmp_path: Path, original: Path) -> None:
    (tmp_path / "current").symlink_to("original")
    assert differences(snapshot_of(original), snapshot_of(tmp_path / "current")) == []


def test_holes_take_no_room(original: Path) -> None:
    tree = snapshot_of(original)
    assert tree.entries[b"sparse"].size == 4 * 1024 * 1024
    assert tree.entries[b"sparse"].allocated_bytes == 0
    assert tree.allocated_bytes < 1024 * 1024


def test_hard_links_count_once(original: Path) -> None:
    group = frozenset({b"a-again", b"a-third", b"docs/a.txt"})
    tree = snapshot_of(original)
    assert tree.link_groups == frozenset({group})
    assert tree.allocated_bytes == sum(tree.entries[p].allocated_bytes for p in (b"a-again", b"docs/b.txt", ODD))


def test_inodes_are_those_of_regular_files(original: Path) -> None:
    found = inodes(original)
    assert found.keys() == {b"a-again", b"a-third", b"docs/a.txt", b"docs/b.txt", b"sparse", ODD}
    assert found[b"a-again"] == found[b"docs/a.txt"] != found[b"docs/b.txt"]
