"""The programs under ``examples`` do what they show."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import time
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from ruamel.yaml import YAML

from collector.testing import canaries, scan
from tests.sdk.stores import lines, rows
from tests.support.command import run
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.sidecar import started
from tests.support.tcp import free_port, is_refused

_ROOT = Path(__file__).parent.parent
_EXAMPLES = _ROOT / "examples"
_CANARY, _OTHER = canaries(2)


def _yaml(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path)


@contextmanager
def _running(*words: str, port: int, log: Path, **environ: str) -> Iterator[None]:
    """Run a Python program once it listens; end it gently."""
    program = [sys.executable, "-W", "error", *words]
    with (
        log.open("wb") as errors,
        subprocess.Popen(program, env=os.environ | environ, stderr=errors) as process,
    ):
        try:
            wait_until(lambda: not is_refused(port))
            yield
        finally:
            process.terminate()
            try:
                process.wait(WAIT_SECONDS)
            finally:
                process.kill()


def _post(port: int, path: str, body: bytes, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    connection.request("POST", path, body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


def _schema(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a schema of a template, as a reader does."""
    monkeypatch.chdir(folder)
    assert run("schema", "new", name, "--from", name).code == 0
    return folder / f"{name}.yaml"


def test_the_meeting_client(tmp_path: Path) -> None:
    """Participants join, chat and leave; the store has their machines, and nothing of them."""
    people = canaries(2)
    program = [sys.executable, "-W", "error", str(_EXAMPLES / "meeting_client.py")]
    options = ["--people", ",".join(people), "--store", str(tmp_path / "telemetry.db")]
    environ = os.environ | {"COLLECTOR_SDK_EXIT_TIMEOUT": "60"}
    done = subprocess.run(
        [*program, *options], capture_output=True, check=False, env=environ, timeout=WAIT_SECONDS
    )
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode()
    assert f"{people[1]}: Can you hear me?" in shown
    assert f"{people[1]}: Bye, see you on Monday!" in shown
    assert "0 of 5 texts are in it" in shown
    counted = json.loads(shown.partition("counted: ")[2].splitlines()[0])
    assert counted["received"] == counted["delivered"] == 10
    assert counted["content"] == {"chat": 6, "transcript": 2}
    stored = rows(tmp_path / "telemetry.db")
    assert {row["client.address"] for row in stored} == {"127.0.0.1"}
    assert sum(row["count"] for row in stored) == 10
    assert not scan(tmp_path, people)


def test_fastapi(tmp_path: Path) -> None:
    """Requests are counted with the address; their bodies, paths and cookies are nowhere."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    port, file, log = free_port(), tmp_path / "records.ndjson", tmp_path / "log"
    words = ["-m", "uvicorn", "app:app", "--app-dir", str(_EXAMPLES / "fastapi-app")]
    words += ["--port", str(port), "--log-level", "critical"]
    with _running(*words, port=port, log=log, COLLECTOR_SDK_TO=f"ndjson:///{file}"):
        headers = {"Cookie": f"session={_CANARY}", "User-Agent": "curl/8.5.0"}
        assert _post(port, "/messages", _CANARY.encode(), **headers) == 200
        assert _post(port, f"/{_CANARY}", b"", **headers) == 404
    assert log.read_bytes() == b""
    assert {each["client.address"] for each in lines(file)} == {"127.0.0.1"}
    assert not scan(tmp_path, [_CANARY])


def _signed(body: bytes, key: str, secret: str, **others: Any) -> str:
    """Sign a body as LiveKit does."""
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    claims = {"iss": key, "exp": time() + 300, "nbf": time(), "sha256": digest} | others
    parts = [json.dumps(each).encode() for each in ({"alg": "HS256", "typ": "JWT"}, claims)]
    text = b".".join(base64.urlsafe_b64encode(each).rstrip(b"=") for each in parts)
    mark = base64.urlsafe_b64encode(hmac.digest(secret.encode(), text, "sha256")).rstrip(b"=")
    return f"{text.decode()}.{mark.decode()}"


_WEBHOOK = {
    "event": "track_published",
    "id": _CANARY,
    "createdAt": "1700000000",
    "room": {"sid": _CANARY, "name": _CANARY, "numParticipants": 12, "metadata": _OTHER},
    "participant": {"identity": _CANARY, "name": _OTHER, "state": "ACTIVE"},
    "track": {"sid": _CANARY, "type": "AUDIO", "source": "MICROPHONE", "mimeType": "audio/opus"},
}


def test_livekit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook that LiveKit signed is kept as far as the schema lists it; others are refused."""
    schema, port = _schema(tmp_path, "livekit", monkeypatch), free_port()
    file, log = tmp_path / "records.ndjson", tmp_path / "log"
    environ = {"LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "secret"}
    environ["COLLECTOR_SDK_TO"] = f"ndjson:///{file}"
    words = [str(_EXAMPLES / "livekit" / "webhooks.py"), str(schema), "--port", str(port)]
    body = json.dumps(_WEBHOOK).encode()
    with _running(*words, port=port, log=log, **environ):
        tokens = {
            _signed(body, "key", "secret"): 204,
            _signed(body, "key", "another"): 401,
            _signed(body, "another", "secret"): 401,
            _signed(b"{}", "key", "secret"): 401,
            _signed(body, "key", "secret", exp=1): 401,
            "none": 401,
            "a.b.c": 401,
        }
        for token, status in tokens.items():
            assert _post(port, "/", body, Authorization=token) == status
        assert _post(port, "/", b"", **{"Content-Length": str(1 << 30)}) == 413
    assert log.read_bytes() == b""
    (record,) = lines(file)
    assert (record["livekit.event"], record["track.codec"]) == ("track_published", "opus")
    assert record["room.participants"] == 10
    assert not scan(tmp_path, [_CANARY, _OTHER])


_STATISTICS = {
    "participants": 12,
    "conferences": 3,
    "largest_conference": 8,
    "threads": 130,
    "cpu_usage": 0.31,
    "bit_rate_download": 5000,
    "rtt_aggregate": 40.5,
    "conference_sizes": [0, 0, 1, 0, 2],
    "relay_id": _CANARY,
    "current_timestamp": _CANARY,
    "endpoints_with_spurious_remb": {_CANARY: _CANARY},
}


def test_jitsi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of a bridge are asked for again and again, and kept as the schema lists them."""
    schema, file = _schema(tmp_path, "jitsi", monkeypatch), tmp_path / "records.ndjson"

    class Bridge(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(_STATISTICS).encode()
            self.send_response(200 if self.path == "/colibri/stats" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Bridge) as bridge:
        Thread(target=bridge.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{bridge.server_port}/colibri/stats"
        words = [str(_EXAMPLES / "jitsi" / "bridge_statistics.py"), str(schema), "--url", url]
        words += ["--times", "2", "--every", "0.1"]
        done = subprocess.run(
            [sys.executable, "-W", "error", *words],
            env=os.environ | {"COLLECTOR_SDK_TO": f"ndjson:///{file}"},
            capture_output=True,
            check=False,
            timeout=WAIT_SECONDS,
        )
        bridge.shutdown()
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"'admitted': 2" in done.stdout
    assert {(each["bridge.participants"], each["bridge.calls_of_two"]) for each in lines(file)}
    assert not scan(tmp_path, [_CANARY])


_OTELCOL = _EXAMPLES / "opentelemetry-collector" / "otelcol.yaml"


def test_what_an_opentelemetry_collector_sends_is_taken(tmp_path: Path) -> None:
    """Over the path, encoding and compression of its exporter; the exporter of OpenTelemetry's SDK
    stands in for it here."""
    config = _yaml(_OTELCOL)
    ((name, exporter),) = config["exporters"].items()
    assert all(each["exporters"] == [name] for each in config["service"]["pipelines"].values())
    assert exporter["endpoint"] == "http://127.0.0.1:4318"
    assert exporter["sending_queue"]["batch"]["max_size"] <= 20_000
    with started(tmp_path) as sidecar:
        sender = OTLPSpanExporter(
            f"{exporter['endpoint'].replace('4318', str(sidecar.ports['http']))}/v1/traces",
            compression=Compression(exporter["compression"]),
        )
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(sender))
        with provider.get_tracer("meeting").start_as_current_span(_CANARY) as span:
            span.set_attributes({"client.address": "203.0.113.7", "chat": _CANARY})
        provider.shutdown()
        store = tmp_path / "collector-data" / "store.db"
        wait_until(lambda: store.exists() and len(rows(store)) == 1)
    assert rows(store)[0]["client.address"] == "203.0.113.7"
    assert not scan(tmp_path, [_CANARY])


def test_an_opentelemetry_collector_takes_its_configuration() -> None:
    otelcol = shutil.which("otelcol") or shutil.which("otelcol-contrib")
    if otelcol is None:
        pytest.skip("otelcol is not installed: neither Debian nor PyPI has it")
    words = [otelcol, "validate", "--config", str(_OTELCOL)]
    done = subprocess.run(words, capture_output=True, check=False, timeout=WAIT_SECONDS)
    assert done.returncode == 0, done.stderr


_COMPOSE = _EXAMPLES / "compose"


def test_compose_names_what_there_is() -> None:
    """Files, services of the file that it extends, volumes, and what Grafana is to find."""
    composed = _yaml(_COMPOSE / "compose.yaml")
    for service in composed["services"].values():
        if "extends" in service:
            other = _yaml(_COMPOSE / service["extends"]["file"])
            extended = other["services"][service["extends"]["service"]]
            volumes = extended.get("volumes", [])
            assert {each.partition(":")[0] for each in volumes if each[0] != "."} <= {
                *composed["volumes"]
            }
        for each in service.get("volumes", []):
            assert (_COMPOSE / each.partition(":")[0]).exists()
    grafana = composed["services"]["grafana"]
    assert grafana["ports"] == ["127.0.0.1:3000:3000"]
    (source,) = _yaml(_COMPOSE / "grafana/datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = _yaml(_COMPOSE / "grafana/dashboards/collector.yaml")["providers"]
    mounted = {each.split(":")[1]: each.split(":")[0] for each in grafana["volumes"]}
    folder = _COMPOSE / mounted[provider["options"]["path"]]
    dashboard = json.loads((folder / "dashboard.json").read_text())
    assert dashboard["uid"] == "collector"
    assert dashboard["templating"]["list"][0]["query"] == source["type"]


def test_prometheus_scrapes_what_is_sent(tmp_path: Path) -> None:
    """The program sends, and a real Prometheus with the configuration of compose has the counts."""
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("prometheus is not installed (Debian: apt install prometheus)")
    folder, port = tmp_path / "prometheus", free_port()
    shutil.copytree(_ROOT / "deploy" / "prometheus", folder)
    with started(tmp_path) as sidecar:
        file = folder / "prometheus.yaml"
        target = f"127.0.0.1:{sidecar.ports['admin']}"
        file.write_text(file.read_text().replace("app:4319", target).replace("15s", "1s"))
        subprocess.run(
            [sys.executable, str(_COMPOSE / "send_events.py"), "2"],
            env={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sidecar.ports['http']}"},
            check=True,
            timeout=WAIT_SECONDS,
        )
        words = [prometheus, f"--config.file={file}", f"--web.listen-address=127.0.0.1:{port}"]
        words += [f"--storage.tsdb.path={tmp_path / 'tsdb'}", "--log.level=error"]
        with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
            try:
                wait_until(lambda: _value(port, 'collector_events_total{outcome="admitted"}') == 2)
            finally:
                process.kill()


def _value(port: int, query: str) -> float | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    try:
        connection.request("GET", f"/api/v1/query?query={query}")
        found = json.loads(connection.getresponse().read())["data"]["result"]
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return float(found[0]["value"][1]) if found else None
