"""``ip`` against the standard library's ``ipaddress``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.schema.kinds.base import WITHOUT_KEYS
from tests.filter.canonical import of_ip
from tests.support.make_schemas import canonical, field, refuses
from tests.support.rows import for_each

_NAT64 = IPv6Network("64:ff9b::/96")
_EXCLUDED4 = [IPv4Network("224.0.0.0/4"), IPv4Network("169.254.0.0/16")]
_EXCLUDED6 = [
    IPv6Network(text)
    for text in ("ff00::/8", "fe80::/10", "2002::/16", "::ffff:0:0/96", "64:ff9b::/96")
]


_COMPATIBLE, _TRANSLATED = IPv6Network("::/96"), IPv6Network("::ffff:0:0:0/96")
_TEREDO, _LOCAL_NAT64 = IPv6Network("2001::/32"), IPv6Network("64:ff9b:1::/48")
_V4 = st.ip_addresses(v=4)
_V6 = st.ip_addresses(v=6)
_CLOTHES = st.builds(
    lambda clothes, inner: str(IPv6Address(clothes | int(inner))),
    st.sampled_from([0xFFFF << 32, int(_NAT64.network_address), 0]),
    _V4,
)
_SIX_TO_FOUR = st.builds(
    lambda inner, rest: str(IPv6Address(0x2002 << 112 | int(inner) << 80 | rest)),
    _V4,
    st.integers(0, 2**80 - 1),
)


def _in_teredo(client: int, server: int, rest: int) -> int:
    """RFC 4380: the server, flags and a port, and the client's address with its bits inverted."""
    return 0x20010000 << 96 | server << 64 | rest % 2**32 << 32 | client ^ 0xFFFFFFFF


def _in_nat64(bits: int, inner: int, rest: int) -> int:
    """RFC 6052, section 2.2, in the network of RFC 8215: bits 64 to 71 are left out."""
    written = inner
    if bits < 96:
        after = bits - 32  # of its bits, those behind them
        written = inner >> after << 64 | inner % 2**after << 56 - after
    subnet: int = rest % 2 ** (bits - 48)
    return 0x64FF9B0001 << 80 | subnet << 128 - bits | written


_HOLDING: dict[str, Callable[[int, int], int]] = {
    "mapped": lambda inner, rest: 0xFFFF << 32 | inner,
    "compatible": lambda inner, rest: inner,
    "translated": lambda inner, rest: 0xFFFF << 48 | inner,
    "6to4": lambda inner, rest: 0x2002 << 112 | inner << 80 | rest % 2**80,
    "NAT64": lambda inner, rest: 0x64FF9B << 96 | inner,
    "Teredo client": lambda inner, rest: _in_teredo(inner, rest >> 32 & 0xFFFFFFFF, rest),
    "Teredo server": lambda inner, rest: _in_teredo(rest >> 32 & 0xFFFFFFFF, inner, rest),
    "ISATAP": lambda inner, rest: 0x20010DB8 << 96 | rest % 2**32 << 64 | 0x5EFE << 32 | inner,
    "ISATAP global": lambda inner, rest: (
        0x20010DB8 << 96 | rest % 2**32 << 64 | 0x02005EFE << 32 | inner
    ),
    **{f"local NAT64 /{bits}": partial(_in_nat64, bits) for bits in (48, 56, 64, 96)},
}
"""Where an IPv4 address stands in one of IPv6: of the address and other bits."""


_SPELLED = st.one_of(
    _V4.map(str),
    _V6.map(str),
    _V6.map(lambda address: address.exploded),
    _V6.map(lambda address: address.exploded.upper()),
    _V4.map(lambda inner: f"::ffff:{inner}"),
    _V4.map(lambda inner: f"0:0:0:0:0:FFFF:{inner}"),
    _V4.map(lambda inner: f"64:ff9b::{inner}"),
    _V4.map(lambda inner: f"1:2:3:4:5:6:{inner}"),
    _V4.map(lambda inner: f"::{inner}"),
    _CLOTHES,
    _SIX_TO_FOUR,
    st.builds(
        lambda form, inner, rest: str(IPv6Address(form(int(inner), rest))),
        st.sampled_from([*_HOLDING.values()]),
        _V4,
        st.integers(0, 2**80 - 1),
    ),
)
_LIKE = st.text(alphabet="0123456789abcdefABCDEF:.%/ []x-\n٣１", max_size=45)


@st.composite
def _damaged(draw: st.DrawFn) -> str:
    text: str = draw(_SPELLED)
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(_LIKE.map(lambda like: like[:3])) + text[at + draw(st.integers(0, 2)) :]


_TEXTS = _SPELLED | _damaged() | _LIKE | st.text(max_size=20)
_PREFIXES = st.tuples(
    st.sampled_from([8, 9, 14, 15, 16, 17, 24, 31, 32]),
    st.sampled_from([16, 17, 31, 32, 33, 48, 64, 79, 80, 81, 95, 96, 97, 112, 127, 128]),
)


@given(_TEXTS)
def test_whole_addresses(text: str) -> None:
    of = field("ip")
    assert canonical(of)(text) == of_ip(of, text)


@given(_TEXTS, _PREFIXES)
def test_truncated_addresses(text: str, prefixes: tuple[int, int]) -> None:
    of = field("ip", truncate=dict(zip(("ipv4", "ipv6"), prefixes, strict=True)))
    found = canonical(of)(text)
    assert found == of_ip(of, text)
    assert found is None or canonical(of)(found) == found


@for_each(
    "text",
    [
        *("01.2.3.4", "1.2.3.04", "1.2.3", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4\n", "1.2.3.4\x00"),
        *("0x1.2.3.4", "1.2.3.256", "1..2.3", "1.2.3.4.5", "16909060", "１.2.3.4", "1.2.3.٤"),
        *("1.2.3.+4", "1.2.3.4%lo", "::1%lo", "[::1]", "\ud800", ""),
    ],
)
def test_the_system_reads_strictly(text: str) -> None:
    """An IPv4 address has one spelling, whatever the system's library accepts."""
    assert canonical(field("ip"))(text) is None


@for_each(
    ("text", "result"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("0.0.0.0", "0.0.0.0"),
        ("255.255.255.255", "255.255.255.255"),
        ("127.0.0.1", "127.0.0.1"),
        ("2001:DB8:0:0:0:0:0:7", "2001:db8::7"),
        ("2001:db8:0:1:0:0:0:1", "2001:db8:0:1::1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        *(("::", "::"), ("::1", "::1"), ("::ffff:203.0.113.7", "203.0.113.7")),
        *(("::FFFF:cb00:7107", "203.0.113.7"), ("2002:cb00:7107::1", "203.0.113.7")),
        ("64:ff9b::203.0.113.7", "203.0.113.7"),
        ("64:ff9b:1::203.0.113.7", "64:ff9b:1::cb00:7107"),
        ("::203.0.113.7", "::cb00:7107"),
    ],
)
def test_canonical_forms(text: str, result: str) -> None:
    """They are those of RFC 5952; an IPv4 address in IPv6 is IPv4."""
    assert canonical(field("ip"))(text) == result


@for_each(
    "text",
    [
        *("", " ", "203.0.113.7 ", " 203.0.113.7", "203.0.113.7\n", "203.0.113.7\0"),
        *"203.0.113 203.0.113.07 0203.0.113.7 203.0.113.256 203.0.113.7.1 0xcb007107".split(),
        *"3405803783 203.0.113.7:443 [2001:db8::7] [2001:db8::7]:443 2001:db8::/32".split(),
        *"203.0.113.0/24 fe80::1%eth0 2001:db8::7%1 localhost example.org unix:/run/x.sock".split(),
        *"::1:: 224.0.0.1 239.255.255.255 169.254.1.1 ff02::1 fe80::1 febf::1 FF05::2".split(),
        *"::ffff:224.0.0.1 ::ffff:169.254.0.1 2002:e000:1:: 2002:a9fe:101::".split(),
        *"２０３.0.113.7 ٢٠٣.0.113.7 203.0.113.７ 203。0。113。7 2001:db8::７".split(),
        *"::ffff:203.0.113.07 2001:db8::7:: 12345:: 1:2:3:4:5:6:7 1:2:3:4:5:6:7:8:9".split(),
        *"::: :1:2:3:4:5:6:7 203.0.113.-7 +203.0.113.7 203.0.1137 1e1.0.0.1".split(),
        *("64:ff9b::e000:1", "meet me at 9", "2" * 1000),
    ],
)
def test_refusals(text: str) -> None:
    assert canonical(field("ip"))(text) is None
    assert canonical(field("ip", truncate={"ipv4": 24, "ipv6": 48}))(text) is None


@for_each(
    ("text", "result"),
    [
        ("203.0.113.7", "203.0.113.0"),
        ("2001:db8:aa:bb:21b:63ff:fe84:45e6", "2001:db8:aa::"),
        ("::ffff:203.0.113.7", "203.0.113.0"),
        ("2002:cb00:7107:1:2:3:4:5", "203.0.113.0"),
        ("64:ff9b::203.0.113.7", "203.0.113.0"),
        ("::1", "::"),
    ],
)
def test_truncation_cannot_be_dodged(text: str, result: str) -> None:
    """IPv4 is taken out of IPv6 before truncation, so no host bits travel in it."""
    assert canonical(field("ip", truncate={"ipv4": 24, "ipv6": 48}))(text) == result


@pytest.mark.parametrize("form", _HOLDING)
@given(
    inner=st.integers(0, 2**32 - 1),
    other=st.integers(0, 2**32 - 1),
    rest=st.integers(0, 2**80 - 1),
    prefixes=st.tuples(st.integers(8, 32), st.integers(16, 128)),
    scope=st.sampled_from(["any", "global"]),
)
def test_an_ipv4_address_is_truncated_wherever_it_stands(
    form: str, inner: int, other: int, rest: int, prefixes: tuple[int, int], scope: str
) -> None:
    ipv4, ipv6 = prefixes
    other = inner >> 32 - ipv4 << 32 - ipv4 | other % 2 ** (32 - ipv4)
    of = canonical(field("ip", truncate={"ipv4": ipv4, "ipv6": ipv6}, scope=scope))
    texts = [str(IPv6Address(_HOLDING[form](each, rest))) for each in (inner, other)]
    made = {of(text) for text in texts}
    assert len(made - {None}) <= 1, "the values tell the addresses apart"


@for_each(
    ("text", "result"),
    [
        ("::203.0.113.7", "::cb00:7100"),
        ("::ffff:0:203.0.113.7", "::ffff:0:cb00:7100"),
        ("2001:0:cb00:7107:0:f227:34ff:8ef8", "2001:0:cb00:7100::"),
        ("2001:db8::5efe:203.0.113.7", "2001:db8::5efe:cb00:7100"),
        ("2001:db8::200:5efe:203.0.113.7", "2001:db8::200:5efe:cb00:7100"),
        ("64:ff9b:1::203.0.113.7", "64:ff9b:1::"),
        ("64:ff9b:1:cb00:71:700::", "64:ff9b:1:cb00::"),
        ("2001:db8::203.0.113.7", "2001:db8::cb00:7107"),
    ],
)
def test_truncation_within_ipv6(text: str, result: str) -> None:
    of = canonical(field("ip", truncate={"ipv4": 24}))
    assert of(text) == result
    assert of(result) == result


def test_a_prefix_that_reads_as_another_address_is_refused() -> None:
    """Truncating 169.255.0.1 to 15 bits would give a link-local address, which is not canonical."""
    assert canonical(field("ip", truncate={"ipv4": 15}))("169.255.0.1") is None
    assert canonical(field("ip", truncate={"ipv4": 14}))("169.255.0.1") == "169.252.0.0"
    assert canonical(field("ip", truncate={"ipv6": 32}))("64:ff9b:1::1") is None
    assert canonical(field("ip", truncate={"ipv6": 48}))("64:ff9b:1::1") == "64:ff9b:1::"


_LOCAL4 = [
    IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12"),
        *("192.168.0.0/16", "255.255.255.255/32"),
    )
]
_LOCAL6 = [
    IPv6Network(text)
    for text in ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "fc00::/7", "fec0::/10")
]


@given(_TEXTS, _PREFIXES)
def test_global_addresses(text: str, prefixes: tuple[int, int]) -> None:
    truncate = dict(zip(("ipv4", "ipv6"), prefixes, strict=True))
    of, any_scope = field("ip", truncate=truncate, scope="global"), field("ip", truncate=truncate)
    usual = of_ip(any_scope, text)
    assert canonical(of)(text) == of_ip(of, text)
    assert of.sought(WITHOUT_KEYS)(text) == usual
    if usual is not None:
        assert of.recognised()(usual) == usual


@for_each(
    "text",
    [
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1"),
        *("172.16.0.1", "172.31.255.255", "192.168.1.1", "255.255.255.255", "169.254.1.1"),
        *("::", "::1", "fc00::1", "fd12:3456::1", "fe80::1", "::ffff:10.0.0.1"),
        *("2002:0a00:0001::1", "64:ff9b::192.168.1.1", "::10.0.0.1", "::127.0.0.1", "::2"),
        *("::ffff:0:10.0.0.1", "64:ff9b:1::10.0.0.1", "64:ff9b:1:1::", "fec0::1", "feff::1"),
    ],
)
def test_no_global_addresses(text: str) -> None:
    assert canonical(field("ip", scope="global"))(text) is None


@for_each(
    "text",
    [
        *("1.0.0.1", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1"),
        *("192.167.1.1", "192.169.1.1", "192.0.2.1", "203.0.113.7", "255.255.255.254"),
        *("2001:db8::1", "::1:0:0:1", "fbff::1", "fe00::1", "64:ff9b:2::1", "::ffff:1:a00:1"),
    ],
)
def test_global_neighbours(text: str) -> None:
    assert canonical(field("ip", scope="global"))(text) == text


@for_each("ipv6", [16, 32, 64, 96, 127, 128])
def test_size_of_global_addresses(ipv6: int) -> None:
    excluded4, excluded6 = [*_EXCLUDED4, *_LOCAL4], [*_EXCLUDED6, *_LOCAL6]
    for ipv4 in range(8, 33):
        of = field("ip", truncate={"ipv4": ipv4, "ipv6": ipv6}, scope="global")
        held = _held(ipv4, ipv6, [(_TEREDO, 1), *_isatap(excluded6)])
        stable = _stable(excluded4, ipv4, 32) + _stable(excluded6, ipv6, 128)
        assert of.size() == stable - held, ipv4


def test_a_scope_is_any_unless_written() -> None:
    """A digest covers it, whether it is written or not."""
    assert field("ip").document() == field("ip", scope="any").document()
    assert field("ip").document()["scope"] == "any"
    assert field("ip", scope="global").document()["scope"] == "global"
    assert refuses("ip", scope="public") == "literal_error"


def _isatap(excluded: list[IPv6Network]) -> list[tuple[IPv6Network, int]]:
    """A network of ISATAP, and how many there are: two in each /64 that is not another's."""
    others = {*excluded, _TEREDO, _LOCAL_NAT64}
    taken = sum(1 << 64 - each.prefixlen for each in others if each.prefixlen <= 64)
    return [(IPv6Network("2001:db8::5efe:0:0/96"), 2 * (2**64 - taken))]


def _held(ipv4: int, ipv6: int, holders: list[tuple[IPv6Network, int]]) -> int:
    """How many networks would tell more of an IPv4 address than is kept of one."""
    bits = [(max(0, ipv6 - holder.prefixlen), count) for holder, count in holders]
    return sum(count * (2**more - 2 ** min(more, ipv4)) for more, count in bits if ipv4 < 32)


def _stable(networks: list[IPv4Network] | list[IPv6Network], prefix: int, width: int) -> int:
    """How many networks of a length do not start inside one of these (disjoint) networks."""
    starts = 0
    for network in networks:
        if network.prefixlen <= prefix:
            starts += 1 << prefix - network.prefixlen
        else:
            starts += int(network.network_address) % (1 << width - prefix) == 0
    return (1 << prefix) - starts


@for_each("ipv6", [16, 23, 24, 31, 32, 33, 48, 64, 95, 96, 97, 128])
def test_size(ipv6: int) -> None:
    """The size is the number of networks that are canonical themselves."""
    holders = [(each, 1) for each in (_TEREDO, _LOCAL_NAT64, _COMPATIBLE, _TRANSLATED)]
    for ipv4 in range(8, 33):
        of = field("ip", truncate={"ipv4": ipv4, "ipv6": ipv6})
        held = _held(ipv4, ipv6, [*holders, *_isatap(_EXCLUDED6)])
        stable = _stable(_EXCLUDED4, ipv4, 32) + _stable(_EXCLUDED6, ipv6, 128)
        assert of.size() == stable - held, ipv4


def test_options() -> None:
    assert field("ip", truncate={}) == field("ip")
    assert canonical(field("ip", truncate={"ipv4": 24}))("2001:db8::7") == "2001:db8::7"
    assert canonical(field("ip", truncate={"ipv6": 48}))("203.0.113.7") == "203.0.113.7"
    for faulty in ({"ipv4": 7}, {"ipv4": 33}, {"ipv6": 15}, {"ipv6": 129}, {"ipv4": -1}):
        assert refuses("ip", truncate=faulty) == "E107"
    assert refuses("ip", truncate={"ipv4": True}) == "int_type"
    assert refuses("ip", truncate={"ipv4": 24.0}) == "int_type"
