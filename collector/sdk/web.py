"""An ASGI middleware: emit an event for each request, with the client's address, device and system.

    from fastapi import FastAPI
    from collector import Collector
    from collector.sdk.web import ClientMiddleware

    app = FastAPI()
    app.add_middleware(ClientMiddleware, telemetry=Collector("web"))

It works with every ASGI framework and imports none. It reads a request's source address, the
headers ``User-Agent``, ``Sec-GPC``, ``DNT`` and, behind trusted proxies, ``X-Forwarded-For``, and
the cookie ``collector-preferences``. It never reads path, query, body, or other cookies and
headers. ``PreferencesApp`` is the page that sets the cookie:

    app.mount("/preferences", PreferencesApp(telemetry))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from collector.consent import SIGNALS, is_refusal
from collector.errors import ConfigError
from collector.filter.derive import Agents
from collector.ingest.peers import forwarded
from collector.preferences import (
    MOST_BYTES,
    PageResponse,
    PreferencePage,
    choices_in,
    not_allowed,
    too_large,
)
from collector.sdk.client import Collector

__all__ = [
    "App",
    "ClientMiddleware",
    "Message",
    "PreferencesApp",
    "Receive",
    "Scope",
    "Send",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_MOST_HOPS = 16
_SAMPLE = "Mozilla/5.0 (X11; Linux x86_64)"


class ClientMiddleware:
    """Wraps an ASGI app. ``hops`` is the number of trusted proxies in front: with 0 the address is
    the peer's, otherwise the one that the outermost proxy saw.

    The event has ``client.address`` and the fields that the schema derives from a user agent, and
    is filtered like any other. A request without any of them is counted as ``nothing_admitted``.
    ``Sec-GPC: 1`` or ``DNT: 1`` refuses every optional purpose; the cookie of ``PreferencesApp``
    refuses the purposes that the visitor has switched off.

    Raises ``ConfigError`` E107 if ``hops`` is not a whole number from 0 to 16.
    """

    def __init__(self, app: App, telemetry: Collector, *, hops: int = 0) -> None:
        if type(hops) is not int or not 0 <= hops <= _MOST_HOPS:
            raise ConfigError("E107", f"`hops` must be a whole number from 0 to {_MOST_HOPS}")
        self._app = app
        self._telemetry = telemetry
        self._hops = hops
        fields = telemetry.schema.fields
        self._agents = Agents([name for name, field in fields.items() if field.derive])
        if self._agents.names:
            self._agents[_SAMPLE]  # loads the tables now, not during the first request

    def __repr__(self) -> str:
        return "<ClientMiddleware>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Emit the event, then call the app. For lifespan events, only call the app."""
        if scope["type"] in ("http", "websocket"):
            consent = False if _is_refused(scope) else choices_in(_values(scope, b"cookie"))
            self._telemetry.emit(self._event(scope), consent=consent)
        await self._app(scope, receive, send)

    def _event(self, scope: Scope) -> dict[str, str | None]:
        """Make the event of fields under their own names, which a schema reads as flat keys."""
        derived = self._agents[_header(scope, b"user-agent")] if self._agents.names else ()
        event = dict(zip(self._agents.names, derived, strict=True))
        return event | {"client.address": self._address(scope)}

    def _address(self, scope: Scope) -> str | None:
        """Return the client's address; ``None`` at a unix socket, or with too few proxies."""
        if self._hops:
            return forwarded(_lines(scope, b"x-forwarded-for"), self._hops)
        client = scope.get("client")
        return client[0].partition("%")[0] if client else None


class PreferencesApp:
    """An ASGI app: the page on which a visitor switches optional purposes of the schema off.

    It sets a first-party cookie with the names of refused purposes, which ``ClientMiddleware`` and
    the sidecar's HTTP receiver heed. It works without JavaScript.
    """

    def __init__(self, telemetry: Collector) -> None:
        self._page = PreferencePage(telemetry.schema)

    def __repr__(self) -> str:
        return "<PreferencesApp>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request; other connections are closed."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
            return
        answer = await self._answer(scope, receive)
        body = b"" if scope["method"] == "HEAD" else answer.body
        size = (b"content-length", str(len(answer.body)).encode())
        headers = [*answer.headers, size]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> PageResponse:
        if scope["method"] == "POST":
            form = await _form(receive)
            names = (b"content-type", b"host", b"origin", b"sec-fetch-site")
            headers = {name: _values(scope, name) for name in names}
            return too_large() if form is None else self._page.choose(headers, form)
        if scope["method"] not in ("GET", "HEAD"):
            return not_allowed()
        return self._page.show(
            choices_in(_values(scope, b"cookie")),
            is_saved=scope.get("query_string") == b"saved",
            has_signal=_is_refused(scope),
        )


async def _form(receive: Receive) -> bytes | None:
    """Receive a form; ``None`` if it is too large, or the visitor is gone."""
    form = b""
    while len(form) <= MOST_BYTES:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part: bytes = message.get("body", b"")
        form += part
        if not message.get("more_body", False):
            return form
    return None


def _is_refused(scope: Scope) -> bool:
    return any(is_refusal(_lines(scope, name.encode())) for name in SIGNALS)


def _values(scope: Scope, wanted: bytes) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == wanted]


def _lines(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for value in _values(scope, wanted)]


def _header(scope: Scope, wanted: bytes) -> str:
    """Return a header that occurs exactly once, else an empty text: two may come from two
    devices."""
    lines = _lines(scope, wanted)
    return lines[0] if len(lines) == 1 else ""
