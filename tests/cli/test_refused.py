"""Configurations that are refused for what is around them: by ``collector config check``, under the
code, at the setting to blame, without a word of what was written there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from collector.errors import CODES
from tests.cli.bad_inputs import table
from tests.support.certificates import Authority
from tests.support.command import run
from tests.support.make_schemas import PLAIN

_ROOT = Path(__file__).parents[2] / "collector"
_SECRET = "hunter2secret"
_TOKENS = f"auth: {{tokens: [{'ab' * 32}]}}\n"
_PAIR = "tls: {certificate: good.pem, key: good.key}\n"
_THIRD = f"party: third, recipient: {_SECRET}, purposes: [security]"


class Refused(NamedTuple):
    """A configuration, and the one fault that it has. Files beside it are those of ``folder``."""

    code: str
    setting: str
    text: str


_TABLE = (
    # settings together
    Refused("E210", "grpc.address", "grpc: {address: 0.0.0.0:0}\n" + _PAIR),
    Refused("E106", "tls.certificate", "tls: {certificate: good.pem}"),
    Refused("E106", "tls.client_ca", "tls: {client_ca: good.pem}"),
    # settings and the schema
    Refused("E101", "schema", "schema: ./none.yaml"),
    Refused("E202", "schema", "schema: ./keyed.yaml"),
    Refused("E301", "purposes.ops.use", "schema: ./sold.yaml"),
    Refused(
        "E122", "sinks.store.purposes", "schema: ./two.yaml\nsinks: {store: {purposes: [law]}}"
    ),
    # settings and their surroundings
    Refused("E203", "data", "data: file/below"),
    Refused("E203", "sinks.ndjson.path", "sinks: {ndjson: {path: file/out.ndjson}}"),
    Refused("E207", "http.address", "http: {address: '192.0.2.1:1'}\n" + _TOKENS + _PAIR),
    Refused("E212", "tls.certificate", "tls: {certificate: file, key: good.key}"),
    Refused("E212", "tls.certificate", "tls: {certificate: good.pem, key: other.key}"),
    Refused("E212", "tls.certificate", _PAIR.replace("}", ", client_ca: file}")),
)

_KEYED = """\
  device.id: {kind: pseudonym, key: 'env:NOT_THERE', rotate: 1d, category: user.device,
    purposes: [ops], retention: 1d, reason: For a test}
"""
_SOLD = PLAIN.replace("essential.service.operations", "third_party_sharing")
_LAW = "  law: {use: essential.legal_obligation, basis: contract, reason: A law demands it}\n"
_TWO = PLAIN.replace("fields:", f"{_LAW}fields:")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates, schemas, and a file that is nothing."""
    folder = tmp_path_factory.mktemp("refused")
    authority = Authority(folder)
    authority.issue("good")
    authority.issue("other")
    (folder / "file").write_text(_SECRET)
    for name, text in (("keyed", PLAIN + _KEYED), ("sold", _SOLD), ("two", _TWO)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("refused", _TABLE, ids=lambda one: f"{one.code}-{one.setting}")
def test_each_is_refused(refused: Refused, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "collector.yaml").write_text(refused.text)
    done = run("config", "check", "--config", "collector.yaml", "--json")
    faults = done.json["faults"]
    assert [(fault["code"], fault["field"]) for fault in faults] == [
        (refused.code, refused.setting)
    ]
    assert (done.code, done.err) == (78, b"")
    assert _SECRET.encode() not in done.out


_ROOMS = (
    *("config/*.py", "routing/__init__.py", "server/preflight.py", "keyring.py"),
    *("ingest/auth.py", "ingest/limits.py", "ingest/tls.py"),
)
"""What settings are read and tried by. Schemas have a table of their own."""
_NEVER = {"E201", "E217", "E221"}
"""An installed package, the kernel and a running sidecar are to blame for them, see
``tests/sinks/test_types.py``, ``tests/sidecar/test_workers.py`` and ``test_reload.py``."""


def test_every_code_is_in_the_table() -> None:
    """The codes are those with which a configuration can be refused; ``bad_inputs`` has the
    others."""
    used = {
        node.value
        for room in _ROOMS
        for path in _ROOT.glob(room)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and re.fullmatch("E[1-3][0-9]{2}", str(node.value))
    }
    given = {refused.code for refused in _TABLE}
    given |= {code for entry in table() for code in re.findall(r"\[(E[0-9]{3})\]", entry.says)}
    assert used - given == _NEVER
    assert given <= set(CODES)
