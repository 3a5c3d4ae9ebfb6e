"""A link copy: everything of a tree under a second name, nothing of it touched, whatever lies in it."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings

from shared.adapters import process
from shared.adapters.filesystem import open_directory
from shared.adapters.trees import Linked, link_tree
from tests.support.backups import files_under, mounted, must
from tests.support.places import new_place
from tests.support.shapes import Shape, make_deep, make_skewed, make_wide, plant, shapes
from tests.support.trees import Tree, differences, snapshot_of

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts and becomes another user")
ACL: Final = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in [
        (0x01, 7, 0xFFFFFFFF),
        (0x02, 5, 4242),
        (0x04, 5, 0xFFFFFFFF),
        (0x10, 7, 0xFFFFFFFF),
        (0x20, 0, 0xFFFFFFFF),
    ]
)
"""An access list as the kernel keeps it: owner, user 4242, group, mask, others."""


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


async def link(source: Path, target: Path, *, processes: int = 2, skip: frozenset[bytes] = frozenset()) -> Linked:
    await must("mkdir", "-p", str(target))
    with open_directory(source) as old, open_directory(target) as new:
        return await link_tree(old, new, processes=processes, skip=skip)


def same(source: Tree, target: Tree) -> list[str]:
    """How the copy differs; its files have to be the same ones, not ones like them."""
    found = differences(source, target, root=False)
    for path, entry in source.entries.items():
        if entry.kind != "directory" and path in target.entries and target.entries[path].inode != entry.inode:
            found.append(f"{path!r}: another inode")
    return found


def untouched(before: Tree, after: Tree) -> list[str]:
    return differences(before, after)


@asynccontextmanager
async def small_drive(place: Path, *options: str, size_bytes: int = 16 * 1024**2) -> AsyncIterator[Path]:
    """A small ext4 of its own."""
    image = place / "image"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    await must("mkfs.ext4", "-q", "-F", "-m", "0", *options, str(image))
    async with mounted(place / "drive", "-o", "loop", str(image)) as top:
        yield top


async def test_it_is_the_same_tree_by_inode_and_attributes(place: Path) -> None:
    source = place / "source"
    (source / "a/b/c").mkdir(parents=True)
    (source / "a/file").write_text("x")
    (source / "a/hard").hardlink_to(source / "a/file")
    (source / os.fsdecode(b"odd \xff\n\x1b[31m")).mkdir()
    (source / os.fsdecode(b"odd \xff\n\x1b[31m") / os.fsdecode(b"\xfe\n")).write_text("odd")
    (source / "a/link").symlink_to("nowhere")
    os.mkfifo(source / "a/b/fifo")
    os.utime(source / "a/b", ns=(1, 123_456_789_012_345_678))
    (source / "a/b").chmod(0o1755)
    (source / "a").chmod(0o555)
    before = snapshot_of(source)
    done = await link(source, place / "target")
    assert same(before, snapshot_of(place / "target")) == []
    assert untouched(before, snapshot_of(source)) == []
    assert done == Linked(files=3, directories=4, symlinks=1, others=1)
    assert (place / "target").stat().st_mode & 0o777 == 0o755  # the top is the caller's


@pytest.mark.parametrize("processes", [1, 2, 4])
async def test_every_shape_is_copied_by_any_number_of_processes(place: Path, processes: int) -> None:
    make_skewed(place / "source")
    before = snapshot_of(place / "source")
    done = await link(place / "source", place / "target", processes=processes)
    assert same(before, snapshot_of(place / "target")) == []
    assert done.files + done.directories + done.symlinks == len(before.entries) - 1


async def test_an_empty_tree_is_copied(place: Path) -> None:
    (place / "source").mkdir()
    assert await link(place / "source", place / "target") == Linked(0, 0, 0, 0)


async def test_names_are_left_out_at_the_top_only(place: Path) -> None:
    (place / "source/home/.marker").mkdir(parents=True)
    (place / "source/.marker").touch()
    (place / "source/list\n").mkdir()
    await link(place / "source", place / "target", skip=frozenset({b".marker", b"list\n", b"not there"}))
    assert files_under(place / "target") == ["home", "home/.marker"]


async def test_links_are_linked_and_not_followed(place: Path) -> None:
    (place / "outside/folder").mkdir(parents=True)
    (place / "outside/folder/secret").write_text("secret")
    (place / "source").mkdir()
    (place / "source/to a folder").symlink_to(place / "outside/folder")
    (place / "source/to a file").symlink_to(place / "outside/folder/secret")
    await link(place / "source", place / "target")
    assert files_under(place / "target") == ["to a file", "to a folder"]
    assert (place / "target/to a file").is_symlink()
    assert (place / "outside/folder/secret").stat().st_nlink == 1


async def test_paths_longer_than_any_path_may_be(place: Path) -> None:
    """With few descriptors, and with something beside each folder, so that the way back up is used as well."""
    import resource

    made = make_deep(place / "source", 3_000, beside=True)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (120, limits[1]))
    try:
        done = await link(place / "source", place / "target")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert done.files + done.directories == made - 1
    descriptor = os.open(place / "target", os.O_RDONLY)
    for _ in range(3_000):
        below = os.open("deeper", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    assert os.listdir(descriptor) == []
    os.close(descriptor)


async def test_a_very_large_folder_is_copied(place: Path) -> None:
    make_wide(place / "source", folders=1, files=30_000)
    assert await link(place / "source", place / "target") == Linked(30_000, 1, 0, 0)


async def test_attributes_of_folders_are_copied_and_inherited_ones_are_not(place: Path) -> None:
    source, target = place / "source", place / "target"
    (source / "plain").mkdir(parents=True)
    (source / "listed").mkdir()
    target.mkdir()
    try:
        os.setxattr(source / "listed", "user.note", b"\x00\xff")
        os.setxattr(source / "listed", "system.posix_acl_access", ACL)
        os.setxattr(source / "listed", "system.posix_acl_default", ACL)
        os.setxattr(target, "system.posix_acl_default", ACL)
    except OSError as error:
        pytest.skip(f"this file system has no attributes: {error}")
    await link(source, target)
    assert os.listxattr(target / "plain") == []
    for name in os.listxattr(source / "listed"):
        assert os.getxattr(target / "listed", name) == os.getxattr(source / "listed", name)
    assert len(os.listxattr(target / "listed")) == 3
    assert (target / "listed").stat().st_mode == (source / "listed").stat().st_mode


async def test_reading_leaves_the_access_times_alone(place: Path) -> None:
    (place / "source/folder").mkdir(parents=True)
    (place / "source/folder/file").touch()
    for path in (place / "source/folder", place / "source/folder/file"):
        os.utime(path, ns=(1_000_000_000, 2_000_000_000))
    await link(place / "source", place / "target")
    assert (place / "source/folder").stat().st_atime_ns == 1_000_000_000
    assert (place / "source/folder/file").stat().st_atime_ns == 1_000_000_000


@NEEDS_ROOT
@pytest.mark.root
async def test_owners_devices_and_closed_folders_are_copied(place: Path) -> None:
    source = place / "source"
    (source / "closed").mkdir(parents=True)
    (source / "closed/file").write_text("x")
    os.mknod(source / "null", 0o20666, os.makedev(1, 3))
    os.chown(source / "closed", 4242, 4343)
    (source / "closed").chmod(0o6000)
    before = snapshot_of(source)
    assert (await link(source, place / "target")).others == 1
    assert same(before, snapshot_of(place / "target")) == []


@NEEDS_ROOT
@pytest.mark.root
@pytest.mark.parametrize("kind", ["another file system", "a folder of the same one"])
async def test_what_is_mounted_inside_stops_it(place: Path, kind: str) -> None:
    (place / "outside").mkdir()
    (place / "outside/secret").write_text("secret")
    target = place / "source/a/mounted"
    target.mkdir(parents=True)
    arguments = ["-t", "tmpfs", "tmpfs"] if kind == "another file system" else ["--bind", str(place / "outside")]
    async with mounted(target, *arguments):
        with pytest.raises(OSError, match="mounted") as refused:
            await link(place / "source", place / "target")
    assert refused.value.errno == errno.EXDEV
    assert refused.value.filename == "a/mounted"
    assert (place / "outside/secret").stat().st_nlink == 1


@NEEDS_ROOT
@pytest.mark.root
async def test_a_file_with_as_many_names_as_there_may_be_is_named(place: Path) -> None:
    async with small_drive(place) as drive:
        (drive / "source/folder").mkdir(parents=True)
        (drive / "names").mkdir()
        (drive / "source/folder/popular").touch()
        with open_directory(drive / "names") as names:
            for number in range(64_999):
                os.link(drive / "source/folder/popular", str(number), dst_dir_fd=names)
        with pytest.raises(OSError, match="popular") as refused:
            await link(drive / "source", drive / "target")
        assert (refused.value.errno, refused.value.filename) == (errno.EMLINK, "folder/popular")


@NEEDS_ROOT
@pytest.mark.root
@pytest.mark.parametrize("lacking", ["inodes", "blocks"])
async def test_a_full_drive_says_so_and_the_source_stays(place: Path, lacking: str) -> None:
    options = ["-N", "2000"] if lacking == "inodes" else ["-N", "8000", "-b", "4096"]
    async with small_drive(place, *options) as drive:
        make_wide(drive / "source", folders=900, files=1)
        if lacking == "blocks":
            with (drive / "filler").open("wb") as filler:
                while True:
                    try:
                        filler.write(bytes(4096))
                        filler.flush()
                    except OSError:
                        break
                os.ftruncate(filler.fileno(), max(0, filler.tell() - 400 * 4096))
        before = snapshot_of(drive / "source")
        with pytest.raises(OSError, match=r".") as refused:
            await link(drive / "source", drive / "target")
        assert refused.value.errno == errno.ENOSPC
        assert untouched(before, snapshot_of(drive / "source")) == []


@NEEDS_ROOT
@pytest.mark.root
async def test_another_drive_is_refused(place: Path) -> None:
    (place / "source").mkdir()
    (place / "source/file").touch()
    async with mounted(place / "target", "-t", "tmpfs", "tmpfs") as target:
        with pytest.raises(OSError, match="file") as refused:
            await link(place / "source", target)
    assert refused.value.errno == errno.EXDEV


async def test_a_target_that_is_not_empty_is_refused(place: Path) -> None:
    for folder in ("source", "target"):
        (place / folder).mkdir()
        (place / folder / "file").write_text(folder)
    with pytest.raises(FileExistsError, match="file"):
        await link(place / "source", place / "target")
    assert (place / "target/file").read_text() == "target"


@given(shape=shapes())
@settings(max_examples=25, deadline=None)
def test_any_tree_is_copied_as_cp_does(shape: Shape) -> None:
    async def compare(place: Path) -> None:
        plant(place / "source", shape)
        before = snapshot_of(place / "source")
        await link(place / "source", place / "target")
        done = await process.run(["cp", "-al", str(place / "source"), str(place / "copied")], timeout_seconds=60)
        assert done.returncode == 0
        assert same(before, snapshot_of(place / "target")) == []
        assert same(snapshot_of(place / "copied"), snapshot_of(place / "target")) == []
        assert untouched(before, snapshot_of(place / "source")) == []

    with new_place() as place:
        asyncio.run(compare(place))
