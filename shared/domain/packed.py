"""A state as bytes and back, exactly, host by host: so that nobody who packs or unpacks holds the others up for long.

`shape` stands for the fold and for what it makes: a saved state of another shape is worth nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from shared.domain.host_state import HostState
from shared.domain.names import HOST_STREAM_PREFIX
from shared.domain.projection import State

FOLD_MODULES: Final = (
    "errors",
    "event",
    "events",
    "events_access",
    "events_archive",
    "events_general",
    "events_restore",
    "events_retention",
    "events_snapshot",
    "fold_archive",
    "fold_points",
    "fold_restores",
    "fold_runs",
    "host_state",
    "names",
    "packed",
    "projection",
    "restore_state",
    "store_state",
    "tally",
)
"""Everything in this package that the state is made by or of."""

_ENCODER: Final = msgspec.msgpack.Encoder(uuid_format="bytes")
_HOST: Final = msgspec.msgpack.Decoder(HostState)
_REST: Final = msgspec.msgpack.Decoder(State)


class Packed(msgspec.Struct, frozen=True):
    """A state: everything but the hosts, and each host."""

    rest: bytes
    hosts: dict[str, bytes]


_PACKED: Final = msgspec.msgpack.Decoder(Packed)


def shape_of(sources: Iterable[bytes]) -> str:
    """The shape that these sources of the fold make."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(hashlib.sha256(source).digest())
    return digest.hexdigest()


def pack_rest(state: State) -> bytes:
    """Everything but the hosts."""
    return _ENCODER.encode(msgspec.structs.replace(state, hosts={}, host_of_stream={}))


def pack_host(host: HostState) -> bytes:
    """One host."""
    return _ENCODER.encode(host)


def pack(state: State) -> Packed:
    """The whole state at once."""
    return Packed(pack_rest(state), {name: pack_host(host) for name, host in state.hosts.items()})


def unpack(packed: Packed, state: State) -> Iterator[None]:
    """Fill an empty state, a host at a time. Raises msgspec.MsgspecError."""
    rest = _REST.decode(packed.rest)
    for name in State.__struct_fields__:
        setattr(state, name, getattr(rest, name))
    for name, content in packed.hosts.items():
        host = _HOST.decode(content)
        state.hosts[name] = state.host_of_stream[f"{HOST_STREAM_PREFIX}{name}"] = host
        yield


def to_bytes(packed: Packed) -> bytes:
    """A packed state as one piece."""
    return _ENCODER.encode(packed)


def from_bytes(content: bytes) -> Packed:
    """The packed state of a piece. Raises msgspec.MsgspecError."""
    return _PACKED.decode(content)


def joined(parts: Iterable[Packed]) -> Packed:
    """One state of parts that were folded from different streams; the first one had those that are no host's."""
    found = list(parts)
    rests = [_REST.decode(part.rest) for part in found]
    newest = max(rests, key=lambda rest: rest.position)
    first = msgspec.structs.replace(rests[0], position=newest.position, recorded_us=newest.recorded_us)
    return Packed(_ENCODER.encode(first), {name: host for part in found for name, host in part.hosts.items()})
