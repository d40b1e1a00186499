"""Why a running sidecar rejects events: its reasons, in names of the schema and counts."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from collector.testing import canaries
from tests.support.command import Running, run
from tests.support.command import started as command
from tests.support.deadline import wait_until
from tests.support.ledgers import entries_of
from tests.support.processes import children
from tests.support.rows import for_each
from tests.support.sidecar import Sidecar, started

_CANARY = canaries(1)[0]
_ATTRIBUTES = [
    {"key": "os.type", "value": {"stringValue": "linux"}},
    {"key": "device.type", "value": {"stringValue": _CANARY}},
]
_LOGS = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"attributes": _ATTRIBUTES}]}]}]}


def _events(said: str) -> list[dict[str, Any]]:
    return [
        {"ip": 5, "OS": {"type": "linux"}, "chat": [said], said: {"device": said}},
        {"ip": [said], "device": {"type": said}},
        {"ip": "203.0.113.7", "os": {"type": "linux"}},
    ]


@contextmanager
def _looking(folder: Path, *options: str) -> Iterator[Running]:
    """Begin to look; go on when the sidecar does, as its ledger says."""
    data = folder / "collector-data"
    before = len(entries_of(data / "spool.db", "read"))
    with command("explain", "--live", "--data", data, *options) as running:
        wait_until(lambda: len(entries_of(data / "spool.db", "read")) > before)
        sleep(0.2)
        yield running


def _seen(folder: Path, said: str) -> tuple[bytes, bytes, bytes]:
    """Send events while it looks; return what it shows, and what ``top`` shows."""
    with started(folder, environ={"COLUMNS": "200"}) as sidecar:
        _send(sidecar, said)
        data = str(folder / "collector-data")
        top = run("top", "--once", "--data", data).out.partition(b"sink")[0]
        table = _looked(folder, sidecar, said, b"of 4 events that were looked at")
        return table, _looked(folder, sidecar, said, b'"looked_at":4', "--json"), top


def _looked(folder: Path, sidecar: Sidecar, said: str, whole: bytes, *options: str) -> bytes:
    """Look until all that was sent came in time, on however busy a machine."""
    for seconds in (2, 4, 8, 16, 32):
        with _looking(folder, "--for", f"{seconds}s", *options) as running:
            _send(sidecar, said)
            ended = running.ended()
        assert (ended.code, ended.err) == (0, b"")
        if whole in ended.out:
            break
    return ended.out


def _send(sidecar: Sidecar, said: str) -> None:
    for event in _events(said):
        assert sidecar.send(json.dumps(event).encode()).status == 200
    text, kind = json.dumps(_LOGS).replace(_CANARY, said).encode(), "application/json"
    assert sidecar.request("POST", "/v1/logs", text, {"content-type": kind}).status == 200


@pytest.mark.long
def test_twins_look_alike(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(2) as pool:
        first, other = pool.map(_seen, folders, (_CANARY, "lilac" * 30))
    assert first == other
    table, found, top = first
    assert _CANARY.encode() not in table + found + top
    facts = json.loads(found)["schemas"]["conferencing"]
    assert facts["received"] == facts["looked_at"] == 4
    assert facts["rejected"] == {"nothing_admitted": 2}
    fields = {
        name: {(each["outcome"], each["type"]): each["events"] for each in outcomes}
        for name, outcomes in facts["fields"].items()
    }
    assert fields["client.address"] == {
        ("kept", "string"): 1,
        ("wrong_type", "number"): 1,
        ("wrong_type", "array"): 1,
        ("absent", None): 1,
    }
    assert fields["os.type"][("near", None)] == 1
    assert fields["os.type"][("kept", None)] == 1
    assert fields["device.type"] == {
        ("invalid_value", "string"): 1,
        ("invalid_value", None): 1,
        ("absent", None): 2,
    }
    assert all(text in table for text in (b"client.address", b"wrong_type", b"array"))


def test_questions(tmp_path: Path) -> None:
    """A second one is refused in a sentence. One ends with whoever asks: the next one is answered,
    also without events, and the worker that still looks is trusted. If a worker ends meanwhile, the
    others answer."""
    with started(tmp_path, environ={"COLLECTOR__WORKERS": "2"}) as sidecar:
        words = ("explain", "--live", "--json", "--data", str(tmp_path / "collector-data"))
        with _looking(tmp_path, "--for", "4s") as running:
            ended = run(*words)
            assert (ended.code, b"under way" in ended.err) == (1, True)
            running.process.kill()
        answer = run(*words, "--for", "5s").json
        assert (answer["schemas"]["conferencing"]["looked_at"], answer["workers"]) == (0, 2)
        assert not any("distrusted" in line for line in sidecar.log)
        with _looking(tmp_path, "--for", "3s", "--json") as running:
            os.kill(children(sidecar.process.pid)[0], signal.SIGKILL)
            ended = running.ended()
        assert (ended.code, ended.err, ended.json["workers"]) == (0, b"", 1)


@for_each(
    ("words", "code", "said"),
    [
        (["--live", "--data", "nowhere"], 1, b"no sidecar runs"),
        (["--live", "--for", "61s"], 2, b"at most a minute"),
        (["--live", "--for", "soon"], 2, b"at most a minute"),
        (["--live", "events.json"], 2, b"leave the file out"),
    ],
)
def test_what_cannot_be_asked(words: list[str], code: int, said: bytes) -> None:
    ended = run("explain", *words)
    assert (ended.code, said in ended.err) == (code, True)
