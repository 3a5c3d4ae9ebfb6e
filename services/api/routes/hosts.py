"""Hosts, their restore points, and what is planned for them."""

from __future__ import annotations

from typing import Final

import msgspec
from litestar import get

from services.api.asked import At, Name, state_of
from services.api.given import TheClock, TheLive, TheSettings
from services.api.guard import NARROWED
from services.api.status import HostStatus, host_status
from shared.domain.host_state import ArchiveState, GoldenState, HostState, SnapshotState
from shared.domain.inventory import facts_of_log, hold_of
from shared.domain.retention import RetentionPlan, plan


@get("/api/hosts", summary="All hosts", opt={NARROWED: True})
async def hosts(live: TheLive, settings: TheSettings, at: At = None) -> dict[str, HostState]:
    """Everything that is known of every host."""
    state = await live.as_of(at)
    return {host.name: _public(state.hosts.get(host.name, HostState())) for host in settings.hosts}


def _public(host: HostState) -> HostState:
    """Without the restores: they name files, which not everybody may see who may see that all is well."""
    return msgspec.structs.replace(host, restores={})


@get("/api/hosts/{host:str}", summary="One host")
async def one_host(live: TheLive, settings: TheSettings, host: Name, at: At = None) -> HostStatus:
    """The status of one host."""
    return host_status(await state_of(live, settings, host, at))


@get("/api/hosts/{host:str}/snapshots", summary="Its snapshots, oldest first")
async def snapshots(live: TheLive, settings: TheSettings, host: Name, at: At = None) -> list[SnapshotState]:
    """The snapshots of a host."""
    found = (await state_of(live, settings, host, at)).snapshots
    return [found[name] for name in sorted(found)]


@get("/api/hosts/{host:str}/archives", summary="Its archives, oldest first")
async def archives(live: TheLive, settings: TheSettings, host: Name, at: At = None) -> list[ArchiveState]:
    """The archives of a host."""
    return sorted((await state_of(live, settings, host, at)).archives.values(), key=lambda archive: archive.slot)


@get("/api/hosts/{host:str}/golden", summary="Its golden copies, oldest first")
async def golden(live: TheLive, settings: TheSettings, host: Name, at: At = None) -> list[GoldenState]:
    """The golden copies of a host."""
    found = (await state_of(live, settings, host, at)).golden
    return [found[name] for name in sorted(found)]


@get("/api/hosts/{host:str}/plan", summary="What would be removed, and why")
async def host_plan(live: TheLive, settings: TheSettings, clock: TheClock, host: Name, at: At = None) -> RetentionPlan:
    """The retention plan by the log alone: the drive may know better what is in use."""
    state, now = await state_of(live, settings, host, at), at or clock.now()
    return plan(facts_of_log(state, now), settings.policy(), now, hold_of(state))


ROUTES: Final = (hosts, one_host, snapshots, archives, golden, host_plan)
