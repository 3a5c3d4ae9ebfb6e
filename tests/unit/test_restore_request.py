"""What may be asked to be restored, and what is known of it afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.restorer.places import beside, in_place, ways
from services.restorer.rsync import judge, newest_progress
from shared.domain.errors import RunFailed
from shared.domain.events import (
    AnyEvent,
    Kind,
    Quality,
    RestoreAbandoned,
    RestoreCancelled,
    RestoreCompleted,
    RestoreFailed,
    RestoreProgressed,
    RestoreRequested,
    RestoreStarted,
    SnapshotCompleted,
)
from shared.domain.host_state import HostState
from shared.domain.projection import evolve_host
from shared.domain.restore_request import (
    RestoreRefused,
    decode_path,
    encode_path,
    wanted_folder,
    wanted_paths,
    wanted_point,
)
from shared.domain.restore_state import KEPT_RESTORES, RestoreState, last_proven, open_restores
from shared.domain.words import in_words
from shared.runtime.restores import MOST_WAITING, RestoreWish, checked
from tests.support.builders import RESTORE, RUN, a_host, a_run, build, recorded, some_settings

ALLOWED = ("/srv/restored", "/mnt/usb")
names = st.binary(min_size=1, max_size=20).filter(
    lambda name: name not in {b".", b".."} and not set(name) & {0, ord("/")}
)
paths = st.lists(names, min_size=1, max_size=5).map(b"/".join).filter(lambda path: not path.startswith(b"."))


@given(paths)
def test_every_path_survives_being_written_down(path: bytes) -> None:
    text = encode_path(path)
    assert text.isascii()
    assert text.isprintable()
    assert decode_path(text) == path


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "no path inside"),
        ("/", "no path inside"),
        (".", "no path inside"),
        ("../other", "no path inside"),
        ("home/../../x", "no path inside"),
        ("home/%2e%2e/x", "no path inside"),
        ("home//alice", "no path inside"),
        ("home/./alice", "no path inside"),
        ("home/%00", "no path inside"),
        ("home/%zz", "begins no %XX"),
        ("a" * 5000, "longer than"),
        (".snapshot_complete", "belongs to the snapshot"),
        ("/.files.zst/", "belongs to the snapshot"),
    ],
)
def test_what_leads_elsewhere_is_refused(path: str, says: str) -> None:
    with pytest.raises(RestoreRefused, match=says):
        decode_path(path)


@given(st.lists(paths, max_size=6))
def test_no_path_is_asked_for_twice_and_none_inside_another(asked: list[bytes]) -> None:
    kept = [decode_path(text) for text in wanted_paths(tuple(map(encode_path, asked)))]
    assert len(kept) == len(set(kept))
    assert not any(path.startswith(other + b"/") for path in kept for other in kept)
    assert all(any(path == other or path.startswith(other + b"/") for other in kept) for path in asked)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", "/srv/restored"),
        ("/mnt/usb", "/mnt/usb"),
        ("/mnt/usb/", "/mnt/usb"),
        ("/srv/restored/of/alice", "/srv/restored/of/alice"),
        ("/srv/restored/./x", "/srv/restored/x"),
    ],
)
def test_a_folder_that_is_allowed_is_taken(asked: str, found: str) -> None:
    assert wanted_folder(asked, ALLOWED) == found


@pytest.mark.parametrize(
    "asked", ["/etc", "/srv", "/srv/restoredx", "/srv/restored/../x", "srv/restored", "/mnt/usb\0"]
)
def test_any_other_folder_is_refused(asked: str) -> None:
    with pytest.raises(RestoreRefused, match="Nothing is restored to"):
        wanted_folder(asked, ALLOWED)


def after(*events: AnyEvent) -> HostState:
    state = HostState()
    for position, event in enumerate(events, start=1):
        evolve_host(state, recorded(event, position, version=position))
    return state


def test_latest_is_what_the_links_on_the_drive_say() -> None:
    state = after(
        build(SnapshotCompleted, snapshot="2026-03-06_0800"),
        build(SnapshotCompleted, snapshot="2026-03-06_0900", quality=Quality.DEGRADED),
        build(SnapshotCompleted, snapshot="2026-03-06_1000", quality=Quality.SUSPECT),
    )
    assert wanted_point(state, "current").name == "2026-03-06_0800"
    assert wanted_point(state, "latest").name == "2026-03-06_0900"
    assert wanted_point(state, "2026-03-06_1000").kind is Kind.SNAPSHOT
    with pytest.raises(RestoreRefused, match="no restore point"):
        wanted_point(state, "2026-03")
    with pytest.raises(RestoreRefused, match="no restore point"):
        wanted_point(HostState(), "latest")


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"target": "moon"}, "is no target"),
        ({"target": "host", "folder": "/srv"}, "A folder was named"),
        ({"target": "host", "over_original": True}, "over the original"),
        ({"target": "host", "over_original": True, "confirm": "web"}, "over the original"),
        ({"target": "folder", "over_original": True, "confirm": "nas"}, "over the original"),
        ({"paths": ("x",) * 101}, "more than 100"),
    ],
)
def test_what_is_not_meant_so_is_refused(wish: dict[str, object], says: str) -> None:
    state = after(build(SnapshotCompleted))
    with pytest.raises(RestoreRefused, match=says):
        checked(RestoreWish(**{"point": "latest", **wish}), a_host(), state, some_settings())  # type: ignore[arg-type]  # as a form gives it


def test_not_more_than_so_many_wait() -> None:
    requests = [build(RestoreRequested, restore=a_run()) for _ in range(MOST_WAITING)]
    state = after(build(SnapshotCompleted), *requests)
    with pytest.raises(RestoreRefused, match="wait already"):
        checked(RestoreWish(point="latest"), a_host(), state, some_settings())


def one(state: HostState) -> RestoreState:
    return state.restores[str(RESTORE)]


BEGUN = (build(RestoreRequested), build(RestoreStarted))


def test_a_restore_is_known_from_its_request_to_its_end() -> None:
    assert one(after(BEGUN[0])).outcome == "waiting"
    running = one(after(*BEGUN, build(RestoreProgressed)))
    assert (running.outcome, running.percent, running.stage) == ("running", 40, "transfer")
    state = after(*BEGUN, build(RestoreCompleted))
    assert (one(state).outcome, one(state).verified_files) == ("completed", 300)
    assert last_proven(state.restores) == one(state)
    assert open_restores(state.restores) == []


def test_a_try_that_failed_or_vanished_leaves_it_waiting() -> None:
    for ended in (build(RestoreFailed, final=False), build(RestoreAbandoned)):
        state = after(*BEGUN, ended)
        assert one(state).outcome == "waiting"
        assert one(state).runs == (RUN,)
        assert one(after(*BEGUN, ended, build(RestoreCompleted))).outcome == "waiting"  # of a run that is over
    assert one(after(*BEGUN, build(RestoreFailed))).outcome == "failed"
    assert one(after(BEGUN[0], build(RestoreCancelled, by="bob"))).message == "Called off by bob."


def test_the_oldest_that_ended_are_forgotten_and_none_that_waits() -> None:
    waiting = build(RestoreRequested)
    ended = [
        event
        for _ in range(KEPT_RESTORES + 5)
        for restore in [a_run()]
        for event in (build(RestoreRequested, restore=restore), build(RestoreCancelled, restore=restore))
    ]
    state = after(waiting, *ended)
    assert len(state.restores) <= KEPT_RESTORES + 1
    assert one(state).outcome == "waiting"


def test_what_happened_is_told_in_words() -> None:
    asked = build(RestoreRequested, target="host", over_original=True, paths=("home/a%0Ab",), by="alice")
    assert "OVER THE ORIGINAL was asked for by alice" in in_words(asked)
    assert "home/a%0Ab" in in_words(asked)
    assert "lies in /srv/.partial-x" in in_words(build(RestoreCancelled, left=("/srv/.partial-x",)))
    assert "Restored and verified: 300 files" in in_words(build(RestoreCompleted))


def test_each_part_goes_beside_its_original() -> None:
    backed_up = ("/home", "/srv/data/./projects")
    (first, second) = beside(backed_up, [b"home/alice", b"projects/x"], "2026-03-06_0800-1a2b")
    assert first.container == "/home/alice.restored-2026-03-06_0800-1a2b"
    assert first.sources == ((b"home", b"alice"),)
    assert second.container == "/srv/data/projects/x.restored-2026-03-06_0800-1a2b"
    assert second.sources == ((b"projects", b"x"),)
    (whole,) = beside(backed_up, [b"home"], "s")
    assert (whole.container, whole.sources) == ("/home.restored-s", ((b"", b"home"),))


@pytest.mark.parametrize("odd", [b"two words", b"-rf\n", b"\xff", b"$(reboot)", b"*", b"{a,b}", b"~", b"a:b", b"'"])
def test_an_odd_name_is_never_part_of_a_command(odd: bytes) -> None:
    (place,) = beside(("/home",), [b"home/alice/" + odd + b"/x"], "s")
    assert place.container == "/home/alice.restored-s"
    assert place.sources == ((b"home", b"alice/" + odd + b"/x"),)


def test_the_way_to_what_is_restored_begins_below_what_is_backed_up() -> None:
    backed_up = ("/home", "/srv/data/./projects/all")
    wanted = [b"home/alice/a b/c", b"home/alice/docs/x/y", b"projects/all/one/two", b"home"]
    assert ways(backed_up, wanted) == [
        "/home/alice",
        "/home/alice/docs",
        "/home/alice/docs/x",
        "/srv/data/projects/all/one",
    ]
    with pytest.raises(RunFailed, match="cannot be told"):
        in_place(backed_up, [b"home/alice/a b/c"])


def test_what_was_never_there_has_no_place_on_the_host() -> None:
    with pytest.raises(RunFailed, match="where on the host"):
        beside(("/srv/./projects",), [b"etc/passwd"], "s")
    (place,) = in_place(("/srv/data/./projects",), [b"projects/x", b"projects/y"])
    assert (place.root, place.paths) == ("/srv/data/", (b"projects/x", b"projects/y"))
    assert Path(place.root).is_absolute()


@pytest.mark.parametrize(
    ("code", "said", "means", "again"),
    [
        (11, "rsync: [receiver] write failed: No space left on device (28)", "no_room", False),
        (11, 'rsync: [receiver] open "No space left" failed: Permission denied (13)', "rsync_11", False),
        (12, "rsync: connection unexpectedly closed", "rsync_12", True),
        (23, "rsync: [generator] chown failed", "rsync_23", False),
        (24, "file has vanished", "rsync_24", False),
        (77, "", "rsync_77", False),
    ],
)
def test_only_a_transfer_without_any_complaint_went_well(code: int, said: str, means: str, again: bool) -> None:
    judge(0, "")
    with pytest.raises(RunFailed) as caught:
        judge(code, said)
    assert (caught.value.code, caught.value.transient) == (means, again)


def test_progress_is_read_from_the_last_line_that_has_some() -> None:
    moved = newest_progress(
        b"      1,024  1%\r     32,768 junk\r         65536  50%   10.00kB/s    0:00:02 (xfr#3, to-chk"
    )
    assert moved is not None
    assert (moved.files, moved.bytes) == (3, 65536)
    assert newest_progress(b"nothing of it") is None
