"""Documents of every kind: all faults at once, at their line and column, and no value in any."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from collector import config
from collector.claims import document as claims
from collector.claims.document import load_claims
from collector.config import Config, jsonschema
from collector.config.model import settings
from collector.documents import Document, nearest, read, read_text
from collector.errors import CODES, ConfigFaults, Fault, SchemaError
from collector.schema import resources
from collector.schema.load import parse
from collector.schema.review import read_copy
from collector.sdk import settings as sdk
from tests.support.make_schemas import HEAD, PLAIN, marked
from tests.support.rows import for_each

_ROOT = Path(__file__).parent.parent
_SECRET = "hunter2secret"

# -- one table of bad documents -------------------------------------------------------------------


def _schema(text: str) -> Sequence[Fault]:
    return _of_file(text, lambda path: parse(path)[1])


def _configuration(text: str) -> Sequence[Fault]:
    return _of_file(text, lambda path: config.examine(path, {}).faults)


def _claims(text: str) -> Sequence[Fault]:
    def faults(path: Path) -> Sequence[Fault]:
        try:
            load_claims(path, is_own=True)
        except SchemaError as error:
            return error.faults
        return ()

    return _of_file(text, faults)


def _review(text: str) -> Sequence[Fault]:
    return _of_file(text, lambda path: read_copy(path).faults)


def _sdk_environment(text: str) -> Sequence[Fault]:
    return _sdk({}, dict([text.split("=", 1)]))


def _argument(text: str) -> Sequence[Fault]:
    return _sdk(dict([text.split("=", 1)]), {})


def _sdk(arguments: dict[str, str], environ: dict[str, str]) -> Sequence[Fault]:
    with patch.dict(os.environ, environ, clear=True):
        try:
            sdk.read(arguments)
        except ConfigFaults as error:
            return error.faults
    return ()


def _of_file(text: str, faults: Callable[[Path], Sequence[Fault]]) -> Sequence[Fault]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "made-up.yaml"
        path.write_text(text, "utf-8")
        return faults(path)


_WHOLE = "{text: A text, rules: [E301], checks: [policy], tests: [a], counters: [received]}"
_FIELD = (
    "{kind: enum, values: [linux], category: user.device, purposes: [ops], retention: 30d, by: A,"
    " date: 2026-11-30, see: 'https://git.example/1'}"
)
_REVIEW = f"schema: sample\nfields:\n  os.type: {_FIELD}\n"

TABLE: tuple[tuple[Callable[[str], Sequence[Fault]], str, str], ...] = (
    (_schema, f"{PLAIN}«E122»title: Again\n", "title"),
    (_schema, PLAIN.replace("kind: enum", "«E107»kind: enun"), "fields.os.type.kind"),
    (_schema, PLAIN.replace("{kind", "{«E105»step: 1, kind"), "fields.os.type.step"),
    (_schema, PLAIN.replace("basis: contract", "«E107»basis: none"), "purposes.ops.basis"),
    (_configuration, "a: «E102»*x\n", ""),
    (_configuration, "limits: {ratio: «E107»~}\n", "limits.ratio"),
    (_configuration, "watch: «E107»[true]\n", "watch"),
    (_configuration, "sinks:\n  «E105»lake: {type: {a: b}}\n", "sinks"),
    (_configuration, "sinks: {x: {type: «E107»parket}}\n", "sinks.x.type"),
    (_claims, "claims: {a: {«E105»txt: A text, missing: Not yet}}", "claims.a.txt"),
    (_claims, f"claims: {{«E107»no-sale: {_WHOLE}}}", "claims.no-sale"),
    (
        _claims,
        f"claims: {{a: {_WHOLE.replace('[policy]', '[«E107»hope]')}}}",
        "claims.a.checks.0",
    ),
    (_claims, "claims:\n  «E107»a: 5\n", "claims.a"),
    (_review, _REVIEW.replace("see: ", "«E107»see: git.example, until: "), "fields.os.type.see"),
    (_review, _REVIEW.replace("date: 2026-11-30", "«E107»date: today"), "fields.os.type.date"),
    (_review, _REVIEW.replace("{kind", "{«E105»reason: x, kind"), "fields.os.type.reason"),
    (_sdk_environment, f"COLLECTOR_SDK_QUEUE={_SECRET}", "E107 queue"),
    (_sdk_environment, "COLLECTOR_SDK_QEUE=5", "E105 COLLECTOR_SDK_QUEUE"),
    (_argument, f"to={_SECRET}", "E107 to"),
    (_argument, "timeout=5 days", "E107 timeout"),
)
"""What reads the document, the document with its faults as marks (``tests.support.make_schemas``),
and what the message names. Where there is no document, the code stands before that."""


@for_each(("reads", "text", "named"), TABLE)
def test_bad_documents(reads: Callable[[str], Sequence[Fault]], text: str, named: str) -> None:
    """Each fault has its code and place, and names the setting; no fault quotes a value."""
    plain, expected = marked(text)
    found = reads(plain)
    places = [(each.line, each.column, each.code) for each in found]
    code, _, name = named.rpartition(" ")
    where = [(0, 0, code)] if code else [tuple(each)[:3] for each in expected]
    assert set(where) <= set(places), found
    assert any(name in f"{each.field} {each.message}" for each in found), found
    assert all(len(each.message) > 20 for each in found)
    assert _SECRET not in "\n".join(map(str, found))
    assert {each.code for each in found} <= CODES.keys()


# -- several faults at once -----------------------------------------------------------------------

_SCHEMA = (
    HEAD
    + """\
fields:
  os.type: {kind: enum, values: [linux],
    category: user.device, purposes: [ops], retention: 30d, reason: Which systems to test on}
  os.version: {kind: version, parts: 2,
    category: user.device, purposes: [ops], retention: 30d, reason: Which versions to test on}
max_bits: 300
content: {chat: [backchannel]}
"""
)
_SETTINGS = """\
data: here
http:
  address: 127.0.0.1:4318
  origins: [https://a.example]
limits:
  body: 1MiB
  ratio: 5
  header_time: 5s
sinks:
  store: true
  lines: {type: ndjson, path: a, party: first}
log: {level: info}
"""
_OWN = f"claims:\n  one: {_WHOLE}\n  two: {_WHOLE}\n  three:\n    text: A text\n    missing: Soon\n"

_BREAKS: dict[str, tuple[Callable[[str], Sequence[Fault]], str, list[tuple[str, str]]]] = {
    "schema": (
        _schema,
        _SCHEMA,
        [
            ("schema: sample", "«E107»schema: Sample"),
            ("version: 1.0.0", "«E107»version: 1.0.x"),
            ("title: A sample", "«E107»title: ..."),
            ("basis: contract", "«E107»basis: because"),
            ("reason: Keep the call up", "«E107»reason: '.'"),
            ("values: [linux]", "«E107»values: []"),
            ("parts: 2", "«E107»parts: 9"),
            ("retention: 30d, reason: Which v", "«E107»retention: 30, reason: Which v"),
            ("retention: 30d, reason: Which s", "«E107»retention: 1, reason: Which s"),
            ("max_bits: 300", "«E107»max_bits: 0"),
            ("chat: [backchannel]", "«E308»chat: []"),
        ],
    ),
    "configuration": (
        _configuration,
        _SETTINGS,
        [
            ("data: here", "data: «E107»[5]"),
            ("address: 127.0.0.1:4318", "address: «E107»nowhere"),
            ("https://a.example", "«E107»a.example"),
            ("  body: 1MiB", "  body: «E107»1"),
            ("ratio: 5", "ratio: «E107»five"),
            ("header_time: 5s", "header_time: «E107»5"),
            ("store: true", "store: «E107»7"),
            ("party: first", "party: «E107»fifth"),
            ("log: {level: info}", "log: {«E105»levle: info}"),
        ],
    ),
    "claims": (
        _claims,
        _OWN,
        [
            ("one: {text: A text", "one: {«E107»text: '.'"),
            ("counters: [received]}\n  two", "counters: [«E107»sent]}\n  two"),
            ("two: {text", "two: {«E105»note: x, text"),
            ("    missing: Soon", "    «E107»missing: 5"),
            ("  three:\n", "  «E107»Three:\n"),
            ("    text: A text\n", "    text: A text\n    «E122»text: Another\n"),
        ],
    ),
    "review": (
        _review,
        _REVIEW,
        [
            ("schema: sample\n", "schema: sample\n«E122»schema: other\n"),
            ("date: 2026-11-30", "«E107»date: today"),
            ("see: 'https://git.example/1'", "«E107»see: here"),
        ],
    ),
}


@pytest.mark.parametrize("kind", _BREAKS)
@given(data=st.data())
def test_each_break_is_told_at_its_place(kind: str, data: st.DataObject) -> None:
    reads, text, breaks = _BREAKS[kind]
    for old, new in data.draw(st.lists(st.sampled_from(breaks), unique=True)):
        assert text.count(old) == 1
        text = text.replace(old, new)
    plain, expected = marked(text)
    found = [(each.line, each.column, each.code) for each in reads(plain)]
    assert sorted(found) == sorted(tuple(each)[:3] for each in expected)


@for_each("shape", ["{0}", "[{0}]", "{{{0}: {0}}}", "[[{0}]]", "'{0}\\n'", "-{0}.5"])
def test_no_fault_quotes_a_value(shape: str) -> None:
    """A secret in the place of any setting, in any form, stays unsaid; so in claims and copies."""
    secret = shape.format(_SECRET)
    tree: dict[str, Any] = {}
    for each in settings():
        inner = tree
        for key in each.loc[:-1]:
            inner = inner.setdefault(key, {})
        inner[each.loc[-1]] = secret

    def written(part: Any) -> str:
        if isinstance(part, str):
            return part
        return "{" + ", ".join(f"{key}: {written(value)}" for key, value in part.items()) + "}"

    texts = [(_configuration, written(tree)), (_configuration, secret)]
    texts.append(
        (_claims, f"claims: {{a: {{text: {secret}, rules: {secret}, missing: {secret}}}}}")
    )
    texts.append((_review, _REVIEW.replace("by: A", f"by: {secret}").replace("30d", secret)))
    for reads, text in texts:
        found = reads(text)
        assert _SECRET not in "\n".join(map(str, found))
    assert len(_configuration(texts[0][1])) > 40


# -- what editors are told ------------------------------------------------------------------------

_BY_SIZE = "body: «E107»1"
"""A JSON Schema compares no sizes with units."""
_SCHEMAS = {"configuration": jsonschema.document_schema(), "claims": claims.document_schema()}
_EDITORS = {kind: Draft202012Validator(schema) for kind, schema in _SCHEMAS.items()}


def _value(text: str) -> Any:
    return read_text(text, Document("x")).value


def test_editors_take_what_loads() -> None:
    """The examples of the documentation, all settings as they are written, the shipped claims."""
    page = (_ROOT / "docs" / "configuration.md").read_text()
    for example in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        assert not list(_EDITORS["configuration"].iter_errors(_value(example)))
    written: dict[str, Any] = {}
    for each in settings():
        value, inner = each.of(Config()), written
        for key in each.loc[:-1]:
            inner = inner.setdefault(key, {})
        if value is not None and each.name != "auth.tokens":
            inner[each.loc[-1]] = value
    assert not list(_EDITORS["configuration"].iter_errors(written))
    for text in ("http:\n", "recorder: true", "sinks: {store: off, lines: {type: mine, x: 1}}"):
        assert not list(_EDITORS["configuration"].iter_errors(_value(text)))
    assert not list(_EDITORS["claims"].iter_errors(read(resources.claims()).value))
    assert not list(_EDITORS["claims"].iter_errors(_value(_OWN)))


@for_each("kind", _EDITORS)
def test_editors_see_faults_of_form(kind: str) -> None:
    """Each of the breaks above is underlined; of keys written twice, editors have a rule."""
    _, text, breaks = _BREAKS[kind]
    for old, new in (each for each in breaks if "E122" not in each[1]):
        value = _value(marked(text.replace(old, new))[0])
        assert list(_EDITORS[kind].iter_errors(value)) or new.endswith(_BY_SIZE), new


def test_every_key_is_explained_to_editors() -> None:
    for schema in _SCHEMAS.values():
        parts = [schema, *schema["$defs"].values()]
        for key, node in [pair for part in parts for pair in part.get("properties", {}).items()]:
            assert node.get("description") or "$ref" in node or "if" in node, key


def test_one_did_you_mean() -> None:
    """The nearest word, if one is near."""
    assert nearest("adress", ["hosts", "address"]) == "; did you mean `address`?"
    assert nearest("xyz", ["hosts", "address"]) == ""
