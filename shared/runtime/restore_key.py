"""The key that may write on a host: the line that its owner adds there, and what it means when he has not."""

from __future__ import annotations

from pathlib import Path

from shared.config import HostSettings, Settings
from shared.domain.errors import RunFailed

COMMAND = "rrsync -wo -no-del /"
"""All that the key may do: rsync may write, and neither read nor remove."""


def public_line(host: HostSettings, settings: Settings) -> str:
    """The line for authorized_keys. Raises OSError when there is no key yet."""
    public = Path(f"{host.restore_key_path(settings)}.pub").read_text(encoding="ascii").strip()
    return f'restrict,command="{COMMAND}" {public}'


def authorized_keys(host: HostSettings) -> str:
    """Where on the host the line goes."""
    return f"{'/root' if host.user == 'root' else f'/home/{host.user}'}/.ssh/authorized_keys"


def not_accepted(host: HostSettings, line: str) -> RunFailed:
    """What to tell when the host does not take the key."""
    return RunFailed(
        f"{host.name} does not accept the restore key: its owner has not added it, or has taken it away.",
        f"Put this line into {authorized_keys(host)} on {host.name}, for as long as you restore: {line}",
        code="restore_key",
    )
