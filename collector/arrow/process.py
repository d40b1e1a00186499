"""Ask the process that reads Parquet files, and send it the parts of a file that it needs.

The process ends if nobody asks for a while, or if a file exceeds its memory or time. A second
process then tries the file. If that one ends too, the file is refused.

A message is its kind, the length of its content, and the content. The process asks for ranges of
the file, sends parts of the file that it makes, and then answers or refuses. Questions and answers
are typed MessagePack.
"""

from __future__ import annotations

import atexit
import io
import os
import select
import struct
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import IO, Annotated, NamedTuple, TypeVar

from msgspec import Meta, MsgspecError
from msgspec.msgpack import Decoder, Encoder

from collector.contracts import Part, Removal
from collector.environment import clean_environment
from collector.errors import DeliveryError, UnreadableFile
from collector.files import failing_as

OPEN, WHOLE, CONCERNS, ROWS, VALUES, COUNT, REVISE, RANGE, DATA, PART, ANSWER, REFUSED = (
    b"OWNGVCERDPAX"
)
"""The kinds of messages. Questions: what does the end of a file say, would we have written the same
bytes under a key, does a rule concern the file, the records or the values of a row group, the
counts of a rule, and the file without what rules remove. Others: a range of the file and its bytes,
a part of a file that is being made, an answer, and a refusal."""
PLACE = struct.Struct(">QQ")
"""The start of a range and its length."""
MOST_COMPRESSED = 16 << 20
"""The most bytes that the process may ask for at once: some columns of a row group."""
MOST_GROUP = 64 << 20
"""The most bytes of a row group in memory. Our row groups have at most half of that."""
IDLE_SECONDS = 20.0
"""How long the process waits for a question."""
_HEAD = struct.Struct(">BI")
encoded: Callable[[object], bytes] = Encoder().encode
"""Encodes a question or an answer."""
_T = TypeVar("_T")
_Number = Annotated[int, Meta(ge=0)]
_MOST_MESSAGE = 96 << 20
_MORE = 1 << 20
"""A rewritten file may have twice its former bytes and this many more."""
_SECONDS = 60.0
"""How long the process may work before it asks or answers."""


class Ranges(io.RawIOBase):
    """A file that is read range by range: ``read`` returns the bytes from a start to an end."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size, self._at = read, size, 0

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it has positions."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        self._at = offset + {os.SEEK_CUR: self._at, os.SEEK_END: self._size}.get(whence, 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read from the position."""
        end = self._size if size < 0 else min(self._at + size, self._size)
        found = self._read(self._at, end) if end > self._at else b""
        self._at += len(found)
        return found


# -- messages --------------------------------------------------------------------------------------


def receive(handle: int, seconds: float) -> tuple[int, bytes]:
    """Read a message from a pipe. Raises ``OSError`` if the other end is closed, nothing arrives
    for ``seconds``, or the message is too long."""
    kind, length = _HEAD.unpack(_exactly(handle, _HEAD.size, seconds))
    if length > _MOST_MESSAGE:
        raise OSError("a message is too long")
    return kind, _exactly(handle, length, seconds)


def _exactly(handle: int, length: int, seconds: float) -> bytes:
    found, waiting = bytearray(), select.poll()  # `select` takes no handle above 1023
    waiting.register(handle, select.POLLIN)
    while len(found) < length:
        is_ready = waiting.poll(seconds * 1000)
        part = os.read(handle, length - len(found)) if is_ready else b""
        if not part:
            raise OSError("the other process has ended, or takes too long")
        found += part
    return bytes(found)


def send(handle: int, kind: int, content: bytes) -> None:
    """Write a message into a pipe. Raises ``OSError`` if the other end is closed."""
    for each in (_HEAD.pack(kind, len(content)), content):
        left = memoryview(each)
        while left:
            left = left[os.write(handle, left) :]


# -- the process -----------------------------------------------------------------------------------


_processes = dict[subprocess.Popen[bytes], float]()
"""The reader processes of this process, and when each was last used (monotonic clock)."""
_free = list[subprocess.Popen[bytes]]()
"""The reader processes that are not in use."""
os.register_at_fork(after_in_child=_processes.clear)
os.register_at_fork(after_in_child=_free.clear)


class ReaderProcess:
    """The process that parses files, for one thread at a time. It starts when it is needed."""

    def __init__(self) -> None:
        self.file: ParquetFile | None = None
        """The file whose end the process read last."""
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return "<ReaderProcess>"

    def close(self) -> None:
        """Release the process, so that others can use it."""
        if self._process in _processes:
            _free.append(self._process)
        self._process = self.file = None

    def ready(self) -> subprocess.Popen[bytes]:
        """Return the process. Replace it if it has ended, or soon will because nobody asked."""
        while self._process not in _processes or not _is_ready(self._process):
            self._process = self.file = None
            with suppress(IndexError):
                self._process = _free.pop()
            self._process = self._process or _started()
        _processes[self._process] = monotonic()
        return self._process

    def ask(
        self, kind: int, content: bytes, source: IO[bytes], made: IO[bytes] | None = None
    ) -> bytes:
        """Return the answer about a file. The process gets ranges of the file from ``source``; the
        file that it makes is written into ``made``. Raises ``UnreadableFile`` if the process
        refuses the file, ``_Ended``, ``DeliveryError`` E503 if the disk cannot take the new file,
        and what the source raises."""
        process = self.ready()
        if kind != OPEN and self.file is None:
            raise _Ended
        assert process.stdin is not None  # noqa: S101 - for the type
        assert process.stdout is not None  # noqa: S101 - for the type
        questions, answers = process.stdin.fileno(), process.stdout.fileno()
        failure: Exception | None = None
        most = _MORE + 2 * source.seek(0, os.SEEK_END) if made is not None else 0
        try:
            send(questions, kind, content)
            while True:
                kind, content = receive(answers, _SECONDS)
                if kind == RANGE:
                    part, failed = _part(source, *PLACE.unpack(content))
                    failure = failed or failure
                    send(questions, DATA, part)
                elif kind == PART and made is not None and made.tell() + len(content) <= most:
                    with failing_as(no_room()):
                        made.write(content)
                elif kind == ANSWER:
                    return content
                elif kind == REFUSED:
                    break
                else:
                    raise OSError("this is no answer")
        except (OSError, struct.error):  # it has ended, or takes too long
            _end(process)
            failure = failure or _Ended()
        except BaseException:  # nobody will read what it still sends
            _end(process)
            raise
        raise failure or UnreadableFile()


def _part(source: IO[bytes], start: int, length: int) -> tuple[bytes, Exception | None]:
    """Return a range of a file, or nothing if the file has no such range. Return other errors, so
    that the caller can raise them after it has answered the process."""
    if length <= MOST_COMPRESSED:
        try:
            source.seek(start)
            return source.read(length), None
        except (OSError, OverflowError):
            pass
        except Exception as error:  # noqa: BLE001 - raised later
            return b"", error
    return b"", None


def no_room() -> DeliveryError:
    """Return the error for a file that cannot be written to disk."""
    return DeliveryError("E503", "a file of the lake cannot be written; is the disk full?")


class _Ended(UnreadableFile):
    """The process ended or took too long, because of the file or because somebody killed it."""


def _started() -> subprocess.Popen[bytes]:
    fixed = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
    with failing_as(DeliveryError("E503", "the process that reads Parquet files cannot start")):
        process = subprocess.Popen(
            [sys.executable, "-B", "-P", "-s", "-m", "collector.arrow.reader"],
            env=clean_environment() | fixed,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
    _processes[process] = monotonic()
    return process


def _is_ready(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process still waits for a question; end it if not."""
    is_waiting = monotonic() < _processes[process] + IDLE_SECONDS / 2
    if not is_waiting or process.poll() is not None:
        _end(process)
    return process in _processes


def _end(process: subprocess.Popen[bytes]) -> None:
    _processes.pop(process, None)
    process.kill()
    with process:  # waits for it, and closes its pipes
        pass


@atexit.register
def _end_all() -> None:
    for process in [*_processes]:
        _end(process)


# -- a file ----------------------------------------------------------------------------------------


class Statistics(NamedTuple):
    """What the end of a file says: the number of records, how many of them have a value of each
    field, the first and the last minute, and the retentions that were written with them."""

    records: _Number
    fields: Mapping[str, _Number]
    first: str | None
    last: str | None
    retentions: Mapping[str, timedelta]

    @property
    def filled(self) -> frozenset[str]:
        """The fields that have values."""
        return frozenset(name for name, number in self.fields.items() if number)


class ParquetFile:
    """A file of ours, with its mark, its number of row ``groups``, and what its end says. ``close``
    closes ``source``.

    Every method raises ``UnreadableFile`` for a file that is not ours or exceeds a bound,
    ``DeliveryError`` E503 if the process cannot start, and what the source raises.
    """

    def __init__(self, source: IO[bytes], process: ReaderProcess) -> None:
        self._source, self._process = source, process
        self._size, self._told = 0, b""
        with suppress(OSError):
            self._size = source.seek(0, os.SEEK_END)
        self.groups: int
        self.mark: bytes
        self.statistics: Statistics
        self.groups, self.mark, self.statistics = self._ask(OPEN, self._size, _OPENED)
        self._told = encoded((self.groups, self.mark, self.statistics))

    def __repr__(self) -> str:
        return f"<ParquetFile: {self.groups} groups>"

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def is_whole(self, key: str) -> bool:
        """Return whether we would have written every byte of the file under that key."""
        return self._ask(WHOLE, key, _IS)

    def is_concerned(self, parts: Iterable[Part]) -> bool:
        """Return whether parts of a rule may concern the file. Reads only the times, and the
        columns that the parts select people by."""
        return self._ask(CONCERNS, list(parts), _IS)

    def records(self, parts: Sequence[Part]) -> Iterator[bytes]:
        """Yield the records that parts of a rule concern, as NDJSON."""
        for group in range(self.groups):
            row: int | None = 0
            while row is not None:
                row, lines = self._ask(ROWS, (group, row, parts), _LINES)
                yield lines

    def values(self) -> Iterator[tuple[str, Mapping[str, Collection[object]]]]:
        """Yield for each row group the schema that all of its records name, empty if they name
        several, and the distinct values of each column."""
        for group in range(self.groups):
            yield self._ask(VALUES, group, _VALUES)

    def count(self, parts: Sequence[Part]) -> tuple[int, Mapping[str, int]]:
        """Return how many records the parts of a rule concern, and how many of these lose each
        field."""
        return self._ask(COUNT, parts, _COUNTS)

    def revise(self, steps: Sequence[Sequence[Part]], new: IO[bytes]) -> list[Removal]:
        """Rewrite the file into ``new``, applying one rule after the other. Return what each rule
        has removed. Also raises ``DeliveryError`` E503 if the disk cannot take the file."""
        found = self._ask(REVISE, steps, _REMOVED, new)
        if len(found) != len(steps):
            raise UnreadableFile
        return [Removal(*each) for each in found]

    def _ask(
        self, kind: int, question: object, answer: Decoder[_T], made: IO[bytes] | None = None
    ) -> _T:
        """Return the answer to a question. If the first process ends, ask a second one."""
        content, told = encoded(question), b""
        with suppress(_Ended):
            told = self._asked(kind, content, made)
        if not told:
            if made is not None:
                made.seek(0)
                made.truncate()
            told = self._asked(kind, content, made)
        with failing_as(UnreadableFile(), MsgspecError):
            return answer.decode(told)

    def _asked(self, kind: int, content: bytes, made: IO[bytes] | None) -> bytes:
        self._process.ready()
        if self._process.file is self:
            return self._process.ask(kind, content, self._source, made)
        self._process.file = None  # it has another file, or has ended
        told = self._process.ask(OPEN, encoded(self._size), self._source)
        if self._told not in (b"", told):
            raise UnreadableFile  # the file was changed
        self._process.file = self
        return told if kind == OPEN else self._process.ask(kind, content, self._source, made)


_OPENED = Decoder(tuple[_Number, bytes, Statistics])
_IS = Decoder(bool)
_LINES = Decoder(tuple[int | None, bytes])
_VALUES = Decoder(tuple[str, dict[str, list[str | int | float | bool]]])
_COUNTS = Decoder(tuple[_Number, dict[str, _Number]])
_REMOVED = Decoder(list[tuple[_Number, _Number]])
