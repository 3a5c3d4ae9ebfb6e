"""What stands for rsync, tar, sort, ssh and SQLite: each does to the simulated drive what the real one would do to a
real one, in minutes of simulated time, and fails in all the ways that the product has to tell apart.
"""

from __future__ import annotations

import hashlib
import os as real_os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from services.archiver.reports import Packed
from services.snapshotter import rsync
from services.snapshotter.file_list import Tally
from services.snapshotter.lists import Compared
from services.snapshotter.output import Totals
from services.snapshotter.rsync import Ability, Complaints
from services.snapshotter.transfer import Transferred
from shared.adapters.store import PARTIAL_PREFIX
from shared.adapters.trees import Linked
from shared.domain.errors import HostUnreachable, RunFailed
from shared.domain.room import Need
from tests.faults.simulation.disk import Inode
from tests.faults.simulation.fake_os import FakePath
from tests.faults.simulation.loop import here

if TYPE_CHECKING:
    from tests.faults.simulation.world import World

ABILITY: Final = Ability("3.4.1", insecure_links=True, confined=True, attributes=True, acls=True)
EXIT_CODES: Final = (1, 2, 5, 10, 11, 12, 13, 14, 20, 22, 23, 24, 25, 30, 35, 127, 137, 255, 99)
USUAL_FILES: Final = 6
SHRUNKEN_FILES: Final = 1


@dataclass
class Source:
    """The home of a host. `trouble` is what its next transfers end with, as an exit code of rsync."""

    name: str
    online: bool = True
    shrunken: bool = False
    trouble: int = 0
    files: dict[str, str] = field(default_factory=dict)
    generation: int = 0

    def lived_on(self, random: Random) -> dict[str, str]:
        """What is there now: somebody has worked on it."""
        for _ in range(random.randint(0, 3)):
            self.generation += 1
            self.files[f"f{random.randrange(USUAL_FILES)}"] = f"{self.name} {self.generation}"
        for number in range(USUAL_FILES):
            self.files.setdefault(f"f{number}", f"{self.name} first {number}")
        kept = sorted(self.files)[: SHRUNKEN_FILES if self.shrunken else None]
        return {name: self.files[name] for name in kept}


class Parts:
    """The programs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._os = world.os
        self._random = world.random

    @asynccontextmanager
    async def connected(self, host: Any, _settings: Any) -> AsyncIterator[Any]:
        """Stands for the SSH connection."""
        await self._world.pause(1.0)
        world, source = self._world, self._world.sources[host.name]
        if not source.online:
            raise HostUnreachable(f"{host.name} does not answer.")
        if world.lossy and self._random.random() < 0.002:
            raise RunFailed("The host key is another one.", code="host_key")
        yield SimpleNamespace(host=host, sockets=None)

    async def transfer(self, wish: Any, _ability: Any, _clock: Any, _report: Any) -> Transferred:
        """Stands for rsync: a fresh tree that shares what is unchanged with its base."""
        world, host = self._world, wish.connection.host.name
        process = here()
        with world.watch.writing(host, "snapshot"):
            process.children[wish.lock_descriptor] = None
            try:
                return await self._move(wish, world.sources[host])
            finally:
                process.children.pop(wish.lock_descriptor, None)

    async def _move(self, wish: Any, source: Source) -> Transferred:
        os, world = self._os, self._world
        home = f"{wish.partial.name}/home"
        os.mkdir(home, dir_fd=wish.folder.descriptor)
        wanted, code, moved = source.lived_on(self._random), source.trouble, 0
        world.trace("transfer", source.name, str(code))
        for number, (name, content) in enumerate(wanted.items()):
            await world.pause(300.0)
            if code not in {0, 23, 24} and number == 2:
                break
            if code == 23 and number == 1:
                continue
            moved += self._file(wish, name, content.encode())
        os.close(os.open(wish.raw_list, real_os.O_WRONLY | real_os.O_CREAT))
        complaints = Complaints()
        if code == 23:
            complaints.add(b'rsync: [sender] send_files failed to open "x": Permission denied (13)\n')
        complaints.end()
        verdict = rsync.judge(code, complaints)
        if code not in {0, 23, 24}:
            return Transferred(Totals(2, 1, 0, 0, moved, 100, moved * 10, moved * 10), verdict, code)
        kept = {name: text for number, (name, text) in enumerate(wanted.items()) if code != 23 or number != 1}
        world.watch.transferred(wish.partial.name.removeprefix(PARTIAL_PREFIX), kept, whole=code != 23)
        size = sum(map(len, kept.values()))
        return Transferred(Totals(len(kept), 1, 0, 0, moved, size, moved * 10, moved * 10), verdict, code)

    def _file(self, wish: Any, name: str, content: bytes) -> int:
        os, at = self._os, wish.folder.descriptor
        place = f"{wish.partial.name}/home/{name}"
        if wish.base is not None:
            base = f"hourly/{wish.base}/home/{name}"
            try:
                if self._content(base, at) == content:
                    os.link(base, place, src_dir_fd=at, dst_dir_fd=at)
                    return 0
            except FileNotFoundError:
                pass
        descriptor = os.open(place, real_os.O_WRONLY | real_os.O_CREAT | real_os.O_EXCL, dir_fd=at)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
        return 1

    def _content(self, path: str, at: int) -> bytes:
        descriptor = self._os.open(path, real_os.O_RDONLY, dir_fd=at)
        try:
            return self._os.read(descriptor, 1000)
        finally:
            self._os.close(descriptor)

    async def sort_list(self, raw: FakePath, sorted_list: FakePath) -> None:
        """Stands for sort."""
        await self._world.pause(2.0)
        with sorted_list.open("wb") as file:
            file.write(b"")

    def write_lists(self, tree: FakePath, _base: Any, _sorted: Any) -> Compared:
        """Stands for what writes the lists of files and changes."""
        for name in (".files.zst", ".changes.jsonl.zst"):
            with (tree / name).open("wb") as file:
                file.write(b"list")
        return Compared(Tally(), hashlib.sha256(b"").hexdigest())

    async def estimate(self, *_: object, **__: object) -> Any:
        """Stands for the count of what there is to move."""
        await self._world.pause(60.0)
        return SimpleNamespace(need=Need(1, 1, "counted"))

    async def try_host(self, *_: object, **__: object) -> tuple[bool, list[str]]:
        """Stands for what a dry run tries."""
        await self._world.pause(5.0)
        return True, ["simulated"]

    async def pack(
        self, tree: int, target: int, *, compression: Any, report: Any, pass_fds: Sequence[int] = ()
    ) -> Packed:
        """Stands for tar and what compresses."""
        world = self._world
        host = world.watch.host_of(world.disks.opened[tree].inode)
        with world.watch.writing(host, "archive"):
            await world.pause(600.0)
            if world.lossy and self._random.random() < 0.02:
                raise RunFailed("The snapshot cannot be read: simulated.", code="drive")
            content = packed(contents(world.disks.opened[tree].inode))
            self._os.write(target, content[:5])
            await world.pause(600.0)
            self._os.write(target, content[5:])
            self._os.fsync(target)
        return Packed(1, len(content), len(content), hashlib.sha256(content).hexdigest())

    async def read_back(self, target: int, expected: Packed, _compression: Any, **_: object) -> None:
        """Stands for what reads the archive back."""
        await self._world.pause(60.0)
        found = self._world.disks.opened[target].inode.data
        if hashlib.sha256(found).hexdigest() != expected.sha256:
            raise RunFailed("The archive is broken.", code="read_back")

    async def link_tree(
        self, tree: int, target: int, *, skip: frozenset[bytes], pass_fds: Sequence[int] = ()
    ) -> Linked:
        """Stands for the processes that link trees."""
        os, files = self._os, 0
        for name in os.listdir(tree):
            await self._world.pause(30.0)
            if name.encode() in skip:
                continue
            if name == "home":
                os.mkdir("home", dir_fd=target)
                for inner in self._world.disks.opened[tree].inode.entries["home"].entries:
                    os.link(f"home/{inner}", f"home/{inner}", src_dir_fd=tree, dst_dir_fd=target)
                    files += 1
            else:
                os.link(name, name, src_dir_fd=tree, dst_dir_fd=target)
                files += 1
        return Linked(files, 1, 0, 0)

    async def remove_tree(self, name: str, *, at: int, pass_fds: Sequence[int] = (), busy: Any = None) -> int:
        """Stands for the processes that remove trees: file after file."""
        os, top, removed = self._os, self._world.disks.opened[at].inode.entries[name], 0
        for folder, inode in (("home/", top.entries.get("home", Inode(0, 0))), ("", top)):
            for entry in list(inode.entries):
                await self._world.pause(1.0)
                path = f"{name}/{folder}{entry}"
                (os.rmdir if inode.entries[entry].is_dir else os.unlink)(path, dir_fd=at)
                removed += 1
        os.rmdir(name, dir_fd=at)
        return removed + 1


def contents(tree: Inode) -> dict[str, bytes]:
    """The files of the home in a tree."""
    home = tree.entries.get("home")
    return {} if home is None else {name: inode.data for name, inode in sorted(home.entries.items())}


def packed(files: dict[str, bytes]) -> bytes:
    """The archive of these files."""
    return b"ARCHIVE" + b"".join(name.encode() + b"=" + data + b"\n" for name, data in files.items())


class FakeOpener:
    """Opens directories below others."""

    os: Any

    def open(self, path: str, at: int) -> int:
        """A descriptor of a directory."""
        descriptor: int = self.os.open(path, real_os.O_DIRECTORY, dir_fd=at)
        return descriptor
