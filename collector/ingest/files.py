"""Events in files and streams: opened, decompressed, and cut into whole lines, in constant memory.

Nothing is parsed here. A line longer than ``MAX_LINE`` is handed on cut just beyond that length, so
that whoever reads it refuses it for its size; the rest of it is skipped unseen.
"""

from __future__ import annotations

import gzip
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Literal

from collector.errors import ConfigError, InputError

__all__ = [
    "BLOCK",
    "Form",
    "Read",
    "document",
    "form_of",
    "is_plain_file",
    "lines",
    "opened",
    "range_lines",
    "zstd_library",
]

Form = Literal["ndjson", "json"]

BLOCK = 1 << 18
"""How many bytes are read at once."""

_COMPRESSED = {".gz", ".zst"}
Read = Callable[[int], bytes]
_STDIN = Path("-")
_BEFORE = "what was read before has been filtered"


def form_of(path: Path) -> Form:
    """The form that a file's name says: ``.json`` is one document, all else is lines."""
    suffixes = [suffix for suffix in path.suffixes if suffix not in _COMPRESSED]
    return "json" if suffixes[-1:] == [".json"] else "ndjson"


def is_plain_file(path: Path) -> bool:
    """Whether the path is a regular, uncompressed file, of which ranges can be read."""
    try:
        return path.suffix not in _COMPRESSED and stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


@contextmanager
def opened(path: Path) -> Iterator[Read]:
    """A function that reads up to so many (decompressed) bytes of the file, ``-`` being stdin.

    Raises ``InputError``: E401 when the file cannot be opened or read, E402 when it is damaged.
    """
    if path == _STDIN:
        yield _reading(sys.stdin.buffer)
        return
    with _open(path) as raw:
        yield _reading(_decompressed(raw, path.suffix))


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb", buffering=0 if is_plain_file(path) else -1)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
    raise InputError("E401", f"the input file cannot be opened: {why}")


def _decompressed(raw: IO[bytes], suffix: str) -> Any:
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=raw, mode="rb")
    return zstd_library().ZstdFile(raw) if suffix == ".zst" else raw


def zstd_library() -> ModuleType:
    """The standard library's zstd (Python 3.14), or its backport, an optional dependency."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    extra = "data-minimisation-collector[cli]"
    raise ConfigError("E201", f"zstd data needs a zstd library: pip install '{extra}'")


def _reading(stream: Any) -> Read:
    """Reads what is there without waiting for more, and turns library errors into ours."""
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
            raise InputError("E402", f"the compressed input is damaged or cut short; {_BEFORE}")
        raise InputError("E401", f"the input cannot be read any further; {_BEFORE}")

    return checked


def lines(read: Read, max_line: int) -> Iterator[tuple[bytes, int]]:
    """Blocks of whole lines, each with the number of input bytes that it stands for."""
    rest: list[bytes] = []
    held = skipped = 0
    while data := read(BLOCK):
        cut = data.rfind(b"\n") + 1
        if not cut and held > max_line:
            skipped += len(data)
            continue
        if cut and skipped:
            end = data.find(b"\n") + 1
            yield b"".join(rest), held + skipped + end
            rest, held, skipped = [], 0, 0
            data, cut = data[end:], cut - end
        if cut:
            yield b"".join([*rest, data[:cut]]), held + cut
            rest, held = [], 0
        rest.append(data[cut:])
        held += len(rest[-1])
    if held or skipped:
        yield b"".join(rest), held + skipped


def range_lines(path: Path, start: int, end: int, max_line: int) -> Iterator[tuple[bytes, int]]:
    """As ``lines``, for the lines of a regular file that begin at ``start`` or later, before
    ``end``. Ranges that touch share no line and leave none out."""
    with _open(path) as handle:
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
    """Where the first line that begins at or after a position begins."""
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
    """A whole document, or one byte more than allowed of it, and the length of the input."""
    text = bytearray()
    while len(text) <= most and (data := read(BLOCK)):
        text += data
    size = len(text)
    del text[most + 1 :]
    while data := read(BLOCK):
        size += len(data)
    return memoryview(text), size
