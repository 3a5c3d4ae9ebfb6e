"""How often a password may be tried, and how much of that the log hears."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.login_limits import (
    FREE_TRIES,
    LONGEST_WAIT_OF_ADDRESS_SECONDS,
    LONGEST_WAIT_OF_USER_SECONDS,
    MOST_TOLD,
    TELLING_PERIOD_SECONDS,
    LoginLimits,
    RefusalTally,
    network_of,
    wait_seconds,
)

TRIES = st.lists(
    st.tuples(
        st.sampled_from(["alice", "bob", ""]),
        st.sampled_from(["192.0.2.1", "192.0.2.2"]),
        st.booleans(),
        st.floats(0, 100),
    ),
    max_size=60,
)


@given(st.integers(0, 10_000), st.sampled_from([LONGEST_WAIT_OF_USER_SECONDS, LONGEST_WAIT_OF_ADDRESS_SECONDS]))
def test_the_wait_grows_up_to_its_limit(failures: int, longest: float) -> None:
    assert 0 <= wait_seconds(failures, longest) <= wait_seconds(failures + 1, longest) <= longest
    assert (wait_seconds(failures, longest) == 0) is (failures < FREE_TRIES)


def test_who_fails_too_often_waits_and_everybody_else_does_not() -> None:
    limits = LoginLimits()
    for _ in range(FREE_TRIES):
        assert limits.must_wait("alice", "192.0.2.1", 0) == 0
        limits.failed("alice", "192.0.2.1", 0)
    assert limits.must_wait("alice", "198.51.100.9", 0) > 0
    assert limits.must_wait("bob", "192.0.2.1", 0) > 0
    assert limits.must_wait("bob", "198.51.100.9", 0) == 0
    assert limits.must_wait("alice", "192.0.2.1", 2) == 0


@given(TRIES)
def test_whoever_keeps_trying_gets_few_tries_and_nobody_is_locked_out_for_long(
    tries: list[tuple[str, str, bool, float]],
) -> None:
    limits, now, allowed = LoginLimits(), 0.0, dict.fromkeys(("alice", "bob", ""), 0)
    for user, address, right, pause in tries:
        now += pause
        wait = limits.must_wait(user, address, now)
        assert 0 <= wait <= LONGEST_WAIT_OF_ADDRESS_SECONDS
        assert limits.must_wait(user, "198.51.100.9", now) <= LONGEST_WAIT_OF_USER_SECONDS
        if wait:
            continue
        limits.failed(user, address, now)
        allowed[user] = 0 if right else allowed[user] + 1
        if right:
            limits.succeeded(user, address)
    for user, failures in allowed.items():
        assert failures <= FREE_TRIES or now >= sum(
            wait_seconds(done, LONGEST_WAIT_OF_USER_SECONDS) for done in range(FREE_TRIES, failures)
        ), user


def test_a_right_password_does_not_wash_away_what_the_address_did_to_others() -> None:
    limits = LoginLimits()
    for number in range(FREE_TRIES):
        limits.failed(f"victim{number}", "192.0.2.1", 0)
        limits.failed("mallory", "192.0.2.1", 0)
        limits.succeeded("mallory", "192.0.2.1")
    assert limits.must_wait("another", "192.0.2.1", 0) > 0


@given(st.lists(st.tuples(st.text(max_size=5), st.ip_addresses().map(str)), max_size=300))
def test_a_flood_of_names_and_addresses_takes_bounded_memory(flood: list[tuple[str, str]]) -> None:
    limits = LoginLimits(most_keys=20)
    for user, address in flood:
        limits.failed(user, address, 0)
        assert len(limits) <= 40


def test_the_addresses_of_one_ipv6_network_are_one() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") != network_of("192.0.2.2")
    assert network_of("no address") == "no address"


@given(st.lists(st.floats(0, 600), max_size=400))
def test_every_refusal_is_told_or_counted_and_few_are_told_one_by_one(pauses: list[float]) -> None:
    tally, now, told = RefusalTally(), 0.0, []
    for pause in pauses:
        now += pause
        told += tally.refused("alice", "192.0.2.1", now)
    told += tally.rest()
    assert sum(fact.attempts for fact in told) == len(pauses)
    hours = int(now / TELLING_PERIOD_SECONDS) + 1
    assert len(told) <= hours * (MOST_TOLD + 1)


@pytest.mark.parametrize("flood", [10_000])
def test_an_attacker_cannot_flood_the_log(flood: int) -> None:
    tally = RefusalTally()
    told = [fact for _ in range(flood) for fact in tally.refused("alice", "192.0.2.1", 0)]
    assert len(told) == MOST_TOLD
    assert [fact.attempts for fact in tally.due(TELLING_PERIOD_SECONDS)] == [flood - MOST_TOLD]
    assert tally.due(2 * TELLING_PERIOD_SECONDS) == []
