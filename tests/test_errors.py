"""Error codes: one table, one document, one tree of exceptions."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from pathlib import Path

import pytest

from collector import errors
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
    RecheckError,
    SandboxError,
    SchemaError,
    Unacceptable,
    Unreachable,
    UnreadableFile,
)
from collector.schema.load import parse
from tests.schema.faulty import TABLE
from tests.schema.make import PLAIN, marked

_ROOT = Path(__file__).parent.parent
_TEXT = (_ROOT / "docs" / "errors.md").read_text("utf-8")
_SECTIONS = {
    code: (title, body)
    for code, title, body in re.findall(
        r"^### (E\d{3}) (.*?)\n(.*?)(?=^##|\Z)", _TEXT, re.MULTILINE | re.DOTALL
    )
}
_FIRST, _SECOND = (
    Fault("a.yaml", 3, 5, "fields.x.kind", "no such kind", "E107"),
    Fault("b.yaml", 1, 1, "", "the file is not found", "E101"),
)
_THIRD, _FOURTH = (
    Fault("collector.yaml", 2, 3, "http.address", "no such place", "E107"),
    Fault("environment", 0, 0, "log.level", "no such word", "E107"),
)
_ERRORS = [
    ConfigError("E202", "no key"),
    InputError("E101", "no input"),
    KeyUsed(Earlier(Tally(3, 2), is_same=False)),
    DeliveryError("E503", "no room"),
    DeliveryError("E503", "no room", "full"),
    SchemaError([_FIRST, _SECOND]),
    ConfigFaults([_THIRD, _FOURTH]),
    MessageError("foreign"),
    RecheckError("no record"),
    SandboxError("E217", "no seccomp"),
    Unacceptable(b"id"),
    UnreadableFile(2),
    Unreachable("no answer"),
    Unreachable("no password", "denied"),
]

_ELSEWHERE = {
    "E101": "a name that is no document; see `test_a_name_that_is_none`",
    "E309": "a sink of the configuration; see `tests/routing/test_flows.py`",
}
"""Codes of schemas and policy that no document can give, with the reason."""


def test_the_document_and_the_table_agree() -> None:
    """Each code has one section under its title, in the order of the table, and no other has."""
    assert [(code, title) for code, (title, _) in _SECTIONS.items()] == list(CODES.items())
    assert len(re.findall(r"^### ", _TEXT, re.MULTILINE)) == len(CODES)
    for group in "12345":
        part = _TEXT.partition(f"\n## E{group}xx: ")[2].partition("\n## ")[0]
        codes = re.findall(r"^### (E\d{3}) ", part, re.MULTILINE)
        assert codes == [code for code in CODES if code[1] == group]


@pytest.mark.parametrize("code", CODES)
def test_each_section_says_what_it_means_and_how_to_mend_it(code: str) -> None:
    """Text, an example, and what to do."""
    meaning, mend = re.split(r"```\w+\n.+?\n```", _SECTIONS[code][1], flags=re.DOTALL)
    assert re.fullmatch(r"\s*\S.{15,}\.\s*", meaning, re.DOTALL)
    assert re.fullmatch(r"\s*Mend: .{15,}\s*", mend, re.DOTALL)


_EXAMPLES = {
    code: re.findall(r"```yaml\n(.*?)```", body, re.DOTALL) for code, (_, body) in _SECTIONS.items()
}


def _inserted(example: str) -> str:
    """A whole document with the example in its place: among the fields, or instead of a key."""
    if example.startswith("  "):
        return PLAIN + example
    text = PLAIN
    for key in re.findall(r"^(\w+):", example, re.MULTILINE):
        text = re.sub(rf"^{key}:.*\n(?:  .*\n)*", "", text, flags=re.MULTILINE)
    return text + example


@pytest.mark.parametrize("code", [code for code in CODES if _EXAMPLES[code]])
def test_each_example_gives_its_code(code: str, tmp_path: Path) -> None:
    """What the document calls a fault is that fault, and no other."""
    (example,) = _EXAMPLES[code]
    path = tmp_path / "example.yaml"
    path.write_text(_inserted(example))
    assert {fault.code for fault in parse(path)[1]} == {code}


def test_almost_every_code_of_documents_has_an_example() -> None:
    """Only what is no document, or is beside it, has an example of another form."""
    without = [code for code in CODES if code[1] in "13" and not _EXAMPLES[code]]
    assert without == ["E101", "E107", "E101", "E309"]


def test_every_code_of_documents_is_really_given() -> None:
    """Each E1xx and E3xx comes out of the table of faulty documents, or is listed with a reason."""
    given = {fault.code for document in TABLE.values() for fault in marked(document)[1]}
    wanted = {code for code in CODES if code[1] in "13"}
    assert given | set(_ELSEWHERE) == wanted
    assert not given & set(_ELSEWHERE)


def test_a_name_that_is_none() -> None:
    """A reference that is neither a path nor a shipped name is E101."""
    schema, faults = parse("no-such-schema")
    assert schema is None
    assert [fault.code for fault in faults] == ["E101"]


@pytest.mark.long
def test_every_code_in_the_sources_is_in_the_table() -> None:
    """No module makes up a code, and no code is without a module that gives it."""
    used = {Unacceptable(b"").code, RecheckError("").code, Unreachable("").code}
    used |= {MessageError("foreign").code, UnreadableFile().code}
    for path in (_ROOT / "collector").rglob("*.py"):
        text = path.read_text("utf-8")
        if path.name != "errors.py" and re.search(r"E[1-5]\d\d", text):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    used |= set(re.findall(r"^E[1-5]\d\d$", node.value))
    assert used == set(CODES)


def test_codes_are_well_formed() -> None:
    """A code is E and three digits, in order; its title is a short sentence of its own."""
    assert list(CODES) == sorted(CODES)
    assert all(re.fullmatch("E[1-5][0-9]{2}", code) for code in CODES)
    assert len(set(CODES.values())) == len(CODES)
    assert all(10 < len(title) < 80 and title.isprintable() for title in CODES.values())


@pytest.mark.parametrize("error", _ERRORS, ids=lambda error: type(error).__name__)
def test_errors_can_be_sent_to_other_processes(error: CollectorError) -> None:
    """An exception that is pickled or copied keeps its type, code, text and faults."""
    copies = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(2, 6)]
    for other in (*copies, copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert (other.code, other.message, str(other)) == (error.code, error.message, str(error))
        assert getattr(other, "faults", None) == getattr(error, "faults", None)
        assert getattr(other, "cause", None) == getattr(error, "cause", None)


@pytest.mark.parametrize("error", _ERRORS, ids=lambda error: type(error).__name__)
def test_errors_say_their_code(error: CollectorError) -> None:
    """``str()`` of an error has its code in brackets; all are of one tree."""
    assert isinstance(error, CollectorError)
    assert error.code in CODES
    assert f"[{error.code}]" in str(error)
    assert error.message in str(error)


def test_a_schema_error_has_a_line_for_each_fault() -> None:
    """File, line, column, field, message and code, as editors understand them."""
    error = SchemaError(iter([_FIRST, _SECOND]))
    assert error.faults == (_FIRST, _SECOND)
    assert (error.code, error.message) == ("E107", "no such kind")
    assert str(error).splitlines() == [
        "a.yaml:3:5: fields.x.kind: no such kind [E107]",
        "b.yaml:1:1: the file is not found [E101]",
    ]


def test_a_configuration_error_has_a_line_for_each_fault() -> None:
    """The same for settings; what comes from the environment has no line."""
    error = ConfigFaults(iter([_THIRD, _FOURTH]))
    assert (error.code, error.message) == ("E107", "no such place")
    assert str(error).splitlines() == [
        "collector.yaml:2:3: http.address: no such place [E107]",
        "environment: log.level: no such word [E107]",
    ]


def test_names() -> None:
    """``__all__`` is the whole of the module."""
    assert errors.__all__ == [
        "CAUSES",
        "CODES",
        "Cause",
        "CollectorError",
        "ConfigError",
        "ConfigFaults",
        "DeliveryError",
        "Fault",
        "InUse",
        "InputError",
        "NotNow",
        "RecheckError",
        "SandboxError",
        "SchemaError",
        "Unacceptable",
        "cause_of_status",
        "file_name",
        "is_answer",
    ]
