"""The pipeline: what is answered is on disk, what is on disk reaches every sink, once."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import orjson
import pytest

from collector import pipeline as module
from collector.contracts import Batch, Form, Request, Scalar, Sink, Tally
from collector.errors import DeliveryError, InputError
from collector.filter import Filter
from collector.ledger import opened
from collector.pipeline import Pipeline, Reaching
from collector.schema import Schema, load_schema
from collector.sinks.store import Store
from collector.spool import Spool
from collector.synthetic import events
from tests.schema.make import HEAD, REST

SCHEMA = load_schema("conferencing")


def ndjson(number: int, seed: int = 1) -> bytes:
    return b"".join(orjson.dumps(event) + b"\n" for event in events(number, seed=seed))


@contextmanager
def running(
    folder: Path,
    sinks: dict[str, Sink] | None = None,
    *,
    limit: int = 1 << 30,
    schema: Schema = SCHEMA,
    reaching: Reaching = lambda _sink, _granted: None,
) -> Iterator[tuple[Pipeline, Tally]]:
    """A pipeline into a real store, and the tally of all that it observed."""
    total = Tally()

    def observe(tally: Tally) -> None:
        nonlocal total
        total += tally

    store = Store(folder / "store.db", schema)
    chosen: dict[str, Sink] = {"store": store} if sinks is None else sinks
    kept = Spool(folder / "spool.db", sinks=tuple(chosen), limit=limit)
    pipeline = Pipeline(Filter(schema), kept, chosen, observe, reaching)
    pipeline.start()
    try:
        yield pipeline, total
    finally:
        pipeline.close(10)
        kept.close()
        store.close()


def stored(folder: Path) -> int:
    db = sqlite3.connect(folder / "store.db")
    try:
        return int(db.execute("SELECT coalesce(sum(count), 0) FROM conferencing").fetchone()[0])
    finally:
        db.close()


def eventually(holds: Callable[[], bool], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


BODIES: dict[str, tuple[Form, bytes]] = {
    "one document": ("json", orjson.dumps(next(iter(events(1, seed=3))))),
    "an array": ("json", orjson.dumps(list(events(700, seed=3)))),
    "lines": ("ndjson", ndjson(3)),
    "many slices": ("ndjson", ndjson(1_000)),
    "no newline at the end": ("ndjson", ndjson(400).rstrip()),
    "a line longer than a slice": (
        "ndjson",
        ndjson(2) + orjson.dumps({"ip": "::1", "chat": "x" * 3 * module.SLICE}) + b"\n" + ndjson(2),
    ),
    "lines with bad ones": ("ndjson", ndjson(200) + b"{\n[]\n5\n" + ndjson(200)),
    "garbage": ("json", b"\xff\x00" * 100_000),
    "nothing": ("ndjson", b""),
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("waits", [False, True])
def test_a_request_gives_what_the_filter_gives(tmp_path: Path, body: str, waits: bool) -> None:
    """In slices or whole, from an event loop or a thread: the same tally, and all of it stored."""
    form, payload = BODIES[body]
    filter_ = Filter(SCHEMA)
    expected = filter_.admit_lines(payload) if form == "ndjson" else filter_.admit(payload)
    with running(tmp_path) as (pipeline, total):
        request = Request(form, payload)
        tally = pipeline.accept_now(request) if waits else asyncio.run(pipeline.accept(request))
        got, wanted = tally.as_dict(), expected.tally.as_dict()
        assert abs(tally.bytes_in - expected.tally.bytes_in) <= 3  # a byte order mark
        assert {**got, "bytes_in": 0} == {**wanted, "bytes_in": 0}
        assert total == tally
        assert eventually(lambda: stored(tmp_path) == tally.admitted)
    assert stored(tmp_path) == tally.admitted


LONG = orjson.dumps({"device": {"type": "phone"}, "chat": "x" * 2 * module.SLICE})


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("around", [b"%s", b"\n%s", b"%s\r\n\n", b"%s\n%s"])
def test_only_of_a_single_event_the_sender_is_told(
    tmp_path: Path, around: bytes, waits: bool
) -> None:
    """However long it is, and whether or not it comes as a line; of several, each that fills a
    slice of its own, nothing is said."""
    lines = around.count(b"%s")
    path = tmp_path / "filled.yaml"
    path.write_text(
        f"{HEAD}fields:\n"
        f"  client.address: {{kind: ip, source: peer, {REST}}}\n"
        f"  device.type: {{kind: enum, values: [phone], {REST}}}\n"
    )
    sink = Moody()
    sink.takes.set()
    request = Request("ndjson", around.replace(b"%s", LONG), peer="203.0.113.7")
    with running(tmp_path, {"moody": sink}, schema=load_schema(path)) as (pipeline, _):
        tally = pipeline.accept_now(request) if waits else asyncio.run(pipeline.accept(request))
        assert tally.admitted == lines
        assert eventually(lambda: len(sink.records) == lines)
    told = {"client.address": "203.0.113.7"} if lines == 1 else {}
    expected = {"schema": "sample/1.0.0", "device.type": "phone"} | told
    assert list(map(dict, sink.records)) == [expected] * lines


# -- records of an SDK ----------------------------------------------------------------------------

_KEY = b"k" * 16


def _ago(minutes: int) -> str:
    moment = datetime.now(UTC) - timedelta(minutes=minutes)
    return moment.strftime("%Y-%m-%dT%H:%M:00Z")


def _records(number: int, *minutes: str) -> bytes:
    """So many records that stand for two events each, of each minute in turn."""
    admitted = Filter(SCHEMA).admit_lines(ndjson(number)).records
    more = [{"count": 2, "received": minutes[at % len(minutes)]} for at in range(number)]
    listed = [record | one for record, one in zip(admitted, more, strict=True)]
    return b"".join(orjson.dumps(record) + b"\n" for record in listed)


def _rows(folder: Path) -> dict[str, int]:
    """How many events of each minute the store has."""
    db = sqlite3.connect(folder / "store.db")
    try:
        query = "SELECT received, sum(count) FROM conferencing GROUP BY 1"
        return {str(minute): int(times) for minute, times in db.execute(query)}
    finally:
        db.close()


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("number", [4, 400, 6000])
def test_records_keep_minute_and_count(tmp_path: Path, number: int, waits: bool) -> None:
    """Whatever order minutes are in, and however long a body is; the ledger holds."""
    late, early = _ago(1), _ago(1500)
    request = Request("records", _records(number, late, early))
    with running(tmp_path) as (pipeline, total):
        tally = pipeline.accept_now(request) if waits else asyncio.run(pipeline.accept(request))
        assert (tally.received, tally.admitted, tally.rejected) == (2 * number, 2 * number, {})
        assert total == tally
        assert tally.bytes_in == len(request.body)
        assert eventually(lambda: stored(tmp_path) == 2 * number)
    assert _rows(tmp_path) == {late: number, early: number}
    with opened(tmp_path / "spool.db") as ledger:
        assert [receipt.minute for receipt in ledger.receipts()] == [late, early]
        assert not ledger.verify().flaws


def test_records_that_come_again_change_nothing(tmp_path: Path) -> None:
    """The same counts for each copy, and everything once: also of copies at the same time, from an
    event loop and from threads, and after a restart. Another key is another body."""
    request = Request("records", _records(50, _ago(3)) + b"{\n", key=_KEY)
    with running(tmp_path) as (pipeline, total):

        async def copies() -> list[Tally]:
            others = [asyncio.to_thread(pipeline.accept_now, request) for _ in range(5)]
            return await asyncio.gather(*others, *(pipeline.accept(request) for _ in range(5)))

        answers = asyncio.run(copies())
        assert answers == [total] * 10
        assert (total.received, total.admitted) == (101, 100)
    with running(tmp_path) as (pipeline, total):
        assert pipeline.accept_now(request) == answers[0]
        assert total == Tally()
        pipeline.accept_now(replace(request, key=b"o" * 16))
        assert total == answers[0]
        assert eventually(lambda: stored(tmp_path) == 200)
    with opened(tmp_path / "spool.db") as ledger:
        found = ledger.verify()
    assert (found.receipts, found.received, found.flaws) == (4, 202, [])


@pytest.mark.parametrize("number", [1, 1000])
def test_records_of_another_version_leave_nothing(tmp_path: Path, number: int) -> None:
    """Nothing is kept or counted, whichever of them it was; the key is as good as new."""
    body = _records(number, _ago(0))
    other = body + body.replace(b"1.0.0", b"1.0.1", 1)
    with running(tmp_path) as (pipeline, total):
        for accept in (pipeline.accept_now, lambda r: asyncio.run(pipeline.accept(r))):
            with pytest.raises(InputError) as caught:
                accept(Request("records", other, key=_KEY))
            assert caught.value.code == "E429"
        assert total == Tally()
        assert pipeline.accept_now(Request("records", body, key=_KEY)) == total


def test_requests_of_many_senders_at_once(tmp_path: Path) -> None:
    """Event loop and threads together: every event is counted once and stored once."""
    with running(tmp_path) as (pipeline, total):

        async def some() -> None:
            requests = [Request("ndjson", ndjson(20, seed)) for seed in range(20)]
            await asyncio.gather(*map(pipeline.accept, requests))

        def others() -> None:
            for seed in range(20, 30):
                pipeline.accept_now(Request("ndjson", ndjson(20, seed)))

        threads = [Thread(target=others) for _ in range(4)]
        for thread in threads:
            thread.start()
        asyncio.run(some())
        for thread in threads:
            thread.join()
        assert total.admitted == 20 * (20 + 4 * 10)
        assert eventually(lambda: stored(tmp_path) == total.admitted)


class Moody:
    """A sink that refuses until it is told to take."""

    def __init__(self) -> None:
        self.takes = Event()
        self.taken: list[bytes] = []
        self.records: list[Mapping[str, Scalar]] = []

    def deliver(self, *batches: Batch) -> None:
        if not self.takes.is_set():
            raise DeliveryError("E503", "not now")
        self.taken += [batch.id for batch in batches]
        self.records += [record for batch in batches for record in batch.records]


def test_a_sink_gets_the_fields_that_it_may_have(tmp_path: Path) -> None:
    """Another sink gets all of them from the same batches; records without any are left out, and
    the store keeps what is left."""
    store, all_, some = Store(tmp_path / "store.db", SCHEMA), Moody(), Moody()
    all_.takes.set()
    some.takes.set()
    sinks: dict[str, Sink] = {"store": store, "all": all_, "some": some}
    limits = {"store": {"os.type", "os.version"}, "some": frozenset({"os.type"})}
    lines = ndjson(300) + b'{"ip": "203.0.113.7"}\n'
    with running(tmp_path, sinks, reaching=lambda sink, _: limits.get(sink)) as (pipeline, total):
        pipeline.accept_now(Request("ndjson", lines))
        assert eventually(lambda: all(one.delivered for one in pipeline.deliveries().values()))
    store.close()
    assert len(all_.records) == total.admitted == 301
    kept = [record for record in all_.records if "os.type" in record]
    assert some.records == [{key: one[key] for key in ("schema", "os.type")} for one in kept]
    assert 0 < len(some.records) < 301
    with closing(sqlite3.connect(tmp_path / "store.db")) as db:
        rows = db.execute("SELECT * FROM conferencing_view")
        names = [column[0] for column in rows.description]
        found = [{k for k, v in zip(names, row, strict=True) if v is not None} for row in rows]
    assert set().union(*found) == {"received", "count", "os_type", "os_version"}
    assert len(found) == len([one for one in all_.records if {"os.type", "os.version"} & {*one}])


def test_a_sink_that_fails_holds_up_nobody(tmp_path: Path) -> None:
    """The store gets everything meanwhile; the other gets it all, in order, when it takes again."""
    moody = Moody()
    store = Store(tmp_path / "store.db", SCHEMA)
    with running(tmp_path, {"store": store, "moody": moody}) as (pipeline, _):
        for seed in range(3):
            pipeline.accept_now(Request("ndjson", ndjson(10, seed)))
            time.sleep(0.05)
        assert eventually(lambda: stored(tmp_path) == 30)
        assert eventually(lambda: pipeline.deliveries()["moody"].failing)
        assert pipeline.deliveries()["moody"].failures >= 1
        assert not pipeline.deliveries()["store"].failing
        moody.takes.set()
        assert eventually(lambda: len(moody.taken) == pipeline.deliveries()["store"].delivered)
        assert eventually(lambda: not pipeline.deliveries()["moody"].failing)
    store.close()
    assert len(set(moody.taken)) == len(moody.taken)


def test_what_waits_is_delivered_after_a_restart(tmp_path: Path) -> None:
    """A sink that was not there takes what the spool kept for it."""
    moody = Moody()
    with running(tmp_path, {"moody": moody}) as (pipeline, _):
        pipeline.accept_now(Request("ndjson", ndjson(10)))
        assert not pipeline.close(0.5)
    moody.takes.set()
    with running(tmp_path, {"moody": moody}) as (pipeline, _):
        assert eventually(lambda: len(moody.taken) == 1)
        assert pipeline.close(5)


def test_what_cannot_be_kept_is_not_counted(tmp_path: Path) -> None:
    """A full spool refuses; the sender sends again, and it counts once."""
    moody = Moody()
    with running(tmp_path, {"moody": moody}, limit=20_000) as (pipeline, total):
        codes: Counter[str] = Counter()
        for seed in range(200):
            try:
                pipeline.accept_now(Request("ndjson", ndjson(10, seed)))
            except DeliveryError as error:
                codes[error.code] += 1
        assert set(codes) == {"E505"}
        assert total.received == 10 * (200 - codes["E505"]) > 0
        moody.takes.set()
        assert pipeline.close(10)
        counts = [int(record.get("count", 1)) for record in moody.records]
        assert sum(counts) == total.admitted


def test_it_shows_nothing(tmp_path: Path) -> None:
    """Its name says how many sinks there are."""
    with running(tmp_path) as (pipeline, _):
        assert repr(pipeline) == "<Pipeline of 1 sinks>"
        assert repr(Request("json", b"canary")).find("canary") < 0


def test_while_nothing_comes_the_store_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to send anything, nor to end it: the log, which tells transactions apart, is
    emptied once it is time."""
    log = tmp_path / "store.db-wal"
    with running(tmp_path) as (pipeline, _):
        pipeline.accept_now(Request("ndjson", ndjson(20)))
        assert eventually(lambda: stored(tmp_path) == 20)
        assert log.stat().st_size
        monkeypatch.setattr("collector.sinks.settling._SECONDS", 0)
        assert eventually(lambda: log.stat().st_size == 0)
        assert stored(tmp_path) == 20
