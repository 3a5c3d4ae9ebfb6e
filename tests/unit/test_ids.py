"""Ids: valid UUIDs of their version, and the same fact always under the same one."""

from __future__ import annotations

from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.ids import MAX_STEP, derived_id, event_id, run_id

times = st.integers(0, 2**48 - 1)
randomness = st.integers(0, 2**58 - 1)
steps = st.integers(1, MAX_STEP)
runs = st.builds(run_id, times, randomness)
texts = st.text(st.characters(exclude_characters="\x00", codec="utf-8"))


@given(times, randomness)
def test_a_run_id_is_a_uuid_of_version_7_with_its_time_in_front(unix_ms: int, random_bits: int) -> None:
    run = run_id(unix_ms, random_bits)
    assert run.version == 7
    assert run.variant == RFC_4122
    assert run.int >> 80 == unix_ms
    assert run.int & 0xFFFF == 0


@given(times, randomness)
def test_every_random_bit_is_in_a_run_id(unix_ms: int, random_bits: int) -> None:
    run = run_id(unix_ms, random_bits).int
    rand_a, rand_b = run >> 64 & 0xFFF, run >> 16 & (1 << 46) - 1
    assert rand_a << 46 | rand_b == random_bits


@given(times, times, randomness, randomness)
def test_run_ids_sort_by_time(one: int, other: int, one_random: int, other_random: int) -> None:
    if one != other:
        assert (run_id(one, one_random) < run_id(other, other_random)) == (one < other)


def test_the_example_of_the_rfc_has_the_fields_where_they_belong() -> None:
    # RFC 9562, appendix A.6: 017F22E2-79B0-7CC3-98C4-DC0C0C07398F; ours leaves the last 16 bits for the step.
    random_bits = 0xCC3 << 46 | (0x18C4DC0C0C07398F >> 16)
    assert event_id(run_id(0x017F22E279B0, random_bits), 0x398F) == UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")


@given(runs, steps, steps)
def test_every_step_of_a_run_has_an_id_of_its_own(run: UUID, one: int, other: int) -> None:
    assert (event_id(run, one) == event_id(run, other)) == (one == other)
    assert event_id(run, one) != run
    assert event_id(run, one).version == 7
    assert event_id(run, one).variant == RFC_4122


@given(runs, runs, steps, steps)
def test_no_two_runs_share_an_event_id(one: UUID, other: UUID, one_step: int, other_step: int) -> None:
    if one != other:
        assert event_id(one, one_step) != event_id(other, other_step)


@given(runs)
def test_the_steps_of_a_run_sort_in_their_order(run: UUID) -> None:
    assert event_id(run, 1) < event_id(run, 2) < event_id(run, 256) < event_id(run, MAX_STEP)


@pytest.mark.parametrize("step", [0, -1, MAX_STEP + 1])
def test_a_step_that_does_not_fit_is_refused(step: int) -> None:
    with pytest.raises(ValueError, match="steps"):
        event_id(run_id(0, 0), step)


@given(st.lists(texts, min_size=1))
def test_a_derived_id_is_always_the_same_uuid_of_version_8(parts: list[str]) -> None:
    identity = derived_id(*parts)
    assert identity == derived_id(*parts)
    assert identity.version == 8
    assert identity.variant == RFC_4122


@given(st.lists(texts, min_size=1), st.lists(texts, min_size=1))
def test_other_parts_give_another_id_however_they_are_cut(one: list[str], other: list[str]) -> None:
    assert (derived_id(*one) == derived_id(*other)) == (one == other)


def test_a_derived_id_never_changes() -> None:
    # Recorded facts are found again by it: another value here would record old facts a second time.
    assert derived_id("enrolled", "main") == UUID("bae4037d-0d79-8eea-ad6c-44fd6c3d7d1c")
