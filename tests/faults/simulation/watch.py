"""The model: what must hold whatever happens, told once more in words of its own, and looked at all the time.

It shares no rule with the product. It hears every event as it is recorded, sees every move on the drive as it is made,
and knows what each host really had when a transfer read it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from shared.domain.events import Recorded
from tests.faults.simulation.disk import Drive, Inode
from tests.faults.simulation.guards import (
    DOUBT,
    POLICY,
    TOLERANCE,
    Case,
    Found,
    Known,
    here_settings,
    in_doubt,
    instant,
    slot_of,
    why_not,
)
from tests.faults.simulation.parts import contents, packed
from tests.faults.simulation.slots import Slots

if TYPE_CHECKING:
    from tests.faults.simulation.world import World

PLACES: Final = {"hourly": "snapshot", "archives": "archive", "monthly": "golden"}
APPEARED: Final = {
    f"{what}{how}": what.lower() for what in ("Snapshot", "Archive", "Golden") for how in ("Completed", "Discovered")
}
LISTS: Final = (".files.zst", ".changes.jsonl.zst")
MARKER: Final = ".snapshot_complete"


class Watch:
    """Looks at everything. What it finds wrong goes to `world.wrong`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._contents: dict[str, dict[str, bytes]] = {}
        self._partly: set[str] = set()
        self._made: dict[tuple[str, str], dict[str, bytes]] = {}
        self._writers: Counter[tuple[str, str]] = Counter()
        self.known: defaultdict[str, Known] = defaultdict(Known)
        self.slots = Slots(world)
        self._policy: dict[str, str] = {}
        self._policy_at: datetime | None = None
        self._removed: Counter[str] = Counter()
        self._points_at_start: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.missing: set[tuple[str, str]] = set()

    # What is heard.

    def heard(self, recorded: Recorded) -> None:
        """An event was recorded."""
        kind = type(recorded.event).__name__
        self.counts[kind] += 1
        at = datetime.fromtimestamp(recorded.recorded_us / 1e6, UTC)
        body = msgspec.to_builtins(recorded.event)
        self._world.trace("event", recorded.stream, json.dumps(body, sort_keys=True))
        if kind == "SettingsChanged":
            if set(body["changed"]) & set(POLICY):
                self._policy_at = at
            self._policy = {name: body["settings"][name] for name in POLICY}
        if not recorded.stream.startswith("host-"):
            return
        host = recorded.stream.removeprefix("host-")
        known = self.known[host]
        if known.heard is not None and at - known.heard > DOUBT:
            known.doubted = True
        known.heard = at
        key = f"{body['kind']}/{body['point']}" if "point" in body else ""
        if kind in APPEARED:
            name = APPEARED[kind]
            self._appeared(host, known, f"{name}/{body[name]}")
            if name == "golden":
                known.golden[f"golden/{body[name]}"] = instant(body["snapshot"])
        elif key:
            known.hear_of_point(kind, key, body, at)
        else:
            known.hear(kind, body, at)
        self.slots.heard(host, kind, body, at)

    def _appeared(self, host: str, known: Known, key: str) -> None:
        if key in known.present:
            self._world.wrong(f"{key} of {host} was recorded twice")
        known.present.add(key)

    # What is written.

    @contextmanager
    def writing(self, host: str, job: str) -> Iterator[None]:
        """Somebody writes for this host and job; the only one, or it is wrong."""
        if self._writers[host, job]:
            self._world.wrong(f"two writers of {job} on {host}")
        self._writers[host, job] += 1
        try:
            yield
        finally:
            self._writers[host, job] -= 1

    def transferred(self, run: str, files: dict[str, str], *, whole: bool) -> None:
        """A transfer ended well and has moved these files; `whole` when that is all there was."""
        if not whole:
            self._partly.add(run)
        self._contents[run] = {name: text.encode() for name, text in sorted(files.items())}

    def host_of(self, tree: Inode) -> str:
        """Whose snapshot a tree is."""
        for host, folder in self._hosts(self._world.main):
            if tree in folder.entries["hourly"].entries.values():
                return host
        raise AssertionError("what is packed is no snapshot")

    def _hosts(self, drive: Drive) -> list[tuple[str, Inode]]:
        return [(name, inode) for name, inode in drive.root.entries.items() if "hourly" in inode.entries]

    # What is moved.

    def moved(self, drive: Drive, old: tuple[Inode, str], new: tuple[Inode, str], inode: Inode) -> None:
        """Something is about to be renamed."""
        for host, folder in self._hosts(drive):
            for place, kind in PLACES.items():
                where = folder.entries[place]
                if old[0] is where and new[0] is not where and not _is_part(old[1]):
                    self._removing(host, folder, f"{kind}/{old[1]}")

    def unlinked(self, drive: Drive, parent: Inode, name: str, inode: Inode) -> None:
        """Something is about to be unlinked."""
        if name != MARKER:
            self._taking_apart(drive, parent, name)
            return
        for host, folder in self._hosts(drive):
            for place in ("hourly", "monthly"):
                for point, tree in folder.entries[place].entries.items():
                    if tree is parent and not point.startswith("."):
                        self._world.wrong(f"the marker of {place}/{point} of {host} was removed in its place")
            for run in folder.entries[".trash"].entries.values():
                for kind, bin_ in run.entries.items():
                    for point, tree in bin_.entries.items():
                        if tree is parent:
                            self._purging(host, f"{kind}/{point}")

    def _taking_apart(self, drive: Drive, parent: Inode, name: str) -> None:
        """A file is removed: nothing that it belongs to may still look complete."""
        for host, folder in self._hosts(drive):
            trees = [
                tree
                for place in (*folder.entries[".trash"].entries.values(), folder)
                for bin_ in place.entries.values()
                for name_of_tree, tree in bin_.entries.items()
                if not _is_part(name_of_tree)  # marked, but killed before it had its name: nobody takes it for whole
            ]
            for tree in trees:
                if MARKER in tree.entries and parent in (tree, tree.entries.get("home")):
                    self._world.wrong(f"{name} of {host} is removed from a tree that bears its marker")

    def _purging(self, host: str, key: str) -> None:
        known, now = self.known[host], self._world.wall()
        at = known.trashed.get(key)
        self.counts["purged"] += 1
        if at is None:
            self._world.wrong(f"{key} of {host} is purged, and the log does not know that it is in the trash")
        elif min(now, known.heard or now) - at <= timedelta(hours=here_settings().trash_hours):
            self._world.wrong(f"{key} of {host} is purged after {now - at} only")
        if known.held and (known.pinned is None or known.golden.get(key, slot_of(key)) <= known.pinned):
            self._world.wrong(f"{key} of {host} is purged although it is held")
        if in_doubt(known, now):
            self._world.wrong(f"{key} of {host} is purged although the clock is in doubt")

    def points(self, host: str, folder: Inode) -> list[Found]:
        """Every restore point on a drive that bears its marker."""
        found = []
        for name, tree in folder.entries["hourly"].entries.items():
            if (marker := tree.entries.get(MARKER)) is not None and marker.data:
                record = json.loads(marker.data)["event"]
                found.append(Found(f"snapshot/{name}", name, instant(name), record["quality"], record, tree))
        for name, tree in folder.entries["monthly"].entries.items():
            if (marker := tree.entries.get(MARKER)) is not None and marker.data and not name.startswith("."):
                record = json.loads(marker.data)["event"]
                found.append(Found(f"golden/{name}", name, instant(record["snapshot"]), "complete", record, tree))
        place = folder.entries["archives"].entries
        for name, file in place.items():
            record_file = place.get(f".{name}.json")
            if record_file is not None and record_file.data:
                record = json.loads(record_file.data)["event"]
                slot = max(instant(record["snapshot"]), datetime.fromisoformat(record["slot"]))
                found.append(Found(f"archive/{name}", name, slot, "complete", record, file))
        return found

    def _removing(self, host: str, folder: Inode, key: str) -> None:
        """A restore point goes to the trash: every guard is asked once more."""
        now = self._world.wall()
        self.counts["removed"] += 1
        points = self.points(host, folder)
        point = next((found for found in points if found.key == key), None)
        if point is None:
            return  # it bears no marker, so it is no restore point
        for why in why_not(self._case(host, points, point)):
            self._world.wrong(f"{key} of {host} goes to the trash, {why} (it is {now:%Y-%m-%d %H:%M})")

    def _case(self, host: str, points: list[Found], point: Found) -> Case:
        known, now = self.known[host], self._world.wall()
        run = max((run for run, key in known.ordered if key == point.key), default="")
        self._removed[run] += not known.agreed_to(point.key, now)
        there = self._points_at_start.setdefault(run, sum(other.slot <= now + TOLERANCE for other in points))
        lost = any(of == host for of, _ in self.missing)
        return Case(points, point, known, now, here_settings(), self._policy, self._policy_at, run, self._removed[run],
                    there, lost)  # fmt: skip

    # What is there.

    def look(self, drive: Drive) -> None:
        """Every restore point of a drive restores what its host had, and `current` leads to a complete one."""
        for host, folder in self._hosts(drive):
            points = self.points(host, folder)
            for point in points:
                self._verify(host, point)
            link = folder.entries.get("current")
            if link is not None:
                name = link.data.decode().removeprefix("hourly/")
                target = [point for point in points if point.key == f"snapshot/{name}"]
                if not target or target[0].quality != "complete":
                    self._world.wrong(f"current of {host} leads to {name}, which is no complete snapshot")

    def _verify(self, host: str, point: Found) -> None:
        kind = point.key.split("/")[0]
        if kind == "snapshot":
            run = point.record["run"]
            had = self._contents.get(run, {"": b"nothing: the transfer failed"})
            if run in self._partly and point.quality == "complete":
                self._world.wrong(f"{point.key} of {host} is called complete, and files are missing in it")
            self._made[host, point.name] = had
            there = contents(point.inode)
            if any(point.inode.entries[name].data != b"list" for name in LISTS if name in point.inode.entries):
                self._world.wrong(f"the lists of {point.key} of {host} are not whole")
        else:
            had = self._made.get((host, point.record["snapshot"]), {})
            there = contents(point.inode) if kind == "golden" else {}
            if kind == "archive":
                if hashlib.sha256(point.inode.data).hexdigest() != point.record["sha256"]:
                    self._world.wrong(f"{point.key} of {host} is not what its record says")
                if had and point.inode.data != packed(had):
                    self._world.wrong(f"{point.key} of {host} does not hold what the host had")
                return
        if had and there != had:
            self._world.wrong(f"{point.key} of {host} does not hold what the host had: {there} is not {had}")


def _is_part(name: str) -> bool:
    return name.startswith(".") or name.endswith(".sha256")
