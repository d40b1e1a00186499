"""Write the spool's log into its file while commits go on.

By default, SQLite copies a long log completely, during a commit, and a sender waits for that. Here
a thread with its own connection copies it a piece at a time. The committing thread copies the few
pages that were written meanwhile. Only then can the log restart or be emptied.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from collector.spool.file import SpoolFile

IDLE_SECONDS = 1.0
"""The log is emptied after this time without a write,"""
_BUSY_SECONDS = 5.0
"""and after this time with writes: delivered batches and their salts must not stay in it."""
LOOK_SECONDS = 0.05
"""The interval at which the thread reads the log's length while there are writes."""
_PIECE_BYTES = 1 << 20
"""How much of the log is written into the file at once."""
_LONG_BYTES = 8 << 20
"""From this length on, the log restarts as soon as at most one piece of it is left to copy."""
_LONGEST_BYTES = 16 << 20
"""From this length on, the log restarts even if more is left. Senders wait for that."""
_MOST_TRIES = 4


class Checkpoints:
    """The checkpoints of one file at a time. When one fails, the thread calls ``fail``: the file
    must then be reopened and given to ``take``.

    While ``is_due`` is true, the committing thread must call ``finish``.
    """

    def __init__(
        self, reading: threading.Lock, fail: Callable[[sqlite3.Error | OSError], None]
    ) -> None:
        self.is_due: bool = False
        self.has_log: threading.Event = threading.Event()
        """The committing thread sets it."""
        self._file: SpoolFile | None = None
        self._reading, self._fail = reading, fail
        self._lock = threading.Lock()  # acquired before ``reading``
        self._emptied = monotonic()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collector-checkpoints", daemon=True)

    def __repr__(self) -> str:
        return f"<Checkpoints, {'due' if self.is_due else 'not due'}>"

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def take(self, file: SpoolFile) -> None:
        """Take charge of a file's log. Raises ``sqlite3.Error``."""
        file.db.execute("PRAGMA wal_autocheckpoint = 0")
        with self._lock:
            self._file, self.is_due = file, False
        self.has_log.set()

    def drop(self) -> None:
        """Stop using the file. The caller may close it on return."""
        with self._lock:
            self._file = None

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        self.has_log.set()
        self._thread.join()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop using the log for a block, so that the caller may copy it into the file and truncate
        it."""
        with self._lock:
            yield

    def finish(self, *, is_idle: bool, is_last: bool) -> None:
        """Write the rest of the log into the file, between two commits. If the writer is idle or
        the log is due, also empty the log. If another process reads, retry about a second later
        unless ``is_last``. Raises ``sqlite3.Error`` or ``OSError``."""
        with self._lock:
            if (file := self._file) is None:
                return
            self.is_due = False
            log = file.index.counted()
            has_more = log is not None and log.left > _PIECE_BYTES and log.length < _LONGEST_BYTES
            if has_more and not (is_idle or is_last):  # the thread goes on first
                return
            if not (is_idle or self._is_late):
                file.copy_log()
                return
            with self._reading:
                is_empty = file.checkpoint()
        if is_empty or is_last:
            self.has_log.clear()
        self._emptied = monotonic() - (0 if is_empty else _BUSY_SECONDS - IDLE_SECONDS)

    @property
    def _is_late(self) -> bool:
        return monotonic() - self._emptied >= _BUSY_SECONDS

    def _run(self) -> None:
        while self.has_log.wait() and not self._ending.wait(LOOK_SECONDS):
            try:
                with self._lock:
                    if (file := self._file) is not None:
                        self._copy(file)
            except (sqlite3.Error, OSError) as error:
                self._fail(error)

    def _copy(self, file: SpoolFile) -> None:
        """Write a piece of the log into the file, or all of it if the log is due to restart."""
        try:
            for _ in range(_MOST_TRIES):
                log = file.index.counted()
                is_due = self._is_late or (log is not None and log.length >= _LONG_BYTES)
                if log is None or log.left < (1 if is_due else _PIECE_BYTES):
                    break
                file.copy_log()
                if not is_due:
                    break
            self.is_due = is_due
        except BaseException:
            self._file = None
            raise
