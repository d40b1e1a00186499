"""Inputs of events: opened, decompressed, split into whole lines, and run through a filter.

Memory stays constant: a line longer than ``max_line`` is cut just beyond that length, so that
the filter refuses it for its size. The rest of the line is skipped. Every run yields
``(records, tally)`` as it goes, in the order of the input, also where several processes share it.
"""

from __future__ import annotations

import gzip
import os
import signal
import stat
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import IO, Any, Literal

from collector.contracts import Tally
from collector.errors import InputError, SandboxError, UsageError, file_name
from collector.filter import Filter
from collector.filter.derive import parse_user_agent
from collector.filter.text import MAX_DOCUMENT, MAX_LINE
from collector.keyring import Keyring
from collector.sandbox import restrict_calls, restrict_files, support
from collector.schema import Schema
from collector.schema.kinds.pseudonym import PseudonymField

Form = Literal["ndjson", "json"]

BLOCK = 1 << 18
"""Bytes that are read at once."""

_COMPRESSED = {".gz", ".zst"}
Read = Callable[[int], bytes]
_STDIN = Path("-")
_BEFORE = "what was read before has been filtered"
Piece = tuple[bytes, Tally]
RANGE_BYTES = 8 << 20
"""Bytes of a file that one process works on at a time."""


def form_of(path: Path) -> Form:
    """Return the form by the file's name: ``.json`` is one document, others are lines."""
    suffixes = [suffix for suffix in path.suffixes if suffix not in _COMPRESSED]
    return "json" if suffixes[-1:] == [".json"] else "ndjson"


def input_form(path: Path) -> Form:
    """Return the form of an input whose form nobody has named: stdin has lines."""
    return "ndjson" if path == _STDIN else form_of(path)


def input_name(path: Path) -> str:
    """Name an input in a message."""
    return "stdin" if path == _STDIN else file_name(path)


def is_plain_file(path: Path) -> bool:
    """Tell whether it is a regular, uncompressed file, of which ranges can be read."""
    try:
        return path.suffix not in _COMPRESSED and stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


@contextmanager
def opened(path: Path) -> Iterator[Read]:
    """Open a file, or stdin for ``-``; gives a function that reads decompressed bytes.

    Raises ``InputError``: E101 when the file cannot be opened or read, E422 when it is damaged.
    """
    if path == _STDIN:
        yield _reading(sys.stdin.buffer, input_name(path))
        return
    with _open(path) as raw:
        yield _reading(_decompressed(raw, path.suffix), input_name(path))


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb", buffering=0 if is_plain_file(path) else -1)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
    raise UsageError("E101", f"{input_name(path)} cannot be opened: {why}")


def _decompressed(raw: IO[bytes], suffix: str) -> Any:
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=raw, mode="rb")
    if suffix == ".zst":
        from collector.ingest.decompression import zstd_library  # noqa: PLC0415 - few inputs need it

        return zstd_library().ZstdFile(raw)
    return raw


def _reading(stream: Any, name: str) -> Read:
    """Make a reader that does not wait for more than is there, and raises ``InputError``."""
    read = getattr(stream, "read1", stream.read)

    def checked(size: int) -> bytes:
        damaged = True
        try:
            return bytes(read(size))
        except (EOFError, zlib.error, gzip.BadGzipFile):
            pass
        except OSError:
            damaged = False
        except Exception as error:
            # The zstd library is optional, so its error has no name here.
            if type(error).__name__ != "ZstdError":
                raise
        if damaged:
            raise InputError(
                "E422", f"{name} is damaged or cut short; {_BEFORE}; fetch the file again"
            )
        raise UsageError("E101", f"{name} cannot be read any further; {_BEFORE}")

    return checked


def lines(read: Read, max_line: int) -> Iterator[tuple[bytes, int]]:
    """Yield blocks of whole lines, each with the number of input bytes that it covers."""
    rest: list[bytes] = []
    buffered = skipped = 0
    while data := read(BLOCK):
        cut = data.rfind(b"\n") + 1
        if not cut and buffered > max_line:
            skipped += len(data)
            continue
        if cut and skipped:
            end = data.find(b"\n") + 1
            yield b"".join(rest), buffered + skipped + end
            rest, buffered, skipped = [], 0, 0
            data, cut = data[end:], cut - end
        if cut:
            yield b"".join([*rest, data[:cut]]), buffered + cut
            rest, buffered = [], 0
        rest.append(data[cut:])
        buffered += len(rest[-1])
    if buffered or skipped:
        yield b"".join(rest), buffered + skipped


def range_lines(
    handle: IO[bytes], start: int, end: int, max_line: int
) -> Iterator[tuple[bytes, int]]:
    """Yield as ``lines`` the lines of a regular file that begin from ``start`` to before ``end``.

    Adjacent ranges share no line and leave none out.
    """
    at = _first_line(handle, start)
    handle.seek(at)
    stop = _first_line(handle, end)
    handle.seek(at)
    left = stop - at

    def bounded(size: int) -> bytes:
        nonlocal left
        data = handle.read(min(size, left))
        left -= len(data)
        return data

    yield from lines(bounded, max_line)


def _first_line(handle: IO[bytes], position: int) -> int:
    """Return where the first line at or after a position begins."""
    if position == 0:
        return 0
    at = position - 1
    handle.seek(at)
    while data := handle.read(BLOCK):
        found = data.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(data)
    return at


def document(read: Read, most: int) -> tuple[memoryview, int]:
    """Read a document, at most one byte more than allowed, and the length of the input."""
    text, size = bytearray(), 0
    while data := read(BLOCK):  # no more once at the end: a terminal would wait for another one
        size += len(data)
        if len(text) <= most:
            text += data
    del text[most + 1 :]
    return memoryview(text), size


@dataclass(frozen=True)
class FilterRun:
    """A run of inputs through one schema. All of them share the keys of pseudonyms."""

    schema: Schema
    as_of: date | None = None
    jobs: int = 1
    keys: Keyring = field(default_factory=Keyring)

    def run(self, path: Path, form: Form) -> Iterator[Piece]:
        """Filter one input; ``-`` is stdin."""
        if self.jobs > 1 and form == "ndjson" and is_plain_file(path):
            yield from self._in_ranges(path)
            return
        filter_ = Filter(self.schema, as_of=self.as_of, keys=self.keys)
        with opened(path) as read:
            if form == "json":
                yield _document(filter_, read)
            else:
                yield from _lines(filter_, lines(read, MAX_LINE))

    def _in_ranges(self, path: Path) -> Iterator[Piece]:
        # They load slowly, and most runs are of one process.
        from concurrent.futures import Future, ProcessPoolExecutor  # noqa: PLC0415
        from multiprocessing import get_context  # noqa: PLC0415

        size = path.stat().st_size
        day = self.as_of
        as_of = datetime.combine(day, time(), UTC) if day else datetime.now(UTC)
        self._make_keys(as_of)
        setup = (self.schema, as_of, self.keys, path)
        starts = iter(range(0, size, RANGE_BYTES))
        pending: deque[Future[Piece]] = deque()
        start_by = get_context("fork" if _may_fork() else "spawn")
        pool = ProcessPoolExecutor(self.jobs, start_by, set_up_process, setup)
        try:
            for start in starts:
                with _interrupt_blocked():  # submitting starts processes
                    pending.append(pool.submit(filter_range, start, min(start + RANGE_BYTES, size)))
                if len(pending) > 2 * self.jobs:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            # Half a shutdown, or none, leaves threads that fail at exit. Those at work end soon:
            # ranges are short.
            try:
                with _interrupt_blocked():
                    pool.shutdown(cancel_futures=True)
            except KeyboardInterrupt:  # it came before it was blocked, or has waited since
                pool.shutdown(cancel_futures=True)
                raise

    def _make_keys(self, as_of: datetime) -> None:
        """Make the keys of that moment here, so that all processes get the same."""
        for field_ in self.schema.fields.values():
            if isinstance(field_, PseudonymField):
                self.keys(field_.key, field_.period(as_of))


@contextmanager
def _interrupt_blocked() -> Iterator[None]:
    """Block SIGINT in this thread, and in the processes and threads that it starts meanwhile.

    A process of the pool inherits the mask. Without it, Ctrl-C while that process starts raises
    ``KeyboardInterrupt`` in it, whose traceback goes to the terminal. The calling thread receives a
    SIGINT that came meanwhile when the block ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # raises what came just before
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _may_fork() -> bool:
    """Tell whether this process has one thread only, by the system's account; then it may fork.

    Starting each process anew takes as long as filtering a hundred megabytes.
    """
    threads = Path("/proc/self/task")
    return threads.is_dir() and len(list(threads.iterdir())) == 1


_worker: tuple[Filter, IO[bytes] | InputError]


def set_up_process(schema: Schema, as_of: date, keyring: Keyring, path: Path) -> None:
    """Make the filter of a process of the pool, open its file, and confine it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    filter_ = Filter(schema, as_of=as_of, keys=keyring)
    source: IO[bytes] | InputError
    try:
        source = _open(path)
    except InputError as error:
        source = error  # raised for the first range: a process must not fail while it starts
    global _worker  # noqa: PLW0603 - a process of the pool has no other place for its state
    _worker = (filter_, source)
    _confine(filter_)


def _confine(filter_: Filter) -> None:
    """Give up files, connections and other processes, if the kernel has what that needs."""
    if support().lacks:
        return
    filter_.admit_lines(b"{}\n{")
    if filter_.schema.user_agent_paths:
        parse_user_agent("-")  # it loads its parser late
    for restrict in (restrict_files, restrict_calls):
        with suppress(SandboxError):  # this process was handed a socket that leads anywhere
            restrict()


def filter_range(start: int, end: int) -> Piece:
    """Filter a range of the file in a process of the pool. Raises ``InputError``.

    To hand over each of its blocks would take a twentieth of the time.
    """
    filter_, source = _worker
    if isinstance(source, InputError):
        raise source
    records, total = [], Tally()
    for found, tally in _lines(filter_, range_lines(source, start, end, MAX_LINE), start == 0):
        records.append(found)
        total += tally
    return b"".join(records), total


def _lines(
    filter_: Filter, blocks: Iterator[tuple[bytes, int]], first: bool = True
) -> Iterator[Piece]:
    for block, size in blocks:
        admission = filter_.admit_lines(block, first=first)
        admission.tally.bytes_in = size
        yield admission.encode(), admission.tally
        first = False


def _document(filter_: Filter, read: Read) -> Piece:
    text, size = document(read, MAX_DOCUMENT)
    admission = filter_.admit(text)
    admission.tally.bytes_in = size
    return admission.encode(), admission.tally


_MOST_MERGED = 100_000


class Merger:
    """Merges identical records of a run into one with their number.

    It holds up to 100,000 different records; when there are more, it returns them and starts
    again, so that memory stays constant and the outcome depends on the records alone.
    """

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}

    def add(self, records: bytes) -> bytes:
        """Add records, and return those that are complete."""
        complete = b""
        for line in records.splitlines():
            if line not in self._counts and len(self._counts) >= _MOST_MERGED:
                complete += self.flush()
            self._counts[line] = self._counts.get(line, 0) + 1
        return complete

    def flush(self) -> bytes:
        """Return all merged records, in the order of their first."""
        counted = [
            line if times == 1 else b'%b,"count":%d}' % (line[:-1], times)
            for line, times in self._counts.items()
        ]
        self._counts.clear()
        return b"".join(line + b"\n" for line in counted)
