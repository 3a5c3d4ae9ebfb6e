"""Archives and golden copies on the drive: complete or not there, and what is foreign is told and left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from shared.adapters.markers import MARKER_FILE
from shared.adapters.restore_points import (
    archives,
    foreign,
    golden_copies,
    record_name,
    remove_unfinished,
)
from shared.adapters.store import HostFolder
from shared.domain.errors import NameRefused
from shared.domain.names import HostName, SnapshotName, archive_name, golden_name, parse_archive_name, parse_golden_name
from tests.support.builders import HOST, SLOT
from tests.support.places import new_place
from tests.support.stock import names_in, put_archive, put_golden, put_snapshot, stocked

NAME = "backup_nas_2026-03-06_0800.tar.gz"


@pytest.fixture
def folder() -> Iterator[HostFolder]:
    with new_place() as place, stocked(place / "drive") as made:
        yield made


def test_an_archive_is_complete_with_its_record_and_its_checksum(folder: HostFolder) -> None:
    put_archive(folder, SLOT)
    (found,) = archives(folder)
    assert (found.name, found.damage, found.record.event.snapshot) == (NAME, "", "2026-03-06_0800")
    assert names_in(folder, "archives") == {NAME, f"{NAME}.sha256", record_name(NAME)}
    checksum = (folder.path / "archives" / f"{NAME}.sha256").read_text()
    assert checksum == f"{found.record.event.sha256}  {NAME}\n"


def test_archives_are_listed_oldest_first(folder: HostFolder) -> None:
    for hours in (8, 0, 4):
        put_archive(folder, SLOT + timedelta(hours=hours))
    assert [archive.record.event.slot.hour for archive in archives(folder)] == [8, 12, 16]


@pytest.mark.parametrize("missing", [NAME, record_name(NAME)])
def test_without_its_file_or_its_record_there_is_no_archive(folder: HostFolder, missing: str) -> None:
    put_archive(folder, SLOT)
    (folder.path / "archives" / missing).unlink()
    assert archives(folder) == []


def test_an_archive_that_was_cut_short_is_told(folder: HostFolder) -> None:
    put_archive(folder, SLOT)
    os.truncate(folder.path / "archives" / NAME, 3)
    (found,) = archives(folder)
    assert found.damage == f"archive {NAME} has 3 bytes instead of 15"


def test_an_archive_of_another_host_is_not_ours(folder: HostFolder) -> None:
    put_archive(folder, SLOT)
    place = folder.path / "archives"
    other = NAME.replace("nas", "web")
    (place / NAME).rename(place / other)
    (place / record_name(NAME)).rename(place / record_name(other))
    assert archives(folder) == []
    assert f"archives/{other}" in foreign(folder)


def test_a_golden_copy_is_complete_with_its_marker(folder: HostFolder) -> None:
    put_golden(folder, SLOT, "2026-03")
    assert [copy.name for copy in golden_copies(folder)] == ["2026-03"]
    (folder.path / "monthly" / "2026-03" / MARKER_FILE).unlink()
    assert golden_copies(folder) == []
    assert foreign(folder) == ["monthly/2026-03"]


@pytest.mark.parametrize("place", ["hourly", "archives", "monthly"])
@pytest.mark.parametrize("entry", ["notes.txt", "2026-13", "2026-03-06_2500", "backup_nas_2026-03-06.tar.gz", "\udcff"])
def test_what_is_foreign_is_told_and_left_alone(folder: HostFolder, place: str, entry: str) -> None:
    put_snapshot(folder, SLOT)
    put_archive(folder, SLOT)
    put_golden(folder, SLOT, "2026-03")
    Path(os.fsencode(folder.path / place / entry).decode(errors="surrogateescape")).write_text("mine")
    assert foreign(folder) == [f"{place}/{entry}"]
    assert remove_unfinished(folder) == 0
    assert entry in names_in(folder, place)


def test_a_link_with_the_name_of_a_golden_copy_is_foreign(folder: HostFolder) -> None:
    put_golden(folder, SLOT, "2026-03")
    (folder.path / "monthly" / "2026-04").symlink_to("2026-03")
    assert [copy.name for copy in golden_copies(folder)] == ["2026-03"]
    assert foreign(folder) == ["monthly/2026-04"]


def test_what_dead_runs_left_is_removed_and_nothing_else(folder: HostFolder) -> None:
    put_archive(folder, SLOT)
    put_golden(folder, SLOT, "2026-03")
    before = names_in(folder, "archives"), names_in(folder, "monthly")
    orphan = NAME.replace("0800", "1200")
    (folder.path / "archives" / ".partial-x.tar.gz").write_text("half")
    (folder.path / "archives" / f"{orphan}.sha256").write_text("half")
    (folder.path / "archives" / record_name(orphan)).write_text("half")
    (folder.path / "monthly" / ".partial-x" / "home").mkdir(parents=True)
    assert remove_unfinished(folder) == 4
    assert (names_in(folder, "archives"), names_in(folder, "monthly")) == before


@pytest.mark.parametrize("host", ["nas", "a_b", "backup", "2026-03"])
def test_the_name_of_an_archive_says_host_and_snapshot(host: str) -> None:
    for snapshot in ("2026-03-06_0800", "2026-03-06_080059"):
        name = archive_name(HostName(host), SnapshotName(snapshot), "tar.zst")
        assert parse_archive_name(name, HostName(host)) == snapshot


@pytest.mark.parametrize(
    "name",
    [
        "backup_web_2026-03-06_0800.tar.gz",
        "backup_nas_2026-02-30_0800.tar.gz",
        "backup_nas_2026-03-06_0800.tar",
        NAME + "\n",
    ],
)
def test_other_names_are_no_archives(name: str) -> None:
    with pytest.raises(NameRefused):
        parse_archive_name(name, HOST)


def test_a_golden_copy_is_named_after_the_month_in_the_zone_of_the_house() -> None:
    from zoneinfo import ZoneInfo

    end_of_month = SLOT.replace(day=31, hour=23)
    assert golden_name(end_of_month, ZoneInfo("UTC")) == "2026-03"
    assert golden_name(end_of_month, ZoneInfo("Europe/Berlin")) == "2026-04"
    assert parse_golden_name("2026-03") == (2026, 3)
    for name in ("2026-13", "2026-00", "26-03", "2026-3", "2026-03x"):
        with pytest.raises(NameRefused):
            parse_golden_name(name)
