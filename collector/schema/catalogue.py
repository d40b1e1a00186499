"""Catalogues: closed lists of tokens, one a line, whose first line names their public source."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from collector.schema import resources

MAX_LENGTH = 64
"""Characters of an entry."""

MAX_BYTES = 4 << 20
"""The most bytes of a catalogue."""
_SOURCE = "# source:"


class CatalogueFault(ValueError):
    """A catalogue that cannot be used; ``code`` is E101 or E107."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def read(name: str, directory: Path | None) -> frozenset[str]:
    """Read the entries of a catalogue beside the schema, else of a shipped one.

    Raises ``CatalogueFault`` when there is none or when it is not in the form described above.
    """
    path = resources.catalogue(name, directory)
    if path is None:
        raise CatalogueFault(
            "E101", "no such catalogue beside the schema or among the shipped ones; write one"
        )
    try:
        found = path.stat()
        return _entries(path, found.st_mtime_ns, found.st_size)
    except OSError:
        pass
    raise CatalogueFault("E101", "the catalogue cannot be read; check its permissions")


def text_of(data: bytes) -> str:
    """Decode a catalogue's bytes, without a byte order mark.

    Raises ``CatalogueFault`` E107 when they are no UTF-8 or too many.
    """
    text = data.decode("utf-8-sig", "replace") if len(data) <= MAX_BYTES else "\ufffd"
    if "\ufffd" in text:
        raise CatalogueFault("E107", f"a catalogue must be UTF-8 text of at most {MAX_BYTES} bytes")
    return text


def source_of(line: str) -> str | None:
    """Return the source that a line names, maybe empty; ``None`` if it is no source line."""
    return line[len(_SOURCE) :].strip() if line.startswith(_SOURCE) else None


def is_comment(line: str) -> bool:
    """Return whether a line is no entry: it is empty, or begins with ``#``."""
    return not line or line.startswith("#")


def is_entry(line: str) -> bool:
    """Return whether a line has the form of an entry."""
    return len(line) <= MAX_LENGTH and line.isprintable() and line == line.strip()


@lru_cache(maxsize=64)
def _entries(path: Path, changed: int, size: int) -> frozenset[str]:
    """Read the entries; the file's time and size are cache keys that change with it."""
    lines = text_of(path.read_bytes() if size <= MAX_BYTES else b"\xff").splitlines()
    if not lines or not source_of(lines[0]):
        raise CatalogueFault("E107", "the first line of a catalogue must be `# source: …`")
    entries = [line for line in lines if not is_comment(line)]
    if not entries or len(set(entries)) < len(entries):
        raise CatalogueFault("E107", "list at least one entry in a catalogue, and each only once")
    if not all(map(is_entry, entries)):
        raise CatalogueFault(
            "E107",
            f"an entry must be 1 to {MAX_LENGTH} printable characters without blanks around it",
        )
    return frozenset(entries)
