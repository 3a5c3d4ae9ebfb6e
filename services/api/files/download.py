"""Answers that carry the content of restore points: a file, or a part of it; a folder as one archive."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import Any, Final, Literal

from litestar import Request, Response

from services.api.files.drive import Drive, PointRef
from services.api.files.folder_tar import OpenFolder, refuse_mounts, tar_pieces
from services.api.files.folder_zip import refuse_too_many, zip_pieces
from services.api.files.pulling import Pieces, pieces_of_file, pulled
from services.api.files.ranges import attachment, etag_of, wanted_range
from services.api.files.sending import Sending
from shared.adapters.disk_work import DriveSlow
from shared.adapters.point_tree import PathRefused, PointTree, hold_point, reading_host
from shared.domain.paths import parent_of

MOST_DOWNLOADS: Final = 32
MOST_PACKING: Final = 4

Packed = Literal["tar.gz", "zip"]

SANDBOX: Final = "sandbox; default-src 'none'"
ANY_CONTENT: Final = "application/octet-stream"


class Places:
    """How many of something may be under way."""

    def __init__(self, most: int) -> None:
        self._free = most

    def take(self) -> Callable[[], None]:
        """Take a place; returns what gives it back, once. Raises DriveSlow."""
        if not self._free:
            raise DriveSlow("Too many downloads are under way.", "Try again when one has ended.")
        self._free -= 1
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            self._free += not given_back
            given_back = True

        return give_back


DOWNLOADS: Final = Places(MOST_DOWNLOADS)
PACKING: Final = Places(MOST_PACKING)


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file of a restore point that is held as long as this is open."""

    descriptor: int
    held: int
    status: os.stat_result

    def close(self) -> None:
        """Let go."""
        os.close(self.descriptor)
        os.close(self.held)


def open_file(point: PointRef, path: bytes) -> OpenFile:
    """Open a file, and hold its restore point. Blocking. Raises PathMissing, PathRefused and what holding raises."""
    with reading_host(point.where) as folder:
        held = hold_point(folder, point.kind, point.name)
    try:
        descriptor, status = PointTree(held).open_file(path)
    except BaseException:
        os.close(held)
        raise
    return OpenFile(descriptor, held, status)


async def file_answer(
    drive: Drive,
    point: PointRef,
    path: bytes,
    request: Request[Any, Any, Any],
    *,
    media_type: str = ANY_CONTENT,
    inline: bool = False,
) -> Response[None]:
    """A file, or the part of it that is asked for."""
    give_back = DOWNLOADS.take()
    try:
        opened = await drive.work.handed_over(OpenFile.close, open_file, point, path)
    except BaseException:
        give_back()
        raise
    release = partial(_release, drive, opened.close, give_back)
    headers = _headers(opened.status, media_type)
    if not inline:
        headers["content-disposition"] = attachment(parent_of(path)[1])
    status, start, end = _which_part(request, opened.status, headers)
    if status in {304, 416}:
        release()
        return Response(None, status_code=status, headers=headers)
    headers["content-length"] = str(end - start)
    pieces = Pieces(pieces_of_file(opened.descriptor, start, end), opened.close)
    return Sending(status, headers, pulled(pieces, drive.work), partial(_release, drive, pieces.close, give_back))


def _release(drive: Drive, close: Callable[[], None], give_back: Callable[[], None]) -> None:
    give_back()
    drive.work.later(close)


def _headers(status: os.stat_result, media_type: str) -> dict[str, str]:
    headers = {
        "content-type": media_type,
        "content-security-policy": SANDBOX,
        "accept-ranges": "bytes",
        "etag": etag_of(status),
    }
    with suppress(ValueError, OverflowError, OSError):  # no calendar has this time: then it is not said
        headers["last-modified"] = formatdate(status.st_mtime, usegmt=True)
    return headers


def _which_part(
    request: Request[Any, Any, Any], status: os.stat_result, headers: dict[str, str]
) -> tuple[int, int, int]:
    """The status of the answer, its first byte and the one behind its last."""
    size, tag = status.st_size, headers["etag"]
    if tag in request.headers.get("if-none-match", ""):
        return 304, 0, 0
    asked, condition = request.headers.get("range", ""), request.headers.get("if-range", tag)
    if not asked or condition not in {tag, headers.get("last-modified")}:
        return 200, 0, size
    try:
        part = wanted_range(asked, size)
    except ValueError:
        headers["content-range"] = f"bytes */{size}"
        return 416, 0, 0
    if part is None:
        return 200, 0, size
    headers["content-range"] = f"bytes {part[0]}-{part[1] - 1}/{size}"
    return 206, *part


async def folder_answer(drive: Drive, point: PointRef, path: bytes, packed: Packed) -> Response[None]:
    """A folder as one archive, made while it is sent."""
    give_back = PACKING.take()
    name = parent_of(path)[1] or f"{point.where.host}-{point.name}".encode()
    headers = {"content-security-policy": SANDBOX, "content-disposition": attachment(name, f".{packed}")}
    try:
        if packed == "zip":
            await drive.read(point, refuse_too_many, path)
        else:
            await drive.read(point, refuse_mounts)
        opened = await drive.work.handed_over(OpenFolder.close, OpenFolder.of, point, path)
        if packed == "tar.gz":
            headers["content-type"] = "application/gzip"
            release = partial(_release, drive, opened.close, give_back)
            return Sending(200, headers, tar_pieces(opened, drive.work), release)
        headers["content-type"] = "application/zip"
        pieces = Pieces(zip_pieces(PointTree(opened.held), path, name), opened.close)
        sent = pulled(pieces, drive.work)
        return Sending(200, headers, sent, partial(_release, drive, pieces.close, give_back))
    except BaseException:
        give_back()
        raise


async def content_answer(
    drive: Drive, point: PointRef, path: bytes, request: Request[Any, Any, Any], packed: Packed | None
) -> Response[None]:
    """What lies at a path, to be stored: a file as it is, a folder packed. Raises PathMissing and PathRefused."""
    item = await drive.read(point, PointTree.look, path)
    if item.kind == "folder":
        return await folder_answer(drive, point, path, packed or "tar.gz")
    if packed is not None:
        raise PathRefused("Only a folder is packed.", "Leave `as` out to get the file as it is.")
    return await file_answer(drive, point, path, request)
