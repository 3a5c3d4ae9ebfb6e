"""Every error this product raises on purpose.

BackupManagerError          what happened, to what, and what the reader can do
├── NameRefused             a host, store or snapshot name that must not reach a path, a subject or a process
├── PasswordRefused         a password that is too easy to guess
├── AccessRefused           what was asked of the users cannot be done
├── MessageRefused          a bus message that does not say what it should
├── SettingsRefused         every wrong line of .env and backup.toml at once
├── LogConflict             an append expected another version: decide again
├── LogUnavailable          the event log cannot be reached now
├── LogRefused              the event log will never accept this append
├── KeyRefused              a key or password file that is missing, unreadable or not one
├── SchemaMismatch          the database was made by another version of this program
├── StoreRefused            BACKUP_ROOT is missing, not a store, another store, or cannot be written
│   ├── StoreNotMounted     a store of the settings is not mounted on this machine
│   └── StoreUnknown        there is no store of this name in the settings
├── HostElsewhere           the restore points of a host are on another store than the settings say
├── HostBusy                another process holds the lock of this host and job
├── HostUnreachable         the host is offline: nothing is wrong, try later
├── PointInUse              somebody reads a restore point that was to be moved or removed
├── PointHalfGone           a restore point whose purge has begun cannot be brought back
├── CalledOff               somebody stopped the work that was under way
├── RunFailed               a run ended badly and said why
├── RunLost                 this worker may no longer own its run: it stops at once
└── ToolMissing             a program this machine needs is not there
"""

from __future__ import annotations


class BackupManagerError(Exception):
    """Something went wrong that a person can read and act on.

    `message` says what happened and to what; `hint` says what to do next and may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".strip())
        self.message = message
        self.hint = hint


class NameRefused(BackupManagerError):
    """A name that is not safe as a path, a bus subject and a key."""


class PasswordRefused(BackupManagerError):
    """A password that is too easy to guess, or too long."""


class AccessRefused(BackupManagerError):
    """What was asked of the users cannot be done: a name is taken, the last admin would go."""


class MessageRefused(BackupManagerError):
    """A bus message that cannot be understood. It is recorded and never delivered again."""


class SettingsRefused(BackupManagerError):
    """The settings have errors. `problems` lists each by key, value and what is allowed."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class LogConflict(BackupManagerError):
    """The stream has moved on since it was read; `actual_version` is where it is now."""

    def __init__(self, stream: str, expected_version: int, actual_version: int) -> None:
        super().__init__(f"Event stream {stream} is at version {actual_version}, not {expected_version}.")
        self.actual_version = actual_version


class LogUnavailable(BackupManagerError):
    """The event log cannot be reached. Facts go to the spool; decisions wait."""


class LogRefused(BackupManagerError):
    """The event log refuses this append and would refuse it again."""


class KeyRefused(BackupManagerError):
    """The file with a key cannot be read, or what is in it is no key."""


class SchemaMismatch(BackupManagerError):
    """The database schema and this program do not belong together."""


class StoreRefused(BackupManagerError):
    """The backup drive is not there, is not a store, is another store, or cannot be written."""


class StoreNotMounted(StoreRefused):
    """A store of the settings is not mounted on this machine: what it keeps is elsewhere, not lost."""

    def __init__(self, store: str, why: str, hint: str) -> None:
        super().__init__(f"The store {store!r} is not mounted on this machine: {why}.", hint)
        self.store = store


class StoreUnknown(StoreRefused):
    """There is no store of this name in the settings."""


class HostElsewhere(BackupManagerError):
    """The restore points of a host are on another store than the settings say: until they agree, its work waits."""

    def __init__(self, host: str, kept_on: str, wanted: str) -> None:
        super().__init__(
            f"By the log {host} is kept on the store {kept_on!r}, but by the settings on {wanted!r}; nothing is done.",
            f"Run `backup-manager hosts move {host} {wanted}`, or let the settings say {kept_on!r} again.",
        )


class HostBusy(BackupManagerError):
    """Another process works on this host and job."""


class HostUnreachable(BackupManagerError):
    """The host does not answer. An outcome of its own, not a failure."""


class PointInUse(BackupManagerError):
    """Somebody reads this restore point now: it stays as it is."""


class PointHalfGone(BackupManagerError):
    """Purging this restore point has begun."""


class CalledOff(BackupManagerError):
    """The work was stopped because somebody wanted it so. `by` is who."""

    def __init__(self, by: str) -> None:
        super().__init__(f"Called off by {by}.")
        self.by = by


class RunFailed(BackupManagerError):
    """A run ended badly. `transient` is true when trying the same slot again may help."""

    def __init__(self, message: str, hint: str = "", *, code: str, transient: bool = False) -> None:
        super().__init__(message, hint)
        self.code = code
        self.transient = transient


class RunLost(BackupManagerError):
    """Nobody confirms any more that this worker owns its run; its processes were ended."""


class ToolMissing(BackupManagerError):
    """A program that this machine needs is not installed or does not work here."""
