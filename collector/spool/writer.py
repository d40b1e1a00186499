"""The writer: the thread that alone writes the spool's file, and mends it after errors.

Everything that waits becomes one commit. An error at a write or a sync spoils the connection, and
what it leaves in the system's cache may look written though it is not on disk: so all that waits
is refused, the file is closed, opened again, checked, and its log written into it anew, before
anything is acknowledged.
"""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from collector.contracts import Layout
from collector.errors import ConfigError
from collector.spool.age import Age
from collector.spool.file import Depth, File
from collector.spool.group import Sums, add
from collector.spool.intake import Intake, Waiting, unwritable
from collector.spool.recover import is_corrupt, open_file
from collector.spool.revision import Outcome, Revision, revise

__all__ = ["Writer"]

_CURSOR_SECONDS = 0.05
"""Cursors wait so long for entries to be written with."""
_IDLE_SECONDS = 1.0
"""After so long without anything to do the log is emptied."""
_BUSY_SECONDS = 5.0
"""And after so long although there is: what was delivered, with its salt, must not stay there."""
_SUMS_SECONDS = 60.0
"""Sums of hours are written no more often, so that they tell nothing of single requests."""
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class Writer(threading.Thread):
    """Writes what is taken in. All that is public is guarded by ``changed``, and the file's reader
    by ``reading``; of the two, ``reading`` is taken first.

    Raises ``ConfigError`` E203 when the file cannot be used at all.
    """

    def __init__(self, path: Path, layouts: Iterable[Layout], sinks: Sequence[str]) -> None:
        super().__init__(name="collector-spool", daemon=True)
        self.changed: threading.Condition = threading.Condition()
        self.reading: threading.Lock = threading.Lock()
        self.intake: Intake = Intake()
        self.revisions: deque[tuple[Revision, Future[Outcome]]] = deque()
        self.file: File | None = None
        self.depth: Depth = Depth()
        self.last: int = 0
        self.cursors: dict[str, int] = dict.fromkeys(sinks, 0)
        self.moved: set[str] = set()
        self.unreadable: set[int] = set()
        self.is_suspect: bool = False
        self.is_spoilt: bool = False
        self.is_closing: bool = False
        self.aside: list[str] = []
        self.errors: int = 0
        self.damaged: int = 0
        self.age: Age = Age()
        self._path = path
        self._layouts = {layout.digest: layout for layout in layouts}
        self._sinks = tuple(sinks)
        self._sums: Sums = Counter()
        self._summed = monotonic()
        self._is_dirty = False
        self._folded = monotonic()
        self._pause = 0.0
        self._open()

    def run(self) -> None:
        """Until it is closed and nothing waits."""
        if self.file is None:
            self._reopen()
        while (file := self.file) is not None and self._wait():
            if not (self._step(file) and self._revise(file)):
                if self.is_closing:
                    break
                self._reopen()
        with self.changed:
            self.is_closing = True
            self._refuse(self.intake.take_all())
            for _, future in self.revisions:
                future.set_exception(unwritable())
        self._drop()

    def _wait(self) -> bool:
        """Until there is something to do, if only tidying; ``False`` when it is time to end."""
        with self.changed:
            seconds = _CURSOR_SECONDS if self.moved else _IDLE_SECONDS
            is_tidy = not (self.moved or self._is_dirty or self._sums)
            self.changed.wait_for(self._has_work, None if is_tidy else seconds)
            left = self.intake or self.revisions or self.moved or self._sums or self._is_dirty
            return not self.is_closing or bool(left)

    def _has_work(self) -> bool:
        has_some = self.intake or self.revisions
        return bool(has_some or self.is_suspect or self.is_spoilt or self.is_closing)

    def _step(self, file: File) -> bool:
        """One commit, or tidying where there is none to do. ``False`` if the file is of no use."""
        with self.changed:
            if self.is_suspect or self.is_spoilt:
                return False
            waiting = self.intake.take()
            cursors = {sink: self.cursors[sink] for sink in self.moved}
            unreadable = set(self.unreadable)
            self.moved.clear()
        is_due = self.is_closing or monotonic() - self._summed >= _SUMS_SECONDS
        sums = self._sums if is_due else Counter()
        has_work = bool(waiting or cursors or unreadable or sums)
        try:
            if not has_work or monotonic() - self._folded >= _BUSY_SECONDS:
                self._fold(file)
            is_new = file.write(waiting, cursors, sums, unreadable) if has_work else []
            self._is_dirty |= has_work
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be acknowledged
            self.is_suspect = is_corrupt(error)
        else:
            self._kept(file, unreadable, are_summed=bool(sums), has_come=_has_come(waiting, is_new))
            self._answer(waiting, is_new)
            return True
        self._refuse(waiting)
        return False

    def _revise(self, file: File) -> bool:
        """Take out what is to go, if somebody asks. ``False`` if the file is of no use."""
        with self.changed:
            if not self.revisions or self.is_suspect or self.is_spoilt:
                return True
            revision, future = self.revisions.popleft()
        try:
            with self.reading:
                outcome = revise(file, self._path, revision)
        except Exception as error:  # noqa: BLE001 - as in a step
            self.is_suspect = is_corrupt(error)
            future.set_exception(unwritable())
            return False
        self._is_dirty = True
        with self.changed:
            self.depth, self.last = file.depth, file.last
            self.changed.notify_all()
        future.set_result(outcome)
        return True

    def _fold(self, file: File) -> None:
        """Empty the log, while no sink is reading; a stranger who is must go first."""
        with self.reading:
            is_done = file.fold()
        self._is_dirty = not (is_done or self.is_closing)
        self._folded = monotonic() - (0 if is_done else _BUSY_SECONDS - _IDLE_SECONDS)

    def _kept(self, file: File, unreadable: set[int], *, are_summed: bool, has_come: bool) -> None:
        with self.changed:
            self.depth, self.last = file.depth, file.last
            if has_come:
                self.age.mark(file.last)
                self._pause = 0.0
            self.unreadable -= unreadable
            self.damaged += len(unreadable)
            self.changed.notify_all()
        if are_summed:
            self._sums, self._summed = Counter(), monotonic()

    def _answer(self, waiting: list[Waiting], is_new: list[bool]) -> None:
        for each, was_new in zip(waiting, is_new, strict=True):
            for entry in each.entries if was_new else ():
                add(self._sums, entry)
            each.future.set_result(was_new)

    def _refuse(self, waiting: list[Waiting]) -> None:
        for each in waiting:
            each.future.set_exception(unwritable())

    def _reopen(self) -> None:
        """Close the file and open it again, sooner or later; not any more when closing."""
        with self.changed:
            self.errors += 1
            self._refuse(self.intake.take_all())
        self._drop()
        while not self._open():
            with self.changed:
                self._pause = min(max(_FIRST_PAUSE, 2 * self._pause), _LONGEST_PAUSE)
                if self.changed.wait_for(lambda: self.is_closing, self._pause):
                    return

    def _drop(self) -> None:
        with self.reading, self.changed:
            file, self.file = self.file, None
            if file is not None:
                file.close()

    def _open(self) -> bool:
        """Open the file, unless the system does not let us now."""
        opened, is_unusable = None, False
        try:
            opened = open_file(
                self._path,
                self._layouts.values(),
                self._sinks,
                suspect=self.is_suspect,
                floor=self.last,
            )
        except sqlite3.Error:
            pass
        except ConfigError:
            if not self.is_alive():
                raise
        except OSError as error:
            is_unusable = error.errno not in _PASSING and not self.is_alive()
        if is_unusable:
            raise ConfigError("E203", "the spool's file cannot be used; check what it is")
        if opened is None:
            return False
        with self.reading, self.changed:
            file = self.file = opened.file
            self.aside += [path.name for path in opened.aside]
            self.damaged += len(opened.aside) + opened.is_mended
            self.is_suspect = self.is_spoilt = False
            self.depth, self.last = file.depth, file.last
            for sink in self.cursors:
                self.cursors[sink] = max(self.cursors[sink], file.cursors[sink])
            self.moved = {sink for sink, at in self.cursors.items() if at > file.cursors[sink]}
            self._mark_oldest(file)
            self._is_dirty = True
            self.changed.notify_all()
        return True

    def _mark_oldest(self, file: File) -> None:
        """Batches of an earlier process are as old as their minute says."""
        first = file.first()
        if first is not None:
            try:
                came = datetime.fromisoformat(first[1])
            except ValueError:
                return
            self.age.mark(first[0], max(0.0, (datetime.now(UTC) - came).total_seconds()))


def _has_come(waiting: Sequence[Waiting], is_new: Sequence[bool]) -> bool:
    """Whether something of senders was kept, not only what the ledger notes of our own doing."""
    return any(each.entries and new for each, new in zip(waiting, is_new, strict=True))
