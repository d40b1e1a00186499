"""The buffer: exact counts and no waiting, whoever interrupts whom."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from collector.filter import Filter
from collector.schema import load_schema
from collector.sdk import Collector
from collector.sdk.buffer import Buffer
from tests.sdk.stores import addresses
from tests.sdk.unmeasured import unmeasured
from tests.sdk.wires import hung

_FILTER = Filter(load_schema("conferencing"))
_EVENT = {"ip": "203.0.113.7"}


def _buffer(limit: int = 100, batch: int = 10, *, oldest: bool = False) -> Buffer:
    return Buffer(limit, batch, 0.0, oldest=oldest)


def test_a_batch_is_of_one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one begins with the minute, also when the clock goes back."""
    buffer = _buffer()
    for now in (1_800_000_059, 1_800_000_060, 1_800_000_119, 1_799_999_999):
        monkeypatch.setattr("collector.sdk.buffer.time", lambda now=now: now)
        assert buffer.put(_FILTER.admit(_EVENT))
    found = []
    for _ in range(3):
        taken = buffer.take()
        assert taken is not None
        found.append((taken.received, len(taken.lines)))
        buffer.settle(len(taken.lines))
    assert found == [
        ("2027-01-15T08:00:00Z", 1),
        ("2027-01-15T08:01:00Z", 2),
        ("2027-01-15T07:59:00Z", 1),
    ]


def test_what_is_on_its_way_takes_its_place() -> None:
    """Until it is known to have arrived; the oldest that may go is the oldest that waits."""
    buffer = _buffer(limit=4, batch=3, oldest=True)
    for number in range(3):
        buffer.put(_FILTER.admit({"ip": f"10.0.0.{number}"}))
    taken = buffer.take()
    assert taken is not None
    for number in range(3, 6):
        assert buffer.put(_FILTER.admit({"ip": f"10.0.0.{number}"}))
    account = buffer.snapshot()
    assert (account.queued, account.lost) == (4, {"queue_full": 2})
    assert not buffer.flush(0)
    buffer.settle(3)
    taken = buffer.take()
    assert taken is not None
    assert b"10.0.0.5" in taken.lines[0]
    full = _buffer(limit=1, oldest=True)
    assert full.put(_FILTER.admit(_EVENT))
    assert full.take() is not None
    assert not full.put(_FILTER.admit(_EVENT)), "nothing waits that could go"


def test_flush_waits_for_what_was_before_it() -> None:
    """Not for what comes later, and not past its time."""
    buffer = _buffer(batch=1)
    buffer.put(_FILTER.admit(_EVENT))
    began = monotonic()
    assert not buffer.flush(0.05)
    assert monotonic() - began < 5
    flushed = []
    waiting = threading.Thread(target=lambda: flushed.append(buffer.flush(30)))
    waiting.start()
    while not buffer._urgent:
        sleep(0.001)
    buffer.put(_FILTER.admit(_EVENT))
    assert buffer.take() is not None
    buffer.settle(1)
    waiting.join(10)
    assert flushed == [True]
    assert buffer.snapshot().queued == 1


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
    """A handler that emits, counts and flushes interrupts the thread that does the same: nobody
    waits for himself, and no count is lost."""
    path = tmp_path / "t.ndjson"
    number = int(_unmeasured(_SIGNALLED, path))
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
    """The collector of garbage runs anywhere, and what it destroys may emit."""
    path = tmp_path / "t.ndjson"
    _unmeasured(_DYING, path)
    assert len(addresses(path)) == 4_000


class _Telling(logging.Handler):
    """Emits what is logged, as an application's might."""

    def __init__(self, telemetry: Collector) -> None:
        super().__init__()
        self.telemetry, self.said = telemetry, list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
        self.telemetry.emit(_EVENT)
        self.telemetry.tally()


def test_what_it_says_may_be_emitted_to_it() -> None:
    """It speaks of failures once, by constants, and holds nothing meanwhile."""
    with hung() as port:
        pass
    with Collector(to=f"http://127.0.0.1:{port}", exit_timeout=0) as telemetry:
        handler = _Telling(telemetry)
        logging.getLogger("collector.sdk").addHandler(handler)
        try:
            telemetry.emit(_EVENT)
            while telemetry.tally().failures < 3:
                assert not telemetry.flush(0.1)
        finally:
            logging.getLogger("collector.sdk").removeHandler(handler)
    assert handler.said == ["telemetry is not being delivered at present [E510]"]


def test_it_shows_a_number(tmp_path: Path) -> None:
    """And nothing else."""
    buffer = _buffer()
    buffer.put(_FILTER.admit(_EVENT))
    assert repr(buffer) == "<Buffer of 1>"


_ALARMED = """
import signal, sys
from collector.sdk import Collector

class Alarm(Exception):
    pass

def handle(*_):
    raise Alarm

raised = 0
signal.signal(signal.SIGALRM, handle)
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


def test_what_a_handler_raises_reaches_the_caller(tmp_path: Path) -> None:
    """It is no fault of the event that it came in the middle of, and afterwards all goes on."""
    _unmeasured(_ALARMED, tmp_path / "t.ndjson")


def _unmeasured(code: str, path: Path) -> str:
    """What a program says that writes to a file."""
    done = unmeasured("-c", code, f"ndjson:///{path}")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _without(*addresses: str) -> Callable[..., tuple[bytes, int]]:
    """A change after which nothing is left of records with these addresses."""

    def change(payload: bytes, minute: str | None = None) -> tuple[bytes, int]:
        is_meant = any(f'"{address}"'.encode() in payload for address in addresses)
        return (b"", 1) if is_meant else (payload, 0)

    return change


def test_whoever_flushes_does_not_wait_for_what_was_taken_out() -> None:
    """But for all that is left; also where what was taken out came later."""
    buffer, done = _buffer(), list[bool]()
    buffer.put(_FILTER.admit({"ip": "10.0.0.1"}))
    flushing = threading.Thread(target=lambda: done.append(buffer.flush(30)))
    flushing.start()
    while not buffer._urgent:
        sleep(0.001)
    for number in (2, 3, 2):
        buffer.put(_FILTER.admit({"ip": f"10.0.0.{number}"}))
    assert buffer.revise(_without("10.0.0.2"), "withdrawn") == 2
    flushing.join(0.05)
    assert flushing.is_alive()
    assert buffer.revise(_without("10.0.0.1", "10.0.0.3"), "expired") == 2
    flushing.join(10)
    assert done == [True]
    account = buffer.snapshot()
    assert (account.queued, account.lost) == (0, {"withdrawn": 2, "expired": 2})


def test_what_is_on_its_way_may_have_less_in_it_when_it_is_tried_again() -> None:
    """Under the same id; what is left is what is settled."""
    buffer = _buffer()
    for number in range(3):
        buffer.put(_FILTER.admit({"ip": f"10.0.0.{number}"}))
    before = buffer.take()
    assert before is not None
    assert buffer.revise(_without("10.0.0.1"), "withdrawn") == 1
    assert buffer.taken.id == before.id
    assert [line.count(b"10.0.0.") for line in buffer.taken.lines] == [1, 1]
    assert not buffer.flush(0)
    buffer.settle(2)
    assert buffer.flush(0)
    account = buffer.snapshot()
    assert (account.delivered, account.lost) == (2, {"withdrawn": 1})
