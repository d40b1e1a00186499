"""What must come of a value, computed a second time.

From docs/schema.md and the standard library alone (``ipaddress``, ``re``, ``Fraction``), so that
the filter cannot agree with itself by mistake.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from collector.schema import resources
from collector.schema.kinds import FieldBase
from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.numeric import IntegerField, NumberField
from collector.schema.kinds.token import TokenField
from tests.filter.smuggled import Written

KEY = bytes(range(32))
"""The key of every pseudonym."""

GOOD: dict[str, tuple[Any, ...]] = {
    "ip": ("203.0.113.7", "2001:db8::7"),
    "version": ("10.0.19045", "22.04", "7"),
    "integer": (7, 64, -1),
    "number": (0.37, -0.01, 1),
    "boolean": (True, False),
    "time": ("2026-11-24T10:20:30Z", "2026-11-24t11:20:59.25+01:00", 1795515630, 1795515630250),
    "pseudonym": ("9d9bf67cb8c8",),
}
"""What a kind accepts, to be damaged by ``damaged``; enums and tokens come from the schema."""

TIMES = {
    "2026-11-24T10:20:30Z": "2026-11-24T10:20:00Z",
    "2026-11-24t10:20:30z": "2026-11-24T10:20:00Z",
    "2026-11-24T10:20:30Z".upper(): "2026-11-24T10:20:00Z",
    "2026-11-24t11:20:59.25+01:00": "2026-11-24T10:20:00Z",
    "2026-11-24T11:20:59.25+01:00": "2026-11-24T10:20:00Z",
    1795515630: "2026-11-24T10:20:00Z",
    1795515630250: "2026-11-24T10:20:00Z",
}
"""The only moments of this file that are moments; all else is refused by ``time``."""


@cache
def catalogue(name: str) -> frozenset[str]:
    path = resources.shipped() / "catalogues" / f"{name}.txt"
    lines = path.read_text(encoding="utf-8").split("\n")
    return frozenset(line for line in lines if line and not line.startswith("#"))


def undressed(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address | None:
    """Out of its IPv6 clothes; ``None`` for what is no single, routable host."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in ip_network("64:ff9b::/96"):
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        address = inner or address
    return None if address.is_multicast or address.is_link_local else address


def of_ip(field: Any, text: str) -> str | None:
    try:
        address = undressed(ip_address(text)) if "%" not in text else None
    except ValueError:
        return None
    if address is None:
        return None
    length = field.truncate.ipv4
    if isinstance(address, IPv6Address):
        begins = 128 if length == 32 else ipv4_begins(address)
        length = min(field.truncate.ipv6, begins + length)
    prefix = ip_network((address, length), strict=False).network_address
    if field.scope == "global" and (is_local(address) or is_local(prefix)):
        return None
    return str(prefix) if undressed(prefix) == prefix else None


def ipv4_begins(address: IPv6Address) -> int:
    """The first bit of an IPv4 address within: Teredo, NAT64, compatible, translated, ISATAP."""
    for text in ("2001::/32", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96"):
        if address in (network := IPv6Network(text)):
            return network.prefixlen
    return 96 if address.exploded[20:29] in ("0000:5efe", "0200:5efe") else 128


def is_local(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is of this host, or of a network that the internet does not have."""
    local = "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 172.16.0.0/12 192.168.0.0/16"
    if address.version == 6:
        local = "::/96 ::ffff:0:0:0/96 64:ff9b:1::/48 fc00::/7 fec0::/10"
    networks = (ip_network(text) for text in local.split())
    return any(address in network for network in networks) or str(address) == "255.255.255.255"


def of_enum(field: Any, text: str) -> str | None:
    def alike(listed: str) -> bool:
        folded = field.fold_case and text.isascii() and listed.isascii()
        return listed.lower() == text.lower() if folded else listed == text

    known = {**{value: value for value in field.values}, **field.aliases}
    found = {value for listed, value in known.items() if alike(listed)}
    assert len(found) <= 1
    return next(iter(found), None)


def of_version(field: Any, text: str) -> str | None:
    numbers = text.split(".")
    maxima = [*(field.maximum or ()), *[99_999] * 4][: len(numbers)]
    if not 1 <= len(numbers) <= 4 or not all(re.fullmatch("[0-9]+", n) for n in numbers):
        return None
    fits = (
        len(number) <= len(str(most)) and int(number) <= most
        for number, most in zip(numbers, maxima, strict=True)
    )
    return ".".join(numbers[: field.parts]) if all(fits) else None


def of_token(field: Any, text: str) -> str | None:
    if field.pattern is not None:
        return text if re.fullmatch(field.pattern, text, re.ASCII) else None
    return text if text in catalogue(field.catalogue or "") else None


SECONDS = {"us": "1/1000000", "ms": "1/1000", "s": "1", "min": "60", "h": "3600"}
UNITS: tuple[dict[str, str], ...] = (
    *(SECONDS, {"bps": "1", "kbps": "1000", "Mbps": "1000000"}),
    *({"fps": "1"}, {"Hz": "1", "kHz": "1000", "MHz": "1000000"}, {"%": "1"}),
)


def of_decimal(field: Any, text: str) -> Fraction | None:
    """What a text says, in the field's unit."""
    quantity = next((units for units in UNITS if field.unit in units), {})
    number = text if len(text) <= 32 else ""
    factor = Fraction(1)
    for unit, size in quantity.items():
        if text.endswith(unit) and re.fullmatch("[0-9]", text.removesuffix(unit).strip(" ")[-1:]):
            factor = Fraction(size) / Fraction(quantity[field.unit or ""])
            number = number.removesuffix(unit).removesuffix(" ")
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", number):
        return None
    return Fraction(number) * factor


def of_range(field: Any, value: float | str) -> Fraction | None:
    """The greatest multiple of the step, if the value is in range."""
    if isinstance(value, str):
        exact = of_decimal(field, value)
        limits = (Fraction(repr(limit)) for limit in (field.minimum, field.maximum))
        low, high = limits
        is_within = exact is not None and low <= exact <= high
    else:
        is_within = field.minimum <= value <= field.maximum
        exact = Fraction(repr(value)) if is_within else None
    step = Fraction(repr(field.step))
    return exact // step * step if is_within and exact is not None else None


def of_integer(field: Any, value: int | str) -> int | None:
    found = of_range(field, value)
    return None if found is None else int(found)


def of_number(field: Any, value: float | str) -> float | None:
    found = of_range(field, value)
    return None if found is None else float(found)


def reads_text(field: FieldBase) -> bool:
    """Whether a number may be written as text."""
    if not isinstance(field, IntegerField | NumberField):
        return False
    return field.text is True or (field.text is None and field.unit is not None)


def of_pseudonym(text: str) -> str | None:
    plain = text.encode("utf-8", "surrogatepass")
    if not 1 <= len(plain) <= 256 or re.search("[\ud800-\udfff]", text):
        return None
    return b32encode(hmac.digest(KEY, plain, "sha256")[:16]).decode().rstrip("=").lower()


WIRE: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "time": (str, int, float),
}


def expected_value(field: FieldBase, case: Written) -> tuple[Any, str | None]:
    """The canonical value of what is there, or the reason of the drop."""
    kind = field.kind
    if case.kind not in WIRE.get(kind, (str,)) and not (case.kind is str and reads_text(field)):
        return None, "wrong_type"
    canonical = OF_KIND[kind](field, case.value)
    return canonical, "invalid_value" if canonical is None else None


OF_KIND: dict[str, Callable[[Any, Any], Any]] = {
    "ip": of_ip,
    "enum": of_enum,
    "version": of_version,
    "token": of_token,
    "integer": of_integer,
    "number": of_number,
    "boolean": lambda _, value: value,
    "time": lambda field, value: TIMES.get(value) if field.precision == "minute" else None,
    "pseudonym": lambda _, value: of_pseudonym(value),
}


PATTERNED = ("iPhone16,1", "SM-S928B", "21E236", "19045.4291", "UP1A.231005.007", "12A1", "r411111")


def good(field: FieldBase) -> tuple[Any, ...]:
    """Some values that a field accepts."""
    if isinstance(field, EnumField):
        return (field.values[0], *list(field.aliases)[:3])
    if isinstance(field, TokenField) and field.pattern is not None:
        return tuple(text for text in PATTERNED if re.fullmatch(field.pattern, text, re.ASCII))
    if isinstance(field, TokenField):
        return tuple(sorted(catalogue(field.catalogue or ""))[:60:20])
    if reads_text(field):
        unit = getattr(field, "unit", None) or ""
        return (*GOOD[field.kind], f"0.7{unit}", f"1 {unit}".strip(), "-0.01")
    return GOOD[field.kind]
