"""How programs use the SDK, for type checkers: every line must be accepted as it stands, and every
``type: ignore`` must be needed. It is never run.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import assert_type

import structlog
from fastapi import FastAPI
from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk.trace.export import SpanExporter
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware import Middleware

from collector import Account, Collector, Filter, Schema, Tally, load_schema
from collector.sdk import host_event
from collector.sdk.logs import EmittingHandler, Minimise, MinimisingHandler
from collector.sdk.otel import minimise
from collector.sdk.otel.exporters import MinimisedLogExporter, MinimisedSpanExporter
from collector.sdk.web import App, ClientMiddleware, Receive, Scope, Send


class _Joined(BaseModel):
    ip: str


@dataclass
class _Left:
    ip: str


def three_lines() -> None:
    with Collector("conferencing", "sqlite:///telemetry.db") as telemetry:
        assert_type(telemetry, Collector)
        assert_type(telemetry.emit({"ip": "203.0.113.7"}), bool)
    assert_type(telemetry.tally(), Account)
    assert_type(telemetry.tally().lost["queue_full"], int)
    assert_type(telemetry.schema, Schema)


def events(telemetry: Collector) -> list[bool]:
    return [
        telemetry.emit(b"{}"),
        telemetry.emit("{}"),
        telemetry.emit(_Joined(ip="203.0.113.7")),
        telemetry.emit(_Left("203.0.113.7"), peer="203.0.113.7", user_agent=None),
        telemetry.emit(host_event()),
        telemetry.emit_host(),
        telemetry.flush(1.5),
        telemetry.close(),
    ]


def settings() -> None:
    Collector()
    Collector(Path("schema.yaml"), mode="local", when_full="oldest", spool=Path("spool"))
    Collector(load_schema("web"), "https://collector.example.com", token="secret", ca="ca.pem")
    Collector(timeout=5, interval="500ms", exit_timeout=0.5, spool_limit="64MiB")
    Collector(mode="sometimes")  # type: ignore[arg-type]
    Collector(queue="many")  # type: ignore[arg-type]
    Collector(keys=lambda reference, period: b"")


async def asynchronous() -> None:
    async with Collector() as telemetry:
        assert_type(telemetry, Collector)
    assert_type(await telemetry.aclose(1), bool)


def filtered() -> None:
    admission = Filter(load_schema("conferencing")).admit({"ip": "203.0.113.7"})
    assert_type(admission.tally, Tally)
    assert_type(admission.encode(), bytes)
    for record in admission.records:
        assert_type(record["client.address"], str | int | float | bool)


def web(telemetry: Collector) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    Starlette(middleware=[Middleware(ClientMiddleware, telemetry=telemetry, hops=1)])
    FastAPI().add_middleware(ClientMiddleware, telemetry=telemetry)
    return ClientMiddleware(app, telemetry, hops=2)


def opentelemetry(spans: SpanExporter, logs: LogRecordExporter) -> None:
    assert_type(minimise(spans), MinimisedSpanExporter)
    assert_type(minimise(logs, "conferencing"), MinimisedLogExporter)
    minimise(print)  # type: ignore[call-overload]


def logs(telemetry: Collector) -> None:
    structlog.configure(processors=[Minimise("conferencing"), structlog.processors.JSONRenderer()])
    logging.getLogger().addHandler(MinimisingHandler(logging.StreamHandler(), "conferencing"))
    logging.getLogger().addHandler(EmittingHandler(telemetry))
