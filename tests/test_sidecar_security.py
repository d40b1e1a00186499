"""docs/sidecar-security.md: what it tells an operator to type works as printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.ingest.auth import hashed
from tests.conftest import required
from tests.database import query
from tests.deadline import WAIT_SECONDS, wait_until
from tests.sidecar.serving import started
from tests.tcp import free_port

_TEXT = (Path(__file__).parent.parent / "docs" / "sidecar-security.md").read_text()
_SENDER = """
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult

class Telling(OTLPSpanExporter):
    def export(self, spans):
        result = super().export(spans)
        print(result.name)
        return result

traces = TracerProvider(resource=Resource({}))
traces.add_span_processor(SimpleSpanProcessor(Telling(timeout=60)))
traces.get_tracer("sender").start_span("", attributes={"device.type": "laptop"}).end()
"""
_READY = "until curl -sk {} https://localhost:{}/ --output /dev/null; do sleep 0.1; done"
_BLOCK = r"<!-- (?:run|sender) -->\n```(console|sh)\n(.*?)```"


def _typed(block: str) -> Iterator[tuple[str, str]]:
    """Each command of a block, continued lines and here-documents included, with its output."""
    command = output = ""
    for line in block.splitlines(keepends=True):
        if command.endswith("\\\n") or ("<<'END'" in command and not command.endswith("END\n")):
            command += line
        elif line.startswith("$ "):
            if command:
                yield command, output
            command, output = line.removeprefix("$ "), ""
        else:
            output += line
    yield command, output


def _script(http: str, grpc: str) -> tuple[str, str]:
    """All that is to be typed, in order, and what it prints; servers are waited for."""
    script, expected, certificate = ["set -e"], "", ""
    for language, block in re.findall(_BLOCK, _TEXT, re.DOTALL):
        if language == "sh":
            script += [block, "python3 sender.py"]
            expected += "SUCCESS\n"
            continue
        for command, output in _typed(block):
            script.append(command)
            expected += output
            if command.endswith("&\n"):
                script.append(_READY.format(certificate, http))
                certificate = "--cert sender.pem --key sender.key"
    script.append("kill %1; wait")
    return "\n".join(script).replace("4318", http).replace("4317", grpc), expected


@pytest.mark.long
def test_everything_in_order(tmp_path: Path) -> None:
    """Tokens, certificates, two sidecars one after the other, curl and an SDK: all of it typed into
    one shell. Then all that was sent is in the store."""
    for program in ("openssl", "curl", "sha256sum"):
        if shutil.which(program) is None:
            required(program)
    (tmp_path / "sender.py").write_text(_SENDER)
    script, expected = _script(str(free_port()), str(free_port()))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=_environment() | {"COLLECTOR__ADMIN__ADDRESS": "127.0.0.1:0"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace("\n", "") == expected.replace("\n", ""), "curl ends without a line"
    with started(tmp_path):  # what was not delivered at the end is now
        wait_until(lambda: len(_stored(tmp_path)) == 4)
    assert _stored(tmp_path) == [("laptop",), ("laptop",), ("phone",), ("phone",)]
    token, digest = (tmp_path / "another.token").read_text().split()
    assert hashed(token) == digest


def _stored(folder: Path) -> list[tuple[object, ...]]:
    store = folder / "collector-data" / "store.db"
    return query(store, 'SELECT "device.type" FROM conferencing ORDER BY 1')


def _environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {k: v for k, v in os.environ.items() if not k.startswith("OTEL")} | {"PATH": path}


def test_a_stranger_gets_nowhere(tmp_path: Path) -> None:
    """The document's first claim: without encryption and tokens an open address is refused."""
    done = subprocess.run(
        ["collector", "serve"],
        cwd=tmp_path,
        env=_environment() | {"COLLECTOR__GRPC__ADDRESS": f"0.0.0.0:{free_port()}"},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 78
    assert "[E210]" in done.stderr
