"""Hints at why nothing of an input is admitted: its form, or a schema for other events.

A hint names the file and schemas. It never holds a value or a key of an event.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from collector.cli.inputs import Form, document, input_form, input_name, opened
from collector.contracts import Rejection, Tally
from collector.errors import CollectorError, InputError, UsageError
from collector.filter import Filter
from collector.filter.text import BOM, MAX_DOCUMENT
from collector.schema import Schema, load_schema, resources

if TYPE_CHECKING:
    from collector.samples import Sample

_HEAD_BYTES = 256 << 10
"""The beginning of a file that is looked at."""
_BINARY = {
    b"\x1f\x8b": "is compressed with gzip; let its name end in `.gz`",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; let its name end in `.zst`",
    b"PAR1": "is a Parquet file; export it as lines of JSON",
    b"PK\x03\x04": "is a ZIP archive; unpack it, or export it as lines of JSON",
    b"SQLite format 3": "is an SQLite database; export it as lines of JSON",
    b"\xff\xfe": "is UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "is UTF-16 text; save it as UTF-8",
}
_OF_OTHERS: tuple[Rejection, ...] = ("nothing_admitted", "missing_required", "not_an_object")
"""Why events are rejected that another schema is for."""
_OTLP = re.compile(rb'\s*\{\s*"resource(Logs|Spans|Metrics)"')
_OTLP_PATHS = {b"Logs": "/v1/logs", b"Spans": "/v1/traces", b"Metrics": "/v1/metrics"}
_EVENTS = "events are JSON objects, one a line"
_CSV = "looks like CSV; turn each row into a JSON object (docs/filter.md shows how)"
_DOCUMENT = "is one JSON document; rename it to end in `.json`, or add `--input json`"
_LINES = (
    "has one JSON document on each line; rename it to end in `.ndjson`, or add `--input ndjson`"
)
_NO_FIT = (
    "`collector explain` shows where the schema looks, and `collector schema new NAME --from FILE`"
    " proposes a schema; if your events are inside a list, name its path under `records`"
)
_QUOTES = "is written with single quotes, as Python prints a dictionary; write it with `json.dumps`"


def hint(path: Path, form: Form, tally: Tally, schema: Schema) -> str | None:
    """Return one sentence about an input with these counts, if there is something to say."""
    name = input_name(path)
    if tally.rejected["malformed"] and path.suffix in (".yaml", ".yml"):
        return f"{name} is YAML; name a schema with `--schema`. Here, {_EVENTS}"
    if not (tally.received and tally.bytes_in):  # a document of no bytes is a malformed one
        return f"{name} holds no event" if tally.bytes_in else f"{name} is empty"
    malformed = tally.rejected["malformed"]
    others = sum(tally.rejected[each] for each in _OF_OTHERS)
    if 2 * (malformed + tally.rejected["not_an_object"]) >= tally.received:
        found = _form(_head(path), form)
        if found is not None:
            return f"{name} {found}"
    if not tally.admitted and (otlp := _OTLP.match(_head(path))):
        send = f"curl localhost:4318{_OTLP_PATHS[otlp[1]]} --json @{name}"
        return f"{name} is OTLP; send it to a sidecar (`{send}`), or use `Filter.admit_otlp`"
    if malformed == tally.received:
        return f"{name}: nothing in it is valid JSON; {_EVENTS} (docs/filter.md has other forms)"
    if not tally.admitted and 2 * others >= tally.received:
        found = _remedy(path, form)
        if not found and schema.records is None and set(tally.rejected) == {"not_an_object"}:
            return f"{name} holds no JSON object; {_EVENTS}"
        return f"{name}: {schema.id} admits none of these events; {found or _NO_FIT}"
    return None


def read_sample(path: Path, form: Form | None = None) -> Sample:
    """Read a file of events, or stdin, to try schemas on. Raises ``InputError`` E101."""
    from collector.samples import Sample  # noqa: PLC0415 - `filter` needs none

    with opened(path) as read:
        text, _ = document(read, MAX_DOCUMENT)
    return Sample(bytes(text), lines=(form or input_form(path)) == "ndjson")


def refuse_unreadable(path: Path, sample: Sample) -> None:
    """Raise ``InputError`` E422 with a hint if no event of a sample can be read."""
    schema = load_schema("conferencing")
    tally = sample.admit(Filter(schema)).tally
    if tally.rejected["malformed"] + tally.rejected["too_large"] >= tally.received:
        found = hint(path, sample_form(sample), tally, schema)
        raise UsageError(
            "E422", found or f"{input_name(path)}: nothing in it is valid JSON; {_EVENTS}"
        )


def sample_form(sample: Sample) -> Form:
    """Return the form in which a sample is read."""
    return "ndjson" if sample.is_lines else "json"


def _head(path: Path) -> bytes:
    """Read the beginning of a file, again; of stdin, nothing is left to read."""
    head = b""
    with suppress(InputError, OSError):
        if path.is_file():
            with opened(path) as read:
                while len(head) < _HEAD_BYTES and (block := read(_HEAD_BYTES - len(head))):
                    head += block
    return head


def _form(head: bytes, form: Form) -> str | None:
    """Say which form an input seems to have that is not the one it was read in."""
    for magic, found in _BINARY.items():
        if head.startswith(magic):
            return found
    text = head.removeprefix(BOM).strip()
    first, _, others = text.partition(b"\n")
    if text[:1] == b"<":
        return f"looks like XML or HTML; {_EVENTS}"
    if text[:1] in (b"{", b"["):
        is_whole = _is_json(first)
        if form == "json":
            return _LINES if is_whole and others else None
        if text[1:].lstrip()[:1] == b"'":
            return _QUOTES
        is_document = (text[:1] == b"[" and not others) if is_whole else _is_document(head)
        return _DOCUMENT if is_document else None
    is_text = all(byte >= 32 or byte in b"\t\r" for byte in first)
    return _CSV if is_text and any(mark in first for mark in (b",", b";", b"\t")) else None


def _is_document(head: bytes) -> bool:
    """Return whether several lines are one document; of a long one only the beginning is known."""
    return len(head) >= _HEAD_BYTES or _is_json(head)


def _is_json(text: bytes) -> bool:
    """Return whether a text is JSON, by a filter: nothing else may parse events."""
    return not Filter(load_schema("conferencing")).admit(text).tally.rejected["malformed"]


def _remedy(path: Path, form: Form) -> str | None:
    """Name the shipped schemas that admit some of these events, or the template that fits."""
    from collector.samples import Sample, fitting  # noqa: PLC0415 - rarely needed

    head = _head(path)
    names = [name for name in resources.names() if _admits(name, head, form)]
    if names:
        return f"try {' or '.join(f'`--schema {name}`' for name in names)}"
    if fits := fitting(Sample(head, lines=form == "ndjson")):
        origin = input_name(path) if fits[0].is_map else fits[0].name
        return f"the template {fits[0]}: `collector schema new NAME --from {origin}`"
    return None


def _admits(name: str, head: bytes, form: Form) -> bool:
    with suppress(CollectorError):
        filter_ = Filter(load_schema(name))
        if form == "json":
            return filter_.admit(head).tally.admitted > 0
        return filter_.admit_lines(head).tally.admitted > 0
    return False
