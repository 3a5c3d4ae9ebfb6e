"""One of the processes that work on a tree together; `trees` starts them, shares the work out and hears of its end.

A worker has a stack of folders. When another one is out of work it is asked to give a folder away, the one that is
nearest to the top and so likely the largest. Everything goes over one socket, a message at a time.

These processes live for about a second: what they import is counted in milliseconds, so typing, socket (its C half
does), dataclasses and the like are left out.
"""

from __future__ import annotations

import _socket
import os
import sys
import time

from shared.adapters.tree_linker import Linker
from shared.adapters.tree_remover import Remover

WORK, GIVE, WAIT, SLOW, FULL = b"w", b"g", b"p", b"s", b"f"
"""What a worker is told: a folder to work on, to give one away, to wait, to go on slowly or at full speed."""

IDLE, GIVEN, FAILED = b"i", b"g", b"e"
"""What it says: its counts when it has nothing left, a folder it gives away, an errno and what it was about."""

MESSAGE_BYTES = 64 * 1024
"""The longest message. A folder whose path does not fit is not given away."""

LISTEN_ENTRIES = 128
"""After so many entries, less than a millisecond, a worker looks whether it has been told something."""

NAP_SECONDS = 0.0005
"""How long a slow worker sleeps after LISTEN_ENTRIES. Beside a removal at full speed, also by `rm -rf`, the slowest
hundredth of somebody's fsyncs takes 4.9 ms; beside this one, which takes 1.3 times as long, 2.2 ms."""


class Line:
    """The socket to whoever shares out the work."""

    def __init__(self, descriptor: int) -> None:
        self._socket = _socket.socket(fileno=descriptor)
        self._entries = 0
        self._slow = False
        self.wanted = False

    def passed(self, entries: int) -> bool:
        """Count what was done, and obey from time to time; returns whether somebody else is out of work."""
        self._entries += entries
        if self._entries >= LISTEN_ENTRIES:
            self._entries = 0
            self._listen()
            if self._slow:
                time.sleep(NAP_SECONDS)
        return self.wanted

    def give(self, folder: str) -> bool:
        """Give a folder away; returns whether that was possible."""
        path = os.fsencode(folder)
        if len(path) >= MESSAGE_BYTES:
            return False
        self._socket.send(GIVEN + path)
        self.wanted = False
        return True

    def next_folder(self, counts: list[int]) -> str:
        """Say that everything is done, and wait for more. The process ends here when there is none."""
        self._socket.send(IDLE + " ".join(map(str, counts)).encode())
        return self.first_folder()

    def first_folder(self) -> str:
        """Wait for a folder to work on."""
        self.wanted = False
        while True:
            message = self._socket.recv(MESSAGE_BYTES)
            if message[:1] == WORK:
                return os.fsdecode(message[1:])
            self._obey(message)

    def fail(self, error: OSError) -> None:
        """Say what went wrong, and with what."""
        about = error.filename if isinstance(error.filename, bytes) else os.fsencode(error.filename or "")
        self._socket.send(FAILED + b"%d " % (error.errno or 0) + about[: MESSAGE_BYTES // 2])

    def _listen(self) -> None:
        while True:
            try:
                message = self._socket.recv(MESSAGE_BYTES, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            self._obey(message)

    def _obey(self, message: bytes) -> None:
        if not message:
            sys.exit(0)  # nobody is there any more
        if message == GIVE:
            self.wanted = True
        elif message == WAIT:
            while message not in {SLOW, FULL}:
                message = self._socket.recv(MESSAGE_BYTES)
                self._obey(message)
        else:
            self._slow = message == SLOW


def main(words: list[str]) -> None:
    """Work until there is nothing left. Takes: what to do, the socket, and the descriptors that it is done to."""
    line = Line(int(words[1]))
    try:
        if words[0] == "link":
            skip = frozenset(words[4].split("/")) if words[4:] else frozenset[str]()
            Linker(int(words[2]), int(words[3]), line, skip).run()
        else:
            Remover(int(words[2]), line).run()
    except OSError as error:
        line.fail(error)
        sys.exit(1)
