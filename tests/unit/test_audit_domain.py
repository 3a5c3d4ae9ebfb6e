"""The check of the hash chain: silent about what `append` wrote, and never about anything else."""

from __future__ import annotations

import hashlib

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.audit import GENESIS, ChainCheck, Finding, Link

STREAMS = ["host-a", "host-b", "settings"]


def chained(stories: list[tuple[str, bytes]]) -> list[Link]:
    """The links that `append` would have written for these streams and bytes."""
    links: list[Link] = []
    versions: dict[str, int] = {}
    head = GENESIS
    for position, (stream, canonical) in enumerate(stories, start=1):
        versions[stream] = versions.get(stream, 0) + 1
        head = hashlib.sha256(head + canonical).digest()
        links.append(Link(position, stream, versions[stream], canonical, head))
    return links


chains = st.lists(st.tuples(st.sampled_from(STREAMS), st.binary(max_size=8)), max_size=15).map(chained)
long_chains = st.lists(st.tuples(st.sampled_from(STREAMS), st.binary(max_size=8)), min_size=2, max_size=15).map(chained)


def checked(*pages: list[Link]) -> ChainCheck:
    check = ChainCheck()
    for page in pages:
        check.check(page)
    return check


def named(check: ChainCheck) -> set[int]:
    return {finding.position for finding in check.findings}


@given(chains, st.integers(0, 15))
def test_a_whole_chain_has_no_findings_however_it_is_cut_into_pages(links: list[Link], cut: int) -> None:
    check = checked(links[:cut], links[cut:])
    assert check.findings == []
    assert check.position == len(links)
    assert check.head == (links[-1].hash if links else GENESIS)


@given(long_chains, st.data())
def test_changed_bytes_are_named_once_and_nothing_else_is(links: list[Link], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(links) - 1))
    changed = data.draw(st.binary(max_size=8).filter(lambda canonical: canonical != links[index].canonical))
    links[index] = msgspec.structs.replace(links[index], canonical=changed)
    assert [finding.position for finding in checked(links).findings] == [index + 1]


@given(long_chains, st.data())
def test_a_changed_hash_is_named(links: list[Link], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(links) - 1))
    bit = data.draw(st.integers(0, 255))
    flipped = (int.from_bytes(links[index].hash, "big") ^ 1 << bit).to_bytes(32, "big")
    links[index] = msgspec.structs.replace(links[index], hash=flipped)
    assert named(checked(links)) - {index + 2} == {index + 1}


@given(long_chains, st.data())
def test_a_missing_event_is_named_unless_it_was_the_last(links: list[Link], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(links) - 2))
    del links[index]
    assert Finding(index + 2, f"positions {index + 1} to {index + 1} are missing") in checked(links).findings


@given(long_chains, st.data())
def test_an_event_that_stands_twice_is_named(links: list[Link], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(links) - 1))
    links.insert(index, links[index])
    sentences = {finding.sentence for finding in checked(links).findings if finding.position == index + 1}
    assert "this position is taken by more than one event" in sentences


@given(long_chains, st.data())
def test_a_wrong_version_is_named_with_its_stream(links: list[Link], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(links) - 1))
    link = links[index]
    links[index] = msgspec.structs.replace(link, version=link.version + data.draw(st.integers(1, 99)))
    first = checked(links).findings[0]
    assert first.position == index + 1
    assert link.stream in first.sentence


def test_an_anchor_is_silent_about_the_hash_that_was_anchored() -> None:
    check = ChainCheck()
    check.check_anchor(7, b"x" * 32, b"x" * 32)
    assert check.findings == []


def test_an_anchor_names_another_hash_and_a_missing_end() -> None:
    check = ChainCheck()
    check.check_anchor(7, b"x" * 32, b"y" * 32)
    check.check_anchor(9, b"x" * 32, None)
    assert [finding.position for finding in check.findings] == [7, 9]
    assert "anchored" in check.findings[0].sentence
    assert "end of the log is missing" in check.findings[1].sentence
