"""What a name is searched by: a part of it, or a pattern with `*`, `?` and `[…]`; case does not matter. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from typing import Final

from shared.domain.errors import NameRefused

LONGEST: Final = 255
_WILD: Final = re.compile(r"[*?\[]")
_PLAIN: Final = re.compile(rb"[A-Za-z0-9_. -]+")


class NamePattern:
    """A pattern for the last part of a path, or for all of it when the pattern has a `/`. Raises NameRefused."""

    def __init__(self, text: str) -> None:
        if not text or len(text) > LONGEST or "\0" in text:
            raise NameRefused("That is nothing to search for.", f"Give 1 to {LONGEST} characters of a name.")
        folded = text.lower()
        self._whole = "/" in text
        self._wild = re.compile(fnmatch.translate(folded)) if _WILD.search(text) else None
        self._part = folded
        # What is between brackets is one character of several, so nothing of such a pattern has to be there as it is.
        self._hint = (
            b"" if "[" in text else max(_PLAIN.findall(folded.encode("utf-8", "surrogateescape")), key=len, default=b"")
        )

    def fits(self, path: bytes) -> bool:
        """Whether a path fits."""
        name = (path if self._whole else path.rpartition(b"/")[2]).decode("utf-8", "surrogateescape").lower()
        return bool(self._wild.match(name)) if self._wild else self._part in name

    def lines_that_may_fit(self, block: bytes) -> Iterator[bytes]:
        """The lines of a block of a list that may be about a path that fits: most are told apart without a look."""
        if not self._hint:
            yield from block[:-1].split(b"\n")
            return
        low, start = block.lower(), 0
        while (found := low.find(self._hint, start)) >= 0:
            begin, end = block.rfind(b"\n", 0, found) + 1, block.index(b"\n", found)
            yield block[begin:end]
            start = end + 1
