"""The laws of the filter, as properties of random payloads under random schemas.

``COLLECTOR_EXAMPLES`` sets how many examples each law is tried with (25).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import Filter, Schema, load_schema
from collector.contracts import REJECTIONS
from collector.filter import Admission, records, router, shape, text
from collector.schema.kinds import Circumstances
from collector.schema.scalars import condition_of, keys, path_of, spoken
from collector.schema.scalars import levels as lists_on
from collector.testing import assert_noninterference
from collector.testing._texts import Verbatim, seeds, write
from collector.testing._values import agents
from collector.testing.laws import agree, event_pairs, narrows, stand_alone
from collector.testing.laws import fixed_key as key
from tests.filter.reference import Outcome, Reference, levels
from tests.strategies import events as mappings
from tests.strategies import lines, payloads, schemas
from tests.strategies.documents import PURPOSES
from tests.support import make_schemas

AS_OF = date(2026, 6, 1)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
BEFORE_ALL_EXPIRY = date(2019, 12, 31)
SHIPPED = ("conferencing", "conferencing-strict", "participants-qos")
some = settings(max_examples=max(1, settings().max_examples // 3))
granted = st.none() | st.sets(st.sampled_from(PURPOSES), max_size=2)


_MADE: dict[Any, tuple[Schema, Filter]] = {}


def made(schema: Schema, purposes: Any = None, **options: Any) -> Filter:
    """A filter, which is compiled once for the same schema, purposes and options."""
    of = (id(schema), None if purposes is None else frozenset(purposes), *options.items())
    if of not in _MADE:
        if len(_MADE) >= 64:
            _MADE.clear()
        # the schema too, or another one could get its id
        _MADE[of] = schema, fresh(schema, purposes, **options)
    return _MADE[of][1]


def fresh(schema: Schema, purposes: Any = None, **options: Any) -> Filter:
    """A filter that no other test has, to be changed."""
    return Filter(schema, purposes=purposes, as_of=AS_OF, keys=key, **options)


def by_members(schema: Schema, purposes: Any = None) -> Filter:
    """A filter that decodes each member of an event alone, whatever its types."""
    of = (id(schema), None if purposes is None else frozenset(purposes), "by members")
    if of not in _MADE:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shape.Shape, "finish", untyped)
            _MADE[of] = schema, fresh(schema, purposes)
    return _MADE[of][1]


_finish = shape.Shape.finish


def untyped(found: shape.Shape) -> bool:
    """Take a shape for one that no text can be decoded into."""
    _finish(found)
    found.is_typed = False
    return False


def reference(schema: Schema, purposes: Any = None, **options: Any) -> Reference:
    return Reference(schema, purposes=purposes, as_of=AS_OF, keys=key, **options)


@cache
def load_once(name: str) -> Schema:
    return load_schema(name)


@cache
def shipped(name: str) -> tuple[Schema, Filter, Filter, Reference]:
    schema = load_once(name)
    return schema, made(schema), by_members(schema), reference(schema)


def same(admission: Admission | Outcome, expected: Admission | Outcome) -> None:
    """Records and counts are equal, and nothing that was received is lost."""
    tally, kept = admission.tally, admission.records
    assert admission.encode() == expected.encode()
    assert tally == expected.tally
    assert repr(kept) == repr(expected.records)
    assert [json.loads(line) for line in admission.encode().splitlines()] == expected.records
    assert tally.received == tally.admitted + sum(tally.rejected.values())
    assert tally.admitted == sum(int(record.get("count", 1)) for record in kept)
    assert set(tally.rejected) <= set(REJECTIONS)
    assert tally.bytes_out == len(admission.encode())


def in_its_list(record: Any, schema: Schema) -> Any:
    """An event around a record; none is a list, so that it can be a mapping."""
    for way in schema.ways or ".":
        if way == ".":
            return record
        if way == "*":
            return {"a": record}
        if not way.startswith("["):
            for level in reversed(lists_on(way)):
                listed = {"": record} if level.endswith(".*") else [record]
                record = {".".join(map(str, keys(level.removesuffix(".*")))): listed}
            return record
    raise AssertionError(schema.records)


def changed(schema: Schema, fields: Mapping[str, Any], **others: Any) -> Schema:
    """The schema with other fields and other parts, nothing of it remembered."""
    parts = {part: getattr(schema, part) for part in Schema.model_fields}
    return Schema.model_construct(**parts | {"fields": fields} | others)


@contextmanager
def in_small_pieces() -> Iterator[dict[str, int]]:
    """Limits and buffers so small that random payloads cross them; gives the limits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "PIECE", 7)
        for module in (text, router):
            patch.setattr(module, "SLICE", 90)
        patch.setattr(text, "_MAX_SHARED", 120)
        patch.setattr(records, "PIECE", 7)
        patch.setattr(text, "_CHUNK", 5)
        patch.setattr(text, "_WINDOW", 4)
        patch.setattr(text, "_STRIDE", 3)
        for module in (router, records):
            patch.setattr(module, "MAX_ITEMS", 2)
        patch.setattr(text, "MAX_DEPTH", 6)
        yield {"most_items": 2, "most_levels": 6}


PEERS = st.none() | st.sampled_from(["203.0.113.7", "2001:db8::7", "fe80::1%eth0", "", "unix"])
SAYS = st.fixed_dictionaries(
    {"peer": PEERS, "user_agent": st.none() | agents().filter(lambda a: type(a) is str)}
)


@given(st.data(), schemas(), granted, SAYS)
def test_one_meaning(data: st.DataObject, schema: Schema, purposes: Any, says: Any) -> None:
    """Decoded at once = decoded by members = reference, for any bytes taken as one document or as
    lines, and for any mapping, foreign types and keys included, whatever the request says; also
    where the size of buffers is small, and there are too many items anywhere. A mapping means what
    its JSON means, and a record through its own filter is the same record."""
    tested = made(schema, purposes)
    both = tested, by_members(schema, purposes)
    document, text = data.draw(payloads(schema, now=NOW)), data.draw(lines(schema, now=NOW))
    event = data.draw(mappings(schema, now=NOW))
    _agree(both, reference(schema, purposes), document, text, event, says)
    with in_small_pieces() as limits:
        _agree(both, reference(schema, purposes, **limits), document, text, event, {})
    plain = data.draw(mappings(schema, plain=True, now=NOW))
    mapped, written = tested.admit(plain, **says), tested.admit(json.dumps(plain), **says)
    written.tally.bytes_in = 0
    same(written, mapped)
    for payload in (document, json.dumps(plain)):
        _comes_back(all_selected(untangled(schema)), payload)


def _agree(
    both: tuple[Filter, Filter],
    expected: Reference,
    document: bytes,
    text: bytes,
    event: Any,
    says: Any,
) -> None:
    same(both[0].admit(event, **says), expected.admit(event, **says))
    of_document = expected.admit(document, **says)
    of_lines = expected.admit_lines(text, **says)
    for tested in both:
        same(tested.admit(document, **says), of_document)
        same(tested.admit_lines(text, **says), of_lines)


def _comes_back(schema: Schema, payload: bytes | str) -> None:
    """Each record through its own filter, as a mapping and as a text; pseudonyms aside."""
    tested = made(schema)
    pseudonyms = {name for name, field in schema.fields.items() if field.kind == "pseudonym"}
    for record in tested.admit(payload).records:
        text = json.dumps(in_its_list(record, schema))
        for again in (tested.admit(text), tested.admit(in_its_list(record, schema))):
            (kept,) = again.records
            assert list(kept) == list(record)
            assert {key: kept[key] for key in kept if key not in pseudonyms} == {
                key: record[key] for key in record if key not in pseudonyms
            }
            assert not again.tally.dropped


@given(st.sampled_from(SHIPPED), st.data())
def test_one_meaning_under_the_shipped_schemas(name: str, data: st.DataObject) -> None:
    """The same for the schemas that are shipped, whose catalogues are long."""
    schema, fast, slow, expected = shipped(name)
    payload = data.draw(payloads(schema, now=NOW))
    for tested in (fast, slow):
        same(tested.admit(payload), expected.admit(payload))


NUMBERS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,22})(\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
) | st.integers(300, 6000).map(lambda digits: "7" * digits)


@given(schemas(), NUMBERS, seeds())
def test_one_meaning_of_numbers(schema: Schema, number: str, seed: int) -> None:
    event = in_its_list({name: Verbatim(number) for name in schema.fields}, schema)
    payload = write(event, seed)
    expected = reference(schema).admit(payload)
    same(made(schema).admit(payload), expected)
    same(by_members(schema).admit(payload), expected)


@given(st.data(), schemas())
def test_one_meaning_of_shared_paths(data: st.DataObject, schema: Schema) -> None:
    """When fields of several kinds read the same member, which is one of their names too."""
    fields = schema.fields.items()
    shared = (data.draw(st.sampled_from([*schema.fields, "a", "a.b"])),)
    every = {name: field.model_copy(update={"sources": shared}) for name, field in fields}
    schema = changed(schema, every, records=None)
    payload = data.draw(payloads(schema, now=NOW))
    expected = reference(schema).admit(payload)
    same(made(schema).admit(payload), expected)
    same(by_members(schema).admit(payload), expected)


@given(st.lists(st.integers(0, 3) | st.none(), min_size=1, max_size=3), st.booleans())
def test_records_of_one_text_count_together(numbers: list[int | None], as_lines: bool) -> None:
    schema = load_once("participants-qos")
    documents = [{"participants": [{"device": "Mac"}] * n if n is not None else n} for n in numbers]
    with in_small_pieces() as limits:
        slow, fast, paths = (
            tested.admit_lines if as_lines else tested.admit
            for tested in (reference(schema, **limits), made(schema), by_members(schema))
        )
        payload = json.dumps(documents).encode()
        if as_lines:
            payload = b"\n".join(json.dumps(document).encode() for document in documents)
        same(fast(payload), slow(payload))
        same(paths(payload), slow(payload))


TANGLED = st.recursive(
    st.text(alphabet='"\\[]{},a\n', max_size=9),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4)
        | st.dictionaries(st.text(alphabet='"\\[', max_size=3), inner, max_size=3)
    ),
)


@given(st.lists(TANGLED, min_size=1, max_size=5), st.integers(2, 9), st.integers(1, 9))
def test_the_shape_of_a_text_is_that_of_its_value(value: list[Any], piece: int, most: int) -> None:
    """Depth and number of elements, whatever brackets and escapes its strings hold."""
    payload = json.dumps(value).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_CHUNK", piece)
        patch.setattr(text, "_STRIDE", 3)
        patch.setattr(text, "MAX_DEPTH", most)
        for form in (payload, memoryview(payload)):
            assert text.is_deep(form) == (levels(payload.decode()) > most)
            assert text.count_elements(form) == len(value)


def untangled(schema: Schema) -> Schema:
    """The schema, no field of which reads what a record says under another name.

    Such records are no fixed points: with ``a`` read from ``b`` and ``b`` from ``c``, the event
    ``{"b": 1, "c": 2}`` gives ``{"a": 1, "b": 2}``, and that gives ``{"a": 2, "b": 2}``.
    """
    names = {*schema.fields, "schema"}
    fields = {}
    for name, field in schema.fields.items():
        listed = (s for s in field.sources or () if not condition_of(s))
        sources = tuple(s for s in listed if spoken(path_of(s)) not in names - {name})
        fields[name] = field.model_copy(update={"sources": sources or None})
    return changed(schema, fields)


def nothing_required(schema: Schema) -> Schema:
    """The schema, no record of which is refused for what it lacks."""
    fields = schema.fields.items()
    return changed(schema, {n: f.model_copy(update={"required": False}) for n, f in fields})


def all_selected(schema: Schema) -> Schema:
    """The schema, whose records need meet no condition."""
    return changed(schema, schema.fields, records=schema.ways or None)


def nothing_derived(schema: Schema) -> Schema:
    """The schema, all of whose values stand in the event."""
    fields = schema.fields.items()
    return changed(schema, {n: f.model_copy(update={"derive": None}) for n, f in fields})


@given(st.data(), schemas(), granted, seeds(), seeds())
def test_noninterference(
    data: st.DataObject, schema: Schema, purposes: Any, seed: int, other: int
) -> None:
    """What a schema does not admit changes no record, whatever the schema."""
    pair = data.draw(event_pairs(schema, Circumstances(lambda: NOW, key)))
    agree(made(schema, purposes), pair, (seed, other))


@pytest.mark.parametrize("name", SHIPPED)
def test_noninterference_of_the_shipped_schemas(name: str) -> None:
    """What a shipped schema does not admit changes no record."""
    assert_noninterference(load_schema(name), examples=settings().max_examples // 2 or 1)


@given(st.data(), schemas(), granted, st.sets(st.sampled_from(PURPOSES), min_size=1))
def test_lines_and_refusals(
    data: st.DataObject, schema: Schema, purposes: Any, refused: set[str]
) -> None:
    """A batch gives the records and the counts that its lines give one by one. Refusing more never
    adds a byte, and neither do the choices in events."""
    tested, payload = made(schema, purposes), data.draw(lines(schema, now=NOW))
    stand_alone(tested, payload)
    narrows(tested, tested.without(refused), payload)
    if schema.consent is not None:
        narrows(made(changed(schema, schema.fields, consent=None)), made(schema), payload)
    _merges(schema, b"\n".join([payload] * data.draw(st.integers(1, 3))))
    _withheld_is_none(schema, purposes, payload)
    _withheld_is_counted(nothing_derived(nothing_required(schema)), purposes, payload)


def _merges(schema: Schema, payload: bytes) -> None:
    """With ``merge`` each different record is there once, with its number, at its first place."""
    plain, merged = (made(schema, merge=merge).admit_lines(payload) for merge in (False, True))
    numbers = Counter(plain.encode().splitlines())
    listed = merged.records
    assert 1 not in [record.get("count") for record in listed]
    assert [record.pop("count", 1) for record in listed] == list(numbers.values())
    assert listed == [json.loads(line) for line in numbers]
    merged.tally.bytes_out = plain.tally.bytes_out
    assert merged.tally == plain.tally


_IN_A_LIST = make_schemas.field("boolean", **{"from": ['[3]."never there"']})


def _withheld_is_none(schema: Schema, purposes: Any, payload: bytes) -> None:
    """The records and the counts are those of a schema without the withheld fields. It has a field
    that is never there if withheld ones are looked for in lists, as they make lists events."""
    tested = made(schema, purposes)
    withheld = {column.name for column in tested.plan.columns if column.withheld}
    kept = {name: field for name, field in schema.fields.items() if name not in withheld}
    admission = tested.admit_lines(payload)
    if not kept or any(schema.fields[name].required for name in withheld):
        assert not admission.records
        return
    if tested.plan.reads_lists:
        kept["never.there"] = _IN_A_LIST
    expected = made(changed(schema, kept), purposes).admit_lines(payload)
    assert admission.encode() == expected.encode()
    others = {name: n for name, n in admission.tally.dropped.items() if name not in withheld}
    assert others == expected.tally.dropped
    assert admission.tally.content == expected.tally.content


def _withheld_is_counted(schema: Schema, purposes: Any, payload: bytes) -> None:
    """A withheld field is one drop wherever it is present, under its reason and no other.

    What a user agent would have said is not present: it is not asked.
    """
    tested = made(schema, purposes)
    withheld = {column.name: column.withheld for column in tested.plan.columns if column.withheld}
    everything = Filter(schema, as_of=BEFORE_ALL_EXPIRY, keys=key).admit_lines(payload)
    dropped = tested.admit_lines(payload).tally.dropped
    for name, reason in withheld.items():
        kept = sum(name in record for record in everything.records)
        present = kept + everything.tally.dropped.get(name, Counter()).total()
        assert dropped.get(name, Counter()) == Counter({reason: present} if present else {})


@some
@given(schemas())
def test_consent_is_what_was_withheld(schema: Schema) -> None:
    """An event whose only fields are refused is ``consent_withheld``; expired ones do not count."""
    schema = all_selected(nothing_required(schema))
    tested = made(schema, purposes=())
    for name in schema.fields:
        if name not in schema.fields[name].places(name):
            continue  # it is read under a condition only
        tally = tested.admit(in_its_list({name: "x"}, schema)).tally
        refused = any("purpose_refused" in reasons for reasons in tally.dropped.values())
        assert tally.rejected == {"consent_withheld" if refused else "nothing_admitted": 1}
        (withheld,) = (c.withheld for c in tested.plan.columns if c.name == name)
        assert tally.dropped[name] == {withheld: 1}


@some
@given(schemas())
def test_collection_stops_on_the_day(schema: Schema) -> None:
    """A field with ``expires`` is withheld from that day on, and not a day earlier."""
    for index, field in enumerate(schema.fields.values()):
        if field.expires is not None:
            before, then = (
                Filter(schema, as_of=day, keys=key).plan.columns[index].withheld
                for day in (field.expires - timedelta(days=1), field.expires)
            )
            assert (before, then) == (None, "expired")
