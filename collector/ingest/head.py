"""What the first lines of a request say, as far as we care: where to, what it is, who sends it.

Everything else in them is passed over, and nothing of them is kept. The rest of a URL after ``?``
means nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from collector.consent import SIGNALS, is_refusal
from collector.contracts import Form, Granted, Signal
from collector.ingest.bodies import ENCODINGS, Encoding
from collector.ingest.peers import forwarded
from collector.ingest.refusals import ENCODING, KEY, TYPE, Refused

__all__ = ["ROUTES", "Head", "Route", "Scope"]

Scope = Mapping[str, Any]


class Route(NamedTuple):
    """A path: the form of a body by its content type, and OTLP's signal if it is one of OTLP's."""

    forms: Mapping[bytes, Form]
    signal: Signal | None = None


_PROTOBUF = b"application/x-protobuf"


def _otlp(signal: Signal) -> Route:
    return Route({_PROTOBUF: signal, b"application/json": signal}, signal)


ROUTES: dict[str, Route] = {
    "/v1/events": Route({b"application/json": "json", b"application/x-ndjson": "ndjson"}),
    "/v1/records": Route({b"application/x-ndjson": "records"}),
    "/v1/logs": _otlp("logs"),
    "/v1/traces": _otlp("traces"),
    "/v1/metrics": _otlp("metrics"),
}

_GPC = "/.well-known/gpc.json"

_WANTED = frozenset(
    b"authorization collector-granted content-encoding content-length content-type dnt expect host"
    b" idempotency-key origin sec-gpc user-agent x-forwarded-for access-control-request-method"
    b"".split()
)
_GRANTED = re.compile(rb"[a-z0-9_ -]*").fullmatch
_KEY = re.compile(rb"([0-9a-f]{32})|\"([0-9a-f]{32})\"", re.IGNORECASE).fullmatch
_CHARSETS = frozenset([b"", b"utf-8", b"utf8", b"us-ascii"])


@dataclass(slots=True, repr=False)
class Head:
    """The head of a request; headers that are not wanted are not in it."""

    method: str
    route: Route | None
    headers: Mapping[bytes, list[bytes]]
    client: str | None
    kind: bytes
    charset: bytes
    asks_for_gpc: bool = False

    @classmethod
    def of(cls, scope: Scope) -> Head:
        """From an ASGI scope."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            if name in _WANTED:
                headers.setdefault(name, []).append(value.strip(b" \t"))
        client = scope.get("client")
        return cls(
            scope["method"],
            ROUTES.get(scope["path"]),
            headers,
            client[0].partition("%")[0] if client else None,
            *_content_type(headers.get(b"content-type", ())),
            asks_for_gpc=scope["path"] == _GPC and scope["method"] in ("GET", "HEAD"),
        )

    def only(self, name: bytes) -> bytes | None:
        """The value of a header that stands there exactly once."""
        values = self.headers.get(name, ())
        return values[0] if len(values) == 1 else None

    @property
    def protobuf(self) -> bool:
        """Whether the body says that it is protobuf."""
        return self.kind == _PROTOBUF

    def form(self, route: Route) -> Form:
        """What the body is. Raises ``Refused``: TYPE."""
        form = route.forms.get(self.kind)
        if form is None or self.charset not in _CHARSETS:
            raise Refused(TYPE)
        return form

    def encoding(self) -> Encoding | None:
        """How the body is compressed. Raises ``Refused``: ENCODING, also for more than one."""
        names = b",".join(self.headers.get(b"content-encoding", ())).lower()
        if names not in ENCODINGS:
            raise Refused(ENCODING)
        return ENCODINGS[names]

    def key(self) -> bytes | None:
        """What the sender knows this body by, if it says so; quoted, as the header's draft has it
        (draft-ietf-httpapi-idempotency-key-header), or as it is. Raises ``Refused``: KEY."""
        values = self.headers.get(b"idempotency-key", ())
        if not values:
            return None
        digits = _KEY(values[0]) if len(values) == 1 else None
        if digits is None:
            raise Refused(KEY)
        return bytes.fromhex((digits[1] or digits[2]).decode())

    def length(self) -> int:
        """Bytes of the body, as announced; 0 if they are not."""
        length = self.only(b"content-length")
        return int(length) if length is not None and length.isdigit() else 0

    def hosted(self, hosts: Container[bytes]) -> bool:
        """Whether the request is for one of the hosts (lower case, with or without a port)."""
        host = (self.only(b"host") or b"").lower()
        name, colon, port = host.rpartition(b":")
        bare = name if colon and (port.isdigit() or not port) and not name.endswith(b":") else host
        return host in hosts or bare in hosts

    def peer(self, hops: int) -> str | None:
        """The sender's address, or without a zone the one that so many trusted proxies name.

        ``None`` if there is none: a unix socket, or fewer proxies.
        """
        if hops <= 0:
            return self.client
        lines = self.headers.get(b"x-forwarded-for", ())
        return forwarded([line.decode("latin-1") for line in lines], hops)

    def refuses(self) -> bool:
        """Whether the sender signals that every optional purpose is refused."""
        return any(is_refusal(self.headers.get(name.encode(), ())) for name in SIGNALS)

    def granted(self) -> Granted:
        """The purposes that records may be used for, if the sender's filter was left with some
        only: their names, between spaces. Any other header grants none."""
        values = self.headers.get(b"collector-granted")
        if values is None:
            return None
        is_sound = len(values) == 1 and _GRANTED(values[0])
        return tuple(values[0].decode().split()) if is_sound else ()

    def user_agent(self) -> str | None:
        """What the sender calls itself."""
        agent = self.only(b"user-agent")
        return None if agent is None else agent.decode("latin-1")


def _content_type(values: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The media type and the charset, in lower case, of a header that stands there once."""
    if len(values) != 1:
        return b"", b""
    kind, *parameters = values[0].lower().split(b";")
    charset = b""
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset":
            charset = value.strip().strip(b'"')
    return kind.strip(), charset
