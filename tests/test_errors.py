"""Error codes: one table, one document, one tree of exceptions."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from pathlib import Path

import pytest

from collector.codes import GROUPS
from collector.config.loading import examine
from collector.contracts import Earlier, KeyUsed, Tally
from collector.errors import (
    CODES,
    CollectorError,
    ConfigError,
    ConfigFaults,
    DeliveryError,
    Fault,
    InputError,
    MessageError,
    NoTurn,
    Overloaded,
    RecheckError,
    SandboxError,
    SchemaError,
    SpoolFull,
    Unacceptable,
    Unreachable,
    UnreadableBatch,
    UnreadableFile,
    UsageError,
)
from collector.routing import all_flows
from collector.schema import load_schema
from collector.schema.load import parse
from tests.schema.faulty import TABLE
from tests.support.make_schemas import PLAIN, marked
from tests.support.rows import for_each

_ROOT = Path(__file__).parent.parent
_FAULTS = (
    Fault("a.yaml", 3, 5, "fields.x.kind", "no such kind", "E107"),
    Fault("b.yaml", 1, 1, "", "the file is not found", "E101"),
    Fault("environment", 0, 0, "log.level", "no such word", "E107"),
)
_ERRORS = [
    ConfigError("E202", "no key"),
    InputError("E101", "no input"),
    KeyUsed(Earlier(Tally(3, 2), is_same=False)),
    DeliveryError("E503", "no room"),
    DeliveryError("E503", "no room", "full"),
    SchemaError(_FAULTS),
    ConfigFaults(_FAULTS),
    MessageError("foreign"),
    RecheckError("no record"),
    SandboxError("E217", "no seccomp"),
    Unacceptable(b"id"),
    NoTurn("busy"),
    Overloaded("busy"),
    SpoolFull(),
    UnreadableBatch(),
    UnreadableFile(2),
    UsageError("E407", "no statement"),
    Unreachable("no answer"),
    Unreachable("no password", "denied"),
]

_NO_SCHEMAS = ("E309", "E504")
"""Codes whose example is part of a configuration, or needs a sink."""
_DOCUMENTS = [code for code in CODES if CODES[code].language == "yaml" and code not in _NO_SCHEMAS]


def _inserted(example: str) -> str:
    """A whole document with the example in its place: among the fields, or instead of a key."""
    if example.startswith("  "):
        return PLAIN + example
    text = PLAIN
    for key in re.findall(r"^(\w+):", example, re.MULTILINE):
        text = re.sub(rf"^{key}:.*\n(?:  .*\n)*", "", text, flags=re.MULTILINE)
    return text + example


@for_each("code", _DOCUMENTS)
def test_each_example_gives_its_code(code: str, tmp_path: Path) -> None:
    """What the table calls a fault is that fault, and no other; the other example has none."""
    path = tmp_path / "example.yaml"
    path.write_text(_inserted(CODES[code].bad))
    assert {fault.code for fault in parse(path)[1]} == {code}
    path.write_text(_inserted(CODES[code].good))
    assert not parse(path)[1]


def test_the_example_of_a_third_party(tmp_path: Path) -> None:
    """It is a sink of a configuration."""
    path, found = tmp_path / "collector.yaml", list[set[str]]()
    for example in (CODES["E309"].bad, CODES["E309"].good):
        path.write_text(example)
        config = examine(path).config
        schemas = [load_schema("conferencing")]
        try:
            all_flows(config, schemas)
        except ConfigFaults as error:
            found.append({fault.code for fault in error.faults})
    assert found == [{"E309"}]


def test_every_code_of_documents_is_really_given() -> None:
    """Each code of documents and policy comes out of the table of faulty documents, but that of a
    third party."""
    given = {fault.code for document in TABLE.values() for fault in marked(document)[1]}
    assert {code for code in CODES if code[1] in "13"} - given == {"E309"}


def test_a_name_that_is_none() -> None:
    """A reference that is neither a path nor a shipped name is E101."""
    schema, faults = parse("no-such-schema")
    assert schema is None
    assert [(fault.code, fault.is_absent) for fault in faults] == [("E101", True)]


@pytest.mark.long
def test_every_code_in_the_sources_is_in_the_table() -> None:
    """No module makes up a code, and no code is without a module that gives it."""
    used = {error.code for error in _ERRORS}
    for path in (_ROOT / "collector").rglob("*.py"):
        text = path.read_text("utf-8")
        if path.name != "errors.py" and re.search(r"E[1-5]\d\d", text):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    used |= set(re.findall(r"^E[1-5]\d\d$", node.value))
    assert used == set(CODES)


def test_codes_are_well_formed() -> None:
    """A code is E and three digits, in order, of a group; each title is its own."""
    assert list(CODES) == sorted(CODES)
    assert {code[:2] for code in CODES} == set(GROUPS)
    assert all(re.fullmatch("E[1-5][0-9]{2}", code) for code in CODES)
    assert len({entry.title for entry in CODES.values()}) == len(CODES)


@for_each("error", _ERRORS)
def test_errors_can_be_sent_to_other_processes(error: CollectorError) -> None:
    """An exception that is pickled or copied keeps its type, code, text and faults."""
    copies = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(2, 6)]
    for other in (*copies, copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert (other.code, other.message, str(other)) == (error.code, error.message, str(error))
        assert getattr(other, "faults", None) == getattr(error, "faults", None)
        assert getattr(other, "cause", None) == getattr(error, "cause", None)


@for_each("error", _ERRORS)
def test_errors_say_their_code(error: CollectorError) -> None:
    """``str()`` of an error has its code in brackets; all are of one tree."""
    assert isinstance(error, CollectorError)
    assert error.code in CODES
    assert f"[{error.code}]" in str(error)
    assert error.message in str(error)


@for_each("kind", [SchemaError, ConfigFaults])
def test_an_error_has_a_line_for_each_fault(kind: type[SchemaError | ConfigFaults]) -> None:
    """File, line, column, field, message and code, as editors understand them; what comes from the
    environment has no line."""
    error = kind(iter(_FAULTS))
    assert error.faults == _FAULTS
    assert (error.code, error.message) == ("E107", "no such kind")
    assert str(error).splitlines() == [
        "a.yaml:3:5: fields.x.kind: no such kind [E107]",
        "b.yaml:1:1: the file is not found [E101]",
        "environment: log.level: no such word [E107]",
    ]
