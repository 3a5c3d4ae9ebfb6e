"""`hosts`: list them, enroll one, try one."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
from pathlib import Path

import rich_click as click
from click.exceptions import Exit

from services.cli import session
from services.cli.output import json_option, print_json, say, table
from services.snapshotter.dry_run import try_host
from services.snapshotter.transfer import find_ability
from shared.adapters import process
from shared.config import HostSettings, Settings
from shared.domain.errors import BackupManagerError
from shared.domain.events import HoldReleased, NewEvent
from shared.domain.ids import derived_id
from shared.domain.names import HostName, host_stream, parse_host_name

SCAN_TIMEOUT_SECONDS = 20.0


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def hosts(context: click.Context, *, as_json: bool) -> None:
    """The machines that are backed up."""
    if context.invoked_subcommand is not None:
        return
    settings = session.settings_here()
    if as_json:
        print_json([_described(host, settings) for host in settings.hosts])
        return
    rows = [
        [
            host.name,
            _place(host),
            " ".join(host.paths),
            f"every {host.snapshot_interval_hours} h",
            _pinned(host, settings),
        ]
        for host in settings.hosts
    ]
    table(["HOST", "WHERE", "PATHS", "SNAPSHOTS", "HOST KEY"], rows, empty="No hosts yet. Add them to HOSTS in .env.")


def _described(host: HostSettings, settings: Settings) -> dict[str, object]:
    return {
        "host": host.name,
        "transport": host.transport,
        "address": host.address,
        "user": host.user,
        "port": host.port,
        "paths": host.paths,
        "snapshot_interval_hours": host.snapshot_interval_hours,
        "host_key_pinned": host.known_hosts_path(settings).exists(),
    }


def _place(host: HostSettings) -> str:
    return "this machine" if host.transport == "local" else f"{host.user}@{host.address}:{host.port}"


def _pinned(host: HostSettings, settings: Settings) -> str:
    if host.transport == "local":
        return "not needed"
    return "pinned" if host.known_hosts_path(settings).exists() else f"missing: hosts enroll {host.name}"


def _host(settings: Settings, name: str) -> HostSettings:
    host = settings.host(parse_host_name(name))
    if host is None:
        raise click.UsageError(f"There is no host {name!r} in the settings. `backup-manager hosts` lists them.")
    return host


@hosts.command("test")
@click.argument("host")
@json_option
def test_host(*, host: str, as_json: bool) -> None:
    """Try everything a snapshot of HOST needs, without writing anything."""
    settings = session.settings_here()
    ok, sentences = session.run(_test(_host(settings, host), settings))
    if as_json:
        print_json({"host": host, "ok": ok, "findings": sentences})
    else:
        for sentence in sentences:
            say(f"  {sentence}")
        say(f"{host} can be backed up." if ok else f"{host} cannot be backed up yet: see the first lines.")
    if not ok:
        raise Exit(1)


async def _test(host: HostSettings, settings: Settings) -> tuple[bool, list[str]]:
    used_bytes = await _used_bytes(host, settings) if host.quota_bytes is not None else None
    return await try_host(host, settings, await find_ability(attributes=True), used_bytes=used_bytes)


async def _used_bytes(host: HostSettings, settings: Settings) -> int | None:
    """What the host takes of the drive; None when the log cannot tell now: a host is tried without it, too."""
    try:
        async with session.event_log(settings) as log:
            state = (await session.state_of(log)).hosts.get(host.name)
    except BackupManagerError:
        return None
    return state.used_bytes() if state else 0


@hosts.command()
@click.argument("host")
@click.option("--reason", required=True, help="Why all is well; kept in the log.")
def release(*, host: str, reason: str) -> None:
    """Lift the hold of HOST, placed when its source looked empty or shrunken."""
    session.run(_release(session.settings_here(), parse_host_name(host), reason))


async def _release(settings: Settings, host: HostName, reason: str) -> None:
    async with session.event_log(settings) as log:
        state = (await session.state_of(log)).hosts.get(host)
        if state is None or not state.hold_reason:
            raise BackupManagerError(f"{host} is not on hold.", "Nothing was changed.")
        fact = HoldReleased(reason=reason, by=f"{getpass.getuser()}@{os.uname().nodename}")
        identity = derived_id("released", host, str(state.version))
        await log.append(host_stream(host), state.version, [NewEvent(identity, fact)])
    say(f"The hold of {host} is lifted.")


@hosts.command()
@click.argument("host")
@click.option("--fingerprint", help="Pin the host key only if it has this fingerprint (SHA256:...); asks nothing.")
def enroll(*, host: str, fingerprint: str | None) -> None:
    """Make a key for HOST, pin its host key, and show the line for its authorized_keys."""
    settings = session.settings_here()
    configured = _host(settings, host)
    if configured.transport == "local":
        raise click.UsageError(f"{host} is this machine: there is nothing to enroll.")
    session.run(_enroll(configured, settings, fingerprint))


async def _enroll(host: HostSettings, settings: Settings, fingerprint: str | None) -> None:
    key = host.key_path(settings)
    await asyncio.to_thread(_make_private_folder, key.parent)
    if not await asyncio.to_thread(key.exists):
        await _must(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"backup-manager-{host.name}", "-f", str(key)]
        )
    line, shown = await _scan(host, key.parent)
    if fingerprint is not None and fingerprint not in shown.split():
        raise BackupManagerError(
            f"{host.name} shows the host key {shown.strip()}, not {fingerprint}.", "Nothing was pinned."
        )
    pinned = host.known_hosts_path(settings)
    if fingerprint is None and not await asyncio.to_thread(_confirmed, host, pinned, line, shown.strip()):
        raise BackupManagerError("Nothing was pinned.", "Compare again, or give --fingerprint SHA256:...")
    await asyncio.to_thread(pinned.write_text, line, encoding="ascii")
    public = await asyncio.to_thread(Path(f"{key}.pub").read_text, encoding="ascii")
    where = "/root" if host.user == "root" else f"/home/{host.user}"
    say(f"Pinned. Now put this line into {where}/.ssh/authorized_keys on {host.name}:\n")
    say(f'restrict,command="rrsync -ro /" {public.strip()}\n')
    say(f"Then try it: backup-manager hosts test {host.name}")


def _confirmed(host: HostSettings, pinned: Path, line: str, shown: str) -> bool:
    """Whether a person says that this is the host's key; a key that changed is shown beside the old one."""
    before = pinned.read_text(encoding="ascii") if pinned.exists() else ""
    if line in before.splitlines(keepends=True):
        say(f"{host.name} shows the host key that is pinned already: {shown}")
        return True
    if before:
        say(f"WARNING: {host.name} shows ANOTHER host key than the one that is pinned:\n  {before.strip()}")
        say("If the host was not reinstalled, somebody may be in between: then answer no.")
    say(f"{host.name} shows this host key:\n  {shown}")
    say("On the host, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows the right one.")
    try:
        return click.confirm("Is it the right one?", default=False)
    except click.Abort:
        return False


def _make_private_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


async def _scan(host: HostSettings, folder: Path) -> tuple[str, str]:
    """The host's ed25519 key as a known_hosts line under the host's name, and its fingerprint in words."""
    scanned = await process.run(
        ["ssh-keyscan", "-T", "10", "-t", "ed25519", "-p", str(host.port), "--", host.address],
        timeout_seconds=SCAN_TIMEOUT_SECONDS,
    )
    keys = [line.split()[1:3] for line in scanned.stdout.decode().splitlines() if not line.startswith("#")]
    if not keys:
        raise BackupManagerError(
            f"{host.name} ({host.address}:{host.port}) shows no ed25519 host key.", "Is it online?"
        )
    line = f"{host.name} {' '.join(keys[0])}\n"
    candidate = folder / f".scanned-{os.getpid()}"
    await asyncio.to_thread(candidate.write_text, line, encoding="ascii")
    try:
        shown = await _must(["ssh-keygen", "-l", "-f", str(candidate)])
    finally:
        await asyncio.to_thread(candidate.unlink)
    return line, shown.stdout.decode()


async def _must(argv: list[str]) -> process.Finished:
    done = await process.run(argv, timeout_seconds=SCAN_TIMEOUT_SECONDS)
    if done.returncode != 0:
        raise BackupManagerError(f"{shutil.which(argv[0]) or argv[0]} failed: {done.said[:300]}")
    return done
