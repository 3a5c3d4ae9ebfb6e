"""`audit`: prove that the log was not rewritten and that the drive holds what the log says."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

import rich_click as click
from click.exceptions import Exit

from services.cli import session
from services.cli.output import json_option, print_json, say
from shared.adapters.anchors import Anchor, read_anchors
from shared.adapters.postgres import EventLog
from shared.adapters.restore_points import archives, golden_copies
from shared.adapters.store import Store
from shared.config import Settings
from shared.domain.audit import ChainCheck, Finding
from shared.domain.errors import StoreRefused
from shared.domain.events import Kind
from shared.domain.host_state import HostState, point_key
from shared.domain.inventory import points_of
from shared.domain.names import HostName
from shared.domain.projection import State

PAUSES_SECONDS: Final = (0.0, 1.0, 2.0)


@click.command()
@json_option
def audit(*, as_json: bool) -> None:
    """Check the hash chain of the whole log, and the drive against the log. Exit 1 when anything is wrong."""
    settings = session.settings_here()
    findings, notes = session.run(_audit(settings))
    if as_json:
        print_json({"ok": not findings, "findings": findings, "notes": notes})
    else:
        for finding in findings:
            say(f"Position {finding.position}: {finding.sentence}." if finding.position else f"{finding.sentence}.")
        for note in notes:
            say(note)
        say("All is well." if not findings else f"{len(findings)} things are wrong.")
    if findings:
        raise Exit(1)


async def _audit(settings: Settings) -> tuple[list[Finding], list[str]]:
    notes: list[str] = []
    stores = _open_stores(settings, notes)
    try:
        async with session.event_log(settings) as log:
            anchors = [anchor for store in stores for anchor in await asyncio.to_thread(read_anchors, store)]
            chain = await check_chain(log, anchors)
            notes.insert(0, f"{chain.position:,} events, chain head {chain.head.hex()[:16]}.")
            findings = list(chain.findings)
            if findings:
                notes.append("The drive was not compared: what the log says of it cannot be trusted.")
            for store in stores if not findings else ():
                differing, left_behind = await _compare_patiently(log, store, settings)
                findings += differing
                notes.append(f"The drive {store.root} was compared with the log.")
                notes += [
                    f"{store.root / host} was left behind when {host} moved to {kept_on}; nobody removes it by itself."
                    for host, kept_on in left_behind
                ]
    finally:
        for store in stores:
            store.close()
    return findings, notes


def _open_stores(settings: Settings, notes: list[str]) -> list[Store]:
    """Those that are mounted here. What is kept on the others is elsewhere, not lost: it is only not looked at."""
    found = []
    for name, root in settings.stores.items():
        try:
            found.append(Store.open(root, name))
        except StoreRefused as error:
            notes.append(f"The drive was not compared: {error.message}")
    return found


async def check_chain(log: EventLog, drive_anchors: Sequence[Anchor] = ()) -> ChainCheck:
    """Check every link of the hash chain, and what the anchors in the log and on the drive remember of it."""
    chain = ChainCheck()
    anchors = {*(await log.anchors()), *((anchor.position, bytes.fromhex(anchor.hash)) for anchor in drive_anchors)}
    wanted = {position for position, _ in anchors}
    at_anchor: dict[int, bytes] = {}
    async for links in log.links(0, await log.head()):
        at_anchor |= {link.position: link.hash for link in links if link.position in wanted}
        chain.check(links)
    for position, stored_hash in sorted(anchors):
        chain.check_anchor(position, stored_hash, at_anchor.get(position))
    return chain


async def _compare_patiently(
    log: EventLog, store: Store, settings: Settings
) -> tuple[list[Finding], list[tuple[HostName, str]]]:
    """What differs for longer than a run needs between its snapshot and its event; and the hosts that moved away."""
    findings: list[Finding] = []
    left_behind: list[tuple[HostName, str]] = []
    for pause_seconds in PAUSES_SECONDS:
        await asyncio.sleep(pause_seconds)
        state = await session.state_of(log)
        lives_on = {name: host.kept_on or settings.store_of(name) for name, host in state.hosts.items()}
        elsewhere = {name for name, kept_on in lives_on.items() if kept_on != store.identity.name}
        findings = await asyncio.to_thread(compare_with_drive, store, state, elsewhere)
        left_behind = [(host, lives_on[host]) for host in store.hosts() if _moved_away(state, host, elsewhere)]
        if not findings:
            break
    return findings, left_behind


def _moved_away(state: State, host: HostName, elsewhere: Collection[str]) -> bool:
    return host in elsewhere and state.hosts[host].has_points


def compare_with_drive(store: Store, state: State, elsewhere: Collection[str] = ()) -> list[Finding]:
    """Every restore point that only the log or only the drive knows, and every archive that was cut short.

    The hosts `elsewhere` live on other stores: whatever is or is not here says nothing about them.
    """
    findings = []
    on_drive = {host: _found_on_drive(store, host) for host in store.hosts() if host not in elsewhere}
    known_here = {name for name, host in state.hosts.items() if name not in elsewhere and _known_points(host)}
    for name in sorted({*on_drive, *known_here}):
        known = _known_points(state.hosts.get(name, HostState()))
        held, damaged = on_drive.get(HostName(name), (set[str](), list[str]()))
        findings += [
            Finding(0, f"{lost} of {name} is in the log and not on the drive") for lost in sorted(known - held)
        ]
        findings += [Finding(0, f"{new} of {name} is on the drive and not in the log") for new in sorted(held - known)]
        findings += [Finding(0, f"{name}: {damage}") for damage in damaged]
    return findings


def _known_points(host: HostState) -> set[str]:
    return {point.key for point in points_of(host)}


def _found_on_drive(store: Store, host: HostName) -> tuple[set[str], list[str]]:
    """The keys of the restore points that lie on the drive, and what is wrong with any at first sight."""
    with store.existing_folder(host) as folder:
        packed = archives(folder)
        keys = {
            *(point_key(Kind.SNAPSHOT, snapshot.name) for snapshot in folder.snapshots()),
            *(point_key(Kind.ARCHIVE, archive.name) for archive in packed),
            *(point_key(Kind.GOLDEN, copy.name) for copy in golden_copies(folder)),
        }
    return keys, [archive.damage for archive in packed if archive.damage]
