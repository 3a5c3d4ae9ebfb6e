"""What is no whole archive is never called one, and nothing is left running."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from services.archiver.pack import Compression, Packed, Packing, pack, read_back
from shared.adapters.filesystem import open_directory
from shared.domain.errors import RunFailed
from tests.support.backups import mounted, must
from tests.support.places import new_place

FORMATS = [Compression("tar.gz", 6), Compression("tar.gz", 7), Compression("tar.zst", 6)]
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture
def tree(place: Path) -> Path:
    made = place / "snapshot"
    (made / "home").mkdir(parents=True)
    for number in range(200):
        (made / f"home/file{number}").write_bytes(f"line of file {number}\n".encode() * 500)
    (made / "home/photo").write_bytes(os.urandom(2_500_000))
    return made


async def nothing(_packing: Packing) -> None:
    """Nobody wants to know how far it is."""


async def made(tree: Path, file: Path, compression: Compression, report: object = nothing) -> Packed:
    target = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        with open_directory(tree) as source:
            return await pack(source, target, compression=compression, report=report)  # type: ignore[arg-type]  # a stub
    finally:
        os.close(target)


async def refused(file: Path, expected: Packed, compression: Compression) -> RunFailed:
    source = os.open(file, os.O_RDONLY)
    try:
        with pytest.raises(RunFailed) as failed:
            await read_back(source, expected, compression)
    finally:
        os.close(source)
    return failed.value


def with_digest_of(file: Path, expected: Packed) -> Packed:
    """As if the packer itself had written what is there now: what is left are the checks of the content."""
    import hashlib

    content = file.read_bytes()
    return msgspec.structs.replace(expected, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def without_trailer(content: bytes) -> bytes:
    return content[:-4]


def flipped(content: bytes) -> bytes:
    return bytes([*content[:60_000], content[60_000] ^ 0x10, *content[60_001:]])


def wrong_at_the_end(content: bytes) -> bytes:
    return bytes([*content[:-1], content[-1] ^ 1])


def longer(content: bytes) -> bytes:
    return content + b"\0"


def doubled(content: bytes) -> bytes:
    return content + content


def emptied(_content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("compression", FORMATS, ids=str)
@pytest.mark.parametrize("harm", [cut, without_trailer, wrong_at_the_end, flipped, longer, doubled, emptied])
async def test_a_harmed_archive_is_refused(
    place: Path, tree: Path, compression: Compression, harm: Callable[[bytes], bytes]
) -> None:
    file = place / "archive"
    expected = await made(tree, file, compression)
    file.write_bytes(harm(file.read_bytes()))
    assert (await refused(file, expected, compression)).code == "read_back"
    # Also without its digest: then the checksums and the counts alone have to notice.
    assert (await refused(file, with_digest_of(file, expected), compression)).code == "read_back"


@pytest.mark.parametrize(
    "wrong",
    [{"members": 201}, {"source_bytes": 512}, {"size_bytes": 7}, {"sha256": "0" * 64}],
    ids=lambda it: next(iter(it)),
)
async def test_an_archive_that_is_not_what_was_packed_is_refused(
    place: Path, tree: Path, wrong: dict[str, object]
) -> None:
    file = place / "archive"
    expected = msgspec.structs.replace(await made(tree, file, FORMATS[0]), **wrong)
    failed = await refused(file, expected, FORMATS[0])
    assert next(iter(wrong)) in failed.message


def children() -> dict[int, str]:
    """The processes that this one has started, and what they are."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
                words = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == os.getpid() and ("archiver" in words or "tar --create" in words):
                found[int(entry)] = words
    return found


@pytest.mark.parametrize(
    ("victim", "code"), [("tar --create", "tar"), ("archiver.packer", "packer"), ("archiver.readahead", "count")]
)
async def test_whichever_process_is_killed_there_is_no_archive(place: Path, tree: Path, victim: str, code: str) -> None:
    (tree / "home/large").write_bytes(os.urandom(2_000_000) * 20)
    killed: list[int] = []

    async def kill(_packing: Packing) -> None:
        if not killed:
            killed.extend(pid for pid, words in children().items() if victim in words)
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    if victim == "archiver.readahead":
        # It is done before anything was packed, unless there is much to go through.
        for number in range(30_000):
            (tree / f"home/{number}").touch()
    with pytest.raises(RunFailed) as failed:
        await made(tree, place / "archive", Compression(level=9), kill)
    assert killed
    assert failed.value.code == code
    assert not children()


async def test_a_cancelled_one_leaves_no_process(place: Path, tree: Path) -> None:
    (tree / "home/large").write_bytes(os.urandom(2_000_000) * 30)
    begun = asyncio.Event()

    async def begin(_packing: Packing) -> None:
        begun.set()

    run = asyncio.create_task(made(tree, place / "archive", Compression(level=9), begin))
    await begun.wait()
    there = children()
    assert len(there) >= 2
    started = time.monotonic()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert time.monotonic() - started < 2
    assert not children()


async def test_an_error_of_whoever_listens_ends_everything(place: Path, tree: Path) -> None:
    class Lost(Exception):
        pass

    async def lose(_packing: Packing) -> None:
        raise Lost

    with pytest.raises(Lost):
        await made(tree, place / "archive", Compression(level=9), lose)
    assert not children()


@NEEDS_ROOT
@pytest.mark.root
@pytest.mark.parametrize("compression", FORMATS, ids=str)
async def test_a_full_drive_is_called_that(place: Path, tree: Path, compression: Compression) -> None:
    async with mounted(place / "drive", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as drive:
        with pytest.raises(RunFailed) as failed:
            await made(tree, drive / "archive", compression)
    assert failed.value.code == "no_room"
    assert "No space left" in failed.value.message
    assert not children()


@NEEDS_ROOT
@pytest.mark.root
@pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="mkfs.ext4 is not installed")
async def test_a_drive_without_room_for_what_it_took_is_noticed_at_the_latest_at_the_end(
    place: Path, tree: Path
) -> None:
    await must("truncate", "-s", "6M", str(place / "image"))
    await must("mkfs.ext4", "-q", "-O", "^has_journal", str(place / "image"))
    (tree / "home/more").write_bytes(os.urandom(6_000_000))
    async with mounted(place / "drive", "-o", "loop", str(place / "image")) as drive:
        with pytest.raises(RunFailed) as failed:
            await made(tree, drive / "archive", FORMATS[0])
    assert failed.value.code == "no_room"


async def test_a_target_that_cannot_be_written_is_the_drive_s_fault(place: Path, tree: Path) -> None:
    (place / "archive").touch()
    target = os.open(place / "archive", os.O_RDONLY)
    with open_directory(tree) as source, pytest.raises(RunFailed) as failed:
        await pack(source, target, compression=FORMATS[0], report=nothing)
    os.close(target)
    assert failed.value.code == "drive"


@NEEDS_ROOT
@pytest.mark.root
async def test_what_is_mounted_inside_a_snapshot_is_not_left_out_in_silence(place: Path, tree: Path) -> None:
    async with mounted(tree / "home/inside", "-t", "tmpfs", "tmpfs") as inside:
        (inside / "file").write_text("x")
        with pytest.raises(RunFailed, match=r"another file system|different filesystem"):
            await made(tree, place / "archive", FORMATS[0])
