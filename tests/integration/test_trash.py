"""The trash: a restore point is in one place at every moment, whole, and comes back as it was."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from shared.adapters.markers import MARKER_FILE
from shared.adapters.restore_points import FOLDERS, archives, foreign, golden_copies, record_name, remove_unfinished
from shared.adapters.store import HostFolder
from shared.adapters.trash import (
    Trashed,
    alone,
    bring_back,
    contents,
    for_purge,
    remove_archive,
    throw_away,
    tidy,
    unmark,
)
from shared.domain.errors import PointHalfGone, PointInUse
from shared.domain.events import Kind
from tests.support.builders import SLOT, a_run
from tests.support.places import new_place
from tests.support.stock import names_in, put_archive, put_golden, put_snapshot, stocked
from tests.support.trees import differences, snapshot_of

ARCHIVE = "backup_nas_2026-03-06_0800.tar.gz"
NAMES = {Kind.SNAPSHOT: "2026-03-06_0800", Kind.ARCHIVE: ARCHIVE, Kind.GOLDEN: "2026-03"}
every_kind = pytest.mark.parametrize("kind", list(Kind))


@pytest.fixture
def folder() -> Iterator[HostFolder]:
    with new_place() as place, stocked(place / "drive") as made:
        for hours in (0, 1):
            put_snapshot(made, SLOT + timedelta(hours=hours))
            put_archive(made, SLOT + timedelta(hours=hours))
        put_golden(made, SLOT, "2026-03")
        put_golden(made, SLOT, "2026-04")
        yield made


def listed(folder: HostFolder) -> set[str]:
    return {
        *(snapshot.name for snapshot in folder.snapshots()),
        *(archive.name for archive in archives(folder)),
        *(copy.name for copy in golden_copies(folder)),
    }


@every_kind
def test_what_is_thrown_away_is_out_of_every_list_and_in_the_trash(folder: HostFolder, kind: Kind) -> None:
    run, before = a_run(), listed(folder)
    throw_away(folder, run, kind, NAMES[kind])
    assert before - listed(folder) == {NAMES[kind]}
    assert contents(folder) == [Trashed(run, kind, NAMES[kind])]
    assert foreign(folder) == []


@every_kind
def test_it_comes_back_as_it_was(folder: HostFolder, kind: Kind) -> None:
    before, tree = listed(folder), snapshot_of(folder.path / FOLDERS[kind])
    throw_away(folder, a_run(), kind, NAMES[kind])
    bring_back(folder, contents(folder)[0])
    assert listed(folder) == before
    assert contents(folder) == []
    changed = differences(tree, snapshot_of(folder.path / FOLDERS[kind]))
    assert [one for one in changed if not one.startswith("'.': mtime")] == []  # of the folder of all of them


@every_kind
def test_nothing_is_moved_over_what_is_there(folder: HostFolder, kind: Kind) -> None:
    throw_away(folder, a_run(), kind, NAMES[kind])
    place = folder.path / FOLDERS[kind]
    if kind is Kind.ARCHIVE:
        put_archive(folder, SLOT)
    else:
        (place / NAMES[kind]).mkdir()
    before = snapshot_of(place)
    with pytest.raises(FileExistsError):
        bring_back(folder, contents(folder)[0])
    assert differences(before, snapshot_of(place)) == []


@every_kind
def test_what_is_read_is_nobodys_to_remove(folder: HostFolder, kind: Kind) -> None:
    reader = os.open(folder.path / FOLDERS[kind] / NAMES[kind], os.O_RDONLY)
    try:
        fcntl.flock(reader, fcntl.LOCK_SH)
        with pytest.raises(PointInUse), alone(folder, kind, NAMES[kind]):
            pass
        fcntl.flock(reader, fcntl.LOCK_UN)
        with alone(folder, kind, NAMES[kind]):
            pass
    finally:
        os.close(reader)


@every_kind
def test_what_is_read_in_the_trash_is_not_purged(folder: HostFolder, kind: Kind) -> None:
    reader = os.open(folder.path / FOLDERS[kind] / NAMES[kind], os.O_RDONLY)
    try:
        throw_away(folder, a_run(), kind, NAMES[kind])
        fcntl.flock(reader, fcntl.LOCK_SH)
        with pytest.raises(PointInUse), for_purge(folder, contents(folder)[0]):
            pass
    finally:
        os.close(reader)


@every_kind
def test_what_is_half_purged_does_not_come_back(folder: HostFolder, kind: Kind) -> None:
    throw_away(folder, a_run(), kind, NAMES[kind])
    (trashed,) = contents(folder)
    unmark(folder, trashed)
    with pytest.raises(PointHalfGone):
        bring_back(folder, trashed)
    assert contents(folder) == [trashed]


def test_an_archive_whose_move_was_cut_short_is_put_together_again(folder: HostFolder) -> None:
    run = a_run()
    throw_away(folder, run, Kind.ARCHIVE, ARCHIVE)
    bin_ = folder.path / ".trash" / str(run) / "archive"
    for part in (record_name(ARCHIVE), f"{ARCHIVE}.sha256"):
        (bin_ / part).rename(folder.path / "archives" / part)
    assert contents(folder) == [Trashed(run, Kind.ARCHIVE, ARCHIVE)]
    assert set(os.listdir(bin_)) == {ARCHIVE, record_name(ARCHIVE), f"{ARCHIVE}.sha256"}
    assert foreign(folder) == []


def test_a_younger_archive_of_the_same_name_keeps_its_record(folder: HostFolder) -> None:
    throw_away(folder, a_run(), Kind.ARCHIVE, ARCHIVE)
    put_archive(folder, SLOT)
    contents(folder)
    assert ARCHIVE in {archive.name for archive in archives(folder)}


def test_the_archiver_leaves_the_record_of_an_archive_that_is_on_its_way_to_the_trash(folder: HostFolder) -> None:
    run = a_run()
    throw_away(folder, run, Kind.ARCHIVE, ARCHIVE)
    bin_ = folder.path / ".trash" / str(run) / "archive"
    before = snapshot_of(bin_)
    for part in (record_name(ARCHIVE), f"{ARCHIVE}.sha256"):
        (bin_ / part).rename(folder.path / "archives" / part)
    assert remove_unfinished(folder) == 0
    contents(folder)
    assert differences(before, snapshot_of(bin_), root=False) == []


def test_the_record_that_a_dead_run_left_is_not_that_of_an_older_archive_in_the_trash(folder: HostFolder) -> None:
    run = a_run()
    throw_away(folder, run, Kind.ARCHIVE, ARCHIVE)
    bin_ = folder.path / ".trash" / str(run) / "archive"
    before = snapshot_of(bin_)
    put_archive(folder, SLOT)
    (folder.path / "archives" / ARCHIVE).unlink()
    contents(folder)
    assert differences(before, snapshot_of(bin_)) == []
    assert remove_unfinished(folder) == 2


def test_what_a_dead_run_left_empty_in_the_trash_goes(folder: HostFolder) -> None:
    (folder.path / ".trash" / str(a_run()) / "golden").mkdir(parents=True)
    assert contents(folder) == []
    assert names_in(folder, ".trash") == set()


def test_a_purged_archive_leaves_nothing_behind(folder: HostFolder) -> None:
    run = a_run()
    throw_away(folder, run, Kind.ARCHIVE, ARCHIVE)
    (trashed,) = contents(folder)
    assert remove_archive(folder, trashed) == 3
    tidy(folder, run)
    assert names_in(folder, ".trash") == set()


def test_tidying_leaves_a_run_that_still_has_something(folder: HostFolder) -> None:
    run = a_run()
    throw_away(folder, run, Kind.ARCHIVE, ARCHIVE)
    throw_away(folder, run, Kind.GOLDEN, "2026-03")
    remove_archive(folder, Trashed(run, Kind.ARCHIVE, ARCHIVE))
    tidy(folder, run)
    assert contents(folder) == [Trashed(run, Kind.GOLDEN, "2026-03")]


def test_what_a_person_put_into_the_trash_is_none_of_ours(folder: HostFolder) -> None:
    for name in ("notes", str(a_run())):
        (folder.path / ".trash" / name).write_text("mine")
    assert contents(folder) == []


def test_a_trashed_snapshot_is_whole(folder: HostFolder) -> None:
    before = snapshot_of(folder.path / "hourly" / NAMES[Kind.SNAPSHOT])
    run = a_run()
    throw_away(folder, run, Kind.SNAPSHOT, NAMES[Kind.SNAPSHOT])
    trashed = Path(folder.path / ".trash" / str(run) / "snapshot" / NAMES[Kind.SNAPSHOT])
    assert differences(before, snapshot_of(trashed)) == []
    assert (trashed / MARKER_FILE).exists()
