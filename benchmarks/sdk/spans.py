"""What the OpenTelemetry wrapper adds to an exporter."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from time import thread_time_ns
from typing import TYPE_CHECKING, Any

from benchmarks.data import SEED
from benchmarks.fleet import machine
from benchmarks.meetings import address, hexadecimal
from benchmarks.results import BenchmarkError
from benchmarks.sdk.figures import Spans
from benchmarks.talk import ENGLISH

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

BATCH = 512
"""Spans of one export: what the SDK's processor hands over unless told otherwise."""

_BATCHES = 20


def obstacle() -> str | None:
    """Why this cannot be measured, if it cannot."""
    try:
        found = find_spec("opentelemetry.sdk.trace")
    except ModuleNotFoundError:
        found = None
    return "opentelemetry-sdk is not installed" if found is None else None


def spans(number: int) -> Sequence[ReadableSpan]:
    """Finished spans of one meeting client: device and system are of the resource, the address is
    each span's own, and so is what was said."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: PLC0415
        InMemorySpanExporter,
    )

    rng = random.Random(SEED)
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource(_resource(rng)), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("meeting-client")
    for _ in range(number):
        with tracer.start_as_current_span("join", attributes=_attributes(rng)) as span:
            span.add_event("said", {"chat": rng.choice(ENGLISH.sentences)})
    return exporter.get_finished_spans()


def _resource(rng: random.Random) -> dict[str, Any]:
    of = machine(rng)
    return {"service.name": "meeting-client", **_flat("device", of.device), **_flat("os", of.os)}


def _flat(prefix: str, members: Mapping[str, object]) -> dict[str, Any]:
    """Return members as attributes: those of an object within are named after it."""
    found: dict[str, Any] = {}
    for key, value in members.items():
        name = f"{prefix}.{key}"
        found |= _flat(name, value) if isinstance(value, Mapping) else {name: value}
    return found


def _attributes(rng: random.Random) -> dict[str, Any]:
    return {
        "client.address": address(rng),
        "client.port": rng.randrange(49152, 65536),
        "session.id": hexadecimal(rng),
        "enduser.name": rng.choice(ENGLISH.names),
        "network.rtt_ms": rng.randrange(8, 240),
        "http.route": "/v1/meetings/{meeting}/join",
        "http.response.status_code": 200,
        "chat": rng.choice(ENGLISH.sentences),
    }


def measure(rounds: int, batches: int = _BATCHES) -> Spans:
    """Exports the same batches with and without the wrapper, in an order drawn anew each round.

    Raises ``BenchmarkError`` if a span is lost.
    """
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: PLC0415
        InMemorySpanExporter,
    )

    from collector.sdk.otel import minimise  # noqa: PLC0415

    given = spans(batches * BATCH)
    cut = [given[at : at + BATCH] for at in range(0, len(given), BATCH)]
    bare, inner = InMemorySpanExporter(), InMemorySpanExporter()
    times: dict[str, list[float]] = {"bare": [], "minimised": []}
    jobs = {"bare": (bare, bare), "minimised": (minimise(inner, "conferencing"), inner)}
    rng = random.Random(SEED)
    for round_ in range(rounds + 1):  # the first one warms up
        for name in rng.sample(list(jobs), len(jobs)):
            exporter, exported = jobs[name]
            start = thread_time_ns()
            for batch in cut:
                exporter.export(batch)
            spent = thread_time_ns() - start
            if len(exported.get_finished_spans()) != len(given):
                raise BenchmarkError(f"{name}: not every span is exported")
            exported.clear()
            if round_:
                times[name].append(spent / len(given) / 1_000)
    return Spans(BATCH, times["bare"], times["minimised"])
