"""Clients as people use them: the OpenTelemetry SDKs of Python and of JavaScript, and curl.

Each sends records with their own address. The exporters must report success. The store, read with
another program, must hold those addresses and nothing else of what was sent.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from collector.contracts import MOST_EVENTS, Signal
from tests.conftest import required
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.exporters import COMPRESSIONS, exporter
from tests.support.sidecar import Sidecar, started

_CANARY = "canary7f3a"
_NODE = Path(__file__).parent / "node"
_WAYS = [(way, compression) for way in ("http", "grpc") for compression in COMPRESSIONS]


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    """A sidecar that also listens on a Unix socket."""
    for program in ("curl", "sqlite3"):
        if shutil.which(program) is None:
            required(program)
    with started(tmp_path, environ={"COLLECTOR__HTTP__UNIX": str(tmp_path / "in.sock")}) as running:
        yield running
        assert [event["event"] for event in running.events] == ["starting", "started"]
        files = [file for file in (tmp_path / "collector-data").iterdir() if file.is_file()]
        assert files
        for file in files:
            assert _CANARY.encode() not in file.read_bytes(), file.name


def stored(sidecar: Sidecar, number: int) -> dict[str, tuple[str, str, int]]:
    """Wait for this many records in the store. Return by address: device, system, count."""
    query = 'SELECT "client.address", "device.type", "os.type", count FROM conferencing'
    file = sidecar.directory / "collector-data" / "store.db"
    command = ["sqlite3", "-cmd", ".timeout 60000", "-json", f"file:{file}?mode=ro", query]
    rows: list[tuple[Any, ...]] = []

    def are_there() -> bool:
        said = subprocess.run(command, capture_output=True, check=True, timeout=WAIT_SECONDS).stdout
        rows[:] = [tuple(row.values()) for row in json.loads(said or b"[]")]
        return sum(int(row[3]) for row in rows) >= number

    wait_until(are_there)
    assert sum(row[3] for row in rows) == number
    return {row[0]: row[1:] for row in rows}


# -- the OpenTelemetry SDK of Python ------------------------------------------------------------


def _watched(exporting: Any) -> list[str]:
    """The results, by name, of all its exports from now on."""
    results: list[str] = []
    export = exporting.export

    def watch(*arguments: Any, **options: Any) -> Any:
        result = export(*arguments, **options)
        results.append(result.name)
        return result

    exporting.export = watch
    return results


def _resource() -> Any:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

    return Resource({"os.type": "linux", "service.name": _CANARY})


def _attributes(address: str) -> dict[str, str]:
    return {"client.address": address, "device.type": "phone", _CANARY: _CANARY}


def _send_logs(exporting: Any, addresses: Sequence[str]) -> None:
    from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor  # noqa: PLC0415

    provider = LoggerProvider(resource=_resource())
    provider.add_log_record_processor(BatchLogRecordProcessor(exporting))
    for address in addresses:
        provider.get_logger(_CANARY).emit(body=_CANARY, attributes=_attributes(address))
    assert provider.force_flush()
    provider.shutdown()


def _send_traces(exporting: Any, addresses: Sequence[str]) -> None:
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=_resource())
    provider.add_span_processor(BatchSpanProcessor(exporting))
    for address in addresses:
        tracer = provider.get_tracer(_CANARY)
        with tracer.start_as_current_span(_CANARY, attributes=_attributes(address)) as span:
            span.add_event(_CANARY, {_CANARY: _CANARY})
    assert provider.force_flush()
    provider.shutdown()


def _send_metrics(exporting: Any, addresses: Sequence[str]) -> None:
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], resource=_resource())
    counter = provider.get_meter(_CANARY).create_counter(_CANARY, description=_CANARY)
    for address in addresses:
        counter.add(7, _attributes(address))
    exporting.export(reader.get_metrics_data())
    provider.shutdown()


_SEND: dict[Signal, Callable[[Any, Sequence[str]], None]] = {
    "logs": _send_logs,
    "traces": _send_traces,
    "metrics": _send_metrics,
}


def test_python(sidecar: Sidecar) -> None:
    """All signals, over HTTP and over gRPC, plain and compressed."""
    addresses = iter(f"203.0.113.{n}" for n in range(1, 255))
    expected = []
    for signal, send in _SEND.items():
        for way, compression in _WAYS:
            sending = exporter(signal, way, sidecar.ports[way], compression)
            results = _watched(sending)
            some = [next(addresses) for _ in range(5)]
            send(sending, some)
            sending.shutdown()
            assert results, (signal, way, compression)
            assert set(results) == {"SUCCESS"}, (signal, way, compression)
            expected += some
    assert stored(sidecar, len(expected)) == dict.fromkeys(expected, ("phone", "linux", 1))


def _span(size: int) -> Any:
    """A span of about this many bytes."""
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    attributes = {**_attributes("203.0.113.7"), "more": "x" * size}
    span = (
        TracerProvider(resource=_resource())
        .get_tracer(_CANARY)
        .start_span("", attributes=attributes)
    )
    span.end()
    return span


def _documented() -> int:
    """The largest batch, by the settings in ``docs/migrating.md``."""
    page = Path(__file__).parents[2].joinpath("docs", "migrating.md").read_text()
    found = {*re.findall(r"(?:send_batch_max_size: |max_size: |export_batch_size=)([0-9]+)", page)}
    assert len(found) == 1
    return int(found.pop())


@pytest.mark.long
@pytest.mark.parametrize("way", ["http", "grpc"])
def test_the_largest_batches_of_python(sidecar: Sidecar, way: str) -> None:
    """The largest batches under the documented settings are taken, with items of almost 4 KiB, and
    so is a request with the most items. One item more, or longer items, and the whole request is
    refused. Over HTTP the exporter does not retry; over gRPC Python's exporter retries until its
    time-out."""
    number, results = _documented(), list[str]()
    for batches, seconds in (
        ([[_span(3800)] * number, [_span(0)] * MOST_EVENTS], WAIT_SECONDS),
        ([[_span(0)] * (MOST_EVENTS + 1), [_span(4200)] * number], 3),
    ):
        sending = exporter("traces", way, sidecar.ports[way], timeout=seconds)
        results += [sending.export(batch).name for batch in batches]
        sending.shutdown()
    assert results == ["SUCCESS", "SUCCESS", "FAILURE", "FAILURE"]
    assert stored(sidecar, number + MOST_EVENTS).keys() == {"203.0.113.7"}


# -- the OpenTelemetry exporters of JavaScript --------------------------------------------------


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder of the installed exporters: a cache outside of the tree."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            required(program)
    package = (_NODE / "package.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "collector-tests" / f"node-{hashlib.sha256(package).hexdigest()[:16]}"
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_bytes(package)
        options = ["--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(
            ["npm", "install", *options], cwd=folder, capture_output=True, check=False, timeout=240
        )
        if done.returncode:
            required("the OpenTelemetry exporters of JavaScript (npm install)")
        (folder / "installed").touch()
    return folder


def test_javascript(sidecar: Sidecar, node_modules: Path) -> None:
    """All signals with all exporters: OTLP/JSON, protobuf and gRPC, plain and compressed."""
    shutil.copy(_NODE / "export.mjs", node_modules)
    places = [f"127.0.0.1:{sidecar.ports[name]}" for name in ("http", "grpc")]
    done = subprocess.run(
        ["node", "export.mjs", *places, _CANARY],
        cwd=node_modules,
        capture_output=True,
        check=True,
        timeout=WAIT_SECONDS,
    )
    results = json.loads(done.stdout)
    assert done.stderr == b""
    assert len(results) == 18
    assert set(results.values()) == {0}, results
    expected = [f"203.0.113.{n}" for n in range(1, 19)]
    assert stored(sidecar, 18) == dict.fromkeys(expected, ("phone", "linux", 1))


# -- curl ---------------------------------------------------------------------------------------


_LINES = "-H 'Content-Type: application/x-ndjson'"
_CURL = (
    "-H 'Content-Type: application/json' --data-binary @- URL",
    "-H 'Content-Type: application/json' --json @- URL",
    f"{_LINES} -H 'Transfer-Encoding: chunked' --data-binary @- URL",
    f"{_LINES} -X POST -T - URL",
    f"{_LINES} -H 'Content-Encoding: gzip' --data-binary @- URL",
    f"{_LINES} -H 'Expect: 100-continue' --data-binary @- URL",
    f"{_LINES} --unix-socket IN --data-binary @- http://localhost/v1/events",
    f"{_LINES} --http1.0 --data-binary @- URL",
)


def test_curl(sidecar: Sidecar) -> None:
    """Sends a file as is, in chunks, compressed, over a Unix socket, and OTLP as JSON."""
    event = '{{"ip_address":"{}","device_type":"phone","os":{{"type":"linux"}},"chat":["{}"]}}\n'
    url = f"http://127.0.0.1:{sidecar.ports['http']}/v1/events"
    ways = [
        way.replace("URL", url).replace("IN", str(sidecar.directory / "in.sock")) for way in _CURL
    ]
    expected = []
    for number, way in enumerate(ways, start=1):
        address = f"198.51.100.{number}"
        body = event.format(address, _CANARY).encode()
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--fail", "--max-time", "60", *shlex.split(way)],
            input=gzip.compress(body) if "gzip" in way else body,
            capture_output=True,
            check=False,
            timeout=WAIT_SECONDS,
        )
        assert (done.returncode, done.stderr) == (0, b""), way
        assert json.loads(done.stdout) == {"received": 1, "admitted": 1, "rejected": {}}
        expected.append(address)
    assert stored(sidecar, len(expected)) == dict.fromkeys(expected, ("phone", "linux", 1))


def test_curl_is_told_what_is_wrong(sidecar: Sidecar) -> None:
    url = f"http://127.0.0.1:{sidecar.ports['http']}/v1/events"
    command = ["curl", "--silent", "--fail-with-body", "--json", f"{{{_CANARY}", url]
    done = subprocess.run(command, capture_output=True, check=False, timeout=WAIT_SECONDS)
    assert done.returncode == 22
    assert json.loads(done.stdout)["error"]["code"] == "E422"
    assert re.search(_CANARY.encode(), done.stdout) is None
