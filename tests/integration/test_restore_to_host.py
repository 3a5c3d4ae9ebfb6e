"""A restore back to the host: with its own key, beside the original, and over it only by name."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from services.restorer import to_host, transfer
from shared.adapters.postgres import EventLog
from shared.domain.events import RestoreCompleted, RestoreFailed
from tests.support.backups import backups, must
from tests.support.places import new_place
from tests.support.restoring import Restoring, restoring
from tests.support.servers import BOUND_SECONDS
from tests.support.trees import differences, snapshot_of

pytestmark = pytest.mark.timeout(BOUND_SECONDS)


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture
async def host(place: Path, log: EventLog) -> AsyncIterator[Restoring]:
    async with backups(place) as backup, restoring(backup, log) as made:
        yield made


def text_of(path: str) -> str:
    return Path(path).read_text()


async def test_it_comes_back_beside_the_original_as_it_was(host: Restoring) -> None:
    await host.make_key()
    before = snapshot_of(host.backup.source / "home")
    done = await host.restored(target="host")
    assert isinstance(done, RestoreCompleted), done
    name, _, folder = done.places[0].partition(":")
    assert (name, Path(folder).parent) == ("nas", host.backup.source)
    assert Path(folder).name.startswith("home.restored-2026-03-06_0800-")
    assert os.listdir(folder) == ["home"]
    found = snapshot_of(Path(folder) / "home")
    assert differences(host.taken.tree, found, owners=os.geteuid() == 0) == []
    assert "compared with it, byte for byte" in text_of(f"{folder}.verified")
    assert differences(before, snapshot_of(host.backup.source / "home")) == []
    again = await host.restored(target="host", paths=("home/alice/locked", "home/alice/letters/%FF%FE not utf-8"))
    assert isinstance(again, RestoreCompleted), again
    beside = [Path(place.partition(":")[2]) for place in again.places]
    assert [path.name[: path.name.index(".restored")] for path in beside] == ["letters", "locked"]
    assert {path.parent for path in beside} == {host.backup.source / "home/alice"}
    assert os.listdir(beside[1]) == ["locked"]
    assert os.listdir(os.fsencode(beside[0] / "letters")) == [b"\xff\xfe not utf-8"]


async def test_without_the_key_it_says_what_to_do_and_which_line_goes_where(host: Restoring) -> None:
    failed = await host.restored(target="host")
    assert isinstance(failed, RestoreFailed)
    assert "hosts restore-key nas" in failed.hint
    line = await host.make_key(added=False)
    failed = await host.restored(target="host")
    assert isinstance(failed, RestoreFailed)
    assert (failed.code, failed.final) == ("restore_key", True)
    assert "does not accept the restore key" in failed.message
    assert line in failed.hint
    assert "authorized_keys on nas" in failed.hint
    assert os.listdir(host.backup.source) == ["home"]


async def test_the_key_can_neither_read_nor_remove(host: Restoring) -> None:
    await host.make_key()
    configured = host.settings.hosts[0]
    key, known = configured.restore_key_path(host.settings), configured.known_hosts
    shell = f"ssh -F /dev/null -i {key} -p {configured.port} -o UserKnownHostsFile={known} -o HostKeyAlias=nas"
    empty = host.backup.place / "empty"
    empty.mkdir()
    target = f"{configured.user}@127.0.0.1:{host.backup.source}/home/"
    for words in (["-a", target, f"{empty}/"], ["-a", "--delete", f"{empty}/", target]):
        with pytest.raises(AssertionError, match=r"rrsync|not allowed|disabled"):
            await must("rsync", "-e", shell, *words)
    assert (host.backup.source / "home/alice/letters/one.txt").exists()


async def test_it_goes_over_the_original_by_name_and_keeps_what_it_replaces(host: Restoring) -> None:
    await host.make_key()
    letters = host.backup.source / "home/alice/letters"
    (letters / "-rf").write_text("a later version")
    (letters / "one.txt").unlink()
    (letters / "newer").write_text("not in the snapshot")
    done = await host.restored(target="host", over_original=True, confirm="nas", paths=("home/alice/letters",))
    assert isinstance(done, RestoreCompleted), done
    (letters / "newer").rename(host.backup.place / "newer")
    mtime = (host.taken.path / "home/alice/letters").stat()
    os.utime(letters, ns=(mtime.st_atime_ns, mtime.st_mtime_ns))
    wanted = snapshot_of(host.taken.path / "home/alice/letters")
    assert differences(wanted, snapshot_of(letters), owners=os.geteuid() == 0) == []
    (aside,) = host.backup.source.glob("replaced-by-restore-*")
    assert aside.name in done.warnings[0]
    assert (aside / "home/alice/letters/-rf").read_text() == "a later version"
    assert (host.backup.place / "newer").read_text() == "not in the snapshot"


async def test_what_a_host_has_otherwise_is_found(host: Restoring, monkeypatch: pytest.MonkeyPatch) -> None:
    await host.make_key()
    move = transfer.move

    async def moved_and_flipped(*args: object, **kwargs: object) -> None:
        await move(*args, **kwargs)  # type: ignore[arg-type]  # as it was called
        (container,) = host.backup.source.glob("home.restored-*")
        victim = container / "home/alice/letters/-rf"
        about = victim.stat()
        victim.write_bytes(victim.read_bytes().replace(b"odd", b"OdD"))
        os.utime(victim, ns=(about.st_atime_ns, about.st_mtime_ns))

    monkeypatch.setattr(to_host, "move", moved_and_flipped)
    failed = await host.restored(target="host")
    assert isinstance(failed, RestoreFailed), failed
    assert failed.code == "differs"
    assert "letters/-rf" in failed.message
    (container,) = host.backup.source.glob("home.restored-*")
    assert failed.left == (f"nas:{container}",)


async def test_a_host_that_is_off_is_tried_again(host: Restoring) -> None:
    await host.make_key()
    await host.backup.sshd.stop()
    host.restorer.settings = msgspec.structs.replace(
        host.settings, timing=msgspec.structs.replace(host.settings.timing, max_attempts=2)
    )
    first = await host.restored(target="host")
    assert isinstance(first, RestoreFailed)
    assert (first.code, first.final, first.left) == ("offline", False, ())
    await host.backup.sshd.start()
    await host.make_key()
    await host.work()
    assert isinstance((await host.events(first.restore))[-1], RestoreCompleted)


@pytest.mark.parametrize("over", [False, True])
async def test_a_link_on_the_host_leads_nothing_elsewhere(host: Restoring, over: bool) -> None:
    await host.make_key()
    alice, outside = host.backup.source / "home/alice", host.backup.place / "outside"
    (alice / "letters").rename(alice / "letters before")
    (alice / "letters").symlink_to(outside)
    confirm = "nas" if over else ""
    wish = {"target": "host", "over_original": over, "confirm": confirm, "paths": ("home/alice/letters/-rf",)}
    failed = await host.restored(**wish)
    assert isinstance(failed, RestoreFailed), failed
    assert failed.code == "link"
    assert "home/alice/letters is a symbolic link on nas now" in failed.message
    assert os.listdir(outside) == ["untouched"]
