"""Write the spool's log into its file while commits go on.

SQLite does that inside a commit, of all that the log has, once it is long: a sender waits for it.
Here a thread with a connection of its own does it, a little at a time. The thread that commits does
what is left: the few pages that were written meanwhile. Only then can the log begin anew, or be
emptied.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from collector.spool.file import SpoolFile

IDLE_SECONDS = 1.0
"""The log is emptied after so long without a write;"""
_BUSY_SECONDS = 5.0
"""and after so long with writes: delivered batches, with their salts, must not stay in it."""
LOOK_SECONDS = 0.05
"""The log is looked at so often while there are writes."""
_PIECE_BYTES = 1 << 20
"""As much of the log is written into the file at once."""
_LONG_BYTES = 8 << 20
"""From this length on the log is to begin anew, once no more than a piece of it is left."""
_LONGEST_BYTES = 16 << 20
"""From this length on, even if more is left: senders wait while that is written."""
_MOST_TRIES = 4


class Checkpoints:
    """The checkpoints of one file at a time. ``fail`` is called in a thread of its own when one
    failed: then the file must be reopened, and there is none until ``take``.

    ``is_due`` says that the thread that commits must call ``finish``.
    """

    def __init__(
        self, reading: threading.Lock, fail: Callable[[sqlite3.Error | OSError], None]
    ) -> None:
        self.is_due: bool = False
        self.has_log: threading.Event = threading.Event()
        """Set by the thread that commits."""
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
        """Leave the file alone, which may be closed on return."""
        with self._lock:
            self._file = None

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        self.has_log.set()
        self._thread.join()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the log alone, which another may write into the file and truncate meanwhile."""
        with self._lock:
            yield

    def finish(self, *, is_idle: bool, is_last: bool) -> None:
        """Write what is left into the file, between two commits; and empty the log if nothing else
        is to do, or time is up. If another process reads, retry a second later, unless this is the
        last time. Raises ``sqlite3.Error`` or ``OSError``."""
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
        """Write a piece of the log into the file, or all of it if it is to begin anew."""
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
