"""What rsync is asked, and what its exit code means. Pure: nothing is run here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from shared.domain.errors import RunFailed
from shared.domain.host_rsync import exit_meant

SIGKILLED: Final = 137
NO_ROOM: Final = "no_room"
"""The code of every failure for want of bytes or inodes on the drive, before a transfer and in the middle of it."""
IO_TIMEOUT_SECONDS: Final = 300

COUNTED: Final = ("--dry-run", "--info=stats2")

OWN_FILES: Final = ("/.snapshot_complete", "/.changes.jsonl.zst", "/.files.zst")
"""Names that only this program writes at the top of a snapshot."""


class Ability(msgspec.Struct, frozen=True):
    """What the rsync of this machine can do, and where its receiver runs."""

    version: str
    insecure_links: bool
    """It checks each part of each path by itself and can be told not to (3.5.0 on)."""
    confined: bool
    """It runs under bubblewrap and sees one host's snapshots only."""
    attributes: bool
    """The store's file system keeps extended attributes."""
    acls: bool
    """It keeps ACLs too. Within walls of a user's own there are no other users that an ACL could name."""


def arguments(
    *,
    ability: Ability,
    token: str,
    sources: Sequence[str],
    destination: str,
    excludes: Sequence[str],
    base: str | None,
    shell: str | None,
    bandwidth_limit_kib: int | None,
    only_count: bool = False,
) -> list[str]:
    """The rsync command of one transfer. `token` begins each line that is about a file, so that nothing which the
    other side says can pass for one; `base` is an absolute directory to share unchanged files with. `only_count`
    moves nothing and tells the totals alone.
    """
    return [
        "rsync",
        "-aHSR",
        *(["-A"] if ability.acls else []),
        # What users may set: attributes of other kinds mean something to the host only, and one that the drive
        # refuses, such as system.nfs4_acl, would fail the run.
        *(["-X", "--filter=+x user.**", "--filter=-x **"] if ability.attributes else []),
        "--numeric-ids",
        "--no-devices",
        "--no-specials",
        "--checksum-choice=xxh128",
        # To the nanosecond: by whole seconds, a file rewritten with the same size within the second of its last
        # backup would pass for unchanged, and its old content would be shared.
        "--modify-window=-1",
        f"--timeout={IO_TIMEOUT_SECONDS}",
        *(["-e", shell] if shell else []),
        *([f"--bwlimit={bandwidth_limit_kib}"] if bandwidth_limit_kib else []),
        # Confined, the walls are the protection, and the check of each part of each path only costs time.
        *(["--insecure-links"] if ability.confined and ability.insecure_links else []),
        *([] if ability.confined else ["--munge-links"]),
        "--no-human-readable",
        *(COUNTED if only_count else ["-ii", "-8", "--info=progress2,stats2"]),
        *([] if only_count else [f"--out-format={token}%n//%i|%C|%l|%M|%L"]),
        *([f"--link-dest={base}"] if base else []),
        *(f"--exclude={pattern}" for pattern in OWN_FILES),
        # What was named is backed up, whatever the patterns say of the folders on the way to it.
        *(f"--include={pattern}" for source in sources for pattern in ways_to(source)),
        *(f"--exclude={pattern}" for pattern in excludes),
        "--",
        *sources,
        destination,
    ]


def ways_to(source: str) -> list[str]:
    """Patterns for a source itself and for every folder above it that is part of the transfer (behind /./)."""
    parts = [part for part in source.split("/./", 1)[-1].split("/") if part]
    literal = [re.sub(r"[\\*?\[]", r"\\\g<0>", part) if re.search(r"[*?\[]", part) else part for part in parts]
    return ["/" + "/".join(literal[: count + 1]) for count in range(len(literal))]


class Verdict(msgspec.Struct, frozen=True):
    """What a finished transfer is worth."""

    degraded: bool = False
    warnings: tuple[str, ...] = ()


class TooManyLinks(RunFailed):
    """The base cannot take another link to one of its files: the transfer is repeated without a base."""


class Complaints:
    """What rsync said on its error output, judged as it comes, however much it is.

    Our own rsync and the host write into the same stream. What the host says may make a run look worse than it is
    and never better: wherever the name of one of our own processes stands in a line, the line is ours.
    """

    MAX_KEPT: Final = 20
    LINE_LIMIT_BYTES: Final = 64 * 1024
    """rsync's longest line is a path of 4,096 bytes, each escaped into five. What is longer is not rsync's."""

    def __init__(self) -> None:
        self._rest = b""
        self.sender = 0
        self.vanished = 0
        self.receiver = 0
        self.drive: set[str] = set()
        """What the drive was said to be: values of _DRIVE."""
        self.kept: list[str] = []

    def add(self, chunk: bytes) -> None:
        """Take the next piece of the error output."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        # One byte more than is read: a line that is too long is seen to be so, wherever it was cut.
        self._rest = rest[: self.LINE_LIMIT_BYTES + 1]
        for line in lines:
            self._judge(line)

    def end(self) -> None:
        """Take what came without a line end."""
        self._judge(self._rest)
        self._rest = b""

    def _judge(self, line: bytes) -> None:
        text = line[: self.LINE_LIMIT_BYTES].decode(errors="backslashreplace").strip()
        if not text:
            return
        ours = len(line) > self.LINE_LIMIT_BYTES or _RECEIVER.search(text) is not None
        # The name of a file is the host's: it may well be "No space left.txt".
        unquoted = _QUOTED.sub("", text)
        refused = {what for words, what in _DRIVE.items() if words in unquoted}
        if ours or refused:
            self.receiver += 1
            self.drive |= refused
        elif text.startswith(("rsync error:", "rsync warning:")):
            return  # rsync's own summary at the end
        elif _VANISHED.search(text):
            self.vanished += 1
        elif _SENDER.search(text):
            self.sender += 1
        elif _OURS.search(text):
            self.receiver += 1
        # The first lines say how it began, and what the drive said is never pushed out by what the host said.
        if len(self.kept) < self.MAX_KEPT or ours or refused:
            self.kept = [*self.kept[: 2 * self.MAX_KEPT], text[:500]]


FULL: Final = "full"
READ_ONLY: Final = "read-only"
LINKS: Final = "links"

_DRIVE: Final = {
    "No space left": FULL,
    "Disk quota": FULL,
    "Read-only file system": READ_ONLY,
    "Too many links": LINKS,
}
_QUOTED: Final = re.compile(r'".*"')
_RECEIVER: Final = re.compile(r"rsync: \[(?:receiver|generator|Receiver)\]")
_VANISHED: Final = re.compile(r"^file has vanished: ")
_SENDER: Final = re.compile(r"^rsync: \[sender\] |failed verification -- update discarded|^IO error encountered")
_OURS: Final = re.compile(r"^rsync: |^rsync\b.*\[(?:receiver|generator|Receiver|client)|^ERROR: ", re.IGNORECASE)


def judge(exit_code: int, complaints: Complaints) -> Verdict:
    """What the end of a transfer means (DESIGN 6.3). Raises RunFailed or TooManyLinks.

    Only what is known to be harmless is taken as such; every unknown code is a failure.
    """
    if exit_code != 0 and LINKS in complaints.drive:
        raise TooManyLinks(
            "A file of the base snapshot has as many links as the drive's file system allows.", code="too_many_links"
        )
    if exit_code == 0:
        return Verdict(warnings=tuple(complaints.kept))
    if exit_code == 24:
        count = complaints.vanished or "Some"
        return Verdict(warnings=(f"{count} files vanished while they were read.", *complaints.kept))
    if exit_code == 23 and complaints.sender and not complaints.receiver:
        return Verdict(
            degraded=True,
            warnings=(f"{complaints.sender} files could not be read on the host.", *complaints.kept),
        )
    raise _failure(exit_code, complaints)


_MEANINGS: Final[dict[int, tuple[str, str, bool]]] = {
    1: ("rsync was called in a way it does not know", "Is rsync 3.2 or newer installed on both sides?", False),
    2: ("the two rsync versions do not understand each other", "Update the older one.", False),
    4: ("the host's rsync cannot do what is needed", "Install rsync 3.2 or newer there.", False),
    5: ("the transfer could not begin", "Try `backup-manager hosts test` for this host.", True),
    10: ("the connection broke", "Is the network all right?", True),
    11: ("a file could not be written or read", "Is the backup drive full or failing?", False),
    12: ("the connection broke in the middle", "Is the network all right? Is rsync installed on the host?", True),
    13: ("rsync reported an error of the receiving side", "Is the backup drive full or failing?", False),
    14: ("rsync could not talk to its own processes", "Is this machine out of memory?", True),
    20: ("the transfer was interrupted", "", True),
    21: ("a process of the transfer could not be waited for", "", True),
    22: ("this machine has too little memory for the transfer", "Give it more memory or split the paths.", True),
    23: ("some files could not be written", "Is the backup drive full, out of inodes or failing?", False),
    25: ("rsync stopped at its limit of deletions", "", False),
    30: ("the host fell silent", "Is the network all right?", True),
    35: ("the host's rsync did not answer", "Is the network all right?", True),
    127: ("there is no rsync on the host", "Install rsync there.", False),
    SIGKILLED: ("rsync was killed", "Is this machine out of memory?", True),
    255: ("the SSH connection broke", "Is the network all right?", True),
}


IS_IT_YOURS: Final = "No rsync does that by itself: look at the host, somebody else may have it."
_LIES: Final = re.compile(r"rejecting unrequested|unsafe pathname|rejecting excluded")
_TELLING: Final = re.compile(f"^(ERROR|ABORTING)|protocol version|out of memory|{_LIES.pattern}")
"""What says more than the broken pipes that follow it."""


def _failure(exit_code: int, complaints: Complaints) -> RunFailed:
    if exit_code < 0:
        exit_code = 128 - exit_code
    exit_code = exit_meant(exit_code, complaints.kept)
    meaning, hint, transient = _MEANINGS.get(exit_code, ("rsync ended in an unknown way", "", False))
    code = f"rsync_{exit_code}"
    telling = [line for line in complaints.kept if _TELLING.search(line)]
    if FULL in complaints.drive:
        meaning, hint = "the backup drive is full", "Free space or inodes on it; nothing was deleted to make room."
        code, transient = NO_ROOM, False
    elif READ_ONLY in complaints.drive:
        meaning, hint, transient = "the backup drive has become read-only", "Check the drive: dmesg tells why.", False
    elif any(_LIES.search(line) for line in telling):
        meaning, hint, transient = "the host lists what it was not asked for", IS_IT_YOURS, False
        code = "lies"
    said = f" It said: {[*complaints.kept[-1:], *telling][-1]}" if complaints.kept else ""
    return RunFailed(f"rsync ended with code {exit_code}: {meaning}.{said}", hint, code=code, transient=transient)
