"""The receiver within its walls: a hostile host gets nothing of this machine, and nothing outlives its snapshotter."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from services.embedded.process_tree import until_readable
from services.embedded.sshd import make_key
from services.snapshotter import sandbox
from services.snapshotter.connection import connected
from services.snapshotter.output import Progress
from services.snapshotter.rsync import arguments
from services.snapshotter.transfer import Transfer, transfer
from shared.adapters import process
from shared.adapters.clock import SystemClock
from shared.adapters.store import MASKED_FOLDERS
from shared.domain.errors import HostBusy, HostUnreachable, RunFailed
from shared.domain.events import Job, Quality
from shared.domain.names import HostName
from tests.support.backups import Backups, Taken, backups, files_under, snapshotter
from tests.support.places import new_place
from tests.support.trees import differences, snapshot_of

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives links to other users and reads their files")
WITHIN_SECONDS = 20
SECRET = b"the server's private key, 41 bytes long.\n"
DECOY = b"an innocent text of exactly this length.\n"
SECOND_NS = 1_772_784_000_123_456_789


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture
async def backup(place: Path) -> AsyncIterator[Backups]:
    async with backups(place) as made:
        if not made.ability.confined:
            pytest.skip(f"bubblewrap does not work here: {await sandbox.why_not_confined()}")
        yield made


async def until(holds: Callable[[], bool], what: str) -> None:
    """Wait, bounded, for something that nobody announces."""
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            while not holds():  # noqa: ASYNC110  # nobody announces it
                await asyncio.sleep(0.005)
    except TimeoutError as error:
        raise AssertionError(f"{what} did not happen") from error


# The attack: a link to a folder of the server now, and an hour later a folder in its place, with a decoy inside that
# has the size and the time of what is wanted. Sharing with the base then follows the link.


def offer_link(backup: Backups, *, to: str, owner: int) -> None:
    link = backup.source / "home/x"
    link.symlink_to(to)
    os.chown(link, owner, owner, follow_symlinks=False)


def offer_decoy(backup: Backups) -> None:
    (backup.source / "home/x").unlink()
    (backup.source / "home/x").mkdir()
    decoy = backup.source / "home/x/key"
    decoy.write_bytes(DECOY)
    decoy.chmod(0o600)
    os.utime(decoy, ns=(SECOND_NS, SECOND_NS))


def make_secret(backup: Backups) -> Path:
    """A file that only root reads, outside of everything that is backed up."""
    folder = backup.place / "secret"
    folder.mkdir(mode=0o700)
    secret = folder / "key"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    os.utime(secret, ns=(SECOND_NS, SECOND_NS))
    return secret


async def attack(backup: Backups, owner: int, take: Callable[[], Awaitable[Taken]]) -> tuple[Taken, Taken]:
    offer_link(backup, to=str(make_secret(backup).parent), owner=owner)
    make_ordinary(backup)
    first = await take()
    offer_decoy(backup)
    second = await take()
    assert second.completed.base == first.completed.snapshot  # else there is nothing to be deceived about
    return first, second


def make_ordinary(backup: Backups) -> None:
    """A file as every home has them: without any, a snapshot is suspect, and no later one shares with it."""
    (backup.source / "home/file").write_text("content")


def assert_nothing_leaked(backup: Backups, taken: Taken) -> None:
    assert (taken.path / "home/x/key").read_bytes() == DECOY
    assert (backup.place / "secret/key").stat().st_nlink == 1
    held = [path for path in backup.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(held) >= 5
    assert not any(SECRET in path.read_bytes() for path in held)


@NEEDS_ROOT
@pytest.mark.root
@pytest.mark.parametrize("owner", [0, 1000], ids=["a link of root", "a link of the user"])
async def test_a_link_and_then_a_decoy_get_nothing_of_the_server(backup: Backups, owner: int) -> None:
    first, taken = await attack(backup, owner, backup.take)
    assert (first.path / "home/x").readlink() == backup.place / "secret"
    assert_nothing_leaked(backup, taken)
    assert differences(snapshot_of(backup.source / "home"), taken.tree) == []

    # The same rsync without the walls hands the secret over: this is what they are there for.
    command = arguments(
        ability=backup.ability,
        token="x",
        sources=backup.host.paths,
        destination=f"{backup.place}/careless/",
        excludes=(),
        base=str(first.path),
        shell=None,
        bandwidth_limit_kib=None,
    )
    done = await process.run(command, timeout_seconds=60)
    assert done.returncode == 0, done.said
    assert (backup.place / "careless/home/x/key").read_bytes() == SECRET


@NEEDS_ROOT
@pytest.mark.root
@pytest.mark.parametrize("owner", [0, 1000], ids=["a link of root", "a link of the user"])
async def test_without_bubblewrap_links_are_munged_and_lead_nowhere(backup: Backups, owner: int) -> None:
    bare = msgspec.structs.replace(backup.ability, confined=False)
    (backup.source / "home/ordinary").symlink_to("somewhere/else")
    first, taken = await attack(backup, owner, lambda: backup.take(ability=bare))
    assert (first.path / "home/x").readlink() == Path(f"/rsyncd-munged/{backup.place}/secret")
    assert (taken.path / "home/ordinary").readlink() == Path("/rsyncd-munged/somewhere/else")
    assert_nothing_leaked(backup, taken)
    assert taken.completed.quality is Quality.COMPLETE
    assert (taken.path / "home/file").stat().st_ino == (first.path / "home/file").stat().st_ino


async def test_a_link_within_the_walls_leads_to_no_other_host(backup: Backups) -> None:
    """Relative or absolute, as seen from inside or from outside: no way leads to a neighbour's files."""
    neighbour = backup.store.root / "neighbour/hourly/2026-03-06_0800/home"
    neighbour.mkdir(parents=True)
    (neighbour / "key").write_bytes(SECRET)
    os.utime(neighbour / "key", ns=(SECOND_NS, SECOND_NS))
    ways = [str(neighbour), "/host/../neighbour", "../../../../neighbour/hourly/2026-03-06_0800/home", "/proc/1/root"]
    for number, way in enumerate(ways):
        (backup.source / f"home/x{number}").symlink_to(way)
    make_ordinary(backup)
    first = await backup.take()
    for number, _ in enumerate(ways):
        (backup.source / f"home/x{number}").unlink()
        decoy = backup.source / f"home/x{number}/key"
        decoy.parent.mkdir()
        decoy.write_bytes(DECOY)
        os.utime(decoy, ns=(SECOND_NS, SECOND_NS))
    taken = await backup.take()
    assert taken.completed.base == first.completed.snapshot
    for number, _ in enumerate(ways):
        assert (taken.path / f"home/x{number}/key").read_bytes() == DECOY
    assert (neighbour / "key").stat().st_nlink == 1


# What can be seen from inside.


async def probe(backup: Backups, script: str) -> str:
    """What a shell within the walls says; the walls are those of a run of this host."""
    with backup.store.folder(backup.host.name) as folder:
        async with connected(backup.host, backup.settings) as connection:
            argv = sandbox.confined(
                ["bash", "-c", script, "probe", str(backup.host.port), str(backup.sshd.client_key), str(backup.place)],
                host_folder=folder.path,
                sockets=connection.sockets,
                sources=connection.local_paths,
            )
            return (await process.run(argv, timeout_seconds=WITHIN_SECONDS)).stdout.decode()


async def test_the_receiver_sees_the_system_and_one_hosts_snapshots_only(backup: Backups) -> None:
    (backup.source / "home/file").write_text("content")
    taken = await backup.take()
    with backup.store.folder(HostName("neighbour")):
        pass
    seen = (await probe(backup, "ls -A /; echo --; ls -A /host; echo --; ls -A /connection; echo --; ls /etc")).split()
    top, host, connection, etc = (part.split() for part in " ".join(seen).split("--"))
    optional = {"lib", "lib32", "lib64", "bin"}
    assert set(top) - optional == {"usr", "proc", "dev", "tmp", "connection", "host", "etc"}
    assert set(host) == {"hourly", "current", "latest", *MASKED_FOLDERS}
    assert set(connection) == {"ssh", "passwd"}
    assert set(etc) <= {"passwd", "ssl", "ld.so.cache"}
    assert (await probe(backup, f"cat /host/hourly/{taken.completed.snapshot}/home/file")) == "content"
    said = await probe(backup, 'cat "$2" 2>&1; ls "$3" 2>&1; ls /host/../neighbour 2>&1; ls /root /home /run 2>&1')
    assert said.count("No such file or directory") == 6


async def test_what_is_masked_is_empty_inside(backup: Backups) -> None:
    with backup.store.folder(backup.host.name) as folder:
        for name in MASKED_FOLDERS:
            (folder.path / name / "sentinel").write_text("not for the receiver")
    said = await probe(
        backup, "cd /host && find archives monthly .locks .spool .trash -mindepth 1; touch .spool/x && echo ok"
    )
    assert said == "ok\n"
    assert not (backup.folder / ".spool/x").exists()
    assert all((backup.folder / name / "sentinel").exists() for name in MASKED_FOLDERS)


async def test_the_receiver_has_no_network(backup: Backups) -> None:
    """The host's sshd listens on this machine's loopback interface; from inside there is nobody."""
    _, writer = await asyncio.open_connection("127.0.0.1", backup.host.port)
    writer.close()
    said = await probe(backup, '(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>&1 && echo reached; cat /proc/net/dev')
    assert "Connection refused" in said or "Network is unreachable" in said
    assert "reached" not in said
    assert [line.split(":")[0].strip() for line in said.splitlines() if ":" in line and "probe" not in line] == ["lo"]


async def test_the_receiver_sees_no_process_of_ours(backup: Backups) -> None:
    said = await probe(backup, "env; echo --; cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    environment, processes = said.split("--\n")
    names = {line.split("=")[0] for line in environment.splitlines()}
    assert names - {"PWD", "SHLVL", "_"} == set(sandbox.ENVIRONMENT)
    assert "pytest" not in processes
    assert processes.count("bwrap") <= 1


async def test_the_receiver_writes_to_the_hosts_folder_only(backup: Backups) -> None:
    places = "/ /usr /usr/bin /connection /connection/passwd /etc /etc/passwd /host /host/hourly /tmp /proc"
    script = f"for f in {places}; do [ -d $f ] && f=$f/by-the-receiver; (echo >$f) 2>/dev/null && echo $f; done"
    written = set((await probe(backup, script)).split())
    # The root directory, /etc and /tmp exist in memory only, and only inside.
    in_memory = {f"{folder}/by-the-receiver" for folder in ("/", "/etc", "/tmp")}  # noqa: S108
    assert written - in_memory == {"/host/by-the-receiver", "/host/hourly/by-the-receiver"}
    assert (backup.folder / "by-the-receiver").exists()
    assert not [path for path in in_memory if os.access(path, os.F_OK)]


@NEEDS_ROOT
@pytest.mark.root
async def test_a_root_receiver_has_the_rights_to_give_files_away_and_no_others(backup: Backups) -> None:
    said = await probe(backup, "grep -E '^(Cap(Eff|Prm)|NoNew)' /proc/self/status; mknod /tmp/d b 8 0 || echo refused")
    chown, dac_override, fowner, fsetid = 0, 1, 3, 4
    wanted = f"{1 << chown | 1 << dac_override | 1 << fowner | 1 << fsetid:016x}"
    assert said.split() == ["CapPrm:", wanted, "CapEff:", wanted, "NoNewPrivs:", "1", "refused"]


# The lock and the end.


def lock_is_free(backup: Backups) -> bool:
    """Whether somebody else could begin with this host."""
    with backup.store.folder(backup.host.name) as folder:
        try:
            with folder.locked(Job.SNAPSHOT):
                return True
        except HostBusy:
            return False


async def test_the_lock_is_held_as_long_as_anything_within_the_walls_lives(backup: Backups) -> None:
    with backup.store.folder(backup.host.name) as folder:
        with folder.locked(Job.SNAPSHOT) as lock:
            argv = sandbox.confined(["sh", "-c", "echo ready; read line"], host_folder=folder.path, sockets=None)
            receiver = await process.start(argv, pass_fds=[lock.descriptor], stdin=asyncio.subprocess.PIPE)
        async with receiver:
            assert await anext(receiver.chunks()) == b"ready\n"
            # This process has given the lock up; the one inside, which got it from us, has not.
            assert not lock_is_free(backup)
    assert lock_is_free(backup)


async def test_an_orphaned_rsync_holds_the_lock(backup: Backups) -> None:
    """Whatever kept the kernel from ending it together with its parent: nobody else begins while it writes."""
    (backup.source / "home/slow").write_bytes(os.urandom(4_000_000))
    with backup.store.folder(backup.host.name) as folder, folder.locked(Job.SNAPSHOT) as lock:
        copy = f"setsid rsync -a --bwlimit=100 {backup.source}/ {folder.path}/.partial-orphan/"
        # A shell that is killed leaves rsync, in a session of its own, to init.
        script = f"{copy} & while kill -0 $!; do cat /proc/$!/cmdline | grep -q ^rsync && echo $! && wait; done"
        parent = await process.start(["sh", "-c", script], pass_fds=[lock.descriptor])
        rsync = int(await anext(parent.chunks()))
    shell, orphan = os.pidfd_open(parent.pid), os.pidfd_open(rsync)
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            os.kill(parent.pid, signal.SIGKILL)
            await until_readable(shell)
            await until(lambda: any(backup.folder.glob(".partial-orphan/home/.slow.*")), "The transfer")
            assert not lock_is_free(backup)
            os.killpg(rsync, signal.SIGSTOP)
            assert not lock_is_free(backup)
            os.killpg(rsync, signal.SIGKILL)
            await until_readable(orphan)
            await until(lambda: lock_is_free(backup), "The end of the lock")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(rsync, signal.SIGKILL)
        await parent.end(grace_seconds=1)
        os.close(shell)
        os.close(orphan)


def rsyncs_of(backup: Backups) -> list[int]:
    """The rsync processes that write to the host's folder, inside the walls and outside."""
    partials = [name.encode() for name in backup.leftovers() if not name.endswith("-work")]
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if any(name in word for word in words for name in partials):
                found.append(int(entry.name))
    return found


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def open_files_of(pid: int) -> set[str]:
    return {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}  # noqa: PTH115  # not all are paths


@pytest.mark.parametrize("stopped", [False, True], ids=["which writes", "which stands still"])
async def test_no_rsync_outlives_its_snapshotter(
    backup: Backups, monkeypatch: pytest.MonkeyPatch, *, stopped: bool
) -> None:
    monkeypatch.setenv("POSTGRES_DSN", "postgresql://secret")
    (backup.source / "home/slow").write_bytes(os.urandom(8_000_000))
    backup.host = backup.with_host(bandwidth_limit_kib=500)
    async with await snapshotter(backup) as running:
        await until(lambda: any(backup.folder.glob(".partial-*/home/.slow.*")), "The transfer")
        receivers = rsyncs_of(backup)
        assert len(receivers) >= 3  # bubblewrap, the generator and the receiver
        handles = [os.pidfd_open(pid) for pid in receivers]
        # What a service is told by its environment, its receiver cannot tell. The lock it holds as well.
        assert b"secret" in environment_of(running.pid)
        assert not any(b"secret" in environment_of(pid) for pid in receivers)
        writers = [pid for pid in receivers if name_of(pid) == "rsync"]
        assert len(writers) == 2
        assert all(f"{backup.folder}/.locks/snapshot" in open_files_of(pid) for pid in writers)
        os.kill(running.pid, signal.SIGSTOP)
        assert not lock_is_free(backup)
        assert rsyncs_of(backup) == receivers
        if stopped:
            for handle in handles:
                signal.pidfd_send_signal(handle, signal.SIGSTOP)
        os.kill(running.pid, signal.SIGKILL)
        async with asyncio.timeout(WITHIN_SECONDS):
            for handle in handles:
                await until_readable(handle)
                os.close(handle)
        await until(lambda: lock_is_free(backup), "The end of the lock")
    assert rsyncs_of(backup) == []
    assert backup.snapshots() == []
    # The next one clears up and begins anew.
    backup.host = backup.with_host(bandwidth_limit_kib=None)
    with backup.store.folder(backup.host.name) as folder, folder.locked(Job.SNAPSHOT):
        assert folder.remove_partials() == 2
    assert (await backup.take()).completed.quality is Quality.COMPLETE


# The way to the host.


async def test_another_host_key_stops_everything_before_a_byte_is_written(backup: Backups) -> None:
    (backup.source / "home/file").write_text("content")
    await backup.take()
    before = files_under(backup.store.root)
    await backup.sshd.rotate_host_key()
    with pytest.raises(RunFailed) as failed:
        await backup.take()
    assert failed.value.code == "host_key"
    assert not failed.value.transient
    assert "hosts enroll nas" in failed.value.hint
    assert files_under(backup.store.root) == before


async def test_no_pinned_host_key_is_no_reason_to_trust_any(backup: Backups) -> None:
    (backup.place / "known_hosts").write_text("")
    with pytest.raises(RunFailed) as failed:
        await backup.take()
    assert failed.value.code == "host_key"
    assert backup.snapshots() == []


async def test_a_key_that_the_host_does_not_know_is_refused_for_good(backup: Backups) -> None:
    await make_key(backup.place / "stranger", "stranger")
    with pytest.raises(RunFailed) as failed:
        await backup.take(host=backup.with_host(key=backup.place / "stranger"))
    assert failed.value.code == "ssh_key"
    assert not failed.value.transient
    assert backup.snapshots() == []


async def test_a_key_that_is_not_there_is_said_to_be_missing(backup: Backups) -> None:
    with pytest.raises(RunFailed) as failed:
        await backup.take(host=backup.with_host(key=backup.place / "nowhere"))
    assert failed.value.code == "ssh_key"


async def test_a_closed_port_means_offline(backup: Backups) -> None:
    await backup.sshd.stop()
    with pytest.raises(HostUnreachable, match=r"is offline: .*Connection refused"):
        await backup.take()
    assert backup.snapshots() == []


async def test_a_connection_that_dies_in_the_middle_is_tried_again_later_and_not_from_inside(backup: Backups) -> None:
    (backup.source / "home/file").write_text("content")
    good = await backup.take()
    before = files_under(backup.store.root)
    (backup.source / "home/slow").write_bytes(os.urandom(8_000_000))
    run = asyncio.create_task(backup.take(host=backup.with_host(bandwidth_limit_kib=500)))
    try:
        await until(lambda: any(backup.folder.glob(".partial-*/home/.slow.*")), "The transfer")
        logins = backup.sshd.log.read_text().count("Accepted publickey")
        os.kill(master_of(backup), signal.SIGKILL)
        async with asyncio.timeout(WITHIN_SECONDS):
            with pytest.raises(RunFailed) as failed:
                await run
    finally:
        run.cancel()
    assert failed.value.transient
    assert failed.value.code in {"rsync_12", "rsync_255"}
    assert files_under(backup.store.root) == before
    assert backup.link("current") == f"hourly/{good.completed.snapshot}"
    # Two runs, two logins: nothing inside tried to get a connection of its own.
    assert logins == backup.sshd.log.read_text().count("Accepted publickey") == 2
    assert (await backup.take()).completed.base == good.completed.snapshot


async def test_the_remote_shell_of_rsync_has_no_connection_of_its_own(backup: Backups) -> None:
    """Once the shared connection is gone, ssh would make a new one: with whatever key and host key it finds."""
    async with connected(backup.host, backup.settings) as connection:
        shell = (connection.shell(inside=False) or "").split()
        key, port = str(backup.sshd.client_key), str(backup.host.port)
        argv = [*shell, "-i", key, "-p", port, "-o", "StrictHostKeyChecking=no", "127.0.0.1", "echo reached"]
        shared = await process.run(argv, timeout_seconds=WITHIN_SECONDS)
        assert shared.stdout == b"reached\n"
        os.kill(master_of(backup), signal.SIGKILL)
        await until(lambda: not lives(backup), "The end of the shared connection")
        alone = await process.run(argv, timeout_seconds=WITHIN_SECONDS)
    assert alone.stdout == b""
    assert alone.returncode == 255


def lives(backup: Backups) -> bool:
    """Whether the shared connection is open."""
    with suppress(AssertionError):
        return master_of(backup) > 0
    return False


def master_of(backup: Backups) -> int:
    """The ssh process that holds the shared connection."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if words[:1] == [b"ssh"] and b"-M" in words and os.fsencode(backup.sshd.client_key) in words:
                return int(entry.name)
    raise AssertionError("no shared connection is open")


async def test_the_drive_is_given_up_by_whoever_held_it(backup: Backups) -> None:
    """A run that failed leaves no descriptor behind that keeps the drive from being unmounted."""
    (backup.source / "home/file").write_text("content")
    await backup.take()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(RunFailed):
            await backup.take(host=backup.with_host(paths=("/nowhere/at/all",)))
        await backup.take()
    assert sorted(os.listdir("/proc/self/fd")) == before


async def test_a_drive_that_came_into_the_place_of_another_gets_nothing(backup: Backups, place: Path) -> None:
    """The folder of the run was made on the first one; rsync would make it anew on whatever is mounted now."""
    (backup.source / "home/file").write_text("content")

    async def nobody_asks(_files: int, _progress: Progress) -> None: ...

    with backup.store.folder(backup.host.name) as folder, folder.locked(Job.SNAPSHOT) as lock:
        before = files_under(backup.store.root)
        async with connected(backup.host, backup.settings) as connection:
            partial, raw = folder.path / ".partial-x", place / "raw"
            wish = Transfer(connection, backup.store, folder, partial, None, lock.descriptor, raw)
            with pytest.raises(RunFailed):
                await transfer(wish, backup.ability, SystemClock(), nobody_asks)
        assert files_under(backup.store.root) == before
