"""An archive has its name only when the drive has given back every byte of what was packed."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.archiver import archive
from services.archiver.pack import Packed, pack
from shared.adapters import process
from shared.adapters.restore_points import archives
from shared.domain.errors import RunFailed
from shared.domain.events import Job
from tests.faults.drives import NEW_ARCHIVE, Here, archive_of, build_drive, opened
from tests.support.backups import REPOSITORY
from tests.support.builders import SLOT, a_run
from tests.support.places import new_place

ARCHIVER = """
import asyncio, pathlib, sys
from shared.domain.events import Job
from tests.faults.drives import Here, archive_of, opened
from tests.support.builders import SLOT, a_run
with opened(pathlib.Path(sys.argv[1])) as (store, folder), folder.locked(Job.ARCHIVE) as lock:
    asyncio.run(archive_of(Here(store, folder, lock, a_run()), SLOT))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture
def drive(place: Path) -> Path:
    build_drive(place / "drive")
    return place / "drive"


@pytest.fixture
def here(drive: Path) -> Iterator[Here]:
    with opened(drive) as (store, folder), folder.locked(Job.ARCHIVE) as lock:
        yield Here(store, folder, lock, a_run())


async def test_an_archive_that_the_drive_keeps_otherwise_gets_no_name(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    @functools.wraps(pack)
    async def packed_on_a_bad_drive(tree: int, target: int, **words: Any) -> Packed:
        packed = await pack(tree, target, **words)
        middle = packed.size_bytes // 2
        (byte,) = os.pread(target, 1, middle)
        os.pwrite(target, bytes([byte ^ 0x10]), middle)
        return packed

    monkeypatch.setattr(archive, "pack", packed_on_a_bad_drive)
    before = sorted(os.listdir(here.folder.path / "archives"))
    with pytest.raises(RunFailed) as failed:
        await archive_of(here, SLOT)
    assert failed.value.code == "read_back"
    assert sorted(os.listdir(here.folder.path / "archives")) == before


async def test_the_checksum_beside_an_archive_is_that_of_its_bytes(here: Here) -> None:
    await archive_of(here, SLOT)
    assert archives(here.folder)[-1].name == NEW_ARCHIVE
    argv = ["sha256sum", "--strict", "-c", f"{NEW_ARCHIVE}.sha256"]
    done = await process.run(argv, timeout_seconds=60, cwd=here.folder.path / "archives")
    assert done.returncode == 0, done.said


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
async def test_the_bytes_are_on_the_drive_before_the_name(place: Path, drive: Path) -> None:
    tracer = ["strace", "-f", "-y", "-e", "trace=fsync,renameat2", "-o", str(place / "trace")]
    argv = [*tracer, sys.executable, "-c", ARCHIVER, str(drive)]
    done = await process.run(argv, timeout_seconds=60, cwd=REPOSITORY)
    assert done.returncode == 0, done.said
    lines = iter((place / "trace").read_text().splitlines())
    wanted = [
        ("fsync", ".tar.gz>"),
        ("fsync", f"{NEW_ARCHIVE}.sha256>"),
        ("fsync", f".{NEW_ARCHIVE}.json>"),
        ("renameat2", NEW_ARCHIVE),
        ("fsync", "/archives>"),
    ]
    for call, about in wanted:
        assert any(f" {call}(" in line and about in line for line in lines), (call, about)
