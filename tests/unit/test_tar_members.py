"""The counter of tar members, against Python's own tarfile."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.archiver.members import BrokenTar, MemberCounter

names = st.text(st.characters(min_codepoint=1, exclude_characters="/", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name not in {".", ".."}
)
values = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]))
members = st.lists(
    st.tuples(
        st.lists(names, min_size=1, max_size=4).map("/".join),
        st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]),
        st.binary(max_size=1500),
        st.dictionaries(st.sampled_from(["user.size", "SCHILY.xattr.user.a", "comment", "mtime"]), values, max_size=2),
    ),
    max_size=6,
)
formats = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])


def made(wanted: list[tuple[str, bytes, bytes, dict[str, str]]], tar_format: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tar_format, encoding="utf-8") as archive:
        for name, kind, content, headers in wanted:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "somewhere" if kind in {tarfile.SYMTYPE, tarfile.LNKTYPE} else ""
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            member.pax_headers = {key: "1.5" if key == "mtime" else value for key, value in headers.items()}
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def counted(stream: bytes, pieces: list[int]) -> MemberCounter:
    counter = MemberCounter()
    start = 0
    while start < len(stream):
        step = pieces.pop() if pieces else len(stream)
        counter.feed(memoryview(stream)[start : start + step])
        start += step
    return counter


@given(members, formats, st.lists(st.integers(1, 1200)))
def test_it_counts_what_tarfile_counts_however_the_stream_is_cut(
    wanted: list[tuple[str, bytes, bytes, dict[str, str]]], tar_format: int, pieces: list[int]
) -> None:
    stream = made(wanted, tar_format)
    counter = counted(stream, pieces)
    counter.finish()
    assert counter.members == len(wanted)
    assert counter.bytes == len(stream)


@given(members, st.integers(0, 10_000))
def test_a_stream_that_is_cut_off_is_never_taken_for_whole(
    wanted: list[tuple[str, bytes, bytes, dict[str, str]]], cut: int
) -> None:
    stream = made(wanted, tarfile.PAX_FORMAT).rstrip(b"\0")
    with pytest.raises(BrokenTar):
        counted(stream[:cut], []).finish()


@given(st.binary(min_size=512, max_size=3000))
def test_what_is_no_tar_stream_is_refused(content: bytes) -> None:
    if content.strip(b"\0"):
        with pytest.raises(BrokenTar):
            counted(content, []).finish()


def block(name: bytes, size: bytes, kind: bytes) -> bytes:
    header = bytearray(512)
    header[: len(name)] = name
    header[124 : 124 + len(size)] = size
    header[156:157] = kind
    header[257:265] = b"ustar\x0000"
    return bytes(header)


def test_a_size_in_an_extension_or_in_binary_goes_before_the_one_in_the_header() -> None:
    hidden = b"24 comment=\n10 size=511\n"
    records = hidden + b"13 size=1025\n"
    stream = block(b"x", b"%011o" % len(records), b"x") + records.ljust(512, b"\0")
    stream += block(b"large", b"%011o" % 0, b"0") + bytes(1536)
    stream += block(b"binary", b"\x80" + (600).to_bytes(11, "big"), b"0") + bytes(1024)
    counter = counted(stream + bytes(1024), [])
    counter.finish()
    assert counter.members == 2


@pytest.mark.parametrize(
    "records", [b"99999999999 size=1\n", b"0 size=1\n", b"x size=1\n", b"11 size=x1\n", b"11 size=-9\n"]
)
def test_an_extension_that_lies_about_itself_is_refused(records: bytes) -> None:
    stream = block(b"x", b"%011o" % len(records), b"x") + records.ljust(512, b"\0")
    with pytest.raises(BrokenTar):
        counted(stream, [])
