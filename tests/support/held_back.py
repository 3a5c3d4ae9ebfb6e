"""`python -m tests.support.held_back SERVICE ROOT ACTION PATH...`: what a service can do to files, once it is confined.

Prints a line for each action and path: "done", or the name of the error.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shared.adapters import process
from shared.config import Settings, StoreSettings
from shared.domain.names import StoreName
from shared.runtime.confined import confine_service, nowhere
from tests.support.builders import some_settings


def settings_below(root: Path) -> Settings:
    """An installation whose drives and data lie below a folder; the second drive is there only in some tests."""
    return some_settings(root=root, more_stores=(StoreSettings(name=StoreName("second"), root=root / "second"),))


def _rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"!")


def _by_a_program(path: Path) -> None:
    asyncio.run(process.run(["rm", "-rf", str(path)], timeout_seconds=30))
    if path.exists():
        raise PermissionError(errno.EACCES, "it is still there")


ACTIONS: Final[dict[str, Callable[[Path], object]]] = {
    "make": lambda path: path.write_bytes(b"new"),
    "make folder": Path.mkdir,
    "rewrite": _rewrite,
    "shorten": lambda path: os.truncate(path, 0),
    "remove": Path.unlink,
    "remove all": shutil.rmtree,
    "remove by a program": _by_a_program,
    "move away": lambda path: path.rename(path.parent.parent / "moved"),
    "link": lambda path: os.link(path, path.parent.parent / "linked"),
    "link into golden copies": lambda path: os.link(path, path.parents[4] / "monthly/linked"),
    "read": Path.read_bytes,
}


def main(service: str, root: str, *asked: str) -> None:
    """Confine, then try."""
    module = importlib.import_module(f"services.{service}.service")
    confine_service(settings_below(Path(root)), getattr(module, "may_write", nowhere))
    for action, path in zip(asked[::2], asked[1::2], strict=True):
        try:
            ACTIONS[action](Path(path))
        except OSError as error:
            sys.stdout.write(f"{errno.errorcode.get(error.errno or 0)}\n")
        else:
            sys.stdout.write("done\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
