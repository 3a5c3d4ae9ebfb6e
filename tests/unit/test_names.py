"""Names: what is refused at the edge, and that a snapshot's name is its slot."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from shared.domain.errors import NameRefused
from shared.domain.names import (
    RESERVED_HOST_NAMES,
    HostName,
    StoreName,
    host_stream,
    parse_host_name,
    parse_snapshot_name,
    parse_store_name,
    snapshot_name,
    store_stream,
)
from shared.domain.schedule import newest_slot, trigger_slot

moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001  # given its zone by the next argument
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
hourly_slots = st.builds(newest_slot, st.integers(1, 744), moments)
slots = hourly_slots | moments.map(trigger_slot)
good_names = st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,62}\Z")


@given(slots)
@example(datetime(2026, 3, 6, 8, 0, 7, tzinfo=UTC))
@example(datetime(999, 1, 1, tzinfo=UTC))
def test_a_snapshots_name_says_its_slot(slot: datetime) -> None:
    assert parse_snapshot_name(snapshot_name(slot)) == slot


@given(slots, slots)
def test_names_sort_like_their_slots(one: datetime, other: datetime) -> None:
    assert (snapshot_name(one) < snapshot_name(other)) == (one < other)
    assert (snapshot_name(one) == snapshot_name(other)) == (one == other)


@given(slots, zones)
def test_the_name_does_not_depend_on_the_zone_the_slot_is_written_in(slot: datetime, zone: timezone) -> None:
    assume(1 < slot.year < 9999)
    assert snapshot_name(slot.astimezone(zone)) == snapshot_name(slot)


@given(st.text() | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}_[0-9]{4,6}"))
@example("2026-03-06_080000")  # the same moment would have two names
@example("2026-02-30_0800")
@example("2026-03-06_2400")
@example("2026-03-06_0860")
@example("2026-03-06_0800\n")
@example("0000-01-01_0000")
@example("٢٠٢٦-03-06_0800")
def test_every_text_is_the_name_of_one_slot_or_refused(text: str) -> None:
    try:
        slot = parse_snapshot_name(text)
    except NameRefused:
        return
    assert snapshot_name(slot) == text


@pytest.mark.parametrize(
    "text", ["2026-03-06_080000", "2026-02-30_0800", "2026-03-06_0800\n", "2026-3-6_0800", "", ".."]
)
def test_what_looks_nearly_like_a_snapshots_name_is_refused(text: str) -> None:
    with pytest.raises(NameRefused):
        parse_snapshot_name(text)


@given(good_names)
def test_good_names_are_taken_as_they_are(text: str) -> None:
    assert parse_store_name(text) == text
    if text not in RESERVED_HOST_NAMES:
        assert parse_host_name(text) == text


@given(st.text())
@example("a\n")
@example("é")
@example("ª")
@example("a" * 64)
def test_a_name_that_was_taken_is_safe_as_path_subject_and_key(text: str) -> None:
    for parse in (parse_host_name, parse_store_name):
        try:
            name = parse(text)
        except NameRefused:
            continue
        assert re.fullmatch(rb"[a-z0-9][a-z0-9_-]{0,62}", name.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-oProxyCommand=x",
        ".",
        "..",
        "a.b",
        "a/b",
        "NAS",
        "a b",
        "*",
        ">",
        "a*",
        "nas\n",
        "\x00",
        "_a",
        "a" * 64,
        "ａ",
    ],
)
def test_dangerous_names_are_refused(text: str) -> None:
    for parse in (parse_host_name, parse_store_name):
        with pytest.raises(NameRefused):
            parse(text)


@pytest.mark.parametrize("text", sorted(RESERVED_HOST_NAMES))
def test_words_that_mean_something_else_are_refused_as_hosts(text: str) -> None:
    with pytest.raises(NameRefused, match="reserved"):
        parse_host_name(text)
    assert parse_store_name(text) == text


def test_hosts_and_stores_have_streams_of_their_own() -> None:
    assert host_stream(HostName("a")) == "host-a"
    assert store_stream(StoreName("a")) == "store-a"
