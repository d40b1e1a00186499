"""Keys for pseudonyms: random, one per reference and rotation period, in memory only.

A reference (``env:NAME`` or ``file:PATH``) leads to a secret of the operator. The first key is that
secret mixed with random bytes, and each later one is the key before it mixed with random bytes;
neither is stored. So no person or program, the operator included, can compute or test a pseudonym
of an earlier period, and a secret that has since been removed does not stop the filter. Pseudonyms
are equal within one process (and its workers) and one period.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from collector.errors import ConfigError

__all__ = ["Keyring"]

_MIN_BYTES = 16
_MAX_BYTES = 4096


class Keyring:
    """Resolves key references. Call it with a reference and the number of the period.

    Safe to use from several threads; in one period, all of them get the same key. Raises
    ``ConfigError`` E202 if a reference does not lead to a secret of 16 to 4096 bytes.
    """

    def __init__(self) -> None:
        self._keys: dict[tuple[str, int], bytes] = {}

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._keys)}>"

    def __call__(self, reference: str, period: int) -> bytes:
        key = self._keys.get((reference, period))
        return self._rotate(reference, period) if key is None else key

    def _rotate(self, reference: str, period: int) -> bytes:
        """Make the key of a new period, and forget those of other periods."""
        previous = next(filter(None, map(self._keys.get, self._entries(reference))), None)
        previous = previous or _secret(reference)
        if not previous:
            raise ConfigError(
                "E202",
                f"the key reference of a pseudonym leads to no secret of {_MIN_BYTES} to"
                f" {_MAX_BYTES} bytes; set the environment variable or write the file",
            )
        fresh = hmac.digest(previous, secrets.token_bytes(32), "sha256")
        key = self._keys.setdefault((reference, period), fresh)
        for entry in self._entries(reference):
            if entry[1] != period:
                self._keys.pop(entry, None)
        return key

    def _entries(self, reference: str) -> list[tuple[str, int]]:
        return [entry for entry in list(self._keys) if entry[0] == reference]


def _secret(reference: str) -> bytes:
    """Return the secret at a reference; empty if there is none of the right size.

    Never raises, so that no traceback holds a piece of it.
    """
    scheme, _, place = reference.partition(":")
    secret = b""
    try:
        if scheme == "env":
            secret = os.environb.get(os.fsencode(place), b"")
        elif scheme == "file":
            with Path(place).open("rb") as handle:
                secret = handle.read(_MAX_BYTES + 1).strip()
    except (OSError, ValueError):  # the latter for names that no system accepts
        return b""
    return secret if _MIN_BYTES <= len(secret) <= _MAX_BYTES else b""
