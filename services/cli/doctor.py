"""`doctor`: everything that stands in the way of good backups, worst first."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Final

import rich_click as click
from click.exceptions import Exit
from rich.text import Text

from services.cli import session
from services.cli.output import complain, console, json_option, print_json, say
from services.snapshotter.sandbox import why_not_confined
from services.snapshotter.transfer import find_ability
from shared.adapters import confinement, filesystem
from shared.adapters.store import Store
from shared.config import Settings
from shared.config.condition import condition, detail
from shared.domain.errors import BackupManagerError, HostElsewhere, SettingsRefused, StoreNotMounted, StoreRefused
from shared.domain.host_state import HostState
from shared.domain.names import StoreName
from shared.domain.projection import State
from shared.domain.wording import printable, size

TOOLS: Final = {
    "rsync": "Install the package rsync.",
    "ssh": "Install the package openssh-client.",
    "ssh-keygen": "Install the package openssh-client.",
    "setpriv": "Install the package util-linux.",
    "sort": "Install the package coreutils.",
    "tar": "Install the package tar (GNU tar).",
}
MIN_FREE_PERCENT: Final = 10
GOOD, WARNING, BAD = "ok", "warning", "problem"
STYLES: Final = {GOOD: "green", WARNING: "yellow", BAD: "bold red"}
ORDER: Final = (BAD, WARNING, GOOD)

Finding = tuple[str, str]


@click.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Check the settings, the drive, the tools and the running system. Exit 1 when something must be mended."""
    try:
        settings = session.settings_here()
    except SettingsRefused as error:
        if as_json:
            print_json({"ok": False, "findings": [(BAD, problem) for problem in error.problems]})
        else:
            complain(error)
        raise Exit(1) from error
    findings = sorted(session.run(examine(settings)), key=lambda finding: ORDER.index(finding[0]))
    ok = all(kind != BAD for kind, _ in findings)
    if as_json:
        print_json({"ok": ok, "findings": findings})
    else:
        for kind, sentence in findings:
            console().print(Text(f"{kind:8}", style=STYLES[kind]), Text(printable(sentence)))
        say("Nothing stands in the way." if ok else "Mend the problems above, then run this again.")
    if not ok:
        raise Exit(1)


async def examine(settings: Settings) -> list[Finding]:
    """What was found, each with its weight."""
    findings = [_tool(name, hint) for name, hint in TOOLS.items()]
    findings += _hosts(settings)
    findings += _drives(settings)
    findings += await _receiver(settings)
    findings.append(_services_held_back())
    findings += await _running(settings)
    return findings


def _services_held_back() -> Finding:
    if confinement.version():
        return (GOOD, "The kernel holds the archiver, retention, the restorer and the pages to what they may write.")
    return (WARNING, "This kernel has no Landlock: only the rights of their user hold the services back from writing.")


def _tool(name: str, hint: str) -> Finding:
    return (GOOD, f"{name} is installed.") if shutil.which(name) else (BAD, f"{name} is not installed. {hint}")


def _hosts(settings: Settings) -> list[Finding]:
    if not settings.hosts:
        return [(WARNING, "There are no hosts: add them to HOSTS in .env.")]
    findings = []
    for host in settings.hosts:
        if host.transport == "ssh" and not host.known_hosts_path(settings).exists():
            findings.append(
                (BAD, f"{host.name} has no pinned host key. Run `backup-manager hosts enroll {host.name}`.")
            )
        elif host.transport == "ssh" and not host.key_path(settings).exists():
            findings.append((BAD, f"{host.name} has no key. Run `backup-manager hosts enroll {host.name}`."))
        else:
            findings.append((GOOD, f"{host.name} is enrolled."))
        if host.excludes:
            findings.append((GOOD, f"{host.name}: {len(host.excludes)} exclude patterns keep matching files out."))
    return findings


def _drives(settings: Settings) -> list[Finding]:
    """The drives that are mounted here; where none of several is, that must be mended."""
    findings: list[Finding] = []
    absent: list[StoreRefused] = []
    for name, root in settings.stores.items():
        try:
            findings += _drive(root, name)
        except StoreRefused as error:
            absent.append(error)
    weight = WARNING if findings else BAD
    for refused in absent:
        usual = isinstance(refused, StoreNotMounted)  # another machine may have it; everything else is a mistake
        findings.append((weight if usual else BAD, f"{refused.message} {refused.hint}"))
    return findings


def _drive(root: Path, name: StoreName) -> list[Finding]:
    store = Store.open(root, name)
    usage = os.statvfs(root)
    attributes = filesystem.supports_user_xattrs(store.descriptor)
    store.close()
    findings = [(GOOD, f"{root} is the store {name!r} and can be written.")]
    free = 100 * usage.f_bavail // max(1, usage.f_blocks)
    weight = WARNING if free < MIN_FREE_PERCENT else GOOD
    findings.append((weight, f"{free} % of the drive {name!r} is free ({size(usage.f_bavail * usage.f_frsize)})."))
    if usage.f_files:
        inodes = 100 * usage.f_favail // usage.f_files
        findings.append((WARNING if inodes < MIN_FREE_PERCENT else GOOD, f"{inodes} % of its inodes are free."))
    if not attributes:
        findings.append(
            (WARNING, "The drive's file system keeps no extended attributes or ACLs: they are not backed up.")
        )
    return findings


async def _receiver(settings: Settings) -> list[Finding]:
    findings: list[Finding] = []
    if shutil.which("rsync"):
        ability = await find_ability(attributes=True)
        findings.append((GOOD, f"rsync here is {ability.version}."))
    reason = await why_not_confined()
    if reason:
        findings.append(
            (WARNING, f"The receiver is not confined: {reason} Install bubblewrap; until then links are kept munged.")
        )
    else:
        findings.append((GOOD, "The receiver is confined by bubblewrap."))
    if os.geteuid() != 0:
        findings.append(
            (WARNING, f"Not root on {platform.node()}: files keep their modes and times, not their owners.")
        )
    return findings


async def _running(settings: Settings) -> list[Finding]:
    try:
        async with session.event_log(settings) as log:
            state = await session.state_of(log)
        async with session.bus(settings):
            running = (GOOD, f"The system is running; its log has {state.position:,} events.")
    except BackupManagerError as error:
        return [(WARNING, f"The system is not running: {error.message} {error.hint}")]
    return [running, *_conditions(settings, state)]


def _conditions(settings: Settings, state: State) -> list[Finding]:
    found: list[Finding] = []
    now = session.now()
    for host in settings.hosts:
        known = state.hosts.get(host.name, HostState())
        if known.has_points and known.kept_on not in {"", host.store}:
            elsewhere = HostElsewhere(host.name, known.kept_on, host.store)
            found.append((BAD, f"{elsewhere.message} {elsewhere.hint}"))
        word = condition(settings, host.name, known, now)
        if word not in {"ok", "running"}:
            weight = BAD if word in {"failed", "overdue"} else WARNING
            found.append((weight, f"{host.name} is {word}: {detail(settings, host.name, known, word, now)}"))
    return found
