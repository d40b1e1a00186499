"""``collector dev``, whole: events and records, faults of a schema, and no trace at the end."""

from __future__ import annotations

import http.client
import os
import signal
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from itertools import product
from pathlib import Path
from shlex import split
from shutil import copy
from socket import create_server
from time import monotonic, sleep
from typing import Any
from unittest.mock import patch

import orjson
import pytest

from collector.dev.playground import answer
from collector.filter import Filter
from collector.schema import load_schema, resources
from collector.testing import canaries, scan
from tests.support.command import Running, run, started
from tests.support.deadline import WAIT_SECONDS, eventually
from tests.support.make_schemas import wide
from tests.support.rows import for_each
from tests.support.tcp import free_port, is_refused

_CANARY = canaries(1)[0]


def _state(port: int) -> dict[str, Any]:
    return _answer(port, "GET", "/state.json", b"")


def _answer(port: int, method: str, path: str, body: bytes) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    connection.request(method, path, body, {"Content-Type": "text/plain;charset=UTF-8"})
    found: dict[str, Any] = orjson.loads(connection.getresponse().read())
    connection.close()
    return found


@contextmanager
def developing(
    folder: Path, *options: str, schema: Path | None = None
) -> Iterator[tuple[Running, int, Path]]:
    """Run the command with a schema, or a copy of one; yield what runs, the page's port and the
    file."""
    if schema is None:
        schema = folder / "own.yaml"
        copy(resources.shipped() / "conferencing.yaml", schema)
    port = free_port()
    (folder / "tmp").mkdir()
    words = ("dev", schema, "--port", port, *options)
    with (
        chdir(folder),
        patch.dict(os.environ, {"TMPDIR": str(folder / "tmp")}),
        started(*words) as running,
    ):
        assert eventually(lambda: not is_refused(port + 2))
        yield running, port + 2, schema


def test_it_plays(tmp_path: Path) -> None:
    """Meetings are filtered, the schema is loaded again when it changes, and a pasted text is
    nowhere: not in a file, not on the terminal. Nothing is left in the end."""
    with developing(tmp_path) as (running, port, schema):
        assert eventually(lambda: _state(port)["now"] is not None)
        assert eventually(lambda: _state(port)["latest"] is not None)
        (event,) = _state(port)["latest"]["found"]["events"]
        assert event["verdict"] == "admitted"
        pasted = orjson.dumps({"os.type": _CANARY, _CANARY: 1, "chat": _CANARY})
        found = _answer(port, "POST", "/try?json", pasted)
        assert found["tally"]["dropped"] == {"os.type": {"invalid_value": 1}}
        assert not scan(tmp_path / "tmp", [_CANARY])
        good = schema.read_text()
        schema.write_text(good.replace("  os.type:", "  os.typ e:"))
        assert eventually(lambda: bool(_state(port)["faults"]))
        assert "own.yaml:" in _state(port)["faults"][0]
        schema.write_text(good.replace("version: 1.0.0", "version: 1.0.1"))
        assert eventually(lambda: _state(port)["schema"].endswith("/1.0.1"))
        assert _state(port)["faults"] == []
        running.process.send_signal(signal.SIGINT)
        ended = running.ended()
    assert (ended.code, ended.err) == (0, b"")
    assert b"--json" in ended.out
    assert ended.out.index(b"own.yaml:") < ended.out.index(b"conferencing/1.0.1 is in force\n")
    assert _CANARY.encode() not in ended.out
    assert [*(tmp_path / "tmp").iterdir()] == []
    assert is_refused(port - 2)


@pytest.mark.long
def test_nothing_is_left_after_sigterm(tmp_path: Path) -> None:
    with developing(tmp_path) as (running, port, _):
        _end_impatiently(running, signal.SIGTERM, port, tmp_path)


def _end_impatiently(running: Running, number: int, port: int, folder: Path) -> None:
    """End by a signal, with many others after it: nothing is left."""
    running.process.send_signal(number)
    for _ in range(20):
        sleep(0.05)
        running.process.send_signal(signal.SIGINT)
    ended = running.ended()
    assert (ended.code, ended.err) == (0, b"")
    assert _CANARY.encode() not in ended.out
    assert [*(folder / "tmp").iterdir()] == []
    assert is_refused(port - 2), "the sidecar ends with the command"


def test_a_schema_of_many_fields(tmp_path: Path) -> None:
    """Many events of it have an answer in the playground."""
    schema = tmp_path / "wide.yaml"
    schema.write_text(wide(range(600), "it's"))
    found = answer(Filter(load_schema(schema)), "json", orjson.dumps([{"n1": {"v": "it's"}}] * 60))
    assert [len(event["fields"]) for event in found["events"]] == [1] * 50
    assert len(orjson.dumps(found)) < 1 << 20


_CHILDREN = Path("/proc/self/task").exists()


def _processor_seconds(pid: int) -> float:
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, numbers)) / os.sysconf("SC_CLK_TCK")


def test_hostile_texts_and_many_viewers(tmp_path: Path) -> None:
    """What is too large, too deep, no UTF-8 or markup gets a reason, and leaves no trace. What a
    schema allows is quoted as a shell reads it. A terminal that closes ends everything."""
    canary = _CANARY.encode()
    texts = {
        b"[" * 1_200 + canary + b"]" * 1_200: b"too_deep",
        b'"\xff' + canary: b"malformed",
        b"<script>%b</script>" % canary: b"malformed",
        canary * ((16 << 20) // len(canary)): b"1,048,576 bytes at most",
    }
    schema = tmp_path / "wide.yaml"
    schema.write_text(wide([1], "it's"))
    with developing(tmp_path, "--no-feed", schema=schema) as (running, port, _):
        words = split(_state(port)["curl"])
        assert orjson.loads(words[-1]) == {"n1": {"v": "it's"}}
        for form, (text, reason) in product(("json", "ndjson", "logs"), texts.items()):
            found = orjson.dumps(_answer(port, "POST", f"/try?{form}", text))
            assert reason in found or (form == "logs" and b"malformed" in found)
            assert canary not in found
        assert not scan(tmp_path / "tmp", [_CANARY])
        if _CHILDREN:
            _view_often(running.process.pid, port)
        _end_impatiently(running, signal.SIGHUP, port, tmp_path)


def _view_often(pid: int, port: int) -> None:
    """Ten viewers ask once a second for what the page shows. What they ask in twenty seconds costs
    the keeper less than 1 % of these."""
    assert eventually(lambda: _state(port)["now"] is not None)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    keeper = next(
        int(one) for one in children if b"serve" in Path(f"/proc/{one}/cmdline").read_bytes()
    )
    began, before = monotonic(), _processor_seconds(keeper)
    for _ in range(200):
        assert _state(port)["faults"] == []
    viewed, seconds = _processor_seconds(keeper) - before, monotonic() - began
    before = _processor_seconds(keeper)
    sleep(seconds)
    alone = _processor_seconds(keeper) - before
    assert viewed - alone < 0.01 * 20


@for_each("which", [0, 1, 2])
def test_a_port_in_use(which: int) -> None:
    """It is named in one sentence with what to do, and nothing is started."""
    with create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        ended = run("dev", "--port", str(number - which))
    assert ended.code == 78
    in_use = range(number - which, number + 1)  # something else may listen next to it
    said = {f"port {each} is in use; choose others with `--port` [E207]\n" for each in in_use}
    assert ended.err.decode() in said
