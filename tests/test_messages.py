"""What Collector says of a bad environment, of calls and requests: a code of the table, the place,
and nothing of what stands there. ``tests/cli/test_bad_inputs.py`` is about commands."""

from __future__ import annotations

import gzip
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from collector import Collector, Filter, Store, load_schema
from collector.codes import CODES
from collector.errors import CollectorError
from collector.ingest.auth import hashed
from tests.support.command import COMMAND, run
from tests.support.deadline import WAIT_SECONDS
from tests.support.make_schemas import PSEUDONYM
from tests.support.rows import for_each
from tests.support.sidecar import Sidecar, started

_CANARY = "hunter2secret"
_TOKEN = "a" * 40


def check(said: str, code: str, place: str) -> None:
    """The message has a code that the table explains, and the place; it holds no value."""
    assert set(re.findall(r"\b(E[0-9]{3})\b", said)) == {code} <= set(CODES), said
    assert re.search(place, said), said
    assert _CANARY not in said


_ENVIRONMENTS = {
    "no such variable": ({"COLLECTOR__HTTP__ADRESS": _CANARY}, "E105", "COLLECTOR__HTTP__ADRESS"),
    "no such level": ({"COLLECTOR__LOG__LEVEL": _CANARY}, "E107", r"log\.level"),
    "no such secret": ({"COLLECTOR__SCHEMA": "keyed.yaml"}, "E202", "schema"),
}


@pytest.mark.parametrize(("variables", "code", "place"), _ENVIRONMENTS.values(), ids=_ENVIRONMENTS)
def test_environments(
    variables: Mapping[str, str],
    code: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is in the environment is named by its variable or its setting."""
    monkeypatch.chdir(tmp_path)
    _keyed(tmp_path)
    done = run("config", "check", env=variables)
    check(done.err.decode(), code, place)
    assert done.code == 78


_LACKING = """
import sys
sys.modules["httptools"] = None
sys.argv = ["collector", "serve"]
from collector.cli import main
main()
"""
_STARTS: dict[str, tuple[list[str], int, str, str]] = {
    "the port is taken": (COMMAND, 75, "E207", r"http\.address"),
    "a package is missing": ([sys.executable, "-c", _LACKING], 78, "E201", "pip install"),
}


@for_each("name", _STARTS)
def test_starts(name: str, tmp_path: Path) -> None:
    """A sidecar that cannot start says why."""
    command, exits, code, place = _STARTS[name]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        off = {f"COLLECTOR__{name}__ADDRESS": "off" for name in ("GRPC", "ADMIN")}
        environ = os.environ | {"COLLECTOR__HTTP__ADDRESS": address} | off
        words = [*command, "serve"] if command is COMMAND else command
        done = subprocess.run(
            words, cwd=tmp_path, env=environ, capture_output=True, timeout=WAIT_SECONDS, check=False
        )
    check(done.stderr.decode(), code, place)
    assert done.returncode == exits


def _garbage(folder: Path) -> Path:
    path = folder / "bad.db"
    path.write_text(_CANARY * 99)
    return path


def _keyed(folder: Path) -> Path:
    path = folder / "keyed.yaml"
    path.write_text(PSEUDONYM.format(key="env:NOT_THERE"))
    return path


_CALLS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no such schema": (lambda _: load_schema("conferencin"), "E101", "conferencin"),
    "a schema that is a text": (lambda at: load_schema(_garbage(at)), "E107", r"bad\.db"),
    "no keyring": (lambda at: Filter(load_schema(_keyed(at))), "E202", "Keyring"),
    "no such purpose": (
        lambda _: Filter(load_schema("conferencing"), purposes=[_CANARY]),
        "E132",
        "purpose",
    ),
    "no store": (lambda at: Store(_garbage(at), load_schema("conferencing")), "E501", "store"),
    "no such place": (lambda _: Collector(to=f"ftp://{_CANARY}"), "E107", "to"),
    "no such schema of an SDK": (lambda at: Collector(schema=str(at / "a.yaml")), "E101", "a.yaml"),
    "no choice": (lambda _: Collector(consent={_CANARY: False}), "E132", "consent"),
}


@for_each("name", _CALLS)
def test_calls(name: str, tmp_path: Path) -> None:
    """What the library raises is one of its own exceptions."""
    call, code, place = _CALLS[name]
    with pytest.raises(CollectorError) as caught:
        call(tmp_path)
    check(str(caught.value), code, place)


_JSON = {"content-type": "application/json"}
_LINES = {"content-type": "application/x-ndjson"}
_SAID = f'{{"a":"{_CANARY}"}}'.encode()
_REQUESTS: dict[str, tuple[str, bytes, dict[str, str], int, str]] = {
    "no JSON": ("/v1/events", _SAID[:-1], _JSON, 400, "E422"),
    "no OTLP": ("/v1/logs", _SAID[:-1], _JSON, 400, "E422"),
    "damaged": ("/v1/events", _SAID, _JSON | {"content-encoding": "gzip"}, 400, "E422"),
    "too large": ("/v1/events", _SAID * 400_000, _JSON, 413, "E416"),
    "too many": ("/v1/events", b"{}\n" * 200_000, _LINES, 413, "E416"),
    "inflated": (
        "/v1/events",
        gzip.compress(b" " * 9_000_000),
        _JSON | {"content-encoding": "gzip"},
        413,
        "E416",
    ),
    "no such type": ("/v1/events", _SAID, {"content-type": _CANARY}, 415, "E410"),
    "no such encoding": ("/v1/events", _SAID, _JSON | {"content-encoding": _CANARY}, 415, "E410"),
    "no such path": (f"/{_CANARY}", _SAID, _JSON, 404, "E413"),
    "no such schema": (f"/v1/events?schema={_CANARY}", _SAID, _JSON, 404, "E413"),
    "no token": ("/v1/events", _SAID, _JSON | {"authorization": f"Bearer {_CANARY}"}, 401, "E411"),
    "no such host": ("/v1/events", _SAID, _JSON | {"host": _CANARY}, 421, "E412"),
    "no such origin": ("/v1/events", _SAID, _JSON | {"origin": f"https://{_CANARY}"}, 403, "E412"),
    "no key": ("/v1/records", _SAID, _LINES | {"idempotency-key": _CANARY}, 400, "E410"),
    "another schema": ("/v1/records", b'{"schema":"hunter2secret/1.0.0"}\n', _LINES, 409, "E429"),
}


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar that wants a token."""
    environ = {"COLLECTOR__AUTH__TOKENS": hashed(_TOKEN), "COLLECTOR__LOG__LEVEL": "debug"}
    with started(tmp_path_factory.mktemp("sidecar"), environ=environ) as sidecar:
        yield sidecar


@pytest.mark.parametrize("name", _REQUESTS)
def test_requests(name: str, sidecar: Sidecar) -> None:
    """The status is the documented one; the answer has the code and a sentence."""
    path, body, headers, status, code = _REQUESTS[name]
    answer = sidecar.request("POST", path, body, {"authorization": f"Bearer {_TOKEN}"} | headers)
    assert (answer.status, answer.json["error"]["code"]) == (status, code)
    check(answer.body.decode(), code, ".")
    assert _CANARY not in "".join(sidecar.log)
