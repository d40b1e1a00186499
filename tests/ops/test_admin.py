"""Admin: health, metrics, a page; constants only, for callers of this machine only."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ops.admin import Admin, State

_SECRET = "hunter2secret"
Headers = list[tuple[bytes, bytes]]
_LOCAL: Headers = [(b"host", b"127.0.0.1:4319")]


def _admin(states: dict[str, State] | None = None, **more: Any) -> Admin:
    return Admin(lambda: states or {"spool": "ok"}, lambda: b"m 1\n", **more)


def _ask(
    admin: Admin,
    path: str,
    headers: Headers = _LOCAL,
    query: bytes = b"",
    method: str = "GET",
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of an answer."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": headers,
    }
    asyncio.run(admin(scope, receive, send))
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"]


def test_it_lives() -> None:
    """A process that answers lives."""
    status, headers, body = _ask(_admin(), "/livez")
    assert (status, body) == (200, b"ok\n")
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"content-length"] == b"3"


@pytest.mark.parametrize(
    ("states", "status", "verbose"),
    [
        (
            {"spool": "ok", "receiver http": "ok"},
            200,
            b"[+] spool ok\n[+] receiver http ok\nready\n",
        ),
        ({"spool": "ok", "sink store": "late"}, 200, b"[+] spool ok\n[!] sink store late\nready\n"),
        ({"spool": "failing"}, 503, b"[-] spool failing\nnot ready\n"),
    ],
)
def test_it_is_ready(states: dict[str, State], status: int, verbose: bytes) -> None:
    """One word, or all checks; a sink that is late does not make it unready."""
    admin = _admin(states)
    assert _ask(admin, "/readyz", query=b"verbose")[::2] == (status, verbose)
    assert _ask(admin, "/readyz", query=b"verbose=1")[::2] == (status, verbose)
    short = b"ready\n" if status == 200 else b"not ready\n"
    assert _ask(admin, "/readyz")[::2] == (status, short)


def test_metrics_and_page() -> None:
    """What is asked for most; the page leads to the rest."""
    status, headers, body = _ask(_admin(), "/metrics")
    assert (status, body) == (200, b"m 1\n")
    assert headers[b"content-type"].startswith(b"text/plain; version=0.0.4")
    status, headers, body = _ask(_admin(), "/")
    assert status == 200
    assert headers[b"content-type"] == b"text/html; charset=utf-8"
    assert all(path in body for path in (b"/livez", b"/readyz", b"/metrics"))


def test_head_has_no_body() -> None:
    """The length is that of the answer to GET."""
    status, headers, body = _ask(_admin(), "/livez", method="HEAD")
    assert (status, headers[b"content-length"], body) == (200, b"3", b"")


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "127.0.0.1", "127.8.8.8:4319", "[::1]", "[::1]:4319", "box:80"],
)
def test_our_hosts(host: str) -> None:
    """Loopback by any of its names, and what is configured."""
    assert _ask(_admin(hosts=["box"]), "/livez", [(b"host", host.encode())])[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"")],
        [(b"host", b"attacker.example")],
        [(b"host", b"attacker.example:4319")],
        [(b"host", b"localhost.attacker.example")],
        [(b"host", b"127.0.0.1.attacker.example")],
        [(b"host", b"192.0.2.1")],
        [(b"host", b"[2001:db8::1]:4319")],
        [(b"host", b"localhost@attacker.example")],
        [(b"host", b"localhost:1:attacker")],
        [(b"host", b"\xff")],
        [*_LOCAL, *_LOCAL],
    ],
)
def test_foreign_hosts(headers: Headers) -> None:
    """A name that somebody made lead here is none of ours."""
    for path in ("/", "/livez", "/readyz", "/metrics", "/else"):
        assert _ask(_admin(), path, headers)[0] == 421


@pytest.mark.parametrize(
    "origin",
    [b"https://attacker.example", b"null", b"http://localhost:4319", b"http://127.0.0.1", b""],
)
def test_foreign_origins(origin: bytes) -> None:
    """A page of another origin gets nothing, also of another port of this machine."""
    for path in ("/", "/livez", "/readyz", "/metrics"):
        assert _ask(_admin(), path, [*_LOCAL, (b"origin", origin)])[0] == 403


def test_our_own_origin() -> None:
    """The page itself may ask."""
    assert _ask(_admin(), "/", [*_LOCAL, (b"origin", b"http://127.0.0.1:4319")])[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE"])
def test_it_only_shows(method: str) -> None:
    """Nothing can be changed here."""
    status, headers, _ = _ask(_admin(), "/metrics", method=method)
    assert (status, headers[b"allow"]) == (405, b"GET, HEAD")


def test_tokens() -> None:
    """Where they are wanted, health is shown without one, and the rest is not."""
    admin = _admin(admits=lambda header: header == b"Bearer right")
    assert _ask(admin, "/livez")[0] == 200
    assert _ask(admin, "/readyz")[0] == 200
    for path in ("/", "/metrics"):
        status, headers, _ = _ask(admin, path)
        assert (status, headers[b"www-authenticate"]) == (401, b"Bearer")
        right = (b"authorization", b"Bearer right")
        assert _ask(admin, path, [*_LOCAL, (b"authorization", b"Bearer wrong")])[0] == 401
        assert _ask(admin, path, [*_LOCAL, right, right])[0] == 401
        assert _ask(admin, path, [*_LOCAL, right])[0] == 200


@given(st.text(), st.binary(), st.binary(max_size=40))
def test_nothing_is_echoed(path: str, query: bytes, host: bytes) -> None:
    """Whatever is asked for, the answer is one of a few."""
    secret = _SECRET.encode()
    headers = [(b"host", secret + host), (b"x-secret", secret)]
    for given_headers in (_LOCAL, headers):
        status, answered, body = _ask(_admin(), f"/{_SECRET}{path}", given_headers, secret + query)
        assert status in (404, 421)
        assert secret not in body + b"".join(key + value for key, value in answered.items())


def test_other_protocols_are_left_alone() -> None:
    """No web sockets, no lifespan."""

    async def never(*_: Any) -> Any:
        raise AssertionError

    asyncio.run(_admin()({"type": "websocket"}, never, never))
