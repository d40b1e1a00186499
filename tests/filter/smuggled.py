"""The smuggling table: what is no telemetry, as JSON text and as Python value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple


class Written(NamedTuple):
    """A value as JSON text, and as the Python value that it means (``None``: mapping has none)."""

    text: bytes
    value: Any
    kind: type

    @property
    def is_absent(self) -> bool:
        return self.text == b"null"


def written(value: Any) -> Written:
    return Written(json.dumps(value, ensure_ascii=False).encode(), value, type(value))


TEXTS = (
    # what people say and are called
    *("see you at nine, bring the contract", "Grüße an Ana 🎂 und an 李小龙"),
    *("first line\nsecond line", '","chat":"escaped', "Ana Maria Ruiz", "ana.ruiz@example.org"),
    *("Ana's iPhone", "desktop of Ana"),
    # numbers of cards, telephones, days, accounts
    *("4111 1111 1111 1111", "4111-1111-1111-1111", "4111111111111111", "4111.1111.1111.1111"),
    *("DE89 3704 0044 0532 0130 00", "+1 555 0100 123", "15550100123", "0155.50.100.123"),
    *("+49.30.901820", "24.12.1984", "1984-12-24", "1984-12-24T00:00:00Z", "12/24/1984"),
    *("19841224", "078-05-1120"),
    # hardware, and addresses that are none
    *("9d:9b:f6:7c:b8:c8", "9d-9b-f6-7c-b8-c8", "9d9b.f67c.b8c8", "9d9bf67cb8c8"),
    *("9d:9b:f6:7c:b8:c8:00:01", "203.0.113.7:443", "[2001:db8::7]:443", "[2001:db8::7]"),
    *("203.0.113.7/24", "2001:db8::/32", "203.0.113.7, 198.51.100.4", "ana-laptop.example.org"),
    *("localhost", "203.0.113.7.example.org", "/run/user/1000/bus", "fe80::1%eth0"),
    *("2001:db8::1%canary", "2001:db8::1%25canary", "203.0.113.7%eth0", "::ffff:203.0.113.7%eth0"),
    *("fe80::9f9b:f6ff:fe7c:b8c8", "ff02::1:ff7c:b8c8", "224.0.0.251", "239.203.0.113"),
    *("169.254.7.7", "0313.0.0161.07", "0xcb.0.0x71.7", "203.0.113.07", "203.0.29191"),
    *("3405803783", "256.203.0.113", "203.0.113", "203.0.113.7.1", "203.0.113.-7", "2001:db8:::7"),
    *("2001:db8::7::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::", "::203.0.113.07"),
    "::203.0.113.256",
    # other addresses, some of them in clothes
    *("::", "::1", "0.0.0.0", "255.255.255.255", "10.1.2.3", "2001:DB8:0:0:0:0:0:7"),
    *("2001:0db8::0007", "2001:db8::9f9b:f6ff:fe7c:b8c8", "2001:db8:0:1:0:0:0:1"),
    *("2001:db8::203.0.113.7", "::ffff:203.0.113.7", "::FFFF:CB00:7107"),
    *("0:0:0:0:0:ffff:203.0.113.7", "::ffff:169.254.7.7", "::ffff:224.0.0.251"),
    *("::ffff:0:203.0.113.7", "::203.0.113.7", "2002:cb00:7107::1"),
    *("2002:cb00:7107:9d9b:f6ff:fe7c:b8c8:1", "2002:a9fe:707::1", "2002:e000:fb::1"),
    *("64:ff9b::203.0.113.7", "64:ff9b::cb00:7107", "64:ff9b::169.254.7.7"),
    *("64:ff9b:0:1::cb00:7107", "64:ff9b:1::cb00:7107", "0064:ff9b::cb00:7107"),
    # digits and letters that only look like ours
    *(
        "١٠.٠.١٩٠٤٥",
        "٢٠٣.٠.١١٣.٧",
        "२०३.०.११३.७",
        "２０３．０．１１３．７",
        "１０.０",
        "1０.0",
        "²²",
        "Ⅷ",
    ),
    *("dеsktop", "рhone", "phοne", "ρhone", "ΑΙΧ", "Аррlе", "\u212aiosk", "wındows", "wİndows"),
    *("lınux", "ﬁre", "Ｗindows", "linux\u0301"),
    # what cannot be seen
    *("desk\u200btop", "\u200dphone", "phone\u2060", "\ufeffphone", "\u202ephone", "ph\u00adone"),
    *("phone\u2028", "phone\U000e0041\U000e006e\U000e0061", "phone\ufe0f", "ph\x00one", "\x00"),
    *("\x7f", "\x1b[31mphone"),
    # words that parsers of other languages read as something else
    *("true", "null", "NaN", "Infinity", "-1", "+7", "0x7", "1e3", "1_000", "7.", ".7", "1..2"),
    *("1.2.3.4.5", "v1.2", "1.2-canary", "", " ", "x" * 10_000, "7" * 400),
    ("7" * 40 + ".") * 3 + "7",
)

NUMBERS = (
    *(4111111111111111, 15550100123, 19841224, 173309238425800, 65, -3, 2**31, 2**53 + 1, 2**63),
    *(2**64, -(2**64), 10**399, 10**25, 0.1 + 0.2, 1.0, -0.0, 1.0000000000000002),
    *(0.30000000000000004, 1e-300, 1e308, 4111111111111111.5, 1795515630.0, -1.5),
)

OTHERS: tuple[Any, ...] = (
    *(True, False, None, [], ["canary-in-a-list"], {}, {"canary-key": "canary-in-an-object"}),
)

TABLE = (
    *(written(value) for value in (*TEXTS, *NUMBERS, *OTHERS)),
    Written(b"7" * 5000, 10**4999, int),
    Written(b"-" + b"7" * 5000, -(10**4999), int),
    Written(b"1e999", float("inf"), float),
    Written(b"-1e999", float("-inf"), float),
    Written(b"1e-999", 0.0, float),
    Written(b"1E0", 1.0, float),
    Written(b"64.0", 64.0, float),
    Written(b"6.4e1", 64.0, float),
    Written(b"-0", 0, int),
    Written(b"0.37000000000000000000000000000000000000004111111111111111", 0.37, float),
)


INVISIBLE = ("\n", " ", "\t", "\r", "\x00", "\x85", "\u2028", "\u200b", "\ufeff", "\u0301")


def damaged(value: Any) -> Iterator[Any]:
    """A good value, and what is nearly that value."""
    yield value
    if not isinstance(value, str):
        yield str(value)
        yield [value]
        yield float(value) if not isinstance(value, float) else int(value)
        return
    for invisible in INVISIBLE:
        yield value + invisible
        yield invisible + value
    yield value + "\r\n"
    yield value[:1] + "\u200b" + value[1:]
    yield value[:-1]
    yield value + value
    yield f"{value}, {value}"
    yield value.upper()
    yield value.lower()
    yield value.swapcase()
    yield "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in value)
    yield value.translate({ord("0") + n: 0x0660 + n for n in range(10)})
    yield value.translate(str.maketrans("aceopxyiAEKOPX", "асеорхуіАЕКОРХ"))
    yield value.translate({ord("i"): "ı", ord("k"): "\u212a", ord("K"): "\u212a"})
    yield {value: value}
