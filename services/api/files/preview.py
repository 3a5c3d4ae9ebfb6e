"""What may be shown of a file: its beginning as text, or a picture of a kind that cannot do anything."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from shared.adapters.point_tree import PointTree
from shared.domain.wording import printable

TEXT_BYTES: Final = 64 * 1024
LARGEST_PICTURE_BYTES: Final = 32 * 1024 * 1024

_CONTROLS: Final = frozenset(range(32)) - frozenset(b"\t\n\r\f\x08\x1b")
_PICTURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


@dataclass(frozen=True, slots=True)
class Preview:
    """A look at a file: text that is safe to show, or what kind of picture it is, or neither. `cut`: there is more."""

    size_bytes: int
    text: str | None = None
    encoding: str = ""
    picture: str = ""
    cut: bool = False


def preview(tree: PointTree, path: bytes) -> Preview:
    """Look at a file. Blocking. Raises PathMissing and PathRefused."""
    descriptor, status = tree.open_file(path)
    try:
        head = os.pread(descriptor, TEXT_BYTES, 0)
    finally:
        os.close(descriptor)
    return judged(head, status.st_size)


def judged(head: bytes, size: int) -> Preview:
    """What the beginning of a file can be shown as. Pure."""
    if kind := picture_kind(head):
        return Preview(size, picture=kind if size <= LARGEST_PICTURE_BYTES else "", cut=size > LARGEST_PICTURE_BYTES)
    if not _CONTROLS.isdisjoint(head):
        return Preview(size)
    text, encoding = decoded(head, cut=size > len(head))
    return Preview(size, _visible(text), encoding, cut=size > len(head))


def picture_kind(head: bytes) -> str:
    """The exact type of a picture by its first bytes; empty when it is none that is shown."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _PICTURES if head.startswith(magic)), "")


def decoded(head: bytes, *, cut: bool) -> tuple[str, str]:
    """The text, and what it was taken for: UTF-8, else Latin-1. A character that was cut at the end is left out."""
    for shorter in range(4 if cut else 1):
        try:
            return head[: len(head) - shorter].decode("utf-8"), "UTF-8"
        except UnicodeDecodeError:
            continue
    return head.decode("latin-1"), "Latin-1, because it is not UTF-8"


def _visible(text: str) -> str:
    """The text with everything escaped that could move a cursor or turn the reading around, but not its lines."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(printable(part) for part in line.split("\t")) for line in lines)
