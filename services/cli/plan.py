"""`plan`: what the retention would remove and why, for any policy and any moment; and the confirmation of it."""

from __future__ import annotations

import asyncio
import getpass
import os
import tomllib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import rich_click as click
from rich.text import Text

from services.cli import session
from services.cli.output import Moment, json_option, print_json, say, table
from services.retention.facts import facts_of, look_at_drive
from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.config import Settings
from shared.config.problems import Unallowed
from shared.config.rules import time_zone
from shared.domain.errors import StoreRefused
from shared.domain.events import NewEvent, PlanConfirmed
from shared.domain.host_state import HostState
from shared.domain.ids import derived_id
from shared.domain.inventory import facts_of_log, hold_of, policy_changed_at
from shared.domain.names import SETTINGS_STREAM, HostName, StoreName, host_stream, parse_host_name
from shared.domain.policy import Policy
from shared.domain.restore_points import Facts
from shared.domain.retention import RetentionPlan
from shared.domain.retention import plan as plan_of
from shared.domain.wording import ago

MOMENT: Final = Moment(session.now)
POLICY_KEYS: Final = ", ".join(Policy.__struct_fields__)


@click.command()
@click.argument("host")
@click.option("--policy", "policy_file", type=click.Path(path_type=Path), help="A TOML file with another policy.")
@click.option("--at", type=MOMENT, help="The moment to plan for, past or future: what would be removed then.")
@click.option("--all", "show_all", is_flag=True, help="Also list what is kept, with every reason.")
@click.option("--confirm", is_flag=True, help="Agree to this plan: its removals may be carried out within a day.")
@click.option("--yes", is_flag=True, help="Confirm without being asked.")
@json_option
def plan(
    *,
    host: str,
    policy_file: Path | None,
    at: datetime | None,
    show_all: bool,
    confirm: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """What the retention would remove of HOST, and why. Nothing is removed by this command."""
    if confirm and (policy_file is not None or at is not None):
        raise click.UsageError("Only the plan of now, under the policy in force, can be confirmed.")
    settings = session.settings_here()
    name = parse_host_name(host)
    policy = _policy_of_file(policy_file) if policy_file else settings.policy()
    made, state = session.run(_plan(settings, name, policy, at))
    if as_json:
        print_json(made)
    else:
        _show(made, at or session.now(), show_all=show_all)
    if confirm and made.removals and (yes or _agreed(made)):
        session.run(_confirm(settings, name, made, state))


async def _plan(
    settings: Settings, host: HostName, policy: Policy, at: datetime | None
) -> tuple[RetentionPlan, HostState]:
    now = session.now()
    async with session.event_log(settings) as log:
        state = (await session.state_of(log, None if at is None else min(at, now))).hosts.get(host)
        if state is None:
            raise click.UsageError(f"Nothing is known of {host!r}. `backup-manager hosts` lists the hosts.")
        facts = facts_of_log(state, at) if at is not None else await _facts_of_now(settings, host, state, log, now)
    if at is not None:  # the clock of another moment is not in doubt: it is a question
        facts = msgspec.structs.replace(facts, clock_doubt="")
    return plan_of(facts, policy, at or now, hold_of(state)), state


async def _facts_of_now(settings: Settings, host: HostName, state: HostState, log: EventLog, now: datetime) -> Facts:
    """What the log and, where it is mounted, the drive say."""
    changed_at = policy_changed_at(await log.read_stream(SETTINGS_STREAM), settings.described(), now)
    kept_on = StoreName(state.kept_on or settings.store_of(host))
    try:
        store = Store.open_to_read(settings.root_of(kept_on), kept_on)
    except StoreRefused as error:
        say(f"By the log alone: {error.message}")
        return msgspec.structs.replace(facts_of_log(state, now), policy_changed_at=changed_at)
    try:
        with store.existing_folder(host) as folder:
            drive = await asyncio.to_thread(look_at_drive, folder, finish_moves=False)
    finally:
        store.close()
    return facts_of(state, drive, changed_at, now)


def _policy_of_file(path: Path) -> Policy:
    """The policy of a TOML file; what it leaves out has its default."""
    try:
        policy = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Policy)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{path} is not TOML: {error}.") from error
    except msgspec.ValidationError as error:
        raise click.UsageError(f"{path}: {error}. Allowed are {POLICY_KEYS}.") from error
    try:
        time_zone(policy.time_zone)
    except Unallowed as error:
        raise click.UsageError(f"{path}: time_zone is {policy.time_zone!r}, but must be {error}.") from error
    wrong = [key for key, value in msgspec.structs.asdict(policy).items() if isinstance(value, int) and value < 1]
    if wrong:
        raise click.UsageError(f"{path}: {wrong[0]} is {getattr(policy, wrong[0])}, but must be at least 1.")
    return policy


def _show(made: RetentionPlan, now: datetime, *, show_all: bool) -> None:
    removals, kept = made.removals, len(made.verdicts) - len(made.removals)
    for sentence in made.refused:
        say(f"NOTHING WOULD BE REMOVED: {sentence}")
    shown = made.verdicts if show_all else removals
    rows: list[list[str | Text]] = [
        [
            Text("keep" if verdict.keep else "REMOVE", style="" if verdict.keep else "bold red"),
            verdict.point.key,
            ago(verdict.point.slot, now),
            verdict.tier,
            "; ".join(verdict.reasons),
            ", ".join(verdict.covered_by[:2]),
        ]
        for verdict in shown
    ]
    table(["", "RESTORE POINT", "AGE", "TIER", "WHY", "STILL COVERED BY"], rows, empty="Nothing is to be removed.")
    say(f"{kept:,} kept, {len(removals):,} to be removed, under policy {made.policy}.")
    if made.refused and removals:
        say("If that is right: the same command with --confirm lets the removals of this plan happen within a day.")


def _agreed(made: RetentionPlan) -> bool:
    try:
        return click.confirm(f"Shall these {len(made.removals):,} restore points be removed?", default=False)
    except click.Abort:
        return False


async def _confirm(settings: Settings, host: HostName, made: RetentionPlan, state: HostState) -> None:
    points = tuple(verdict.point.key for verdict in made.removals)
    fact = PlanConfirmed(points=points, by=f"{getpass.getuser()}@{os.uname().nodename}")
    identity = derived_id("plan-confirmed", host, str(state.version), *points)
    async with session.event_log(settings) as log:
        await log.append(host_stream(host), None, [NewEvent(identity, fact)])
    hours = timedelta(hours=24)
    say(f"Confirmed. The next retention run within {hours.total_seconds() / 3600:.0f} h removes them.")
    say(f"`backup-manager trigger {host} --job retention` starts one now.")
