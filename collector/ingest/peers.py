"""The address of a sender: from gRPC's name of a peer, or from the headers of trusted proxies.

Results are unchecked text for the filter, which records addresses only where a schema lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

_MAX_LENGTH = 256
"""The most characters of a peer's name: more than any address has."""


def address_of(peer: str) -> str | None:
    """Return the address in gRPC's name of a peer: ``ipv4:192.0.2.1:5``,
    ``ipv6:%5B2001:db8::1%5D:5``. ``None`` for other names."""
    kind, _, rest = peer[:_MAX_LENGTH].partition(":")
    if kind not in ("ipv4", "ipv6"):
        return None
    host = unquote(rest).rpartition(":")[0].strip("[]")
    return host.partition("%")[0] or None


def forwarded(lines: Sequence[str], hops: int) -> str | None:
    """Return the address that the outermost of ``hops`` trusted proxies saw: the entry at that
    number from the right in all ``x-forwarded-for`` lines together. ``None`` if there are fewer."""
    addresses = ",".join(lines).rsplit(",", hops)
    return (addresses[-hops].strip(" \t") or None) if len(addresses) >= hops > 0 else None
