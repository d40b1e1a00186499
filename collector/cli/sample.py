"""Samples of events that schemas are tried on: explained, and never shown."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from collector.cli.hints import hint
from collector.cli.inputs import document, form_of, opened
from collector.contracts import Tally
from collector.errors import UsageError
from collector.filter import Filter
from collector.filter.explain import MOST_EVENTS, Explanation, explain, known_places
from collector.filter.text import BOM, MAX_DOCUMENT
from collector.schema import Schema


def _no_key(reference: str, period: int) -> bytes:
    """Stand in for the keys of pseudonyms, of which no sample needs any."""
    return bytes(32)


def sampled(schema: Schema, path: Path, *, required: bool = True) -> list[Explanation]:
    """Explain the events of a file that can be read. Raises ``InputError``: E101 also where there
    is none and one is ``required``."""
    data, size = _read(path)
    router = Filter(schema, keys=_no_key).router
    found = list(explain(router, data, form_of(path) == "ndjson", MOST_EVENTS))
    readable = [each for each in found if each.paths]
    if required and not readable:
        tally = Tally(received=len(found), bytes_in=size)
        tally.rejected["malformed"] = len(found)
        raise UsageError("E422", str(hint(path, form_of(path), tally, schema)))
    return readable


def known_in(path: Path, places: Collection[str], around: Collection[str]) -> dict[str, set[str]]:
    """Return the paths of a file's events that have known names: see ``known_places``."""
    return known_places(_read(path)[0], form_of(path) == "ndjson", places, around)


def _read(path: Path) -> tuple[bytes, int]:
    with opened(path) as read:
        text, size = document(read, MAX_DOCUMENT)
    return bytes(text).removeprefix(BOM), size
