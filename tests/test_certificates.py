"""docs/sidecar.md: the commands work as printed, and what they make lets in nobody else."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import required
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.sidecar import Sidecar, started
from tests.support.tcp import free_port

_TEXT = (Path(__file__).parent.parent / "docs" / "sidecar.md").read_text()
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
_EVENT = b'{"device": {"type": "phone"}}'


def _typed(block: str) -> Iterator[tuple[str, str]]:
    """Each command of a block, continued lines and here-documents included, with its output."""
    command = output = ""
    for line in block.splitlines(keepends=True):
        if command.endswith("\\\n") or ("<<END" in command and not command.endswith("\nEND\n")):
            command += line
        elif line.startswith("$ "):
            if command:
                yield command, output
            command, output = line.removeprefix("$ "), ""
        else:
            output += line
    yield command, output


def _script(http_port: str, grpc_port: str) -> tuple[str, str]:
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
                script.append(_READY.format(certificate, http_port))
                certificate = "--cert sender.pem --key sender.key"
    script.append("kill %1; wait")
    return "\n".join(script).replace("4318", http_port).replace("4317", grpc_port), expected


def _run(script: str, folder: Path) -> str:
    """Type commands into one shell in a folder; return what they print."""
    for program in ("openssl", "curl"):
        if shutil.which(program) is None:
            required(program)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=_environment() | {"COLLECTOR__ADMIN__ADDRESS": "127.0.0.1:0"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {k: v for k, v in os.environ.items() if not k.startswith("OTEL")} | {"PATH": path}


@pytest.mark.long
def test_everything_in_order(tmp_path: Path) -> None:
    """Authorities, certificates, a token, two sidecars one after the other, a reload, curl and an
    SDK: all of it typed into one shell. Then all that was sent is in the store."""
    (tmp_path / "sender.py").write_text(_SENDER)
    script, expected = _script(str(free_port()), str(free_port()))
    printed = _run(script, tmp_path)
    assert printed.replace("\n", "") == expected.replace("\n", ""), "curl ends without a line"
    with started(tmp_path):  # it delivers what was not delivered at the end
        wait_until(lambda: len(_stored(tmp_path)) == 4)
    assert _stored(tmp_path) == [("laptop",), ("laptop",), ("phone",), ("phone",)]


def _stored(folder: Path) -> list[tuple[object, ...]]:
    store = folder / "collector-data" / "store.db"
    return query(store, 'SELECT "device.type" FROM conferencing ORDER BY 1')


def _made(folder: Path) -> Path:
    """A folder with what the page makes before the sidecar starts."""
    before = "\n".join(
        command
        for block in re.findall(r"<!-- run -->\n```console\n(.*?)```", _TEXT, re.DOTALL)
        for command, _ in _typed(block)
    ).partition("collector config check")[0]
    folder.mkdir()
    _run(f"set -e\n{before}", folder)
    return folder


def _sent(sidecar: Sidecar, folder: Path, token: str, host: str) -> int:
    context = ssl.create_default_context(cafile=str(folder / "authority.pem"))
    port = sidecar.ports["http"]
    connection = http.client.HTTPSConnection(host, port, timeout=WAIT_SECONDS, context=context)
    try:
        head = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        connection.request("POST", "/v1/events", _EVENT, head)
        return connection.getresponse().status
    finally:
        connection.close()


def test_what_it_makes_lets_in_nobody_else(tmp_path: Path) -> None:
    """A sender needs the token. The certificate holds for each of its names and no other, and only
    for those who trust its authority. All files are their owner's alone."""
    ours, others = _made(tmp_path / "ours"), _made(tmp_path / "others")
    assert {stat.S_IMODE(path.stat().st_mode) for path in ours.iterdir()} == {0o600}
    token = (ours / "token").read_text().strip()
    environ = {f"COLLECTOR__{name}__ADDRESS": "0.0.0.0:0" for name in ("HTTP", "GRPC")}
    with started(ours, "--config", "collector.yaml", environ=environ) as sidecar:
        assert _sent(sidecar, ours, token, "localhost") == 200
        assert _sent(sidecar, ours, token, "127.0.0.1") == 200
        assert _sent(sidecar, ours, (others / "token").read_text().strip(), "localhost") == 401
        for folder, host in ((others, "localhost"), (ours, "127.0.0.2")):
            with pytest.raises(ssl.SSLCertVerificationError):
                _sent(sidecar, folder, token, host)
