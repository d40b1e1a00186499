"""Store, spool, batches that were set aside, and an application's spool: when somebody is erased
out of one, no byte of them is in any of its files, though pages were divided and joined."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collector import Collector
from collector.contracts import Batch, PendingBatch, Removal, Subject, Tally, to_minute
from collector.filter.redaction import Rule
from collector.filter.stored import read
from collector.retention import upkeep
from collector.schema import load_schema
from collector.sinks.sink import Opening
from collector.sinks.store import Store, StoreSettings, StoreSink
from collector.spool import FILE_NAME, Spool
from tests.support.deadline import WAIT_SECONDS
from tests.support.make_batches import plant_aside
from tests.support.unpacked import every_byte

_SCHEMA = load_schema("conferencing")
_PEOPLE = 200


def _address(number: int) -> str:
    return f"10.{100 + number // 100}.{100 + number % 100}.200"


def _minute(number: int) -> str:
    return to_minute(datetime.now(UTC) - timedelta(minutes=number))


def _payload(number: int, chance: random.Random) -> bytes:
    """Records of a person: so many that batches have many sizes."""
    line = f'{{"schema":"{_SCHEMA.id}","client.address":"{_address(number)}","os.type":"linux"}}\n'
    return line.encode() * chance.choice((1, 2, 9, 40))


def _batches(chance: random.Random) -> list[Batch]:
    order = chance.sample(range(_PEOPLE), _PEOPLE)
    return [
        Batch(
            number.to_bytes(16),
            _minute(number),
            layout=_SCHEMA.layout,
            payload=_payload(number, chance),
        )
        for number in order
    ]


def _store(directory: Path, batches: Sequence[Batch], rule: Rule) -> list[Removal]:
    with Store(directory / "store.db", _SCHEMA) as store:
        for batch in batches:
            store.deliver(read(batch))
    settings = StoreSettings(type="store", path=directory / "store.db")
    return StoreSink(settings, Opening("store", (_SCHEMA,), directory, is_offline=True)).rewrite(
        [rule]
    )


def _spool(directory: Path, batches: Sequence[Batch], rule: Rule) -> list[Removal]:
    with Spool(directory / FILE_NAME, sinks=["sink"]) as spool:
        for batch in batches:
            number = batch.payload.count(b"\n")
            tally = Tally(number, number)
            spool.put(PendingBatch(_SCHEMA.layout, batch.received, batch.payload, tally)).result()
        return upkeep.clear(spool, [rule], wait=10)


def _set_aside(directory: Path, batches: Sequence[Batch], rule: Rule) -> list[Removal]:
    path = directory / FILE_NAME
    with Spool(path, sinks=["sink"]):
        pass
    for batch in batches:
        plant_aside(path, "sink", batch)
    with Spool(path, sinks=["sink"]) as spool:
        return upkeep.clear(spool, [rule], wait=10)


def _of_application(directory: Path, batches: Sequence[Batch], rule: Rule) -> list[Removal]:
    """Nobody listens there, so records stay in the application's spool."""
    with Collector(_SCHEMA, "http://127.0.0.1:9", spool=directory / "own", exit_timeout=0) as app:
        for batch in batches:
            address = read(batch).records[0]["client.address"]  # a queue has room for some thousand
            app.emit({"ip": address, "os": {"type": "linux"}})
        assert app.flush(WAIT_SECONDS)
    with Spool(directory / "own" / "0" / FILE_NAME, sinks=["target"]) as spool:
        return upkeep.clear(spool, [rule], wait=10)


@pytest.mark.parametrize("erased", [_store, _spool, _set_aside, _of_application])
def test_no_byte_of_anybody_erased_is_left(
    tmp_path: Path, erased: Callable[[Path, Sequence[Batch], Rule], list[Removal]]
) -> None:
    chance = random.Random(7)
    gone = set(chance.sample(range(_PEOPLE), _PEOPLE // 2))
    rule = Rule.any_of(
        [Rule.removal(Subject("client.address", _address(n), "", "~"), None) for n in gone]
    )
    (removal,) = erased(tmp_path, _batches(chance), rule)
    assert removal.is_swept
    assert removal.deleted
    content = every_byte(tmp_path)
    assert [n for n in gone if _address(n).encode() in content] == []
    assert [n for n in {*range(_PEOPLE)} - gone if _address(n).encode() not in content] == []
