"""Taking rsync's output apart: the same result however it arrives, and nothing passes for a file that is none."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.snapshotter.output import OutputReader, Progress, Totals, parse_progress
from shared.domain.errors import RunFailed

TOKEN = b"9f86d081884c7d65 "

TOTALS = b"""
Number of files: 1234 (reg: 1000, dir: 200, link: 30, dev: 1, special: 3)
Number of created files: 5 (reg: 5)
Number of deleted files: 0
Number of regular files transferred: 5
Total file size: 98765 bytes
Total transferred file size: 4321 bytes
Literal data: 4321 bytes
Matched data: 0 bytes
File list size: 0
Total bytes sent: 139
Total bytes received: 5678

sent 139 bytes  received 5678 bytes  1070.00 bytes/sec
total size is 98765  speedup is 20.02
"""

COUNTED = Totals(
    files=1000,
    directories=200,
    symlinks=30,
    specials=4,
    transferred_files=5,
    size_bytes=98765,
    transferred_bytes=4321,
    received_bytes=5678,
)

FILE = TOKEN + b"home/a//>f+++++++++|ccd433e50931cf855b19ef905838a84a|2|2026/11/23-01:46:33|\n"
FOLDER = TOKEN + b"home///cd+++++++++|                                |4096|2026/11/23-01:46:33|\n"
ODD = (
    TOKEN + b"home/" + b"\\#012\\#015 \xff\xfe  12 100% 1.00kB/s 0:00:00" + b"//hf         |  |2|2026/11/23-01:46:33|\n"
)
PROGRESS = (
    b"\r              4  33%    1.95kB/s    0:00:07 \r              6  50%    3.00MB/s    0:01:02 (xfr#2, to-chk=3/7)\n"
)
LIE = b"home/b//>f+++++++++|0500ff9fb08faa789c8a42d344bc37c7|2|2026/11/23-01:46:33|\n"


def read(*chunks: bytes) -> tuple[OutputReader, bytes]:
    """A reader after this output, and the lines about files that it gave out."""
    reader = OutputReader(TOKEN)
    return reader, b"".join(reader.take(chunk) for chunk in chunks)


def test_lines_about_files_come_out_without_their_token() -> None:
    reader, lines = read(FOLDER + FILE + ODD + TOTALS)
    assert lines == b"".join(line.removeprefix(TOKEN) for line in (FOLDER, FILE, ODD))
    assert reader.entries == 3
    assert reader.totals() == COUNTED


def test_progress_is_followed_while_it_comes() -> None:
    reader = OutputReader(TOKEN)
    assert reader.progress == Progress()
    reader.take(b"             42   7%    1.50kB/s    1:02:03 \r")
    assert reader.progress == Progress(42, 7, 1536, 3723)
    reader.take(b"      123456789  99%    2.00GB/s    0:00:00 (xfr#2, to-chk=3/7)\r")
    assert reader.progress == Progress(123456789, 99, 2 * 1024**3, None)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"42   7%    1.50kB/s    1:02:03",
        b" 42 7% 1.50xB/s 1:02:03",
        b" 42 7% 1.50kB/s 1:02",
        b" x 7% 1kB/s 0:00:00",
    ],
)
def test_what_only_resembles_progress_is_none(line: bytes) -> None:
    assert parse_progress(line) is None


def test_progress_never_exceeds_a_hundred_percent() -> None:
    progress = parse_progress(b"        42 107%    0.00kB/s    0:00:00 ")
    assert progress == Progress(42, 100, 0, None)


PARTS = st.lists(
    st.sampled_from([FILE, FOLDER, ODD, PROGRESS, LIE, b"\n", b"\r", b"created directory /host/x\n"])
    | st.binary(max_size=40).map(lambda noise: b"motd " + noise + b"\n"),
    max_size=20,
).map(b"".join)


def cut(text: bytes, places: Iterable[int]) -> list[bytes]:
    """The text in pieces, some of them possibly empty."""
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


@given(PARTS, st.lists(st.integers(0, 10**6), max_size=20))
def test_where_the_output_was_cut_changes_nothing(text: bytes, places: list[int]) -> None:
    whole, lines = read(text + TOTALS)
    pieces, same_lines = read(*cut(text + TOTALS, places))
    assert same_lines == lines
    assert pieces.entries == whole.entries == lines.count(b"\n")
    assert pieces.progress == whole.progress
    assert pieces.totals() == whole.totals() == COUNTED


def test_byte_by_byte_is_no_exception() -> None:
    text = FOLDER + PROGRESS + FILE + PROGRESS + ODD + TOTALS
    reader, lines = read(*(text[place : place + 1] for place in range(len(text))))
    assert lines.count(b"\n") == 3
    assert reader.progress == Progress(6, 50, 3 * 1024**2, None)
    assert reader.totals() == COUNTED


@given(PARTS.filter(lambda text: TOKEN not in text) | st.binary(max_size=200).filter(lambda text: TOKEN not in text))
def test_a_line_without_the_token_is_never_a_file(text: bytes) -> None:
    reader, lines = read(text, b"\n", LIE, b" " + FILE, TOTALS)
    assert lines == b""
    assert reader.entries == 0


@given(st.integers(0, len(TOKEN) - 1))
def test_a_wrong_token_is_no_token(place: int) -> None:
    wrong = bytearray(FILE)
    wrong[place] ^= 1
    assert read(bytes(wrong))[1] == b""


def test_the_last_line_counts_only_with_its_end() -> None:
    """A connection that broke in the middle of a line must not leave half a name behind."""
    reader, lines = read(FILE + FILE[:-1])
    assert lines.count(b"\n") == 1
    assert reader.entries == 1


@pytest.mark.parametrize(
    "without",
    [
        b"Number of files:",
        b"Number of regular files transferred:",
        b"Total file size:",
        b"Total transferred file size:",
        b"Total bytes received:",
    ],
)
def test_missing_totals_are_a_failure(without: bytes) -> None:
    kept = [line for line in TOTALS.splitlines(keepends=True) if not line.startswith(without)]
    assert len(kept) == len(TOTALS.splitlines()) - 1
    with pytest.raises(RunFailed) as failed:
        read(FILE, *kept)[0].totals()
    assert failed.value.code == "no_totals"


def test_no_output_at_all_is_a_failure() -> None:
    with pytest.raises(RunFailed, match="without its totals"):
        read(b"")[0].totals()


def test_totals_of_an_empty_source_are_zero() -> None:
    text = TOTALS.replace(
        b"Number of files: 1234 (reg: 1000, dir: 200, link: 30, dev: 1, special: 3)", b"Number of files: 0"
    )
    totals = read(text)[0].totals()
    assert (totals.files, totals.directories, totals.symlinks, totals.specials) == (0, 0, 0, 0)


def test_totals_that_the_host_imitates_are_overwritten_by_the_real_ones() -> None:
    """They come last, after the host has nothing more to say."""
    lie = TOTALS.replace(b"1000", b"9").replace(b"98765", b"1")
    assert read(lie * 50 + FILE + TOTALS)[0].totals() == COUNTED


def test_a_million_lines_that_are_not_understood_are_not_kept() -> None:
    reader = OutputReader(TOKEN)
    for _ in range(100):
        assert reader.take(b"Number of times I lied: 1\nmotd\n" * 10_000) == b""
    reader.take(TOTALS)
    assert reader.totals() == COUNTED
    assert sum(len(value) for value in vars(reader).values() if isinstance(value, bytes | list)) < 1_000
