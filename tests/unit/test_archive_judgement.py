"""An archive is whole when it has every entry that is there, and when what was read back is what was written."""

from __future__ import annotations

import msgspec
import pytest

from services.archiver.judgement import compare, same
from services.archiver.reports import Packed, Surveyed, Trouble
from shared.domain.errors import RunFailed

PACKED = Packed(members=7, source_bytes=10_240, size_bytes=512, sha256="ab" * 32)


def test_an_archive_of_all_that_is_there_is_whole() -> None:
    compare(PACKED, Surveyed(files=4, directories=2, symlinks=1, sockets=3))
    same(PACKED, PACKED)


@pytest.mark.parametrize("files", [3, 5])
def test_an_archive_of_more_or_less_than_is_there_is_not(files: int) -> None:
    with pytest.raises(RunFailed) as failed:
        compare(PACKED, Surveyed(files=files, directories=2, symlinks=1))
    assert failed.value.code == "count"


@pytest.mark.parametrize("what", [{"members": 6}, {"source_bytes": 0}, {"size_bytes": 511}, {"sha256": "cd" * 32}])
def test_whatever_was_read_back_otherwise_is_told(what: dict[str, int | str]) -> None:
    with pytest.raises(RunFailed, match=next(iter(what))) as failed:
        same(PACKED, msgspec.structs.replace(PACKED, **what))
    assert failed.value.code == "read_back"


def test_what_could_not_be_read_back_is_no_archive() -> None:
    for trouble in (Trouble("stream", 0, "it ends too early"), Trouble("target", 5, "Input/output error")):
        with pytest.raises(RunFailed):
            same(PACKED, trouble)
