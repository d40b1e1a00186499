"""Our own records, read back from the spool: into rows for a table, or into mappings; all columns
of them, or those that a sink may have.

They were written by a filter, under a layout that the spool keeps with them; the schema that they
came from is not needed, so batches outlive its next version.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, overload

import msgspec

from collector.contracts import Batch, Layout, Record, Row, Spooled
from collector.errors import DeliveryError

__all__ = ["Records", "project", "read", "rows"]

_TYPES: dict[str, Any] = {"TEXT": str, "INTEGER": bool | int, "REAL": float}
_values = msgspec.structs.astuple
_ABSENT = msgspec.Raw()
_records = msgspec.json.Decoder(dict[str, str | int | float | bool]).decode_lines


def rows(layout: Layout, payload: bytes) -> list[Row]:
    """Each record's values in the order of the layout's columns, then its count.

    Raises ``DeliveryError`` E509 for what is not of that layout.
    """
    try:
        return [_values(record) for record in _decoder(layout).decode_lines(payload)]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    raise _unreadable()


def read(spooled: Spooled) -> Batch:
    """The batch of what lies in the spool. Nothing is read before somebody asks for it."""
    layout, payload = spooled.layout, spooled.payload
    records = Records(payload)
    reading = partial(rows, layout, payload)
    return Batch(spooled.id, spooled.received, records, layout, payload, reading, spooled.granted)


def project(spooled: Spooled, names: Container[str]) -> Spooled:
    """What lies in the spool without the columns that have none of these names, as if they had
    never been there: a record without any other column is left out.

    Values stay the bytes that they are, and those of other columns are skipped. Raises
    ``DeliveryError`` E509 for what is no NDJSON of records.
    """
    layout = spooled.layout
    columns = tuple(column for column in layout.columns if column[0] in names)
    if columns == layout.columns:
        return spooled
    decode, encode = _part(tuple(name for name, _ in columns))
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        records = [one for one in decode(spooled.payload) if any(_values(one)[1:-1])]
        layout = replace(layout, columns=columns)
        return replace(spooled, layout=layout, payload=encode(records))
    raise _unreadable()


class Records(Sequence[Record]):
    """NDJSON as a sequence of records, read when it is first looked into.

    Looking raises ``DeliveryError`` E509 for what is no NDJSON of flat objects.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._read: list[Record] | None = None

    def __repr__(self) -> str:
        return f"<{len(self)} records>"

    def __len__(self) -> int:
        return self._payload.count(b"\n")

    def __iter__(self) -> Iterator[Record]:
        return iter(self._all())

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        return self._all()[index]

    def _all(self) -> list[Record]:
        if self._read is None:
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                self._read = _records(self._payload)
        if self._read is None:
            raise _unreadable()
        return self._read


@lru_cache(maxsize=64)
def _decoder(layout: Layout) -> msgspec.json.Decoder[Any]:
    """Of a struct with the layout's columns; a kind of column that is not known takes no record."""
    columns = [
        (f"c{index}", _TYPES.get(kind, msgspec.UnsetType) | None, None)
        for index, (_, kind) in enumerate(layout.columns)
    ]
    names = {f"c{index}": name for index, (name, _) in enumerate(layout.columns)}
    record = msgspec.defstruct("Row", [*columns, ("count", int, 1)], rename=names, gc=False)
    return msgspec.json.Decoder(record)


@lru_cache(maxsize=64)
def _part(names: tuple[str, ...]) -> tuple[Callable[[bytes], list[Any]], Callable[[Any], bytes]]:
    """Reads and writes lines of records that have no other columns than these."""
    raw = msgspec.Raw
    columns = [(f"c{index}", raw, _ABSENT) for index in range(len(names))]
    record = msgspec.defstruct(
        "Part",
        [("schema", raw), *columns, ("count", raw, _ABSENT)],
        rename={f"c{index}": name for index, name in enumerate(names)},
        omit_defaults=True,
        gc=False,
    )
    return msgspec.json.Decoder(record).decode_lines, msgspec.json.Encoder().encode_lines


def _unreadable() -> DeliveryError:
    return DeliveryError("E509", "a spooled batch is not of the form that it should have")
