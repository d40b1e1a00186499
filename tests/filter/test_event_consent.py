"""Choices that events carry: what is refused is not decoded, and nothing of them is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.contracts import Form, Granted
from collector.filter import Admission, Filter
from collector.filter.event_consent import EventConsent
from collector.filter.explain import explain
from collector.filter.plan import compile_plan
from collector.filter.records import TEXTS
from collector.schema import Schema, load_schema
from collector.schema.kinds import Circumstances
from collector.testing import assert_noninterference
from collector.testing.laws import fixed_key
from tests.filter.otlp_bodies import bodies, fill
from tests.filter.otlp_reference import REQUESTS, OtlpReference
from tests.filter.test_laws import NOW, by_members, reference, same
from tests.filter.test_laws import made as filter_of
from tests.filter.test_otlp import agree
from tests.strategies import events, lines, payloads

_FIELDS = {
    "client.address": ("ip", ["security"]),
    "device.type": ("enum, values: [phone, tablet]", ["security", "planning"]),
    "os.name": ("token, catalogue: os-names", ["planning"]),
    "os.version": ("version, parts: 1, maximum: [99]", ["crashes", "planning"]),
    "view.dark": ("boolean", ["crashes"]),
}
_EVENT: dict[str, Any] = {
    "client.address": "203.0.113.7",
    "device": {"type": "phone"},
    "os": {"name": "Linux", "version": "22"},
    "view": {"dark": True},
}
_PLANNING = ["client.address", "device.type", "os.name", "os.version"]
_CRASHES = ["client.address", "device.type", "os.version", "view.dark"]
_NEITHER = ["client.address", "device.type"]
_BOTH = [*_FIELDS]


def _document(consent: str, **more: str) -> str:
    head = "schema: made\nversion: 1.0.0\ntitle: Made up\nowner: tests\n"
    head += "".join(f"{key}: {value}\n" for key, value in {"consent": consent, **more}.items())
    choice = "basis: consent, optional: true, reason: For a test"
    fields = "".join(
        f"  {name}: {{kind: {kind}, category: system, purposes: {json.dumps(purposes)},"
        " retention: 1d, reason: For a test}\n"
        for name, (kind, purposes) in _FIELDS.items()
    )
    return (
        f"{head}purposes:\n"
        "  security: {use: essential.service.security, basis: contract, reason: For a test}\n"
        f"  planning: {{use: analytics.reporting.system.performance, {choice}}}\n"
        f"  crashes: {{use: functional.service.improve, {choice}}}\n"
        f"fields:\n{fields}"
    )


def made(folder: Path, consent: str = "choices", **more: str) -> Schema:
    path = folder / "made.yaml"
    path.write_text(_document(consent, **more))
    return load_schema(path)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    """With ``consent: choices``, two optional purposes, and one that is not."""
    return made(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def chosen(schema: Schema) -> Filter:
    """Its filter."""
    return Filter(schema)


def fields_of(admission: Admission) -> list[list[str]]:
    """The fields of each record."""
    return [[name for name in record if name in _FIELDS] for record in admission.records]


def kept(filter_: Filter, event: Any) -> list[list[str]]:
    """The fields of each record of an event, the same as a mapping, a document and a line."""
    text = orjson.dumps(event)
    ways = filter_.admit(event), filter_.admit(text), filter_.admit_lines(text)
    first, *others = map(fields_of, ways)
    assert others == [first, first]
    return first


CHOICES: tuple[tuple[Any, list[str]], ...] = (
    *((None, _BOTH), ({}, _BOTH), ([], _BOTH), ({"planning": True, "crashes": True}, _BOTH)),
    *(({"planning": False}, _CRASHES), ({"crashes": False, "planning": True}, _PLANNING)),
    *(({"planning": False, "crashes": False}, _NEITHER), (["planning"], _CRASHES)),
    (["planning", "crashes", "planning"], _NEITHER),
    # what cannot be refused, or is not known
    ({"security": False, "marketing": 3}, _BOTH),
    (["security", "marketing", "crashes"], _PLANNING),
    # what cannot be read
    *((False, _NEITHER), (True, _NEITHER), (0, _NEITHER), ("planning", _NEITHER)),
    *(({"planning": 0}, _NEITHER), ({"planning": "yes"}, _NEITHER)),
    *(({"planning": None}, _NEITHER), (["crashes", 1], _NEITHER), ([["crashes"]], _NEITHER)),
    ([None], _NEITHER),
)


@pytest.mark.parametrize(("written", "fields"), CHOICES)
def test_choices_decide(chosen: Filter, written: Any, fields: list[str]) -> None:
    for event in ({"choices": written, **_EVENT}, {**_EVENT, "choices": written}):
        text = orjson.dumps(event)
        assert kept(chosen, event) == fields_of(chosen.admit(b"[%b]" % text)) == [fields]
        lines = b"%b\n\n%b\n%b" % (orjson.dumps(_EVENT), text, text)
        assert fields_of(chosen.admit_lines(lines)) == [_BOTH, fields, fields]
        tally = chosen.admit(text).tally.as_dict()
        assert tally | {"bytes_in": 0} == chosen.admit(event).tally.as_dict() | {"bytes_in": 0}
        dropped = {name: {"purpose_refused": 1} for name in _BOTH if name not in fields}
        assert tally.get("dropped", {}) == dropped


@pytest.mark.parametrize(
    ("written", "fields"),
    [
        (b'{"planning":0,"planning":true}', _BOTH),
        (b'{"planning":true,"planning":0}', _NEITHER),
        (b'{"planning":true,"planning":false}', _CRASHES),
        (b'{"planning":false,"planning":null}', _NEITHER),
    ],
)
def test_of_equal_names_the_last_counts(chosen: Filter, written: bytes, fields: list[str]) -> None:
    text = orjson.dumps({**_EVENT, "choices": 0}).replace(b'"choices":0', b'"choices":' + written)
    assert fields_of(chosen.admit(text)) == fields_of(chosen.admit_lines(text)) == [fields]


def test_it_shows_nothing(schema: Schema) -> None:
    """Its name says how many purposes there are."""
    around = Circumstances(lambda: NOW, lambda *_: b"")
    plan = compile_plan(schema, None, NOW.date(), around)
    assert repr(EventConsent(plan, schema.optional)) == "<EventConsent of 2 purposes>"


def test_choices_too_long_to_read(chosen: Filter) -> None:
    """What takes more than 4 KiB refuses all."""
    for size, fields in ((4096, _CRASHES), (4097, _NEITHER)):
        written = b'{"planning":false,"marketing":"%b"}'
        written %= b"x" * (size - len(written) + len(b"%b"))
        text = b'{"choices":%b,%b' % (written, orjson.dumps(_EVENT)[1:])
        assert fields_of(chosen.admit(text)) == [fields]


@pytest.mark.parametrize("name", [b"ch\\u006fices", b"\\u0063hoices", b"choice\\u0073"])
def test_a_name_spelled_with_escapes(chosen: Filter, name: bytes) -> None:
    """Choices are found however their name is spelled."""
    text = orjson.dumps({**_EVENT, "choices": ["planning"]}).replace(b"choices", name)
    assert fields_of(chosen.admit(text)) == fields_of(chosen.admit_lines(text)) == [_CRASHES]


@pytest.mark.parametrize("way", ["privacy.choices", "a.b.c"])
def test_choices_at_a_path(tmp_path: Path, way: str) -> None:
    """Nested, and as one flat key; a way that ends early leads nowhere."""
    filter_ = Filter(made(tmp_path, way))
    nested: Any = ["planning"]
    for key in reversed(way.split(".")):
        nested = {key: nested}
    for written in (nested, {way: ["planning"]}):
        assert kept(filter_, {**_EVENT, **written}) == [_CRASHES]
    assert kept(filter_, {**_EVENT, way.split(".", maxsplit=1)[0]: "no"}) == [_BOTH]


def test_an_odd_name(tmp_path: Path) -> None:
    """A name that JSON may escape in other ways, or that is not ASCII."""
    for name in ("a/b", "wünsche", "選択"):
        filter_ = Filter(made(tmp_path, f"'\"{name}\"'"))
        event = {**_EVENT, name: ["planning"]}
        assert kept(filter_, event) == [_CRASHES]
        for text in (json.dumps(event).encode(), orjson.dumps(event).replace(b"/", b"\\/")):
            assert fields_of(filter_.admit_lines(text)) == [_CRASHES]


def test_a_list_as_an_event(tmp_path: Path) -> None:
    """Choices in the element of a list."""
    filter_ = Filter(made(tmp_path, "'[1]'", records='["[0].*", "."]'))
    event: Any = [{"a": _EVENT}, ["planning"]]
    assert fields_of(filter_.admit_lines(orjson.dumps(event))) == [_CRASHES]


def test_bytes_that_are_no_text(chosen: Filter) -> None:
    """A line that is no UTF-8 does not hide the choices of other lines."""
    line = orjson.dumps({**_EVENT, "choices": ["planning"]})
    admission = chosen.admit_lines(b'{"a":"\xff"}\n' + line)
    assert (fields_of(admission), admission.tally.rejected) == ([_CRASHES], {"malformed": 1})


def test_refused_values_are_not_looked_at(chosen: Filter) -> None:
    """A value that no kind would accept counts as refused, not as invalid: it is not decoded."""
    event = {**_EVENT, "os": {"name": 3, "version": "999"}, "choices": ["planning", "crashes"]}
    for given_ in (orjson.dumps(event), event):
        dropped = chosen.admit(given_).tally.dropped
        assert {name: dict(why) for name, why in dropped.items()} == {
            name: {"purpose_refused": 1} for name in ("os.name", "os.version", "view.dark")
        }
    every = {"os": {"name": "Linux"}, "choices": ["planning", "crashes"]}
    assert chosen.admit(orjson.dumps(every)).tally.rejected == {"consent_withheld": 1}
    assert chosen.admit(every).tally.rejected == {"consent_withheld": 1}


class _Foreign:
    """Knows when it is asked anything."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(name)

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    def __hash__(self) -> int:
        return hash("choices")


class _Text(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    def __hash__(self) -> int:
        return hash("choices")


def test_foreign_objects_are_not_asked(chosen: Filter) -> None:
    assert fields_of(chosen.admit({**_EVENT, "choices": _Foreign()})) == [_NEITHER]
    choices = {_Foreign(): 1, "planning": False}
    assert fields_of(chosen.admit({**_EVENT, "choices": choices})) == [_CRASHES]
    assert fields_of(chosen.admit({**_EVENT, "choices": [_Text("planning")]})) == [_NEITHER]
    for key in (_Foreign(), _Text("choices")):
        event: dict[Any, Any] = {**_EVENT}
        event[key] = ["planning"]
        assert fields_of(chosen.admit(event)) == [_BOTH]


# -- records in a document ------------------------------------------------------------------------


def test_records_choose_for_themselves(tmp_path: Path) -> None:
    """What a document refuses is refused for all of its records; each may refuse more."""
    filter_ = Filter(made(tmp_path, records="people"))
    people = [
        {"os": {"version": "22"}},
        {"os": {"version": "22"}, "choices": ["planning"]},
        {"os": {"version": "22"}, "choices": ["planning", "crashes"]},
        {"os": {"version": "22"}, "choices": {"planning": True, "crashes": True}},
        "nobody",
    ]
    outer = {"client.address": "203.0.113.7", "os.name": "Linux", "view.dark": True}
    wanted = {
        None: [
            ["client.address", "os.name", "os.version", "view.dark"],
            ["client.address", "os.version", "view.dark"],
            ["client.address"],
            ["client.address", "os.name", "os.version", "view.dark"],
        ],
        "crashes": [
            ["client.address", "os.name", "os.version"],
            ["client.address"],
            ["client.address"],
            ["client.address", "os.name", "os.version"],
        ],
    }
    for refused, fields in wanted.items():
        event = {**outer, "people": people, **({"choices": [refused]} if refused else {})}
        text = orjson.dumps(event)
        slowly = by_members(filter_.schema).admit(text)
        for admission in (filter_.admit(event), filter_.admit(text), slowly):
            assert fields_of(admission) == fields
            assert admission.tally.rejected == {"not_an_object": 1}
        apart = [
            [(each.granted, each.tally.received) for each in filter_.admit_by_grant("json", given_)]
            for given_ in (event, text)
        ]
        assert apart[0] == apart[1]


def test_what_is_refused_of_what_lies_around_is_counted(tmp_path: Path) -> None:
    filter_ = Filter(made(tmp_path, records="people"))
    around = {"client.address": "203.0.113.7", "os.name": "Linux"}
    people = [{"device.type": "phone"}, {"device.type": "phone", "choices": ["planning"]}]
    refused = {"os.name": {"purpose_refused": 1}}
    event = {**around, "people": people}
    assert filter_.admit(event).tally.dropped == refused
    assert filter_.admit(orjson.dumps(event)).tally.dropped == refused
    items = Filter(made(tmp_path)).otlp_items(dict)
    place = items.context(around, {})
    for item in ({}, {"choices": {"planning": False}}):
        assert items.admit(place, {"device.type": "phone", **item}) is not None
    assert items.tally().dropped == refused


# -- apart ----------------------------------------------------------------------------------------


def test_admissions_apart(chosen: Filter) -> None:
    """Each record is in the admission of what is granted in its event, and counts there."""
    events = [{**_EVENT, "choices": written} for written, _ in CHOICES]
    text = b"\n".join(map(orjson.dumps, [*events, {}, 3]))
    found = {each.granted: each for each in chosen.admit_by_grant("ndjson", text)}
    assert {granted: fields_of(each)[0] for granted, each in found.items()} == {
        None: _BOTH,
        ("security", "planning"): _PLANNING,
        ("security", "crashes"): _CRASHES,
        ("security",): _NEITHER,
    }
    assert found[None].tally.rejected["not_an_object"] == 1  # it has no choices
    assert sum(each.tally.received for each in found.values()) == len(events) + 2
    assert sum(each.tally.bytes_in for each in found.values()) == len(text)
    whole = chosen.admit_lines(text)
    assert sorted(b"".join(e.encode() for e in found.values()).splitlines()) == sorted(
        whole.encode().splitlines()
    )


@pytest.mark.parametrize("unread", [3, "text", None, [1]])
def test_what_is_no_event_counts_with_what_is_granted_around_it(
    chosen: Filter, tmp_path: Path, unread: Any
) -> None:
    beside = {"device": {"type": "phone"}, "choices": ["planning"]}
    around = {"client.address": "203.0.113.7", "choices": ["crashes"]}
    within = Filter(made(tmp_path, records="people"))
    form: Form
    given_: Any
    for listed in ([unread], [unread, beside], [beside, unread]):
        lines = [*map(orjson.dumps, listed), b'{"choices": [']
        for form, given_ in (("ndjson", b"\n".join(lines)), ("json", orjson.dumps(listed))):
            found = chosen.admit_by_grant(form, given_)
            assert _rejecting(found) == [(None, 2 if form == "ndjson" else 1)]
        document = {**around, "people": listed}
        for given_ in (document, orjson.dumps(document)):
            assert _rejecting(within.admit_by_grant("json", given_)) == [
                (("security", "planning"), 1)
            ]
        choices = {"values": [{"key": "crashes", "value": {"boolValue": False}}]}
        resource = {"attributes": [{"key": "choices", "value": {"kvlistValue": choices}}]}
        logs = {"resource": resource, "scopeLogs": [{"logRecords": [unread]}]}
        assert _rejecting(
            chosen.admit_by_grant("logs", orjson.dumps({"resourceLogs": [logs]}))
        ) == [(("security", "planning"), 1)]


def test_no_depth_admits_what_is_refused(chosen: Filter) -> None:
    """How deep a text may be depends on the call and the interpreter, and it is read twice: what
    is too deep for the first reading refuses all."""
    for depth in range(900, 1_100):
        deep = b"[" * depth + b"]" * depth
        text = b'{"choices":{"crashes":false},"view":{"dark":true},"x":' + deep + b"}"
        for form in ("ndjson", "json"):
            (admission,) = chosen.admit_by_grant(form, text)
            assert admission.tally.rejected.total() == 1
            assert not admission.records
            assert admission.granted is None or "crashes" not in admission.granted


def _rejecting(admissions: list[Admission]) -> list[tuple[Granted, int]]:
    """The purposes of the admissions that count rejections, and how many each counts."""
    counts = [(each.granted, each.tally.rejected.total()) for each in admissions]
    return [each for each in counts if each[1]]


def test_no_text_is_an_event_without_its_choices(tmp_path: Path) -> None:
    """One that cannot be read for its choices cannot be read for its fields either."""
    router = Filter(made(tmp_path, consent="account.choices")).router
    text = rb'{"os": {"type": 1}, "account": {"k\u0041": [1.5, {}], "choices": ["\ud83d\ude00"]}}'
    assert router.consent is not None
    for at in range(len(text)):
        for other in (b"", b'"', b"\\", b"\x01", b"d", b"0", b"-", b",", b"{", b"]"):
            faulty = text[:at] + other + text[at + 1 :]
            read = [TEXTS.read(each, faulty) for each in (router.consent._readers, router.readers)]
            assert isinstance(read[0], tuple) == isinstance(read[1], tuple), faulty


def test_one_event_gives_one_admission(chosen: Filter) -> None:
    for event in ({"device": {"type": "phone"}, "choices": ["planning"]}, {}, {"choices": 3}):
        for given_ in (event, orjson.dumps(event)):
            (admission,) = chosen.admit_by_grant("json", given_, peer="203.0.113.9")
            assert admission.tally.received == 1
    (admission,) = chosen.admit_by_grant("json", {**_EVENT, "choices": ["planning"]})
    assert admission.granted == ("security", "crashes")


def test_a_filter_without(chosen: Filter, schema: Schema) -> None:
    """A filter that was left with less hears choices out of what it has."""
    less = chosen.without(["planning", "security", "other"])
    assert fields_of(less.admit(_EVENT)) == [_CRASHES]
    assert less.admit(_EVENT).granted == ("security", "crashes")
    event = {**_EVENT, "choices": {"planning": True, "crashes": False}}
    assert kept(less, event) == [_NEITHER]
    assert less.without(["planning"]) is less
    assert chosen.without([]) is chosen
    assert chosen.without(["planning"]) is less
    assert fields_of(Filter(schema, purposes=["security"]).admit(event)) == [_NEITHER]


# -- OTLP -----------------------------------------------------------------------------------------


_AROUND = {
    "client.address": "203.0.113.7",
    "os.name": "Linux",
    "os.version": "22",
    "view.dark": True,
}


def _logs(resource: Any, scope: Any, *items: Any) -> list[tuple[bytes, bool]]:
    """Log records with choices (or none) in resource, scope and each item: encodings of the body,
    and whether they are protobuf."""
    request = REQUESTS["logs"]()
    around = request.resource_logs.add()
    within = around.scope_logs.add()
    fill(around.resource.attributes, [*_AROUND.items(), *_said(resource)])
    fill(within.scope.attributes, _said(scope))
    for item in items:
        fill(within.log_records.add().attributes, [("device.type", "phone"), *_said(item)])
    text = orjson.dumps(MessageToDict(request))
    escaped = text.replace(b'"choices"', b'"\\u0063hoices"')
    return [(text, False), (escaped, False), (request.SerializeToString(), True)]


def _said(choices: Any) -> list[tuple[str, Any]]:
    return [] if choices is None else [("choices", choices)]


OTLP: tuple[tuple[Any, Any, Any, list[str]], ...] = (
    (None, None, None, _BOTH),
    ({"planning": False}, None, None, _CRASHES),
    (None, {"planning": False}, None, _CRASHES),
    (None, None, {"planning": False}, _CRASHES),
    ({"planning": False}, {"planning": True}, {"crashes": False}, _NEITHER),
    (None, None, {"planning": True, "other": "x"}, _BOTH),
    (None, None, {"planning": "x"}, _NEITHER),
    (None, ["planning"], None, _NEITHER),
    ("none", None, None, _NEITHER),
)


@pytest.mark.parametrize(("resource", "scope", "item", "fields"), OTLP)
def test_choices_in_otlp(
    chosen: Filter, resource: Any, scope: Any, item: Any, fields: list[str]
) -> None:
    """In the attributes of resource, scope or item: what one of them refuses is refused."""
    for text, protobuf in _logs(resource, scope, item):
        admission = chosen.admit_otlp("logs", text, protobuf=protobuf)
        assert fields_of(admission) == [fields]
        dropped = {name: {"purpose_refused": 1} for name in _BOTH if name not in fields}
        assert {name: dict(why) for name, why in admission.tally.dropped.items()} == dropped
    for text, protobuf in _logs(resource, scope, item, None, item):
        parts = chosen.admit_by_grant("logs", text, protobuf=protobuf)
        assert sum(part.tally.received for part in parts) == 3
        assert fields in [one for part in parts for one in fields_of(part)]


def test_choices_in_items_of_an_sdk(chosen: Filter) -> None:
    """Items that are Python objects mean the same; an array is a list here, and can be read."""
    for resource, scope, item, fields in OTLP:
        items = chosen.otlp_items(dict)
        place = items.context({**_AROUND, "choices": resource}, {"choices": scope})
        for _ in range(2):
            found = items.admit(place, {"device.type": "phone", "choices": item})
            assert found is not None
            assert sorted({**found[0], **found[1]}) == sorted(fields)
        assert items.tally().admitted == 2


# -- laws -----------------------------------------------------------------------------------------

_PURPOSE = st.sampled_from(["security", "planning", "crashes", "other"])
_CHOICES = st.one_of(
    st.none(),
    st.lists(_PURPOSE, max_size=3),
    st.dictionaries(_PURPOSE, st.booleans() | st.none(), max_size=3),
    st.booleans() | st.integers(0, 9) | st.text(max_size=3),
)


@given(_CHOICES, _CHOICES, st.sets(_PURPOSE.filter(lambda name: name != "other")))
def test_less_consent_never_adds_a_byte(
    chosen: Filter, written: Any, more: Any, refused: Any
) -> None:
    text = orjson.dumps({**_EVENT, "choices": written})
    (first,) = chosen.admit(orjson.dumps(_EVENT)).records
    (second,) = chosen.admit(text).records
    (third,) = chosen.without(refused).admit(text).records
    assert third.items() <= second.items() <= first.items()
    both = [written, more] if isinstance(written, list) and isinstance(more, list) else None
    if both is not None:
        wider = orjson.dumps({**_EVENT, "choices": [*written, *more]})
        assert chosen.admit(wider).records[0].items() <= second.items()


_WAYS = (
    {"consent": "choices"},
    {"consent": "'\"wünsche\".hier'"},
    {"consent": "told.here", "records": "people"},
    {"consent": "'[1].told'", "records": '["[0].*", "."]'},
)


@pytest.fixture(scope="module")
def choosing(tmp_path_factory: pytest.TempPathFactory) -> list[Schema]:
    """Schemas with a ``consent`` path each."""
    return [made(tmp_path_factory.mktemp("choosing"), **way) for way in _WAYS]


@given(st.data(), st.sampled_from(range(len(_WAYS))))
def test_one_meaning(choosing: list[Schema], data: st.DataObject, way: int) -> None:
    """Decoded at once = by members = reference, whatever is said, and however; as a mapping; and in
    OTLP, protobuf = JSON = reference."""
    schema = choosing[way]
    text = data.draw(payloads(schema, now=NOW) | lines(schema, now=NOW))
    fast, slow, expected = filter_of(schema), by_members(schema), reference(schema)
    for tested in (fast, slow):
        same(tested.admit(text), expected.admit(text))
        same(tested.admit_lines(text), expected.admit_lines(text))
    event = data.draw(events(schema, now=NOW))
    same(fast.admit(event), expected.admit(event))
    request = data.draw(bodies(schema, "logs"))
    wanted = OtlpReference(schema, as_of=NOW.date(), keys=fixed_key).admit_otlp(request)
    binary, body = request.SerializeToString(), orjson.dumps(MessageToDict(request))
    agree(
        schema,
        wanted,
        (fast.admit_otlp("logs", binary, protobuf=True), binary),
        (fast.admit_otlp("logs", body, protobuf=False), body),
    )


def test_noninterference(choosing: list[Schema]) -> None:
    """Nothing of choices is left but what they refuse, and refusing more never adds a byte."""
    for schema in choosing:
        assert_noninterference(schema, examples=settings().max_examples // 4 or 1)


def test_choices_are_never_kept(chosen: Filter, capfd: pytest.CaptureFixture[str]) -> None:
    """A canary in them is in no record, count, representation or explanation."""
    canary = "canary-7f3a"
    asked = {canary: canary}, {"planning": canary}, {"planning": [canary]}
    for written in ([canary], canary, *asked):
        event = {**_EVENT, "choices": written}
        for given_ in (event, orjson.dumps(event)):
            admission = chosen.admit(given_)
            assert canary not in f"{admission.encode()!r}{admission.tally}{admission!r}"
        explanations = list(explain(chosen.router, orjson.dumps(event), lines=False))
        assert canary not in repr(explanations)
        assert [one.record for one in explanations] == chosen.admit(event).records
    assert capfd.readouterr() == ("", "")


def test_granted_says_what_is_granted(chosen: Filter) -> None:
    """``None`` is everything: there is one admission where nothing is refused."""
    found: list[Granted] = [
        each.granted for each in chosen.admit_by_grant("json", orjson.dumps(_EVENT))
    ]
    assert found == [None]
    assert chosen.admit(_EVENT).granted is None


def test_records_of_all_grants_are_merged(schema: Schema) -> None:
    event = {"client.address": "203.0.113.7"}
    text = b"\n".join(map(orjson.dumps, (event, {**event, "choices": {"planning": False}})))
    (record,) = Filter(schema, merge=True).admit_lines(text).records
    assert record["count"] == 2
