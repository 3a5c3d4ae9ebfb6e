"""Holds: nothing at or before the pinned snapshot of a host is removed until somebody lifts it, with a reason."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from litestar import get, post
from litestar.params import JSONBody

from services.api.asked import At, Name, known_host, state_of
from services.api.decide import decide
from services.api.given import TheLive, TheLog, TheSettings, TheWho
from services.api.problems import AlreadyRunning, NotThere
from shared.domain.event import Quality
from shared.domain.events import HoldPlaced, HoldReleased
from shared.domain.host_state import HostState

LONGEST_REASON: Final = 500

Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_REASON, examples=["the disk of nas clicks"])]


class Hold(msgspec.Struct, frozen=True):
    """Whether a host is on hold; nothing at or before `pinned` is removed. `pinned` null: nothing at all."""

    on_hold: bool
    reason: str = ""
    pinned: str | None = None


class HoldBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why, and up to which snapshot: the newest complete one when left out."""

    reason: Reason
    pinned: str | None = None


class ReleaseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why the hold is not needed any more."""

    reason: Reason


ToHold: TypeAlias = JSONBody[HoldBody]
ToRelease: TypeAlias = JSONBody[ReleaseBody]


@get("/api/hosts/{host:str}/hold", summary="Whether it is on hold")
async def hold(live: TheLive, settings: TheSettings, host: Name, at: At = None) -> Hold:
    """The hold of a host."""
    return told_hold(await state_of(live, settings, host, at))


@post("/api/hosts/{host:str}/hold", status_code=201, summary="Put it on hold")
async def place_hold(
    *, live: TheLive, event_log: TheLog, settings: TheSettings, who: TheWho, host: Name, data: ToHold
) -> Hold:
    """From now on nothing at or before the pinned snapshot is removed. 409 when it is on hold already."""
    name = known_host(settings, host)
    return told_hold(await decide(live, event_log, name, lambda state: placed(state, host, data, who.by("api"))))


@post("/api/hosts/{host:str}/hold/release", status_code=200, summary="Lift its hold")
async def release_hold(
    *, live: TheLive, event_log: TheLog, settings: TheSettings, who: TheWho, host: Name, data: ToRelease
) -> Hold:
    """Retention goes on. 404 when the host is not on hold."""
    name = known_host(settings, host)
    return told_hold(
        await decide(live, event_log, name, lambda state: released(state, host, data.reason, who.by("api")))
    )


def told_hold(state: HostState) -> Hold:
    """The hold of a host as it is told."""
    return Hold(bool(state.hold_reason), state.hold_reason, state.pinned)


def placed(state: HostState, host: str, body: HoldBody, by: str) -> HoldPlaced:
    """The hold that somebody wants. Raises AlreadyRunning when there is one, NotThere for an unknown snapshot."""
    if state.hold_reason:
        raise AlreadyRunning(f"{host} is on hold already: {state.hold_reason}", "Lift that hold first.")
    newest = state.newest(Quality.COMPLETE)
    pinned = body.pinned or (newest.name if newest else None)
    if body.pinned is not None and body.pinned not in state.snapshots:
        raise NotThere(f"{host} has no snapshot {body.pinned!r}.", f"GET /api/hosts/{host}/snapshots lists them.")
    return HoldPlaced(reason=body.reason, pinned=pinned, by=by)


def released(state: HostState, host: str, reason: str, by: str) -> HoldReleased:
    """The end of a hold. Raises NotThere when there is none."""
    if not state.hold_reason:
        raise NotThere(f"{host} is not on hold.", "Nothing was changed.")
    return HoldReleased(reason=reason, by=by)


ROUTES: Final = (hold, place_hold, release_hold)
