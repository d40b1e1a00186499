"""``ip``: a textual IPv4 or IPv6 address, whole or truncated to a prefix.

Refused: zones, ports, host names, multicast and link-local addresses. IPv4 addresses in IPv6
clothes (mapped, RFC 4291; 6to4, RFC 3056; NAT64, RFC 6052) become IPv4 before truncation, so that
truncating cannot be dodged. Canonical form: compressed lower case (RFC 5952).
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict

from collector.schema.kinds.base import Canonical, Circumstances, FieldBase
from collector.schema.terms import fault
from collector.schema.verdict import Shift, stepped

__all__ = ["IpField"]

_MULTICAST = 0xE0
"""The first four bits of 224.0.0.0/4 (RFC 5771)."""
_LINK_LOCAL = b"\xa9\xfe"
_MAPPED = bytes(10) + b"\xff\xff"
_NAT64 = b"\x00\x64\xff\x9b" + bytes(8)
_BESIDE_LINK_LOCAL = 15
"""Bits of a prefix that 169.254.0.0/16 shares with a neighbour."""
_BESIDE_NAT64 = range(32, 96)
"""Bits of a prefix that 64:ff9b::/96 shares with neighbours, and that holds nothing else."""


def _packed(text: str) -> bytes | None:
    """The unicast address that the text means, out of its IPv6 clothes: 4 or 16 bytes."""
    if ":" not in text:
        return _unicast(_pton(AF_INET, text))
    address = _pton(AF_INET6, text)
    if address is None or "%" in text:
        return None
    first = address[0]
    if first == 0x20 and address[1] == 0x02:  # 6to4
        return _unicast(address[2:6])
    if first == 0 and address[:12] in (_MAPPED, _NAT64):
        return _unicast(address[12:])
    if first == 0xFF or (first == 0xFE and address[1] & 0xC0 == 0x80):
        return None
    return address


def _pton(family: int, text: str) -> bytes | None:
    """The system's reading, which is strict: four decimal numbers without leading zeros."""
    try:
        return inet_pton(family, text)
    except (OSError, ValueError):
        return None


def _unicast(inner: bytes | None) -> bytes | None:
    if inner is None or inner[0] & 0xF0 == _MULTICAST or inner[:2] == _LINK_LOCAL:
        return None
    return inner


def _text(packed: bytes) -> str:
    if len(packed) == 4:
        return inet_ntop(AF_INET, packed)
    if packed[0] or any(packed[:10]):
        return inet_ntop(AF_INET6, packed)
    return str(IPv6Address(packed))  # systems differ in how they write ::/80


def _prefix(least: int, most: int) -> AfterValidator:
    def check(length: int) -> int:
        if not least <= length <= most:
            raise fault("E123", f"keep {least} to {most} bits")
        return length

    return AfterValidator(check)


class Truncation(BaseModel):
    """How many leading bits of an address are kept."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)

    ipv4: Annotated[int, _prefix(8, 32)] = 32
    ipv6: Annotated[int, _prefix(16, 128)] = 128


class IpField(FieldBase):
    """An address."""

    kind: Literal["ip"]
    truncate: Truncation = Truncation()

    def canonical(self, circumstances: Circumstances) -> Canonical:
        if self.truncate == Truncation():
            return _whole
        lose4, lose6 = 32 - self.truncate.ipv4, 128 - self.truncate.ipv6

        def canonical(text: str) -> str | None:
            packed = _packed(text)
            if packed is None:
                return None
            size = len(packed)
            lose = lose4 if size == 4 else lose6
            kept = (int.from_bytes(packed) >> lose << lose).to_bytes(size)
            # A prefix that reads as another address (64:ff9b::, 169.254.0.0/15) is not canonical.
            text = _text(kept)
            return text if _packed(text) == kept else None

        return canonical

    def size(self) -> int:
        p4, p6 = self.truncate.ipv4, self.truncate.ipv6
        ipv4: int = 2**p4 - 2 ** (p4 - 4) - _prefixes(p4, 16)
        special: int = 2 ** (p6 - 8) + 2 ** max(0, p6 - 10) + 2 ** (p6 - 16)
        mapped: int = 2 ** (p6 - 96) if p6 >= 96 else 0
        nat64: int = 2 ** max(0, p6 - 96) if p6 >= 32 else 0
        return ipv4 + (1 << p6) - special - mapped - nat64

    def shifts(self, new: Self) -> Iterator[Shift]:
        """Some short prefixes are refused because they read as another address (see above); a
        still shorter one may not, and lets their addresses through."""
        old4, new4 = self.truncate.ipv4, new.truncate.ipv4
        less = "more values" if old4 == _BESIDE_LINK_LOCAL else "coarser values"
        yield from stepped("truncate.ipv4", old4, new4, "finer values", less)
        old6, new6 = self.truncate.ipv6, new.truncate.ipv6
        freed = old6 in _BESIDE_NAT64 and new6 not in _BESIDE_NAT64
        less = "more values" if freed else "coarser values"
        yield from stepped("truncate.ipv6", old6, new6, "finer values", less)


def _whole(text: str) -> str | None:
    """The canonical text of an address. This is the busiest function of all: an IPv4 address has
    only one spelling, so it is returned as it stands."""
    if ":" in text:
        packed = _packed(text)
        return None if packed is None else _text(packed)
    try:
        address = inet_pton(AF_INET, text)
    except (OSError, ValueError):
        return None
    is_unicast = address[0] & 0xF0 != _MULTICAST and address[:2] != _LINK_LOCAL
    return text if is_unicast else None


def _prefixes(kept: int, block: int) -> int:
    """How many kept prefixes fall on 169.254.0.0/16: none can once fewer than 15 bits are kept."""
    return 1 << (kept - block) if kept >= block else int(kept == block - 1)
