"""What Collector says of bad input and configurations, through the command line, the library and
the HTTP server: a code of the table, the place, and nothing of what stands there."""

from __future__ import annotations

import gzip
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from collector import Collector, Filter, Store, load_schema
from collector.codes import CODES
from collector.errors import CollectorError
from collector.ingest.auth import hashed
from tests.cli.process import COMMAND, run
from tests.deadline import WAIT_SECONDS
from tests.schema.make import HEAD, PLAIN, REST
from tests.sidecar.serving import Sidecar, started

_CANARY = "hunter2secret"
_TOKEN = "a" * 40


class Case(NamedTuple):
    """A command with a file, what it exits with, the code it says, and a pattern for its place."""

    name: str
    command: str
    text: str | bytes
    exits: int
    code: str
    place: str


def _schema(name: str, text: str | bytes, code: str, place: str) -> Case:
    """A case of a schema document."""
    return Case(name, "schema check bad.yaml", text, 78, code, rf"bad\.yaml:\d+:\d+: {place}")


def _field(name: str, options: str, code: str, option: str) -> Case:
    place = rf"fields\.os\.name{option}: "
    return _schema(name, f"{PLAIN}  os.name: {{{options}, {REST}}}\n", code, place)


def _setting(name: str, text: str, code: str, setting: str) -> Case:
    """A case of a configuration."""
    place = rf"bad\.yaml:\d+:\d+: {setting}: "
    return Case(name, "config check bad.yaml", text, 78, code, place)


_SUBJECT = "--from 2026-11-01 --to 2026-11-30"
_CASES = (
    # schemas
    _schema("a bracket is missing", f"{PLAIN}content: {{chat: [{_CANARY}", "E102", ""),
    _schema("an alias", f"{PLAIN}content: {{chat: &a [{_CANARY}], file: *a}}\n", "E102", ""),
    _schema("a tag", PLAIN.replace("A sample", f"!{_CANARY} A"), "E102", ""),
    _schema("a key twice", f"{PLAIN}title: {_CANARY}\n", "E122", "title: "),
    _schema("an unknown key", f"{PLAIN}ownr: {_CANARY}\n", "E105", "ownr: "),
    _schema("no owner", PLAIN.replace("owner: privacy\n", ""), "E106", "`owner`"),
    _schema("not UTF-8", b"title: \xff" + _CANARY.encode(), "E101", ""),
    _schema("too large", f"# {_CANARY}\n" * 30_000, "E101", ""),
    _schema("not a mapping", f"- {_CANARY}\n", "E107", ""),
    _schema("no fields", f"{HEAD}fields: {{}}\n", "E106", "fields: "),
    _schema(
        "advertising",
        PLAIN.replace("essential.service.operations", "marketing.advertising"),
        "E301",
        r"purposes\.ops\.use: ",
    ),
    _schema(
        "an unknown use",
        PLAIN.replace("essential.service.operations", _CANARY),
        "E302",
        r"purposes\.ops\.use: ",
    ),
    _schema(
        "too wide",
        PLAIN.replace("[linux]", "[a, b, c]").replace("fields:", "max_bits: 1\nfields:"),
        "E307",
        "max_bits: ",
    ),
    _schema("no content", f"{PLAIN}content: {{chat: []}}\n", "E308", r"content\.chat: "),
    _field("an unknown kind", f"kind: {_CANARY}", "E107", r"\.kind"),
    _field("an option of another kind", f"kind: boolean, values: [{_CANARY}]", "E105", r"\.values"),
    _field("a value twice", f"kind: enum, values: [{_CANARY}, {_CANARY}]", "E107", r"\.values"),
    _field("a pattern without end", f"kind: token, pattern: '{_CANARY}.*'", "E116", r"\.pattern"),
    _field("no such catalogue", f"kind: token, catalogue: {_CANARY}", "E101", r"\.catalogue"),
    _field("a key in the open", f"kind: pseudonym, key: {_CANARY}, rotate: 1d", "E202", r"\.key"),
    _field("a step", "kind: integer, minimum: 1, maximum: 9, step: 2", "E122", r"\.minimum"),
    _schema(
        "an unknown purpose",
        PLAIN.replace("purposes: [ops]", f"purposes: [{_CANARY}]"),
        "E132",
        r"fields\.os\.type\.purposes\.0: ",
    ),
    Case("no such schema", "schema check conferencin", "", 78, "E101", "conferencin"),
    Case("no such file", "schema check none.yaml", "", 78, "E101", r"none\.yaml"),
    Case(
        "a catalogue without a source",
        "schema catalogue check bad.txt",
        f"{_CANARY}\n",
        78,
        "E107",
        r"bad\.txt:1:1: ",
    ),
    # configurations
    Case("not YAML", "config check bad.yaml", f"a: [{_CANARY}", 78, "E102", r"bad\.yaml:\d"),
    Case("no file", "config check none.yaml", "", 78, "E101", r"none\.yaml"),
    _setting("no such section", f"{_CANARY}: 1\n", "E105", "…"),
    _setting("no such setting", f"http: {{adress: {_CANARY}}}\n", "E105", r"http\.adress"),
    _setting("no size", f"limits: {{body: {_CANARY}}}\n", "E107", r"limits\.body"),
    _setting("no address", f"http: {{address: {_CANARY}}}\n", "E107", r"http\.address"),
    _setting("a token in the open", f"auth: {{tokens: [{_CANARY}]}}\n", "E107", r"auth\.tokens"),
    _setting("half a pair", "tls: {certificate: bad.yaml}\n", "E106", r"tls\.certificate"),
    _setting(
        "no certificate",
        "tls: {certificate: bad.yaml, key: bad.yaml}\n",
        "E212",
        r"tls\.certificate",
    ),
    _setting("open to all", "http: {address: '0.0.0.0:1'}\n", "E210", r"http\.address"),
    _setting("nothing is kept", "sinks: {store: false}\n", "E106", r"sinks\.store\.enabled"),
    _setting("no such type", "sinks: {lake: {type: parket}}\n", "E107", r"sinks\.lake\.type"),
    _setting(
        "one file for two",
        "sinks: {a: {type: ndjson, path: c}, b: {type: ndjson, path: ./c}}\n",
        "E122",
        r"sinks\.b\.path",
    ),
    _setting(
        "no recipient",
        "sinks: {ndjson: {path: a, party: processor, purposes: [security]}}\n",
        "E106",
        r"sinks\.ndjson\.party",
    ),
    _setting(
        "a third party",
        f"sinks: {{ndjson: {{path: a, party: third, recipient: {_CANARY},"
        " purposes: [capacity_planning]}}\n",
        "E309",
        r"sinks\.ndjson\.party",
    ),
    _setting("a file above the data", "data: bad.yaml/below\n", "E203", "data"),
    # commands
    Case("no input", "filter none.ndjson", "", 2, "E101", r"none\.ndjson"),
    Case(
        "cut short",
        "filter bad.ndjson.gz",
        gzip.compress(_CANARY.encode() * 99)[:40],
        65,
        "E422",
        r"bad\.ndjson\.gz",
    ),
    Case("rejected", "filter --strict bad.json", f"[1, {_CANARY}", 65, "E403", "events"),
    Case(
        "over its input",
        "filter bad.ndjson --output bad.ndjson",
        "{}\n",
        78,
        "E122",
        "the output",
    ),
    Case("no such form", "filter bad.ndjson --output a.avro", "{}\n", 78, "E122", r"a\.avro"),
    Case("no directory", "filter bad.ndjson --output no/a.ndjson", "{}\n", 78, "E203", "no/a"),
    Case("no store", "store query --store none.db", "", 78, "E203", r"none\.db"),
    Case("no database", "store query --store bad.db", _CANARY * 99, 78, "E501", "the store"),
    Case("no SQL", f"store query --data data {_CANARY}", "", 2, "E407", "statement"),
    Case("no reading", "store query --data data DELETE~FROM~sample", "", 2, "E407", "statement"),
    Case(
        "no such field",
        f"subject export --data data --field phone={_CANARY} {_SUBJECT}",
        "",
        2,
        "E404",
        "field",
    ),
    Case(
        "no address of a person",
        f"subject export --data data --field client.address={_CANARY} {_SUBJECT}",
        "",
        2,
        "E107",
        r"client\.address",
    ),
    Case(
        "no window",
        f"subject export --data data --field client.address=::1 --from {_CANARY} --to {_CANARY}",
        "",
        2,
        "E107",
        "window",
    ),
    Case("no ledger", "ledger verify --data none", "", 78, "E203", "none"),
    Case(
        "no checkpoint",
        "ledger verify --data data --checkpoint bad.txt",
        _CANARY,
        2,
        "E422",
        r"bad\.txt",
    ),
    Case("no recording", "recording list --data none", "", 78, "E203", "none"),
    Case("no events", "schema new mine --from bad.json", _CANARY, 2, "E422", r"bad\.json"),
    Case("no such code", f"error {_CANARY}", "", 2, "E132", "error"),
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a ledger and a store."""
    path = tmp_path_factory.mktemp("demo") / "demo"
    assert run("demo", "--data", path, "--events", 20).code == 0
    return path


def check(said: str, code: str, place: str) -> None:
    """The message has a code that the table explains, and the place; it holds no value."""
    assert set(re.findall(r"\b(E[0-9]{3})\b", said)) == {code} <= set(CODES), said
    assert re.search(place, said), said
    assert _CANARY not in said


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.name)
def test_commands(case: Case, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is the documented one, and what is said is on stderr."""
    monkeypatch.chdir(tmp_path)
    for name in set(re.findall(r"bad\.[a-z.]+", case.command)):
        content = case.text if isinstance(case.text, bytes) else case.text.encode()
        (tmp_path / name).write_bytes(content)
    words = [word.replace("~", " ") for word in case.command.split()]
    done = run(*(demo if word == "data" else word for word in words))
    check(done.err.decode(), case.code, case.place)
    assert done.code == case.exits
    assert _CANARY.encode() not in done.out


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
    key = "kind: pseudonym, key: 'env:NOT_THERE', rotate: 1d"
    (tmp_path / "keyed.yaml").write_text(f"{PLAIN}  device.id: {{{key}, {REST}}}\n")
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


@pytest.mark.parametrize("name", _STARTS)
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
    key = "kind: pseudonym, key: 'env:NOT_THERE', rotate: 1d"
    path.write_text(f"{PLAIN}  device.id: {{{key}, {REST}}}\n")
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
    "no such schema of an SDK": (lambda at: Collector(schema=str(at / "a.yaml")), "E101", "schema"),
    "no choice": (
        lambda at: Collector(consent={_CANARY: False}),
        "E132",
        "consent",
    ),
}


@pytest.mark.parametrize("name", _CALLS)
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
    "another schema": (
        "/v1/records",
        b'{"schema":"hunter2secret/1.0.0"}\n',
        _LINES,
        409,
        "E429",
    ),
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
