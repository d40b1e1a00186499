"""The tasks of the store, which are retried until they succeed.

Each task is a row of one table, committed with what caused it. ``run`` does the tasks that need
only this machine, in the calling thread. A separate thread does the tasks that need the bucket: up
to four uploads at a time, and then removals, so that no object arrives after its removal. A failed
task is retried after a pause, each twice as long as the last. A removal that the bucket refuses
does not delay uploads. After a crash the same loop goes on, and nothing else has to be recovered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from threading import Event, Thread
from time import monotonic

from collector.backoff import Backoff
from collector.errors import CollectorError
from collector.recording.refusals import Refused
from collector.recording.store import Store, Task, What

_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
"""The first and the longest pause before a failed task is retried; each is twice as long as the
last."""
_AT_ONCE = 4
"""Concurrent uploads; each holds one chunk in memory."""
_STOP_SECONDS = 5.0

Local = Callable[[str, list[Task]], None]
"""Does a recording's tasks of one kind, and removes or replaces their rows. Raises ``OSError``,
``Refused`` or ``CollectorError`` if that cannot be done now."""
Remote = Callable[[Task], Awaitable[None]]
"""The same for one task that needs the bucket. Raises any exception."""


@dataclass
class _Pauses:
    """The pauses after failures of one kind, and the time (``monotonic``) of the next attempt."""

    backoff: Backoff = field(
        default_factory=lambda: Backoff(_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
    )
    until: float = 0.0


class Tasks:
    """The loop over the tasks of a store, until ``close``.

    ``local`` and ``remote`` do the tasks by their kinds; uploads are remote. ``clock`` returns
    seconds since the epoch. ``errors`` counts failures on this machine, ``bucket_errors`` failures
    of the bucket; ``is_failing`` says that the last uploads failed.
    """

    def __init__(
        self,
        store: Store,
        local: Mapping[What, Local],
        remote: Mapping[What, Remote] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._local, self._remote = store, local, remote or {}
        self._clock = clock
        self.errors: int = 0
        self.bucket_errors: int = 0
        self.is_failing: bool = False
        self._pauses = dict[Hashable, _Pauses]()
        self._after = 0
        self._is_started = Event()
        self._thread: Thread | None = None
        if self._remote:
            main = (self._main(),)
            self._thread = Thread(target=asyncio.run, args=main, daemon=True, name="bucket")
            self._thread.start()
            self._is_started.wait()

    def __repr__(self) -> str:
        return "<Tasks>"

    def run(self) -> None:
        """Do the due tasks that need only this machine. Failures are counted; a later call tries
        again."""
        found = sorted(self._store.due(self._clock(), *self._local), key=_recording_and_kind)
        for (recording, what), tasks in groupby(found, _recording_and_kind):
            if not self._is_paused(key := (recording, what)):
                try:
                    self._local[what](recording, list(tasks))
                    self._pauses.pop(key, None)
                except (CollectorError, OSError, Refused):
                    self.errors += 1
                    self._pause(key)
        if found:
            self.wake()

    def carry_out(self, recording: str, what: What) -> None:
        """Do a recording's tasks of one kind at once. Raises ``Refused`` ``unavailable`` if that
        cannot be done now; they are retried later."""
        if tasks := self._store.tasks(recording, what):
            try:
                self._local[what](recording, tasks)
            except OSError:
                raise Refused("unavailable") from None
            finally:
                self.wake()

    def wake(self) -> None:
        """Look for tasks that need the bucket."""
        if self._thread is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self._has_work.set)

    def close(self) -> None:
        """Stop. Uploads under way are repeated after the next start."""
        if self._thread is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._main_task.cancel)
            self._thread.join(_STOP_SECONDS)

    def _is_paused(self, key: Hashable) -> bool:
        return key in self._pauses and monotonic() < self._pauses[key].until

    def _pause(self, key: Hashable) -> float:
        """Set a pause after a failure, and return its seconds."""
        pauses = self._pauses.setdefault(key, _Pauses())
        pause = pauses.backoff.pause()
        pauses.until = monotonic() + pause
        return pause

    # -- the bucket -------------------------------------------------------------------------------

    async def _main(self) -> None:
        self._loop, self._has_work = asyncio.get_running_loop(), asyncio.Event()
        self._main_task = asyncio.create_task(self._work())
        self._is_started.set()
        with suppress(asyncio.CancelledError):
            await self._main_task

    async def _work(self) -> None:
        while True:
            self._has_work.clear()
            is_idle, seconds = False, None
            try:
                number, failed = await self._upload_next()
                is_idle = not number + await self._do_others()
                seconds = self._seconds_left() if is_idle else None
            except Exception:  # noqa: BLE001 - the thread must not end while chunks wait
                failed = 1
            self.bucket_errors += failed
            self.is_failing = failed > 0
            if failed:
                await asyncio.sleep(self._pause("upload"))
                continue
            self._pauses.pop("upload", None)
            if is_idle:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._has_work.wait(), seconds)

    async def _upload_next(self) -> tuple[int, int]:
        """Try the next uploads; return how many, and how many of them failed."""
        found = self._store.uploads(self._after, _AT_ONCE)
        if not found and self._after:
            self._after, found = 0, self._store.uploads(0, _AT_ONCE)
        if found:
            self._after = found[-1].number
        upload = self._remote["upload"]
        done = await asyncio.gather(*map(upload, found), return_exceptions=True)
        return len(done), sum(error is not None for error in done)

    async def _do_others(self) -> int:
        """Try the tasks that are due; return how many."""
        kinds = self._other_kinds()
        due = [each for each in self._store.due(self._clock(), *kinds) if not self._is_paused(each)]
        for task in due:
            try:
                await self._remote[task.what](task)
                self._pauses.pop(task, None)
            except Exception:  # noqa: BLE001 - the others must go on
                self.bucket_errors += 1
                self._pause(task)
        return len(due)

    def _other_kinds(self) -> list[What]:
        return [each for each in self._remote if each != "upload"]

    def _seconds_left(self) -> float | None:
        """Return for how many seconds there is nothing to do; ``None`` if that is unknown."""
        next_due = self._store.next_due(*self._other_kinds())
        if next_due is None:
            return None
        if (seconds := next_due - self._clock()) > 0:
            return seconds
        pauses = (each.until - monotonic() for each in [*self._pauses.values()])
        return min((each for each in pauses if each > 0), default=0.0)


def _recording_and_kind(task: Task) -> tuple[str, What]:
    return task.recording, task.what
