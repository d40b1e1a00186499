"""``pseudonym``: a keyed hash that cannot be undone and does not outlive its rotation period.

HMAC-SHA-256 (RFC 2104) under a key that the circumstances provide for the period; 128 bits of it,
in base32 (RFC 4648), lower case without padding: 26 characters.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator
from pydantic import Field as Option

from collector.documents import fault, pattern
from collector.schema.kinds.base import Canonical, Circumstances, FieldBase, Phrases
from collector.schema.scalars import PRINTABLE, Period
from collector.schema.verdict import Shift

_MOST_BYTES = 256
_EXAMPLE = "a user's id"
_PATTERN = "[a-z2-7]{25}[aeimquy4]"
"""128 bits in base32: the last of 26 characters carries three of them."""
_STORED = re.compile(_PATTERN).fullmatch


def _reference(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in ("env", "file") or not rest or not rest.isprintable():
        raise fault(
            "E202", "write where the key is, `env:NAME` or `file:PATH`; never the key itself"
        )
    return text


class PseudonymField(FieldBase):
    """A pseudonym of an identifier. Equal within one rotation period, unrelated across them."""

    description = "A keyed hash that cannot be undone, for identifiers."
    phrases: ClassVar[Phrases] = {
        "values": {
            "en": "a pseudonym, whose key is destroyed after {rotation}",
            "id": "pseudonim, yang kuncinya dimusnahkan setelah {rotation}",
        }
    }
    pseudonymous = True
    is_closed = True

    kind: Literal["pseudonym"]
    key: Annotated[
        str,
        AfterValidator(_reference),
        pattern(f"(env|file):{PRINTABLE}+", "env:NAME or file:PATH"),
    ] = Option(
        description="Where the secret lies, never the secret itself.",
        examples=["env:COLLECTOR_PSEUDONYM_KEY"],
    )
    rotate: Period = Option(
        description="How long a key lives: a whole number of m, h, d or w.", examples=["1d"]
    )

    def period(self, moment: datetime) -> int:
        """Return the number of the rotation period at a moment."""
        return int(moment.timestamp()) // int(self.rotate.total_seconds())

    def document(self) -> dict[str, Any]:
        """Leave out the reference to the key, which says nothing about the values."""
        options = super().document()
        del options["key"]
        return options

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
        """Accept pseudonyms by their form, without hashing them again."""
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

    def example(self, now: datetime) -> str:
        return _EXAMPLE

    def value_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{_PATTERN}$"}

    def phrase(self) -> tuple[str, Mapping[str, Any]]:
        return "values", {"rotation": self.rotate}

    @property
    def identifies(self) -> bool:
        return True

    def coarsened(self, value: Any) -> None:
        """Return ``None``: without the key, a pseudonym has no other known form."""
