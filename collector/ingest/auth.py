"""Bearer tokens: who may send. Only their SHA-256 digests are configured, kept and compared.

A token is a random text of 256 bits, so a plain hash of it cannot be searched for. It is compared
in constant time, and with every digest, so that the time taken says nothing about any of them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable

from collector.errors import ConfigError

__all__ = ["Tokens", "hashed", "new_token"]

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SCHEME = b"bearer"
_LONGEST_HEADER = 4096
"""Bytes of an ``Authorization`` header. A longer one is refused before it is looked at."""
_RANDOM_BYTES = 32


class Tokens:
    """The tokens that are let in, by their digests; without any, nobody is.

    ``hashes`` are what ``hashed`` gives: 64 hexadecimal digits each, in either case. Raises
    ``ConfigError`` E209 for anything else; the message holds its place in the list, and nothing
    of it, since it may be a token that was written down by mistake.
    """

    def __init__(self, hashes: Iterable[str]) -> None:
        self._digests = tuple(_checked(text, at) for at, text in enumerate(hashes, start=1))

    def __repr__(self) -> str:
        return f"<Tokens: {len(self._digests)}>"

    def admits(self, header: bytes | str | None) -> bool:
        """Whether an ``Authorization`` header carries one of the tokens: ``Bearer <token>``."""
        if header is None or len(header) > _LONGEST_HEADER:
            return False
        raw = header.encode("utf-8", "replace") if isinstance(header, str) else header
        scheme, _, token = raw.strip(b" \t").partition(b" ")
        token = token.strip(b" \t")
        digest = hashlib.sha256(token).digest()
        found = 0
        for known in self._digests:
            found |= hmac.compare_digest(digest, known)
        return bool(found) and bool(token) and scheme.lower() == _SCHEME


def hashed(token: str) -> str:
    """What to write into the configuration for a token: its SHA-256 digest, in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> tuple[str, str]:
    """A new random token of 256 bits (43 characters safe in headers and URLs), and its digest."""
    token = secrets.token_urlsafe(_RANDOM_BYTES)
    return token, hashed(token)


def _checked(text: str, at: int) -> bytes:
    if _DIGEST.fullmatch(digest := text.strip().lower()):
        return bytes.fromhex(digest)
    raise ConfigError(
        "E209",
        f"token {at} of the list is no SHA-256 digest (64 hexadecimal digits);"
        " write the digest of the token, never the token itself",
    )
