"""Versions, differences and names over snapshots that rsync really made, by every way of finding them."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner

from services.api.files.diff import Differences, differences
from services.api.files.search import FoundPaths, search
from services.api.files.versions import versions_of
from services.cli import files as commands
from services.cli import session
from services.embedded.sshd import free_port
from shared.adapters.jetstream import Bus
from shared.adapters.point_tree import Where
from shared.adapters.postgres import EventLog
from shared.domain.access import Role
from shared.domain.events import Kind
from shared.domain.name_pattern import NamePattern
from shared.domain.names import host_stream
from tests.support.backups import Backups, backups
from tests.support.builders import HOST, new
from tests.support.places import new_place
from tests.support.servers import BOUND_SECONDS, Database, NatsServer
from tests.support.serving import serving

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

ONE, TWO, THREE, FOUR = (f"2026-03-06_{hour:02}00" for hour in (8, 9, 10, 11))
NAMES = (ONE, TWO, THREE, FOUR)
ODD = b"odd \xff\n<b>.txt"


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as made:
        yield made


@pytest.fixture
async def backup(place: Path) -> AsyncIterator[Backups]:
    """Four snapshots of a home that lives."""
    async with backups(place, transport="local") as made:
        for live in (begin, change, come_back, forget):
            live(made.source / "home")
            await made.take()
        yield made


def begin(home: Path) -> None:
    (home / "docs").mkdir()
    for name in ("same.txt", "changing.txt", "private.txt", "docs/Report.pdf", "docs/temporary"):
        (home / name).write_text(f"the first {name}")
    (home / "link").symlink_to("same.txt")


def change(home: Path) -> None:
    (home / "changing.txt").write_text("the second")
    (home / "private.txt").chmod(0o600)
    (home / "docs" / "temporary").unlink()
    odd(home).write_text("odd")


def come_back(home: Path) -> None:
    (home / "docs" / "temporary").write_text("it is back")
    (home / "link").unlink()
    (home / "link").symlink_to("changing.txt")


def forget(home: Path) -> None:
    odd(home).unlink()


def odd(home: Path) -> Path:
    return Path(os.fsdecode(os.fsencode(home) + b"/" + ODD))


@pytest.fixture
def where(backup: Backups) -> Where:
    return Where(backup.store.root, backup.store.identity.name, HOST)


def points(*names: str) -> list[tuple[Kind, str]]:
    return [(Kind.SNAPSHOT, name) for name in names or NAMES]


def compared(where: Where, older: str, newer: str, *, limit: int = 100) -> tuple[str, dict[str, str]]:
    """By which way two snapshots were compared, and what was found, page by page."""
    found: dict[str, str] = {}
    after: str | None = ""
    ways = set()
    while after is not None:
        page: Differences = differences(where, *points(older, newer), after=after, limit=limit, seconds=_no_time)
        ways.add(page.how)
        assert not found.keys() & {one.path for one in page.differences}, "a page says again what one before said"
        found |= {one.path: one.change for one in page.differences}
        after = page.next
    assert len(ways) == 1
    return ways.pop(), found


def _no_time() -> float:
    return 0.0


WHOLE = {
    "home/changing.txt": "changed",
    "home/docs/temporary": "changed",
    "home/link": "changed",
    "home/private.txt": "attributes",
    "home/odd%20%FF%0A%3Cb%3E.txt": "added",
}


@pytest.mark.parametrize("limit", [1, 100])
def test_two_snapshots_differ_by_the_same_paths_whatever_way_they_are_compared(where: Where, limit: int) -> None:
    assert compared(where, ONE, THREE, limit=limit) == ("changes", WHOLE)
    hourly = where.root / HOST / "hourly"
    shutil.rmtree(hourly / TWO)  # its list of changes is gone with it
    without_attributes = {path: what for path, what in WHOLE.items() if what != "attributes"}
    assert compared(where, ONE, THREE, limit=limit) == ("lists", without_attributes)
    (hourly / ONE / ".files.zst").write_bytes(b"")
    assert compared(where, ONE, THREE, limit=limit) == ("trees", WHOLE)
    assert compared(where, THREE, FOUR)[1] == {"home/odd%20%FF%0A%3Cb%3E.txt": "removed"}


def test_a_path_through_time_is_one_bar_for_each_version(where: Where) -> None:
    def bars(path: bytes, *names: str) -> list[tuple[str, str, bool]]:
        found = versions_of(where, points(*names), path).versions
        return [(bar.first, bar.last, bar.version is not None) for bar in found]

    assert bars(b"home/same.txt") == [(ONE, FOUR, True)]
    assert bars(b"home/changing.txt") == [(ONE, ONE, True), (TWO, FOUR, True)]
    assert bars(b"home/docs/temporary") == [(ONE, ONE, True), (TWO, TWO, False), (THREE, FOUR, True)]
    assert bars(b"home/docs") == [(ONE, FOUR, True)]
    assert bars(b"home/" + ODD) == [(ONE, ONE, False), (TWO, THREE, True), (FOUR, FOUR, False)]
    assert versions_of(where, points(), b"home/" + ODD).gone_since == FOUR
    private = versions_of(where, points(), b"home/private.txt").versions
    assert [bar.only_attributes for bar in private] == [False, True]
    assert versions_of(where, [*points(), (Kind.GOLDEN, "2026-01")], b"home/same.txt").unreadable == ["2026-01"]


def found_by(where: Where, text: str, *names: str, limit: int = 100) -> FoundPaths:
    return search(where, points(*names), NamePattern(text), limit=limit, seconds=_no_time)


def test_a_name_is_found_in_whichever_snapshot_it_is(where: Where) -> None:
    def seen(text: str, *names: str) -> list[tuple[str, str, str]]:
        return [(one.path, one.first, one.last) for one in found_by(where, text, *names).paths]

    odd_path = "home/odd%20%FF%0A%3Cb%3E.txt"
    for names in (NAMES, (ONE, THREE, FOUR)):  # also when a list of changes is missing
        assert seen("REPORT", *names) == [("home/docs/Report.pdf", ONE, FOUR)]
        assert seen("temporary", *names) == [("home/docs/temporary", ONE, FOUR)]
        assert seen("*.txt", *names)[-2:] == [("home/private.txt", ONE, FOUR), ("home/same.txt", ONE, FOUR)]
    assert seen("odd") == [(odd_path, TWO, THREE)]
    assert seen("odd", ONE, THREE, FOUR) == [(odd_path, THREE, THREE)]
    assert seen("docs/*") == []
    assert seen("*docs/*")[0][0] == "home/docs/Report.pdf"
    assert seen("nothing") == []
    few = found_by(where, "t", limit=2)
    assert (len(few.paths), few.more) == (2, True)


def test_a_search_that_takes_too_long_says_so(where: Where) -> None:
    ticks = iter(range(0, 1000, 7))
    found = search(where, points(), NamePattern("same"), limit=10, seconds=lambda: float(next(ticks)))
    assert found.more
    assert found.looked_at < 4


def test_every_way_of_finding_a_name_agrees_with_walking(where: Where) -> None:
    by_lists = found_by(where, "t")
    for name in NAMES:
        (where.root / HOST / "hourly" / name / ".files.zst").write_bytes(b"")
        (where.root / HOST / "hourly" / name / ".changes.jsonl.zst").write_bytes(b"broken")
    assert found_by(where, "t") == by_lists


def test_the_command_line_says_the_same(backup: Backups, where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "settings_here", lambda: backup.settings)

    def said(command: Any, *words: str) -> Any:
        result = CliRunner().invoke(command, [HOST, *words, "--json"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert CliRunner().invoke(command, [HOST, *words], catch_exceptions=False).output
        return msgspec.json.decode(result.output)

    names = [one["name"] for one in said(commands.files, THREE, "home")]
    assert "odd \\xff\\n<b>.txt" in names
    assert said(commands.files, "latest", "home") == said(commands.files, FOUR, "home")
    assert [bar["first"] for bar in said(commands.versions, "home/changing.txt")["versions"]] == [ONE, TWO]
    assert said(commands.find, "report")["paths"][0]["path"] == "home/docs/Report.pdf"
    differing = said(commands.diff, THREE, ONE)
    assert (differing["older"], differing["newer"]) == (ONE, THREE)
    assert {one["path"]: one["change"] for one in differing["differences"]} == WHOLE


async def test_the_pages_and_the_api_show_them(
    backup: Backups, database: Database, nats_server: NatsServer, bus: Bus, log: EventLog
) -> None:
    with backup.store.folder(HOST) as folder:
        told = [new(snapshot.marker.event) for snapshot in folder.snapshots()]
    await log.append(host_stream(HOST), None, told)
    settings = msgspec.structs.replace(
        backup.settings,
        nats_url=nats_server.url,
        postgres_dsn=database.worker_dsn,
        api_listen=("127.0.0.1", free_port()),
    )
    async with serving(settings, Role.OPERATOR) as client:
        api = f"/api/hosts/{HOST}"
        asked = {"path": "home/docs/temporary"}
        found = (await client.get(f"{api}/versions", params=asked)).json()
        assert [bar["points"] for bar in found["versions"]] == [1, 1, 2]
        differing = await client.get(f"{api}/snapshots/{THREE}/diff", params={"with": ONE})
        assert {one["path"]: one["change"] for one in differing.json()["differences"]} == WHOLE
        names = (await client.get(f"{api}/search", params={"name": "odd"})).json()
        assert names["paths"][0]["first"] == TWO
        await pages(client)


async def pages(client: httpx.AsyncClient) -> None:
    odd_path = "home/odd%20%FF%0A%3Cb%3E.txt"
    page = (await client.get(f"/versions/{HOST}/{odd_path}")).text
    assert f"Gone since {FOUR}" in page
    assert page.count("<rect") == 3
    assert "<b>.txt" not in page
    page = (await client.get(f"/diff/{HOST}/{ONE}/{THREE}")).text
    assert f'href="/browse/{HOST}/{THREE}/{odd_path}"' in page
    assert "mode or owner" in page
    page = (await client.get(f"/search/{HOST}", params={"name": "<odd"})).text
    assert "No name fits" in page
    assert 'value="&lt;odd"' in page
    assert f"/versions/{HOST}/{odd_path}" in (await client.get(f"/search/{HOST}?name=odd")).text
    assert (await client.get(f"/search/{HOST}")).status_code == 200
    assert "style=" not in page
