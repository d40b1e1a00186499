"""The JSON Schema of documents, by the reference validator: it never refuses what loads, and
refuses what is wrong by its form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from pydantic import TypeAdapter, ValidationError

from collector.documents import Document, read, read_text
from collector.errors import CODES
from collector.schema import Schema, load_schema, policy, resources, scalars
from collector.schema.jsonschema import document_schema
from collector.schema.kinds import KINDS
from collector.schema.model import DocumentHead, Purpose, Trial
from tests.schema.faulty import TABLE
from tests.strategies import schemas
from tests.support.latency import within
from tests.support.make_schemas import PLAIN, marked, one, with_field
from tests.support.rows import for_each

_DOCUMENT = document_schema()
_VALIDATOR: Validator = Draft202012Validator(_DOCUMENT)
_REFERENCE = Path(__file__).parents[2] / "docs" / "schema.md"
_FEW = settings(max_examples=max(1, settings().max_examples // 4))

# -- documents: no false alarm --------------------------------------------------------------------


def _value(path: Path) -> Any:
    source = read(path, "x")
    assert not source.faults
    return source.value


def _complaints(value: Any) -> list[str]:
    return [f"{list(error.path)}: {error.message}" for error in _VALIDATOR.iter_errors(value)]


def test_it_is_a_json_schema() -> None:
    Draft202012Validator.check_schema(_DOCUMENT)
    assert _DOCUMENT["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert len(orjson.dumps(_DOCUMENT)) < 100_000
    assert document_schema() == _DOCUMENT


@for_each("name", resources.names())
def test_shipped_documents_are_valid(name: str) -> None:
    assert _complaints(_value(resources.shipped() / f"{name}.yaml")) == []


def test_documents_of_the_reference_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", _REFERENCE.read_text("utf-8"), re.DOTALL)
    texts = [text if text.startswith("schema:") else with_field(text) for text in blocks]
    assert len(texts) > len(KINDS)
    for text in texts:
        assert _complaints(read_text(text, Document("x")).value) == []


@_FEW
@given(schemas())
def test_generated_documents_are_valid(schema: Schema) -> None:
    for shortened in (True, False):
        plain = schema.model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude_unset=shortened
        )
        for key in ("content", "user_agent", "also_collected"):
            if not plain.get(key):
                plain.pop(key, None)
        for part in plain["fields"].values():
            if part.get("within"):
                part["within"] = "±" + part["within"]
        assert _complaints(plain) == []


_ODD = (
    PLAIN.replace("title: A sample", "title: 会議の品質").replace("privacy", "🙂 é")
    + """\
  a.b.c.d.e.f.g.h: {kind: time, from: ['[99].x', '"é".b', 'a b', '[0]'], within: 99999d,
    category: system, purposes: [ops], retention: 100y, reason: なぜ今か, expires: 2028-02-29}
  x: {kind: enum, values: ['é ü', 😀], aliases: {'É': 😀}, category: user.telemetry,
    purposes: [ops], retention: 36500d, reason: 'Why

    not'}
records: ['[2].*', '.', 'q*.r', p.q]
content: {chat: [チャット, c d]}
max_bits: 65536
tests: [{name: '1', event: null, keeps: [{}, {x: 😀}]}]
"""
)


def test_a_document_that_is_odd_and_loads(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(_ODD, "utf-8")
    load_schema(path)
    assert _complaints(_value(path)) == []


# -- documents: what is seen ----------------------------------------------------------------------

_SEEN = frozenset("E105 E106 E107 E202 E301 E302 E303 E306 E308".split())
"""Faults of form: a JSON Schema of documents can see them, with these exceptions."""
_UNSEEN = frozenset(
    """
    half a surrogate pair as a key|a list as a key|an infinite number|a date that is none
    |identifiers|an identifier by the name of the field|people|a text in records of people
    |a way that is listed twice|a catalogue without a source|an escape sequence in a text
    |a reversed text|a hidden text|a key with a mark of direction|a key on two lines
    """.replace("\n", "")
    .replace("    ", "")
    .split("|")
)
_SEEN_TOO = frozenset({"too many maxima", "neither pattern nor catalogue", "pattern and catalogue"})
"""Documents with other faults that it can see."""


_UNREAD = frozenset({"E101", "E102"})
"""Faults for which a document has no value."""


def _codes(document: str) -> set[str]:
    return {error.code for error in marked(document)[1]}


def test_faults_of_form_are_seen() -> None:
    """Most faults can be seen. No exception outlives its document."""
    faulty = {name: codes for name, each in TABLE.items() if not (codes := _codes(each)) & _UNREAD}
    assert faulty.keys() >= _UNSEEN | _SEEN_TOO
    assert set(CODES) >= _SEEN
    seen = {name for name, codes in faulty.items() if codes & _SEEN} - _UNSEEN | _SEEN_TOO
    assert len(seen) > 100
    for name in faulty:
        text = marked(TABLE[name])[0].encode("utf-8", "replace").decode()
        assert bool(_complaints(read_text(text, Document("x")).value)) == (name in seen), name


def test_an_error_is_where_the_mistake_is() -> None:
    """There is one complaint in the branch of the kind, not nine about all kinds."""
    for text, path in (
        (one("kind: ip, truncate: {ipv4: 7}"), ["fields", "os.name", "truncate", "ipv4"]),
        (one("kind: ipx"), ["fields", "os.name", "kind"]),
        (one("kind: boolean, values: [a]"), ["fields", "os.name"]),
        (f"{PLAIN}  os.name:\n", ["fields", "os.name"]),
        (f"{PLAIN}max_bits: 0\n", ["max_bits"]),
    ):
        (error,) = _VALIDATOR.iter_errors(read_text(text, Document("x")).value)
        assert list(error.absolute_path) == path


# -- documents: what is explained -----------------------------------------------------------------

_MODELS: dict[str, Any] = {"Purpose": Purpose, "Trial": Trial, **KINDS}


def _options(model: Any) -> set[str]:
    return {info.alias or name for name, info in model.model_fields.items()}


def test_every_key_is_offered() -> None:
    assert set(_DOCUMENT["properties"]) == _options(DocumentHead)
    for name, model in _MODELS.items():
        assert set(_DOCUMENT["$defs"][name]["properties"]) == _options(model)
        assert not _DOCUMENT["$defs"][name]["additionalProperties"]
    assert _DOCUMENT["$defs"]["Field"]["properties"]["kind"]["enum"] == list(KINDS)


def test_every_key_is_explained() -> None:
    parts = [_DOCUMENT["properties"], *(d["properties"] for d in _DOCUMENT["$defs"].values())]
    for properties in parts:
        for key, node in properties.items():
            assert re.fullmatch(r"[A-Z`±].{10,}\.", node.get("description", "")), key
            for example in node.get("examples", ()):
                validator = Draft202012Validator({**node, "$defs": _DOCUMENT["$defs"]})
                assert validator.is_valid(example), (key, example)


def test_closed_lists() -> None:
    """An identifier's category is that of a pseudonym."""
    uses = _DOCUMENT["$defs"]["Purpose"]["properties"]["use"]["enum"]
    assert "essential.service.operations" in uses
    assert all(policy.use_is_allowed(use) for use in uses)
    assert not any("advertising" in use for use in uses)
    by_kind = {k: _DOCUMENT["$defs"][k]["properties"]["category"]["enum"] for k in KINDS}
    assert all(policy.category_is_allowed(key) for keys in by_kind.values() for key in keys)
    assert "user.device.device_id" in by_kind["pseudonym"]
    assert not any("user.device.device_id" in by_kind[k] for k in KINDS if k != "pseudonym")


_TERMS: tuple[tuple[Any, dict[str, Any], bool], ...] = (
    (scalars.Name, _DOCUMENT["properties"]["schema"], True),
    (scalars.FieldName, _DOCUMENT["properties"]["fields"]["propertyNames"], True),
    (scalars.Version, _DOCUMENT["properties"]["version"], True),
    (scalars.Catalogue, _DOCUMENT["$defs"]["token"]["properties"]["catalogue"], True),
    (scalars.Path, _DOCUMENT["$defs"]["ip"]["properties"]["from"]["items"]["oneOf"][0], True),
    (scalars.RecordsPath, _DOCUMENT["properties"]["records"]["anyOf"][0]["oneOf"][0], True),
    (scalars.Text, _DOCUMENT["properties"]["title"], True),
    (scalars.Reason, _DOCUMENT["$defs"]["Purpose"]["properties"]["reason"], True),
    (scalars.Duration, _DOCUMENT["$defs"]["ip"]["properties"]["retention"], False),
    (scalars.Period, _DOCUMENT["$defs"]["pseudonym"]["properties"]["rotate"], False),
    (scalars.Window, _DOCUMENT["$defs"]["time"]["properties"]["within"], True),
    (scalars.Day, _DOCUMENT["$defs"]["ip"]["properties"]["expires"], False),
)
"""Each term, what an editor is told, and whether that is exact for short ASCII texts."""


@pytest.mark.parametrize(("term", "node", "exact"), _TERMS)
@_FEW
@given(data=st.data())
def test_terms(term: Any, node: dict[str, Any], exact: bool, data: st.DataObject) -> None:
    text = data.draw(
        st.from_regex(node["pattern"], fullmatch=False).map(lambda t: t.rstrip("\n"))
        | st.text('a1.-_[]*0dwhmy±B" \n', max_size=9)
        | st.text(max_size=5)
    )
    try:
        TypeAdapter(term).validate_python(text, strict=True)
        accepted = True
    except ValidationError:
        accepted = False
    valid = Draft202012Validator(node).is_valid(text)
    assert valid or not accepted
    if exact and text.isascii() and text.isprintable() and len(text) <= 32:
        assert valid == accepted


_LONG = (
    "a" * 300,
    "1" * 300,
    "a." * 100,
    "a-" * 1000 + "!",
    "[" * 300,
    "a" * 300 + "\n",
    "é" * 300,
)


@pytest.mark.timed
def test_patterns_are_fast() -> None:
    found = [node.get("pattern") for node in _nodes(_DOCUMENT)]
    patterns = {pattern for pattern in found if isinstance(pattern, str)}
    assert len(patterns) > 10
    with within(2):
        for pattern in patterns:
            for text in _LONG:
                re.search(pattern, text)


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping inside a JSON value."""
    if isinstance(node, dict):
        yield node
    for part in node.values() if isinstance(node, dict) else node:
        if isinstance(part, dict | list):
            yield from _nodes(part)
