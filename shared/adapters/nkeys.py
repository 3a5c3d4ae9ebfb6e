"""NATS keys: an Ed25519 pair in the server's own spelling (base32 of a prefix, the key and a CRC-16).

The package `nkeys` is not used: it comes as source only, and what is installed here is locked to built packages.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Final

from nacl.signing import SigningKey

from shared.domain.errors import KeyRefused

SEED: Final = 18 << 3
USER: Final = 20 << 3
KEY_BYTES: Final = 32
SEED_CHARACTERS: Final = 58
_WRONG: Final = "It must be one line of 58 letters and digits that begins with SU."


def new_seed() -> str:
    """The seed of a new user's key: the secret."""
    return seed_of(secrets.token_bytes(KEY_BYTES))


def seed_of(raw: bytes) -> str:
    """32 random bytes as the seed of a user's key."""
    return _spelled(bytes([SEED | (USER >> 5), (USER & 31) << 3]) + raw)


def public_key(seed: str) -> str:
    """What the server knows a seed by; it may be shown. Raises KeyRefused."""
    return _spelled(bytes([USER]) + bytes(_key(seed).verify_key))


def signature(seed: str, nonce: str) -> bytes:
    """The server's challenge, signed, in base64. Raises KeyRefused."""
    return base64.b64encode(_key(seed).sign(nonce.encode()).signature)


def _key(seed: str) -> SigningKey:
    text = seed.strip()
    try:
        content = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError as error:  # binascii.Error is one
        raise KeyRefused("This is not a NATS key.", _WRONG) from error
    body, checksum = content[:-2], content[-2:]
    if len(text) != SEED_CHARACTERS or body[:2] != bytes([SEED | (USER >> 5), (USER & 31) << 3]):
        raise KeyRefused("This is not the seed of a NATS user.", _WRONG)
    if checksum != _crc(body):
        raise KeyRefused("This NATS key is damaged: its check sum is wrong.", "Was it copied whole?")
    return SigningKey(body[2:])


def _spelled(body: bytes) -> str:
    return base64.b32encode(body + _crc(body)).decode("ascii").rstrip("=")


def _crc(body: bytes) -> bytes:
    return binascii.crc_hqx(body, 0).to_bytes(2, "little")
