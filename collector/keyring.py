"""Keys for pseudonyms: random, one per reference and rotation period, kept in memory only.

A reference (``env:NAME`` or ``file:PATH``) leads to a secret of the operator. The first key is that
secret mixed with random bytes, and each later one is the key before it mixed with random bytes;
neither is kept. So nobody, the operator included, can compute or test a pseudonym of an old period,
and a secret that has gone since does not stop the filter. Pseudonyms are equal within one process
(and its workers) and one period.
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

    Safe to use from several threads; of one period, all get the same key. Raises ``ConfigError``
    E202 when a reference leads to no secret of 16 to 4096 bytes.
    """

    def __init__(self) -> None:
        self._keys: dict[tuple[str, int], bytes] = {}

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._keys)}>"

    def __call__(self, reference: str, period: int) -> bytes:
        key = self._keys.get((reference, period))
        return self._turn(reference, period) if key is None else key

    def _turn(self, reference: str, period: int) -> bytes:
        """The key of a period that is not the present one, which ends here."""
        before = next(filter(None, map(self._keys.get, self._known(reference))), None)
        before = before or _secret(reference)
        if not before:
            raise ConfigError(
                "E202",
                f"the key reference of a pseudonym leads to no secret of {_LEAST} to {_MOST} bytes;"
                " set the environment variable or write the file",
            )
        fresh = hmac.digest(before, secrets.token_bytes(32), "sha256")
        key = self._keys.setdefault((reference, period), fresh)
        for known in self._known(reference):
            if known[1] != period:
                self._keys.pop(known, None)
        return key

    def _known(self, reference: str) -> list[tuple[str, int]]:
        return [known for known in list(self._keys) if known[0] == reference]


def _secret(reference: str) -> bytes:
    """What a reference leads to; empty if that is no secret. Never raises, so that no traceback
    holds a piece of it."""
    scheme, _, place = reference.partition(":")
    secret = b""
    try:
        if scheme == "env":
            secret = os.environb.get(os.fsencode(place), b"")
        elif scheme == "file":
            with Path(place).open("rb") as handle:
                secret = handle.read(_MOST + 1).strip()
    except (OSError, ValueError):  # the latter for names that no system takes
        return b""
    return secret if _LEAST <= len(secret) <= _MOST else b""
