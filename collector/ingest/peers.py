"""Who sent a request, as gRPC says it, and as trusted proxies do.

What comes out is unchecked text for the filter, which keeps addresses only where a schema says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

__all__ = ["address_of", "forwarded"]

_LONGEST = 256
"""Characters of a peer's name: more than any address has."""


def address_of(peer: str) -> str | None:
    """The address in gRPC's name of a peer: ``ipv4:192.0.2.1:5``, ``ipv6:%5B2001:db8::1%5D:5``.

    ``None`` for whatever has none.
    """
    kind, _, rest = peer[:_LONGEST].partition(":")
    if kind not in ("ipv4", "ipv6"):
        return None
    host = unquote(rest).rpartition(":")[0].strip("[]")
    return host.partition("%")[0] or None


def forwarded(lines: Sequence[str], hops: int) -> str | None:
    """The address that the outermost of so many trusted proxies saw: the ``hops``-th from the right
    of all ``x-forwarded-for`` lines together. ``None`` if there are fewer."""
    seen = ",".join(lines).rsplit(",", hops)
    return (seen[-hops].strip(" \t") or None) if len(seen) >= hops > 0 else None
