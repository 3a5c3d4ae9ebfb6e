"""One archive of a snapshot: extracted with plain `tar -xzf` it is the snapshot, odd names and all."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import resource
import shutil
import socket
import struct
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from services.archiver.compression import Format
from services.archiver.pack import Compression, Packed, Packing, count_entries, pack, read_back
from services.archiver.readahead import walk
from services.archiver.tar import top_names
from shared.adapters.filesystem import open_directory
from shared.domain.errors import RunFailed
from tests.support.backups import must
from tests.support.places import new_place
from tests.support.trees import Tree, differences, snapshot_of

DEFAULT = Compression()
ODD_NAMES = [
    b"new\nline",
    b"\x1b[31mred",
    b"\xff\xfe not utf-8",
    b"-rf",
    b"--checkpoint-action=exec=touch hacked",
    b"-C",
    b"@list",
    b"trailing spaces  ",
    b" leading",
    b"back\\slash\\n",
    b"*?[a]",
    b"'quotes\"",
    b"x" * 255,
    b".snapshot_complete",
]
RECORDS = (".snapshot_complete", ".changes.jsonl.zst", ".files.zst")


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture
def tree(place: Path) -> Path:
    """An empty snapshot, with its records."""
    made = place / "2026-03-06_0800"
    made.mkdir()
    for name in RECORDS:
        (made / name).write_text("a record")
    return made


async def nothing(_packing: Packing) -> None:
    """Nobody wants to know how far it is."""


@asynccontextmanager
async def packed(tree: Path, file: Path, compression: Compression = DEFAULT) -> AsyncIterator[tuple[Packed, int]]:
    """An archive of a tree that was read back, and the descriptor of its file."""
    target = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        with open_directory(tree) as source:
            made = await pack(source, target, compression=compression, report=nothing)
            await read_back(target, made, compression)
        yield made, target
    finally:
        os.close(target)


async def extracted(tree: Path, *options: str, compression: Compression = DEFAULT) -> Tree:
    """What plain tar makes of the archive of a tree."""
    file, target = tree.parent / f"archive.{compression.format}", tree.parent / "extracted"
    target.mkdir()
    async with packed(tree, file, compression) as (made, _):
        assert made.size_bytes == file.stat().st_size
        await must("tar", *(options or ("-xzf",)), str(file), "-C", str(target))
    return snapshot_of(target)


def is_record(path: bytes) -> bool:
    return path in map(os.fsencode, RECORDS)


def content_of(tree: Path) -> Tree:
    return snapshot_of(tree, exclude=is_record)


def with_odd_things(top: Path) -> None:
    top.mkdir()
    folder = os.fsencode(top)
    for number, name in enumerate(ODD_NAMES):
        path = Path(os.fsdecode(folder + b"/" + name))
        path.write_bytes(name * number)
        os.utime(path, ns=(0, 1_700_000_000_123_456_789 + number))
    (top / "old").write_text("before 1970")
    os.utime(top / "old", ns=(0, -1_500_000_000_000_000_001))
    (top / "empty").mkdir(mode=0o700)
    (top / "dangling").symlink_to(os.fsdecode(b"no\xffwhere\n" + b"y" * 200))
    os.link(top / "-rf", top / "second name")
    os.link(top / "dangling", top / "second link")
    with (top / "sparse").open("wb") as file:
        file.truncate(300_000_000)
        for offset in (1_000_000, 200_000_000):
            file.seek(offset)
            file.write(b"data between holes")
    with (top / "only a hole").open("wb") as file:
        file.truncate(50_000_000)
    os.mkfifo(top / "pipe")
    (top / "setuid").write_text("x")
    if os.geteuid() == 0:
        os.chown(top / "old", 12345, 54321)
        os.chown(top / "dangling", 12345, 54321, follow_symlinks=False)
        os.mknod(top / "device", 0o20600, os.makedev(1, 3))
    (top / "setuid").chmod(0o6751)
    os.utime(top / "empty", ns=(0, 1_600_000_000_000_000_001))


def with_odd_top(tree: Path) -> None:
    for name in (b"-top", b"new\nline", b"back\\nslash", b"@x"):
        Path(os.fsdecode(os.fsencode(tree) + b"/" + name)).write_bytes(name)


async def test_plain_tar_makes_the_same_tree_of_it(tree: Path) -> None:
    with_odd_things(tree / "home")
    with_odd_top(tree)
    expected = content_of(tree)
    actual = await extracted(tree)
    assert differences(expected, actual, xattrs=False, root=False) == []
    assert not any((tree.parent / "extracted" / name).exists() for name in RECORDS)
    assert (tree.parent / "extracted/home/.snapshot_complete").exists()
    assert actual.entries[b"home/sparse"].allocated_bytes < 1_000_000
    assert actual.entries[b"home/only a hole"].allocated_bytes < 100_000


async def test_attributes_and_access_control_lists_come_back_when_asked_for(tree: Path) -> None:
    (tree / "home").mkdir()
    file = tree / "home/file"
    file.write_text("x")
    os.setxattr(file, "user.text", b"any\n\xff\x00value size=1\n")
    nobody = 0xFFFFFFFF
    entries = [(0x01, 6, nobody), (0x02, 4, 12345), (0x04, 4, nobody), (0x10, 4, nobody), (0x20, 0, nobody)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(file, "system.posix_acl_access", acl)
    os.setxattr(tree / "home", "system.posix_acl_default", acl)
    expected = content_of(tree)
    actual = await extracted(tree, "--xattrs", "--xattrs-include=*", "-xpzf")
    assert differences(expected, actual, root=False) == []
    there = tree.parent / "extracted/home"
    assert os.getxattr(there / "file", "system.posix_acl_access") == acl
    assert os.getxattr(there, "system.posix_acl_default") == acl


async def test_an_empty_snapshot_makes_an_empty_archive(tree: Path) -> None:
    assert content_of(tree).entries.keys() == {b"."}
    assert (await extracted(tree)).entries.keys() == {b"."}


async def test_one_file_is_one_member(tree: Path) -> None:
    (tree / "file").write_text("content")
    async with packed(tree, tree.parent / "archive") as (made, _):
        assert made.members == 1
        assert made.source_bytes == 65_536


async def test_a_tree_as_deep_as_a_path_can_be_is_packed_whole(tree: Path) -> None:
    deepest = tree
    while len(os.fsencode(deepest)) < 3_800:
        deepest = deepest / ("d" * 9)
    deepest.mkdir(parents=True)
    (deepest / "file").write_text("down here")
    expected = content_of(tree)
    assert differences(expected, await extracted(tree), root=False) == []


@pytest.mark.parametrize("level", range(1, 10))
@pytest.mark.parametrize("archive_format", ["tar.gz", "tar.zst"])
async def test_every_level_of_every_format_comes_back(
    place: Path, tree: Path, level: int, archive_format: Format
) -> None:
    compression = Compression(archive_format, level)
    (tree / "home").mkdir()
    # More than two blocks, of which one is text and one noise, and a border within each.
    for number in range(40):
        text = b"".join(b"line %d of file %d\n" % (line, number) for line in range(3_000))
        (tree / f"home/text{number}").write_bytes(text)
    (tree / "home/noise").write_bytes(os.urandom(3_500_000))
    expected = content_of(tree)
    options = ["-xf"] if archive_format == "tar.gz" else ["--zstd", "-xf"]
    if archive_format == "tar.zst" and shutil.which("zstd") is None:
        file = place / "plain.tar"
        async with packed(tree, place / "archive", compression) as (made, _):
            import zstandard

            with (place / "archive").open("rb") as source, file.open("wb") as plain:
                zstandard.ZstdDecompressor().copy_stream(source, plain)
        (place / "extracted").mkdir()
        await must("tar", "-xf", str(file), "-C", str(place / "extracted"))
        assert made.source_bytes == file.stat().st_size
        actual = snapshot_of(place / "extracted")
    else:
        actual = await extracted(tree, *options, compression=compression)
    assert differences(expected, actual, root=False) == []


async def test_gzip_itself_finds_nothing_wrong(tree: Path) -> None:
    with_odd_things(tree / "home")
    file = tree.parent / "archive.gz"
    async with packed(tree, file):
        await must("gzip", "-t", str(file))


@pytest.mark.parametrize("archive_format", ["tar.gz", "tar.zst"])
async def test_the_same_tree_makes_the_same_bytes(tree: Path, archive_format: Format) -> None:
    compression = Compression(archive_format)
    with_odd_things(tree / "home")
    (tree / "home/large").write_bytes(os.urandom(100_000) * 30)
    digests = set()
    for number in range(3):
        async with packed(tree, tree.parent / f"archive{number}", compression) as (made, _):
            digests.add(made.sha256)
    assert len(digests) == 1


async def test_sockets_are_left_out_and_said_so(tree: Path) -> None:
    (tree / "home").mkdir()
    (tree / "home/file").write_text("x")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tree / "home/socket"))
    async with packed(tree, tree.parent / "archive") as (archive, _):
        assert archive.members == 2
        assert archive.warnings == ("1 sockets were left out: no archive can hold one.",)
    with open_directory(tree) as source:
        there = await count_entries(source)
    assert (there.files, there.directories, there.sockets, there.members) == (1, 1, 1, 2)


@asynccontextmanager
async def meanwhile(act: Callable[[], None]) -> AsyncIterator[None]:
    """Something is done to the snapshot over and over, from before the block begins until it has ended."""
    done = asyncio.Event()

    async def again() -> None:
        while not done.is_set():
            act()
            with suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), 0.005)

    act()
    going_on = asyncio.create_task(again())
    try:
        yield
    finally:
        done.set()
        await going_on


async def test_another_snapshot_that_shares_a_file_meanwhile_does_no_harm(tree: Path) -> None:
    """tar takes a file that gets one more name for one that changed."""
    (tree / "large").write_bytes(os.urandom(4_000_000) * 10)
    names = itertools.count()

    def link() -> None:
        os.link(tree / "large", tree.parent / f"name{next(names)}")

    target = os.open(tree.parent / "archive", os.O_RDWR | os.O_CREAT)
    with open_directory(tree) as source:
        async with meanwhile(link):
            made = await pack(source, target, compression=Compression(level=9), report=nothing)
    await read_back(target, made, DEFAULT)
    os.close(target)
    assert next(names) > 2


async def test_a_snapshot_that_changes_meanwhile_makes_no_archive(tree: Path) -> None:
    (tree / "large").write_bytes(os.urandom(4_000_000) * 10)

    def write() -> None:
        with (tree / "large").open("r+b") as file:
            file.write(b"something else")

    target = os.open(tree.parent / "archive", os.O_RDWR | os.O_CREAT)
    with open_directory(tree) as source, pytest.raises(RunFailed, match="changed while it was packed") as failed:
        async with meanwhile(write):
            await pack(source, target, compression=Compression(level=9), report=nothing)
    os.close(target)
    assert failed.value.code == "changed"


async def test_it_tells_how_far_it_is(tree: Path) -> None:
    (tree / "large").write_bytes(os.urandom(40_000_000))
    told: list[Packing] = []

    async def hear(packing: Packing) -> None:
        told.append(packing)

    target = os.open(tree.parent / "archive", os.O_RDWR | os.O_CREAT)
    with open_directory(tree) as source:
        made = await pack(source, target, compression=Compression(level=7), report=hear)
        await read_back(target, made, DEFAULT, report=hear)
    os.close(target)
    assert told[0].read_bytes <= made.source_bytes
    assert all(re.fullmatch(r"[0-9a-f]{64}", made.sha256) for _ in told)


async def test_descriptors_do_not_leak(tree: Path) -> None:
    (tree / "file").write_text("x")
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        async with packed(tree, tree.parent / f"archive{number}"):
            pass
    assert len(os.listdir("/proc/self/fd")) <= before
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > before


async def test_what_reads_ahead_goes_the_way_of_tar(tree: Path) -> None:
    """Otherwise it would fetch what tar wants last."""
    with_odd_things(tree / "home")
    for path in ("b/2/y", "b/10/x", "b/1.txt", "B/z", "b.d/q", "ä/1"):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).touch()
    async with packed(tree, tree.parent / "archive"):
        with tarfile.open(tree.parent / "archive", "r:gz", encoding="utf-8", errors="surrogateescape") as archive:
            packed_names = [os.fsencode(name) for name in archive.getnames()]
    with open_directory(tree) as source:
        walked = [path for path, _ in walk(source, top_names(source))]
    assert walked == packed_names
