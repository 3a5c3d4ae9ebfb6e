"""What the programs said, judged: either there is a whole archive, or it is said why not. Pure."""

from __future__ import annotations

import errno
import signal

import msgspec

from services.archiver import tar
from services.archiver.reports import Packed, Report, Surveyed, Trouble
from services.archiver.tar import Complaints
from shared.domain.errors import RunFailed

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MAKE_ROOM = "Make room on the drive, or keep archives for fewer days."
_CHECK_DRIVE = "Check the drive: dmesg tells why."


def packed(said: Report, code: int, complaints: Complaints) -> Packed:
    """The totals of the packer, when tar ended well too. Raises RunFailed with what came first."""
    failed = tar.failure(code, complaints)
    if isinstance(said, Trouble) and said.where == "target":
        raise _target_failed("The archive cannot be written", said)
    if failed is not None and code != -signal.SIGPIPE:
        raise failed
    if not isinstance(said, Packed):
        what = said.message if isinstance(said, Trouble) else "no totals"
        raise RunFailed(f"Packing ended badly: {what}.", "It is tried again.", code="packer", transient=True)
    if failed is not None:
        raise failed
    return said


def surveyed(said: Report) -> Surveyed:
    """What there is in the tree. Raises RunFailed."""
    if isinstance(said, Surveyed):
        return said
    trouble = said if isinstance(said, Trouble) else Trouble("program", 0, "no totals")
    if trouble.number == errno.EIO:
        raise RunFailed(f"The snapshot cannot be read: {trouble.message}.", _CHECK_DRIVE, code="drive")
    if trouble.number in {errno.EACCES, errno.EPERM}:
        raise RunFailed(
            f"The snapshot cannot be read: {trouble.message}.", "Run the archiver as root.", code="permission"
        )
    raise RunFailed(f"The entries of the snapshot cannot be counted: {trouble.message}.", code="count")


def compare(made: Packed, there: Surveyed) -> None:
    """Make sure that everything that is there was packed. Raises RunFailed."""
    if made.members != there.members:
        raise RunFailed(
            f"The archive has {made.members:,} members, but the snapshot {there.members:,} entries.",
            "Nothing may write to snapshots: see who does.",
            code="count",
        )


def with_warnings(made: Packed, there: Surveyed) -> Packed:
    """The totals, with what cannot be in any archive."""
    return msgspec.structs.replace(made, warnings=(*made.warnings, *tar.warnings(there.sockets)))


def same(expected: Packed, said: Report) -> None:
    """Make sure that what was read back is what was packed. Raises RunFailed."""
    if isinstance(said, Trouble) and said.where == "target":
        raise _target_failed("The archive cannot be read back", said)
    if not isinstance(said, Packed):
        what = said.message if isinstance(said, Trouble) else "no totals"
        raise RunFailed(f"The archive is broken: {what}.", _CHECK_DRIVE, code="read_back")
    for name in ("size_bytes", "sha256", "members", "source_bytes"):
        wanted, got = getattr(expected, name), getattr(said, name)
        if wanted != got:
            raise RunFailed(
                f"The archive is not what was written: {name} is {got}, not {wanted}.", _CHECK_DRIVE, code="read_back"
            )


def _target_failed(what: str, trouble: Trouble) -> RunFailed:
    if trouble.number in _NO_ROOM:
        return RunFailed(f"{what}: {trouble.message}.", _MAKE_ROOM, code="no_room")
    return RunFailed(f"{what}: {trouble.message}.", _CHECK_DRIVE, code="drive")
