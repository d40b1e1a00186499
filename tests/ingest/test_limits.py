"""Limits: their defaults, and how the one on connections is enforced."""

from __future__ import annotations

import asyncio

from collector.contracts import MOST_BYTES
from collector.errors import ConfigError
from collector.ingest.limits import (
    IDLE_SECONDS,
    MIB,
    SMALL_BODY,
    Connection,
    ConnectionLimiter,
    IngestLimits,
)
from tests.support.raising import raises
from tests.support.rows import for_each


def test_defaults() -> None:
    """They are part of what the sidecar promises."""
    limits = IngestLimits()
    assert (limits.wire, limits.body, limits.ratio) == (8 * MIB, 8 * MIB, 100)
    assert (limits.memory, limits.header_bytes, limits.connections) == (80 * MIB, 32768, 1000)
    assert (limits.header_seconds, limits.body_seconds, IDLE_SECONDS) == (5.0, 10.0, 75.0)
    assert SMALL_BODY == 65_536


@for_each(
    "wrong",
    [
        {"wire": 0},
        {"wire": MOST_BYTES + 1},
        {"body": MOST_BYTES + 1},
        {"body": 0},
        {"body": -1},
        {"ratio": 0},
        {"memory": 0},
        {"header_bytes": 0},
        {"header_seconds": 0.0},
        {"body_seconds": -1.0},
        {"connections": 0},
    ],
)
def test_what_cannot_be_set(wrong: dict[str, int]) -> None:
    """Nothing below one, no body above 8 MiB."""
    with raises("E107", ConfigError):
        IngestLimits(**wrong)
    name, least = next(iter(wrong)), 1
    assert getattr(IngestLimits(**{name: least}), name) == least


# -- connections


class _Connection(Connection):
    """A connection that records what happens to it."""

    def __init__(self, limiter: ConnectionLimiter, *, is_proven: bool = False) -> None:
        super().__init__(limiter)
        self.is_proven |= is_proven
        self.checks: list[float] = []
        self.aborted = False

    def check_deadline(self, now: float) -> None:
        self.checks.append(now)

    def abort(self) -> None:
        self.aborted = True


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands until it is set."""

    now = 100.0

    def time(self) -> float:
        return self.now

    def go_on(self, seconds: float) -> None:
        """Let time pass, and run what is due then."""
        self.now += seconds
        self.call_soon(self.stop)
        self.run_forever()


def _enter(limiter: ConnectionLimiter, one: _Connection, waits_for: float | None) -> bool:
    """Admit it; the server has waited for it for so many seconds, or does not wait."""
    loop = asyncio.get_running_loop()
    entered = limiter.admit(one, loop)
    if entered and waits_for is not None:
        one.start_waiting(loop.time() - waits_for)
    return entered


def test_the_oldest_unproven_connection_is_closed() -> None:
    """Connections that have sent a complete request stay longer, however long they are idle."""

    async def run() -> None:
        limiter = ConnectionLimiter(IngestLimits(connections=3))
        proven, first, second = (
            _Connection(limiter, is_proven=True),
            _Connection(limiter),
            _Connection(limiter),
        )
        assert _enter(limiter, proven, 60)
        assert _enter(limiter, first, 3)
        assert _enter(limiter, second, 2)
        assert _enter(limiter, _Connection(limiter), None)
        assert (proven.aborted, first.aborted, second.aborted) == (False, True, False)
        assert _enter(limiter, _Connection(limiter), None)
        assert (proven.aborted, second.aborted) == (False, True)
        assert _enter(limiter, _Connection(limiter), None)
        assert proven.aborted
        assert not _enter(limiter, _Connection(limiter), None)

    asyncio.run(run())


def test_a_connection_that_has_just_come_is_not_closed() -> None:
    """The server has to have waited for half a second, for this request."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, _Loop)
        limiter = ConnectionLimiter(IngestLimits(connections=1))
        one, other = _Connection(limiter), _Connection(limiter)
        assert limiter.admit(one, loop)
        one.start_waiting(loop.time() - 60)
        one.start_waiting(loop.time())
        for seconds, is_admitted in ((0.49, False), (0.01, True)):
            loop.now += seconds
            assert limiter.admit(other, loop) is one.aborted is is_admitted
        assert limiter.connections() == (other,)
        other.start_waiting(loop.time())
        other.is_proven = True
        other.start_waiting(loop.time())
        assert (*limiter.unproven, *limiter.proven) == (other,)
        other.stop_waiting()
        assert (*limiter.unproven, *limiter.proven) == ()


def test_bytes_that_no_handler_has_taken_have_a_limit() -> None:
    """16 MiB over all connections; what is taken makes room for as much."""
    limiter = ConnectionLimiter(IngestLimits())
    assert limiter.holds(16 * MIB - 1)
    assert [limiter.holds(size) for size in (2, 1, 1)] == [False, True, False]
    limiter.taken(3)
    assert [limiter.holds(size) for size in (4, 3, 1)] == [False, True, False]


def test_fewer_connections_may_be_encrypted() -> None:
    """128 at most, for the memory of each; without encryption as many as the limit says."""

    async def run(**options: bool) -> int:
        limiter = ConnectionLimiter(IngestLimits(connections=200), **options)
        return sum(_enter(limiter, _Connection(limiter), None) for _ in range(300))

    assert (asyncio.run(run()), asyncio.run(run(tls=True))) == (200, 128)


def test_others_are_not_closed() -> None:
    """New connections, and those with a request in progress, stay; then there is no place."""

    async def run() -> None:
        limiter = ConnectionLimiter(IngestLimits(connections=2))
        working, fresh = _Connection(limiter), _Connection(limiter)
        assert _enter(limiter, working, 9)
        working.stop_waiting()
        assert _enter(limiter, fresh, -60)  # it has just come, also on a machine that is late
        assert not _enter(limiter, _Connection(limiter), None)
        assert (working.aborted, fresh.aborted) == (False, False)
        limiter.remove(working)
        assert _enter(limiter, _Connection(limiter), None)

    asyncio.run(run())


def test_deadlines_are_checked_while_there_are_connections() -> None:
    """Four times a second as long as there are any, by one timer, and again with a new one."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, _Loop)
        limiter = ConnectionLimiter(IngestLimits())
        for _ in range(2):
            both, began = [_Connection(limiter) for _ in range(2)], loop.time()
            for one in both:
                assert limiter.admit(one, loop)
                loop.go_on(0.125)
            loop.go_on(0.25)
            assert both[0].checks == both[1].checks == [began + 0.25, began + 0.5]
            for one in both:
                limiter.remove(one)
            for _ in range(3):
                loop.go_on(0.25)
            assert len(both[0].checks) == 2
