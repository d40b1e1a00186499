"""The middleware in real frameworks and servers, and called directly."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from collector import Collector
from collector.errors import ConfigError
from collector.sdk.web import App, ClientMiddleware, Message, Receive, Scope, Send
from collector.testing import canaries, scan
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.raising import raises
from tests.support.rows import for_each

_IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15"
    " (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1"
)
_PHONE = {
    "device.type": "phone",
    "device.manufacturer": "Apple",
    "device.model.name": "iPhone",
    "os.type": "ios",
    "os.name": "iOS",
    "os.version": "17.4",
}
_Headers = list[tuple[bytes, bytes]]


@pytest.fixture
def telemetry(tmp_path: Path) -> Iterator[Collector]:
    """Make a ``Collector`` that writes lines."""
    with Collector("web", f"ndjson:///{tmp_path}/records.ndjson") as telemetry:
        yield telemetry


def _kept(telemetry: Collector, tmp_path: Path) -> list[dict[str, Any]]:
    """Return the records so far, without schema and time."""
    assert telemetry.flush(WAIT_SECONDS)
    path = tmp_path / "records.ndjson"
    lines = path.read_text().splitlines() if path.exists() else []
    return [
        {name: value for name, value in json.loads(line).items() if "." in name} for line in lines
    ]


# -- by hand ------------------------------------------------------------------------------------


async def _answering(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "answered", "scope": scope, "received": await receive()})


def _asked(app: App, scope: Scope) -> list[Message]:
    """Call an app once, and return what it sends."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "asked"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def ask() -> None:
        await app(scope, receive, send)

    asyncio.run(ask())
    return sent


def _scope(headers: _Headers, client: Any = ("203.0.113.7", 50000), kind: str = "http") -> Scope:
    return {"type": kind, "headers": headers, "client": client, "path": "/canary"}


def _agent(text: str = _IPHONE) -> tuple[bytes, bytes]:
    return b"user-agent", text.encode()


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_request_is_an_event_and_goes_on_untouched(
    telemetry: Collector, tmp_path: Path, kind: str
) -> None:
    """The app gets the same scope and channels; the record has the client."""
    scope = _scope([_agent()], kind=kind)
    sent = _asked(ClientMiddleware(_answering, telemetry), scope)
    assert sent[0]["scope"] is scope
    assert sent[0]["received"] == {"type": "asked"}
    assert _kept(telemetry, tmp_path) == [{"client.address": "203.0.113.7", **_PHONE}]


def test_lifespan_is_no_request(telemetry: Collector) -> None:
    """The app is called, and nothing is emitted."""
    sent = _asked(ClientMiddleware(_answering, telemetry), {"type": "lifespan"})
    assert sent[0]["type"] == "answered"
    assert telemetry.tally().received == 0


@pytest.mark.parametrize(
    ("client", "kept"),
    [
        (None, _PHONE),
        (("", 0), _PHONE),
        (("/run/web.sock", None), _PHONE),
        (("testclient", 50000), _PHONE),
        (("fe80::1%eth0", 50000), _PHONE),
        (("2001:DB8::7", 50000), {"client.address": "2001:db8::7", **_PHONE}),
        (("::ffff:203.0.113.7", 1), {"client.address": "203.0.113.7", **_PHONE}),
    ],
)
def test_peers(telemetry: Collector, tmp_path: Path, client: Any, kept: dict[str, str]) -> None:
    """An invalid address is dropped; the user agent is that of the request."""
    _asked(ClientMiddleware(_answering, telemetry), _scope([_agent()], client))
    assert _kept(telemetry, tmp_path) == [kept]


@pytest.mark.parametrize(
    ("hops", "lines", "address"),
    [
        (0, [b"198.51.100.1"], "203.0.113.7"),
        (1, [b"198.51.100.1"], "198.51.100.1"),
        (1, [b"192.0.2.66, 198.51.100.1"], "198.51.100.1"),
        (2, [b"192.0.2.66", b"198.51.100.1"], "192.0.2.66"),
        (2, [b"198.51.100.1"], None),
        (1, [], None),
        (1, [b"198.51.100.1:4711"], None),
        (1, [b"canary"], None),
        (1, [b"\xff" * 5000], None),
        (16, [b"," * 100_000], None),
    ],
)
def test_trusted_hops(
    telemetry: Collector, tmp_path: Path, hops: int, lines: list[bytes], address: str | None
) -> None:
    """The address that the outermost trusted proxy saw, never one that a client wrote."""
    headers = [_agent(), *((b"x-forwarded-for", line) for line in lines)]
    _asked(ClientMiddleware(_answering, telemetry, hops=hops), _scope(headers))
    assert [record.get("client.address") for record in _kept(telemetry, tmp_path)] == [address]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [_agent("")],
        [_agent(), _agent()],
        [_agent("curl/8.5.0")],
        [_agent(_IPHONE * 100)],
        [(b"user-agent", bytes(range(256)))],
        [(b"user-agent", b"\xed\xa0\x80" * 50)],
        [(b"user-agent", b"((((" * 128)],
    ],
    ids=range(8),
)
def test_hostile_agents(telemetry: Collector, tmp_path: Path, headers: _Headers) -> None:
    """The address stays, and the app is called."""
    sent = _asked(ClientMiddleware(_answering, telemetry), _scope(headers))
    assert sent[0]["type"] == "answered"
    assert _kept(telemetry, tmp_path) == [{"client.address": "203.0.113.7"}]


def test_nothing_is_counted(telemetry: Collector) -> None:
    """A request without address and system is counted as an event with nothing admitted."""
    _asked(ClientMiddleware(_answering, telemetry), _scope([], client=None))
    assert telemetry.tally().rejected == {"nothing_admitted": 1}


def test_an_app_that_fails_fails_as_before(telemetry: Collector, tmp_path: Path) -> None:
    """Its exception is raised; the request is counted all the same."""

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        _asked(ClientMiddleware(failing, telemetry), _scope([_agent()]))
    assert len(_kept(telemetry, tmp_path)) == 1


def test_telemetry_that_is_over_stops_no_request(telemetry: Collector) -> None:
    telemetry.close()
    sent = _asked(ClientMiddleware(_answering, telemetry), _scope([_agent()]))
    assert sent[0]["type"] == "answered"


def test_a_schema_that_derives_nothing_has_the_address(tmp_path: Path) -> None:
    """The schema decides whether a user agent is parsed."""
    with Collector("conferencing", f"ndjson:///{tmp_path}/records.ndjson") as telemetry:
        _asked(ClientMiddleware(_answering, telemetry), _scope([_agent()]))
        assert _kept(telemetry, tmp_path) == [{"client.address": "203.0.113.7"}]


_SYSTEMS = """
schema: systems
version: 1.0.0
title: Systems
owner: tests
purposes:
  ops: {use: essential.service.operations, basis: contract, reason: Tests need one}
fields:
  os.type:
    kind: enum
    values: [ios, android]
    derive: user_agent
    category: user.device
    purposes: [ops]
    retention: 1d
    reason: Which of the two it is
"""


def test_a_schema_without_addresses_has_systems(tmp_path: Path) -> None:
    """The user agent is enough for a record."""
    (tmp_path / "systems.yaml").write_text(_SYSTEMS)
    with Collector(tmp_path / "systems.yaml", f"ndjson:///{tmp_path}/records.ndjson") as telemetry:
        _asked(ClientMiddleware(_answering, telemetry), _scope([_agent()]))
        assert _kept(telemetry, tmp_path) == [{"os.type": "ios"}]


@pytest.mark.parametrize("hops", [-1, 17, True, "1", None, 1.0])
def test_a_wrong_number_of_hops(telemetry: Collector, hops: Any) -> None:
    """It raises at once."""
    with raises("E107", ConfigError) as caught:
        ClientMiddleware(_answering, telemetry, hops=hops)
    assert "0 to 16" in str(caught.value)


# -- for real -----------------------------------------------------------------------------------


@contextmanager
def served(app: Any, *, proxy_headers: bool = False) -> Iterator[int]:
    """Serve an app with uvicorn, and yield its port."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, proxy_headers=proxy_headers, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(WAIT_SECONDS)


def _starlette(telemetry: Collector) -> Starlette:
    async def room(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await request.body())

    return Starlette(
        routes=[Route("/rooms/{name}", room, methods=["POST"])],
        middleware=[Middleware(ClientMiddleware, telemetry=telemetry)],
    )


def _fastapi(telemetry: Collector) -> FastAPI:
    app = FastAPI()
    app.add_middleware(ClientMiddleware, telemetry=telemetry)

    @app.post("/rooms/{name}", response_class=PlainTextResponse)
    async def room(name: str, request: Request) -> bytes:
        return await request.body()

    return app


@for_each("framework", [_starlette, _fastapi])
def test_real_frameworks(tmp_path: Path, framework: Any) -> None:
    """The store has the clients, and nothing else of the requests."""
    path, query, cookie, header, body = planted = canaries(5)
    with (
        Collector("web", f"sqlite:///{tmp_path}/telemetry.db") as telemetry,
        served(framework(telemetry)) as port,
    ):
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
        headers = {"User-Agent": _IPHONE, "Cookie": cookie, "X-Header": header, "Referer": query}
        asking.request("POST", f"/rooms/{path}?name={query}", body, headers)
        answer = asking.getresponse()
        assert (answer.status, answer.read()) == (200, body.encode())
        asking.close()
    rows = sqlite3.connect(tmp_path / "telemetry.db")
    kept = rows.execute('SELECT "client.address", "os.type", "device.type" FROM web').fetchall()
    rows.close()
    assert kept == [("127.0.0.1", "ios", "phone")]
    assert not scan(tmp_path, planted)


def test_a_server_that_trusts_a_proxy_itself(telemetry: Collector, tmp_path: Path) -> None:
    """Uvicorn's ``proxy_headers`` sets the address: then no hops are left."""
    with served(_starlette(telemetry), proxy_headers=True) as port:
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
        asking.request("POST", "/rooms/1", headers={"X-Forwarded-For": "198.51.100.1"})
        asking.getresponse().read()
        asking.close()
    assert _kept(telemetry, tmp_path) == [{"client.address": "198.51.100.1"}]


def test_a_websocket_of_a_framework(telemetry: Collector, tmp_path: Path) -> None:
    """Its handshake is a request."""

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    inner = Starlette(routes=[WebSocketRoute("/canary", talk)])
    scope = {**_scope([_agent()], kind="websocket"), "query_string": b"", "subprotocols": []}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def connect() -> Message:
            return {"type": "websocket.connect"}

        await inner(scope, connect, send)

    sent = _asked(ClientMiddleware(app, telemetry), scope)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert _kept(telemetry, tmp_path) == [{"client.address": "203.0.113.7", **_PHONE}]
