"""Looking into restore points: folders, previews, versions, differences, names."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Final

from litestar import get
from litestar.params import FromQuery, QueryParameter
from litestar.response import Redirect, Template

from services.api.asked import At, Name
from services.api.files.diff import differences
from services.api.files.drive import PointRef
from services.api.files.entries import folder_of
from services.api.files.preview import preview
from services.api.files.search import search
from services.api.files.timeline import drawn
from services.api.files.versions import versions_of
from services.api.given import TheClock, TheDrive, TheLive, ThePoints
from services.api.pages.about import about
from services.api.pages.files_frame import Asked, address, crumbs, path_in
from services.api.problems import NotThere
from services.api.routes.files import OPERATOR, in_time, opaque, pairs
from shared.adapters.point_tree import PointTree
from shared.domain.name_pattern import NamePattern
from shared.domain.paths import parent_of, path_in_address, shown, token_of

ROWS: Final = 200
FOUND: Final = 200

After = Annotated[str, QueryParameter()]
FOR_OPERATORS: Final[dict[str, Any]] = {"include_in_schema": False, "opt": OPERATOR}


@get("/browse/{host:str}", **FOR_OPERATORS)
async def choose(
    *, points: ThePoints, host: Name, snapshot: FromQuery[str] = "", path: FromQuery[str] = "", at: At = None
) -> Redirect:
    """Go to a restore point that was chosen from a list, or to the newest."""
    kept = await points.all(host, at)
    if not kept:
        raise NotThere(f"{host} has no restore points.", "Its first snapshot has to be made.")
    chosen = (await points.one(host, snapshot, at)).name if snapshot else kept[-1].name
    token = token_of(path_in_address(path.encode("ascii", "ignore")))
    return Redirect(address("browse", host, chosen, path=token, at=at), status_code=303)


@get(["/browse/{host:str}/{snapshot:str}", "/browse/{host:str}/{snapshot:str}/{rest:path}"], **FOR_OPERATORS)
async def browse(
    *,
    live: TheLive,
    clock: TheClock,
    points: ThePoints,
    drive: TheDrive,
    request: Asked,
    host: Name,
    snapshot: Name,
    after: After = "",
    at: At = None,
) -> Template | Redirect:
    """A folder of a restore point; for a file, its preview."""
    path = path_in(request, host, snapshot)
    point = await points.one(host, snapshot, at)
    if (await drive.read(point, PointTree.look, path)).kind != "folder":
        return Redirect(address("preview", host, snapshot, path=path, at=at), status_code=303)
    page = folder_of(await drive.read(point, PointTree.page, path, opaque(after), ROWS), path)
    context = await _point_context(points, point, path, at)
    context |= {"folder": page, "after": after, "up": token_of(parent_of(path)[0])}
    return Template("files_folder.html", context=about(live, at, clock.now()) | context)


@get("/preview/{host:str}/{snapshot:str}/{rest:path}", **FOR_OPERATORS)
async def look(
    *,
    live: TheLive,
    clock: TheClock,
    points: ThePoints,
    drive: TheDrive,
    request: Asked,
    host: Name,
    snapshot: Name,
    at: At = None,
) -> Template:
    """The beginning of a file, or a picture."""
    path, point = path_in(request, host, snapshot), await points.one(host, snapshot, at)
    item = await drive.read(point, PointTree.look, path)
    seen = await drive.read(point, preview, path) if item.kind == "file" else None
    context = await _point_context(points, point, path, at)
    context |= {"item": item, "seen": seen, "target": shown(item.target)}
    return Template("files_preview.html", context=about(live, at, clock.now()) | context)


async def _point_context(points: Any, point: PointRef, path: bytes, at: Any) -> dict[str, Any]:
    """What every page of a restore point shows: where it is, and what is before and after it."""
    kept = await points.all(point.where.host, at)
    pairs_of = list(pairwise([None, *kept, None]))
    place = next((number for number, one in enumerate(kept) if one.name == point.name), None)
    return {
        "host": point.where.host,
        "point": point,
        "points": list(reversed(kept)),
        "previous": None if place is None else pairs_of[place][0],
        "following": None if place is None else pairs_of[place + 1][1],
        "path": token_of(path),
        "shown": shown(path),
        "name": shown(parent_of(path)[1]),
        "crumbs": crumbs(path),
        "address": address,
    }


@get("/versions/{host:str}/{rest:path}", **FOR_OPERATORS)
async def versions(
    *, live: TheLive, clock: TheClock, points: ThePoints, drive: TheDrive, request: Asked, host: Name, at: At = None
) -> Template:
    """One path through time, drawn and as a table."""
    path, kept = path_in(request, host), await points.all(host, at)
    if not kept:
        raise NotThere(f"{host} has no restore points.", "Its first snapshot has to be made.")
    async with drive.long_read():
        found = await drive.work.do(versions_of, kept[0].where, pairs(kept), path)
    if not any(bar.version for bar in found.versions):
        raise NotThere(f"No restore point of {host} has ‘{shown(path)}’.", f"/search/{host} finds names.")
    context = {
        "host": host,
        "path": token_of(path),
        "shown": shown(path),
        "found": found,
        "drawing": drawn(found.versions, {point.name: point.slot for point in kept}),
        "address": address,
    }
    return Template("files_versions.html", context=about(live, at, clock.now()) | context)


@get("/diff/{host:str}/{first:str}/{second:str}", **FOR_OPERATORS)
async def diff(
    *,
    live: TheLive,
    clock: TheClock,
    points: ThePoints,
    drive: TheDrive,
    host: Name,
    first: Name,
    second: Name,
    after: After = "",
    at: At = None,
) -> Template:
    """What differs between two restore points."""
    two = [await points.one(host, first, at), await points.one(host, second, at)]
    older, newer = in_time(two, await points.all(host))
    async with drive.long_read():
        found = await drive.work.do(
            differences, older.where, *pairs([older, newer]), after=after, limit=ROWS, seconds=clock.monotonic
        )
    context = {"host": host, "older": older, "newer": newer, "found": found, "address": address}
    return Template("files_diff.html", context=about(live, at, clock.now()) | context)


@get("/search/{host:str}", **FOR_OPERATORS)
async def find(
    *,
    live: TheLive,
    clock: TheClock,
    points: ThePoints,
    drive: TheDrive,
    host: Name,
    name: FromQuery[str] = "",
    at: At = None,
) -> Template:
    """Names in all restore points of a host."""
    kept = await points.all(host, at)
    found = None
    if name and kept:
        async with drive.long_read():
            found = await drive.work.do(
                search, kept[0].where, pairs(kept), NamePattern(name), limit=FOUND, seconds=clock.monotonic
            )
    context = {"host": host, "wanted": name, "found": found, "address": address}
    return Template("files_search.html", context=about(live, at, clock.now()) | context)


PAGES: Final = (choose, browse, look, versions, diff, find)
