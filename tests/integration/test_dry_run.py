"""A dry run: everything a snapshot needs is tried, what it would move is counted, and not one thing changes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from services.snapshotter.dry_run import try_host
from tests.support.backups import AS_NOBODY, Backups, backups, files_under
from tests.support.places import new_place
from tests.support.trees import differences, inodes, snapshot_of

KEPT = "set -- $SSH_ORIGINAL_COMMAND; shift; exec rsync "
OLD = KEPT + '"$@" --protocol=29'
WITHOUT_XXH128 = (
    'case "$SSH_ORIGINAL_COMMAND" in *xxh128*) echo "rsync: --checksum-choice=xxh128: unknown option" >&2; exit 1;; '
    "esac; exec $SSH_ORIGINAL_COMMAND"
)
SLOW = 'case "$SSH_ORIGINAL_COMMAND" in *--list-only*) exec $SSH_ORIGINAL_COMMAND;; esac; exec sleep 60'
NO_RSYNC = "exec /nowhere/rsync $SSH_ORIGINAL_COMMAND"
NO_RSYNC_SEEN_LATE = "echo 'sh: 1: rsync: not found' >&2; exit 1"
"""What is left of it for an rsync that does not wait for the exit code of ssh."""


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture(params=["ssh", "local"])
async def backup(place: Path, request: pytest.FixtureRequest) -> AsyncIterator[Backups]:
    async with backups(place, transport=request.param) as made:
        yield made


def write(backup: Backups, name: str, size_bytes: int) -> Path:
    path = backup.source / "home" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size_bytes))
    return path


async def tried(backup: Backups, **fields: object) -> tuple[bool, str]:
    """What a dry run finds, a sentence a line; nothing on the drive has changed after it."""
    root = backup.store.root
    before, names, numbers = snapshot_of(root), files_under(root), inodes(root)
    ok, sentences = await try_host(backup.with_host(**fields), backup.settings, backup.ability)
    assert differences(before, snapshot_of(root)) == []
    assert files_under(root) == names
    assert inodes(root) == numbers
    return ok, "\n".join(sentences)


@pytest.mark.parametrize("confined", [True, False])
async def test_it_counts_what_the_next_snapshot_would_move_and_changes_nothing(backup: Backups, confined: bool) -> None:
    backup.ability = msgspec.structs.replace(backup.ability, confined=confined and backup.ability.confined)
    write(backup, "alice/one", 10_000)
    write(backup, "alice/disk.iso", 500_000)
    os.setxattr(backup.source / "home/alice/one", "user.colour", b"red")
    (backup.source / "home/alice/two").hardlink_to(backup.source / "home/alice/one")
    (backup.source / "home/alice/link").symlink_to("one")
    ok, found = await tried(backup, excludes=("*.iso",))
    assert ok
    assert backup.host.name not in os.listdir(backup.store.root)  # a host that has no folder yet gets none
    assert "would move 1 of 2 files, 9.8 KiB" in found
    assert "it is the first one" in found
    counted = await backup.take(host=backup.with_host(excludes=("*.iso",)))
    assert counted.completed.transferred_files == 1

    write(backup, "alice/new", 3 * 1024)
    ok, found = await tried(backup, excludes=("*.iso",))
    assert ok
    assert "would move 1 of 3 files, 3.0 KiB of 22.5 KiB, and make 2 folders" in found
    assert f"it shares the rest with {counted.completed.snapshot}" in found
    assert "are free on the drive" in found
    taken = await backup.take(host=backup.with_host(excludes=("*.iso",)))
    assert (taken.completed.transferred_files, taken.completed.transferred_bytes) == (1, 3 * 1024)


async def test_it_tells_both_versions(place: Path) -> None:
    async with backups(place) as backup:
        write(backup, "file", 10)
        ok, found = await tried(backup)
        assert ok
        assert f"rsync here is {backup.ability.version}." in found
        assert "rsync on nas speaks protocol 3" in found
        backup.ability = msgspec.structs.replace(backup.ability, version="3.1.2")
        ok, found = await tried(backup)
        assert not ok
        assert found.startswith("rsync here is 3.1.2, too old: install 3.2 or newer.")


@pytest.mark.parametrize(
    ("forced_command", "says"),
    [
        (OLD, "rsync on nas speaks protocol 29: rsync 2.6, too old: install 3.2 or newer there."),
        (WITHOUT_XXH128, "does not take the checksum xxh128: install 3.2 or newer there. It said: rsync: --checksum"),
        (NO_RSYNC, "there is no rsync on the host"),
        (NO_RSYNC_SEEN_LATE, "there is no rsync on the host"),
    ],
)
async def test_a_host_whose_rsync_will_not_do_is_told_so_first(place: Path, forced_command: str, says: str) -> None:
    async with backups(place, forced_command=forced_command) as backup:
        write(backup, "file", 10)
        ok, found = await tried(backup)
        assert not ok
        assert says in found.splitlines()[0]
        assert "would move" not in found


async def test_a_host_that_takes_too_long_to_count_is_not_waited_for(place: Path) -> None:
    async with backups(place, forced_command=SLOW) as backup:
        write(backup, "file", 10)
        ok, sentences = await try_host(backup.host, backup.settings, backup.ability, estimate_seconds=1)
        assert ok
        assert sentences[0].startswith("The estimate was not finished in 1 s")
        assert any("are free on the drive" in sentence for sentence in sentences)


async def test_what_cannot_be_read_is_named(place: Path) -> None:
    forced_command = AS_NOBODY if os.geteuid() == 0 else None
    async with backups(place, forced_command=forced_command) as backup:
        write(backup, "alice/file", 10)
        (backup.source / "home/private").mkdir(mode=0o700)
        (backup.source / "home/private").chmod(0o000)
        ok, found = await tried(backup)
        assert not ok
        assert found.startswith("Not all can be read: the snapshot would be degraded, never archived. 1 files")
        assert "home/private" in found.splitlines()[0]
        ok, found = await tried(backup, paths=("/nowhere/at/all", *backup.host.paths))
        assert not ok
        assert found.startswith("/nowhere/at/all cannot be read: ")
        (backup.source / "home/private").chmod(0o700)


async def test_an_empty_source_and_a_drive_that_is_not_there_are_found(backup: Backups) -> None:
    ok, found = await tried(backup)
    assert not ok
    assert found.startswith("The source is empty: is the home directory mounted on the host?")
    write(backup, "file", 10)
    backup.settings = msgspec.structs.replace(backup.settings, backup_root=backup.place / "not-mounted")
    ok, found = await tried(backup)
    assert not ok
    assert "cannot be opened" in found.splitlines()[0]
    assert not (backup.place / "not-mounted").exists()


async def test_the_quota_is_compared_when_it_is_known_what_is_used(backup: Backups) -> None:
    write(backup, "file", 10)
    host = backup.with_host(quota_gib=1)
    for used_bytes, ok, says in [
        (None, True, "How much of its quota the host uses is not known now"),
        (5 * 1024**3, False, "The host uses 5.0 GiB of its quota of 1.0 GiB, and "),
    ]:
        found, sentences = await try_host(host, backup.settings, backup.ability, used_bytes=used_bytes)
        assert found == ok
        assert sentences[0].startswith(says)
