"""Trees to work on: deep, wide, skewed, and any small one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from hypothesis import strategies as st

from shared.adapters.filesystem import open_directory

Shape = dict[bytes, "Shape | str"]
"""A folder: names, and what they are: a folder, or "file", "symlink", "fifo", "hard" (a further name of a file)."""

KINDS: Final = ("file", "file", "symlink", "fifo", "hard")


def shapes() -> st.SearchStrategy[Shape]:
    """Any small folder, with any names that there can be."""
    names = st.binary(min_size=1, max_size=12).map(lambda name: name.translate(None, b"/\0") or b"x")
    usable = names.filter(lambda name: name not in {b".", b".."})
    leaf: st.SearchStrategy[Shape | str] = st.sampled_from(KINDS)
    whole = st.recursive(leaf, lambda inner: st.dictionaries(usable, inner, max_size=5), max_leaves=25)
    return st.dictionaries(usable, whole, max_size=5)


def plant(folder: Path, shape: Shape) -> int:
    """Make it on the disk; returns how many entries there are with the top."""
    folder.mkdir()
    first = folder / "first of all"
    first.write_bytes(os.fsencode(folder.name))
    made = 2
    for name, kind in shape.items():
        path = folder / os.fsdecode(name)
        if isinstance(kind, dict):
            made += plant(path, kind)
            continue
        _plant_entry(path, kind, first)
        made += 1
    folder.chmod(0o711 + len(shape))
    os.utime(folder, ns=(10**18 + made, 10**18 + 7 * made))
    return made


def _plant_entry(path: Path, kind: str, first: Path) -> None:
    match kind:
        case "symlink":
            path.symlink_to("../nowhere")
        case "fifo":
            os.mkfifo(path)
        case "hard":
            path.hardlink_to(first)
        case _:
            path.write_bytes(os.fsencode(path.name))


def make_deep(top: Path, depth: int, *, beside: bool = False) -> int:
    """A chain of folders, longer than any path may be, with a file and, if wanted, a folder beside each of them.

    Returns how many entries there are with the top.
    """
    top.mkdir()
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("deeper", dir_fd=descriptor)
        if beside:
            os.mkdir("beside", dir_fd=descriptor)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
        below = os.open("deeper", os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    return (3 if beside else 2) * depth + 1


def make_wide(top: Path, *, folders: int, files: int) -> int:
    """Many small files; beyond the first they are links to it, which are quicker to make. Returns how many entries."""
    top.mkdir()
    for number in range(folders):
        folder = top / f"{number:03}"
        folder.mkdir()
        (folder / "0").touch()
        with open_directory(folder) as descriptor:
            for name in range(1, files):
                os.link("0", str(name), src_dir_fd=descriptor, dst_dir_fd=descriptor)
    return 1 + folders * (1 + files)


def make_skewed(top: Path) -> int:
    """Nearly everything below one folder of many, three levels down. Returns how many entries with the top."""
    top.mkdir()
    for number in range(20):
        (top / f"thin {number}").mkdir()
        (top / f"thin {number}/link").symlink_to("..")
    (top / "thin 7/a/b").mkdir(parents=True)
    return 43 + make_wide(top / "thin 7/a/b/thick", folders=200, files=40)
