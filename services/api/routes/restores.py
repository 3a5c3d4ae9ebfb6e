"""Restores: asking for one, how they go, and calling one off. Only operators: what is backed up is private."""

from __future__ import annotations

from typing import Final, TypeAlias
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.params import FromPath, JSONBody

from services.api.asked import At, Name, known_host, state_of
from services.api.given import TheBus, TheLive, TheLog, TheSettings, TheWho
from services.api.problems import NotThere
from services.api.routes.wishes import Done
from shared.config import HostSettings, Settings
from shared.domain.host_state import HostState
from shared.domain.restore_state import RestoreState
from shared.runtime.restores import RestoreWish, ask, call_off, checked

Id: TypeAlias = FromPath[UUID]
Wished: TypeAlias = JSONBody[RestoreWish]

OPERATOR: Final = {"role": "operator"}


class Asked(msgspec.Struct, frozen=True):
    """A restore that waits; `restore` is its id."""

    restore: UUID
    detail: str


@post("/api/hosts/{host:str}/restores", status_code=202, opt=OPERATOR, summary="Ask for a restore")
async def request_restore(
    *, live: TheLive, settings: TheSettings, event_log: TheLog, who: TheWho, host: Name, data: Wished
) -> Asked:
    """Restore a snapshot or golden copy (`point`: its name, or `latest`), or `paths` of it, percent-encoded.

    `target` is `folder`, below `folder` on the server, or `host`: beside the original, and over it only with
    `over_original` and the host's name as `confirm`.
    """
    configured = configured_host(settings, host)
    state = live.state.hosts.get(configured.name, HostState())
    wish = checked(data, configured, state, settings)
    return Asked(await ask(event_log, configured, state, wish, who.by("api")), in_a_sentence(configured, wish))


@get("/api/hosts/{host:str}/restores", opt=OPERATOR, summary="Its restores, newest first")
async def restores(live: TheLive, settings: TheSettings, host: Name, at: At = None) -> list[RestoreState]:
    """The newest restores of a host: those that wait, run and ended."""
    return newest_first(await state_of(live, settings, host, at))


@get("/api/hosts/{host:str}/restores/{restore:uuid}", opt=OPERATOR, summary="One restore")
async def one_restore(live: TheLive, settings: TheSettings, host: Name, restore: Id, at: At = None) -> RestoreState:
    """How a restore goes."""
    found = (await state_of(live, settings, host, at)).restores.get(str(restore))
    if found is None:
        raise NotThere(f"There is no restore {restore} of {host}.", f"GET /api/hosts/{host}/restores lists them.")
    return found


@post(
    "/api/hosts/{host:str}/restores/{restore:uuid}/cancel", status_code=202, opt=OPERATOR, summary="Call a restore off"
)
async def cancel_restore(
    *, settings: TheSettings, event_log: TheLog, bus: TheBus, who: TheWho, host: Name, restore: Id
) -> Done:
    """Call one restore off; what it has written stays and is named. 409 when it has ended."""
    await call_off(event_log, bus, configured_host(settings, host), restore, who.by("api"))
    return Done(f"The restore {restore} is called off.")


def configured_host(settings: Settings, name: str) -> HostSettings:
    """The settings of a host. Raises NotThere."""
    host = settings.host(known_host(settings, name))
    assert host is not None  # noqa: S101  # known_host has found it
    return host


def newest_first(state: HostState) -> list[RestoreState]:
    """The restores of a host."""
    return sorted(state.restores.values(), key=lambda one: one.restore.int, reverse=True)


def in_a_sentence(host: HostSettings, wish: RestoreWish) -> str:
    """What a wish will do."""
    what = ", ".join(wish.paths[:3]) + (" and more" if len(wish.paths) > 3 else "") or "everything"
    source = f"{what} of {host.name} as of {wish.point.partition('/')[2] or wish.point}"
    if wish.target == "folder":
        return f"{source} comes into a fresh directory below {wish.folder} on the server."
    if wish.over_original:
        return f"{source} goes over the original on {host.name}; files that it replaces are kept aside."
    return f"{source} comes into a fresh directory beside the original on {host.name}."


ROUTES: Final = (request_restore, restores, one_restore, cancel_restore)
