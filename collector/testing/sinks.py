"""The tests that every type of sinks passes.

A package derives a test class from ``SinkConformance`` that makes settings for a directory; pytest
then runs all tests::

    class TestWarehouse(SinkConformance):
        def settings(self, directory):
            return WarehouseSettings(type="warehouse", path=directory / "records")
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from collector.config.sink_settings import SinkSettings
from collector.contracts import (
    Batch,
    PendingBatch,
    Record,
    Removal,
    Subject,
    Tally,
    layout_of,
    to_minute,
)
from collector.drain import Drain, all_fields, redeliver
from collector.errors import DeliveryError, Unacceptable
from collector.filter.redaction import EVERYTHING, Rule
from collector.filter.stored import read
from collector.schema import Schema, load_schema
from collector.sinks.sink import ErasableSink, Holding, Opening, Sink, open_sink
from collector.spool import FILE_NAME, Spool
from collector.spool.tables import aside_batches

__all__ = ["SinkConformance", "batch_of", "person", "removal_of"]

_SCHEMA = "conferencing"
_WAIT_SECONDS = 60.0
_NOT_ERASABLE = "the sink cannot forget: override `records`"


@cache
def _schema() -> Schema:
    return load_schema(_SCHEMA)


def person(number: int) -> str:
    """Return the address in a person's records."""
    return f"203.0.113.{number}"


def batch_of(
    number: int, people: Collection[int], schema: Schema, *, age: timedelta = timedelta()
) -> Batch:
    """Return a batch as a drain delivers it, with a record of each person, received the given time
    ago. The same ``number`` gives the same id."""
    lines = (
        f'{{"schema":"{schema.id}","client.address":"{person(each)}","os.type":"linux"}}\n'
        for each in people
    )
    minute = to_minute(datetime.now(UTC) - age)
    payload = "".join(lines).encode()
    return read(Batch(number.to_bytes(16), minute, layout=schema.layout, payload=payload))


def removal_of(
    number: int,
    fields: Collection[str] | None = None,
    *,
    days: float = 9,
    schema: str | None = None,
    besides: frozenset[str] = frozenset(),
) -> Rule:
    """Return the rule by which a person's records of the last ``days`` lose ``fields``, or are
    removed with ``None``, in one ``schema`` or in all ``besides`` some."""
    now = datetime.now(UTC)
    start, end = to_minute(now - timedelta(days=days)), to_minute(now + timedelta(days=1))
    subject = Subject("client.address", person(number), start, end, schema, besides)
    return Rule.removal(subject, fields)


def _pending(batch: Batch) -> PendingBatch:
    tally = Tally(received=batch.record_count, admitted=batch.record_count)
    return PendingBatch(layout_of(batch), batch.received, batch.payload, tally)


class _Selective(Sink):
    """Passes batches to a sink, but treats batches with a certain text as unacceptable."""

    def __init__(self, sink: Sink, text: str) -> None:
        self._sink, self._text = sink, text.encode()

    def deliver(self, *batches: Batch) -> None:
        """Raise ``Unacceptable`` for the first batch with the text."""
        for batch in batches:
            if self._text in batch.payload:
                raise Unacceptable(batch.id)
        self._sink.deliver(*batches)


class SinkConformance:
    """The tests. Override ``settings``, and ``records`` if the sink cannot forget."""

    name = "tested"

    def settings(self, directory: Path) -> SinkSettings:
        """Return the settings of a sink whose location is in a directory or made for it."""
        raise NotImplementedError

    def records(self, directory: Path) -> dict[str, int]:
        """Return by address how many records of each person are at the location."""
        with self.opened(directory, offline=True) as sink:
            assert isinstance(sink, ErasableSink), _NOT_ERASABLE
            return {person(each): len(self._found(sink, each)) for each in range(1, 10)}

    def failing(self, directory: Path) -> AbstractContextManager[object] | None:
        """Return a context in which the location accepts nothing; ``None`` if that is
        impossible."""
        return None

    def plant(self, directory: Path) -> bool:
        """Add something that the type did not write to the place of the records; return whether
        that is possible."""
        return False

    @contextmanager
    def opened(
        self, directory: Path, *, offline: bool = False, reports: list[Removal] | None = None
    ) -> Iterator[Sink]:
        """Open the sink, and close it at the end."""
        report = [] if reports is None else reports
        opening = Opening(self.name, (_schema(),), directory, report.append, is_offline=offline)
        sink = open_sink(self.settings(directory), opening)
        try:
            yield sink
        finally:
            sink.close()

    # -- delivery ---------------------------------------------------------------------------------

    def test_it_keeps_what_it_gets(self, tmp_path: Path) -> None:
        """It keeps batches together and alone, whatever the order of their minutes, and after a
        restart."""
        self._deliver(tmp_path, self._batch(1, [1, 2]), self._batch(2, [2], days=2))
        self._deliver(tmp_path, self._batch(3, [3], days=1))
        assert self._number(tmp_path) == {1: 1, 2: 2, 3: 1}

    def test_a_batch_that_comes_again(self, tmp_path: Path) -> None:
        """With the guarantee ``once`` it has no effect, in the same call or process or after a
        restart. Otherwise it is stored at least once."""
        first, second = self._batch(1, [1, 2]), self._batch(2, [3])
        with self.opened(tmp_path) as sink:
            guarantee = sink.guarantee
            sink.deliver(first)
            sink.deliver(first, second)
        self._deliver(tmp_path, second)
        number = self._number(tmp_path)
        assert set(number) == {1, 2, 3}
        assert guarantee != "once" or set(number.values()) == {1}

    def test_batches_of_other_layouts(self, tmp_path: Path) -> None:
        """Another version of the schema and another schema are taken beside the sink's own."""
        other = self._batch(1, [1])
        assert other.layout is not None
        older = replace(
            other.layout,
            schema="conferencing/0.9.0",
            digest="0" * 64,
            columns=other.layout.columns[:2],
        )
        another = replace(other.layout, schema="other/1.0.0", digest="1" * 64, table="other")
        batches = [self._batch(number, [number]) for number in (1, 2, 3)]
        layouts = [other.layout, older, another]
        again = [
            read(Batch(batch.id, batch.received, layout=layout, payload=batch.payload))
            for batch, layout in zip(batches, layouts, strict=True)
        ]
        self._deliver(tmp_path, *again)
        assert self._number(tmp_path) == {1: 1, 2: 1, 3: 1}

    def test_a_failure_and_another_try(self, tmp_path: Path) -> None:
        """A batch that the location does not accept raises, and is accepted when it comes again."""
        self._deliver(tmp_path, self._batch(1, [1]))
        failing = self.failing(tmp_path)
        if failing is None:
            return
        with self.opened(tmp_path) as sink:
            has_failed = False
            with failing:
                try:
                    sink.deliver(self._batch(2, [2]))
                except DeliveryError:
                    has_failed = True
            assert has_failed
            sink.deliver(self._batch(2, [2]))
        assert self._number(tmp_path) == {1: 1, 2: 1}

    def test_idle_and_close(self, tmp_path: Path) -> None:
        """Tidying up changes no records; closing twice does nothing."""
        with self.opened(tmp_path) as sink:
            sink.deliver(self._batch(1, [1]))
            sink.idle()
            sink.close()
        assert self._number(tmp_path) == {1: 1}

    def test_what_is_unacceptable_is_set_aside(self, tmp_path: Path) -> None:
        """Batches behind one that the sink will never take are delivered. When that one is
        delivered again, it is stored; with the guarantee ``once``, only once."""
        with (
            self.opened(tmp_path) as sink,
            Spool(tmp_path / FILE_NAME, sinks=[self.name]) as spool,
        ):
            for each in (1, 2, 3):
                spool.put(_pending(self._batch(each, [each]))).result()
            drain = Drain(self.name, _Selective(sink, person(2)), spool, sets_aside=True)
            drain.start()
            drain.finish()
            drain.join(_WAIT_SECONDS)
            assert (drain.left, drain.delivery.delivered) == (False, 2)
        assert self._number(tmp_path) == {1: 1, 3: 1}
        (refused,) = aside_batches(tmp_path / FILE_NAME)
        for times in (1, 2):
            with self.opened(tmp_path) as sink:
                sink.deliver(read(refused.batch))
                most = 1 if sink.guarantee == "once" else times
            number = self._number(tmp_path)
            assert set(number) == {1, 2, 3}
            assert number[2] <= most
        with self.opened(tmp_path) as sink, Spool(tmp_path / FILE_NAME) as spool:
            assert redeliver(self.name, sink, spool, all_fields) == 1
        assert aside_batches(tmp_path / FILE_NAME) == []

    # -- retention and rights ---------------------------------------------------------------------

    def test_offline_nothing_is_made(self, tmp_path: Path) -> None:
        """If nothing was kept, a command finds nothing and leaves nothing behind."""
        with self._erasable(tmp_path) as sink:
            if sink is None:
                return
            now = datetime.now(UTC)
            assert not sink.exists
            assert list(sink.measure(EVERYTHING)) == []
            assert list(sink.overdue(now)) == []
            assert list(sink.scan(removal_of(1))) == []
            assert not sink.prune(now)
            assert not sink.rewrite([removal_of(1)])[0]
            assert not sink.rewrite([removal_of(1, ["os.type"])])[0]
        assert list(tmp_path.iterdir()) == []

    def test_what_is_too_old_is_overdue_and_pruned(self, tmp_path: Path) -> None:
        """Fields are removed one by one as their retentions end, and then the empty record."""
        self._deliver(tmp_path, self._batch(1, [1]), self._batch(2, [2], days=1))
        with self._erasable(tmp_path) as sink:
            if sink is None:
                return
            now = datetime.now(UTC)
            assert list(sink.overdue(now)) == []
            assert not sink.prune(now)
            for days, fields in ((31, {"os.type": 2}), (92, {})):
                later = now + timedelta(days=days)
                assert list(sink.overdue(later))
                assert sink.prune(later)
                assert list(sink.overdue(later)) == []
                assert _fields(sink) == fields

    def test_a_person_is_found_and_erased(self, tmp_path: Path) -> None:
        """All records of the person in the window are removed, and nobody else's."""
        self._deliver(tmp_path, self._batch(1, [1, 2, 1]), self._batch(2, [1], days=5))
        with self._erasable(tmp_path) as sink:
            if sink is None:
                return
            found = self._found(sink, 1, days=1)
            assert [record["client.address"] for record in found] == [person(1)] * 2
            (removal,) = sink.rewrite([removal_of(1, days=1)])
            assert (removal.records, removal.is_swept) == (2, True)
        assert self._number(tmp_path) == {1: 1, 2: 1}

    def test_several_people_are_erased(self, tmp_path: Path) -> None:
        """They are erased together, each with a separate count; some of them only lose fields."""
        self._deliver(tmp_path, self._batch(1, [1, 2, 3, 1]), self._batch(2, [2], days=5))
        with self._erasable(tmp_path) as sink:
            if sink is None:
                return
            rules = [removal_of(1), removal_of(2), removal_of(3, ["os.type"])]
            assert [each.records for each in sink.rewrite(rules)] == [2, 2, 1]
            assert _fields(sink) == {"client.address": 1}
        assert self._number(tmp_path) == {3: 1}

    def test_a_person_in_one_schema(self, tmp_path: Path) -> None:
        """A request about another schema's records neither finds nor changes these."""
        self._deliver(tmp_path, self._batch(1, [1]))
        with self._erasable(tmp_path) as sink:
            if sink is None:
                return
            for fields in (None, ["os.type"]):
                for rule in (
                    removal_of(1, fields, schema="other"),
                    removal_of(1, fields, besides=frozenset({_SCHEMA})),
                ):
                    assert list(sink.scan(rule)) == []
                    assert not any(sink.rewrite([rule]))
        assert self._number(tmp_path) == {1: 1}

    def test_a_person_is_erased_between_deliveries(self, tmp_path: Path) -> None:
        """The delivering sink erases, and goes on with the next batch; the person may come
        again."""
        with self.opened(tmp_path) as sink:
            sink.deliver(self._batch(1, [1, 2]))
            if not isinstance(sink, ErasableSink):
                return
            (removal,) = sink.rewrite([removal_of(1)])
            assert (removal.records, removal.is_swept) == (1, True)
            sink.deliver(self._batch(2, [1, 3]))
            assert sink.rewrite([removal_of(3, ["os.type"])])[0].records == 1
        assert self._number(tmp_path) == {1: 1, 2: 1, 3: 1}

    def test_a_person_objects(self, tmp_path: Path) -> None:
        """Some of their fields are removed, and records that have no others."""
        self._deliver(tmp_path, self._batch(1, [1, 2]))
        with self._erasable(tmp_path) as sink:
            if sink is None:
                return
            assert sink.rewrite([removal_of(1, ["os.type", "os.version"])])[0].records == 1
            assert _fields(sink) == {"client.address": 2, "os.type": 1}
            assert sink.rewrite([removal_of(2, ["os.type", "client.address"])])[0].records == 1
            assert _fields(sink) == {"client.address": 1}

    def test_the_inventory(self, tmp_path: Path) -> None:
        """It counts records and fields, and knows the first and the last minute."""
        old, new = self._batch(1, [1, 2], days=3), self._batch(2, [3])
        self._deliver(tmp_path, new, old)
        with self._erasable(tmp_path) as sink:
            if sink is None:
                return
            assert sink.exists
            (table,) = sink.measure(EVERYTHING)
            assert table.records == 3
            assert (table.first, table.last) == (old.received, new.received)
            assert _fields(sink) == {"client.address": 3, "os.type": 3}

    def test_counts_are_of_what_is_found(self, tmp_path: Path) -> None:
        """For any rule, ``measure`` counts the records that ``scan`` yields, and what they lose."""
        self._deliver(tmp_path, self._batch(1, [1, 2], days=3), self._batch(2, [1, 3]))
        with self._erasable(tmp_path) as sink:
            if sink is None:
                return
            later = sink.expiry(datetime.now(UTC) + timedelta(days=30))
            person_ = removal_of(1, ["os.type"])
            for rule, number in ((EVERYTHING, 4), (later, 2), (person_, 2)):
                assert len([*sink.scan(rule)]) == number
                counted = [_numbers(each) for each in sink.measure(rule)]
                assert counted == [_numbers(each) for each in ErasableSink.measure(sink, rule)]

    def test_the_values(self, tmp_path: Path) -> None:
        """If values are shown, all are, and only our own are there."""
        self._deliver(tmp_path, self._batch(1, [1, 2], days=3), self._batch(2, [3]))
        with self._erasable(tmp_path) as sink:
            found = None if sink is None else sink.values()
            if sink is None or found is None:
                return
            values = [members for _, members in found]
            people = set[object]().union(*(each.get("client.address", ()) for each in values))
            assert people - {None} == {person(each) for each in (1, 2, 3)}

    def test_what_it_did_not_write(self, tmp_path: Path) -> None:
        """It is counted or cannot be read. A type that cannot tell says so, before and after."""
        self._deliver(tmp_path, self._batch(1, [1, 2]))
        with self._erasable(tmp_path) as sink:
            if sink is None:
                return
            assert sink.others in (0, None)
            can_tell = sink.others is not None
        if self.plant(tmp_path):
            with self._erasable(tmp_path) as sink:
                assert sink is not None
                with suppress(DeliveryError):
                    found = sink.others
                    assert found if can_tell else found is None

    # -- what the tests need ----------------------------------------------------------------------

    def _batch(self, number: int, people: Collection[int], days: float = 0) -> Batch:
        return batch_of(number, people, _schema(), age=timedelta(days=days))

    def _deliver(self, directory: Path, *batches: Batch) -> None:
        with self.opened(directory) as sink:
            sink.deliver(*batches)

    def _number(self, directory: Path) -> dict[int, int]:
        found = self.records(directory)
        return {each: found[person(each)] for each in range(1, 10) if found.get(person(each))}

    @contextmanager
    def _erasable(self, directory: Path) -> Iterator[ErasableSink | None]:
        with self.opened(directory, offline=True) as sink:
            yield sink if isinstance(sink, ErasableSink) else None

    def _found(self, sink: ErasableSink, number: int, days: float = 9) -> list[Record]:
        return [record for _, record in sink.scan(removal_of(number, days=days))]


def _numbers(holding: Holding) -> tuple[str, int, dict[str, int]]:
    fields = {name: number for name, number in holding.fields.items() if number}
    return holding.name, holding.records, fields


def _fields(sink: ErasableSink) -> dict[str, int]:
    return {
        name: times
        for each in sink.measure(EVERYTHING)
        for name, times in each.fields.items()
        if times
    }
