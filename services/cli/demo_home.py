"""A believable home directory tree for the demonstration and the tests, and an hour of work in it.

It has what backups get wrong: hard links, symlinks that lead out, holes, odd names, odd modes, old times, extended
attributes. Nothing in it is dropped by the default excludes, except one folder that is there to be dropped.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.cli.demo_change import ChangeSummary, change_home
from services.cli.demo_content import ContentMaker
from services.cli.demo_names import (
    ALICE,
    BOB,
    ODD_FOLDER,
    ODD_NAMES,
    PLACES,
    PROJECTS,
    SPECIAL_FOLDER,
    TOPICS,
    USERS,
    YEARS,
)
from services.cli.demo_writer import EPOCH_NS, HOUR_NS, HomeWriter

__all__ = ["ChangeSummary", "HomeSummary", "build_home", "change_home"]

PHOTOS_TOTAL_BYTES: Final = 9_000_000
SPARSE_BYTES: Final = 32 * 1024 * 1024
EXCLUDED_FILES: Final = 20
YEAR_1995_NS: Final = 807_926_400_123_456_789
OTHER_UIDS: Final = (1000, 1001)
# How many of every hundred ordinary files are of which kind.
SHARES: Final = {"document": 18, "spreadsheet": 9, "photo": 6, "mail": 26, "code": 31, "note": 10}


@dataclass(frozen=True, slots=True)
class HomeSummary:
    """What was made. Paths are relative to the root and start with b"home/".

    `regular_files` counts names, so a file with three names counts three times; `excluded_files` are among them.
    `apparent_bytes` is the sum of the sizes with holes, each file once. `left_out` says in words what this file
    system or user cannot have.
    """

    home: Path
    regular_files: int
    folders: int
    symlinks: int
    hard_links: int
    apparent_bytes: int
    sparse_file: bytes
    excluded_files: tuple[bytes, ...]
    odd_files: tuple[bytes, ...]
    left_out: tuple[str, ...]


def build_home(root: Path, *, seed: int = 1, files: int = 2_000) -> HomeSummary:
    """Make root/home/alice and root/home/bob with at least this many regular files. Same seed, same trees.

    Raises FileExistsError when root/home is there, ValueError for fewer than 100 files.
    """
    if files < 100:
        raise ValueError(f"a home has at least 100 files, not {files}")
    rng = random.Random(seed)  # noqa: S311  # for contents, not for secrets
    root.mkdir(parents=True, exist_ok=True)
    writer = HomeWriter(root)
    writer.folder(b"home")
    for user in USERS:
        writer.folder(b"home/" + user, mode=0o750)
    OrdinaryFiles(writer, rng, files).write()
    odd = write_odd_names(writer)
    sparse = write_special_files(writer, rng)
    write_links(writer)
    excluded = write_excluded(writer, rng)
    write_foreign_files(writer)
    writer.finish()
    return HomeSummary(
        home=root / "home",
        regular_files=writer.regular_files,
        folders=writer.folders,
        symlinks=writer.symlinks,
        hard_links=writer.hard_links,
        apparent_bytes=writer.apparent_bytes,
        sparse_file=sparse,
        excluded_files=excluded,
        odd_files=odd,
        left_out=tuple(dict.fromkeys(writer.left_out)),
    )


class OrdinaryFiles:
    """What people have: documents, spreadsheets, photos, mail, code and notes, 60 % of it alice's."""

    def __init__(self, writer: HomeWriter, rng: random.Random, files: int) -> None:
        self._writer = writer
        self._rng = rng
        self._files = files
        self._make = ContentMaker(rng)
        photos = max(1, files * SHARES["photo"] // 100)
        self._photo_bytes = PHOTOS_TOTAL_BYTES // photos

    def write(self) -> None:
        """Write them all, each with a time of the past year in nanoseconds."""
        makers: dict[str, Callable[[bytes, int], tuple[bytes, bytes]]] = {
            "document": self._document,
            "spreadsheet": self._spreadsheet,
            "photo": self._photo,
            "mail": self._mail,
            "code": self._code,
            "note": self._note,
        }
        for number, kind in enumerate(self._kinds()):
            home = b"home/" + (ALICE if number % 5 < 3 else BOB)
            path, content = makers[kind](home, number)
            age_ns = self._rng.randrange(1, 365 * 24 * HOUR_NS)
            mode = 0o600 if kind == "mail" else 0o755 if kind == "code" and number % 40 == 0 else 0o644
            self._writer.file(path, content, mode=mode, mtime_ns=EPOCH_NS - age_ns)

    def _kinds(self) -> Iterable[str]:
        exact = [kind for kind, share in SHARES.items() for _ in range(self._files * share // 100)]
        exact += ["note"] * (self._files - len(exact))
        self._rng.shuffle(exact)
        return exact

    def _document(self, home: bytes, number: int) -> tuple[bytes, bytes]:
        year, topic = self._rng.choice(YEARS), self._rng.choice(TOPICS)
        name = f"Documents/{year}/{topic}-{number:04d}"
        if number % 3 == 0:
            return child(home, f"{name}.docx"), self._make.office_document("word/document.xml")
        return child(home, f"{name}.md"), self._make.markdown()

    def _spreadsheet(self, home: bytes, number: int) -> tuple[bytes, bytes]:
        name = f"Spreadsheets/{self._rng.choice(TOPICS)} {number:04d}"
        if number % 4 == 0:
            return child(home, f"{name}.xlsx"), self._make.office_document("xl/worksheets/sheet1.xml")
        return child(home, f"{name}.csv"), self._make.csv()

    def _photo(self, home: bytes, number: int) -> tuple[bytes, bytes]:
        size_bytes = int(self._photo_bytes * self._rng.triangular(0.2, 6.0, 0.4) / 2.2)
        name = f"Photos/{self._rng.choice(YEARS)}/{self._rng.choice(PLACES)}/IMG_{number:04d}.JPG"
        return child(home, name), self._make.photo(size_bytes)

    def _mail(self, home: bytes, number: int) -> tuple[bytes, bytes]:
        if number % 20 == 0:
            return child(home, f"Mail/{self._rng.choice(TOPICS)}-{number:04d}.mbox"), self._make.mbox()
        # A maildir without its third folder, tmp/, which the default excludes would drop.
        folder = "new" if number % 7 == 0 else "cur"
        flags = "" if folder == "new" else ":2,S"
        received_s = 1_740_000_000 + number * 977
        return child(home, f"Mail/Maildir/{folder}/{received_s}.M{number}P42.nas{flags}"), self._make.message(number)

    def _code(self, home: bytes, number: int) -> tuple[bytes, bytes]:
        part = self._rng.choice(("src", "src/models", "tests", "docs", "scripts"))
        name = f"Projects/{self._rng.choice(PROJECTS)}/{part}/part_{number:04d}.py"
        return child(home, name), self._make.source_code(number)

    def _note(self, home: bytes, number: int) -> tuple[bytes, bytes]:
        return child(home, f"Notes/{self._rng.choice(TOPICS)} {number:04d}.txt"), self._make.note()


def child(home: bytes, name: str) -> bytes:
    """The path of an ordinary name below a home."""
    return home + b"/" + name.encode()


def write_odd_names(writer: HomeWriter) -> tuple[bytes, ...]:
    """Files with every odd name, a folder with some of them, and what this file system accepted of the files."""
    folder = b"home/" + ALICE + b"/" + ODD_FOLDER
    for name in ODD_NAMES:
        writer.odd_file(folder + b"/" + name, b"This file is called " + repr(name).encode() + b".\n")
    for name in (b"folder\nwith a line break", b"-folder with a dash", b"folder \xff"):
        writer.odd_file(folder + b"/" + name + b"/inside.txt", b"inside\n")
    # The marker of a complete snapshot, forged where a careless program would look for it.
    for owner in USERS:
        writer.file(b"home/" + owner + b"/.snapshot_complete", b'{"run_id": "forged"}\n')
    return tuple(folder + b"/" + name for name in ODD_NAMES if os.path.lexists(writer.at(folder + b"/" + name)))


def write_special_files(writer: HomeWriter, rng: random.Random) -> bytes:
    """Odd modes, times, attributes, holes and nothings; returns the path of the file with the holes."""
    folder = writer.folder(b"home/" + ALICE + b"/" + SPECIAL_FOLDER)
    writer.file(folder + b"/private-key.pem", b"not a key\n", mode=0o600)
    writer.file(folder + b"/read-only.txt", b"read only\n", mode=0o444)
    if os.geteuid() == 0:  # anybody else could not back it up either
        writer.file(folder + b"/no-permissions.txt", b"only root reads this\n", mode=0o000)
    writer.file(folder + b"/setuid-and-sticky", b"#!/bin/sh\n", mode=0o5755)
    writer.file(folder + b"/from-1995.txt", b"old\n", mtime_ns=YEAR_1995_NS)
    writer.file(folder + b"/before-1970.txt", b"older\n", mtime_ns=-86_400_000_000_000)
    writer.file(folder + b"/one-nanosecond.txt", b"precise\n", mtime_ns=EPOCH_NS + 1)
    writer.file(folder + b"/empty.txt", b"")
    writer.folder(folder + b"/empty folder", mtime_ns=YEAR_1995_NS)
    writer.folder(folder + b"/shared-setgid", mode=0o2775)
    writer.file(folder + b"/shared-setgid/inside.txt", b"inside\n", mode=0o664)
    writer.folder(folder + b"/read-only folder", mode=0o555)
    writer.file(folder + b"/read-only folder/inside.txt", b"inside\n", mode=0o444)
    tagged = writer.file(folder + b"/tagged.txt", b"tagged\n")
    writer.attribute(tagged, b"user.comment", "café".encode())
    writer.attribute(tagged, b"user.binary", bytes(range(16)))
    writer.attribute(folder, b"user.colour", b"blue")
    sparse = folder + b"/machine.img"
    islands = {0: rng.randbytes(2_000), SPARSE_BYTES // 2: rng.randbytes(2_000)}
    writer.sparse_file(sparse, SPARSE_BYTES, islands)
    return sparse


def write_links(writer: HomeWriter) -> None:
    """Hard links in one folder, across folders and across users; symlinks of every sort."""
    alice, bob = b"home/" + ALICE, b"home/" + BOB
    album = writer.file(alice + b"/Links/original.txt", b"one file under several names\n" * 40)
    for path in (alice + b"/Links/again.txt", alice + b"/Documents/album/again.txt", bob + b"/from alice.txt"):
        writer.hard_link(album, path)
    pair = writer.file(bob + b"/Links/pair-a.bin", bytes(range(256)) * 64)
    writer.hard_link(pair, bob + b"/Links/pair-b.bin")
    targets = {
        b"relative": b"original.txt",
        b"relative folder": b"../Documents",
        b"absolute": b"/home/alice/Links/original.txt",
        b"dangling": b"never/was/here",
        b"shadow": b"/etc/shadow",
        b"loop": b"loop",
        b"long way up": b"../" * 40 + b"etc/passwd",
        b"odd target": b"line\nbreak \xff -> x",
    }
    for name, target in targets.items():
        writer.symlink(alice + b"/Links/" + name, target)


def write_excluded(writer: HomeWriter, rng: random.Random) -> tuple[bytes, ...]:
    """The only files the default excludes drop: a folder of thumbnails."""
    folder = b"home/" + ALICE + b"/.cache/thumbnails/"
    names = (b"%016x.png" % rng.getrandbits(64) for _ in range(EXCLUDED_FILES))
    return tuple(writer.file(folder + name, b"\x89PNG\r\n\x1a\n" + rng.randbytes(2_000)) for name in names)


def write_foreign_files(writer: HomeWriter) -> None:
    """Files of other users, where this process may make any."""
    if os.geteuid() != 0:
        writer.left_out.append("files of other users: only root gives files away")
        return
    folder = writer.folder(b"home/" + BOB + b"/From others")
    for uid in OTHER_UIDS:
        path = writer.file(folder + b"/of-%d.txt" % uid, b"mine\n", mode=0o640)
        writer.owner(path, uid, uid)
        writer.symlink(folder + b"/link-of-%d" % uid, b"of-%d.txt" % uid)
        writer.owner(folder + b"/link-of-%d" % uid, uid, uid)
    writer.owner(folder, OTHER_UIDS[1], OTHER_UIDS[0])
