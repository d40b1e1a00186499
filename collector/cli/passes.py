"""How inputs are run through a filter: one after the other, or in ranges over several processes.

Outputs keep the order of the input. Every pass yields ``(records, tally)`` as it goes, so that
memory stays constant and whoever reads the output waits for no more than a block.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path

from collector.contracts import Tally
from collector.filter import Filter
from collector.filter.events import MAX_DOCUMENT, MAX_LINE
from collector.ingest import files
from collector.keyring import Keyring
from collector.schema import Schema
from collector.schema.kinds.pseudonym import PseudonymField

__all__ = ["Merger", "Passes", "Piece"]

Piece = tuple[bytes, Tally]

_RANGE = 8 << 20
"""Bytes of a file that one process works on at a time."""


@dataclass(frozen=True)
class Passes:
    """The settings of a run."""

    schema: Schema
    as_of: date | None = None
    jobs: int = 1

    def run(self, path: Path, form: files.Form) -> Iterator[Piece]:
        """Filter one input; ``-`` is stdin."""
        if self.jobs > 1 and form == "ndjson" and files.is_plain_file(path):
            yield from self._in_ranges(path)
            return
        filter_ = Filter(self.schema, as_of=self.as_of, keys=Keyring())
        with files.opened(path) as read:
            if form == "json":
                yield _document(filter_, read)
            else:
                yield from _lines(filter_, files.lines(read, MAX_LINE))

    def _in_ranges(self, path: Path) -> Iterator[Piece]:
        size = path.stat().st_size
        day = self.as_of
        as_of = datetime.combine(day, time(), UTC) if day else datetime.now(UTC)
        setup = (self.schema, as_of, _primed(self.schema, as_of), path)
        starts = iter(range(0, size, _RANGE))
        waiting: deque[Future[list[Piece]]] = deque()
        start_by = multiprocessing.get_context("fork" if _may_fork() else "spawn")
        with ProcessPoolExecutor(self.jobs, start_by, _set_up, setup) as pool:
            try:
                for start in starts:
                    waiting.append(pool.submit(_range, start, min(start + _RANGE, size)))
                    if len(waiting) > 2 * self.jobs:
                        yield from waiting.popleft().result()
                while waiting:
                    yield from waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)  # those at work end soon: ranges are short


def _may_fork() -> bool:
    """Whether this process has one thread only, by the system's own account; then it can be copied.

    Starting each process anew takes as long as filtering a hundred megabytes.
    """
    threads = Path("/proc/self/task")
    return threads.is_dir() and len(list(threads.iterdir())) == 1


def _primed(schema: Schema, as_of: datetime) -> Keyring:
    """A keyring that already holds the keys of the moment, so that all processes share them."""
    keyring = Keyring()
    for field in schema.fields.values():
        if isinstance(field, PseudonymField):
            keyring(field.key, field.period(as_of))
    return keyring


_worker: tuple[Filter, Path]


def _set_up(schema: Schema, as_of: date, keyring: Keyring, path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    global _worker  # noqa: PLW0603 - a process of the pool has no other place for its state
    _worker = (Filter(schema, as_of=as_of, keys=keyring), path)


def _range(start: int, end: int) -> list[Piece]:
    filter_, path = _worker
    return list(_lines(filter_, files.range_lines(path, start, end, MAX_LINE), first=start == 0))


def _lines(
    filter_: Filter, blocks: Iterator[tuple[bytes, int]], first: bool = True
) -> Iterator[Piece]:
    for block, size in blocks:
        admission = filter_.admit_lines(block, first=first)
        admission.tally.bytes_in = size
        yield admission.encode(), admission.tally
        first = False


def _document(filter_: Filter, read: files.Read) -> Piece:
    text, size = files.document(read, MAX_DOCUMENT)
    admission = filter_.admit(text)
    admission.tally.bytes_in = size
    return admission.encode(), admission.tally


class Merger:
    """Makes identical records of a run one, with their number.

    It holds up to ``most`` different records; when there are more, it hands on what it has and
    starts anew, so that memory stays constant and the outcome depends on the records alone.
    """

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._counts: dict[bytes, int] = {}

    def add(self, records: bytes) -> bytes:
        """Take records; gives back those that are handed on."""
        handed_on = b""
        for line in records.splitlines():
            if line not in self._counts and len(self._counts) >= self._most:
                handed_on += self.flush()
            self._counts[line] = self._counts.get(line, 0) + 1
        return handed_on

    def flush(self) -> bytes:
        """All that is held, at the place of each one's first."""
        counted = [
            line if times == 1 else b'%b,"count":%d}' % (line[:-1], times)
            for line, times in self._counts.items()
        ]
        self._counts.clear()
        return b"".join(line + b"\n" for line in counted)
