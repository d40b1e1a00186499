"""The page of ``collector dev``, on loopback only: what the sidecar does, and the playground.

``/`` is the page, ``/state.json`` what it shows now, and ``POST /try?FORM`` filters a text. A
request must name this machine as its host. From a browser it must come from this page, so no other
page can use it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader
from socket import SHUT_WR
from typing import Any

import orjson

from collector.dev.playground import FORMS, MOST_BYTES, TOO_LONG, Pasted
from collector.errors import CollectorError
from collector.pages.render import environment, policy, static

_HOSTS = ("127.0.0.1", "localhost")
_SECONDS = 10.0
"""How long a request may take to come."""
_MOST_PASSED = 64 << 20
_MOST_DIGITS = 20
"""A body's length with more digits is not read: it is too large."""
_JSON, _HTML = "application/json", "text/html; charset=utf-8"
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
State = Callable[[], dict[str, Any]]
Ask = Callable[[Pasted, bytes], bytes]


class Site(ThreadingHTTPServer):
    """Serves the page at a loopback port. ``state`` returns what is shown; ``ask`` filters a text
    and returns JSON."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, state: State, ask: Ask) -> None:
        self.state = state
        self.ask = ask
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, *_: object) -> None:
        """Say nothing: a traceback could quote what was sent."""


class _Handler(BaseHTTPRequestHandler):
    server: Site
    rfile: BufferedReader
    timeout = _SECONDS
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "collector", ""

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def send_error(self, code: int, *_: object) -> None:
        """Refuse anything that is not HTTP, with a constant."""
        self.close_connection = True
        self._send(code, _JSON, _refusal(f"{code} {HTTPStatus(code).phrase}"))

    def do_GET(self) -> None:
        """Send the page, or what it shows."""
        if not self._is_own():
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path == "/":
            self._send(HTTPStatus.OK, _HTML, page(), policy=_policy())
        elif self.path == "/state.json":
            self._send(HTTPStatus.OK, _JSON, orjson.dumps(self.server.state()))
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Filter a text. Nothing of it is kept."""
        form = next((each for each in FORMS if self.path == f"/try?{each}"), None)
        if not self._is_own() or self.headers.get("Content-Type") != "text/plain;charset=UTF-8":
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        size = self.headers.get("Content-Length", "")
        if form is None or not (size.isascii() and size.isdigit()):
            self.send_error(HTTPStatus.NOT_FOUND if form is None else HTTPStatus.LENGTH_REQUIRED)
            return
        length = int(size) if len(size) < _MOST_DIGITS else _MOST_PASSED
        if length > MOST_BYTES:
            self.close_connection = True
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _JSON, _refusal(TOO_LONG))
            self._pass_over(length)
            return
        try:
            found = self.server.ask(form, self.rfile.read(length))
        except CollectorError as error:
            found = _refusal(error.message)
        self._send(HTTPStatus.OK, _JSON, found)

    def _pass_over(self, size: int) -> None:
        """Read the rest of a refused body. Otherwise a client that is still sending would be cut
        off before it reads the reason."""
        left = min(size, _MOST_PASSED)
        with suppress(OSError):
            self.connection.shutdown(SHUT_WR)
            while left > 0 and (part := self.rfile.read1(min(left, 1 << 16))):
                left -= len(part)

    def _is_own(self) -> bool:
        """Whether the request names this server, by a name of this machine, and is not from another
        page. Any other host name that resolves to this address is refused."""
        port = self.server.server_port
        own = [f"{host}:{port}" for host in _HOSTS]
        hosts = self.headers.get_all("Host", [])
        origins = self.headers.get_all("Origin", [])
        site = self.headers.get("Sec-Fetch-Site", "none")
        return (
            len(hosts) == 1
            and hosts[0] in own
            and all(origin in [f"http://{each}" for each in own] for origin in origins)
            and site in ("none", "same-origin")
        )

    def _send(self, status: int, kind: str, body: bytes, policy: str = "") -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **_HEADERS}
        headers["Content-Security-Policy"] = policy or "default-src 'none'; frame-ancestors 'none'"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _refusal(message: str) -> bytes:
    return orjson.dumps({"error": message})


@cache
def page() -> bytes:
    """Write the page, which has no changing parts."""
    template = environment().get_template("dev.html.j2")
    style, script = _style(), static("dev.js")
    forms = dict(zip(FORMS, _FORMS, strict=True))
    return template.render(style=style, script=script, forms=forms, most=MOST_BYTES).encode()


_FORMS = ("JSON", "NDJSON", "OTLP/JSON logs", "OTLP/JSON traces", "OTLP/JSON metrics")


def _style() -> str:
    return static("page.css") + static("dev.css")


@cache
def _policy() -> str:
    made = policy(_style(), static("dev.js"))
    return f"{made}; connect-src 'self'; frame-ancestors 'none'"
