"""The laws of the filter, as properties of random payloads under random schemas.

``COLLECTOR_EXAMPLES`` sets how many examples each law is tried with (100 by default).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import Filter, Schema, load_schema
from collector.contracts import REJECTIONS
from collector.filter import Admission, events, shape, text
from collector.schema.kinds import Circumstances
from collector.testing import assert_noninterference, lines, payloads, schemas
from collector.testing import events as mappings
from collector.testing.documents import PURPOSES
from collector.testing.laws import agree, stand_alone
from collector.testing.laws import fixed_key as key
from collector.testing.texts import seeds
from collector.testing.twins import twins
from tests.filter.reference import Outcome, Reference

AS_OF = date(2026, 6, 1)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
BEFORE_ALL_EXPIRY = date(2019, 12, 31)
SHIPPED = ("conferencing", "conferencing-strict", "participants-qos")
some = settings(max_examples=max(1, settings().max_examples // 3))
granted = st.none() | st.sets(st.sampled_from(PURPOSES), max_size=2)


def made(schema: Schema, purposes: Any = None, **options: Any) -> Filter:
    return Filter(schema, purposes=purposes, as_of=AS_OF, keys=key, **options)


def tolerant(schema: Schema, purposes: Any = None) -> Filter:
    """A filter that takes the tolerant path for every event."""

    def only_slow(payloads: Any, draft: Any, outer: Any, slow: Callable[[Any], None]) -> None:
        for payload in payloads:
            slow(payload)

    made_so = made(schema, purposes)
    made_so._events._fill = only_slow
    return made_so


def reference(schema: Schema, purposes: Any = None, **options: Any) -> Reference:
    return Reference(schema, purposes=purposes, as_of=AS_OF, keys=key, **options)


@cache
def shipped(name: str) -> tuple[Schema, Filter, Filter, Reference]:
    schema = load_schema(name)
    return schema, made(schema), tolerant(schema), reference(schema)


def same(admission: Admission, expected: Admission | Outcome) -> None:
    assert admission.encode() == expected.encode()
    assert admission.tally == expected.tally
    assert repr(admission.records) == repr(expected.records)
    assert [json.loads(line) for line in admission.encode().splitlines()] == expected.records


@contextmanager
def in_small_pieces() -> Iterator[int]:
    """Limits and buffers so small that random payloads cross them; gives the most items."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "PIECE", 7)
        patch.setattr(text, "_MOST_SHARED", 60)
        patch.setattr(events, "PIECE", 7)
        patch.setattr(shape, "_PIECE", 5)
        patch.setattr(shape, "_STRIDE", 3)
        patch.setattr(events, "MAX_ITEMS", 2)
        patch.setattr(events._elements, "__defaults__", (2,))
        yield 2


@given(st.data(), schemas(), granted)
def test_one_meaning_of_documents(data: st.DataObject, schema: Schema, purposes: Any) -> None:
    """Fast path = tolerant path = reference, for any bytes taken as one document."""
    payload = data.draw(payloads(schema, now=NOW))
    expected = reference(schema, purposes).admit(payload)
    same(made(schema, purposes).admit(payload), expected)
    same(tolerant(schema, purposes).admit(payload), expected)


@given(st.data(), schemas(), granted)
def test_one_meaning_of_lines(data: st.DataObject, schema: Schema, purposes: Any) -> None:
    """Fast path = tolerant path = reference, for any bytes taken as lines."""
    payload = data.draw(lines(schema, now=NOW))
    expected = reference(schema, purposes).admit_lines(payload)
    same(made(schema, purposes).admit_lines(payload), expected)
    same(tolerant(schema, purposes).admit_lines(payload), expected)


@pytest.mark.parametrize("name", SHIPPED)
@given(st.data())
def test_one_meaning_under_the_shipped_schemas(name: str, data: st.DataObject) -> None:
    """The same for the schemas that are shipped, whose catalogues are long."""
    schema, fast, slow, expected = shipped(name)
    payload = data.draw(payloads(schema, now=NOW))
    for tested in (fast, slow):
        same(tested.admit(payload), expected.admit(payload))


@given(st.data(), schemas())
def test_one_meaning_however_a_payload_is_cut_up(data: st.DataObject, schema: Schema) -> None:
    """The size of buffers changes nothing, and there may be too many items anywhere."""
    payload = data.draw(payloads(schema, now=NOW) | lines(schema, now=NOW))
    with in_small_pieces() as most:
        slow, fast, paths = reference(schema, most_items=most), made(schema), tolerant(schema)
        for expected, *others in (
            (slow.admit(payload), fast.admit(payload), paths.admit(payload)),
            (slow.admit_lines(payload), fast.admit_lines(payload), paths.admit_lines(payload)),
        ):
            for admission in others:
                same(admission, expected)


@given(st.data(), schemas(), granted)
def test_one_meaning_of_mappings(data: st.DataObject, schema: Schema, purposes: Any) -> None:
    """Mapping path = reference, for any mapping, foreign types and keys included."""
    event = data.draw(mappings(schema, now=NOW))
    same(made(schema, purposes).admit(event), reference(schema, purposes).admit(event))


@given(st.data(), schemas(), granted)
def test_a_mapping_means_what_its_json_means(
    data: st.DataObject, schema: Schema, purposes: Any
) -> None:
    """Mapping path = bytes path, for what JSON can say."""
    event = data.draw(mappings(schema, plain=True, now=NOW))
    admit = made(schema, purposes).admit
    mapped, written = admit(event), admit(json.dumps(event))
    assert mapped.encode() == written.encode()
    written.tally.bytes_in = 0
    assert mapped.tally == written.tally


@given(st.data(), schemas(), granted, st.booleans())
def test_conservation(data: st.DataObject, schema: Schema, purposes: Any, merge: bool) -> None:
    """``received == admitted + sum(rejected)``, and every record is one that was admitted."""
    payload = data.draw(payloads(schema, now=NOW) | lines(schema, now=NOW))
    event = data.draw(mappings(schema, now=NOW))
    tested = made(schema, purposes, merge=merge)
    for admission in (tested.admit(payload), tested.admit_lines(payload), tested.admit(event)):
        tally, records = admission.tally, admission.records
        assert tally.received == tally.admitted + sum(tally.rejected.values())
        assert tally.admitted == sum(int(record.get("count", 1)) for record in records)
        assert set(tally.rejected) <= set(REJECTIONS)
        assert tally.bytes_out == len(admission.encode())


def changed(schema: Schema, fields: Mapping[str, Any]) -> Schema:
    """The schema with other fields, nothing of it remembered."""
    parts = {part: getattr(schema, part) for part in Schema.model_fields}
    return Schema.model_construct(**parts | {"fields": fields})


def untangled(schema: Schema) -> Schema:
    """The schema, no field of which reads what a record says under another name.

    Such records are no fixed points: with ``a`` read from ``b`` and ``b`` from ``c``, the event
    ``{"b": 1, "c": 2}`` gives ``{"a": 1, "b": 2}``, and that gives ``{"a": 2, "b": 2}``.
    """
    names = {*schema.fields, "schema"}
    fields = {}
    for name, field in schema.fields.items():
        sources = tuple(path for path in field.sources or () if path not in names - {name})
        fields[name] = field.model_copy(update={"sources": sources or None})
    return changed(schema, fields)


def nothing_required(schema: Schema) -> Schema:
    """The schema, no record of which is refused for what it lacks."""
    fields = schema.fields.items()
    return changed(schema, {n: f.model_copy(update={"required": False}) for n, f in fields})


def in_its_list(record: Any, schema: Schema) -> Any:
    return record if schema.records is None else {schema.records: [record]}


@given(st.data(), schemas())
def test_idempotence(data: st.DataObject, schema: Schema) -> None:
    """A record through its own filter is the same record, pseudonyms aside."""
    schema = untangled(schema)
    tested = made(schema)
    payload = data.draw(payloads(schema, now=NOW))
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


@given(st.data(), schemas(), granted, seeds(), seeds())
def test_noninterference(
    data: st.DataObject, schema: Schema, purposes: Any, seed: int, other: int
) -> None:
    """What a schema does not admit changes no record, whatever the schema."""
    pair = data.draw(twins(schema, Circumstances(lambda: NOW, key)))
    agree(made(schema, purposes), pair, (seed, other))


@pytest.mark.parametrize("name", SHIPPED)
def test_noninterference_of_the_shipped_schemas(name: str) -> None:
    """What a shipped schema does not admit changes no record."""
    assert_noninterference(load_schema(name), examples=settings().max_examples // 2 or 1)


@given(st.data(), schemas(), granted)
def test_tallies_add_up(data: st.DataObject, schema: Schema, purposes: Any) -> None:
    """A batch gives the records and the counts that its lines give one by one."""
    stand_alone(made(schema, purposes), data.draw(lines(schema, now=NOW)))


@given(st.data(), schemas())
def test_merging_conserves_counts(data: st.DataObject, schema: Schema) -> None:
    """With ``merge`` each different record is there once, with its number, at its first place."""
    several = data.draw(st.lists(lines(schema, now=NOW), min_size=1, max_size=3))
    chosen = data.draw(st.lists(st.sampled_from(several), max_size=6))
    payload = b"\n".join(chosen)
    plain, merged = (made(schema, merge=merge).admit_lines(payload) for merge in (False, True))
    numbers = Counter(plain.encode().splitlines())
    listed = merged.records
    assert 1 not in [record.get("count") for record in listed]
    assert [record.pop("count", 1) for record in listed] == list(numbers.values())
    assert listed == [json.loads(line) for line in numbers]
    merged.tally.bytes_out = plain.tally.bytes_out
    assert merged.tally == plain.tally


@given(st.data(), schemas(), granted)
def test_a_withheld_field_is_as_good_as_none(
    data: st.DataObject, schema: Schema, purposes: Any
) -> None:
    """The records are those of a schema without the field."""
    tested = made(schema, purposes)
    withheld = {column.name for column in tested.plan.columns if column.withheld}
    kept = {name: field for name, field in schema.fields.items() if name not in withheld}
    payload = data.draw(lines(schema, now=NOW))
    admission = tested.admit_lines(payload)
    if not kept or any(schema.fields[name].required for name in withheld):
        assert not admission.records
        return
    expected = made(changed(schema, kept), purposes).admit_lines(payload)
    assert admission.encode() == expected.encode()
    others = {name: n for name, n in admission.tally.dropped.items() if name not in withheld}
    assert others == expected.tally.dropped
    assert admission.tally.content == expected.tally.content


@given(st.data(), schemas(), granted)
def test_a_withheld_field_is_counted_where_it_is(
    data: st.DataObject, schema: Schema, purposes: Any
) -> None:
    """A withheld field is one drop wherever it is present, under its reason and no other."""
    schema = nothing_required(schema)
    tested = made(schema, purposes)
    withheld = {column.name: column.withheld for column in tested.plan.columns if column.withheld}
    payload = data.draw(lines(schema, now=NOW))
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
    schema = nothing_required(schema)
    tested = made(schema, purposes=())
    for name in schema.fields:
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
