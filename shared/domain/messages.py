"""What travels on the bus: ids only, so that losing the bus loses nothing that matters.

Messages are untrusted: every byte is checked here before anybody acts on it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from shared.domain.errors import MessageRefused, NameRefused
from shared.domain.events import Job
from shared.domain.names import HostName, StoreName, parse_host_name, parse_store_name

TRIGGER_SUBJECT: Final = "backup.trigger"
CANCEL_SUBJECT: Final = "backup.cancel"
MAX_MESSAGE_BYTES: Final = 64 * 1024
MAX_BY_CHARACTERS: Final = 200

_Body = TypeVar("_Body")


class Tick(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """This job, for this host on this store, for this slot."""

    job: Job
    store: StoreName
    host: HostName
    slot: datetime
    dry_run: bool = False


class _TickBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    slot: datetime
    dry_run: bool = False


class Trigger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A wish for runs now. No hosts means all of them."""

    hosts: tuple[str, ...] | None = None
    job: Job = Job.SNAPSHOT
    dry_run: bool = False
    by: str = ""


class Cancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is under way or waiting for this host is called off; with `restore` only the restore of that id."""

    host: HostName
    by: str = ""
    restore: str = ""


class _CancelBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    by: str = ""
    restore: str | msgspec.UnsetType = msgspec.UNSET


def tick_subject(job: Job, store: str, host: str) -> str:
    """The subject of a tick; `*` may stand for a part in a filter."""
    return f"tick.{job}.{store}.{host}"


def tick_message_id(tick: Tick) -> str:
    """The id by which the bus stores a slot once, however many schedulers publish it."""
    dry = ":dry" if tick.dry_run else ""
    return f"{tick.job}:{tick.host}:{tick.slot.astimezone(UTC):%Y%m%dT%H%M%SZ}{dry}"


def encode_tick(tick: Tick) -> bytes:
    """The body of a tick; job, store and host are its subject."""
    return msgspec.json.encode(_TickBody(slot=tick.slot, dry_run=tick.dry_run))


def decode_tick(subject: str, body: bytes) -> Tick:
    """The tick of a message. Raises MessageRefused."""
    try:
        prefix, job, store, host = subject.split(".")
        if prefix != "tick":
            raise ValueError("the subject does not begin with tick")
        names = Job(job), parse_store_name(store), parse_host_name(host)
        content = _decode(body, _TickBody)
    except (ValueError, NameRefused) as error:
        raise MessageRefused(f"{_shown(subject)} is not a tick: {error}") from error
    if content.slot.tzinfo is None:
        raise MessageRefused(f"{_shown(subject)} names a slot without a time zone.")
    try:
        slot = content.slot.astimezone(UTC)
    except OverflowError as error:
        raise MessageRefused(f"{_shown(subject)} names a slot that no calendar has.") from error
    return Tick(*names, slot=slot, dry_run=content.dry_run)


def decode_trigger(subject: str, body: bytes) -> Trigger:
    """The wish of a trigger message: an empty body asks for every host. Raises MessageRefused."""
    trigger = _decode(body, Trigger) if body else Trigger()
    named = subject.removeprefix(TRIGGER_SUBJECT).removeprefix(".")
    if named:
        if trigger.hosts is not None and trigger.hosts != (named,):
            raise MessageRefused("The subject names one host and the body others.")
        trigger = msgspec.structs.replace(trigger, hosts=(named,))
    if trigger.job is Job.RESTORE:
        raise MessageRefused("A trigger does not say what to restore.", "Use `backup-manager restore`.")
    if trigger.hosts is not None and not trigger.hosts:
        raise MessageRefused("The list of hosts is empty.", "Leave it out to mean all hosts.")
    if len(trigger.by) > MAX_BY_CHARACTERS:
        raise MessageRefused(f"`by` is longer than {MAX_BY_CHARACTERS} characters.")
    for host in trigger.hosts or ():
        _check_host(host)
    return trigger


def encode_trigger(trigger: Trigger) -> bytes:
    """The body of a trigger message."""
    return msgspec.json.encode(trigger)


def cancel_subject(host: HostName) -> str:
    """Where a host's work is called off."""
    return f"{CANCEL_SUBJECT}.{host}"


def encode_cancel(cancel: Cancel) -> bytes:
    """The body of a cancel message; the host is its subject."""
    return msgspec.json.encode(_CancelBody(cancel.by, cancel.restore or msgspec.UNSET))


def decode_cancel(subject: str, body: bytes) -> Cancel:
    """The meaning of a cancel message; an empty body is one by nobody in particular. Raises MessageRefused."""
    prefix, _, host = subject.rpartition(".")
    if prefix != CANCEL_SUBJECT:
        raise MessageRefused(f"{_shown(subject)} is not a subject of cancels.")
    _check_host(host)
    content = _decode(body, _CancelBody) if body else _CancelBody()
    if len(content.by) > MAX_BY_CHARACTERS:
        raise MessageRefused(f"`by` is longer than {MAX_BY_CHARACTERS} characters.")
    restore = content.restore or ""
    if len(restore) > MAX_BY_CHARACTERS:
        raise MessageRefused(f"`restore` is longer than {MAX_BY_CHARACTERS} characters.")
    return Cancel(HostName(host), content.by, restore)


def preview(body: bytes) -> str:
    """The first bytes of a refused message, safe to store and to print."""
    return body[:64].decode("ascii", "backslashreplace").encode("unicode_escape").decode("ascii")


def _check_host(text: str) -> None:
    try:
        parse_host_name(text)
    except NameRefused as error:
        raise MessageRefused(error.message, error.hint) from error


def _decode(body: bytes, kind: type[_Body]) -> _Body:
    if len(body) > MAX_MESSAGE_BYTES:
        raise MessageRefused(f"The message has {len(body):,} bytes; at most {MAX_MESSAGE_BYTES:,} are read.")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MessageRefused(f"The message cannot be understood: {error}.") from error


def _shown(subject: str) -> str:
    return repr(subject[:100])
