"""People are erased while a sink prunes itself, and come again: what is new of them is kept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest

from collector.config.sink_settings import SinkSettings
from collector.contracts import Subject, to_minute
from collector.filter.redaction import EVERYTHING, Rule
from collector.schema import load_schema
from collector.sinks.ndjson import NdjsonSettings
from collector.sinks.parquet import ParquetSettings
from collector.sinks.sink import ErasableSink, Opening, open_sink
from collector.sinks.store import StoreSettings
from collector.testing.sinks import batch_of, person
from tests.support.unpacked import every_byte

_SCHEMA = load_schema("conferencing")
_TYPES: dict[str, Callable[[Path], SinkSettings]] = {
    "store": lambda path: StoreSettings(type="store", path=path / "store.db"),
    "ndjson": lambda path: NdjsonSettings(type="ndjson", path=path / "r.ndjson", rotate=1024),
    "parquet": lambda path: ParquetSettings(type="parquet", path=path / "lake"),
}


def _erased(number: int) -> Rule:
    now = datetime.now(UTC)
    start, end = (to_minute(now + timedelta(days=days)) for days in (-200, 1))
    return Rule.removal(Subject("client.address", person(number), start, end), None)


@pytest.mark.parametrize("name", _TYPES)
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_person_is_erased_between_two_parts_of_a_pruning(
    tmp_path: Path, name: str, after: int
) -> None:
    """The person comes again afterwards, and stays."""
    opening = Opening(name, (_SCHEMA,), tmp_path)
    with open_sink(_TYPES[name](tmp_path), opening) as sink:
        assert isinstance(sink, ErasableSink)
        sink.prune_at = float("inf")
        for number in range(8):
            old = batch_of(number, [1, 2], _SCHEMA, age=timedelta(days=100))
            sink.deliver(old, batch_of(100 + number, [1, 3], _SCHEMA))
        sink.finish()
        steps = sink.steps(sink.expiry(datetime.now(UTC)))
        for _ in range(after):
            next(steps, None)
        (removal,) = sink.rewrite([_erased(1)])
        assert removal.is_swept
        sink.deliver(batch_of(200, [1, 4], _SCHEMA))
        assert all(each.is_swept for each in steps)
        sink.prune_at = 0.0
        while sink.prune_at <= monotonic():
            sink.idle()
        sink.finish()
        found = [str(each.get("client.address")) for _, each in sink.scan(EVERYTHING)]
    assert sorted(found) == sorted([person(1), *[person(3)] * 8, person(4)])
    assert person(2).encode() + b'"' not in every_byte(tmp_path)
