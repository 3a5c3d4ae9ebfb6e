"""No plan removes what a guard protects, whatever the history and the policy; the guards are looked up anew here."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from hypothesis import assume, given, settings

from shared.domain.events import Quality
from shared.domain.retention import RetentionPlan, Verdict, broken_guards
from tests.support.histories import History, histories, refused_histories
from tests.support.retention_rules import complete, counted, guarded

thoroughly = settings(max_examples=2000, deadline=None)
DAY = timedelta(hours=24)


def never_removes(history: History, *guards: str) -> None:
    made = history.plan()
    reasons = {verdict.point.key: verdict.reasons for verdict in made.verdicts if verdict.keep}
    protected = guarded(history.facts, history.now, history.hold)
    for guard in guards:
        for key in protected[guard]:
            assert guard in reasons[key]


def with_facts(history: History, **changes: object) -> History:
    return History(msgspec.structs.replace(history.facts, **changes), history.policy, history.now, history.hold)


@thoroughly
@given(histories)
def test_the_newest_of_each_kind_and_the_newest_complete_and_verified_snapshots_stay(history: History) -> None:
    never_removes(history, "newest complete", "newest verified", "newest archive", "newest golden")


@thoroughly
@given(histories)
def test_what_current_or_latest_point_to_and_what_is_in_use_or_held_stays(history: History) -> None:
    never_removes(history, "current", "latest", "in use", "held")


@thoroughly
@given(histories)
def test_three_complete_snapshots_stay(history: History) -> None:
    never_removes(history, "floor")
    whole = complete(counted(history.facts.points, history.now))
    assert len({point.key for point in whole} - history.removed()) >= min(3, len(whole))


@thoroughly
@given(histories)
def test_what_is_dated_in_the_future_stays_and_changes_nothing(history: History) -> None:
    never_removes(history, "future-dated")
    there = tuple(counted(history.facts.points, history.now))
    # A pin may name a snapshot of the future; that holds what is there now as well.
    assume(history.hold is None or history.hold.pinned in {None, *(point.name for point in there)})
    made, without = history.plan(), with_facts(history, points=there).plan()
    assert tuple(verdict for verdict in made.verdicts if verdict.point in there) == without.verdicts
    assert made.refused == without.refused


@thoroughly
@given(histories)
def test_what_is_not_complete_changes_nothing_for_complete_snapshots(history: History) -> None:
    whole = tuple(point for point in history.facts.points if point.quality is Quality.COMPLETE)
    assume(history.hold is None or history.hold.pinned in {None, *(point.name for point in whole)})
    made, without = history.plan(), with_facts(history, points=whole).plan()
    assert tuple(verdict for verdict in made.verdicts if verdict.point in whole) == without.verdicts


@thoroughly
@given(histories)
def test_a_clock_or_an_inventory_in_doubt_refuses_whatever_was_confirmed(history: History) -> None:
    doubts = (history.facts.clock_doubt, *history.facts.not_on_drive, *history.facts.not_in_log)
    everything = frozenset(point.key for point in history.facts.points)
    agreed = with_facts(history, confirmed=everything, confirmed_at=history.now).plan()
    assert bool(agreed.refused) is any(doubts)


@thoroughly
@given(histories)
def test_a_changed_policy_or_many_removals_need_a_confirmation_of_the_last_day(history: History) -> None:
    sure = with_facts(history, clock_doubt="", not_on_drive=(), not_in_log=())
    made, facts, now = sure.plan(), sure.facts, sure.now
    removed = {verdict.point.key for verdict in made.removals}
    agreed = facts.confirmed_at is not None and timedelta(0) <= now - facts.confirmed_at <= DAY
    changed = facts.policy_changed_at is not None and now - facts.policy_changed_at <= DAY
    too_many = len(removed) > max(2, len(counted(facts.points, now)) / 10)
    allowed = not removed or (agreed and removed <= facts.confirmed) or not (changed or too_many)
    assert bool(made.refused) is not allowed
    assert len(made.refused) == (0 if allowed else changed + too_many)


@thoroughly
@given(histories)
def test_the_independent_check_finds_nothing_in_a_plan(history: History) -> None:
    made = history.plan()
    assert broken_guards(made, history.facts, history.policy, history.now, history.hold) == ()


@thoroughly
@given(histories)
def test_the_independent_check_finds_every_guarded_point_that_would_go(history: History) -> None:
    made = history.plan()
    protected = set().union(*guarded(history.facts, history.now, history.hold).values())
    for verdict in made.verdicts:
        if verdict.point.key in protected:
            worse = msgspec.structs.replace(verdict, keep=False)
            others = tuple(worse if each is verdict else each for each in made.verdicts)
            found = broken_guards(replaced(made, others), history.facts, history.policy, history.now, history.hold)
            alike = sum(each.point.slot == verdict.point.slot for each in made.verdicts) > 1
            assert found or alike  # of two at one slot the check is content with either


@thoroughly
@given(refused_histories)
def test_the_independent_check_finds_a_plan_that_should_have_been_refused(history: History) -> None:
    made = history.plan()
    assert broken_guards(
        msgspec.structs.replace(made, refused=()), history.facts, history.policy, history.now, history.hold
    )


@thoroughly
@given(histories)
def test_a_plan_of_other_points_or_by_another_policy_is_found_out(history: History) -> None:
    made = history.plan()
    assume(made.verdicts)
    fewer = replaced(made, made.verdicts[1:])
    assert broken_guards(fewer, history.facts, history.policy, history.now, history.hold)
    other = msgspec.structs.replace(history.policy, archive_days=17)
    assert broken_guards(made, history.facts, other, history.now, history.hold)


def replaced(made: RetentionPlan, verdicts: tuple[Verdict, ...]) -> RetentionPlan:
    return msgspec.structs.replace(made, verdicts=verdicts)
