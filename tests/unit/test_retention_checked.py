"""The independent check, one mistake at a time; and that a plan does not get past it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from shared.domain.events import Kind, Quality
from shared.domain.policy import Policy
from shared.domain.retention import Facts, Hold, Point, RetentionPlan, broken_guards, plan

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
POLICY = Policy(hourly_hours=0, daily_days=0, monthly_months=0, archive_days=0)
POINTS = tuple(Point(kind=Kind.SNAPSHOT, name=str(days), slot=NOW - timedelta(days=days)) for days in (9, 8, 7, 6))
FACTS = Facts(points=POINTS)


def found_in(made: RetentionPlan, facts: Facts = FACTS, hold: Hold | None = None) -> str:
    return " ".join(broken_guards(made, facts, POLICY, NOW, hold))


def with_first(**changes: object) -> RetentionPlan:
    made = plan(FACTS, POLICY, NOW)
    first, *others = made.verdicts
    return msgspec.structs.replace(made, verdicts=(msgspec.structs.replace(first, **changes), *others))


def test_the_plan_these_tests_start_from_is_right_and_removes_the_oldest() -> None:
    assert [verdict.point.name for verdict in plan(FACTS, POLICY, NOW).removals] == ["9"]
    assert found_in(plan(FACTS, POLICY, NOW)) == ""


def test_a_plan_that_breaks_a_guard_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.domain.retention.protections", lambda *_: {})
    agreed = Facts(points=POINTS, confirmed=frozenset(point.key for point in POINTS), confirmed_at=NOW)
    made = plan(agreed, POLICY, NOW)
    assert len(made.removals) == 4
    assert "would remove snapshot/6 and leave 0 complete snapshots as new as it, not 3" in " ".join(made.refused)


def test_a_removal_without_a_reason_is_found() -> None:
    assert "gives no reason for snapshot/9" in found_in(with_first(reasons=()))


def test_a_cover_that_does_not_stay_is_found() -> None:
    assert "covered by something that does not stay" in found_in(with_first(covered_by=("snapshot/9",)))


def test_points_in_another_order_or_of_another_quality_are_found() -> None:
    made = plan(FACTS, POLICY, NOW)
    assert "not the 4 there are" in found_in(msgspec.structs.replace(made, verdicts=made.verdicts[::-1]))
    worse = msgspec.structs.replace(POINTS[0], quality=Quality.SUSPECT)
    assert "not the 4 there are" in found_in(with_first(point=worse))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"in_use": frozenset({"snapshot/9"})}, "in use"),
        ({"current": "9"}, "current or latest"),
        ({"latest": "9"}, "current or latest"),
        ({"clock_doubt": "it jumped"}, "clock or the inventory"),
        ({"not_on_drive": ("snapshot/1",)}, "clock or the inventory"),
        ({"not_in_log": ("snapshot/1",)}, "clock or the inventory"),
        ({"policy_changed_at": NOW - timedelta(hours=24)}, "policy changed"),
        ({"policy_changed_at": NOW + timedelta(hours=24)}, "policy changed"),
    ],
)
def test_what_became_known_after_the_plan_is_found(facts: dict[str, object], words: str) -> None:
    assert words in found_in(plan(FACTS, POLICY, NOW), msgspec.structs.replace(FACTS, **facts))


@pytest.mark.parametrize("pinned", [None, "nobody-knows", "9", "8"])
def test_a_removal_that_is_held_is_found(pinned: str | None) -> None:
    assert "which is held" in found_in(plan(FACTS, POLICY, NOW), hold=Hold("odd", pinned))


def test_the_last_verified_complete_one_is_missed_although_a_newer_suspect_one_is_verified() -> None:
    first = msgspec.structs.replace(POINTS[0], verified=True)
    last = Point(kind=Kind.SNAPSHOT, name="1", slot=NOW - timedelta(days=1), quality=Quality.SUSPECT, verified=True)
    facts = Facts(points=(first, *POINTS[1:], last), latest="1")
    made = plan(facts, POLICY, NOW)
    assert made.removals == ()
    worse = tuple(msgspec.structs.replace(each, keep=each.point is not first) for each in made.verdicts)
    assert "0 verified complete snapshots" in found_in(msgspec.structs.replace(made, verdicts=worse), facts)


def test_a_removal_of_the_future_is_found() -> None:
    ahead = Point(kind=Kind.SNAPSHOT, name="ahead", slot=NOW + timedelta(hours=1), quality=Quality.SUSPECT)
    facts = Facts(points=(*POINTS, ahead))
    made = plan(facts, POLICY, NOW)
    worse = msgspec.structs.replace(made.verdicts[-1], keep=False)
    found = found_in(msgspec.structs.replace(made, verdicts=(*made.verdicts[:-1], worse)), facts)
    assert "snapshot/ahead, which is dated in the future" in found
