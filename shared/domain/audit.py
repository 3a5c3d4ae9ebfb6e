"""Proof that the log was not rewritten: the hash chain, and the numbering of positions and versions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

GENESIS: Final = bytes(32)


class Link(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One event as the audit reads it: its canonical bytes are built by the database, the hash is computed here."""

    position: int
    stream: str
    version: int
    canonical: bytes
    hash: bytes


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it must be, in words, and the position where it shows."""

    position: int
    sentence: str


class ChainCheck:
    """Checks links in order of position; afterwards `findings` is empty exactly when all is well."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.position = 0
        self.head = GENESIS
        self._versions: dict[str, int] = {}

    def check(self, links: Iterable[Link]) -> None:
        """Take the next links."""
        sha256 = hashlib.sha256
        for link in links:
            if link.position <= self.position:
                self._found(link.position, "this position is taken by more than one event")
            elif link.position != self.position + 1:
                self._found(link.position, f"positions {self.position + 1} to {link.position - 1} are missing")
            if link.version != self._versions.get(link.stream, 0) + 1:
                self._found(link.position, f"version {link.version} of event stream {link.stream} does not follow")
            computed = sha256(self.head + link.canonical).digest()
            if computed != link.hash:
                self._found(link.position, "the event is not what was recorded: its hash does not match")
            self.position = link.position
            self._versions[link.stream] = link.version
            # Going on from the stored hash names each damaged event once, instead of everything after the first.
            self.head = link.hash

    def check_anchor(self, position: int, stored_hash: bytes, chain_hash: bytes | None) -> None:
        """Compare an anchor with the chain; `chain_hash` is None where the log does not reach that far."""
        if chain_hash is None:
            self._found(position, "the end of the log is missing: an anchor knows an event there")
        elif chain_hash != stored_hash:
            self._found(position, "the log is not the one that was anchored here")

    def _found(self, position: int, sentence: str) -> None:
        self.findings.append(Finding(position, sentence))
