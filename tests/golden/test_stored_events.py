"""Every line that some version ever stored can still be read.

events/<type>.json holds stored lines, oldest first: nothing in it is ever changed or removed, because it stands for
rows of other people's logs. After adding an event type or a field run the tests once with UPDATE_GOLDEN=1: it only
adds lines. Then look at the difference.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from shared.domain.events import (
    AlertRaised,
    AnyEvent,
    ArchiveCancelled,
    ArchiveCompleted,
    ArchiveDiscovered,
    ArchiveFailed,
    ArchiveStarted,
    BackupRequested,
    ClockTrusted,
    DryRunCompleted,
    Event,
    GoldenDiscovered,
    GoldenFailed,
    HoldPlaced,
    HostMoved,
    LoggedIn,
    LoggedOut,
    LoginRefused,
    PlanConfirmed,
    PointLost,
    PointPurged,
    PointUndeleted,
    Quality,
    RestoreCancelled,
    RestoreCompleted,
    RestoreFailed,
    RestoreRequested,
    RestoreStarted,
    RetentionCancelled,
    RetentionCompleted,
    RetentionFailed,
    RetentionStarted,
    SetupLinkMade,
    SnapshotCancelled,
    SnapshotCompleted,
    SnapshotDiscovered,
    SnapshotFailed,
    SnapshotStarted,
    TokenMade,
    TokenRevoked,
    UserAdded,
    UserChanged,
    UserRemoved,
    decode_event,
    encode_event,
)
from tests.support.builders import EVENT_TYPES, RUN, SLOT, build

FOLDER: Final = Path(__file__).parent / "events"
UPDATE: Final = os.environ.get("UPDATE_GOLDEN") == "1"

NOT_THE_DEFAULT: Final[dict[type[Event], dict[str, Any]]] = {
    BackupRequested: {"dry_run": True},
    SnapshotStarted: {"attempt": 2, "base": "2026-03-06_0700"},
    SnapshotCompleted: {
        "quality": Quality.DEGRADED,
        "base": "2026-03-06_0700",
        "skipped_specials": 4,
        "warnings": ('A file called "x\\y" vanished.', "Ünïcödé, 名前"),
    },
    SnapshotFailed: {"hint": "Check the drive.", "attempt": 3, "final": False, "exit_code": 12},
    SnapshotDiscovered: {"run": RUN},
    DryRunCompleted: {"ok": False, "findings": ("The key is refused.",)},
    HoldPlaced: {"by": "alice"},
    HostMoved: {"by": "alice"},
    AlertRaised: {"run": RUN},
    SnapshotCancelled: {"by": "alice"},
    ArchiveStarted: {"attempt": 2, "golden": "2026-03"},
    ArchiveCompleted: {"warnings": ("A socket was left out.",)},
    ArchiveFailed: {"hint": "Check the drive.", "attempt": 3, "final": False},
    ArchiveCancelled: {"by": "alice"},
    ArchiveDiscovered: {"run": RUN},
    GoldenFailed: {"hint": "Nothing is to be done."},
    GoldenDiscovered: {"run": RUN},
    RetentionStarted: {"attempt": 2},
    PointUndeleted: {"by": "alice"},
    PointPurged: {"entries": 321, "duration_seconds": 0.25},
    PointLost: {"by": "alice"},
    RetentionCompleted: {"refused": ("The clock is suspect.",), "foreign": ("hourly/x",), "duration_seconds": 0.5},
    RetentionFailed: {"hint": "Check the drive.", "attempt": 3, "final": False},
    RetentionCancelled: {"by": "alice"},
    PlanConfirmed: {"by": "alice"},
    ClockTrusted: {"by": "alice"},
    RestoreRequested: {"paths": ("home/a%0Ab",), "folder": "/srv/restored", "over_original": True, "by": "alice"},
    RestoreStarted: {"attempt": 2},
    RestoreCompleted: {"checked_files": 290, "warnings": ("10 files had no checksum.",)},
    RestoreFailed: {"hint": "Look at it.", "attempt": 3, "final": False, "left": ("/srv/restored/.partial-x",)},
    RestoreCancelled: {"run": RUN, "by": "alice", "left": ("/srv/restored/.partial-x",)},
    UserAdded: {"hosts": ("nas",), "by": "bob (dashboard)", "address": "192.0.2.7"},
    UserChanged: {"role": "viewer", "hosts": ("nas",), "by": "bob (dashboard)", "address": "192.0.2.7"},
    UserRemoved: {"by": "bob (dashboard)", "address": "192.0.2.7"},
    LoggedIn: {"address": "192.0.2.7"},
    LoggedOut: {"address": "192.0.2.7"},
    LoginRefused: {"user": "alice", "address": "192.0.2.7", "attempts": 7},
    TokenMade: {"by": "bob (dashboard)", "address": "192.0.2.7"},
    TokenRevoked: {"by": "bob (dashboard)", "address": "192.0.2.7"},
    SetupLinkMade: {"by": "root@server"},
}


def with_every_field(kind: type[AnyEvent]) -> AnyEvent:
    """An event in which every field differs from its default."""
    return build(kind, **NOT_THE_DEFAULT.get(kind, {}))


def as_stored(event: AnyEvent, *, without: frozenset[str] = frozenset()) -> str:
    stored = json.loads(encode_event(event))
    return json.dumps(
        {key: value for key, value in stored.items() if key not in without}, ensure_ascii=False, separators=(",", ":")
    )


def optional_fields(kind: type[AnyEvent]) -> frozenset[str]:
    return frozenset(field.name for field in msgspec.structs.fields(kind) if not field.required)


def golden_file(kind: type[AnyEvent]) -> Path:
    return FOLDER / f"{kind.__name__}.json"


def golden_lines(kind: type[AnyEvent]) -> list[str]:
    path = golden_file(kind)
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def add_what_is_missing(kind: type[AnyEvent]) -> None:
    """Add the lines of today; what is there stays as it is."""
    today = [as_stored(with_every_field(kind)), as_stored(build(kind), without=optional_fields(kind))]
    lines = golden_lines(kind)
    lines += [line for line in dict.fromkeys(today) if line not in lines]
    golden_file(kind).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def updated() -> None:
    if UPDATE:
        for kind in EVENT_TYPES:
            add_what_is_missing(kind)


every_type = pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)


@every_type
def test_every_stored_line_is_read_and_says_what_it_said(kind: type[AnyEvent]) -> None:
    for line in golden_lines(kind):
        event = decode_event(line)
        assert type(event) is kind
        said, stored = json.loads(encode_event(event)), json.loads(line)
        assert {key: said[key] for key in stored} == stored


@every_type
def test_every_type_has_a_golden_file_with_all_its_fields(kind: type[AnyEvent]) -> None:
    stored = {key for line in golden_lines(kind) for key in json.loads(line)}
    missing = {"type", *kind.__struct_fields__} - stored
    assert not missing, f"{golden_file(kind)} lacks {sorted(missing)}: run once with UPDATE_GOLDEN=1"


@every_type
def test_what_an_older_writer_left_out_has_a_default(kind: type[AnyEvent]) -> None:
    # If a field of today were required, this line of an older writer could not be read.
    shortest = min((json.loads(line) for line in golden_lines(kind)), key=len)
    event = decode_event(json.dumps(shortest))
    for field in msgspec.structs.fields(kind):
        if field.name not in shortest:
            default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory
            assert getattr(event, field.name) == default


@every_type
def test_the_sample_leaves_no_field_at_its_default(kind: type[AnyEvent]) -> None:
    # A golden line that says only what is the default anyway would not notice that its field was renamed.
    event = with_every_field(kind)
    same = {
        field.name
        for field in msgspec.structs.fields(kind)
        if not field.required and getattr(event, field.name) == field.default
    }
    assert not same


def test_no_type_ever_disappears() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {kind.__name__ for kind in EVENT_TYPES}


def test_the_time_of_a_stored_line_is_read_to_the_microsecond_and_in_any_zone() -> None:
    for text, moment in (
        ("2026-03-06T08:00:00Z", SLOT),
        ("2026-03-06T10:00:00+02:00", SLOT),
        ("2026-03-06T08:00:00.000001Z", SLOT + timedelta(microseconds=1)),
    ):
        line = json.dumps({"type": "SnapshotAbandoned", "run": str(RUN), "slot": text})
        assert getattr(decode_event(line), "slot") == moment  # noqa: B009  # the union has types without a slot
