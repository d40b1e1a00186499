"""Receivers: one table, one contract, and requests in progress at a stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

from collector.config import Address, Config
from collector.config.rules import open_addresses
from collector.ingest.limits import IngestLimits
from collector.ingest.protocol import in_task
from collector.ingest.request import HttpRequest
from collector.ingest.responses import HttpResponse
from collector.ops import requests
from collector.ops.log import EVENTS
from collector.server import listeners
from collector.server.http_receiver import HttpReceiver
from collector.server.listeners import Location
from collector.server.receivers import RECEIVERS
from tests.support.deadline import wait_until
from tests.support.rows import for_each

_PUBLIC = Address("192.0.2.1", 4318)
_REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_the_table_has_every_address_of_the_settings() -> None:
    """Each is read from its own setting; only the operators' one stops last."""
    config = Config()
    for name, kind in RECEIVERS.items():
        section, _, field = kind.setting.partition(".")
        assert kind.location(config) == getattr(getattr(config, section), field), name
    assert [name for name, kind in RECEIVERS.items() if kind.for_operators] == ["admin"]


def test_each_receiver_has_its_rules_its_log_and_its_metrics() -> None:
    """What a new one needs in other tables; a socket file shares the settings of HTTP."""
    config = Config()
    for name, kind in RECEIVERS.items():
        section, _, field = kind.setting.partition(".")
        assert name in EVENTS["started"].carries, f"{name} is not in collector/ops/log.py"
        if field != "address":
            continue
        assert kind.for_operators or section in requests.RECEIVERS, f"no metrics for {name}"
        settings = getattr(config, section).model_copy(update={"address": _PUBLIC})
        found = list(open_addresses(config.model_copy(update={section: settings})))
        assert {places[0] for places, _, _ in found} == {(section, "address")}, name


_Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


def _run(
    location: Location, handler: _Handler, scenario: Callable[[HttpReceiver], Awaitable[None]]
) -> None:
    async def run() -> None:
        with ExitStack() as stack:
            listening = listeners.opened(location, "http.address", stack)
            receiver = HttpReceiver(in_task(handler), location, listening, IngestLimits())
            await scenario(receiver)

    asyncio.run(run())


@for_each("is_file", [False, True])
def test_an_address_while_it_listens(tmp_path: Path, is_file: bool) -> None:
    async def handler(_: HttpRequest) -> HttpResponse:
        return HttpResponse(204)

    async def scenario(receiver: HttpReceiver) -> None:
        assert receiver.address is None
        await receiver.stop(1)
        await receiver.start()
        address = receiver.address
        if isinstance(address, Address):
            assert (address.host, address.port > 0) == ("localhost", True)
        else:
            assert address == tmp_path / "in.sock"
        reader, writer = await _connect(address)
        writer.write(_REQUEST)
        assert (await reader.readline()).startswith(b"HTTP/1.1 204")
        await receiver.stop(1)
        assert receiver.address is None
        writer.close()

    _run(tmp_path / "in.sock" if is_file else Address("localhost", 0), handler, scenario)


async def _connect(address: Location | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(address, Address):
        return await asyncio.open_connection(*address)
    return await asyncio.open_unix_connection(address)


def test_a_stop_lets_requests_finish_and_cancels_late_ones() -> None:
    """A response within the grace period is sent; a handler that takes longer is cancelled."""
    handled, cancelled = list[asyncio.Event](), list[bool]()

    async def handler(_: HttpRequest) -> HttpResponse:
        handled.append(asyncio.Event())
        try:
            await handled[-1].wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            return HttpResponse(503)
        return HttpResponse(204)

    async def scenario(receiver: HttpReceiver) -> None:
        await receiver.start()
        connections = [await _connect(receiver.address) for _ in range(2)]
        for begun, (_, writer) in enumerate(connections, 1):
            writer.write(_REQUEST)
            await asyncio.to_thread(wait_until, lambda begun=begun: len(handled) == begun)
        asyncio.get_running_loop().call_soon(handled[0].set)
        await receiver.stop(0.5)
        heard = [await reader.read() for reader, _ in connections]
        assert [text[9:12] for text in heard] == [b"204", b"503"]
        assert all(b"connection: close" in text for text in heard)
        assert cancelled == [True]
        for _, writer in connections:
            writer.close()

    _run(Address("127.0.0.1", 0), handler, scenario)


def test_a_handler_that_fails_is_an_internal_error() -> None:
    """500 with a constant, and the connection goes on; nothing of the exception is sent."""

    async def handler(request: HttpRequest) -> HttpResponse:
        raise ValueError(request.path)

    async def scenario(receiver: HttpReceiver) -> None:
        await receiver.start()
        reader, writer = await _connect(receiver.address)
        for _ in range(2):
            writer.write(_REQUEST.replace(b"/ ", b"/canary "))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 500")
            length = int(head.partition(b"content-length: ")[2].split()[0])
            body = await reader.readexactly(length)
            assert b"E428" in body
            assert b"canary" not in head + body
        writer.close()
        await receiver.stop(1)

    _run(Address("127.0.0.1", 0), handler, scenario)
