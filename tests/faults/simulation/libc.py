"""flock(2), and what is called through ctypes."""

from __future__ import annotations

import errno
import fcntl as real_fcntl
import os as real_os
from collections.abc import Callable

from tests.faults.simulation.disk import Disks
from tests.faults.simulation.fake_os import FakeOs
from tests.faults.simulation.loop import Killed, here


class FakeFcntl:
    """flock(2)."""

    LOCK_EX, LOCK_SH, LOCK_UN, LOCK_NB = (
        real_fcntl.LOCK_EX,
        real_fcntl.LOCK_SH,
        real_fcntl.LOCK_UN,
        real_fcntl.LOCK_NB,
    )

    def __init__(self, disks: Disks) -> None:
        self._disks = disks

    def flock(self, descriptor: int, operation: int) -> None:
        process = here()
        if process.dead and operation == self.LOCK_UN:
            return
        process.check()
        locks = self._disks.opened[descriptor].inode.locks
        if operation == self.LOCK_UN:
            locks.pop(descriptor, None)
            return
        others = [mode for holder, mode in locks.items() if holder != descriptor]
        if (operation & self.LOCK_EX and others) or self.LOCK_EX in others:
            raise BlockingIOError(errno.EWOULDBLOCK, real_os.strerror(errno.EWOULDBLOCK))
        locks[descriptor] = self.LOCK_EX if operation & self.LOCK_EX else self.LOCK_SH


class FakeLibc:
    """What is called through ctypes."""

    def __init__(self, os: FakeOs) -> None:
        self._os = os
        self._number = 0

    def CDLL(self, *_: object, **__: object) -> FakeLibc:  # noqa: N802  # as ctypes calls it
        return self

    def get_errno(self) -> int:
        return self._number

    def renameat2(self, source_at: int, source: bytes, target_at: int, target: bytes, _flags: int) -> int:
        return self._result(
            lambda: self._os.rename(
                source.decode(), target.decode(), src_dir_fd=source_at, dst_dir_fd=target_at, new=True
            )
        )

    def syncfs(self, descriptor: int) -> int:
        return self._result(lambda: self._os.syncfs(descriptor))

    def _result(self, call: Callable[[], None]) -> int:
        try:
            call()
        except Killed:
            raise
        except OSError as error:
            self._number = error.errno or 0
            return -1
        return 0
