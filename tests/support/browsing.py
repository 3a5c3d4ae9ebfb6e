"""A drive with restore points whose files are as hostile as a host can make them, and the API that shows them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import chdir
from datetime import datetime
from pathlib import Path
from typing import Final

import zstandard

from shared.adapters.markers import CHANGES_FILE, FILES_FILE, Marker
from shared.adapters.restore_points import GoldenRecord, complete_golden
from shared.adapters.store import HostFolder
from shared.domain.events import GoldenCompleted, NewEvent, SnapshotCompleted
from shared.domain.ids import event_id
from shared.domain.names import snapshot_name
from tests.support.builders import a_run, build

SECRET: Final = "/etc/shadow"
HUGE: Final = (2**63 - 1, 2**62, 2**44 - 4096, 2**40)
"""Lengths of a file without content, the largest that the file system takes."""

ODD_NAMES: Final = (
    b"plain.txt",
    b"two words & more+plus#hash?question;semi=eq.txt",
    b"<script>alert(1)<script>.html",
    b"line\nbreak\r\ttab",
    b"\x1b[31mred",
    b"not\xff\xfeutf8.bin",
    "r\u202egpj.exe".encode(),
    "ünïcödé 文件".encode(),
    b"%2e%2e%2fetc%2fpasswd",
    b"..%2f",
    b"...",
    b"-rf",
    b'"quoted" \\back\\#012',
    b"x" * 255,
    b".snapshot_complete",
)


def put_tree(
    folder: HostFolder,
    slot: datetime,
    fill: Callable[[Path], None],
    *,
    base: str | None = None,
    files: bytes = b"",
    changes: bytes = b"",
) -> list[NewEvent]:
    """A complete snapshot with what `fill` makes in its top, and lists with these lines; its event."""
    run, name = a_run(), snapshot_name(slot)
    tree = folder.make_partial(run)
    fill(tree)
    for record, lines in ((FILES_FILE, files), (CHANGES_FILE, changes)):
        (tree / record).write_bytes(zstandard.compress(lines) if lines else b"")
    completed = build(SnapshotCompleted, run=run, slot=slot, snapshot=name, base=base)
    folder.complete(run, Marker(event_id(run, 2), completed))
    return [NewEvent(event_id(run, 2), completed)]


def put_golden_of(folder: HostFolder, snapshot: datetime, name: str) -> list[NewEvent]:
    """A golden copy of a snapshot whose top holds only files in `home`, hard-linked."""
    run = a_run()
    partial, source = f".partial-{run}", folder.path / "hourly" / snapshot_name(snapshot)
    home = folder.path / "monthly" / partial / "home"
    home.mkdir(parents=True)
    for path in (source / "home").iterdir():
        if path.is_file():
            os.link(path, home / path.name)
    completed = build(GoldenCompleted, run=run, slot=snapshot, golden=name, snapshot=snapshot_name(snapshot))
    complete_golden(folder, partial, GoldenRecord(event_id(run, 6), completed))
    return [NewEvent(event_id(run, 6), completed)]


def hostile(tree: Path) -> None:
    """Everything that a host may have in its home to make a reader go astray."""
    home = tree / "home"
    home.mkdir()
    top = os.fsencode(home)
    for name in ODD_NAMES:
        Path(os.fsdecode(top + b"/" + name)).write_bytes(content_of(name))
    (home / "shadow").symlink_to(SECRET)
    (home / "climbing").symlink_to("../" * 20 + SECRET[1:])
    (home / "etc").symlink_to("/etc")
    (home / "up").symlink_to("..")
    os.mkfifo(home / "pipe")
    with socket.socket(socket.AF_UNIX) as server, chdir(home):  # the path of a socket may not be long
        server.bind("socket")
    if os.geteuid() == 0:
        os.mknod(home / "zero", 0o20666, os.makedev(1, 5))
    make_huge(home / "huge")
    deep(home, 4_400)


def content_of(name: bytes) -> bytes:
    """The content of the file of an odd name."""
    return b"content of " + name + bytes(range(256))


def make_huge(path: Path) -> int:
    """A file as long as the file system takes it, without a content; its length."""
    with path.open("wb") as file:
        for length in HUGE:
            try:
                os.ftruncate(file.fileno(), length)
            except OSError:
                continue
            return length
    raise AssertionError("no length is possible")


def deep(home: Path, length: int) -> None:
    """Folders in folders until the path is longer than the kernel takes one, and a file in the last."""
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(length // 201):
        os.mkdir(DEEP_NAME, dir_fd=descriptor)
        child = os.open(DEEP_NAME, os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = child
    file = os.open("at the end", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor)
    os.write(file, b"deep")
    os.close(file)
    os.close(descriptor)


DEEP_NAME: Final = "d" * 200
