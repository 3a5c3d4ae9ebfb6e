"""A state as bytes and back; a state of parts; and which positions get a saved projection."""

from __future__ import annotations

import ast
from importlib import resources
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.events import Recorded
from shared.domain.names import HOST_STREAM_PREFIX
from shared.domain.packed import FOLD_MODULES, from_bytes, joined, pack, shape_of, to_bytes, unpack
from shared.domain.projection import State, replay
from shared.domain.saving import MOST_EVENTS, MOST_OLD_EVENTS, START, Mark, first_gap, is_due, superfluous
from tests.unit.test_projection import histories

DAY_US = 86_400_000_000
NOW_US = 20_000 * DAY_US


def counted(steps: list[tuple[int, int]]) -> list[Mark]:
    """Marks with these distances, the last of them now."""
    position, us = 0, NOW_US - sum(step[1] for step in steps)
    found = []
    for events, later in steps:
        position, us = position + events, us + later
        found.append(Mark(position, us))
    return found


marks = st.lists(st.tuples(st.integers(1, 40_000), st.integers(1, 3 * DAY_US)), min_size=1, max_size=150).map(counted)


def there_and_back(state: State) -> State:
    found = State()
    for _ in unpack(from_bytes(to_bytes(pack(state))), found):
        pass
    return found


@given(histories(), st.integers(0, 30))
def test_a_saved_state_and_the_tail_are_the_replay(history: list[Recorded], cut: int) -> None:
    saved = there_and_back(replay([history[:cut]]))
    assert saved == replay([history[:cut]])
    assert replay([history[cut:]], saved) == replay([history])
    assert all(saved.host_of_stream[f"{HOST_STREAM_PREFIX}{name}"] is host for name, host in saved.hosts.items())


@given(histories(), st.integers(1, 3))
def test_parts_folded_from_different_streams_are_the_replay(history: list[Recorded], parts: int) -> None:
    def part_of(stream: str) -> int:
        return crc32(stream.encode()) % parts if stream.startswith(HOST_STREAM_PREFIX) else 0

    folded = [pack(replay([[one for one in history if part_of(one.stream) == part]])) for part in range(parts)]
    whole = State()
    for _ in unpack(joined(folded), whole):
        pass
    assert whole == replay([history])


def test_the_shape_is_that_of_every_module_the_fold_is_made_of() -> None:
    folder = resources.files("shared.domain")
    waiting, known = ["packed"], {"packed"}
    while waiting:
        tree = ast.parse(folder.joinpath(f"{waiting.pop()}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shared.domain."):
                name = (node.module or "").rpartition(".")[2]
                waiting += [name] if name not in known else []
                known.add(name)
    assert known == set(FOLD_MODULES)
    assert shape_of([b"a", b"b"]) != shape_of([b"ab", b""])


@given(marks)
def test_what_stays_has_a_first_of_each_day_and_no_longer_tails(saved: list[Mark]) -> None:
    going = set(superfluous(saved, NOW_US))
    staying = [mark for mark in saved if mark not in going]
    assert saved[-1] in staying
    assert {mark.recorded_us // DAY_US for mark in staying if NOW_US - mark.recorded_us <= 90 * DAY_US} == {
        mark.recorded_us // DAY_US for mark in saved if NOW_US - mark.recorded_us <= 90 * DAY_US
    }
    for here, following in zip([START, *staying], staying, strict=False):
        assert following.position - here.position <= MOST_OLD_EVENTS + 40_000
    assert superfluous(staying, NOW_US) == []


@given(marks)
def test_saving_when_it_is_due_leaves_no_gap_and_nothing_superfluous(passed: list[Mark]) -> None:
    saved: list[Mark] = []
    for here in passed:
        if is_due(saved[-1] if saved else START, here, NOW_US):
            saved.append(here)
    assert first_gap(saved, passed[-1], NOW_US) is None
    days = [mark.recorded_us // DAY_US for mark in saved if NOW_US - mark.recorded_us <= 89 * DAY_US]
    assert len(days) <= len(set(days)) + passed[-1].position // MOST_EVENTS


def test_a_gap_is_where_nothing_was_saved_for_too_long() -> None:
    head = Mark(1_000_000, NOW_US)
    assert first_gap([], Mark(MOST_EVENTS, NOW_US), NOW_US) is None
    assert first_gap([], head, NOW_US) == (START, head)
    near = Mark(950_000, NOW_US - DAY_US)
    assert first_gap([near], head, NOW_US) == (START, near)
