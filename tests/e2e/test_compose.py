"""The stack of compose.yaml: hosts are backed up while its containers are killed at random, and nothing is lost.

COMPOSE_SECONDS says for how long (30; `make e2e` takes 120), COMPOSE_SEED repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from services.cli.demo_change import change_home
from services.cli.demo_home import build_home
from tests.support.containers import Stack, stack, why_not
from tests.support.trees import Tree, differences, snapshot_of

HOSTS: Final = ("web", "mail", "nas", "db")
KILLED: Final = ("nats", "postgres", "scheduler", "snapshotter", "archiver", "retention", "restorer", "api")
FILES: Final = 300


def excluded(path: bytes) -> bool:
    return b"/.cache" in path


def of_type(events: list[dict[str, Any]], kind: str, host: str) -> list[dict[str, Any]]:
    return [one["event"] for one in events if one["event"]["type"] == kind and one["stream"] == f"host-{host}"]


@pytest.fixture
async def running(place: Path) -> AsyncIterator[Stack]:
    reason = await why_not()
    if reason:
        pytest.skip(reason)
    async with stack(place, HOSTS) as made:
        for number, host in enumerate(HOSTS):
            build_home(made.source(host), files=FILES, seed=number)
        await made.up(snapshotters=1)
        await made.log_in()
        yield made


@pytest.mark.campaign
@pytest.mark.timeout(1500)
async def test_nothing_is_lost_while_containers_are_killed_at_random(running: Stack) -> None:
    seed = int(os.environ.get("COMPOSE_SEED") or secrets.randbits(32))
    print(f"COMPOSE_SEED={seed}")  # noqa: T201  # shown when it fails
    await completed_again(running)
    await running.up(snapshotters=4)
    assert len(await running.containers("snapshotter")) == 4
    await assert_api_only_reads(running)
    kept = {path: snapshot_of(path) for host in HOSTS for path in running.snapshots(host)}

    rng = random.Random(seed)  # noqa: S311  # nothing secret
    killed = await kill_at_random(running, rng, float(os.environ.get("COMPOSE_SECONDS") or 30))

    print(f"killed: {dict(Counter(killed))}")  # noqa: T201
    await completed_again(running)
    events = await told_and_quiet(running)
    assert_nothing_lost(running, events, kept)
    assert_one_name(events)
    for host in HOSTS:
        await assert_restored(running, host)
    audit = await running.cli("audit")
    assert "All is well." in audit.stdout.decode()


async def kill_at_random(running: Stack, rng: random.Random, seconds: float) -> list[str]:
    """Kill containers, change homes and ask for backups; the services that were hit, in their order."""
    killed: list[str] = []
    until = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < until:
        service = rng.choice(KILLED)
        for container in rng.sample(found := await running.containers(service), min(1, len(found))):
            await running.kill(container)
            killed.append(service)
        host = rng.choice(HOSTS)
        change_home(running.source(host), seed=10 + len(killed))
        if service != "nats":
            await running.publish(f"backup.trigger.{host}")
        await asyncio.sleep(rng.uniform(0.5, 3.0))
    return killed


async def assert_api_only_reads(running: Stack) -> None:
    """The mount itself forbids the api to write to the drive, and to run or become anything through it."""
    (api,) = await running.containers("api")
    mounts = (await running.execute(api, "cat", "/proc/mounts")).stdout.decode().splitlines()
    (options,) = [line.split()[3].split(",") for line in mounts if line.split()[1] == "/backup"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options)
    touched = await running.execute(api, "touch", "/backup/touched")
    assert (touched.returncode, "Read-only file system" in touched.said) == (1, True)


async def completed_again(running: Stack) -> list[dict[str, Any]]:
    """Ask for all hosts until each has a snapshot that was asked for just now; then all events."""
    events = await running.wait_for(bool, what="Any event")
    position = events[-1]["position"]
    waiting = set(HOSTS)
    while waiting:
        for host in sorted(waiting):
            await running.publish(f"backup.trigger.{host}")
        asked = set(waiting)

        def answered(events: list[dict[str, Any]]) -> bool:
            return all(answer(events, host, position) for host in asked)  # noqa: B023  # used before it changes

        events = await running.wait_for(answered, what=f"A snapshot of {sorted(asked)}")
        waiting = {host for host in waiting if answer(events, host, position) != "SnapshotCompleted"}
        position = events[-1]["position"]
    return events


def answer(events: list[dict[str, Any]], host: str, after: int) -> str:
    """How the newest wish for a host ended: completed, refused because the one before is not settled, or not yet."""
    kinds = {"SnapshotCompleted", "RequestRefused"}
    found = [one["event"]["type"] for one in events if one["position"] > after and one["stream"] == f"host-{host}"]
    return next((kind for kind in reversed(found) if kind in kinds), "")


def completed(events: list[dict[str, Any]], host: str) -> list[str]:
    """The snapshots of a host that the log calls complete."""
    return sorted(event["snapshot"] for event in of_type(events, "SnapshotCompleted", host))


def on_drive(running: Stack, host: str) -> list[str]:
    """The snapshots of a host that are there; one under way counts as what nobody calls complete."""
    partial = (running.place / "drive" / host).glob(".partial-*")
    return [path.name for path in (*running.snapshots(host), *partial)]


async def told_and_quiet(running: Stack) -> list[dict[str, Any]]:
    """All events, once log and drive know the same: a wish or a slot of the hour may have been under way."""
    return await running.wait_for(
        lambda events: all(completed(events, host) == on_drive(running, host) for host in HOSTS),
        what="That log and drive know the same snapshots",
    )


def assert_nothing_lost(running: Stack, events: list[dict[str, Any]], kept: dict[Path, Tree]) -> None:
    """Every snapshot that was complete before is there, as it was; each slot was done once."""
    for path, tree in kept.items():
        assert differences(tree, snapshot_of(path)) == []
        assert path.name in completed(events, path.parent.parent.name)
    for host in HOSTS:
        names = completed(events, host)
        assert len(set(names)) == len(names)


def assert_one_name(events: list[dict[str, Any]]) -> None:
    """The snapshotters are all called the same, so that all of this was also tried with one identity for several."""
    started = [event for host in HOSTS for event in of_type(events, "SnapshotStarted", host)]
    assert {event["worker"].partition(":")[0] for event in started} == {"twin"}


async def assert_restored(running: Stack, host: str) -> None:
    """The newest snapshot comes back as the host has it, owners and all."""
    await running.cli("restore", host, "latest", "--to", "/restored", "--wait")
    (folder,) = (running.place / "restored").iterdir()
    expected = snapshot_of(running.source(host) / "home", exclude=excluded)
    assert differences(expected, snapshot_of(folder / "home")) == []
    folder.rename(running.place / f"restored-{host}")
