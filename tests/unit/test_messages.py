"""Messages of the bus: whatever arrives, it is understood completely or refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.domain.errors import MessageRefused
from shared.domain.events import Job
from shared.domain.messages import (
    MAX_BY_CHARACTERS,
    MAX_MESSAGE_BYTES,
    TRIGGER_SUBJECT,
    Cancel,
    Tick,
    Trigger,
    cancel_subject,
    decode_cancel,
    decode_tick,
    decode_trigger,
    encode_cancel,
    encode_tick,
    encode_trigger,
    preview,
    tick_message_id,
    tick_subject,
)
from shared.domain.names import RESERVED_HOST_NAMES, HostName, StoreName
from tests.support.builders import SLOT, a_tick

names = st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,62}\Z")
hosts = names.filter(lambda name: name not in RESERVED_HOST_NAMES)
moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001  # given its zone by the next argument
ticks = st.builds(
    Tick,
    job=st.sampled_from(Job),
    store=names.map(StoreName),
    host=hosts.map(HostName),
    slot=moments,
    dry_run=st.booleans(),
)
triggers = st.builds(
    Trigger,
    hosts=st.none() | st.lists(hosts, min_size=1, max_size=3).map(tuple),
    job=st.sampled_from(sorted(set(Job) - {Job.RESTORE})),
    dry_run=st.booleans(),
    by=st.text(st.characters(codec="utf-8"), max_size=MAX_BY_CHARACTERS),
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["slot", "dry_run", "hosts", "job", "by", "x"]), inner)
    ),
    max_leaves=8,
)
bodies = st.binary() | json_values.map(msgspec.json.encode) | ticks.map(encode_tick) | triggers.map(encode_trigger)
subjects = st.text() | st.sampled_from(
    ["tick.snapshot.main.nas", TRIGGER_SUBJECT, f"{TRIGGER_SUBJECT}.nas", "tick...", ""]
)


def refusal(decode: Callable[[str, bytes], object], subject: str, body: bytes) -> str:
    """Why a message is refused; every other error gets through."""
    try:
        decode(subject, body)
    except MessageRefused as error:
        return error.message
    return "understood"


@given(ticks)
def test_a_tick_comes_back_as_it_went(tick: Tick) -> None:
    assert decode_tick(tick_subject(tick.job, tick.store, tick.host), encode_tick(tick)) == tick


@given(triggers)
def test_a_trigger_comes_back_as_it_went(trigger: Trigger) -> None:
    assert decode_trigger(TRIGGER_SUBJECT, encode_trigger(trigger)) == trigger


@given(subjects, bodies)
@example("tick.snapshot.main.nas", b"\xff\xfe")
@example("tick.snapshot.main.nas", b"[" * 60_000)
@example("tick.snapshot.main.nas", b'{"slot":' + b"9" * 5_000 + b"}")
@example("tick.snapshot.main.nas", b'{"slot":"0001-01-01T00:00:00+14:00"}')
@example("tick.snapshot.main.nas", b'{"slot":"9999-12-31T23:59:59-14:00"}')
@example("tick.snapshot.main.nas", b'{"slot":"2026-03-06T08:00:60Z"}')
@example("tick.snapshot.main.\ud800", b"{}")
@example(TRIGGER_SUBJECT, b'{"by":"\xed\xa0\x80"}')
@example(TRIGGER_SUBJECT, b'{"hosts":["\\ud800"]}')
@example(f"{TRIGGER_SUBJECT}.\ud800", b"")
def test_any_bytes_are_understood_or_refused_and_nothing_else(subject: str, body: bytes) -> None:
    for decode in (decode_tick, decode_trigger):
        assert 0 < len(refusal(decode, subject, body)) < 1_000


@given(st.binary())
def test_a_preview_is_short_and_prints_safely(body: bytes) -> None:
    shown = preview(body)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 64 * 5


def test_the_preview_of_readable_text_is_the_text() -> None:
    assert preview(b'{"hosts":[]}') == '{"hosts":[]}'
    assert preview(b"x" * 1_000) == "x" * 64


@pytest.mark.parametrize("decode", [decode_tick, decode_trigger])
def test_what_is_too_long_is_not_even_parsed(decode: Any) -> None:
    body = b'{"slot":"2026-03-06T08:00:00Z"}'.ljust(MAX_MESSAGE_BYTES + 1)
    subject = "tick.snapshot.main.nas" if decode is decode_tick else TRIGGER_SUBJECT
    with pytest.raises(MessageRefused, match="bytes"):
        decode(subject, body)


def test_what_is_just_not_too_long_is_understood() -> None:
    body = b'{"slot":"2026-03-06T08:00:00Z"}'.ljust(MAX_MESSAGE_BYTES)
    assert decode_tick("tick.snapshot.main.nas", body).slot == SLOT


def test_a_slot_is_the_same_in_every_zone() -> None:
    tick = decode_tick("tick.snapshot.main.nas", b'{"slot":"2026-03-06T10:00:00+02:00"}')
    assert tick.slot == SLOT
    assert tick.slot.tzinfo is UTC
    assert tick_message_id(tick) == tick_message_id(a_tick())


@pytest.mark.parametrize(
    "subject",
    [
        "tick.snapshot.main.*",
        "tick.snapshot.main.>",
        "tick.snapshot.*.nas",
        "tick.*.main.nas",
        "tick.sweep.main.nas",
        "tick.snapshot.main",
        "tick.snapshot.main.nas.more",
        "tock.snapshot.main.nas",
        "tick.snapshot.main.latest",
        "tick.snapshot.main.",
        "tick.SNAPSHOT.main.nas",
    ],
)
def test_a_subject_that_names_no_job_store_and_host_is_refused(subject: str) -> None:
    with pytest.raises(MessageRefused):
        decode_tick(subject, encode_tick(a_tick()))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b'{"slot":"2026-03-06T08:00:00"}',
        b'{"slot":"2026-03-06"}',
        b'{"slot":1772784000}',
        b'{"slot":"2026-03-06T08:00:00Z","dry_run":1}',
        b'{"slot":"2026-03-06T08:00:00Z","store":"other"}',
        b'{"slot":"2026-03-06T08:00:00Z"}{}',
    ],
)
def test_a_tick_with_another_body_is_refused(body: bytes) -> None:
    with pytest.raises(MessageRefused):
        decode_tick("tick.snapshot.main.nas", body)


@pytest.mark.parametrize(
    ("subject", "body", "hosts"),
    [
        ("backup.trigger", b"", None),
        ("backup.trigger", b"{}", None),
        ("backup.trigger", b'{"hosts":null}', None),
        ("backup.trigger", b'{"hosts":["a","b"]}', ("a", "b")),
        ("backup.trigger.a", b"", ("a",)),
        ("backup.trigger.a", b'{"hosts":["a"]}', ("a",)),
    ],
)
def test_the_hosts_of_a_trigger_are_those_of_subject_and_body(
    subject: str, body: bytes, hosts: tuple[str, ...] | None
) -> None:
    assert decode_trigger(subject, body) == Trigger(hosts=hosts)


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("backup.trigger", b'{"hosts":[]}'),
        ("backup.trigger", b'{"hosts":["-oProxyCommand=x"]}'),
        ("backup.trigger", b'{"hosts":["a","B"]}'),
        ("backup.trigger", b'{"hosts":"a"}'),
        ("backup.trigger", b'{"host":"a"}'),
        ("backup.trigger", b'{"job":"sweep"}'),
        ("backup.trigger", b"now"),
        ("backup.trigger", b'{"by":"%s"}' % (b"x" * (MAX_BY_CHARACTERS + 1))),
        ("backup.trigger.a", b'{"hosts":["b"]}'),
        ("backup.trigger.a", b'{"hosts":["a","b"]}'),
        ("backup.trigger.a", b'{"hosts":[]}'),
        ("backup.trigger.*", b""),
        ("backup.trigger.latest", b""),
        ("backup.trigger.a.b", b""),
    ],
)
def test_a_trigger_that_is_not_clear_is_refused(subject: str, body: bytes) -> None:
    with pytest.raises(MessageRefused):
        decode_trigger(subject, body)


@given(ticks, ticks)
def test_two_ticks_share_a_message_id_only_when_they_are_the_same_wish(one: Tick, other: Tick) -> None:
    same = (one.job, one.host, one.slot.replace(microsecond=0), one.dry_run) == (
        other.job,
        other.host,
        other.slot.replace(microsecond=0),
        other.dry_run,
    )
    assert (tick_message_id(one) == tick_message_id(other)) == same


# Cancels.


@given(hosts, st.text(st.characters(codec="utf-8"), max_size=MAX_BY_CHARACTERS))
def test_a_cancel_comes_back_as_it_went(host: str, by: str) -> None:
    cancel = Cancel(HostName(host), by)
    assert decode_cancel(cancel_subject(cancel.host), encode_cancel(cancel)) == cancel


def test_an_empty_body_is_a_cancel_by_nobody_in_particular() -> None:
    assert decode_cancel("backup.cancel.nas", b"") == Cancel(HostName("nas"), "")


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("backup.cancel.*", b""),
        ("backup.cancel.>", b""),
        ("backup.cancel.", b""),
        ("backup.cancel", b""),
        ("backup.cancel.a.b", b""),
        ("backup.cancel.hourly", b""),
        ("backup.trigger.nas", b""),
        ("backup.cancel.nas", b"{"),
        ("backup.cancel.nas", b'{"host":"web"}'),
        ("backup.cancel.nas", b'{"by":1}'),
        ("backup.cancel.nas", b'{"by":"' + b"x" * (MAX_BY_CHARACTERS + 1) + b'"}'),
        ("backup.cancel.nas", b" " * (MAX_MESSAGE_BYTES + 1)),
    ],
)
def test_a_cancel_that_is_not_clear_is_refused(subject: str, body: bytes) -> None:
    with pytest.raises(MessageRefused):
        decode_cancel(subject, body)


@given(st.text(), st.binary())
def test_any_cancel_is_understood_or_refused(subject: str, body: bytes) -> None:
    try:
        decode_cancel(subject, body)
    except MessageRefused:
        return
    assert subject.startswith("backup.cancel.")
