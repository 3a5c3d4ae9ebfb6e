"""A host without rsync is told from a connection that broke, also when our rsync ended too soon to know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.restorer import rsync as restoring
from services.snapshotter.rsync import Complaints, judge
from shared.domain.errors import RunFailed
from shared.domain.host_rsync import exit_meant

ENDED = "rsync: connection unexpectedly closed (0 bytes received so far) [Receiver]"
LATER = "rsync: connection unexpectedly closed (6543 bytes received so far) [Receiver]"
CODE = "rsync error: error in rsync protocol data stream (code 12) at io.c(231) [Receiver=3.2.7]"
NO_RSYNC = [
    "sh: 1: rsync: not found",
    "sh: 1: exec: /nowhere/rsync: not found",
    "bash: line 1: rsync: command not found",
    "bash: /nowhere/rsync: No such file or directory",
    "sudo: rsync: command not found",
    "zsh:1: command not found: rsync",
    "fish: Unknown command: rsync",
    "rsync: Command not found.",
]
OTHER = [
    "sh: 1: rsync-ssl: not found",
    'rsync: [sender] change_dir "/srv/rsync" failed: No such file or directory (2)',
    "sh: 1: setpriv: not found",
    "zsh:1: command not found: rsync-helper",
]


@pytest.mark.parametrize("words", NO_RSYNC)
def test_the_shell_of_a_host_without_rsync_is_understood(words: str) -> None:
    assert exit_meant(12, [words, ENDED, CODE]) == 127


@pytest.mark.parametrize("words", OTHER)
def test_other_words_mean_a_connection_that_broke(words: str) -> None:
    assert exit_meant(12, [words, ENDED, CODE]) == 12


def test_once_an_rsync_has_answered_there_is_one() -> None:
    assert exit_meant(12, [NO_RSYNC[0], LATER, CODE]) == 12


@given(st.integers(0, 255).filter(lambda code: code != 12), st.lists(st.sampled_from([*NO_RSYNC, *OTHER, ENDED])))
def test_no_other_exit_code_becomes_another_one(code: int, said: list[str]) -> None:
    assert exit_meant(code, said) == code


def test_neither_a_snapshot_nor_a_restore_is_tried_again_before_there_is_an_rsync() -> None:
    said = "\n".join([NO_RSYNC[0], ENDED, CODE])
    complaints = Complaints()
    complaints.add(said.encode())
    complaints.end()
    with pytest.raises(RunFailed) as snapshot:
        judge(12, complaints)
    with pytest.raises(RunFailed) as restore:
        restoring.judge(12, said)
    for failed in (snapshot.value, restore.value):
        assert (failed.code, failed.transient) == ("rsync_127", False)
        assert "rsync" in failed.hint
