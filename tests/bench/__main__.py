"""`python -m tests.bench [--quick] [--folder DIR] [NAME...]`: side-by-side benchmarks, each with its target.

Exit code 0: every target was reached. 1: one was missed. 2: something could not be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import uvloop

from tests.bench import api, archive, download, event_log, memory, retention, scale, snapshots, ticks, trees
from tests.bench.drive import has_own_mounts
from tests.bench.options import Options
from tests.bench.table import Found, show

BENCHMARKS: Final[dict[str, Callable[[Options], Awaitable[Found]]]] = {
    "log": event_log.measure,
    "ticks": ticks.measure,
    "snapshots": snapshots.measure,
    "memory": memory.measure,
    "scale": scale.measure,
    "retention": retention.measure,
    "trees": trees.measure,
    "archive": archive.measure,
    "download": download.measure,
    "api": api.measure,
}
OWN_MOUNTS: Final = "BACKUP_BENCH_OWN_MOUNTS"


def main(words: Sequence[str]) -> int:
    """Run the benchmarks that are named, or all of them; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__, formatter_class=_Verbatim)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; none means all")
    parser.add_argument("--quick", action="store_true", help="only show that everything works; nothing is judged")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to write (20 GB)")
    chosen = parser.parse_args(words)
    if unknown := set(chosen.names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    _live_with_own_mounts(words)
    # SIGTERM ends it like Ctrl-C: what was mounted and started is always cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return uvloop.run(_run(chosen.names or list(BENCHMARKS), chosen.folder, quick=chosen.quick))
    except KeyboardInterrupt:
        return 130


class _Verbatim(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description."""


def _live_with_own_mounts(words: Sequence[str]) -> None:
    """Start again where mounts are seen by nobody else, and go by themselves even after `kill -9`."""
    if os.geteuid() == 0 and OWN_MOUNTS not in os.environ and asyncio.run(has_own_mounts()):
        argv = ["unshare", "--mount", "--propagation", "private", "--", sys.executable, "-m", "tests.bench", *words]
        os.execvpe(argv[0], argv, {**os.environ, OWN_MOUNTS: "1"})  # noqa: S606  # we become it


def _folder(name: str, parent: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{name}-", dir=parent))
    folder.chmod(0o711)  # as root, the database runs as a user who has to pass through here
    return folder


async def _run(names: Sequence[str], parent: Path, *, quick: bool) -> int:
    codes = [0]
    for name in names:
        folder = _folder(name, parent)
        print(f"{name} ...", file=sys.stderr, flush=True)
        started = time.perf_counter()
        try:
            found = await BENCHMARKS[name](Options(folder, quick))
        except Exception:  # noqa: BLE001  # the others are still worth measuring
            traceback.print_exc()
            codes.append(2)
        else:
            print(show(found, judged=not quick))
            print(f"  * measured in {time.perf_counter() - started:.0f} s\n", flush=True)
            codes.append(1 if found.missed and not quick else 0)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
