"""``pseudonym``: a keyed hash that cannot be undone and does not outlive its rotation period.

HMAC-SHA-256 (RFC 2104) under a key that the circumstances hand out for the period; 128 bits of it,
in base32 (RFC 4648), lower case without padding: 26 characters.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator

from collector.schema.kinds.base import Canonical, Circumstances, FieldBase
from collector.schema.terms import Period, fault
from collector.schema.verdict import Shift

__all__ = ["PseudonymField"]

_MOST_BYTES = 256
_STORED = re.compile("[a-z2-7]{25}[aeimquy4]").fullmatch
"""128 bits in base32: the last of 26 characters carries three of them."""


def _reference(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in ("env", "file") or not rest or not rest.isprintable():
        raise fault(
            "E125", "a key must be a reference: env:NAME or file:PATH, never the key itself"
        )
    return text


class PseudonymField(FieldBase):
    """A stand-in for an identifier. Equal within one rotation period, unrelated across them."""

    kind: Literal["pseudonym"]
    key: Annotated[str, AfterValidator(_reference)]
    rotate: Period

    def period(self, moment: datetime) -> int:
        """The number of the rotation period that a moment lies in."""
        return int(moment.timestamp()) // int(self.rotate.total_seconds())

    def canonical(self, circumstances: Circumstances) -> Canonical:
        reference, period = self.key, self.period
        now, key = circumstances.now, circumstances.key

        def canonical(text: str) -> str | None:
            if len(text) > _MOST_BYTES:
                return None
            try:
                plain = text.encode()
            except UnicodeEncodeError:
                return None
            if not 1 <= len(plain) <= _MOST_BYTES:
                return None
            secret = key(reference, period(now()))
            return b32encode(hmac.digest(secret, plain, "sha256")[:16]).decode()[:26].lower()

        return canonical

    def stored(self, circumstances: Circumstances) -> Canonical:
        """A pseudonym is not hashed again."""
        return lambda text: text if _STORED(text) else None

    def size(self) -> int:
        return 1 << 128

    def shifts(self, new: Self) -> Iterator[Shift]:
        """Periods are counted from 1970: one that does not divide the old one links across it."""
        if self.key != new.key:
            yield Shift("key", "another key")
        if self.rotate != new.rotate:
            divides = self.rotate % new.rotate == timedelta()
            yield Shift("rotate", "linked shorter" if divides else "linked longer")
