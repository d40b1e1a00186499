"""Which web pages may send, and how their browsers are told (CORS).

A program names no origin and is not asked for one. A page does, and is let in only if its origin is
configured, exactly as the browser writes it; there is no ``*``. A page that is not may not send at
all, not even what browsers send without asking, so that no page can write to a collector that
happens to run on its visitor's machine.
"""

from __future__ import annotations

from collections.abc import Iterable

from collector.ingest.answers import Answer
from collector.ingest.head import Head
from collector.ingest.refusals import FOREIGN_ORIGIN, METHODS, Headers, Refused

__all__ = ["Origins"]

_PREFLIGHT: Headers = (
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", b"authorization, content-encoding, content-type"),
    (b"access-control-max-age", b"600"),
)
_VARIES: Headers = ((b"vary", b"origin"),)


class Origins:
    """The origins of pages that may send, such as ``https://meet.example``."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._headers = {
            origin: (
                (b"access-control-allow-origin", origin),
                # Beacons carry credentials, whether anybody asks for them or not.
                (b"access-control-allow-credentials", b"true"),
                (b"access-control-expose-headers", b"retry-after"),
                *_VARIES,
            )
            for origin in (text.lower().rstrip("/").encode() for text in origins)
        }

    def admits(self, head: Head) -> bool:
        """Whether the request is of a program, or of a page that may send."""
        return b"origin" not in head.headers or head.only(b"origin") in self._headers

    def preflight(self, head: Head) -> Answer:
        """The answer to OPTIONS. Raises ``Refused``: FOREIGN_ORIGIN."""
        if not self.admits(head):
            raise Refused(FOREIGN_ORIGIN)
        asked = b"origin" in head.headers and b"access-control-request-method" in head.headers
        return Answer(204, _PREFLIGHT if asked else METHODS)

    def headers(self, head: Head) -> Headers:
        """What an answer must carry so that the page may read it."""
        if not self._headers:
            return ()
        origin = head.only(b"origin")
        return _VARIES if origin is None else self._headers.get(origin, _VARIES)
