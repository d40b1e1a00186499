"""What the public sentence covers, and what a schema says beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from collector.schema import Schema, load_schema
from collector.schema.diff import compare
from collector.schema.names.scope import POSITIVE, is_within, scope, suggested
from tests.conftest import IS_WHOLE
from tests.names.corpora import FORMS, corpus, parsed
from tests.support.make_schemas import one
from tests.support.rows import for_each

_QUALITY = "We also measure how well calls run."
_COUNT = "kind: integer, minimum: 0, maximum: 100, step: 10"
_SAID = f'also_collected: {{quality: "{_QUALITY}"}}\n'


def _schema(text: str, directory: Path) -> Schema:
    path = directory / "sample.yaml"
    path.write_text(text)
    return load_schema(path)


@for_each("name", ["conferencing", "conferencing-strict"])
def test_schemas_of_the_sentence(name: str) -> None:
    """The sentence of `needed-only` says all that they collect."""
    assert scope(load_schema(name)).verdict == "holds"


@for_each("name", ["participants-qos", "web", "webrtc"])
def test_schemas_that_collect_more(name: str) -> None:
    """Derived values, values under a condition, and paths that are not on the list are outside."""
    assert scope(load_schema(name)).outside


def test_a_field_outside_without_a_sentence(tmp_path: Path) -> None:
    """It loads, and the public was not told."""
    found = scope(_schema(one(_COUNT, "audio.jitter"), tmp_path))
    assert (found.verdict, found.without_sentence) == ("broken", ("audio.jitter",))


def test_a_field_outside_with_a_sentence(tmp_path: Path) -> None:
    """The sentence is to be published with that of the claim."""
    found = scope(_schema(one(f"{_COUNT}, also: quality", "audio.jitter") + _SAID, tmp_path))
    assert (found.verdict, found.sentences) == ("amended", (_QUALITY,))


@for_each(
    ("name", "options"),
    [
        ("client.address", "kind: ip, from: [somewhere.else]"),
        ("client.address", "kind: ip, from: [payload.client.address]"),
        ("client.address", "kind: pseudonym, key: 'env:KEY', rotate: 1d"),
        ("os.name", "kind: boolean"),
    ],
)
def test_a_name_alone_is_not_inside(name: str, options: str, tmp_path: Path) -> None:
    """Kind and paths decide as well."""
    assert scope(_schema(one(options, name), tmp_path)).without_sentence == (name,)


def test_sentences_are_part_of_the_digest(tmp_path: Path) -> None:
    """Each of them may be what the public was told; adding one is widening."""
    plain = _schema(one(f"{_COUNT}", "audio.jitter"), tmp_path)
    said = _schema(one(f"{_COUNT}, also: quality", "audio.jitter") + _SAID, tmp_path)
    changed = _schema(
        one(f"{_COUNT}, also: quality", "audio.jitter") + _SAID.replace("well", "badly"), tmp_path
    )
    assert len({schema.digest for schema in (plain, said, changed)}) == 3
    for old, new, what in (
        (plain, said, {"sentence added", "another sentence"}),
        (said, changed, {"sentence changed"}),
    ):
        found = compare(old, new)
        assert {change.what for change in found.changes} == what
        assert found.widening


def test_the_positive_list() -> None:
    """Each of its fields is inside under its own name, its paths, and its kinds alone."""
    assert len(POSITIVE) > 30
    kinds = {"ip", "enum", "token", "version", "integer", "number", "boolean"}
    for name, listed in POSITIVE.items():
        assert listed.kinds <= kinds, name
        for kind in [*kinds, "time", "pseudonym"]:
            assert is_within(name, kind, [name, *listed.paths]) == (kind in listed.kinds)


@for_each(
    ("path", "within"),
    [
        *((path, True) for path in ("osType", "os_type", "OS-TYPE", '"os.type"', 'os."type"')),
        *(
            (path, False)
            for path in ("payload.os.type", "o.s.type", "ostype", "os.type[0]", "type")
        ),
        *((path, False) for path in ('"os.type.体温"', '"os💬".type', "participants.os.type")),
    ],
)
def test_paths_are_compared_word_by_word(path: str, within: bool) -> None:
    """In whatever case and with whatever separators; an envelope or an element is another path."""
    assert is_within("os.type", "enum", [path]) == within
    assert not is_within("os.type", "enum", [path, "place"])


@for_each("name", ["telling", "held_telling"])
def test_no_telling_name_is_within(name: str) -> None:
    for entry in corpus(name):
        assert not is_within(entry.name.lower(), entry.kind, [entry.name.lower()])
        for positive, listed in POSITIVE.items():
            assert not is_within(positive, min(listed.kinds), [entry.name])


_CONDITIONS = ("from: [{path: ip, when: {illness: [flu]}}]", "from: [ip]")


@for_each(("field", "record"), [(0, ""), (1, "records: [{path: ., when: {a: b}}]\n")])
def test_a_condition_is_outside(field: int, record: str, tmp_path: Path) -> None:
    """A value that is there says what stood beside it, whatever the words; the reviewer sees it."""
    text = one(f"kind: ip, {_CONDITIONS[field]}", "client.address") + record
    schema = _schema(text, tmp_path)
    assert "client.address" in scope(schema).outside
    if not record:
        assert suggested(schema, "client.address") == (
            ("address", "identifier"),
            ("illness", "health"),
        )


_LED = {"kind": "enum", "values": ["a", "b"], "from": ["brand"]}


@for_each(
    ("way", "within"),
    [
        *((way, True) for way in (".", "payload", "data.events[]", "[2].*", "participants[]")),
        *((way, False) for way in ("insulin.pumps", "patients[].list", "votes.*", '"体温"', "x")),
    ],
)
def test_a_way_to_records_is_part_of_every_path(way: str, within: bool) -> None:
    """What lies in an envelope is on the list, and what lies in something else is not."""
    schema, found = parsed({"device.brand": _LED}, records=[way])
    assert schema is not None, found
    assert (scope(schema).verdict == "holds") is within
    _, found = parsed({"device.model.name": {**FORMS["text"], "from": ["model"]}}, records=[way])
    assert (found == []) is (within or way == "x")


@for_each("name", ["telling", "held_telling"])
def test_no_telling_name_leads_to_records_that_are_within(name: str) -> None:
    for entry in corpus(name)[:: 1 if IS_WHOLE else 4]:
        schema, _ = parsed({"device.brand": _LED}, records=[entry.name])
        assert schema is None or scope(schema).outside, entry.name


def test_suggestions_of_a_field(tmp_path: Path) -> None:
    text = one(f"{_COUNT}, from: [asthma.level, asthma.name]", "battery.health")
    found = suggested(_schema(text + "records: ['patients[].list']\n", tmp_path), "battery.health")
    assert found == (
        ("health", "health"),
        ("asthma", "health"),
        ("name", "identifier"),
        ("patients", "health"),
    )


_KINDS: list[dict[str, Any]] = [
    *map(dict, FORMS.values()),
    {"kind": "ip"},
    {"kind": "token", "catalogue": "device-models"},
    {"kind": "enum", "values": [f"v{number}" for number in range(65)]},
]
_NAMES = st.sampled_from([*POSITIVE, "os.codec", "audio.jitter", "asthma.level"])
_PATHS = st.sampled_from(
    [*POSITIVE, *(p for each in POSITIVE.values() for p in each.paths), "chat.os.type", "illness"]
)


@given(
    st.dictionaries(
        _NAMES, st.tuples(st.sampled_from(_KINDS), st.lists(_PATHS, unique=True)), min_size=1
    )
)
def test_holds_means_that_all_is_on_the_list(
    drawn: dict[str, tuple[dict[str, Any], list[str]]],
) -> None:
    """Name, kind and every path, of every field, in schemas at random that load."""
    fields = {
        name: {**options, **({"from": paths} if paths else {})}
        for name, (options, paths) in drawn.items()
    }
    schema, _ = parsed(fields)
    if schema is None:
        return
    for name, field in schema.fields.items():
        listed = POSITIVE.get(name)
        inside = (
            listed is not None
            and field.kind in listed.kinds
            and {*field.paths(name)} <= {name, *listed.paths}
        )
        assert (name not in scope(schema).outside) == inside
