"""Archives, golden copies and retention in a whole system: what they make is what was backed up."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

from shared.adapters import process
from shared.adapters.store import Store
from shared.domain.events import (
    ArchiveCancelled,
    ArchiveCompleted,
    ArchiveStarted,
    GoldenCompleted,
    PlanConfirmed,
    PointPurged,
    PointTrashed,
    PointUndeleted,
    RemovalOrdered,
    RetentionCompleted,
    SnapshotCompleted,
)
from tests.support.builders import HOST, MAIN
from tests.support.installation import Installation, installation, of_type
from tests.support.stock import put_snapshot
from tests.support.trees import differences, inodes, snapshot_of

EVERY_DAY = "SNAPSHOT_INTERVAL_HOURS=24\nTAR_INTERVAL_HOURS=24\n"
"""So that no slot begins while a test looks, whatever the time is."""


@asynccontextmanager
async def running(place: Path, *, env: str = EVERY_DAY, megabytes: int = 0) -> AsyncIterator[Installation]:
    """A running system whose only host had its first archive and its first golden copy."""
    async with installation(place, ["nas"], env=env) as system:
        make_home(system.source("nas") / "home" / "alice", megabytes)
        await system.start()
        yield system


async def packed(system: Installation) -> ArchiveCompleted:
    """The first archive, when it and the golden copy are there."""
    events = await system.wait_for(
        lambda events: bool(of_type(events, ArchiveCompleted) and of_type(events, GoldenCompleted)),
        what="The first archive and golden copy",
    )
    made = of_type(events, ArchiveCompleted)[0].event
    assert isinstance(made, ArchiveCompleted)
    return made


def make_home(home: Path, megabytes: int = 0) -> None:
    documents = home / "Documents"
    documents.mkdir(parents=True)
    for number in range(20):
        (documents / f"letter-{number}").write_text(f"This is letter {number}.\n" * number)
    os.link(documents / "letter-3", documents / "the same letter")
    (documents / "link").symlink_to("letter-1")
    odd = os.fsencode(documents) + b"/line\nbreak \x1b[31m \xff"
    Path(os.fsdecode(odd)).write_bytes(b"odd")
    (documents / "empty").mkdir(mode=0o700)
    (documents / "-rf").write_text("not an option")
    for number in range(megabytes):
        (home / f"noise-{number}").write_bytes(os.urandom(1024 * 1024))


async def test_the_archive_and_the_golden_copy_are_what_the_snapshot_is(place: Path) -> None:
    async with running(place) as system:
        made = await packed(system)
        (snapshot,) = system.snapshots("nas")
        golden = system.folder("nas") / "monthly" / made.snapshot[:7]
        assert differences(snapshot_of(snapshot / "home"), snapshot_of(golden / "home")) == []
        copied, original = inodes(golden / "home"), inodes(snapshot / "home")
        files = [name for name in original if not (snapshot / "home" / os.fsdecode(name)).is_dir()]
        assert files
        assert all(copied[name] == original[name] for name in files)
        unpacked = place / "unpacked"
        unpacked.mkdir()
        archive = system.folder("nas") / "archives" / made.archive
        done = await process.run(["tar", "-xzf", str(archive), "-C", str(unpacked)], timeout_seconds=30)
        assert (done.returncode, done.stderr) == (0, b"")
        assert differences(snapshot_of(snapshot / "home"), snapshot_of(unpacked / "home")) == []
        checked = await process.run(
            ["sha256sum", "-c", f"{archive.name}.sha256"], timeout_seconds=30, cwd=archive.parent
        )
        assert checked.stdout.decode() == f"{archive.name}: OK\n"
        await system.wait_for(lambda events: bool(of_type(events, RetentionCompleted)), what="The first retention")
        assert "All is well." in (await system.cli("audit")).stdout.decode()


async def test_an_archive_that_was_cut_short_is_reported_by_audit(place: Path) -> None:
    async with running(place) as system:
        made = await packed(system)
        os.truncate(system.folder("nas") / "archives" / made.archive, made.size_bytes - 1)
        done = await system.cli("audit", check=False)
        assert done.returncode == 1
        assert (
            f"{made.archive} has {made.size_bytes - 1:,} bytes instead of {made.size_bytes:,}" in done.stdout.decode()
        )


async def test_the_same_snapshot_is_not_packed_twice_and_another_one_is(place: Path) -> None:
    async with running(place) as system:
        await packed(system)
        assert "has an archive already" in await system.asked_for("nas", "archive")
        await system.one_more_run("nas")
        assert "was packed and read back" in await system.asked_for("nas", "archive")
        listed = json.loads((await system.cli("archives", "nas", "--json")).stdout)
        assert len(listed) == len({archive["snapshot"] for archive in listed}) == 2


async def test_a_cancel_stops_the_archive_at_once_and_leaves_nothing_of_it(place: Path) -> None:
    async with running(place, megabytes=300, env=EVERY_DAY + "TAR_COMPRESSION_LEVEL=9\n") as system:
        await system.wait_for(lambda events: bool(of_type(events, ArchiveStarted)), what="An archive under way")
        await system.cli("cancel", "nas")
        events = await system.wait_for(lambda events: bool(of_type(events, ArchiveCancelled)), what="The cancel")
        cancelled = of_type(events, ArchiveCancelled)[0]
        assert isinstance(cancelled.event, ArchiveCancelled)
        assert "@" in cancelled.event.by
        assert os.listdir(system.folder("nas") / "archives") == []
        assert not of_type(events, ArchiveCompleted)
        events = await system.one_more_run("nas")
        assert len(of_type(events, SnapshotCompleted)) == 2


SHORT = "HOURLY_RETENTION_HOURS=24\nDAILY_RETENTION_DAYS=1\nRETENTION_MONTHS=1\n"
OLD = [datetime(2020, 1, day, 8, tzinfo=UTC) for day in range(1, 6)]


async def test_what_is_removed_was_confirmed_waits_in_the_trash_and_comes_back(place: Path) -> None:
    async with installation(place, ["nas"], env=EVERY_DAY + SHORT) as system:
        make_home(system.source("nas") / "home" / "alice")
        with closing(Store.open(system.drive, MAIN)) as store, store.folder(HOST) as folder:
            for slot in OLD:
                put_snapshot(folder, slot)
        await system.start()
        await packed(system)
        said = await system.asked_for("nas", "retention")
        assert "Nothing was removed: The policy changed at" in said
        asked = await system.cli("plan", "nas")
        assert "NOTHING WOULD BE REMOVED" in asked.stdout.decode()
        assert len(system.snapshots("nas")) == 6
        await system.cli("plan", "nas", "--confirm", "--yes")
        said = await system.asked_for("nas", "retention")
        # Three complete ones always stay: the new one and the two youngest of the old ones.
        assert "3 kept" not in said
        assert [path.name[:10] for path in system.snapshots("nas")][:2] == ["2020-01-04", "2020-01-05"]
        events = await system.events("nas")
        assert len(of_type(events, PlanConfirmed)) == 1
        ordered = [recorded.event for recorded in of_type(events, RemovalOrdered)]
        gone = [event.point[:10] for event in ordered if isinstance(event, RemovalOrdered)]
        assert gone == ["2020-01-01", "2020-01-02", "2020-01-03"]
        assert len(of_type(events, PointTrashed)) == 3
        assert not of_type(events, PointPurged)
        assert "2020-01-02" in (await system.cli("trash", "nas")).stdout.decode()
        await system.cli("undelete", "nas", "2020-01-02_0800")
        assert len(of_type(await system.events("nas"), PointUndeleted)) == 1
        assert (system.snapshots("nas")[0] / "home/alice/a.txt").read_text() == "hello"
        said = await system.asked_for("nas", "retention")
        assert "0 to the trash, 0 purged" in said
        assert "All is well." in (await system.cli("audit")).stdout.decode()


async def test_what_somebody_else_put_there_is_reported_and_left_alone(place: Path) -> None:
    async with running(place) as system:
        await packed(system)
        (system.folder("nas") / "hourly" / "my-own").mkdir()
        assert "Not ours, and left alone: hourly/my-own" in await system.asked_for("nas", "retention")
        assert (system.folder("nas") / "hourly" / "my-own").is_dir()
