"""``ip``: a textual IPv4 or IPv6 address, whole or truncated to a prefix.

Refused: zones, ports, host names, multicast and link-local addresses. IPv4 addresses in IPv6
clothes (mapped, RFC 4291; 6to4, RFC 3056; NAT64, RFC 6052) become IPv4 before truncation, so that
truncating cannot be dodged. Canonical form: compressed lower case (RFC 5952).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv6Address
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from collector.schema.kinds.base import Canonical, Circumstances, FieldBase

__all__ = ["IpField"]

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_UNICAST = r"(?!22[4-9]\.|23[0-9]\.|169\.254\.)"
_IPV4 = re.compile(rf"{_UNICAST}{_OCTET}(?:\.{_OCTET}){{3}}").fullmatch
_IPV6 = re.compile(r"[0-9a-fA-F:]{2,39}|[0-9a-fA-F:]{2,30}[0-9.]{7,15}").fullmatch

_MAPPED = bytes(10) + b"\xff\xff"
_NAT64 = b"\x00\x64\xff\x9b" + bytes(8)
_SIX_TO_FOUR = b"\x20\x02"


def _packed(text: str) -> bytes | None:
    """The unicast address that the text means, out of its IPv6 clothes: 4 or 16 bytes."""
    if _IPV4(text):
        return inet_pton(AF_INET, text)
    if not _IPV6(text):
        return None
    try:
        address = inet_pton(AF_INET6, text)
    except OSError:
        return None
    if address[:2] == _SIX_TO_FOUR:
        return _unicast(address[2:6])
    if address[:12] in (_MAPPED, _NAT64):
        return _unicast(address[12:])
    if address[0] == 0xFF or (address[0] == 0xFE and address[1] & 0xC0 == 0x80):
        return None
    return address


def _unicast(inner: bytes) -> bytes | None:
    return inner if _IPV4(inet_ntop(AF_INET, inner)) else None


def _text(packed: bytes) -> str:
    if len(packed) == 4:
        return inet_ntop(AF_INET, packed)
    # Systems differ in how they write ::/80; there the standard library decides.
    return inet_ntop(AF_INET6, packed) if any(packed[:10]) else str(IPv6Address(packed))


class Truncation(BaseModel):
    """How many leading bits of an address are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    ipv4: Annotated[int, Option(ge=8, le=32)] = 32
    ipv6: Annotated[int, Option(ge=16, le=128)] = 128


class IpField(FieldBase):
    """An address."""

    kind: Literal["ip"]
    truncate: Truncation = Truncation()

    def shortcut(self) -> Callable[[str], object] | None:
        return _IPV4 if self.truncate.ipv4 == 32 else None

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


def _whole(text: str) -> str | None:
    packed = _packed(text)
    return None if packed is None else _text(packed)


def _prefixes(kept: int, block: int) -> int:
    """How many kept prefixes fall on 169.254.0.0/16: none can once fewer than 15 bits are kept."""
    return 1 << (kept - block) if kept >= block else int(kept == block - 1)
