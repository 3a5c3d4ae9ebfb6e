"""File systems in files: made, copied, mounted, and cut off from one moment to the next.

Whoever uses them runs in a mount namespace and a process namespace of its own (`isolated`), so that with its last
process every mount and every loop device of it is gone, however it ended.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

EXT4, XFS, BTRFS = "ext4", "xfs", "btrfs"
KINDS: Final = (EXT4, XFS, BTRFS)
TO_BE_CUT: Final = (EXT4, XFS)
"""Those that can be shut down without a flush; of the others only their recorded writes tell."""

MEGABYTES: Final = {EXT4: 48, XFS: 300, BTRFS: 256}  # mkfs.xfs makes nothing smaller
MAKE: Final = {
    EXT4: (
        "mkfs.ext4",
        "-q",
        "-F",
        "-b",
        "4096",
        "-m",
        "0",
        "-J",
        "size=4",
        "-E",
        "lazy_itable_init=0,lazy_journal_init=0",
    ),
    XFS: ("mkfs.xfs", "-q", "-f"),
    BTRFS: ("mkfs.btrfs", "-q", "-f"),
}
WITHIN_SECONDS: Final = 30.0
_SHUTDOWN: Final = 0x8004587D
_NO_LOG_FLUSH: Final = (2).to_bytes(4, sys.byteorder)


class CommandFailed(AssertionError):
    """A command that has to succeed did not."""


def run(*argv: str, quietly: bool = False) -> None:
    """Run a command that has to succeed, in this thread: what is tried here must not depend on an event loop."""
    silence = [(os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)] if quietly else []
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=silence)
    if (status := os.waitpid(pid, 0)[1]) != 0:
        raise CommandFailed(f"{' '.join(argv)} ended with {os.waitstatus_to_exitcode(status)}.")


def why_not(*kinds: str) -> str:
    """Why no such file system can be made and mounted here; nothing when it can."""
    if os.geteuid() != 0:
        return "only root may mount"
    missing = [MAKE[kind][0] for kind in kinds if shutil.which(MAKE[kind][0]) is None]
    missing += [program for program in ("unshare", "mount") if shutil.which(program) is None]
    if missing:
        return f"{missing[0]} is not installed"
    known = Path("/proc/filesystems").read_text().split()
    unknown = [kind for kind in kinds if kind not in known]
    if unknown:
        return f"this kernel has no {unknown[0]}"
    return "" if Path("/dev/loop-control").exists() else "this machine has no loop devices"


def isolated(*argv: str) -> list[str]:
    """The command in namespaces of its own: its mounts are seen by nobody else, and its processes end with it."""
    return ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", *argv]


def make_memory(place: Path) -> Path:
    """Have a folder keep what is put into it in memory, until the namespace ends."""
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4g", "tmpfs", str(place))
    return place


def make_image(path: Path, kind: str, *options: str, megabytes: int | None = None) -> None:
    """Make an empty file system in a file."""
    with path.open("wb") as file:
        file.truncate((megabytes or MEGABYTES[kind]) << 20)
    run(*MAKE[kind], *options, str(path))


def copy_image(source: Path, target: Path) -> None:
    """Copy a file with holes."""
    run("cp", "--sparse=always", str(source), str(target))


@contextmanager
def mounted(image: Path, at: Path, *options: str, gone: bool = False) -> Iterator[Path]:
    """An image, mounted while the block runs and a little longer: until the last process has let go of it.

    With `gone`, the block is expected to have unmounted it.
    """
    at.mkdir(exist_ok=True)
    # Loop devices are the machine's: somebody else may take the free one first, and `mount` gives up soon.
    _again_and_again("mount", "-o", ",".join(("loop", "noatime", *options)), str(image), str(at), within_seconds=5)
    try:
        yield at
    finally:
        if not (gone and not at.is_mount()):
            unmount(at)


def unmount(at: Path) -> None:
    """Unmount as soon as nobody uses it any more."""
    try:
        _again_and_again("umount", str(at), within_seconds=WITHIN_SECONDS)
    except CommandFailed:
        run("umount", "--lazy", str(at))
        raise


def wait_until_free(image: Path) -> None:
    """Wait until no loop device has an image any more: whatever still used what was unmounted has ended."""
    until = time.monotonic() + WITHIN_SECONDS
    while _is_used(image):
        if time.monotonic() > until:
            raise CommandFailed(f"{image} is still in use after {WITHIN_SECONDS:g} seconds.")
        time.sleep(0.005)


def _is_used(image: Path) -> bool:
    for told in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(FileNotFoundError):
            if told.read_text().strip() == str(image):
                return True
    return False


def _again_and_again(*argv: str, within_seconds: float) -> None:
    until = time.monotonic() + within_seconds
    while True:
        try:
            run(*argv, quietly=time.monotonic() < until)
        except CommandFailed:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def cut_off(at: Path) -> None:
    """Stop a file system as a power cut does: what its drive does not have by now, it will never have."""
    descriptor = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, _NO_LOG_FLUSH)
    finally:
        os.close(descriptor)
