"""The demonstration's home directories: rich, repeatable, and copied whole by a real rsync."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.demo_home import HomeSummary, build_home, change_home
from services.cli.demo_names import ODD_NAMES
from shared.adapters import process
from tests.support.trees import Tree, differences, inodes, snapshot_of

ALICE = b"home/alice/"
NOBODY = 65_534
# Without the window of -1, rsync compares whole seconds and leaves nanoseconds wrong, for example those of a folder
# that the source changed in the second of the copy.
EXACTLY = ("-aHXS", "--numeric-ids", "--modify-window=-1")

# The default excludes, as section 8 of the design lists them.
DEFAULT_EXCLUDES = (
    ".cache/ .local/ .npm/ .yarn/ *cache* node_modules/ __pycache__/ target/ build/ dist/ venv/ env/ .conda/ "
    "miniconda3/ *.o *.so *.pyc *.class *.jar *.iso *.vmdk *.qcow2 *.ova .git/ .svn/ .hg/ .mozilla/ .firefox/ "
    ".thunderbird/ Downloads/ Music/ Videos/ Pictures/ tmp/ *.tmp *.log logs/ proc/ sys/ dev/ run/"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, HomeSummary]:
    """One tree that no test changes."""
    root = tmp_path_factory.mktemp("demo")
    return root, build_home(root)


@pytest.fixture(scope="module")
def tree(built: tuple[Path, HomeSummary]) -> Tree:
    return snapshot_of(built[0])


def test_the_summary_is_true(built: tuple[Path, HomeSummary], tree: Tree) -> None:
    root, summary = built
    files = tree.files()
    kinds = [entry.kind for entry in tree.entries.values()]
    assert summary.home == root / "home"
    assert summary.regular_files == len(files) >= 2_000
    assert summary.folders == kinds.count("directory") - 1  # without the root, which was there
    assert summary.symlinks == kinds.count("symlink")
    assert summary.hard_links == sum(len(group) - 1 for group in tree.link_groups)
    assert summary.apparent_bytes == sum({entry.inode: entry.size for entry in files.values()}.values())
    assert set(summary.excluded_files) | set(summary.odd_files) | {summary.sparse_file} <= files.keys()


def test_it_has_the_promised_size(built: tuple[Path, HomeSummary], tree: Tree) -> None:
    _, summary = built
    sparse = tree.entries[summary.sparse_file]
    assert 40e6 < summary.apparent_bytes < 60e6
    assert 10e6 < tree.allocated_bytes < 25e6
    assert sparse.size == 32 * 1024 * 1024
    assert sparse.allocated_bytes < 64 * 1024


@pytest.mark.parametrize("name", ODD_NAMES)
def test_every_odd_name_is_there(built: tuple[Path, HomeSummary], tree: Tree, name: bytes) -> None:
    path = ALICE + b"Odd names/" + name
    assert path in built[1].odd_files or built[1].left_out
    assert tree.entries[path].kind == "file" or built[1].left_out


def test_hard_links_cross_folders_and_users(tree: Tree) -> None:
    names = (
        b"alice/Links/original.txt",
        b"alice/Links/again.txt",
        b"alice/Documents/album/again.txt",
        b"bob/from alice.txt",
    )
    pair = frozenset({b"home/bob/Links/pair-a.bin", b"home/bob/Links/pair-b.bin"})
    assert tree.link_groups == {frozenset(b"home/" + name for name in names), pair}


def test_symlinks_are_symlinks(tree: Tree) -> None:
    shadow = tree.entries[ALICE + b"Links/shadow"]
    assert (shadow.kind, shadow.target) == ("symlink", b"/etc/shadow")
    targets = {path.rpartition(b"/")[2]: entry.target for path, entry in tree.entries.items() if entry.target}
    assert targets[b"relative"] == b"original.txt"
    assert targets[b"absolute"].startswith(b"/home/")
    assert targets[b"dangling"] == b"never/was/here"


def test_modes_and_times_are_odd(tree: Tree) -> None:
    special = {
        path.removeprefix(ALICE + b"Special files/"): entry
        for path, entry in tree.entries.items()
        if path.startswith(ALICE + b"Special files/")
    }
    assert special[b"private-key.pem"].mode == 0o600
    assert special[b"read-only.txt"].mode == 0o444
    assert special[b"shared-setgid"].mode & stat.S_ISGID
    assert special[b"read-only folder"].mode == 0o555
    assert special[b"from-1995.txt"].mtime_ns == 807_926_400_123_456_789
    assert special[b"before-1970.txt"].mtime_ns < 0
    assert special[b"one-nanosecond.txt"].mtime_ns % 1_000_000_000 == 1
    assert special[b"empty.txt"].size == 0
    assert special[b"empty folder"].kind == "directory"


def test_extended_attributes_are_there(built: tuple[Path, HomeSummary], tree: Tree) -> None:
    if any("attribute" in reason for reason in built[1].left_out):
        pytest.skip("this file system has no extended attributes")
    tagged = tree.entries[ALICE + b"Special files/tagged.txt"]
    assert tagged.xattrs == {b"user.comment": "café".encode(), b"user.binary": bytes(range(16))}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_makes_files_of_others_and_a_file_nobody_reads(built: tuple[Path, HomeSummary], tree: Tree) -> None:
    assert built[1].left_out == ()
    assert {entry.uid for entry in tree.entries.values()} == {0, 1000, 1001}
    assert tree.entries[ALICE + b"Special files/no-permissions.txt"].mode == 0


def test_a_seed_repeats_the_tree_and_another_does_not(tmp_path: Path, tree: Tree) -> None:
    for name, seed in (("same", 1), ("other", 7)):
        build_home(tmp_path / name, seed=seed)
    assert differences(tree, snapshot_of(tmp_path / "same"), root=False) == []
    assert differences(tree, snapshot_of(tmp_path / "other"), root=False)


def test_the_number_of_files_is_a_minimum(tmp_path: Path) -> None:
    for files in (100, 777):
        summary = build_home(tmp_path / str(files), files=files)
        assert files <= summary.regular_files < files + 100
        assert change_home(tmp_path / str(files)).edited


def test_it_refuses_what_it_cannot_do_well(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 100"):
        build_home(tmp_path, files=3)
    with pytest.raises(ValueError, match="too few"):
        change_home(tmp_path)
    (tmp_path / "home").mkdir()
    with pytest.raises(FileExistsError):
        build_home(tmp_path)


@pytest.fixture
def folder_of_nobody() -> Iterator[Path]:
    """A folder that an ordinary user reaches; those of pytest are root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="demo-home-"))
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user is what every other test then runs as")
def test_an_ordinary_user_gets_all_but_other_owners(folder_of_nobody: Path) -> None:
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        summary = build_home(folder_of_nobody, files=200)
        changes = change_home(folder_of_nobody)
        tree = snapshot_of(folder_of_nobody)  # every file can be read
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert summary.left_out == ("files of other users: only root gives files away",)
    assert {entry.uid for entry in tree.entries.values()} == {NOBODY}
    assert changes.added


async def rsync(*arguments: str) -> None:
    finished = await process.run(["rsync", *EXACTLY, *arguments], timeout_seconds=60)
    assert finished.returncode == 0, finished.said


async def test_rsync_copies_it_whole(built: tuple[Path, HomeSummary], tree: Tree, tmp_path: Path) -> None:
    await rsync(f"{built[0]}/", f"{tmp_path}/copy/")
    assert differences(tree, snapshot_of(tmp_path / "copy")) == []


async def test_default_excludes_drop_the_excluded_files_and_nothing_else(
    built: tuple[Path, HomeSummary], tree: Tree, tmp_path: Path
) -> None:
    excludes = [f"--exclude={pattern}" for pattern in DEFAULT_EXCLUDES.split()]
    await rsync(*excludes, f"{built[0]}/", f"{tmp_path}/copy/")
    summary = built[1]
    folders = {ALICE + b".cache", ALICE + b".cache/thumbnails"}
    assert len(summary.excluded_files) == 20
    assert tree.entries.keys() - snapshot_of(tmp_path / "copy").entries.keys() == folders | {*summary.excluded_files}


def test_an_hour_of_work_is_what_it_says(tmp_path: Path) -> None:
    build_home(tmp_path)
    before, numbers_before = snapshot_of(tmp_path), inodes(tmp_path)
    changes = change_home(tmp_path)
    after, numbers_after = snapshot_of(tmp_path), inodes(tmp_path)
    old_name, new_name = changes.renamed
    assert after.files().keys() - before.files().keys() == {*changes.added, new_name}
    assert before.files().keys() - after.files().keys() == {*changes.deleted, old_name}
    assert before.entries[old_name] == after.entries[new_name]
    assert numbers_before[old_name] == numbers_after[new_name]
    assert 15 <= len(changes.edited) <= 25
    for path in changes.edited:
        old, new = before.entries[path], after.entries[path]
        assert old.sha256 != new.sha256
        assert new.mtime_ns > old.mtime_ns
        assert (old.mode, old.uid, old.gid) == (new.mode, new.uid, new.gid)
    changed = {
        path for path in before.files().keys() & after.files().keys() if before.entries[path] != after.entries[path]
    }
    assert changed == {*changes.edited, changes.mode_changed, changes.touched}
    assert before.entries[changes.touched].sha256 == after.entries[changes.touched].sha256
    assert before.entries[changes.mode_changed].mode != after.entries[changes.mode_changed].mode
    assert before.link_groups == after.link_groups


def test_work_goes_on_for_hours_and_repeats_exactly(tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_home(tmp_path / name, files=400)
        for seed in (2, 3, 4):
            change_home(tmp_path / name, seed=seed)
    one = snapshot_of(tmp_path / "one")
    assert differences(one, snapshot_of(tmp_path / "two"), root=False) == []
    assert not [path for path in one.entries if path.endswith(b".part-of-a-save")]
