"""A person's records of several schemas: each goes by what its own schema says of its fields."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from collector.config import Config
from collector.contracts import Batch, PendingBatch, Record, Removal, Tally, to_minute
from collector.errors import InputError
from collector.filter.stored import read
from collector.retention.locations import Locations
from collector.schema import Schema, load_schema
from collector.sinks.sink import Opening, open_sink
from collector.spool import Spool
from collector.subject.rights import Removing, SchemaSubject, export, remove, select
from tests.support.raising import raises

_CALLS, _STRICT, _WEB, _RTC = map(
    load_schema, ("conferencing", "conferencing-strict", "web", "webrtc")
)
_WINDOW = ("2026-01-01", "2099-01-01")
_PERSON, _OTHER = "203.0.113.0", "203.0.113.1"


def _records(schema: Schema) -> Iterator[Record]:
    """Two people's; one whose address is that of a network is what others are truncated to."""
    addresses = [_PERSON, _OTHER] if schema is not _STRICT else [_PERSON, _PERSON]
    for address in addresses:
        record: Record = {"schema": schema.id, "client.address": address, "os.type": "linux"}
        if schema.name in ("conferencing", "web"):
            record["os.name"] = "Linux"
        yield record


@pytest.fixture
def locations(tmp_path: Path) -> Locations:
    """A store and a file with records of four schemas, of which two are in force, and as many that
    wait."""
    schemas = (_CALLS, _STRICT)
    sinks = Config(sinks={"ndjson": {"path": str(tmp_path / "out.ndjson")}}).sinks.on()
    every = (_CALLS, _STRICT, _WEB, _RTC)
    payloads = {s.name: b"".join(orjson.dumps(r) + b"\n" for r in _records(s)) for s in every}
    minute = to_minute(datetime.now(UTC))
    data = tmp_path / "data"
    with Spool(data / "spool.db") as spool:
        for schema in every:
            payload = payloads[schema.name]
            tally = Tally(2, 2, bytes_out=len(payload))
            spool.put(PendingBatch(schema.layout, minute, payload, tally)).result()
    for name, settings in sinks.items():
        with open_sink(settings, Opening(name, schemas, data)) as sink:
            for number, schema in enumerate(every):
                batch = Batch(bytes([number] * 16), minute, (), schema.layout)
                sink.deliver(read(replace_payload(batch, payloads[schema.name])))
    return Locations(data, schemas, sinks)


def replace_payload(batch: Batch, payload: bytes) -> Batch:
    """The batch with its records."""
    return Batch(batch.id, batch.received, layout=batch.layout, payload=payload)


def _selected(locations: Locations, value: str = _PERSON) -> list[SchemaSubject]:
    return select(locations.schemas, "client.address", value, *_WINDOW)


def _left(locations: Locations) -> dict[str, int]:
    """How many records are left in each of the three places, by schema; they agree."""
    found = export(locations, select((_CALLS,), "client.address", _PERSON, *_WINDOW))
    names = (_CALLS.name, _STRICT.name, _WEB.name, _RTC.name)
    in_store = {name: sum(table == name for table, _ in found.sinks["store"]) for name in names}
    for each in (found.spool, [record for _, record in found.sinks["ndjson"]]):
        told = [str(record["schema"]).partition("/")[0] for record in each]
        assert {name: told.count(name) for name in names} == in_store
    return in_store


def test_truncated_values_lead_to_no_person(locations: Locations) -> None:
    """A person is found in schemas where the field leads to one, and in those that are in force no
    more; in the others nothing is shown or deleted."""
    assert _left(locations) == dict(zip(_left(locations), (1, 2, 1, 1), strict=True))
    found = export(locations, _selected(locations))
    assert sorted(table for table, _ in found.sinks["store"]) == ["conferencing", "web", "webrtc"]
    assert len(found.spool) == len(found.sinks["ndjson"]) == 3
    done = remove(locations, Removing(_selected(locations)), wait=1)
    assert (done.sinks, done.records, done.is_swept) == ({"store": 3, "ndjson": 3}, 3, True)
    assert _left(locations) == dict(zip(_left(locations), (0, 2, 0, 0), strict=True))
    others = export(locations, _selected(locations, _OTHER))
    assert [len(each) for each in others.sinks.values()] == [3, 3]
    assert len(others.spool) == 3


def test_what_is_optional_is_so_by_its_own_schema(locations: Locations) -> None:
    """The system's name is optional in one schema, and needed in another."""
    assert "os.name" in _CALLS.refusable
    assert _WEB.refusable == ()

    def objected(schemas: tuple[Schema, ...]) -> Removal:
        chosen = Locations(locations.data, schemas, locations.sinks)
        return remove(chosen, Removing(_selected(chosen), is_objection=True), wait=1)

    done = objected((_CALLS, _WEB))
    assert (done.sinks, done.records) == ({"store": 1, "ndjson": 1}, 1)
    found = export(locations, select((_WEB,), "client.address", _PERSON, *_WINDOW))
    by_table = {table: record for table, record in found.sinks["store"] if "os.name" in record}
    assert set(by_table) == {"web"}


def test_an_objection_reaches_schemas_that_are_in_force_no_more(locations: Locations) -> None:
    """What is optional in a schema in force goes there, too."""
    done = remove(locations, Removing(_selected(locations), is_objection=True), wait=1)
    assert (done.sinks, done.records) == ({"store": 2, "ndjson": 2}, 2)
    found = export(locations, select((_CALLS,), "client.address", _PERSON, *_WINDOW))
    assert not any("os.name" in record for _, record in found.sinks["store"])


def test_a_field_of_one_schema_is_enough() -> None:
    found = select((_STRICT, _CALLS), "client.address", _PERSON, *_WINDOW)
    assert [each.subject.schema for each in found] == ["conferencing", None]
    assert found[1].subject.besides == {"conferencing", "conferencing-strict"}
    (only,) = select((_CALLS,), "client.address", _PERSON, *_WINDOW)
    assert (only.subject.schema, only.subject.besides) == (None, frozenset())
    with raises("E404", InputError, match="truncated"):
        select((_STRICT,), "client.address", _PERSON, *_WINDOW)
    with raises("E404", InputError, match="coarse"):
        select((_STRICT, _CALLS), "os.type", "linux", *_WINDOW)
    with raises("E107", InputError):
        select((_STRICT, _CALLS), "client.address", "canary", *_WINDOW)
    with raises("E107", InputError):
        select((_STRICT, _CALLS), "client.address", _PERSON, "2026-01-02", "2026-01-01")
