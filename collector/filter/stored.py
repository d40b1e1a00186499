"""Decode stored records, which a filter wrote: into mappings, or into rows for a table.

They are decoded under a layout that is stored with them. The schema is not needed, so a batch
outlives the next version of its schema.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import msgspec

from collector.contracts import Batch, Layout, Record, Row, layout_of
from collector.errors import UnreadableBatch
from collector.filter.members import FAILURES, named_members
from collector.filter.text import PIECE, pieces

Values = tuple[str, Mapping[str, Collection[object]]]
"""The name of the schema of some records, and the distinct values of each member."""

_TYPES: dict[str, Any] = {"TEXT": str, "INTEGER": bool | int, "REAL": float}
_values = msgspec.structs.astuple
_ABSENT = msgspec.Raw()
_encode_records = msgspec.json.Encoder().encode_lines
_decode_records = msgspec.json.Decoder(dict[str, str | int | float | bool]).decode_lines


def read(batch: Batch, names: Container[str] | None = None) -> Batch:
    """Return a batch of a spool with its records and rows, which are decoded on access unless the
    batch already has its rows. With ``names``, keep only these columns, as ``project`` does.

    Access raises ``DeliveryError`` E507 for anything but NDJSON of the layout.
    """
    batch = batch if names is None else project(batch, names)
    rows = batch.rows
    if rows is None and batch.layout is not None:
        rows = partial(_decode_rows, batch.layout, batch.payload)
    return replace(batch, rows=rows, decode=records_in)


def project(batch: Batch, names: Container[str]) -> Batch:
    """Return a batch of a spool with only the columns in ``names``; records without any of them are
    left out.

    Values stay unchanged bytes; other columns are skipped. Raises ``DeliveryError`` E507 for
    anything but NDJSON of records.
    """
    layout = layout_of(batch)
    columns = tuple(column for column in layout.columns if column[0] in names)
    if columns == layout.columns:
        return batch
    decode, encode = _projection(tuple(name for name, _ in columns))
    with suppress(*FAILURES):
        records = [one for one in decode(batch.payload) if any(_values(one)[1:-1])]
        layout = replace(layout, columns=columns)
        return replace(batch, layout=layout, payload=encode(records), rows=None)
    raise UnreadableBatch


def records_in(payload: bytes) -> list[Record]:
    """Decode NDJSON of flat objects. Raises ``DeliveryError`` E507 for anything else."""
    with suppress(*FAILURES):
        return _decode_records(payload)
    raise UnreadableBatch


def values(payload: bytes) -> Iterator[Values]:
    """Yield the values in NDJSON of records, by their schema. Raises ``DeliveryError`` E507 for
    anything but flat objects."""
    found: dict[str, dict[str, set[object]]] = {}
    for record in records_in(payload):
        members = found.setdefault(str(record.pop("schema", "")), {})
        for name, value in record.items():
            members.setdefault(name, set()).add(value)
    yield from found.items()


def foreign_lines(payload: bytes) -> int:
    """Count the lines that differ from a filter's output: with blanks, or with a repeated member,
    of which only the last is read. Raises ``DeliveryError`` E507 for anything but flat objects."""
    written = _encode_records(records_in(payload))
    if written == payload:
        return 0
    ours = Counter(written.splitlines())
    return (Counter(payload.splitlines()) - ours).total() or 1


def _decode_rows(layout: Layout, payload: bytes) -> list[Row]:
    """Decode each record into its values, in the order of the layout's columns, and its count.
    Works piece by piece, because other threads wait meanwhile."""
    decode, rows = _row_decoder(layout).decode_lines, list[Row]()
    with suppress(*FAILURES):
        for piece in pieces(payload, PIECE):
            rows += map(_values, decode(piece))
        return rows
    raise UnreadableBatch


@lru_cache(maxsize=64)
def _row_decoder(layout: Layout) -> msgspec.json.Decoder[Any]:
    """Return a decoder for the layout's columns; a column of an unknown type accepts no value."""
    types = {name: _TYPES.get(kind, msgspec.UnsetType) | None for name, kind in layout.columns}
    columns = {name: (kind, None) for name, kind in types.items()}
    return msgspec.json.Decoder(named_members("Row", columns, ("count", int, 1)))


@lru_cache(maxsize=64)
def _projection(
    names: tuple[str, ...],
) -> tuple[Callable[[bytes], list[Any]], Callable[[Any], bytes]]:
    """Return a decoder and an encoder of NDJSON records with only these columns."""
    optional = dict.fromkeys([*names, "count"], (msgspec.Raw, _ABSENT))
    record = named_members("Projected", {"schema": (msgspec.Raw,), **optional}, omit_defaults=True)
    return msgspec.json.Decoder(record).decode_lines, msgspec.json.Encoder().encode_lines
