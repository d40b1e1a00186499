"""``ip``: a textual IPv4 or IPv6 address, whole or truncated to a prefix.

Refused: zones, ports, host names, multicast and link-local addresses; with ``scope: global`` also
addresses of this host and of private networks. IPv4 addresses embedded in IPv6 (mapped, RFC 4291;
6to4, RFC 3056; NAT64, RFC 6052) become IPv4 before truncation, so that they are truncated as such.
Other IPv6 addresses that hold an IPv4 address stay IPv6, and are cut where the IPv4 address would
be cut. Canonical form: compressed lower case (RFC 5952).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from ipaddress import IPv6Address, ip_address
from itertools import repeat
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator
from pydantic import Field as Option

from collector.documents import Hint, Part, fault
from collector.schema.kinds.base import (
    WITHOUT_KEYS,
    Canonical,
    Circumstances,
    ColumnCheck,
    FieldBase,
    Phrases,
)
from collector.schema.verdict import Shift, ordered_shifts

_MULTICAST = 0xE0
"""The first four bits of 224.0.0.0/4 (RFC 5771)."""
_MULTICAST_BYTES = bytes(range(_MULTICAST, _MULTICAST + 16))
_LINK_LOCAL = b"\xa9\xfe"
_MAPPED = bytes(10) + b"\xff\xff"
_NAT64 = b"\x00\x64\xff\x9b" + bytes(8)
_BESIDE_LINK_LOCAL = 15
"""The length of a prefix that 169.254.0.0/16 shares with a neighbour."""
_BESIDE_NAT64 = range(32, 96)
"""Lengths of a prefix that 64:ff9b::/96 shares with neighbours, and that reads as that network."""

_NETWORKS4 = (
    ("0.0.0.0", 8),  # noqa: S104 - data
    ("10.0.0.0", 8),
    ("100.64.0.0", 10),
    ("127.0.0.0", 8),
    ("172.16.0.0", 12),
    ("192.168.0.0", 16),
    ("255.255.255.255", 32),
)
"""Networks of this host and private networks: RFC 6890, RFC 1918, RFC 6598. The ranges for
documentation (RFC 5737) are not included."""
_NETWORKS6 = (
    ("::", 96),
    ("::ffff:0:0:0", 96),
    ("64:ff9b:1::", 48),
    ("fc00::", 7),
    ("fec0::", 10),
)
"""Networks of this host and private networks (RFC 4193, RFC 3879), and those that can embed such an
IPv4 address (RFC 4291, RFC 2765, RFC 8215)."""
_LOCAL4, _LOCAL6 = (
    tuple((int(ip_address(first)), bits) for first, bits in networks)
    for networks in (_NETWORKS4, _NETWORKS6)
)
_BESIDE_PRIVATE = range(13, 16)
"""Lengths of a prefix that 192.168.0.0/16 shares with neighbours, and that begins with it."""

_OCTET = "(255|[1-1][0-9][0-9]|2[0-4][0-9]|25[0-4]|[0-9]|[1-9][0-9])"
_NOT_IPV4 = r"(?!(22[4-9]|23[0-9])\.|169\.254\.)"
_NOT_LOCAL4 = (
    r"(?!(0|10|127|192\.168|172\.(1[6-9]|2[0-9]|3[01])"
    r"|100\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7]))\.|255\.255\.255\.255)"
)
_NOT_LOCAL6 = (
    "(?!::([0-9a-f]{1,4}(:[0-9a-f]{1,4})?)?$|::ffff:0(:[0-9a-f]{1,4}){2}$|64:ff9b:1:"
    "|f[cd][0-9a-f]{2}:|fe[c-f][0-9a-f]:)"
)
_GROUP = "(0|[1-9a-f][0-9a-f]{0,3})"
_NOT_IPV6 = "(?!ff[0-9a-f]{2}:|fe[89ab][0-9a-f]:|2002:)"
_COARSER = ((24, 48), (16, 32))
"""Prefix lengths of IPv4 and IPv6 that still tell a region apart."""


def _packed(text: str) -> bytes | None:
    """Parse a unicast address into 4 or 16 bytes; mapped, 6to4 and NAT64 addresses become IPv4."""
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
    """Parse as the system does, which is strict: four decimal numbers without leading zeros."""
    try:
        return inet_pton(family, text)
    except (OSError, ValueError):
        return None


def _unicast(inner: bytes | None) -> bytes | None:
    if inner is None or inner[0] & 0xF0 == _MULTICAST or inner[:2] == _LINK_LOCAL:
        return None
    return inner


def _is_global(packed: bytes) -> bool:
    """Return whether an address belongs to the internet, not to a private network."""
    first, second = packed[0], packed[1]
    if len(packed) == 16:
        holds_ipv4 = first == 0 and (packed[:12] in _COMPATIBLE or packed[:6] == _LOCAL_NAT64)
        return not (holds_ipv4 or first & 0xFE == 0xFC or (first == 0xFE and second >= 0xC0))
    return not (
        first in _LOCAL_BYTES
        or (first == 172 and second & 0xF0 == 16)
        or (first == 192 and second == 168)
        or (first == 100 and second & 0xC0 == 64)
        or packed == _BROADCAST
    )


_LOCAL_BYTES = bytes([0, 10, 127])
_COMPATIBLE = (bytes(12), bytes(8) + b"\xff\xff" + bytes(2))
_LOCAL_NAT64 = b"\x00\x64\xff\x9b\x00\x01"
_BROADCAST = b"\xff" * 4
_EXAMPLE = "203.0.113.7"  # for documents (RFC 5737)
_TEREDO = b"\x20\x01\0\0"
_ISATAP = (b"\0\0\x5e\xfe", b"\x02\0\x5e\xfe")
_HOLDERS = {_TEREDO: 32, _LOCAL_NAT64: 48, **dict.fromkeys(_COMPATIBLE, 96)}
"""Networks of IPv6 that hold IPv4 addresses from some bit on (RFC 4380, RFC 8215, RFC 4291, RFC
2765). In Teredo, the server's address comes first; a local NAT64 may embed one at any later bit."""


def _ipv4_begins(packed: bytes) -> int:
    """Return the first bit at which an IPv6 address can hold an IPv4 address; 128 if it cannot."""
    for network, bits in _HOLDERS.items():
        if packed.startswith(network):
            return bits
    return 96 if packed[8:12] in _ISATAP else 128  # RFC 5214, in any network


def _text(packed: bytes) -> str:
    if len(packed) == 4:
        return inet_ntop(AF_INET, packed)
    if packed[0] or any(packed[:10]):
        return inet_ntop(AF_INET6, packed)
    return str(IPv6Address(packed))  # systems differ in how they write ::/80


def _prefix(least: int, most: int) -> tuple[AfterValidator, Hint]:
    def check(length: int) -> int:
        if not least <= length <= most:
            raise fault("E107", f"this must be {least} to {most} bits")
        return length

    return AfterValidator(check), Hint(minimum=least, maximum=most)


class Truncation(Part):
    """How many leading bits of an address are kept."""

    ipv4: Annotated[int, *_prefix(8, 32)] = Option(
        32, description="Leading bits of an IPv4 address."
    )
    ipv6: Annotated[int, *_prefix(16, 128)] = Option(
        128, description="Leading bits of an IPv6 address."
    )


class IpField(FieldBase):
    """An address."""

    description = "An IPv4 or IPv6 address, whole or truncated to a network."
    phrases: ClassVar[Phrases] = {
        "whole": {"en": "the whole address", "id": "alamat lengkap"},
        "network": {
            "en": "the network alone: {ipv4} bits of an IPv4 address, {ipv6} bits of an IPv6"
            " address",
            "id": "hanya jaringannya: {ipv4} bit alamat IPv4, {ipv6} bit alamat IPv6",
        },
        "whole_global": {
            "en": "the whole address, if it is one of the internet",
            "id": "alamat lengkap, jika itu alamat internet",
        },
        "network_global": {
            "en": "the network alone, if the address is one of the internet: {ipv4} bits of an IPv4"
            " address, {ipv6} bits of an IPv6 address",
            "id": "hanya jaringannya, jika itu alamat internet: {ipv4} bit alamat IPv4, {ipv6} bit"
            " alamat IPv6",
        },
    }

    is_closed = True

    kind: Literal["ip"]
    truncate: Truncation = Option(
        Truncation(),
        description="How many leading bits are kept; all if left out.",
        examples=[{"ipv4": 24, "ipv6": 48}],
    )
    scope: Literal["any", "global"] = Option(
        "any",
        description="`global`: no private, shared, loopback, unspecified or broadcast one.",
    )

    @property
    def identifies(self) -> bool:
        """A whole address belongs to a household or a device."""
        return self.truncate == Truncation()

    def canonical(self, circumstances: Circumstances) -> Canonical:
        is_any = self.scope == "any"
        if self.identifies:
            return _whole if is_any else _whole_global
        keep4, keep6 = self.truncate.ipv4, self.truncate.ipv6

        def canonical(text: str) -> str | None:
            packed = _packed(text)
            if packed is None or not (is_any or _is_global(packed)):
                return None
            size = len(packed)
            if size == 4:
                lose = 32 - keep4
            elif keep4 == 32:
                lose = 128 - keep6
            else:
                lose = 128 - min(keep6, _ipv4_begins(packed) + keep4)
            prefix = (int.from_bytes(packed) >> lose << lose).to_bytes(size)
            # A prefix that reads as another address (64:ff9b::, 169.254.0.0/15) is not canonical.
            text = _text(prefix)
            is_kept = _packed(text) == prefix and (is_any or _is_global(prefix))
            return text if is_kept else None

        return canonical

    def sought(self, circumstances: Circumstances) -> Canonical:
        """Accept addresses of any scope: an earlier version of the schema may have kept them."""
        return self.model_copy(update={"scope": "any"}).canonical(circumstances)

    def recognised(self) -> Canonical:
        """Accept addresses of any scope, as ``sought`` does."""
        return self.model_copy(update={"scope": "any"}).stored(WITHOUT_KEYS)

    def column_check(self, first: datetime, last: datetime) -> ColumnCheck:
        """Check whole addresses without remembering each, because most of them differ."""
        is_fast = self.identifies and self.scope == "any"
        return _are_whole if is_fast else super().column_check(first, last)

    def size(self) -> int:
        p4, p6 = self.truncate.ipv4, self.truncate.ipv6
        ipv4: int = 2**p4 - 2 ** (p4 - 4) - _prefixes(p4, 16)
        special: int = 2 ** (p6 - 8) + 2 ** max(0, p6 - 10) + 2 ** (p6 - 16)
        mapped: int = 2 ** (p6 - 96) if p6 >= 96 else 0
        nat64: int = 2 ** max(0, p6 - 96) if p6 >= 32 else 0
        local: int = 0
        if self.scope == "global":
            local = _networks(_LOCAL4, 32, p4) + _networks(_LOCAL6, 128, p6)
        return ipv4 + (1 << p6) - special - mapped - nat64 - local - self._merged()

    def _merged(self) -> int:
        """Count the prefixes that are never used because they would hold too much of an IPv4
        address."""
        p4, p6, is_any = self.truncate.ipv4, self.truncate.ipv6, self.scope == "any"
        if p4 == 32:
            return 0
        isatap = (1 << 64) - (1 << 56) - (1 << 54) - (1 << 48) - (1 << 32) - (1 << 16)
        if not is_any:
            isatap -= (1 << 57) + (1 << 54)
        holders = [(32, 1), (96, 2 * isatap), *[(48, 1), (96, 2)] * is_any]
        bits = [(max(0, p6 - begin), count) for begin, count in holders]
        return sum(count * ((1 << more) - (1 << min(more, p4))) for more, count in bits)

    def shifts(self, new: Self) -> Iterator[Shift]:
        """Compare the prefix lengths. Some short prefixes are refused because they read as another
        address (see above); a still shorter one may not be, and admits their addresses."""
        old4, new4 = self.truncate.ipv4, new.truncate.ipv4
        freed = self.scope == "global" and old4 in _BESIDE_PRIVATE and new4 not in _BESIDE_PRIVATE
        less = "more values" if freed or old4 == _BESIDE_LINK_LOCAL else "coarser values"
        yield from ordered_shifts("truncate.ipv4", old4, new4, "finer values", less)
        old6, new6 = self.truncate.ipv6, new.truncate.ipv6
        freed = old6 in _BESIDE_NAT64 and new6 not in _BESIDE_NAT64
        less = "more values" if freed else "coarser values"
        yield from ordered_shifts("truncate.ipv6", old6, new6, "finer values", less)
        if self.scope != new.scope:
            yield Shift("scope", "fewer values" if new.scope == "global" else "more values")

    def example(self, now: datetime) -> str:
        return _EXAMPLE

    def value_schema(self) -> dict[str, Any]:
        four, six = _ipv4_pattern(self.truncate.ipv4), _ipv6_pattern(self.truncate.ipv6)
        if self.scope == "global":
            four, six = f"{_NOT_LOCAL4}{four}", f"{_NOT_LOCAL6}{six}"
        return {
            "type": "string",
            "anyOf": [
                {"format": "ipv4", "pattern": f"^{four}$"},
                {"format": "ipv6", "pattern": f"^{six}$"},
            ],
        }

    def phrase(self) -> tuple[str, Mapping[str, Any]]:
        of = "whole" if self.identifies else "network"
        return of + "_global" * (self.scope == "global"), dict(self.truncate)

    def coarser(self) -> Iterator[tuple[str, Self]]:
        for ipv4, ipv6 in _COARSER:
            cut = Truncation(ipv4=min(self.truncate.ipv4, ipv4), ipv6=min(self.truncate.ipv6, ipv6))
            if cut != self.truncate:
                option = f"truncate: {{ipv4: {cut.ipv4}, ipv6: {cut.ipv6}}}"
                yield option, self.model_copy(update={"truncate": cut})


def _whole(text: str) -> str | None:
    """Return the canonical text of an address. This is the most frequent call of the filter: an
    IPv4 address has only one spelling, so it is returned as it stands."""
    family = AF_INET6 if ":" in text else AF_INET
    try:
        address = inet_pton(family, text)
    except (OSError, ValueError):
        return None
    first = address[0]
    if family is AF_INET6:
        if 0x20 < first < 0xFE or (first == 0x20 and address[1] != 0x02):
            return None if "%" in text else inet_ntop(AF_INET6, address)
        packed = _packed(text)
        return None if packed is None else _text(packed)
    if first & 0xF0 == _MULTICAST or (first == 169 and address[:2] == _LINK_LOCAL):
        return None
    return text


def _whole_global(text: str) -> str | None:
    packed = _packed(text)
    return None if packed is None or not _is_global(packed) else _text(packed)


def _are_whole(values: Collection[Any]) -> bool:
    """Check the addresses of a column. IPv4 addresses are checked together, as bytes."""
    four = [text for text in values if text is not None and ":" not in text]
    six = [text for text in values if text is not None and ":" in text]
    try:
        packed = b"".join(map(inet_pton, repeat(AF_INET), four))
    except (OSError, ValueError):
        return False
    first = packed[::4]
    if len(first.translate(None, _MULTICAST_BYTES)) < len(first):
        return False
    others = [*six, *four] if _LINK_LOCAL in packed else six  # at any position
    return [*map(_whole, others)] == others


def _networks(networks: Collection[tuple[int, int]], width: int, bits: int) -> int:
    """Count the prefixes that lie in any of these networks, as addresses."""
    return sum(
        1 << (bits - length) if bits >= length else int(first % (1 << (width - bits)) == 0)
        for first, length in networks
    )


def _prefixes(bits: int, block: int) -> int:
    """Count the prefixes that fall on 169.254.0.0/16; no prefix of fewer than 15 bits can."""
    return 1 << (bits - block) if bits >= block else int(bits == block - 1)


def _ipv4_pattern(bits: int) -> str:
    """Return a pattern of the networks: whole octets, a partial one, then zeros."""
    octets = []
    for index in range(4):
        step = 1 << (8 - min(8, max(0, bits - 8 * index)))
        multiples = f"({'|'.join(map(str, range(0, 256, step)))})"
        octets.append(_OCTET if step == 1 else multiples)
    return _NOT_IPV4 + r"\.".join(octets)


def _ipv6_pattern(bits: int) -> str:
    """Return a pattern of compressed lower case; a prefix of 64 bits or less ends in ``::``."""
    groups = -(-bits // 16)
    if groups <= 4:
        return rf"{_NOT_IPV6}({_GROUP}(:{_GROUP}){{0,{groups - 1}}})?::"
    seven = "(?!(:{0,2}[0-9a-f]{1,4}(?![0-9a-f])){7})"
    part = f"({_GROUP}(:{_GROUP}){{0,5}})?"
    return f"{_NOT_IPV6}({_GROUP}(:{_GROUP}){{7}}|{seven}{part}::{part})"
