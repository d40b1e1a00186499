"""Bearer tokens of senders. Only their SHA-256 digests are configured, stored and compared.

A token is a random text of 256 bits, so its plain hash cannot be reversed by search. Each check
compares all digests in constant time, so that timing reveals none.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable

from collector.errors import ConfigError

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SCHEME = b"bearer"
_MAX_HEADER = 4096
"""Bytes of an ``Authorization`` header. A longer one is refused unread."""
_RANDOM_BYTES = 32


class Tokens:
    """The accepted tokens, by their digests. Without any, every sender is refused.

    ``hashes`` are results of ``hashed``: 64 hexadecimal digits each, in either case. Raises
    ``ConfigError`` E107 for any other text. The message has only its place in the list, because the
    text may be a token that was configured by mistake.
    """

    def __init__(self, hashes: Iterable[str]) -> None:
        self._digests = tuple(_checked(text, at) for at, text in enumerate(hashes, start=1))
        self.unhashed: int = 0
        """How often a sender showed a configured digest as its token, and was refused. Either the
        token itself was configured, or digests have become known."""

    def admits(self, header: bytes | str | None) -> bool:
        """Return whether an ``Authorization`` header has an accepted token: ``Bearer <token>``."""
        if header is None or len(header) > _MAX_HEADER:
            return False
        raw = header.encode("utf-8", "replace") if isinstance(header, str) else header
        scheme, _, token = raw.strip(b" \t").partition(b" ")
        token = token.strip(b" \t")
        digest = hashlib.sha256(token).digest()
        match = 0
        for known in self._digests:
            match |= hmac.compare_digest(digest, known)
        self.unhashed += self._is_digest(token)
        return bool(match) and bool(token) and scheme.lower() == _SCHEME

    def _is_digest(self, token: bytes) -> bool:
        text = token.decode("ascii", "replace").lower()
        if not _DIGEST.fullmatch(text):
            return False
        digest, match = bytes.fromhex(text), 0
        for known in self._digests:
            match |= hmac.compare_digest(digest, known)
        return bool(match)


def hashed(token: str) -> str:
    """Return the digest to configure for a token: its SHA-256, in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> tuple[str, str]:
    """Make a random token of 256 bits (43 characters safe in headers and URLs), and its digest."""
    token = secrets.token_urlsafe(_RANDOM_BYTES)
    return token, hashed(token)


def _checked(text: str, at: int) -> bytes:
    if _DIGEST.fullmatch(digest := text.strip().lower()):
        return bytes.fromhex(digest)
    raise ConfigError(
        "E107",
        f"token {at} of the list is no SHA-256 digest (64 hexadecimal digits);"
        " write the digest of the token, never the token itself",
    )
