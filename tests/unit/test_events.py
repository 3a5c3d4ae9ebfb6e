"""Events: each type comes back as it went, under the name of its class, and what is unknown is said."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.errors import LogRefused
from shared.domain.events import AnyEvent, Event, Job, Kind, Quality, Recorded, decode_event, decode_page, encode_event
from tests.support.builders import EVENT_TYPES, RUN, SLOT, build, one_of_each, recorded

texts = st.text(st.characters(codec="utf-8"))
whole = st.integers(-(2**62), 2**62)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    int: whole,
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    UUID: st.uuids(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    Job: st.sampled_from(Job),
    Quality: st.sampled_from(Quality),
    Kind: st.sampled_from(Kind),
    tuple[str, ...]: st.lists(texts, max_size=4).map(tuple),
    tuple[str, ...] | None: st.none() | st.lists(texts, max_size=4).map(tuple),
    dict[str, str]: st.dictionaries(texts, texts, max_size=4),
    str | None: st.none() | texts,
    int | None: st.none() | whole,
    UUID | None: st.none() | st.uuids(),
}


def any_event(kind: type[AnyEvent]) -> st.SearchStrategy[AnyEvent]:
    return st.builds(kind, **{field.name: VALUES[field.type] for field in msgspec.structs.fields(kind)})


@given(st.sampled_from(EVENT_TYPES).flatmap(any_event))
def test_every_event_comes_back_as_it_went(event: AnyEvent) -> None:
    assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize("event", one_of_each(), ids=lambda event: type(event).__name__)
def test_the_stored_tag_is_the_name_of_the_class(event: AnyEvent) -> None:
    stored = json.loads(encode_event(event))
    assert stored["type"] == type(event).__name__
    assert next(iter(stored)) == "type"


def test_every_kind_of_event_can_be_recorded() -> None:
    # An event that is not in AnyEvent could be appended and would never be read again.
    assert set(EVENT_TYPES) == set(Event.__subclasses__())


@pytest.mark.parametrize("event", one_of_each(), ids=lambda event: type(event).__name__)
def test_fields_of_a_newer_version_are_passed_over(event: AnyEvent) -> None:
    stored = {**json.loads(encode_event(event)), "invented_tomorrow": [1, {"x": None}]}
    assert decode_event(json.dumps(stored)) == event


@pytest.mark.parametrize("event", one_of_each(), ids=lambda event: type(event).__name__)
def test_an_event_cannot_be_changed(event: AnyEvent) -> None:
    with pytest.raises(AttributeError):
        setattr(event, msgspec.structs.fields(event)[0].name, None)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "null", '{"type":"InventedTomorrow"}', '{"type":"HoldPlaced"}', '{"type":1}', "[", b"\xff", b"\x00"],
)
def test_what_this_version_does_not_know_is_said_with_what_to_do(text: str | bytes) -> None:
    with pytest.raises(LogRefused, match="upgrade"):
        decode_event(text)


@given(st.binary() | st.text())
def test_nothing_but_log_refused_ever_comes_out_of_the_decoders(stored: str | bytes) -> None:
    for decode in (decode_event, decode_page):
        try:
            decode(stored)  # type: ignore[arg-type]  # a page is text; the server could send anything
        except LogRefused:
            continue


def test_a_page_is_read_as_the_database_builds_it() -> None:
    events = [recorded(event, position, version=position) for position, event in enumerate(one_of_each(), start=1)]
    rows = [
        f'[{event.position},{event.recorded_us},"{event.stream}",{event.version},{encode_event(event.event)}]'
        for event in events
    ]
    assert decode_page("\n".join(rows)) == events
    assert decode_page("") == []


def test_optional_fields_need_not_be_stored() -> None:
    required_only = {
        "type": "SnapshotStarted",
        "run": str(RUN),
        "slot": SLOT.isoformat(),
        "store": "main",
        "worker": "w",
    }
    event = decode_event(json.dumps(required_only))
    assert event == build(type(event), run=RUN, slot=SLOT, store="main", worker="w", attempt=1, base=None)


def test_an_event_in_the_log_knows_its_place() -> None:
    event = recorded(one_of_each()[0], 7, version=3, stream="host-a")
    assert msgspec.json.decode(msgspec.json.encode(event), type=Recorded) == event
