"""Restores by a worker of a test: one host behind a real sshd with an odd home, its snapshot, and the real log."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from services.embedded.sshd import make_key
from services.restorer.handler import Restorer
from shared.adapters.clock import SystemClock
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.events import AnyEvent, Job, NewEvent, RestoreProgressed
from shared.domain.host_state import HostState
from shared.domain.ids import event_id
from shared.domain.messages import Tick
from shared.domain.names import host_stream
from shared.domain.projection import evolve_host
from shared.domain.schedule import trigger_slot
from shared.runtime.host_log import HostLog
from shared.runtime.outbox import Outbox
from shared.runtime.restore_key import COMMAND, public_line
from shared.runtime.restores import RestoreWish, ask, checked
from shared.runtime.worker import Disposition
from tests.support.backups import Backups, Taken
from tests.support.builders import HOST, MAIN
from tests.support.thinning import OwnCancels

STREAM = host_stream(HOST)
NANOSECONDS = 1_772_784_000_123_456_789
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, bits, who)
    for tag, bits, who in ((1, 6, 2**32 - 1), (2, 4, 4711), (4, 4, 2**32 - 1), (16, 4, 2**32 - 1), (32, 0, 2**32 - 1))
)
"""As the kernel keeps it: rw- for the owner, r-- for the user 4711, the group and the mask, nothing for others."""


def make_odd_home(home: Path, outside: Path) -> None:
    """A home in which everything is that a restore could get wrong. `outside` must never be touched."""
    letters = home / "alice" / "letters"
    letters.mkdir(parents=True)
    (letters / "one.txt").write_text("Dear Bob\n")
    os.link(letters / "one.txt", home / "alice" / "the same letter")
    os.link(letters / "one.txt", letters / "and again")
    for name in (b"line\nbreak \x1b[31m<b>", b"\xff\xfe not utf-8", b"-rf", b"back\\#012slash", "\u202eRTL".encode()):
        Path(os.fsdecode(os.fsencode(letters) + b"/" + name)).write_bytes(b"odd: " + name)
    (home / "alice" / "outside").symlink_to(outside)
    (home / "alice" / "dangling").symlink_to("/nowhere/at all")
    (letters / "run me").write_text("#!/bin/sh\n")
    (letters / "run me").chmod(0o6755)
    with (home / "alice" / "sparse").open("wb") as sparse:
        sparse.seek(8 * 1024 * 1024)
        sparse.write(b"end")
    with suppress(OSError):
        os.setxattr(letters / "one.txt", "user.comment", b"\x00binary\xff")
        os.setxattr(letters, "user.folder", b"yes")
    with suppress(OSError):
        os.setxattr(letters / "one.txt", "system.posix_acl_access", ACL)
    (home / "alice" / "empty").mkdir(mode=0o700)
    os.mkfifo(home / "alice" / "pipe")
    if os.geteuid() == 0:
        os.chown(letters / "one.txt", 1234, 5678)
        os.chown(home / "alice" / "outside", 4321, 8765, follow_symlinks=False)
    locked = home / "alice" / "locked"
    locked.mkdir()
    (locked / "secret").write_text("s")
    (locked / "secret").chmod(0o400)
    for path in sorted(home.rglob("*"), reverse=True):
        os.utime(path, ns=(NANOSECONDS, NANOSECONDS + len(str(path))), follow_symlinks=False)
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)


@dataclass
class Restoring:
    """A host with one snapshot, and a worker for its restores."""

    backup: Backups
    taken: Taken
    log: EventLog
    settings: Settings
    restorer: Restorer
    cancels: OwnCancels

    @property
    def folder(self) -> Path:
        """Where restores on the server go."""
        return Path(self.settings.restored_below()[0])

    async def ask(self, **wish: Any) -> UUID:
        """Ask for a restore of the newest snapshot; returns its id."""
        asked = RestoreWish(**({"point": "latest"} | wish))
        host = self.settings.hosts[0]
        state = await self.state()
        return await ask(self.log, host, state, checked(asked, host, state, self.settings), "alice")

    async def work(self) -> Disposition:
        """Work a tick off."""
        return await self.restorer.handle(Tick(Job.RESTORE, MAIN, HOST, trigger_slot(SystemClock().now())))

    async def restored(self, **wish: Any) -> AnyEvent:
        """Ask, work, and what came of it."""
        restore = await self.ask(**wish)
        await self.work()
        return (await self.events(restore))[-1]

    async def events(self, restore: UUID | None = None) -> list[AnyEvent]:
        """What was recorded of a restore, without its progress."""
        found = [recorded.event for recorded in await self.log.read_stream(STREAM)]
        ours = [event for event in found if restore is None or getattr(event, "restore", None) == restore]
        return [event for event in ours if not isinstance(event, RestoreProgressed)]

    async def state(self) -> HostState:
        """What the log knows of the host."""
        state = HostState()
        for recorded in await self.log.read_stream(STREAM):
            evolve_host(state, recorded)
        return state

    def names(self) -> list[str]:
        """What lies where restores on the server go."""
        return sorted(os.listdir(self.folder)) if self.folder.exists() else []

    async def make_key(self, *, added: bool = True) -> str:
        """Make the restore key; its owner adds the line for it on the host, unless he has not yet."""
        key = self.settings.hosts[0].restore_key_path(self.settings)
        key.parent.mkdir(parents=True, exist_ok=True)
        await make_key(key, "restore")
        line = public_line(self.settings.hosts[0], self.settings)
        assert f'command="{COMMAND}"' in line
        if added:
            with (self.backup.sshd.folder / "authorized_keys").open("a") as keys:
                keys.write(f"{line}\n")
        return line


@asynccontextmanager
async def restoring(backup: Backups, log: EventLog, **settings: Any) -> AsyncIterator[Restoring]:
    """Take a snapshot of an odd home and be ready to restore it."""
    outside = backup.place / "outside"
    outside.mkdir()
    (outside / "untouched").write_text("untouched")
    make_odd_home(backup.source / "home", outside)
    taken = await backup.take()
    await log.append(STREAM, None, [NewEvent(event_id(taken.completed.run, 2), taken.completed)])
    made = msgspec.structs.replace(backup.settings, **settings)
    cancels = OwnCancels(log)
    host_log = HostLog(log, Outbox(backup.store, log))
    restorer = Restorer(made, backup.store, host_log, cancels, SystemClock(), "worker-1")
    yield Restoring(backup, taken, log, made, restorer, cancels)
