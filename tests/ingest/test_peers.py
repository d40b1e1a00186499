"""Senders' addresses, from gRPC's names of peers and from proxies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collector.ingest.peers import address_of, forwarded
from tests.support.rows import for_each


@for_each(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:4317", "192.0.2.1"),
        ("ipv6:[2001:db8::1]:5", "2001:db8::1"),
        ("ipv6:%5B2001:db8::1%5D:5", "2001:db8::1"),
        ("ipv6:%5B::1%5D:5", "::1"),
        ("ipv6:[fe80::1%25eth0]:5", "fe80::1"),
        ("ipv6:[::ffff:192.0.2.1]:5", "::ffff:192.0.2.1"),
        ("unix:", None),
        ("unix:/run/collector.sock", None),
        ("unix-abstract:name", None),
        ("dns:example.com:5", None),
        ("ipv4:", None),
        ("", None),
    ],
)
def test_addresses_of_peers(peer: str, address: str | None) -> None:
    assert address_of(peer) == address


@for_each(
    ("lines", "hops", "address"),
    [
        (["192.0.2.1"], 1, "192.0.2.1"),
        (["198.51.100.9, 192.0.2.1"], 1, "192.0.2.1"),
        (["198.51.100.9, 192.0.2.1"], 2, "198.51.100.9"),
        (["198.51.100.9", "192.0.2.1"], 2, "198.51.100.9"),
        (["spoofed, 198.51.100.9, 192.0.2.1"], 2, "198.51.100.9"),
        (["192.0.2.1"], 2, None),
        ([], 1, None),
        ([""], 1, None),
        (["192.0.2.1"], 0, None),
        (["192.0.2.1, "], 1, None),
    ],
)
def test_forwarded_addresses(lines: list[str], hops: int, address: str | None) -> None:
    """The one that the outermost trusted proxy saw; entries left of it may be forged."""
    assert forwarded(lines, hops) == address


@given(st.text(), st.lists(st.text(), max_size=3), st.integers(0, 5))
def test_anything_may_come(peer: str, lines: list[str], hops: int) -> None:
    address_of(peer)
    forwarded(lines, hops)
