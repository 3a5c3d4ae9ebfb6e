"""The pure rules of looking into restore points: exact paths, parts of files, names, previews."""

from __future__ import annotations

import fnmatch
import itertools
import re
from datetime import UTC, datetime
from urllib.parse import unquote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.files.entries import FileEntry
from services.api.files.folder_zip import name_in_zip
from services.api.files.preview import judged
from services.api.files.ranges import attachment, wanted_range
from services.api.files.timeline import WIDTH, drawn
from services.api.files.versions import Bar
from shared.domain.errors import NameRefused
from shared.domain.name_pattern import NamePattern
from shared.domain.paths import path_in_address, path_in_query, shown, token_of

NAMES = st.binary(min_size=1, max_size=60).filter(lambda name: not {0, 0x2F} & set(name) and name not in {b".", b".."})
PATHS = st.lists(NAMES, min_size=1, max_size=5).map(b"/".join)


@given(PATHS)
def test_a_path_comes_back_from_an_address_and_from_a_query_byte_for_byte(path: bytes) -> None:
    token = token_of(path)
    assert token.isascii()
    assert not re.search(r"[^A-Za-z0-9/%._~-]", token)
    assert path_in_address(token.encode()) == path
    assert path_in_query(b"at=now&path=" + token.encode() + b"&limit=3") == path


@given(st.binary(max_size=80))
def test_what_is_no_path_is_refused_and_what_is_one_cannot_climb(raw: bytes) -> None:
    for parse in (path_in_address, lambda asked: path_in_query(b"path=" + asked)):
        try:
            path = parse(raw.replace(b"&", b"").replace(b"?", b""))
        except NameRefused:
            continue
        assert path is not None
        assert not path.startswith(b"/")
        assert b"\0" not in path
        assert not {b"..", b"."} & set(path.split(b"/"))


@pytest.mark.parametrize("raw", [b"a%2fb", b"..", b"a/..", b"%2e%2e", b"a/%2E/b", b"a%00", b"a//b", b"%2f%2f"])
def test_these_are_no_paths(raw: bytes) -> None:
    with pytest.raises(NameRefused):
        path_in_address(raw)


@given(st.binary(max_size=100))
def test_what_is_shown_cannot_move_a_cursor(name: bytes) -> None:
    assert shown(name).isprintable()


@given(NAMES)
def test_a_file_is_stored_under_its_name_as_far_as_that_is_text(name: bytes) -> None:
    header = attachment(name)
    assert header.isascii()
    assert header.isprintable()
    plain, exact = re.fullmatch(r"attachment; filename=\"([^\"\\/]*)\"; filename\*=UTF-8''(.*)", header).groups()  # type: ignore[union-attr]
    assert len(plain) == len(unquote(exact))
    text = name.decode("utf-8", "replace")
    if text.isprintable() and not set(text) & set('\\"'):
        assert unquote(exact) == text


@given(st.integers(0, 2**63), st.integers(0, 2**63), st.integers(1, 2**63 - 1))
def test_a_range_never_leaves_the_file(first: int, last: int, size: int) -> None:
    for header in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        try:
            part = wanted_range(header, size)
        except ValueError:
            continue
        assert part is None or 0 <= part[0] < part[1] <= size


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=5-", (5, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=2-99", (2, 10)),
        ("bytes=5-2", None),
        ("bytes=-", None),
        ("chapters=1-2", None),
        ("bytes=1-2,4-5", None),
    ],
)
def test_these_ranges_mean_these_bytes(header: str, part: tuple[int, int] | None) -> None:
    assert wanted_range(header, 10) == part


@given(PATHS)
def test_a_name_in_a_zip_is_text_that_leads_back_to_its_bytes(path: bytes) -> None:
    name = name_in_zip(path)
    assert name.encode() == path or unquote_to_bytes(name) == path


ASCII = st.text("abAB.*?1[]", min_size=1, max_size=4)


@given(ASCII, st.lists(st.text("abAB.1/", min_size=1, max_size=8), min_size=1, max_size=6))
def test_a_name_fits_a_pattern_whatever_the_case_and_no_line_that_fits_is_passed_over(
    pattern: str, paths: list[str]
) -> None:
    wanted = NamePattern(pattern)
    block = b"".join(path.encode() + b"//f|-|0|x|\n" for path in paths)
    candidates = set(wanted.lines_that_may_fit(block))
    for path in paths:
        name = path.rpartition("/")[2].lower()
        low = pattern.lower()
        expected = fnmatch.fnmatchcase(name, low) if set("*?[") & set(low) else low in name
        assert wanted.fits(path.encode()) == expected
        if expected:
            assert path.encode() + b"//f|-|0|x|" in candidates


@given(st.binary(max_size=300))
def test_a_preview_is_safe_to_show_whatever_the_file_is(head: bytes) -> None:
    seen = judged(head, len(head))
    assert seen.text is None or all(line.isprintable() for part in seen.text.split("\n") for line in part.split("\t"))


def test_a_character_that_is_cut_in_two_does_not_make_it_another_encoding() -> None:
    head = ("ü" * 40).encode()[:-1]
    assert judged(head, 1000).encoding == "UTF-8"
    assert judged(head, len(head)).encoding.startswith("Latin-1")
    assert judged(b"<svg onload=alert(1)>", 21).picture == ""
    assert judged(b"RIFF\0\0\0\0WEBPVP8 ", 16).picture == "image/webp"


def test_the_bars_of_a_timeline_lie_side_by_side() -> None:
    slots = {f"s{hour}": datetime(2026, 3, 6, hour, tzinfo=UTC) for hour in range(6)}
    version = FileEntry("a", "a", "file")
    bars = [Bar("s0", "s1", 2, version), Bar("s2", "s3", 2), Bar("s4", "s5", 2, version)]
    made = drawn(bars, slots).bars
    assert [bar.number for bar in made] == [1, None, 2]
    assert made[0].x == 0
    assert all(one.x + one.width <= two.x for one, two in itertools.pairwise(made))
    assert made[-1].x + made[-1].width <= WIDTH
    assert drawn(bars[:1], slots).bars[0].width > WIDTH / 2
