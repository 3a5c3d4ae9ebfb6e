"""`files`, `versions`, `find` and `diff`: what is in the restore points, read from the drive itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import rich_click as click

from services.api.files.diff import Difference, differences
from services.api.files.entries import FileEntry, entry_of
from services.api.files.points import kind_of_name
from services.api.files.search import search
from services.api.files.versions import Bar, versions_of
from services.cli import session
from services.cli.output import json_option, print_json, say, table
from shared.adapters.clock import SystemClock
from shared.adapters.point_tree import Where, reading, reading_host
from shared.adapters.restore_points import golden_copies
from shared.domain.errors import BackupManagerError, NameRefused
from shared.domain.events import Kind
from shared.domain.name_pattern import NamePattern
from shared.domain.names import parse_host_name, parse_snapshot_name
from shared.domain.paths import checked, shown
from shared.domain.restore_request import CURRENT
from shared.domain.wording import size

MOST_ROWS: Final = 10_000

Point = tuple[Kind, str]


@click.command()
@click.argument("host")
@click.argument("snapshot")
@click.argument("path", default="")
@json_option
def files(*, host: str, snapshot: str, path: str, as_json: bool) -> None:
    """What a folder of a SNAPSHOT (or golden copy) of HOST holds: the top of it, or PATH below."""
    where, wanted = _where(host), _path(path)
    with reading(where, *_named(where, snapshot)) as tree:
        item = tree.look(wanted)
        if item.kind == "folder":
            found = [entry_of(one, wanted) for one in tree.items(wanted)]
        else:
            found = [entry_of(item, wanted.rpartition(b"/")[0])]
    if as_json:
        print_json(found)
        return
    columns = ["MODE", "OWNER", ">SIZE", "MODIFIED (UTC)", "NAME"]
    table(columns, [_row(one) for one in found], empty="This folder is empty.")


def _row(one: FileEntry) -> list[str]:
    ending = {"folder": "/", "link": f" -> {one.target}"}.get(one.type, "" if one.type == "file" else f" ({one.type})")
    owner = "" if one.owner is None else f"{one.owner}:{one.group}"
    return [one.mode, owner, _length(one), _when(one), one.name + ending]


@click.command()
@click.argument("host")
@click.argument("path")
@json_option
def versions(*, host: str, path: str, as_json: bool) -> None:
    """PATH of HOST through time, over all snapshots and golden copies; equal versions are one line."""
    where = _where(host)
    found = versions_of(where, _points(where), _path(path))
    if as_json:
        print_json(found)
        return
    if not any(bar.version for bar in found.versions):
        say(f"No restore point of {host} has {shown(_path(path))}. `backup-manager find` searches by name.")
        return
    rows = [_bar(bar) for bar in reversed(found.versions)]
    table(["FROM", "TO", ">POINTS", ">SIZE", "MODIFIED (UTC)", "MODE"], rows, empty="")
    if found.gone_since:
        say(f"Gone since {found.gone_since}.")
    if found.unreadable:
        say(f"{len(found.unreadable)} restore points could not be looked into: {', '.join(found.unreadable[:5])}.")


def _bar(bar: Bar) -> list[str]:
    if bar.version is None:
        return [bar.first, bar.last, str(bar.points), "", "not there", ""]
    return [bar.first, bar.last, str(bar.points), _length(bar.version), _when(bar.version), bar.version.mode]


@click.command()
@click.argument("host")
@click.argument("pattern")
@click.option("--limit", type=click.IntRange(1, MOST_ROWS), default=1000, show_default=True, help="Paths at most.")
@json_option
def find(*, host: str, pattern: str, limit: int, as_json: bool) -> None:
    """Paths of HOST in all restore points whose name has PATTERN in it, or fits it where it has * or ?."""
    where = _where(host)
    found = search(where, _points(where), NamePattern(pattern), limit=limit, seconds=_seconds())
    if as_json:
        print_json(found)
        return
    table(["FIRST IN", "LAST IN", "PATH"], [[one.first, one.last, one.name] for one in found.paths], empty="None fits.")
    if found.more:
        say(f"There is more: {found.looked_at} of {found.points} restore points were looked into, the newest first.")


@click.command()
@click.argument("host")
@click.argument("first")
@click.argument("second")
@json_option
def diff(*, host: str, first: str, second: str, as_json: bool) -> None:
    """What differs between the restore points FIRST and SECOND of HOST, from the older to the newer."""
    where = _where(host)
    kept = _points(where)
    chosen = sorted((_named(where, name) for name in (first, second)), key=lambda point: _place(kept, point))
    found: list[Difference] = []
    after: str | None = ""
    while after is not None and len(found) < MOST_ROWS:
        page = differences(where, chosen[0], chosen[1], after=after, limit=1000, seconds=_seconds())
        found += page.differences
        after = page.next
    if as_json:
        print_json({"older": page.older, "newer": page.newer, "how": page.how, "differences": found, "next": after})
        return
    rows = [[one.change, _length(one.before), _length(one.after), one.name] for one in found]
    table(["WHAT", ">BEFORE", ">AFTER", "PATH"], rows, empty="Nothing differs.")
    if after is not None:
        say(f"There is more: these are the first {MOST_ROWS:,}.")
    if page.how == "lists":
        say("Compared by the lists of files: what changed in nothing but mode or owner is not found this way.")


def _where(host: str) -> Where:
    settings, name = session.settings_here(), parse_host_name(host)
    store = settings.store_of(name)
    return Where(settings.root_of(store), store, name)


def _named(where: Where, name: str) -> Point:
    """The restore point of a name, or that to which the link `current` or `latest` leads."""
    if name in CURRENT:
        try:
            name = (where.root / where.host / name).readlink().name
        except OSError as error:
            raise BackupManagerError(f"{where.host} has no {name} snapshot yet.", "Was it ever backed up?") from error
    return kind_of_name(name), name


def _points(where: Where) -> list[Point]:
    """The restore points on the drive, by the instant that they show."""
    with reading_host(where) as folder:
        found = [(parse_snapshot_name(one.name), Kind.SNAPSHOT, str(one.name)) for one in folder.snapshots()]
        for copy in golden_copies(folder):
            try:
                slot = parse_snapshot_name(copy.record.event.snapshot)
            except NameRefused:
                slot = copy.record.event.slot
            found.append((slot, Kind.GOLDEN, copy.name))
    return [(kind, name) for _, kind, name in sorted(found)]


def _place(kept: list[Point], point: Point) -> int:
    if point not in kept:
        raise BackupManagerError(
            f"The {point[0]} {point[1]} is not on the drive.", "`backup-manager snapshots` lists them."
        )
    return kept.index(point)


def _path(text: str) -> bytes:
    return checked(os.fsencode(text).strip(b"/"))


def _length(one: FileEntry | None) -> str:
    return "" if one is None or one.size_bytes is None else size(one.size_bytes)


def _when(one: FileEntry) -> str:
    return f"{one.modified:%Y-%m-%d %H:%M:%S}" if one.modified else ""


def _seconds() -> Callable[[], float]:
    return SystemClock().monotonic
