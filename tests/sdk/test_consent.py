"""Consent in an application: refused purposes are not filtered, and a sidecar is told."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import orjson
import pytest
from pydantic import BaseModel, Field

from collector.errors import ConfigError, ConfigFaults
from collector.schema import Schema
from collector.sdk import Collector
from collector.sdk.logs import Minimise
from collector.sdk.web import ClientMiddleware
from tests.filter.test_event_consent import made
from tests.support.deadline import WAIT_SECONDS
from tests.support.raising import raises

_EVENT = {"client.address": "203.0.113.7", "os.name": "Linux", "view.dark": True}
_ALL, _NO_PLANNING, _NO_CRASHES, _NEITHER = (
    {"client.address", "os.name", "view.dark"},
    {"client.address", "view.dark"},
    {"client.address", "os.name"},
    {"client.address"},
)


@pytest.fixture
def schema(tmp_path: Path) -> Schema:
    """Make a schema with two purposes that may be refused, also by events."""
    return made(tmp_path)


def records(path: Path) -> list[set[str]]:
    """Return the fields of each record in a file, sorted: a batch is shuffled."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    found = [{*orjson.loads(line)} - {"schema", "received", "count"} for line in lines]
    return sorted(found, key=sorted)


@pytest.mark.parametrize(
    ("consent", "fields"),
    [
        (None, _ALL),
        (True, _ALL),
        (False, _NEITHER),
        ({}, _ALL),
        ({"planning": False}, _NO_PLANNING),
        ({"planning": True, "crashes": False, "security": True}, _NO_CRASHES),
        (["planning"], _NO_PLANNING),
        ({"planning", "crashes"}, _NEITHER),
    ],
)
def test_an_application_refuses(
    tmp_path: Path, schema: Schema, consent: Any, fields: set[str]
) -> None:
    path = tmp_path / "x.ndjson"
    with Collector(schema, f"ndjson:///{path}", consent=consent) as telemetry:
        assert telemetry.emit(_EVENT)
        telemetry.set_consent(None)
        assert telemetry.emit(_EVENT)
        assert telemetry.emit(_EVENT, consent=consent)
        telemetry.set_consent(consent)
        assert telemetry.emit(orjson.dumps(_EVENT))
        assert telemetry.emit({**_EVENT, "choices": ["crashes"]})
    less = fields - {"view.dark"}
    assert records(path) == sorted([fields, _ALL, fields, fields, less], key=sorted)


def test_of_one_event_what_cannot_be_read_refuses_all(tmp_path: Path, schema: Schema) -> None:
    """``emit`` does not raise; names that cannot be refused change nothing."""
    path = tmp_path / "x.ndjson"
    consents: list[Any] = ["planning", 1, {"planning": "no"}, [3], object()]
    with Collector(schema, f"ndjson:///{path}") as telemetry:
        for consent in consents:
            assert telemetry.emit(_EVENT, consent=consent)
        assert telemetry.emit(_EVENT, consent=["security", "other"])
        assert not telemetry.emit({"os.name": "Linux"}, consent=False)
        assert telemetry.tally().rejected == {"consent_withheld": 1}
    assert records(path) == sorted([_NEITHER] * len(consents) + [_ALL], key=sorted)


@pytest.mark.parametrize(
    ("consent", "code"),
    [
        ("planning", "E107"),
        (["planing"], "E132"),
        (["security"], "E132"),
        ({"security": False}, "E132"),
        ({"x": True}, "E132"),
        ({"planning": 0}, "E107"),
        (3, "E107"),
    ],
)
def test_a_slip_is_an_error(tmp_path: Path, schema: Schema, consent: Any, code: str) -> None:
    """It has a form that consent cannot have, or names a purpose that cannot be refused; at the
    start and later. The earlier consent still holds."""
    with raises(code, ConfigError):
        Collector(schema, f"ndjson:///{tmp_path}/x", consent=consent)
    path = tmp_path / "x.ndjson"
    with Collector(schema, f"ndjson:///{path}", consent=False) as telemetry:
        with pytest.raises(ConfigError):
            telemetry.set_consent(consent)
        telemetry.emit(_EVENT)
    assert records(path) == [_NEITHER]


def test_an_operator_refuses(
    tmp_path: Path, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment refuses, whatever the application allows."""
    path = tmp_path / "x.ndjson"
    for text, fields in (("planning", _NO_PLANNING), ("all", _NEITHER)):
        monkeypatch.setenv("COLLECTOR_SDK_CONSENT", text)
        with Collector(schema, f"ndjson:///{path}", consent=True) as telemetry:
            telemetry.emit(_EVENT)
            telemetry.set_consent(None)
            telemetry.emit(_EVENT)
        assert records(path) == [fields] * 2
        path.unlink()
    monkeypatch.setenv("COLLECTOR_SDK_CONSENT", "planing")
    with pytest.raises(ConfigError):
        Collector(schema, f"ndjson:///{path}")
    monkeypatch.setenv("COLLECTOR_SDK_CONSENT", "No!")
    with pytest.raises(ConfigFaults):
        Collector(schema, f"ndjson:///{path}")


def test_another_process_heeds_it(tmp_path: Path, schema: Schema) -> None:
    """Refusals at the start, or later, hold in a copy."""
    path = tmp_path / "x.ndjson"
    with Collector(schema, f"ndjson:///{path}") as telemetry:
        telemetry.set_consent(["planning"])
        with pickle.loads(pickle.dumps(telemetry)) as copy:
            copy.emit(_EVENT)
    assert records(path) == [_NO_PLANNING]


@pytest.fixture
def requests() -> Iterator[list[tuple[str | None, int]]]:
    """Return the purposes of each request to a sidecar, and its number of records."""
    found: list[tuple[str | None, int]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            number = body.count(b"\n")
            found.append((self.headers["Collector-Granted"], number))
            answer = f'{{"received":{number},"admitted":{number},"rejected":{{}}}}'.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    found.append((str(server.server_port), 0))
    yield found
    server.shutdown()
    thread.join(WAIT_SECONDS)
    server.server_close()


@pytest.mark.usefixtures("one_minute")
@pytest.mark.parametrize("has_spool", [False, True])
def test_a_sidecar_is_told(
    tmp_path: Path, schema: Schema, requests: list[tuple[str | None, int]], has_spool: bool
) -> None:
    """A batch holds records of one set of purposes, which the request names; from a spool too."""
    port, _ = requests.pop()
    to, spool = f"http://127.0.0.1:{port}", tmp_path / "spool" if has_spool else None
    patience: dict[str, Any] = {"interval": 3600, "timeout": WAIT_SECONDS}
    with Collector(schema, to, spool=spool, **patience) as telemetry:
        for consent in (None, None, ["planning"], ["planning"], False, None):
            assert telemetry.emit(_EVENT, consent=consent)
        assert telemetry.flush(WAIT_SECONDS)
        account = telemetry.tally()
        assert account.admitted == 6
    assert sorted(requests, key=str) == sorted(
        [(None, 2), ("security crashes", 2), ("security", 1), (None, 1)], key=str
    )


def test_a_browser_refuses(tmp_path: Path, schema: Schema) -> None:
    """The middleware reads Global Privacy Control and Do Not Track; only ``1`` refuses."""
    path = tmp_path / "x.ndjson"

    async def app(*_: Any) -> None:
        """Do nothing."""

    async def ask(middleware: ClientMiddleware, *headers: tuple[bytes, bytes]) -> None:
        scope = {"type": "http", "client": ("203.0.113.7", 1), "headers": list(headers)}
        await middleware(scope, app, app)  # type: ignore[arg-type]

    with Collector(schema, f"ndjson:///{path}") as telemetry:
        middleware = ClientMiddleware(app, telemetry)
        middleware._event = lambda _scope: dict(_EVENT)  # type: ignore[assignment,method-assign,arg-type]
        for headers in (
            [],
            [(b"sec-gpc", b"1")],
            [(b"dnt", b"1")],
            [(b"dnt", b"0"), (b"sec-gpc", b"0")],
            [(b"sec-gpc", b"0"), (b"sec-gpc", b"1")],
            [(b"sec-gpc", b"true")],
        ):
            asyncio.run(ask(middleware, *headers))
    assert records(path) == sorted([_ALL, _NEITHER] * 3, key=sorted)


class _Choices(BaseModel):
    planning: bool | None = None
    crashes: bool = True
    other: str = "canary"


class _Model(BaseModel):
    """An event of an application."""

    address: str = Field("203.0.113.7", serialization_alias="client.address")
    name: str = Field("Linux", serialization_alias="os.name")
    dark: bool = Field(default=True, serialization_alias="view.dark")
    choices: _Choices | dict[str, bool] | list[str] | str | None = None


@dataclass
class _Plain:
    """The same without an alias, and with nothing but an address."""

    choices: object
    os: dict[str, str] = field(default_factory=lambda: {"name": "Linux"})


@pytest.mark.parametrize(
    ("choices", "fields"),
    [
        (None, _ALL),
        (_Choices(), _ALL),
        (_Choices(planning=False), _NO_PLANNING),
        (_Choices(planning=True, crashes=False), _NO_CRASHES),
        ({"planning": False, "other": True}, _NO_PLANNING),
        (["crashes", "other"], _NO_CRASHES),
        ("crashes", _NEITHER),
    ],
)
def test_choices_of_objects(tmp_path: Path, schema: Schema, choices: Any, fields: set[str]) -> None:
    """Models and dataclasses carry choices as other events do."""
    path = tmp_path / "x.ndjson"
    with Collector(schema, f"ndjson:///{path}") as telemetry:
        assert telemetry.emit(_Model(choices=choices))
        assert telemetry.emit(_Plain(choices)) is ("os.name" in fields)
        refused = telemetry.tally().rejected
        assert refused == ({} if "os.name" in fields else {"consent_withheld": 1})
    assert fields in records(path)


def test_choices_of_log_events(schema: Schema) -> None:
    """Members of a log event, which the processor drops with the rest."""
    process = Minimise(schema)
    event = {"event": "x", **_EVENT, "choices": ["planning"]}
    assert {*process(None, "info", event)} == {"event", *_NO_PLANNING}
