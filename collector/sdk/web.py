"""An ASGI middleware: for each request one event, of the client's address, device and system.

    from fastapi import FastAPI
    from collector import Collector
    from collector.sdk.web import ClientMiddleware

    app = FastAPI()
    app.add_middleware(ClientMiddleware, telemetry=Collector("web"))

It fits every ASGI framework and imports none. Of a request it looks at the address it comes from
and at the headers ``User-Agent``, ``Sec-GPC``, ``DNT`` and, behind trusted proxies,
``X-Forwarded-For``; never at its path, query, cookies, other headers or body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from collector.consent import SIGNALS, is_refusal
from collector.errors import ConfigError
from collector.filter.derive import Agents
from collector.ingest.peers import forwarded
from collector.sdk.client import Collector

__all__ = ["App", "ClientMiddleware", "Message", "Receive", "Scope", "Send"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_MOST_HOPS = 16
_FIRST = "Mozilla/5.0 (X11; Linux x86_64)"


class ClientMiddleware:
    """Wraps an ASGI app. ``hops`` is the number of trusted proxies in front: with 0 the address is
    the peer's, else the one that the outermost of them saw.

    The request is the event: its ``client.address`` is that address, and the fields that the
    schema derives from user agents are what the request's says. The event passes the schema as any
    other does. A request that gives nothing for it is counted, ``nothing_admitted``. With
    ``Sec-GPC: 1`` or ``DNT: 1`` every optional purpose is refused for it.

    Raises ``ConfigError`` E209 if ``hops`` is not a whole number from 0 to 16.
    """

    def __init__(self, app: App, telemetry: Collector, *, hops: int = 0) -> None:
        if type(hops) is not int or not 0 <= hops <= _MOST_HOPS:
            raise ConfigError("E209", f"`hops` must be a whole number from 0 to {_MOST_HOPS}")
        self._app = app
        self._telemetry = telemetry
        self._hops = hops
        fields = telemetry.schema.fields
        self._agents = Agents([name for name, field in fields.items() if field.derive])
        if self._agents.names:
            self._agents[_FIRST]  # the tables are loaded now, not by the first request

    def __repr__(self) -> str:
        return "<ClientMiddleware>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Emit the event, then hand the request on. Lifespan events are only handed on."""
        if scope["type"] in ("http", "websocket"):
            consent = False if _is_refused(scope) else None
            self._telemetry.emit(self._event(scope), consent=consent)
        await self._app(scope, receive, send)

    def _event(self, scope: Scope) -> dict[str, str | None]:
        """Fields under their own names, which every schema reads as one flat key."""
        says = self._agents[_header(scope, b"user-agent")] if self._agents.names else ()
        event = dict(zip(self._agents.names, says, strict=True))
        return event | {"client.address": self._address(scope)}

    def _address(self, scope: Scope) -> str | None:
        """``None`` at a unix socket, or if there are fewer proxies than are trusted."""
        if self._hops:
            return forwarded(_lines(scope, b"x-forwarded-for"), self._hops)
        client = scope.get("client")
        return client[0].partition("%")[0] if client else None


def _is_refused(scope: Scope) -> bool:
    return any(is_refusal(_lines(scope, name.encode())) for name in SIGNALS)


def _lines(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]


def _header(scope: Scope, wanted: bytes) -> str:
    """A header that stands there exactly once, else nothing: two of them may be two devices."""
    lines = _lines(scope, wanted)
    return lines[0] if len(lines) == 1 else ""
