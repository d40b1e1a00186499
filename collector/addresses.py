"""Addresses to listen on, and their IP addresses."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

IpAddress = IPv4Address | IPv6Address


class Address(NamedTuple):
    """An address to listen on: a host name or an IP address without brackets, and a port (0 for any
    free port)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def hosts(self) -> tuple[IpAddress, ...]:
        """Return the host's IP addresses; none for a name that has to be resolved."""
        if self.host.lower() == "localhost":
            return ip_addresses("127.0.0.1", "::1")
        return ip_addresses(self.host) if is_ip(self.host) else ()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. Names other than ``localhost`` may resolve to
        any address."""
        return any(host.is_loopback for host in self.hosts)


def ip_addresses(*hosts: str) -> tuple[IpAddress, ...]:
    """Parse IP addresses. An IPv4-mapped IPv6 address becomes the IPv4 address."""
    found = map(ip_address, hosts)
    return tuple(getattr(each, "ipv4_mapped", None) or each for each in found)


def overlap(
    first: Address, hosts: Iterable[IpAddress], second: Address, others: Iterable[IpAddress]
) -> bool:
    """Return whether two sockets cannot listen on these resolved addresses at once."""
    is_same_port = first.port == second.port > 0
    return is_same_port and any(_conflict(one, other) for one in hosts for other in others)


def _conflict(one: IpAddress, other: IpAddress) -> bool:
    """Return whether two addresses conflict: ``::`` also stands for all of IPv4."""
    if one == other:
        return True
    wide = [each for each in (one, other) if each.is_unspecified]
    return any(each.version == 6 for each in wide) or (bool(wide) and one.version == other.version)


def is_ip(host: str) -> bool:
    """Return whether a host is an IP address, not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
