"""A file of which every write is recorded, in order, with the flushes between them; it can be told to fail.

It is served through FUSE by a process of its own, which speaks the kernel's protocol itself: no library is needed.
The root of the file system is the file, so it is mounted over an empty file. A loop device on it is a drive whose
every write is known, and the state of the drive after each of them can be made again (`Replay`).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import stat
import struct
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import EINTR, EIO, ENODEV, ENOSYS
from pathlib import Path
from random import Random
from typing import Final

from tests.faults.images import unmount

SECTOR: Final = 512
WHOLE: Final = 4096
"""What a drive writes whole or not at all; if not even that were so, no file system would survive it."""

NEVER: Final = 1 << 62
_GETATTR, _SETATTR, _OPEN, _READ, _WRITE, _RELEASE, _FSYNC, _FLUSH, _INIT = 3, 4, 14, 15, 16, 18, 20, 25, 26
_FORGET, _INTERRUPT, _BATCH_FORGET = 2, 36, 42
_BUFFER_BYTES: Final = 1 << 18
MAX_WRITE: Final = 1 << 17
_FLAG_BIG_WRITES: Final = 1 << 5
_HEADER: Final = struct.Struct("=IIQQIIII")
_ANSWER: Final = struct.Struct("=IiQ")
_RANGE: Final = struct.Struct("=QQI")  # of read and write: handle, offset, size
_RANGE_BYTES: Final = 40
_CONTROL: Final = struct.Struct("=QQQ")  # how many records there are; the writes from this to that fail
RECORD: Final = struct.Struct("=QQ")
FLUSHED: Final = (0, 0)


@dataclass
class Recorder:
    """The file, while it is mounted. Positions are numbers of records: writes and flushes."""

    mount: Path
    records: Path
    control: mmap.mmap

    @property
    def position(self) -> int:
        """How many records there are."""
        return int(_CONTROL.unpack_from(self.control)[0])

    def fail(self, first: int, last: int = NEVER) -> None:
        """Refuse the writes at these positions with an I/O error, as a failing drive does."""
        struct.pack_into("=QQ", self.control, 8, first, last)


@contextmanager
def recorded(backing: Path, place: Path) -> Iterator[Recorder]:
    """Serve a file under another name, and record what is written to it."""
    mount = place / "recorded"
    mount.touch()
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    control = mmap.mmap(-1, mmap.PAGESIZE)
    _CONTROL.pack_into(control, 0, 0, NEVER, NEVER)
    records = place / "records"
    _mount(device, mount)
    pid = os.fork()
    if pid == 0:
        _serve_for_ever(device, backing, records, control)
    os.close(device)
    try:
        yield Recorder(mount, records, control)
    finally:
        unmount(mount)
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def _mount(device: int, at: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode={stat.S_IFREG | 0o600:o},user_id=0,group_id=0,max_read={MAX_WRITE}"
    if libc.mount(b"recorder", os.fsencode(at), b"fuse", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(at))


def _serve_for_ever(device: int, backing: Path, records: Path, control: mmap.mmap) -> None:
    code = 1
    try:
        served = _Served(os.open(backing, os.O_RDWR), records, control)
        while True:
            try:
                request = os.read(device, _BUFFER_BYTES)
            except OSError as error:
                if error.errno == ENODEV:
                    code = 0
                    break
                if error.errno == EINTR:
                    continue
                raise
            with suppress(FileNotFoundError):  # who asked does not want to know any more
                if answer := served.answer(request):
                    os.write(device, answer)
    except BaseException:  # noqa: BLE001  # the end of a process
        traceback.print_exc()
    finally:
        os._exit(code)


class _Served:
    """What answers the kernel."""

    def __init__(self, file: int, records: Path, control: mmap.mmap) -> None:
        self._file = file
        self._records = records.open("wb", buffering=0)
        self._control = control
        self._answers: dict[int, Callable[[bytes], bytes]] = {
            _INIT: self._init,
            _GETATTR: self._attributes,
            _SETATTR: self._attributes,
            _OPEN: lambda _: struct.pack("=QII", 0, 0, 0),
            _READ: self._read,
            _WRITE: self._write,
            _FSYNC: self._flush,
            _FLUSH: lambda _: b"",
            _RELEASE: lambda _: b"",
        }

    def answer(self, request: bytes) -> bytes:
        """The answer to a request; nothing where none is wanted."""
        _, opcode, unique, *_ = _HEADER.unpack_from(request)
        if opcode in {_FORGET, _INTERRUPT, _BATCH_FORGET}:
            return b""
        error, content = 0, b""
        try:
            handler = self._answers.get(opcode)
            error, content = (-ENOSYS, b"") if handler is None else (0, handler(request[_HEADER.size :]))
        except OSError as failed:
            error = -(failed.errno or EIO)
        return _ANSWER.pack(_ANSWER.size + len(content), error, unique) + content

    def _init(self, body: bytes) -> bytes:
        major, minor, readahead, _ = struct.unpack_from("=IIII", body)
        return struct.pack(
            "=IIIIHHIIHHI7I", major, min(minor, 31), readahead, _FLAG_BIG_WRITES, 12, 9, MAX_WRITE, 1, 32, *([0] * 9)
        )

    def _attributes(self, _: bytes) -> bytes:
        size = os.fstat(self._file).st_size
        times = struct.pack("=QQQIII", *([0] * 6))
        attributes = struct.pack("=QQQ", 1, size, size // SECTOR) + times
        return (
            struct.pack("=QII", 60, 0, 0) + attributes + struct.pack("=7I", stat.S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0)
        )

    def _read(self, body: bytes) -> bytes:
        _, offset, size = _RANGE.unpack_from(body)
        return os.pread(self._file, size, offset)

    def _write(self, body: bytes) -> bytes:
        _, offset, size = _RANGE.unpack_from(body)
        data = body[_RANGE_BYTES : _RANGE_BYTES + size]
        position, first, last = _CONTROL.unpack_from(self._control)
        if first <= position <= last:
            struct.pack_into("=Q", self._control, 0, position + 1)
            self._records.write(RECORD.pack(*FLUSHED))  # it changes nothing, but has its place
            raise OSError(EIO, "told to fail")
        os.pwrite(self._file, data, offset)
        self._records.write(RECORD.pack(offset, size) + data)
        struct.pack_into("=Q", self._control, 0, position + 1)
        return struct.pack("=II", size, 0)

    def _flush(self, _: bytes) -> bytes:
        position, first, last = _CONTROL.unpack_from(self._control)
        if first <= position <= last:
            struct.pack_into("=Q", self._control, 0, position + 1)
            self._records.write(RECORD.pack(*FLUSHED))
            raise OSError(EIO, "told to fail")
        self._records.write(RECORD.pack(*FLUSHED))
        struct.pack_into("=Q", self._control, 0, position + 1)
        return b""


class Replay:
    """The states that a drive went through, made from a copy of how it began."""

    def __init__(self, image: Path, records: Path) -> None:
        self._file = os.open(image, os.O_RDWR)
        self._records = list(_read_records(records))
        self.done = 0

    def __len__(self) -> int:
        return len(self._records)

    def flushes(self) -> list[int]:
        """The positions after which everything before them was on the drive."""
        return [at + 1 for at, record in enumerate(self._records) if record is None]

    def forward(self, position: int) -> None:
        """Bring the image to the state after so many records; never back."""
        assert self.done <= position
        for record in self._records[self.done : position]:
            self._apply(record)
        self.done = position

    def reorder(self, copy: Path, position: int, random: Random) -> None:
        """Write to a copy of the image some of the next writes, the last of them torn.

        A drive may do that where no flush is between them; the caller has come to the last one before the position.
        """
        held = [record for record in self._records[self.done : position] if record is not None]
        taken = [record for record in held if random.random() < 0.5]
        with copy.open("r+b") as file:
            for offset, data in taken[:-1]:
                os.pwrite(file.fileno(), data, offset)
            for offset, data in taken[-1:]:
                os.pwrite(file.fileno(), data[: WHOLE * random.randint(0, len(data) // WHOLE)], offset)

    def _apply(self, record: tuple[int, bytes] | None) -> None:
        if record is not None:
            offset, data = record
            os.pwrite(self._file, data, offset)

    def close(self) -> None:
        """Let go of the image."""
        os.close(self._file)


def _read_records(records: Path) -> Iterator[tuple[int, bytes] | None]:
    content, at = records.read_bytes(), 0
    while at < len(content):
        offset, size = RECORD.unpack_from(content, at)
        at += RECORD.size
        yield (offset, content[at : at + size]) if size else None
        at += size
