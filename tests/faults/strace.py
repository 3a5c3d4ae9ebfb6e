"""Disturbing a program by strace: where its calls are, and how one of them is made to kill it or to fail.

strace counts the calls of each thread for itself. So the main process is traced alone, with all its work in one
thread (see `processes.py`), and its programs are traced in runs of their own.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Final

CHANGING: Final = (
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "rmdir"),
    *("mkdir", "mkdirat", "mknod", "mknodat", "open", "openat", "creat"),
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "copy_file_range", "sendfile"),
    *("truncate", "ftruncate", "fallocate", "fsync", "fdatasync", "sync_file_range", "syncfs"),
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchown", "fchownat"),
    *("utime", "utimes", "futimesat", "utimensat"),
    *("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),
)
"""Every system call by which a program can change what is on a drive, or have it written there."""

KILL, EIO, ENOSPC = "signal=SIGKILL", "error=EIO", "error=ENOSPC"

WITHIN_SECONDS: Final = 30.0

_TRACE: Final = "trace=" + ",".join(f"?{call}" for call in CHANGING)  # not every machine has them all
_LINE: Final = re.compile(r"^(?:(\d+) +)?(\w+)\(")


def why_not() -> str:
    """Why nothing can be traced here; nothing when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    said = os.posix_spawnp("strace", ["strace", "-o", "/dev/null", "true"], os.environ)
    return "strace may not trace here" if os.waitpid(said, 0)[1] != 0 else ""


def options(log: Path, disturbance: str = "") -> list[str]:
    """What strace is told: `disturbance` is like `fsync:error=EIO:when=2`, and nothing to let everything pass."""
    return ["-y", "-o", str(log), "-e", _TRACE, *(["-e", f"inject={disturbance}"] if disturbance else [])]


def changes(log: Path, drive: Path) -> list[tuple[str, int]]:
    """The calls in a log that change the drive: which call, and its how-manieth of its thread."""
    counted: Counter[tuple[str, str]] = Counter()
    found = []
    for line in log.read_text(errors="backslashreplace").splitlines():
        if match := _LINE.match(line):
            thread, call = match[1] or "", match[2]
            counted[thread, call] += 1
            if _is_change(call, line, drive):
                found.append((call, counted[thread, call]))
    return found


def struck(log: Path) -> bool:
    """Whether what was to be disturbed was."""
    text = log.read_text(errors="replace")
    return "(INJECTED)" in text or "killed by SIGKILL" in text


def wait_for(log: Path, words: str) -> None:
    """Wait until strace has told something."""
    until = time.monotonic() + WITHIN_SECONDS
    while words not in log.read_text(errors="replace"):
        if time.monotonic() > until:
            raise AssertionError(f"strace has not told of {words!r} after {WITHIN_SECONDS:g} seconds")
        time.sleep(0.002)


def _is_change(call: str, line: str, drive: Path) -> bool:
    opens = call in {"open", "openat"}
    # The mode of a directory is given by way of its descriptor, which is no path on the drive.
    on_drive = str(drive) in line or ("/proc/self/fd/" in line and call.startswith("chmod"))
    return on_drive and (not opens or "O_CREAT" in line)


def attach(pid: int, given: list[str]) -> int:
    """Trace a process that is there, which waits until then; returns the pid of strace."""
    reading, writing = os.pipe()
    argv = ["strace", *given, "-p", str(pid)]
    tracer = os.posix_spawnp("strace", argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writing, 2)])
    os.close(writing)
    said = b""
    while b"attached" not in said:
        if not (piece := os.read(reading, 4096)):
            raise AssertionError(f"strace cannot attach: {said.decode(errors='replace')}")
        said += piece
    os.close(reading)
    return tracer


def traced(script: Path, program: str, words: str, given: list[str], *, with_main: Path | None) -> Path:
    """A script to stand in for a program, which has strace watch it where it is started with these words.

    With `with_main`, the beginning of its logs, whoever started it is killed when it is, before it can hear of that.
    """
    quoted = " ".join(f"'{word}'" for word in given)
    after = f"code=$?\ngrep -qs 'killed by SIGKILL' '{with_main}'.* && kill -9 $parent\nexit $code" if with_main else ""
    script.parent.mkdir(exist_ok=True)
    script.write_text(
        "#!/bin/sh\nparent=$PPID\n"
        f'case "$*" in *{words}*) ;; *) exec {program} "$@" ;; esac\n'
        f'{"" if with_main else "exec "}strace {quoted} {program} "$@"\n{after}\n'
    )
    script.chmod(0o755)
    return script
