"""The queue: exact counts and no waiting, also when signal handlers and destructors interrupt
it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from time import monotonic

import pytest

from collector.contracts import Part
from collector.filter import Filter
from collector.filter.redaction import Rule
from collector.schema import load_schema
from collector.sdk import Collector
from collector.sdk.queue import RecordQueue
from tests.sdk.program import run_code
from tests.sdk.stores import addresses
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.latency import at_most
from tests.support.rows import for_each
from tests.support.tcp import free_port

_FILTER = Filter(load_schema("conferencing"))
_EVENT = {"ip": "203.0.113.7"}


def _queue(limit: int = 100, batch: int = 10, *, oldest: bool = False) -> RecordQueue:
    return RecordQueue(limit, batch, 0.0, oldest=oldest)


def test_a_batch_is_of_one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new minute begins a new batch, also when the clock goes back."""
    queue = _queue()
    for now in (1_800_000_059, 1_800_000_060, 1_800_000_119, 1_799_999_999):
        monkeypatch.setattr("collector.sdk.queue.time", lambda now=now: now)
        assert queue.put(_FILTER.admit(_EVENT))
    found = []
    for _ in range(3):
        taken = queue.take()
        assert taken is not None
        found.append((taken.received, len(taken.lines)))
        queue.acknowledge(len(taken.lines))
    assert found == [
        ("2027-01-15T08:00:00Z", 1),
        ("2027-01-15T08:01:00Z", 2),
        ("2027-01-15T07:59:00Z", 1),
    ]


@pytest.mark.usefixtures("one_minute")
def test_records_in_flight_count_against_the_limit() -> None:
    """Records in flight count against the limit until they are acknowledged; only waiting ones are
    dropped."""
    queue = _queue(limit=4, batch=3, oldest=True)
    for number in range(3):
        queue.put(_FILTER.admit({"ip": f"10.0.0.{number}"}))
    taken = queue.take()
    assert taken is not None
    for number in range(3, 6):
        assert queue.put(_FILTER.admit({"ip": f"10.0.0.{number}"}))
    account = queue.snapshot()
    assert (account.queued, account.lost) == (4, {"queue_full": 2})
    assert not queue.flush(0)
    queue.acknowledge(3)
    taken = queue.take()
    assert taken is not None
    assert b"10.0.0.5" in taken.lines[0]
    full = _queue(limit=1, oldest=True)
    assert full.put(_FILTER.admit(_EVENT))
    assert full.take() is not None
    assert not full.put(_FILTER.admit(_EVENT)), "nothing waits that could go"


@pytest.mark.timed
def test_flush_waits_for_earlier_records() -> None:
    """It waits for earlier records only, and not longer than its timeout."""
    queue = _queue(batch=1)
    queue.put(_FILTER.admit(_EVENT))
    began = monotonic()
    assert not queue.flush(0.05)
    assert monotonic() - began < at_most(5)
    flushed, queue.is_urgent = [], False
    waiting = threading.Thread(target=lambda: flushed.append(queue.flush(30)))
    waiting.start()
    wait_until(lambda: queue.is_urgent)
    queue.put(_FILTER.admit(_EVENT))
    assert queue.take() is not None
    queue.acknowledge(1)
    waiting.join(WAIT_SECONDS)
    assert flushed == [True]
    assert queue.snapshot().queued == 1


_SIGNALLED = """
import signal, sys
from collector.sdk import Collector

EVENT, NUMBER, calls = {"ip": "203.0.113.7"}, 30_000, 0

def handle(*_):
    global calls
    calls += 1
    assert telemetry.emit(EVENT), telemetry.tally()
    if calls % 50 == 0:
        account = telemetry.tally()
        assert account.admitted == account.delivered + account.queued, account
        telemetry.flush(0)

with Collector(to=sys.argv[1], exit_timeout=30) as telemetry:
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    for _ in range(NUMBER):
        assert telemetry.emit(EVENT), telemetry.tally()
    signal.setitimer(signal.ITIMER_REAL, 0)
assert calls > 50
assert telemetry.tally().delivered == NUMBER + calls, telemetry.tally()
print(telemetry.tally().delivered)
"""


def test_signals_in_the_middle(tmp_path: Path) -> None:
    """A handler that emits, counts and flushes interrupts a thread that does the same: there is no
    deadlock, and no count is lost."""
    path = tmp_path / "t.ndjson"
    number = int(_output(_SIGNALLED, path))
    assert len(addresses(path)) == number


_DYING = """
import gc, sys, time
from collector.sdk import Collector

kept = []
with Collector(to=sys.argv[1], exit_timeout=30) as telemetry:

    class Dying:
        def __init__(self):
            self.itself = self

        def __del__(self):
            kept.append(telemetry.emit({"ip": "203.0.113.7"}))

    threshold = gc.get_threshold()
    gc.set_threshold(3)
    for _ in range(2_000):
        Dying()
        kept.append(telemetry.emit({"ip": "203.0.113.7", "device": {"type": "phone"}}))
        telemetry.tally()
    gc.set_threshold(*threshold)
    while len(kept) < 4_000:  # a collection that runs in another thread ends when it likes
        gc.collect()
        time.sleep(0.001)
assert telemetry.tally().delivered == sum(kept) == 4_000, telemetry.tally()
"""


def test_destructors_in_the_middle(tmp_path: Path) -> None:
    """The garbage collector runs anywhere, and destructors may emit."""
    path = tmp_path / "t.ndjson"
    _output(_DYING, path)
    assert len(addresses(path)) == 4_000


class _EmittingHandler(logging.Handler):
    """A handler that emits what is logged, as an application's might."""

    def __init__(self, telemetry: Collector) -> None:
        super().__init__()
        self.telemetry, self.said = telemetry, list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        if threading.current_thread() is not self.telemetry._worker:
            return  # of a collector of an earlier test, whose last attempt has failed
        self.said.append(record.getMessage())
        self.telemetry.emit(_EVENT)
        self.telemetry.tally()


def test_its_log_may_be_emitted_to_it() -> None:
    """It logs a failure once, with a constant text, and holds no lock meanwhile."""
    with Collector(to=f"http://127.0.0.1:{free_port()}", exit_timeout=0) as telemetry:
        handler = _EmittingHandler(telemetry)
        logging.getLogger("collector.sdk").addHandler(handler)
        try:
            telemetry.emit(_EVENT)
            wait_until(lambda: telemetry.flush(0.1) or telemetry.tally().failures >= 3)
            assert telemetry.tally().queued
        finally:
            logging.getLogger("collector.sdk").removeHandler(handler)
    assert handler.said == ["telemetry is not being delivered at present [E514 refused]"]


def test_what_is_spooled_is_not_delivered(tmp_path: Path) -> None:
    to = f"http://127.0.0.1:{free_port()}"
    with Collector(to=to, spool=tmp_path / "spool", interval=0, exit_timeout=0) as telemetry:
        assert telemetry.emit(_EVENT)
        wait_until(lambda: telemetry.tally().failing)
        assert telemetry.emit(_EVENT)
        assert telemetry.flush(WAIT_SECONDS)
        account = telemetry.tally()
        assert (account.failing, account.spooled, account.delivered) == (True, 2, 0)


@for_each("abandoned", ["never", "before", "after"])
def test_what_is_delivered_before_it_counts_as_spooled(abandoned: str) -> None:
    """The thread that put a batch into the spool may be the last to learn that it is delivered:
    each record is in one place, and no count is below zero."""
    queue = _queue()
    queue.put(_FILTER.admit(_EVENT))
    assert queue.take() is not None
    if abandoned == "before":
        queue.abandon()
    queue.count_spool_delivered(1)
    if abandoned == "after":
        queue.abandon()
    for is_told in (False, True):
        if is_told:
            queue.acknowledge(1, spooled=True)
        account = queue.snapshot()
        assert (account.delivered, account.spooled, account.queued) == (1, 0, 0)
        assert account.lost == {}


def test_repr_shows_the_length(tmp_path: Path) -> None:
    """``repr`` shows the length and nothing else."""
    queue = _queue()
    queue.put(_FILTER.admit(_EVENT))
    assert repr(queue) == "<RecordQueue of 1>"


_ALARM = """
import os, signal, sys
from collector.sdk import Collector

class Alarm(Exception):
    pass

def ignored(error):
    if error.exc_type is not Alarm:  # the interpreter itself ignores it in callbacks
        sys.__unraisablehook__(error)

sys.unraisablehook = ignored

def handle(*_):
    raise Alarm

signal.signal(signal.SIGALRM, handle)
"""
_ALARMED = """
raised = 0
with Collector(to=sys.argv[1], exit_timeout=30) as telemetry:
    for _ in range(50):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            for _ in range(10_000):
                telemetry.emit({"ip": "203.0.113.7"})
        except Alarm:
            raised += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert telemetry.emit({"ip": "203.0.113.7"})
    assert telemetry.flush(30)
    account = telemetry.tally()
assert raised > 40, "the interpreter itself ignores it in callbacks of weak references"
assert not account.rejected
assert account.queued == 0
assert 0 < account.delivered <= account.admitted
"""


_ALARMED_AT_THE_START = """
rounds = int(os.environ.get("COLLECTOR_KILLS", "15"))
for round_ in range(rounds):
    telemetry = Collector(to=sys.argv[1], exit_timeout=30)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.00002 + 0.00038 * round_ / rounds)
        for _ in range(1_000):
            telemetry.emit({"ip": "203.0.113.7"})
    except Alarm:
        pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert telemetry.emit({"ip": "203.0.113.7"})
    assert telemetry.flush(30), "the thread that delivers is not there"
    assert telemetry.close()
"""


def test_what_a_handler_raises_while_the_thread_starts(tmp_path: Path) -> None:
    """The thread starts nevertheless, or does at the next event, and nothing is said of it. The
    moments are spread evenly; ``COLLECTOR_KILLS`` says how many there are."""
    _output(_ALARM + _ALARMED_AT_THE_START, tmp_path / "t.ndjson")


def test_what_a_handler_raises_reaches_the_caller(tmp_path: Path) -> None:
    """The interrupted event is not counted as malformed, and afterwards everything works."""
    _output(_ALARM + _ALARMED, tmp_path / "t.ndjson")


def _output(code: str, path: Path) -> str:
    """Run a program that writes to a file, and return its output."""
    done = run_code(code, f"ndjson:///{path}")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _without(*addresses: str) -> Rule:
    """Make the rule by which all records with these addresses go."""
    return Rule(others=[Part(field="client.address", value=each) for each in addresses])


def test_flush_does_not_wait_for_redacted_records() -> None:
    """It waits for all others; also if the redacted records came later."""
    queue, done = _queue(), list[bool]()
    queue.put(_FILTER.admit({"ip": "10.0.0.1"}))
    flushing = threading.Thread(target=lambda: done.append(queue.flush(30)))
    flushing.start()
    wait_until(lambda: queue.is_urgent)
    for number in (2, 3, 2):
        queue.put(_FILTER.admit({"ip": f"10.0.0.{number}"}))
    assert queue.rewrite(_without("10.0.0.2"), "withdrawn") == 2
    flushing.join(0.05)
    assert flushing.is_alive()
    assert queue.rewrite(_without("10.0.0.1", "10.0.0.3"), "expired") == 2
    flushing.join(WAIT_SECONDS)
    assert done == [True]
    account = queue.snapshot()
    assert (account.queued, account.lost) == (0, {"withdrawn": 2, "expired": 2})


@pytest.mark.usefixtures("one_minute")
def test_a_batch_in_flight_is_redacted_between_attempts() -> None:
    """The batch has the same id; the remaining records are acknowledged."""
    queue = _queue()
    for number in range(3):
        queue.put(_FILTER.admit({"ip": f"10.0.0.{number}"}))
    before = queue.take()
    assert before is not None
    assert queue.rewrite(_without("10.0.0.1"), "withdrawn") == 1
    assert queue.in_flight.id == before.id
    assert [line.count(b"10.0.0.") for line in queue.in_flight.lines] == [1, 1]
    assert not queue.flush(0)
    queue.acknowledge(2)
    assert queue.flush(0)
    account = queue.snapshot()
    assert (account.delivered, account.lost) == (2, {"withdrawn": 1})


def test_the_oldest_are_dropped_instead(tmp_path: Path) -> None:
    path = tmp_path / "t.ndjson"
    with Collector(
        to=f"ndjson:///{path}", queue=10, when_full="oldest", interval=3600, batch=1000
    ) as telemetry:
        for number in range(100):
            assert telemetry.emit({"ip": f"10.0.0.{number}"})
        assert telemetry.tally().lost == {"queue_full": 90}
    assert addresses(path) == sorted(f"10.0.0.{number}" for number in range(90, 100))
