"""The form for a restore, and how the restores of a host go. Without scripts; only operators."""

from __future__ import annotations

from typing import Any, Final, TypeAlias
from urllib.parse import quote
from uuid import UUID

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath, URLEncodedBody
from litestar.response import Redirect, Template

from services.api.asked import At, Name, known_host, state_of
from services.api.given import TheBus, TheClock, TheLive, TheLog, TheSettings, TheWho
from services.api.pages.about import about
from services.api.routes.restores import OPERATOR, configured_host, newest_first
from services.api.weight import weigh
from shared.domain.errors import RunFailed
from shared.domain.host_state import GoldenState, HostState, SnapshotState
from shared.domain.names import HostName
from shared.domain.restore_request import decode_path, encode_path, wanted_paths, wanted_point
from shared.runtime.restore_key import public_line
from shared.runtime.restores import RestoreWish, ask, call_off, checked


class Filled(msgspec.Struct, frozen=True):
    """The form, as it is sent. `over` and `confirm` only matter for a restore over the original."""

    target: str = "folder"
    folder: str = ""
    path: str = ""
    confirm: str = ""


class Id(msgspec.Struct, frozen=True):
    """Which restore a button is about."""

    restore: UUID


Form: TypeAlias = URLEncodedBody[Filled]
Pressed: TypeAlias = URLEncodedBody[Id]
AnyRequest: TypeAlias = Request[Any, Any, Any]
Point: TypeAlias = FromPath[str]

OVER: Final = "over"


@get(
    ["/restore/{host:str}/{snapshot:str}", "/restore/{host:str}/{snapshot:str}/{rest:path}"],
    include_in_schema=False,
    opt=OPERATOR,
)
async def restore_form(
    *, request: AnyRequest, live: TheLive, settings: TheSettings, clock: TheClock, host: Name, snapshot: Point
) -> Template:
    """Where to, what it will do, how much it is, and the button."""
    configured, now = configured_host(settings, host), clock.now()
    state = live.state.hosts.get(configured.name, HostState())
    point, path = wanted_point(state, snapshot), _path_in(request)
    known = state.points(point.kind)[point.name]
    assert isinstance(known, SnapshotState | GoldenState)  # noqa: S101  # wanted_point finds no archives
    weight = await weigh(settings, configured.name, point, path) if path else None
    context = {
        "host": configured,
        "point": point,
        "known": known,
        "path": encode_path(path) if path else "",
        "weight": weight,
        "folders": settings.restored_below(),
        "key_line": _key_line(settings, configured.name),
    }
    return Template("restore.html", context=about(live, None, now) | context)


@post("/restore/{host:str}/{snapshot:str}", include_in_schema=False, opt=OPERATOR)
async def request_restore(
    *, live: TheLive, settings: TheSettings, event_log: TheLog, who: TheWho, host: Name, snapshot: Point, data: Form
) -> Redirect:
    """Ask for it, then show how it goes."""
    configured = configured_host(settings, host)
    state = live.state.hosts.get(configured.name, HostState())
    over = data.target == OVER
    wish = RestoreWish(
        point=snapshot,
        paths=wanted_paths((data.path,)) if data.path else (),
        target="host" if over else data.target,
        folder=data.folder if data.target == "folder" else "",
        over_original=over,
        confirm=data.confirm.strip() if over else "",
    )
    await ask(event_log, configured, state, checked(wish, configured, state, settings), who.by("dashboard"))
    return Redirect(f"/restores/{quote(configured.name)}", status_code=303)


@get("/restores/{host:str}", include_in_schema=False, opt=OPERATOR)
async def restores_page(live: TheLive, settings: TheSettings, clock: TheClock, host: Name, at: At = None) -> Template:
    """The restores of a host, newest first."""
    name, now = known_host(settings, host), at or clock.now()
    found = newest_first(await state_of(live, settings, host, at))
    return Template("restores.html", context=about(live, at, now) | {"host": name, "restores": found})


@post("/restores/{host:str}/cancel", include_in_schema=False, opt=OPERATOR)
async def cancel_restore(
    *, settings: TheSettings, event_log: TheLog, bus: TheBus, who: TheWho, host: Name, data: Pressed
) -> Redirect:
    """Call a restore off, then show the list."""
    configured = configured_host(settings, host)
    await call_off(event_log, bus, configured, data.restore, who.by("dashboard"))
    return Redirect(f"/restores/{quote(configured.name)}", status_code=303)


def _path_in(request: AnyRequest) -> bytes:
    """The path behind host and snapshot, as the bytes it was sent as: a decoded URL would lose those that are no text.

    Raises RestoreRefused.
    """
    raw = bytes(request.scope.get("raw_path") or b"").partition(b"?")[0]
    rest = raw.split(b"/", 4)[4:]
    return decode_path(rest[0].decode("ascii", "replace")) if rest and rest[0].strip(b"/") else b""


def _key_line(settings: TheSettings, name: HostName) -> str:
    """The line that the host needs for a restore to it; empty when no key was made yet."""
    host = settings.host(name)
    try:
        return public_line(host, settings) if host is not None and host.transport == "ssh" else ""
    except (OSError, RunFailed):
        return ""


PAGES: Final = (restore_form, request_restore, restores_page, cancel_restore)
