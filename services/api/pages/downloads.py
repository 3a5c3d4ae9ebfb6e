"""Addresses under which a browser gets the content of restore points."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import Response, get
from litestar.params import QueryParameter

from services.api.asked import At, Name
from services.api.files.download import Packed, content_answer, file_answer
from services.api.files.preview import preview
from services.api.given import TheDrive, ThePoints
from services.api.pages.files_frame import Asked, path_in
from services.api.routes.files import OPERATOR
from shared.adapters.point_tree import PathRefused


@get(
    ["/download/{host:str}/{snapshot:str}", "/download/{host:str}/{snapshot:str}/{rest:path}"],
    include_in_schema=False,
    opt=OPERATOR,
)
async def download(
    *,
    points: ThePoints,
    drive: TheDrive,
    request: Asked,
    host: Name,
    snapshot: Name,
    packed: Annotated[Packed | None, QueryParameter(name="as")] = None,
    at: At = None,
) -> Response[None]:
    """A file byte for byte, or a folder packed."""
    path = path_in(request, host, snapshot)
    return await content_answer(drive, await points.one(host, snapshot, at), path, request, packed)


@get("/image/{host:str}/{snapshot:str}/{rest:path}", include_in_schema=False, opt=OPERATOR)
async def image(
    *, points: ThePoints, drive: TheDrive, request: Asked, host: Name, snapshot: Name, at: At = None
) -> Response[Any]:
    """A picture, as its own first bytes say what it is: never what its name says, and never anything with scripts."""
    path, point = path_in(request, host, snapshot), await points.one(host, snapshot, at)
    looked = await drive.read(point, preview, path)
    if not looked.picture:
        raise PathRefused("This is no picture that can be shown.", "Download it instead.")
    return await file_answer(drive, point, path, request, media_type=looked.picture, inline=True)


PAGES: Final = (download, image)
