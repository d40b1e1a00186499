"""Keys for pseudonyms: random, one per reference and rotation period, kept in memory only.

A reference (``env:NAME`` or ``file:PATH``) leads to a secret of the operator. The key of a period
is that secret mixed with random bytes drawn for the period; when the next period begins they are
overwritten, so that from then on nobody, the operator included, can compute or test a pseudonym of
the old one. Pseudonyms are therefore equal within one process (and its workers) and one period.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from collector.errors import ConfigError

__all__ = ["Keyring"]

_LEAST = 16
_MOST = 4096


class Keyring:
    """Resolves key references. Call it with a reference and the period's number.

    Raises ``ConfigError`` E202 when a reference leads to no secret of 16 to 4096 bytes.
    """

    def __init__(self) -> None:
        self._keys: dict[str, tuple[int, bytes]] = {}

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._keys)}>"

    def __call__(self, reference: str, period: int) -> bytes:
        known = self._keys.get(reference)
        if known is None or known[0] != period:
            key = hmac.digest(_secret(reference), secrets.token_bytes(32), "sha256")
            known = self._keys[reference] = (period, key)
        return known[1]


def _secret(reference: str) -> bytes:
    scheme, _, place = reference.partition(":")
    if scheme == "env":
        secret = os.environb.get(os.fsencode(place), b"")
    else:
        try:
            with Path(place).open("rb") as handle:
                secret = handle.read(_MOST + 1).strip()
        except OSError:
            secret = b""
    if not _LEAST <= len(secret) <= _MOST:
        raise ConfigError(
            "E202",
            f"the key reference of a pseudonym leads to no secret of {_LEAST} to {_MOST} bytes;"
            " set the environment variable or write the file",
        )
    return secret
