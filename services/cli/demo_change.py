"""An hour of work in a demonstration home: mostly nothing, a little editing, and one of everything else."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.cli.demo_content import ContentMaker
from services.cli.demo_names import TOPICS, USERS
from services.cli.demo_writer import EPOCH_NS, HOUR_NS

WORK_FOLDERS: Final = (b"Documents", b"Mail", b"Notes", b"Photos", b"Projects", b"Spreadsheets")
# What programs append to; anything else is written to a new file that takes the place of the old one.
APPENDED: Final = (b".mbox", b".csv")
ADDED_FILES: Final = 5
DELETED_FILES: Final = 3
EDITED_SHARE: Final = 0.01
LARGEST_HOUR: Final = 10_000
COPY_NAME: Final = ".part-of-a-save"


@dataclass(frozen=True, slots=True)
class ChangeSummary:
    """What was changed. Paths are relative to the root; every path is in one field only."""

    edited: tuple[bytes, ...]
    added: tuple[bytes, ...]
    deleted: tuple[bytes, ...]
    renamed: tuple[bytes, bytes]
    mode_changed: bytes
    touched: bytes


def change_home(root: Path, *, seed: int = 2) -> ChangeSummary:
    """Change a tree that `build_home` made. Same tree and seed, same changes.

    The seed is also the hour: times of what is changed lie that many hours after the tree was made, so a second
    hour of work takes the next seed. Special files, odd names and excluded files are left alone. Raises ValueError
    when the tree is too small or not there.
    """
    rng = random.Random(seed)  # noqa: S311  # for contents, not for secrets
    work = WorkingHour(root, rng, EPOCH_NS + seed % LARGEST_HOUR * HOUR_NS)
    candidates = sorted(ordinary_files(os.fsencode(root)))
    edits = max(1, round(len(candidates) * EDITED_SHARE))
    if len(candidates) < edits + DELETED_FILES + 3:
        raise ValueError(f"{root} holds too few files to change: {len(candidates)}")
    chosen = iter(rng.sample(candidates, edits + DELETED_FILES + 3))
    return ChangeSummary(
        edited=tuple(work.edit(next(chosen)) for _ in range(edits)),
        deleted=tuple(work.delete(next(chosen)) for _ in range(DELETED_FILES)),
        renamed=work.rename(next(chosen)),
        mode_changed=work.change_mode(next(chosen)),
        touched=work.touch(next(chosen)),
        added=tuple(work.add(number) for number in range(ADDED_FILES)),
    )


def ordinary_files(root: bytes) -> Iterator[bytes]:
    """Relative paths of the files people work on, in no promised order: one name, writable, nothing special."""
    for user in USERS:
        for work in WORK_FOLDERS:
            for folder, _folders, names in os.walk(b"/".join((root, b"home", user, work))):
                for name in names:
                    path = folder + b"/" + name
                    about = os.lstat(path)
                    writable = about.st_mode & 0o600 == 0o600
                    # What has several names is left alone: an edit would change, or part, the others.
                    if stat.S_ISREG(about.st_mode) and about.st_nlink == 1 and writable:
                        yield path[len(root) + 1 :]


class WorkingHour:
    """Each kind of change, with the time at which it is said to have happened."""

    def __init__(self, root: Path, rng: random.Random, begin_ns: int) -> None:
        self._root = os.fsencode(root)
        self._rng = rng
        self._begin_ns = begin_ns
        self._make = ContentMaker(rng)

    def edit(self, path: bytes) -> bytes:
        """Append to it, or save a changed copy in its place: a new inode with the attributes of the old one."""
        place = self._at(path)
        if path.endswith(APPENDED):
            with place.open("ab") as file:
                file.write(self._make.mbox(1) if path.endswith(b".mbox") else self._make.csv(1).splitlines(True)[1])
        else:
            self._save_changed_copy(place)
        self._date(place)
        return path

    def add(self, number: int) -> bytes:
        """A new document of one of the users. A name that is taken is not touched."""
        user = USERS[number % len(USERS)]
        stem = f"Documents/new {self._rng.choice(TOPICS)} {self._rng.getrandbits(32):08x}.md"
        path = b"home/" + user + b"/" + stem.encode()
        with self._at(path).open("xb") as file:
            file.write(self._make.markdown())
            os.fchmod(file.fileno(), 0o644)
        self._date(self._at(path))
        return path

    def delete(self, path: bytes) -> bytes:
        """Remove it."""
        self._at(path).unlink()
        self._date_folder(self._at(path))
        return path

    def rename(self, path: bytes) -> tuple[bytes, bytes]:
        """Give it another name in the same folder; content, time and attributes stay."""
        stem, dot, ending = path.rpartition(b".")
        new = stem + b" (final)" + dot + ending
        self._at(path).rename(self._at(new))
        self._date_folder(self._at(new))
        return path, new

    def change_mode(self, path: bytes) -> bytes:
        """Take it away from the group and everybody, or give it to them. Nothing else changes."""
        place = self._at(path)
        private = place.stat().st_mode & 0o077 == 0
        place.chmod(0o644 if private else 0o600)
        return path

    def touch(self, path: bytes) -> bytes:
        """Only its time changes."""
        moment_ns = self._moment_ns()
        os.utime(self._at(path), ns=(moment_ns, moment_ns))
        return path

    def _at(self, path: bytes) -> Path:
        return Path(os.fsdecode(self._root + b"/" + path))

    def _save_changed_copy(self, place: Path) -> None:
        content = bytearray(place.read_bytes())
        middle = len(content) // 2
        insert = self._rng.randbytes(16).hex().encode()
        replaced_bytes = self._rng.choice((0, 10, len(insert)))  # the last keeps the size: only the time tells
        content[middle : middle + replaced_bytes] = insert
        copy = place.parent / COPY_NAME
        about = place.stat()
        with copy.open("xb") as file:
            file.write(content)
            os.fchown(file.fileno(), about.st_uid, about.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(about.st_mode))
        copy.replace(place)

    def _date(self, place: Path) -> None:
        moment_ns = self._moment_ns()
        os.utime(place, ns=(moment_ns, moment_ns))
        self._date_folder(place)

    def _date_folder(self, place: Path) -> None:
        moment_ns = self._moment_ns()
        os.utime(place.parent, ns=(moment_ns, moment_ns))

    def _moment_ns(self) -> int:
        return self._begin_ns + self._rng.randrange(HOUR_NS)
