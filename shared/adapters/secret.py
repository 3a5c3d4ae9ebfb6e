"""Secrets that this product makes itself: 256 random bits, of which only a hash is kept anywhere."""

from __future__ import annotations

import hashlib
import secrets

TOKEN_PREFIX = "bm_"  # noqa: S105  # lets people and scanners recognise a token that went astray
SECRET_BYTES = 32


def new_secret() -> str:
    """A secret that fits into an address, a cookie and a header."""
    return secrets.token_urlsafe(SECRET_BYTES)


def new_token() -> str:
    """A secret for a program."""
    return TOKEN_PREFIX + new_secret()


def hash_of(secret: str) -> bytes:
    """What is kept of a secret. A fast hash is enough: nobody guesses 256 bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
