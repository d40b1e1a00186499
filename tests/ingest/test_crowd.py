"""Who makes way for whom, when connections are many."""

from __future__ import annotations

import asyncio

from collector.ingest.crowd import GLANCE_SECONDS, Crowd
from collector.ingest.limits import Limits


class _Connection:
    """A connection that remembers what became of it."""

    def __init__(self, *, known: bool = False) -> None:
        self.since = 0.0
        self.known = known
        self.glances: list[float] = []
        self.dismissed = False

    def glance(self, now: float) -> None:
        self.glances.append(now)

    def dismiss(self) -> None:
        self.dismissed = True


def _enter(crowd: Crowd, one: _Connection, waits_for: float | None) -> bool:
    """Let it in; it keeps us waiting for so many seconds already, or not at all."""
    loop = asyncio.get_running_loop()
    entered = crowd.enter(one, loop)
    if entered and waits_for is not None:
        crowd.wait(one, loop.time() - waits_for)
    return entered


def test_the_oldest_stranger_makes_way() -> None:
    """Before anybody who has ever sent something whole, however long that is idle."""

    async def scene() -> None:
        crowd = Crowd(Limits(connections=3), None)
        known, first, second = _Connection(known=True), _Connection(), _Connection()
        assert _enter(crowd, known, 60)
        assert _enter(crowd, first, 3)
        assert _enter(crowd, second, 2)
        assert _enter(crowd, _Connection(), None)
        assert (known.dismissed, first.dismissed, second.dismissed) == (False, True, False)
        assert _enter(crowd, _Connection(), None)
        assert (known.dismissed, second.dismissed) == (False, True)
        assert _enter(crowd, _Connection(), None)
        assert known.dismissed
        assert not _enter(crowd, _Connection(), None)

    asyncio.run(scene())


def test_nobody_is_hurried() -> None:
    """Who has just come, and who waits for us, stays; then there is no place."""

    async def scene() -> None:
        crowd = Crowd(Limits(connections=2), None)
        working, fresh = _Connection(), _Connection()
        assert _enter(crowd, working, 9)
        crowd.stop_waiting(working)
        assert _enter(crowd, fresh, 0.1)
        assert not _enter(crowd, _Connection(), None)
        assert (working.dismissed, fresh.dismissed) == (False, False)
        crowd.leave(working)
        assert _enter(crowd, _Connection(), None)

    asyncio.run(scene())


def test_all_are_looked_at_now_and_then() -> None:
    """As long as there are any; and again when there are some."""

    async def scene() -> None:
        crowd = Crowd(Limits(), None)
        for _ in range(2):
            one = _Connection()
            _enter(crowd, one, 1)
            await asyncio.sleep(GLANCE_SECONDS * 2.5)
            assert len(one.glances) == 2
            crowd.leave(one)
            await asyncio.sleep(GLANCE_SECONDS * 1.5)
            assert len(one.glances) == 2

    asyncio.run(scene())
