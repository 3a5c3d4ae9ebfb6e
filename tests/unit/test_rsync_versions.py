"""Which rsync is too old, here and on a host."""

from __future__ import annotations

import pytest

from services.snapshotter.versions import protocol_in_words, protocol_of, why_too_old_here


@pytest.mark.parametrize(
    ("version", "too_old"),
    [*((version, False) for version in ("3.2.0", "3.2", "3.10.1", "4.0", "v3.3.0", "unknown")), ("3.1.3", True)],
)
def test_our_own_rsync_has_a_floor(version: str, too_old: bool) -> None:
    assert bool(why_too_old_here(version)) == too_old


def test_only_the_first_line_about_the_protocol_is_believed() -> None:
    line = b"(Client) Protocol versions: remote=%d, negotiated=31\n"
    assert protocol_of(line % 31 + line % 99) == 31
    assert protocol_of(b"a banner\n" + line % 30) == 30
    assert protocol_of(b"nothing of the kind") is None
    assert protocol_in_words(31) == "speaks protocol 31: rsync 3.1 or newer"
    assert [protocol_in_words(number).split(": ")[1] for number in (28, 40)] == [
        "rsync older than 2.6",
        "rsync 3.4 or newer",
    ]
