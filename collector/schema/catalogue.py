"""Catalogues: closed lists of tokens, one a line, whose first line names their public source."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from collector.schema import shelf

__all__ = ["CatalogueFault", "read"]

_MAX_BYTES = 4 << 20
_MAX_LENGTH = 64


class CatalogueFault(ValueError):
    """A catalogue that cannot be used; ``code`` is E120 or E121."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def read(name: str, beside: Path | None) -> frozenset[str]:
    """The entries of a catalogue, looked for beside the schema first, then among the shipped ones.

    Raises ``CatalogueFault`` when there is none or when it is not in the form described above.
    """
    path = shelf.catalogue(name, beside)
    if path is None:
        raise CatalogueFault(
            "E120", "no such catalogue beside the schema or among the shipped ones; write one"
        )
    try:
        found = path.stat()
        return _entries(path, found.st_mtime_ns, found.st_size)
    except OSError:
        pass
    raise CatalogueFault("E120", "the catalogue cannot be read; check its permissions")


@lru_cache(maxsize=64)
def _entries(path: Path, changed: int, size: int) -> frozenset[str]:
    """The time and size of the file are here to notice that it has changed."""
    text = path.read_bytes().decode("utf-8-sig", "replace") if size <= _MAX_BYTES else "\ufffd"
    if "\ufffd" in text:
        raise CatalogueFault(
            "E121", f"a catalogue must be UTF-8 text of at most {_MAX_BYTES} bytes"
        )
    lines = text.splitlines()
    if not lines or not lines[0].startswith("# source:") or not lines[0][9:].strip():
        raise CatalogueFault("E121", "the first line of a catalogue must be `# source: …`")
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries or len(set(entries)) < len(entries):
        raise CatalogueFault("E121", "list at least one entry in a catalogue, and each only once")
    if any(_is_faulty(entry) for entry in entries):
        raise CatalogueFault(
            "E121",
            f"an entry must be 1 to {_MAX_LENGTH} printable characters without blanks around it",
        )
    return frozenset(entries)


def _is_faulty(entry: str) -> bool:
    return len(entry) > _MAX_LENGTH or not entry.isprintable() or entry != entry.strip()
