"""How rsync's end tells that the host has no rsync. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

BROKEN: Final = 12
MISSING: Final = 127

_NOTHING_CAME: Final = re.compile(r"^rsync: connection unexpectedly closed \(0 bytes received so far\)")
_SHELL_SAYS: Final = re.compile(
    r"\brsync: (?:command )?not found|\b(?:command not found|Unknown command):? (?:\S*/)?rsync$"
    r"|/rsync: No such file or directory",
    re.IGNORECASE,
)
"""sh, bash, ksh, busybox and csh; zsh; fish; bash for a path."""


def exit_meant(exit_code: int, lines: Iterable[str]) -> int:
    """The exit code that our rsync would have ended with, had it waited for ssh to end.

    It takes over ssh's code, the 127 of the host's shell, only when ssh has ended by the moment at which the
    connection has: a matter of luck on a busy machine. Otherwise it says no more than that the connection broke, as
    if trying again could help.
    """
    said = list(lines)
    if exit_code != BROKEN or not any(map(_NOTHING_CAME.search, said)):
        return exit_code
    return MISSING if any(map(_SHELL_SAYS.search, said)) else exit_code
