"""Snapshots as they are taken: over a real sshd, by a real rsync within its walls, onto a real file system."""

from __future__ import annotations

import asyncio
import os
import re
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import xxhash
import zstandard

from services.cli.demo_change import change_home
from services.cli.demo_home import build_home
from services.cli.demo_names import ODD_NAMES
from services.snapshotter.findings import findings
from services.snapshotter.rsync import arguments
from shared.adapters import process
from shared.adapters.markers import CHANGES_FILE, FILES_FILE, MARKER_FILE
from shared.domain.errors import HostUnreachable, RunFailed
from shared.domain.events import AlertRaised, HoldPlaced, Quality
from shared.domain.file_list import real_name
from tests.support.backups import AS_NOBODY, Backups, Taken, backups, files_under, mounted
from tests.support.places import new_place
from tests.support.trees import Entry, Tree, differences, inodes, snapshot_of

KINDS = {"file": "f", "directory": "d", "symlink": "L"}
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts, owns files of others, and changes users")


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture
async def backup(place: Path) -> AsyncIterator[Backups]:
    async with backups(place) as made:
        yield made


@pytest.fixture
async def local(place: Path) -> AsyncIterator[Backups]:
    """The host is this machine: no SSH, everything else is the same."""
    async with backups(place, transport="local") as made:
        yield made


def home(backup: Backups) -> Path:
    return backup.source / "home"


def tree_of(backup: Backups) -> Tree:
    """The host's files as they are now."""
    return snapshot_of(home(backup))


def write(backup: Backups, name: str, content: bytes) -> Path:
    path = home(backup) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def changes_between(before: Tree, after: Tree) -> set[tuple[str, bytes, str]]:
    """What a change list has to say, by comparing two trees naively."""
    found = set()
    for path in before.entries.keys() | after.entries.keys():
        name = b"home" if path == b"." else b"home/" + path
        old, new = before.entries.get(path), after.entries.get(path)
        if old is not None and (new is None or (old.kind == "directory") != (new.kind == "directory")):
            found.add(("removed", name, KINDS[old.kind]))
            old = None
        if new is not None and (what := "added" if old is None else changed(old, new)):
            found.add((what, name, KINDS[new.kind]))
    return found


def changed(old: Entry, new: Entry) -> str:
    if old == new:
        return ""
    if old.kind == new.kind == "directory":
        return "metadata"
    contents = [(entry.kind, entry.sha256, entry.target, entry.mtime_ns) for entry in (old, new)]
    return "modified" if contents[0] != contents[1] or new.kind == "symlink" else "metadata"


def listed_changes(taken: Taken) -> set[tuple[str, bytes, str]]:
    """The change list of a snapshot as (what, name, kind)."""
    changes = taken.changes()
    found = {(change.change, name_of(change.path, change.path_base64), change.kind) for change in changes}
    assert len(found) == len(changes)
    return found


def name_of(path: str, path_base64: str) -> bytes:
    import base64

    return base64.b64decode(path_base64) if path_base64 else path.encode()


def assert_checksums_are_right(taken: Taken) -> None:
    """Each regular file has the digest that its content on the drive really has; the change list says the same."""
    entries = taken.entries()
    digests = {}
    for path, entry in taken.tree.files().items():
        name = b"home/" + path
        content = Path(os.fsdecode(os.fsencode(taken.path) + b"/" + name)).read_bytes()
        digests[name] = xxhash.xxh3_128_hexdigest(content).encode()
        assert int(entries[name].size) == entry.size
        assert entries[name].checksum == digests[name], name
    for change in taken.changes():
        if change.kind == "f" and change.change != "removed":
            assert change.xxh128.encode() == digests[name_of(change.path, change.path_base64)], change


def set_acl(path: Path, *, user: int, default: bool = False) -> bytes:
    """Let one more user read a file, by a POSIX ACL; returns what is stored for it."""
    nobody = 0xFFFFFFFF
    entries = [(0x01, 6, nobody), (0x02, 4, user), (0x04, 4, nobody), (0x10, 4, nobody), (0x20, 0, nobody)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, f"system.posix_acl_{'default' if default else 'access'}", value)
    return value


def kinds_of_hard_work(backup: Backups) -> None:
    """What the hour of work in the demonstration leaves out."""
    top = home(backup)
    (top / "alice/was-a-folder").mkdir()
    (top / "alice/was-a-folder/inside").write_text("inside")
    (top / "alice/was-a-file").write_text("a file")
    (top / "alice/was-a-link").symlink_to("somewhere")
    (top / "alice/was-separate").write_text("separate content")
    (top / "alice/group-a").write_text("a group of names")
    (top / "alice/group-b").hardlink_to(top / "alice/group-a")
    (top / "alice/group-c").hardlink_to(top / "alice/group-a")
    (top / "alice/pair-a").write_text("a pair of names")
    (top / "alice/pair-z").hardlink_to(top / "alice/pair-a")
    (top / "alice/tagged").write_text("tagged")
    os.setxattr(top / "alice/tagged", "user.colour", b"red")


def hard_work(backup: Backups) -> None:
    """Files become folders and folders files, names become hard links, and a file changes under all its names."""
    top = home(backup)
    (top / "alice/was-a-folder/inside").unlink()
    (top / "alice/was-a-folder").rmdir()
    (top / "alice/was-a-folder").write_text("now a file")
    (top / "alice/was-a-file").unlink()
    (top / "alice/was-a-file").mkdir()
    (top / "alice/was-a-file/inside").write_text("now inside a folder")
    (top / "alice/was-a-link").unlink()
    (top / "alice/was-a-link").write_text("now a file")
    (top / "alice/was-separate").unlink()
    (top / "alice/was-separate").hardlink_to(top / "alice/pair-a")
    with (top / "alice/group-b").open("a") as file:
        file.write(", all changed at once")
    (top / "alice/pair-z").unlink()
    os.setxattr(top / "alice/tagged", "user.colour", b"blue")


async def test_each_snapshot_equals_the_source_of_its_time(backup: Backups) -> None:
    home(backup).rmdir()
    build_home(backup.source, files=300)
    kinds_of_hard_work(backup)
    acl = set_acl(home(backup) / "alice/tagged", user=1234)
    default_acl = set_acl(home(backup) / "alice/Notes", user=1235, default=True)
    sources, taken = [tree_of(backup)], [await backup.take()]
    change_home(backup.source)
    hard_work(backup)
    sources.append(tree_of(backup))
    taken.append(await backup.take())
    change_home(backup.source, seed=3)
    sources.append(tree_of(backup))
    taken.append(await backup.take())
    sources.append(tree_of(backup))
    taken.append(await backup.take())

    before = Tree({})
    for source, snapshot in zip(sources, taken, strict=True):
        # Looked at only now: the older ones are as they were, in bytes and in metadata, after all later runs.
        assert differences(source, snapshot.tree) == []
        assert snapshot.completed.quality is Quality.COMPLETE
        assert listed_changes(snapshot) == changes_between(before, source)
        assert_checksums_are_right(snapshot)
        if backup.ability.acls:
            assert os.getxattr(snapshot.path / "home/alice/tagged", "system.posix_acl_access") == acl
            assert os.getxattr(snapshot.path / "home/alice/Notes", "system.posix_acl_default") == default_acl
        before = source
    assert listed_changes(taken[-1]) == set()
    assert backup.link("current") == backup.link("latest") == f"hourly/{taken[-1].completed.snapshot}"
    assert backup.leftovers() == []

    for number in (1, 2, 3):
        assert_shares_what_did_not_change(taken[number - 1], taken[number])
        assert taken[number].completed.base == taken[number - 1].completed.snapshot
    assert taken[3].completed.transferred_files == 0
    assert taken[3].compared.tally.unchanged == len(sources[3].files()) == taken[3].completed.files


def assert_shares_what_did_not_change(first: Taken, second: Taken) -> None:
    """The same inode for what is the same in all that a file has, and another one for anything else."""
    old, new = first.tree, second.tree
    old_inodes, new_inodes = inodes(first.path / "home"), inodes(second.path / "home")
    both = old_inodes.keys() & new_inodes.keys()
    assert len(both) > 300
    for path in both:
        assert (old_inodes[path] == new_inodes[path]) == (old.entries[path] == new.entries[path]), path


async def test_an_acl_that_names_others_is_kept_or_left_out_and_never_fails_the_run(backup: Backups) -> None:
    """Within the walls of an ordinary user there is nobody else whom an ACL could name."""
    path = write(backup, "shared", b"shared")
    acl = set_acl(path, user=1234)
    taken = await backup.take()
    assert taken.completed.quality is Quality.COMPLETE
    assert backup.ability.acls == (os.geteuid() == 0 or not backup.ability.confined)
    kept = taken.path / "home/shared"
    assert os.listxattr(kept) == (["system.posix_acl_access"] if backup.ability.acls else [])
    if backup.ability.acls:
        assert os.getxattr(kept, "system.posix_acl_access") == acl


@NEEDS_ROOT
@pytest.mark.root
async def test_of_the_attributes_only_acls_and_those_of_users_are_kept(backup: Backups) -> None:
    """Others are the host's own, and a kind that the drive does not know must not fail the run."""
    path = write(backup, "tagged", b"tagged")
    acl = set_acl(path, user=1234)
    for name in ("user.plain", "user.with/slash", "trusted.of-root", "security.of-the-kernel"):
        os.setxattr(path, name, name.encode())
    taken = await backup.take()
    kept = taken.path / "home/tagged"
    assert sorted(os.listxattr(kept)) == ["system.posix_acl_access", "user.plain", "user.with/slash"]
    assert os.getxattr(kept, "system.posix_acl_access") == acl
    assert os.getxattr(kept, "user.with/slash") == b"user.with/slash"


async def test_holes_stay_holes(backup: Backups) -> None:
    sparse = home(backup) / "machine.img"
    with sparse.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
        file.seek(32 * 1024 * 1024)
        file.write(b"an island")
    os.truncate(sparse, 64 * 1024 * 1024)
    taken = await backup.take()
    kept = (taken.path / "home/machine.img").stat()
    assert kept.st_size == 64 * 1024 * 1024
    assert kept.st_blocks * 512 < 1024 * 1024
    assert differences(tree_of(backup), taken.tree) == []


async def test_a_file_rewritten_within_the_second_with_the_same_size_is_not_shared(backup: Backups) -> None:
    """By whole seconds it looks unchanged; the old content would be kept under the new time, for ever."""
    path = write(backup, "ledger", b"balance: 100")
    second = 1_772_784_000_000_000_000
    os.utime(path, ns=(second, second + 100_000_000))
    first = await backup.take()
    path.write_bytes(b"balance: 999")
    os.utime(path, ns=(second, second + 900_000_000))
    taken = await backup.take()
    assert (taken.path / "home/ledger").read_bytes() == b"balance: 999"
    assert (first.path / "home/ledger").read_bytes() == b"balance: 100"
    assert ("modified", b"home/ledger", "f") in listed_changes(taken)
    assert_checksums_are_right(taken)

    # Without one option, rsync does share it: this is what the test is there for.
    options = [part for part in as_run(backup, first) if part != "--modify-window=-1"]
    assert len(options) == len(as_run(backup, first)) - 1
    done = await process.run(options, timeout_seconds=60)
    assert done.returncode == 0, done.said
    careless = backup.place / "careless/home/ledger"
    assert careless.read_bytes() == b"balance: 100"
    assert careless.stat().st_mtime_ns == (first.path / "home/ledger").stat().st_mtime_ns


def as_run(backup: Backups, base: Taken) -> list[str]:
    """The rsync command of a run, outside of the walls and without ssh."""
    return arguments(
        ability=backup.ability,
        token="x",
        sources=[backup.host.paths[0]],
        destination=f"{backup.place}/careless/",
        excludes=(),
        base=str(base.path),
        shell=None,
        bandwidth_limit_kib=None,
    )


async def test_every_byte_in_a_name_comes_back(local: Backups) -> None:
    """The list names what is on the drive, byte by byte: it is what restoring and verifying go by."""
    bytes_of_names = {bytes([number]) for number in range(1, 256)} - {b"/", b"."}
    tricky = {
        b"\\#012",
        b"\\#999",
        b"\\#134#012",
        b"\\\\#012",
        b"\\#1\n",
        b"\\\n",
        b"a\\#07",
        b"x => y",
        b"x//".strip(b"/"),
    }
    names = bytes_of_names | tricky | {name for name in ODD_NAMES if b"/" not in name}
    for name in names:
        make_named(home(local), name)
    taken = await local.take()
    found = {real_name(entry.key) for entry in taken.entries().values()}
    assert found == {b"home"} | {
        b"home/" + prefix + name[: 200 if prefix else 255] for name in names for prefix in (b"", b"link-", b"dir-")
    }
    assert listed_changes(taken) == changes_between(Tree({}), tree_of(local))
    assert_checksums_are_right(taken)
    assert differences(tree_of(local), taken.tree) == []


def make_named(folder: Path, name: bytes) -> None:
    """A file, a link and a folder with this in their names."""
    top = os.fsencode(folder)
    Path(os.fsdecode(top + b"/" + name)).write_bytes(name)
    Path(os.fsdecode(top + b"/link-" + name[:200])).symlink_to(os.fsdecode(name))
    Path(os.fsdecode(top + b"/dir-" + name[:200])).mkdir()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
async def test_nothing_that_a_host_names_like_our_own_files_forges_anything(backup: Backups, kind: str) -> None:
    host = backup.with_host(paths=(f"{backup.source}/./",))
    marker = await backup.take(host=host)
    for name in (MARKER_FILE, FILES_FILE, CHANGES_FILE):
        for folder in (backup.source, home(backup)):
            if kind == "file":
                (folder / name).write_bytes((marker.path / MARKER_FILE).read_bytes())
            elif kind == "folder":
                (folder / name).mkdir()
            else:
                (folder / name).symlink_to("/etc/passwd")
    (backup.source / ".partial-x").write_text("x")
    (backup.source / "genuine").write_text("genuine")
    taken = await backup.take(host=host)
    assert taken.completed.quality is Quality.SUSPECT or taken.completed.files >= 1
    assert (taken.path / "genuine").read_text() == "genuine"
    assert (taken.path / ".partial-x").read_text() == "x"
    for name in (MARKER_FILE, FILES_FILE, CHANGES_FILE):
        assert (taken.path / name).is_file()
        assert not (taken.path / name).is_symlink()
        # One folder further down it is a name like any other.
        assert b"home/" + name.encode() in taken.entries()
    with backup.store.folder(backup.host.name) as kept:
        assert [snapshot.marker.event for snapshot in kept.snapshots()] == [marker.completed, taken.completed]


async def test_files_that_vanish_meanwhile_are_a_warning(backup: Backups) -> None:
    """The first file is slow enough for the last one to be removed while it is being read."""
    write(backup, "a-slow-one", os.urandom(3_000_000))
    doomed = write(backup, "z-doomed", b"soon gone")
    run = asyncio.create_task(backup.take(host=backup.with_host(bandwidth_limit_kib=3_000)))
    try:
        async with asyncio.timeout(30):
            while not receiving(backup):  # noqa: ASYNC110  # rsync tells nobody
                await asyncio.sleep(0.005)
        doomed.unlink()
        taken = await run
    finally:
        run.cancel()
    assert taken.completed.exit_code == 24
    assert taken.completed.quality is Quality.COMPLETE
    assert taken.completed.warnings[0] == "1 files vanished while they were read."
    assert "z-doomed" in taken.completed.warnings[1]
    assert differences(tree_of(backup), taken.tree, root=False) == []
    assert set(taken.entries()) == {b"home", b"home/a-slow-one"}
    assert backup.link("current") == f"hourly/{taken.completed.snapshot}"


def receiving(backup: Backups) -> bool:
    """Whether rsync has begun to write a file."""
    return any(path.stat().st_size > 0 for path in backup.folder.glob(".partial-*/home/.a-slow-one.*"))


@NEEDS_ROOT
@pytest.mark.root
async def test_files_that_cannot_be_read_make_it_degraded(place: Path) -> None:
    async with backups(place, forced_command=AS_NOBODY) as backup:
        write(backup, "readable", b"readable").chmod(0o644)
        whole = await backup.take()
        secret = write(backup, "secret", b"secret")
        named_like_a_full_drive = write(backup, "No space left on device", b"x")
        for path in (secret, named_like_a_full_drive):
            path.chmod(0o600)
        taken = await backup.take()
        assert taken.completed.exit_code == 23
        assert taken.completed.quality is Quality.DEGRADED
        assert taken.completed.warnings[0] == "2 files could not be read on the host."
        assert any("secret" in warning for warning in taken.completed.warnings)
        assert taken.tree.files().keys() == {b"readable"}
        assert taken.entries().keys() == {b"home", b"home/readable"}
        # `latest` is the newest usable one; `current` only moves to a complete one.
        assert backup.link("latest") == f"hourly/{taken.completed.snapshot}"
        assert backup.link("current") == f"hourly/{whole.completed.snapshot}"
        assert findings(taken.completed, taken.compared.tally) == []
        # Once they can be read again, the next one is whole again, and says how they came back.
        secret.chmod(0o644)
        named_like_a_full_drive.chmod(0o644)
        mended = await backup.take()
        assert mended.completed.quality is Quality.COMPLETE
        assert mended.tree.files().keys() == {b"readable", b"secret", b"No space left on device"}
        assert_checksums_are_right(mended)
        assert backup.link("current") == f"hourly/{mended.completed.snapshot}"


async def test_an_empty_source_is_suspect_and_holds_what_was_there_before(backup: Backups) -> None:
    for number in range(10):
        write(backup, f"file-{number}", b"content")
    good = await backup.take()
    for path in home(backup).iterdir():
        path.unlink()
    taken = await backup.take()
    assert taken.completed.quality is Quality.SUSPECT
    assert taken.completed.removed_files == 10
    alert, hold = (found.event for found in findings(taken.completed, taken.compared.tally))
    assert isinstance(alert, AlertRaised)
    assert isinstance(hold, HoldPlaced)
    assert "is the home directory mounted" in alert.evidence
    assert hold.pinned == good.completed.snapshot
    assert backup.link("current") == backup.link("latest") == f"hourly/{good.completed.snapshot}"
    # The next one shares with the good one, not with the empty one.
    for number in range(10):
        write(backup, f"file-{number}", b"content")
    assert (await backup.take()).completed.base == good.completed.snapshot


@pytest.mark.parametrize(("left", "quality"), [(9, Quality.SUSPECT), (10, Quality.COMPLETE)])
async def test_a_source_that_shrank_below_half_is_suspect(local: Backups, left: int, quality: Quality) -> None:
    for number in range(20):
        write(local, f"file-{number:02}", b"content" * 1_000 if number == 0 else b"content")
    for _ in range(2):
        good = await local.take()
    for number in range(left, 20):
        (home(local) / f"file-{number:02}").unlink()
    taken = await local.take()
    assert taken.completed.quality is quality
    kinds = [type(found.event) for found in findings(taken.completed, taken.compared.tally)]
    assert kinds == ([AlertRaised, HoldPlaced] if quality is Quality.SUSPECT else [])
    newest = good if quality is Quality.SUSPECT else taken
    assert backup_points_to(local) == newest.completed.snapshot


def backup_points_to(backup: Backups) -> str:
    return (backup.link("current") or "").removeprefix("hourly/")


async def test_bytes_that_shrank_below_half_are_suspect_too(local: Backups) -> None:
    big = write(local, "big", b"x" * 100_000)
    write(local, "small", b"x")
    await local.take()
    big.write_bytes(b"x" * 1_000)
    taken = await local.take()
    assert taken.completed.quality is Quality.SUSPECT
    assert "1,001 bytes; recently it had 100,001" in taken.completed.warnings[0]


async def test_a_file_with_more_links_than_the_drive_allows_is_copied_in_full(local: Backups) -> None:
    most = os.pathconf(local.store.root, "PC_LINK_MAX")
    if most > 70_000:
        pytest.skip(f"this file system allows {most:,} links to one file")
    first = write(local, "links/0", b"one file with very many names")
    folder = os.open(first.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in range(1, most // 2 + 10):
            os.link("0", str(number), src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)
    write(local, "other", b"another file")
    whole = await local.take()
    assert whole.completed.warnings == ()
    taken = await local.take()
    assert taken.completed.quality is Quality.COMPLETE
    assert "as many links as the drive's file system allows. All was copied." in taken.completed.warnings[0]
    assert (taken.path / "home/links/0").stat().st_nlink == most // 2 + 10
    assert (whole.path / "home/links/0").stat().st_nlink == most // 2 + 10
    assert (taken.path / "home/other").stat().st_nlink == 1
    assert differences(tree_of(local), taken.tree) == []
    assert taken.entries()[b"home/links/77"].checksum == xxhash.xxh3_128_hexdigest(first.read_bytes()).encode()
    # Only of folders nobody can tell without the base whether their modes are the same.
    assert {kind for _, _, kind in listed_changes(taken)} <= {"d"}


@NEEDS_ROOT
@pytest.mark.root
async def test_sharing_that_does_not_work_raises_an_alert(local: Backups) -> None:
    """rsync says nothing when it cannot link to the base: it copies, hour after hour, until the drive is full."""
    for number in range(120):
        write(local, f"file-{number}", b"content %d" % number)
    first = await local.take()
    assert findings(first.completed, first.compared.tally) == []
    shared = await local.take()
    assert findings(shared.completed, shared.compared.tally) == []
    async with mounted(shared.path, "--bind", str(shared.path)):  # a link never leads from one mount to another
        taken = await local.take()
    assert taken.completed.quality is Quality.COMPLETE
    assert (taken.path / "home/file-1").stat().st_nlink == 1
    assert differences(tree_of(local), taken.tree) == []
    (alert,) = (found.event for found in findings(taken.completed, taken.compared.tally))
    assert isinstance(alert, AlertRaised)
    assert alert.kind == "sharing_collapsed"
    assert re.match("120 files that had not changed were copied", alert.evidence)


async def test_a_host_that_is_off_is_unreachable_and_nothing_is_written(backup: Backups) -> None:
    write(backup, "file", b"content")
    await backup.take()
    before = files_under(backup.store.root)
    await backup.sshd.stop()
    with pytest.raises(HostUnreachable, match="is offline"):
        await backup.take()
    assert files_under(backup.store.root) == before


@pytest.mark.parametrize("damage", [b"no longer what it was", zstandard.compress(b"neither name nor checksum\n")])
async def test_a_damaged_list_of_the_snapshot_before_is_told_with_what_helps(local: Backups, damage: bytes) -> None:
    write(local, "letter", b"1")
    first = await local.take()
    before = snapshot_of(first.path / "home")
    (first.path / FILES_FILE).write_bytes(damage)
    write(local, "letter", b"12")
    with pytest.raises(RunFailed) as failed:
        await local.take()
    assert (failed.value.code, failed.value.transient) == ("list", False)
    assert str(first.path / FILES_FILE) in failed.value.message
    assert "rename that list" in failed.value.hint
    assert local.leftovers() == []
    assert differences(before, snapshot_of(first.path / "home")) == []
    (first.path / FILES_FILE).rename(first.path / "damaged")
    assert list((await local.take()).entries()) != []


async def test_a_run_that_fails_leaves_nothing_but_what_was_there(backup: Backups) -> None:
    write(backup, "file", b"content")
    good = await backup.take()
    before, links = files_under(backup.store.root), (backup.link("current"), backup.link("latest"))
    with pytest.raises(RunFailed) as failed:
        await backup.take(host=backup.with_host(paths=("/nowhere/at/all",)))
    assert failed.value.code == "rsync_23"
    assert files_under(backup.store.root) == before
    assert (backup.link("current"), backup.link("latest")) == links
    assert (await backup.take()).completed.base == good.completed.snapshot
