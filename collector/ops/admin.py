"""Health, metrics and a first page, on an address of their own.

Answers are constants and numbers. Only known paths are answered; nothing of a request is echoed or
logged. The ``Host`` must be one of ours and an ``Origin`` our own, so that a page in somebody's
browser can reach none of it, also by a name that it makes lead here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from ipaddress import ip_address
from typing import Any, Literal, NamedTuple

from collector.ops.metrics import CONTENT_TYPE

__all__ = ["Admin", "Checks", "State"]

State = Literal["ok", "late", "failing"]
"""``late`` is worth a look and does not make the process unready."""
Checks = Callable[[], Mapping[str, State]]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_HEALTH = ("/livez", "/readyz")
"""What probes ask for; they have no tokens, and learn one word."""
_MARKS: dict[State, str] = {"ok": "+", "late": "!", "failing": "-"}
_PAGE = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Collector</title>
<h1>Collector</h1>
<p>Telemetry that can hold nothing but an allowlist.</p>
<ul>
<li><a href="/livez">/livez</a>: the process runs</li>
<li><a href="/readyz?verbose">/readyz?verbose</a>: it receives and keeps what comes</li>
<li><a href="/metrics">/metrics</a>: counts, for Prometheus</li>
</ul>
</html>
"""


class Answer(NamedTuple):
    """A status, a content type, and a body."""

    status: int
    type: str
    body: bytes


_REFUSED = {
    401: "a bearer token is needed",
    403: "requests of other origins are refused",
    404: "there is no such path",
    405: "only GET and HEAD are answered",
    421: "this host name is not served here",
}


class Admin:
    """The ASGI application.

    ``checks`` are made for each ``/readyz``; ``hosts`` are names besides loopback's own by which
    it may be called; ``admits`` judges an ``Authorization`` header (``None``: all are let in) of
    those who ask for more than health.
    """

    def __init__(
        self,
        checks: Checks,
        metrics: Callable[[], bytes],
        *,
        hosts: Iterable[str] = (),
        admits: Callable[[bytes | None], bool] | None = None,
    ) -> None:
        self._checks = checks
        self._metrics = metrics
        self._hosts = frozenset(hosts)
        self._admits = admits

    def __repr__(self) -> str:
        return "<Admin>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of HTTP; anything else is left alone."""
        if scope["type"] != "http":
            return
        answer = self._answer(scope)
        headers = [
            (b"content-type", answer.type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            *_HEADERS,
        ]
        if answer.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if answer.status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})

    def _answer(self, scope: Scope) -> Answer:
        refused = self._refused(scope)
        if refused:
            return Answer(refused, _TEXT, f"{_REFUSED[refused]}\n".encode())
        path = scope["path"]
        if path == "/livez":
            return Answer(200, _TEXT, b"ok\n")
        if path == "/readyz":
            return self._ready(scope["query_string"].split(b"=")[0] == b"verbose")
        if path == "/metrics":
            return Answer(200, CONTENT_TYPE, self._metrics())
        return Answer(200, _HTML, _PAGE)

    def _refused(self, scope: Scope) -> int:
        """The status of a refusal, or 0."""
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return 421
        own = (b"http://" + hosts[0], b"https://" + hosts[0])
        if any(origin not in own for origin in _values(scope, b"origin")):
            return 403
        if scope["path"] not in (*_HEALTH, "/metrics", "/"):
            return 404
        if scope["method"] not in ("GET", "HEAD"):
            return 405
        if scope["path"] in _HEALTH or self._admits is None:
            return 0
        tokens = _values(scope, b"authorization")
        return 0 if self._admits(tokens[0] if len(tokens) == 1 else None) else 401

    def _is_ours(self, host: bytes) -> bool:
        name = host.decode("ascii", "replace").lower()
        bare, colon, port = name.rpartition(":")
        if colon and port.isdigit() and "]" not in port:
            name = bare
        name = name[1:-1] if name.startswith("[") and name.endswith("]") else name
        return name == "localhost" or name in self._hosts or _is_loopback(name)

    def _ready(self, verbose: bool) -> Answer:
        states = self._checks()
        ready = "failing" not in states.values()
        lines = [f"[{_MARKS[state]}] {name} {state}" for name, state in states.items()]
        lines = [*(lines if verbose else []), "ready" if ready else "not ready"]
        return Answer(200 if ready else 503, _TEXT, "".join(f"{line}\n" for line in lines).encode())


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
