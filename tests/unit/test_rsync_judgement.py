"""What the end of a transfer means: every exit code, and error output from a host that lies."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.snapshotter.rsync import Complaints, TooManyLinks, Verdict, judge
from shared.domain.errors import RunFailed

# Every line is what rsync 3.5.0 writes, with other paths.
UNREADABLE = b'rsync: [sender] send_files failed to open "/home/alice/secret": Permission denied (13)\n'
VANISHED = b'file has vanished: "/home/alice/gone"\n'
NOT_WRITTEN = b'rsync: [receiver] mkstemp "/host/.partial-1/home/.f.x1" failed: Input/output error (5)\n'
NO_FOLDER = b'rsync: [generator] recv_generator: mkdir "/host/.partial-1/home" failed: Permission denied (13)\n'
FULL = b'rsync: [receiver] write failed on "/host/.partial-1/home/f": No space left on device (28)\n'
QUOTA = b'rsync: [receiver] write failed on "/host/.partial-1/home/f": Disk quota exceeded (122)\n'
READ_ONLY = b'rsync: [generator] mkdir "/host/.partial-1/home" failed: Read-only file system (30)\n'
LINKS = b'rsync: [generator] link "/host/.partial-1/home/b" => home/a failed: Too many links (31)\n'
VANISHED_SUMMARY = (
    b"rsync warning: some files vanished before they could be transferred (code 24) at main.c(1893) [generator=3.5.0]\n"
)
SUMMARY = (
    b"rsync error: some files/attrs were not transferred (see previous errors) (code 23) "
    b"at main.c(1893) [generator=3.5.0]\n"
)


def heard(*chunks: bytes) -> Complaints:
    """The complaints after this error output."""
    complaints = Complaints()
    for chunk in chunks:
        complaints.add(chunk)
    complaints.end()
    return complaints


def outcome(exit_code: int, *chunks: bytes) -> str:
    """The verdict as one word: complete, warned, degraded, or the failure's code and whether it may pass."""
    try:
        verdict = judge(exit_code, heard(*chunks))
    except TooManyLinks:
        return "too many links"
    except RunFailed as error:
        return f"{error.code} {'transient' if error.transient else 'final'}"
    if verdict.degraded:
        return "degraded"
    return "warned" if verdict.warnings else "complete"


@pytest.mark.parametrize(
    ("exit_code", "said", "meaning"),
    [
        (0, b"", "complete"),
        (1, b"", "rsync_1 final"),
        (2, b"", "rsync_2 final"),
        (3, b"", "rsync_3 final"),
        (4, b"", "rsync_4 final"),
        (5, b"", "rsync_5 transient"),
        (10, b"", "rsync_10 transient"),
        (11, b"", "rsync_11 final"),
        (12, b"", "rsync_12 transient"),
        (13, b"", "rsync_13 final"),
        (14, b"", "rsync_14 transient"),
        (20, b"", "rsync_20 transient"),
        (21, b"", "rsync_21 transient"),
        (22, b"", "rsync_22 transient"),
        (23, UNREADABLE + SUMMARY, "degraded"),
        (23, NOT_WRITTEN + SUMMARY, "rsync_23 final"),
        (23, NO_FOLDER + SUMMARY, "rsync_23 final"),
        (23, UNREADABLE + NOT_WRITTEN + SUMMARY, "rsync_23 final"),
        (23, NOT_WRITTEN + UNREADABLE + SUMMARY, "rsync_23 final"),
        (23, SUMMARY, "rsync_23 final"),
        (23, b"", "rsync_23 final"),
        (24, VANISHED, "warned"),
        (24, b"", "warned"),
        (25, b"", "rsync_25 final"),
        (30, b"", "rsync_30 transient"),
        (35, b"", "rsync_35 transient"),
        (77, b"", "rsync_77 final"),
        (127, b"", "rsync_127 final"),
        (137, b"", "rsync_137 transient"),
        (-9, b"", "rsync_137 transient"),
        (-15, b"", "rsync_143 final"),
        (255, b"", "rsync_255 transient"),
        (13, LINKS, "too many links"),
        (2, LINKS, "too many links"),
        (23, LINKS + UNREADABLE, "too many links"),
        (0, LINKS, "warned"),
    ],
)
def test_every_exit_code_means_what_is_documented(exit_code: int, said: bytes, meaning: str) -> None:
    assert outcome(exit_code, said) == meaning


@given(st.integers(-64, 300).filter(lambda code: code not in {0, 23, 24}), st.sampled_from([b"", UNREADABLE, VANISHED]))
def test_no_other_exit_code_than_0_23_and_24_ever_makes_a_snapshot(exit_code: int, said: bytes) -> None:
    with pytest.raises(RunFailed) as failed:
        judge(exit_code, heard(said))
    assert f"code {exit_code if exit_code >= 0 else 128 - exit_code}:" in failed.value.message


@pytest.mark.parametrize("line", [FULL, QUOTA, READ_ONLY])
@pytest.mark.parametrize("exit_code", [11, 12, 23])
def test_a_drive_that_takes_no_more_is_never_a_degraded_snapshot(exit_code: int, line: bytes) -> None:
    for said in ([line, UNREADABLE], [UNREADABLE, line], [UNREADABLE * 500, line, UNREADABLE * 500]):
        with pytest.raises(RunFailed) as failed:
            judge(exit_code, heard(*said))
        assert not failed.value.transient
        assert failed.value.code == (f"rsync_{exit_code}" if line == READ_ONLY else "no_room")
        assert "drive" in failed.value.message
        assert failed.value.hint


def test_a_warning_counts_the_files_and_keeps_the_first_lines() -> None:
    verdict = judge(24, heard(VANISHED * 3 + VANISHED_SUMMARY))
    assert verdict.warnings == ("3 files vanished while they were read.", *[VANISHED.decode().strip()] * 3)
    assert judge(23, heard(UNREADABLE * 2)).warnings == (
        "2 files could not be read on the host.",
        *[UNREADABLE.decode().strip()] * 2,
    )


def test_ten_megabytes_of_complaints_stay_small() -> None:
    lines = UNREADABLE * (10_000_000 // len(UNREADABLE))
    endless = b"x" * 10_000_000
    complaints = Complaints()
    tracemalloc.start()
    try:
        for text in (lines, endless):
            for start in range(0, len(text), 65_536):
                complaints.add(text[start : start + 65_536])
        complaints.end()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
    assert complaints.sender == len(lines) // len(UNREADABLE)
    assert len(complaints.kept) <= 2 * Complaints.MAX_KEPT + 1
    assert max(map(len, complaints.kept)) <= 500


def test_what_the_drive_said_survives_any_number_of_other_complaints() -> None:
    with pytest.raises(RunFailed, match="the backup drive is full"):
        judge(11, heard(UNREADABLE * 10_000, FULL, UNREADABLE * 10_000))


LINES = st.sampled_from([UNREADABLE, VANISHED, NOT_WRITTEN, NO_FOLDER, FULL, READ_ONLY, LINKS, SUMMARY])
LONG_PATH = b"/host/.partial-1/" + b"\\#012" * 4_000
LONG = [
    b'rsync: [receiver] mkstemp "' + LONG_PATH + b'" failed: File name too long (36)\n',
    b'rsync: [sender] send_files failed to open "' + LONG_PATH + b'": Permission denied (13)\n',
    b"y" * (Complaints.LINE_LIMIT_BYTES - 1) + b"\n",
    b"y" * Complaints.LINE_LIMIT_BYTES + b"\n",
    b"y" * (Complaints.LINE_LIMIT_BYTES + 1) + b"\n",
]
OUTPUTS = st.lists(LINES | st.sampled_from(LONG) | st.binary(max_size=60), max_size=6).map(b"".join)


def cut(text: bytes, places: Iterable[int]) -> list[bytes]:
    """The text in pieces."""
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


@given(OUTPUTS, st.lists(st.integers(0, 10**6), max_size=12), st.sampled_from([0, 11, 13, 23, 24]))
def test_where_the_output_was_cut_changes_nothing(text: bytes, places: list[int], exit_code: int) -> None:
    pieces = heard(*cut(text, places))
    whole = heard(text)
    assert vars(pieces) == vars(whole)
    assert outcome(exit_code, *cut(text, places)) == outcome(exit_code, text)


def test_a_very_long_path_is_still_our_own_complaint() -> None:
    """The beginning of the line says whose it is; it has to outlive the rest."""
    long = LONG[0]
    for size in (1, 1000, 4096, len(long)):
        pieces = [long[start : start + size] for start in range(0, len(long), size)]
        assert outcome(23, UNREADABLE, *pieces) == "rsync_23 final"


# From here on the host is an enemy: whatever it writes to its error output lands between the lines of our own rsync.

IMITATIONS = [
    b'rsync: [sender] send_files failed to open "x": Permission denied (13)',
    b'rsync: [sender] send_files failed to open "x',
    b'file has vanished: "x"',
    b'file has vanished: "',
    b"rsync error: nothing is wrong",
    b"IO error encountered",
    b"WARNING: x failed verification -- update discarded (will try again).",
    b"some files vanished before they could be transferred",
    b'"',
    b"\r",
    b"\x1b[2K",
    b"\xff\xfe",
    b"rsync: [sender] " + b"x" * 200_000,
]


@pytest.mark.parametrize("imitation", IMITATIONS)
@pytest.mark.parametrize("ours", [NOT_WRITTEN, NO_FOLDER, FULL, QUOTA, READ_ONLY])
@pytest.mark.parametrize("glue", [b"", b"\n", b" "])
def test_no_text_of_the_host_hides_a_complaint_of_our_own(imitation: bytes, ours: bytes, glue: bytes) -> None:
    """Not even when it stands on the same line, because the host left its line open."""
    found = outcome(23, UNREADABLE, imitation + glue + ours, UNREADABLE)
    assert found == "rsync_23 final" or (found == "no_room final" and ours in {FULL, QUOTA})


@given(st.lists(st.sampled_from(IMITATIONS) | st.binary(max_size=80), max_size=8), st.sampled_from([NOT_WRITTEN, FULL]))
def test_no_mixture_of_texts_hides_a_complaint_of_our_own(texts: list[bytes], ours: bytes) -> None:
    assert outcome(23, UNREADABLE, *texts, ours, *texts) not in {"complete", "warned", "degraded"}


@given(st.lists(LINES | st.sampled_from(IMITATIONS) | st.binary(max_size=80), max_size=8))
def test_no_text_at_all_makes_a_failure_complete(texts: list[bytes]) -> None:
    assert outcome(12, *texts) in {"rsync_12 transient", "rsync_12 final", "no_room final", "too many links"}
    assert outcome(23, *texts) in {"degraded", "rsync_23 final", "no_room final", "too many links"}


def test_lines_that_imitate_the_receiver_only_make_it_worse() -> None:
    """In doubt it is a failure; a host that wants to spoil its own backup can do so in simpler ways."""
    assert outcome(23, UNREADABLE) == "degraded"
    assert outcome(23, UNREADABLE, b"rsync: [receiver] I am the host, really\n") == "rsync_23 final"


@pytest.mark.parametrize(
    "name",
    [
        b"No space left on device",
        b"Read-only file system.md",
        b"Disk quota exceeded (122)",
        b"Too many links (31)",
        b"[receiver]",
        b"[generator] failed",
        b'a" No space left "b',
        b"failed verification -- update discarded",
    ],
)
def test_the_name_of_an_unreadable_file_is_not_taken_for_a_complaint(name: bytes) -> None:
    """Otherwise one file with such a name would keep a whole host from being backed up, or copy it anew each hour."""
    unreadable = b'rsync: [sender] send_files failed to open "/home/alice/' + name + b'": Permission denied (13)\n'
    assert outcome(23, unreadable) == "degraded"
    vanished = b'file has vanished: "/home/alice/' + name + b'"\n'
    assert outcome(24, vanished) == "warned"


def test_what_a_shell_of_the_host_says_does_not_spoil_a_good_transfer() -> None:
    noise = b"bash: warning: setlocale: LC_ALL: cannot change locale\nmktemp: No space left on device\n"
    assert judge(0, heard(noise)) == Verdict(warnings=tuple(noise.decode().splitlines()))
    assert outcome(23, b"bash: warning: setlocale\n", UNREADABLE) == "degraded"


LIES = b"ERROR: rejecting unrequested file-list name: /etc\n"
PIPE = b"rsync: [Receiver] write error: Broken pipe (32)\n"


def test_a_host_that_lists_what_nobody_asked_for_is_called_so_and_not_too_old() -> None:
    with pytest.raises(RunFailed) as failed:
        judge(4, heard(LIES, PIPE))
    assert failed.value.code == "lies"
    assert not failed.value.transient
    assert "/etc" in failed.value.message
    assert "somebody else" in failed.value.hint
