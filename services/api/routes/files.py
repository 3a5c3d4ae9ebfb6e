"""What is in the restore points: folders, versions of a path, differences, names, and the content itself."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from litestar import Request, Response, get
from litestar.params import QueryParameter

from services.api.asked import At, Name
from services.api.files.diff import Differences, differences
from services.api.files.download import Packed, content_answer
from services.api.files.drive import PointRef
from services.api.files.entries import LARGEST_PAGE, Folder, folder_of
from services.api.files.search import FoundPaths, search
from services.api.files.versions import Versions, versions_of
from services.api.given import TheClock, TheDrive, ThePoints
from services.api.problems import NotThere
from shared.adapters.point_tree import PointTree
from shared.domain.name_pattern import NamePattern
from shared.domain.paths import path_in_address, path_in_query

OPERATOR: Final = {"role": "operator"}
MOST_FOUND: Final = 1000

Asked: TypeAlias = Request[Any, Any, Any]
APath = Annotated[
    str,
    QueryParameter(description="The path below the top of the restore point: its bytes, percent-encoded."),
]
Limit = Annotated[int, QueryParameter(ge=1, le=LARGEST_PAGE)]


def path_of(request: Asked) -> bytes:
    """The exact bytes of the path in the query."""
    return path_in_query(request.scope["query_string"]) or b""


def opaque(after: str) -> bytes:
    """The bytes that a `next` stands for, given back as the value of `after`."""
    return path_in_address(after.encode("ascii", "ignore"))


@get("/api/hosts/{host:str}/snapshots/{snapshot:str}/files", summary="A folder of a restore point", opt=OPERATOR)
async def files(
    *,
    points: ThePoints,
    drive: TheDrive,
    request: Asked,
    host: Name,
    snapshot: Name,
    path: APath = "",
    after: Annotated[str, QueryParameter(description="Only names after this one: `next` of the page before.")] = "",
    limit: Limit = 200,
    at: At = None,
) -> Folder:
    """What a folder of a snapshot or golden copy holds, in the order of the names."""
    point, folder = await points.one(host, snapshot, at), path_of(request)
    return folder_of(await drive.read(point, PointTree.page, folder, opaque(after), limit), folder)


@get("/api/hosts/{host:str}/snapshots/{snapshot:str}/content", summary="A file, or a folder packed", opt=OPERATOR)
async def content(
    *,
    points: ThePoints,
    drive: TheDrive,
    request: Asked,
    host: Name,
    snapshot: Name,
    path: APath = "",
    packed: Annotated[Packed | None, QueryParameter(name="as", description="How to pack a folder.")] = None,
    at: At = None,
) -> Response[None]:
    """A file byte for byte, also in part (Range); a folder as tar.gz or zip."""
    point = await points.one(host, snapshot, at)
    return await content_answer(drive, point, path_of(request), request, packed)


@get("/api/hosts/{host:str}/versions", summary="One path through time", opt=OPERATOR)
async def versions(
    *, points: ThePoints, drive: TheDrive, request: Asked, host: Name, path: APath = "", at: At = None
) -> Versions:
    """The versions of a path over all snapshots and golden copies, equal ones as one."""
    wanted = path_of(request)
    if not wanted:
        raise NotThere("No path was given.", "Add ?path= with a path below the top of a snapshot.")
    kept = await points.all(host, at)
    if not kept:
        raise NotThere(f"{host} has no restore points.", "Its first snapshot has to be made.")
    async with drive.long_read():
        return await drive.work.do(versions_of, kept[0].where, pairs(kept), wanted)


@get("/api/hosts/{host:str}/snapshots/{snapshot:str}/diff", summary="Two restore points compared", opt=OPERATOR)
async def diff(
    *,
    points: ThePoints,
    drive: TheDrive,
    clock: TheClock,
    host: Name,
    snapshot: Name,
    other: Annotated[str, QueryParameter(name="with", description="The restore point to compare with.")],
    after: Annotated[str, QueryParameter(description="`next` of the page before.")] = "",
    limit: Limit = 200,
    at: At = None,
) -> Differences:
    """What differs, from the older to the newer of the two. A page may end early, when it took too long."""
    older, newer = in_time(
        [await points.one(host, snapshot, at), await points.one(host, other, at)], await points.all(host)
    )
    async with drive.long_read():
        return await drive.work.do(
            differences, older.where, *pairs([older, newer]), after=after, limit=limit, seconds=clock.monotonic
        )


@get("/api/hosts/{host:str}/search", summary="Names in all restore points", opt=OPERATOR)
async def find(
    *,
    points: ThePoints,
    drive: TheDrive,
    clock: TheClock,
    host: Name,
    name: Annotated[str, QueryParameter(description="A part of the name, or a pattern with * and ?.")],
    limit: Annotated[int, QueryParameter(ge=1, le=MOST_FOUND)] = 100,
    at: At = None,
) -> FoundPaths:
    """Paths whose name fits, and the first and last restore point that have them."""
    pattern, (known, _) = NamePattern(name), await points.known(host)
    kept = await points.all(host, at)
    async with drive.long_read():
        return await drive.work.do(
            search, drive.where(known), pairs(kept), pattern, limit=limit, seconds=clock.monotonic
        )


def pairs(points: list[PointRef]) -> list[tuple[Any, str]]:
    """Their kinds and names."""
    return [(point.kind, point.name) for point in points]


def in_time(two: list[PointRef], order: list[PointRef]) -> list[PointRef]:
    """The older one first."""
    return sorted(two, key=order.index)


ROUTES: Final = (files, content, versions, diff, find)
