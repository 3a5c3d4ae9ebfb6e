"""`python fake_sender.py FILE`: what a hostile host runs instead of what it was asked to run, by the words in FILE.

It starts the real rsync, whose words it changes, cuts off, slows down or hands on as they are. It needs nothing but
Python: it is run by sshd, far from the product.
"""

from __future__ import annotations

import os
import random
import shlex
import subprocess  # noqa: TID251  # this is the other side
import sys
import time
from pathlib import Path
from typing import IO


def main(file: Path) -> None:
    """Do as the file says."""
    mode, *words = file.read_text().split()
    argv = shlex.split(os.environ["SSH_ORIGINAL_COMMAND"])
    if "--sender" not in argv or mode == "honest":
        os.execvp(argv[0], argv)  # noqa: S606  # the other side
    if mode == "extra":
        os.execvp(argv[0], [*argv, *words])  # noqa: S606
    if mode == "endless":
        # Every link is followed, and each folder has two that lead to itself.
        given = [without_i(word) if "flat" in words else word for word in argv]
        os.execvp(argv[0], [*given[:3], "-L", *given[3:]])  # noqa: S606
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as sender, os.fdopen(1, "wb", 0) as target:
        assert sender.stdout is not None
        globals()[mode](sender.stdout, target, words)
        sender.kill()


def without_i(word: str) -> str:
    """The options without the word that folders may be listed one after the other."""
    head, dot, flags = word.partition("e.")
    return f"{head}{dot}{flags.replace('i', '')}" if word.startswith("-") and not word.startswith("--") else word


def rewrite(source: IO[bytes], target: IO[bytes], words: list[str]) -> None:
    """Say other names, of the same length."""
    old, new = (word.encode() for word in words)
    rest = b""
    while chunk := os.read(source.fileno(), 65536):
        rest = (rest + chunk).replace(old, new)
        # What might be the beginning of the name waits for the rest of it, but nobody waits for ever.
        kept = next((size for size in range(len(old) - 1, 0, -1) if rest.endswith(old[:size])), 0)
        target.write(rest[: len(rest) - kept])
        rest = rest[len(rest) - kept :]
    target.write(rest)


def die(source: IO[bytes], target: IO[bytes], words: list[str]) -> None:
    """End in the middle."""
    hand_on(source, target, int(words[0]))


def stall(source: IO[bytes], target: IO[bytes], words: list[str]) -> None:
    """Say nothing more, and stay."""
    hand_on(source, target, int(words[0]))
    time.sleep(600)


def drip(source: IO[bytes], target: IO[bytes], words: list[str]) -> None:
    """Say the rest byte by byte."""
    hand_on(source, target, int(words[0]))
    while byte := os.read(source.fileno(), 1):
        target.write(byte)
        time.sleep(float(words[1]))


def garbage(source: IO[bytes], target: IO[bytes], words: list[str]) -> None:
    """Say nonsense."""
    hand_on(source, target, int(words[0]))
    chance = random.Random(int(words[0]))  # noqa: S311
    for _ in range(1000):
        target.write(chance.randbytes(4096))


def hand_on(source: IO[bytes], target: IO[bytes], count: int) -> None:
    """Hand on so many bytes."""
    while count > 0 and (chunk := os.read(source.fileno(), min(count, 65536))):
        target.write(chunk)
        count -= len(chunk)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
