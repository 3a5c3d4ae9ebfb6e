"""How runs end and what a person is told about it: hosts that are off, changed, or lie; and the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from nats.js.errors import APIError

from services.embedded.sshd import make_key
from shared.adapters import process
from shared.adapters.clock import SystemClock
from shared.domain.events import (
    AnyEvent,
    DryRunCompleted,
    Event,
    HostFoundOffline,
    MessageRejected,
    Recorded,
    RequestRefused,
    RetentionCompleted,
    SnapshotCompleted,
    SnapshotFailed,
    SnapshotStarted,
)
from shared.domain.writers import Service
from tests.support.backups import files_under
from tests.support.installation import Installation, installation, of_type
from tests.support.trees import differences, snapshot_of

Fact = TypeVar("Fact", bound=Event)

EVERY_DAY = "SNAPSHOT_INTERVAL_HOURS=24\nTAR_INTERVAL_HOURS=24\n"
"""So that no slot begins while a test looks, whatever the time is."""


@asynccontextmanager
async def running(place: Path, *hosts: str, env: str = EVERY_DAY) -> AsyncIterator[Installation]:
    """A running system whose hosts have had their first snapshot, archive and retention."""
    async with installation(place, hosts, env=env) as system:
        make_homes(system)
        await system.start()
        await system.wait_for(
            lambda events: len(of_type(events, RetentionCompleted)) == len(hosts), what="The first run of every job"
        )
        yield system


def make_homes(system: Installation) -> None:
    for host in system.hosts:
        documents = system.source(host) / "home/alice/Documents"
        documents.mkdir(parents=True)
        for number in range(3):
            (documents / f"letter-{number}").write_text(f"Dear {host}, this is letter {number}.")


async def trigger(system: Installation, host: str) -> None:
    """Wish for a run until it is granted: a tick that is worked off but not settled yet refuses the next."""
    while True:
        await system.next_second(host)
        before = await system.events(host)
        await system.publish(f"backup.trigger.{host}")
        events = await system.wait_for(
            lambda events: any(more(events, before, kind, host) for kind in (SnapshotStarted, RequestRefused)),  # noqa: B023  # used before it changes
            what=f"An answer to the wish for {host}",
        )
        if not more(events, before, RequestRefused, host):
            return


def more(events: list[Recorded], before: list[Recorded], kind: type[AnyEvent], host: str) -> bool:
    """Whether there are more events of a type than before."""
    return len(of_type(events, kind, host)) > len(of_type(before, kind, host))


async def ask(system: Installation, *words: str) -> process.Finished:
    """`trigger --wait` for one host, the last word, until it is granted."""
    while True:
        await system.next_second(words[-1])
        before = await system.events(words[-1])
        done = await system.cli("trigger", "--wait", *words, check=False)
        if not more(await system.events(words[-1]), before, RequestRefused, words[-1]):
            return done


async def put(system: Installation, subject: str, body: bytes) -> None:
    """Put a message on the bus as a client that is not ours; while another is pending there, the bus refuses it."""
    client = await system.foreign_client(Service.SCHEDULER if subject.startswith("tick.") else Service.OPERATOR)
    try:
        async with asyncio.timeout(20):
            while True:
                with suppress(APIError):
                    await client.jetstream().publish(subject, body)
                    return
                await asyncio.sleep(0.01)
    finally:
        await client.close()


def facts(events: list[Recorded], kind: type[Fact]) -> list[Fact]:
    """The facts of one type, in order."""
    return [recorded.event for recorded in events if isinstance(recorded.event, kind)]


async def test_a_host_that_is_off_is_no_failure_and_is_backed_up_when_it_returns(place: Path) -> None:
    async with installation(place, ["web"], env=EVERY_DAY) as system:
        make_homes(system)
        await system.sshd.stop()
        await system.start()
        await system.wait_for(lambda events: len(of_type(events, HostFoundOffline)) == 1, what="The host found offline")
        journal = place / "services.log"
        async with asyncio.timeout(60):
            while journal.read_text().count("Trying again") < 3:  # noqa: ASYNC110  # it is said in the journal only
                await asyncio.sleep(0.05)
        shown = await system.cli("status")
        assert row(shown, "web")[1] == "offline"
        assert "Connection refused" in shown.stdout.decode()
        waited = await system.cli("trigger", "web", "--wait", check=False)
        assert waited.returncode == 1
        assert "is offline" in waited.stdout.decode()  # tried at once, not when the next try would have come

        await system.sshd.start()
        events = await system.wait_for(lambda events: len(of_type(events, SnapshotCompleted)) == 1, what="Its snapshot")
        offline = facts(events, HostFoundOffline)
        (done,) = facts(events, SnapshotCompleted)
        # Once for each slot, however often it was tried: the one that was due, and the one that was asked for.
        assert len({found.slot for found in offline}) == len(offline) == 2
        assert done.slot == offline[1].slot
        assert facts(events, SnapshotFailed) == []
        assert [started.attempt for started in facts(events, SnapshotStarted)] == [1]
        assert row(await system.cli("status"), "web")[1] == "ok"


async def test_a_changed_host_key_fails_that_host_only_and_touches_nothing(place: Path) -> None:
    async with running(place, "web", "db") as system:
        kept = {host: snapshot_of(system.folder(host) / "hourly") for host in ("web", "db")}
        pinned = (place / "known_hosts").read_text()
        await make_key(place / "another", "another machine")
        other_key = (place / "another.pub").read_text().split()[1]
        lines = [f"web ssh-ed25519 {other_key}" if line.startswith("web") else line for line in pinned.splitlines()]
        (place / "known_hosts").write_text("\n".join(lines) + "\n")
        (system.source("web") / "home/alice/new").write_text("new")

        await trigger(system, "web")
        events = await system.wait_for(lambda events: len(of_type(events, SnapshotFailed)) == 1, what="The failure")
        (failed,) = facts(events, SnapshotFailed)
        assert failed.code == "host_key"
        assert failed.final
        assert "hosts enroll web" in failed.hint
        assert differences(kept["web"], snapshot_of(system.folder("web") / "hourly")) == []
        assert list(system.folder("web").glob(".partial-*")) == []
        shown = await system.cli("status")
        assert row(shown, "web")[1] == "failed"
        assert row(shown, "db")[1] == "ok"
        assert shown.stdout.decode().index("web") < shown.stdout.decode().index("db")  # the worst first
        assert (await system.cli("hosts", "test", "web", check=False)).returncode == 1
        waited = await ask(system, "web")
        assert waited.returncode == 1
        assert "another host key than the pinned one" in waited.stdout.decode()

        await trigger(system, "db")
        events = await system.wait_for(
            lambda events: len(of_type(events, SnapshotCompleted, "db")) == 2, what="A snapshot of the other host"
        )
        (place / "known_hosts").write_text(pinned)
        await trigger(system, "web")
        await system.wait_for(lambda events: len(of_type(events, SnapshotCompleted, "web")) == 2, what="Its snapshot")
        assert (system.folder("web") / "current/home/alice/new").read_text() == "new"
        await system.cli("audit")


async def test_messages_that_make_no_sense_are_recorded_and_hold_up_nobody(place: Path) -> None:
    now = SystemClock().now()
    bodies = {
        b"\x00\xff\xfe binary \x1b[31m": "tick.snapshot.main.web",
        b"{}": "tick.snapshot.main.web",
        b'{"slot": "yesterday"}': "tick.snapshot.main.web",
        b'{"slot": "2026-03-06T08:00:00"}': "tick.snapshot.main.web",
        b'{"slot": "2026-03-06T08:00:00Z", "command": "rm -rf /"}': "tick.snapshot.main.web",
        b" " * 70_000: "tick.snapshot.main.web",
        f'{{"slot": "{now.isoformat()}"}}'.encode(): "tick.snapshot.main.WEB",
        b'{"hosts": ["nobody"]}': "backup.trigger",
        b'{"hosts": ["../../etc"]}': "backup.trigger",
        b"\xff": "backup.trigger.web",
    }
    async with running(place, "web") as system:
        for number, (body, subject) in enumerate(bodies.items(), start=1):
            await put(system, subject, body)
            events = await system.wait_for(
                lambda events: len(of_type(events, MessageRejected)) == number,  # noqa: B023  # used before it changes
                what=f"The refusal of {body[:60]!r}",
            )
            refused = facts(events, MessageRejected)[-1]
            assert refused.subject == subject
            assert refused.size_bytes == len(body)
            assert refused.preview.isprintable()
            assert len(refused.preview) < 300
            assert refused.reason
        # A tick for a host that is not ours makes sense; it is dropped.
        await put(system, "tick.snapshot.main.nobody", f'{{"slot": "{now.isoformat()}"}}'.encode())
        await trigger(system, "web")
        events = await system.wait_for(
            lambda events: len(of_type(events, SnapshotCompleted)) == 2, what="A run after all that"
        )
        assert len(of_type(events, MessageRejected)) == len(bodies)
        assert not (system.drive / "nobody").exists()
        shown = (await system.cli("status")).stdout.decode()
        assert f"{len(bodies)} bus messages were refused" in shown
        assert "\x1b[31m" not in (await system.cli("events")).stdout.decode()


async def test_a_dry_run_writes_nothing_into_the_hosts_folder(place: Path) -> None:
    async with running(place, "web") as system:
        (system.source("web") / "home/alice/new").write_text("new")
        good = await ask(system, "--dry-run", "web")
        assert good.returncode == 0
        assert "Dry run went well" in good.stdout.decode()
        # Only now it is certain that the snapshot before has left its spool, too.
        before, everything = snapshot_of(system.folder("web")), files_under(system.drive)
        outcome = document(await ask(system, "--dry-run", "--json", "web"))["web"]
        assert outcome["type"] == "DryRunCompleted"
        assert outcome["ok"] is True
        assert any("can be read" in finding for finding in outcome["findings"])

        (system.source("web") / "home").rename(system.source("web") / "elsewhere")
        bad = await ask(system, "--dry-run", "web")
        assert bad.returncode == 1
        assert "Dry run found problems" in bad.stdout.decode()
        assert differences(before, snapshot_of(system.folder("web"))) == []
        assert files_under(system.drive) == everything
        events = await system.events("web")
        assert [found.ok for found in facts(events, DryRunCompleted)] == [True, True, False]
        assert len(facts(events, SnapshotStarted)) == 1


async def test_the_command_line_tells_how_it_is(place: Path) -> None:
    async with running(place, "web", "db") as system:
        (first,) = facts(await system.events("web"), SnapshotCompleted)
        middle = SystemClock().now()
        shown = await ask(system, "web")
        assert shown.returncode == 0
        assert [words in shown.stdout.decode() for words in ("asked for", "started", "is complete")] == [True] * 3
        (_, second) = facts(await system.events("web"), SnapshotCompleted)

        status = await system.cli("status")
        assert row(status, "web")[1] == row(status, "db")[1] == "ok"
        state = document(await system.cli("status", "--json"))
        assert {host["host"]: host["state"] for host in state["hosts"]} == {"web": "ok", "db": "ok"}
        known = state["state"]["hosts"]["web"]
        assert list(known["snapshots"]) == [first.snapshot, second.snapshot]
        assert known["run"]["outcome"] == "completed"

        snapshots = (await system.cli("snapshots", "web")).stdout.decode().splitlines()
        assert [line.split()[0] for line in snapshots[1:] if line] == [first.snapshot, second.snapshot]
        assert all("complete" in line for line in snapshots[1:] if line)
        listed = document(await system.cli("snapshots", "web", "--json"))
        assert [snapshot["name"] for snapshot in listed] == [first.snapshot, second.snapshot]
        assert listed[0]["files"] == 3

        hosts = await system.cli("hosts")
        assert row(hosts, "web")[1] == f"{system.sshd.user}@127.0.0.1:{system.sshd.port}"
        assert [host["host"] for host in document(await system.cli("hosts", "--json"))] == ["web", "db"]
        tested = await system.cli("hosts", "test", "web")
        assert "web can be backed up." in tested.stdout.decode()
        assert document(await system.cli("hosts", "test", "web", "--json"))["ok"] is True

        told = (await system.cli("events", "--host", "web")).stdout.decode().splitlines()
        assert sum("is complete" in line for line in told) == 2
        assert len((await system.cli("events", "--host", "web", "--since", "1h")).stdout.splitlines()) == len(told)
        since = middle.isoformat()
        recorded = [
            json.loads(line) for line in (await system.cli("events", "--since", since, "--json")).stdout.splitlines()
        ]
        assert [event["event"]["type"] for event in recorded] == [
            "BackupRequested",
            "SnapshotStarted",
            "SnapshotCompleted",
        ]
        assert {event["stream"] for event in recorded} == {"host-web"}
        assert (await system.cli("events", "--since", "0s")).stdout == b""

        doctor = (await system.cli("doctor")).stdout.decode()
        assert "Nothing stands in the way." in doctor
        assert "The system is running" in doctor
        examined = document(await system.cli("doctor", "--json"))
        assert examined["ok"] is True
        assert any("rsync" in sentence for _, sentence in examined["findings"])

        assert "All is well." in (await system.cli("audit")).stdout.decode()
        assert document(await system.cli("audit", "--json"))["ok"] is True

        wished = document(await system.cli("trigger", "db", "--json"))  # it has had nothing to do for long
        assert wished["hosts"] == ["db"]
        await system.wait_for(
            lambda events: len(of_type(events, SnapshotCompleted, "db")) == 2, what="What was wished for"
        )


async def test_replay_shows_the_state_as_it_was(place: Path) -> None:
    async with running(place, "web") as system:
        await trigger(system, "web")
        await system.wait_for(lambda events: len(of_type(events, SnapshotCompleted)) == 2, what="The second snapshot")
        events = of_type(await system.events("web"), SnapshotCompleted)
        for number, event in enumerate(events):
            at = datetime.fromtimestamp(event.recorded_us // 1_000_000, UTC) + timedelta(
                microseconds=event.recorded_us % 1_000_000
            )
            before = document(
                await system.cli("replay", "--json", "--at", (at - timedelta(microseconds=1)).isoformat())
            )["state"]
            after = document(await system.cli("replay", "--json", "--at", at.isoformat()))["state"]
            assert before["position"] == event.position - 1
            assert after["position"] == event.position
            assert len(before["hosts"]["web"]["snapshots"]) == number
            assert len(after["hosts"]["web"]["snapshots"]) == number + 1
            assert before["hosts"]["web"]["run"]["outcome"] == "running"
            assert after["hosts"]["web"]["run"]["outcome"] == "completed"
            shown = await system.cli("replay", "--at", (at - timedelta(microseconds=1)).isoformat())
            assert row(shown, "web")[1] == "running"
            assert f"position {event.position - 1} of the log" in shown.stdout.decode()
        now, replayed = [document(await system.cli(word, "--json"))["state"] for word in ("status", "replay")]
        assert now == replayed
        never = await system.cli("replay", "--at", "2020-01-01")
        assert row(never, "web")[1:4] == ["never", "backed", "up"]


async def test_misuse_is_told_from_failure(place: Path) -> None:
    async with running(place, "web") as system:
        before = len(await system.events())
        misuse = [
            ["nonsense"],
            ["status", "--nonsense"],
            ["snapshots"],
            ["snapshots", "nobody"],
            ["hosts", "test", "nobody"],
            ["trigger", "nobody", "--wait"],
            ["trigger", "--job", "nonsense"],
            ["events", "--since", "rubbish"],
            ["events", "--since", "2026-02-30"],
            ["replay", "--at", "tomorrow"],
        ]
        for words in misuse:
            done = await system.cli(*words, check=False)
            assert done.returncode == 2, (words, done)
            assert done.stdout == b"", words
            assert "Error: " in done.stderr.decode(), words
            assert "Traceback" not in done.stderr.decode(), words
        assert "nobody" in (await system.cli("snapshots", "nobody", check=False)).stderr.decode()
        assert "Allowed: " in (await system.cli("replay", "--at", "tomorrow", check=False)).stderr.decode()
        assert len(await system.events()) == before

        broken = system.environ | {"HOSTS": "Not A Host"}
        done = await cli_with(system, broken, "status")
        assert done.returncode == 2
        assert "HOSTS" in done.stderr.decode()
        assert (await cli_with(system, broken, "doctor")).returncode == 1
        assert document(await cli_with(system, broken, "doctor", "--json"))["ok"] is False

        missing = system.environ | {"BACKUP_ROOT": str(place / "nowhere")}
        done = await cli_with(system, missing, "doctor")
        assert done.returncode == 1
        assert "nowhere cannot be opened" in done.stdout.decode()

        await system.stop()
        for words in (["status"], ["events"], ["snapshots", "web"], ["trigger", "web"], ["replay"], ["audit"]):
            done = await system.cli(*words, check=False)
            assert done.returncode == 1, words
            assert "No system is running" in done.stderr.decode(), words
            assert "backup-manager up" in done.stderr.decode(), words
        done = await system.cli("doctor", check=False)
        assert done.returncode == 0
        assert "The system is not running" in done.stdout.decode()


async def cli_with(system: Installation, environ: dict[str, str], *words: str) -> process.Finished:
    """Run the command line in another environment."""
    usual, system.environ = system.environ, environ
    try:
        return await system.cli(*words, check=False)
    finally:
        system.environ = usual


def document(done: process.Finished) -> Any:
    """The one JSON document that a command printed."""
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def row(done: process.Finished, host: str) -> list[str]:
    """The words of a host's row in a table."""
    (line,) = [line for line in done.stdout.decode().splitlines() if line.split()[:1] == [host]]
    return line.split()
