"""PyArrow: NDJSON into columns under an explicit schema; msgspec makes records of them."""

from __future__ import annotations

import msgspec
import pyarrow as pa
import pyarrow.compute
import pyarrow.json

from benchmarks.contenders import FIELDS, SCHEMA, Contender, Job

_TEXT = pa.string()
_MODEL = pa.struct({"identifier": _TEXT, "name": _TEXT})
_TYPES = pa.schema(
    {
        "client": pa.struct({"address": _TEXT}),
        "device": pa.struct({"type": _TEXT, "manufacturer": _TEXT, "model": _MODEL}),
        "os": pa.struct({"type": _TEXT, "name": _TEXT, "version": _TEXT, "build_id": _TEXT}),
    }
)
_PARSED = pyarrow.json.ParseOptions(explicit_schema=_TYPES, unexpected_field_behavior="ignore")
# Reading medium events, in µs: blocks of 8 MiB 4.9, of 1 MiB 5.1, of 256 KiB 5.3.
_READ = pyarrow.json.ReadOptions(use_threads=False, block_size=8 << 20)

_Row = msgspec.defstruct(
    "_Row",
    [(f"c{number}", str | None, None) for number in range(len(FIELDS))],
    rename={f"c{number}": name for number, name in enumerate(FIELDS)},
    tag_field="schema",
    tag=SCHEMA,
    omit_defaults=True,
    gc=False,
)


# On medium events, in µs: structs by msgspec 5.7, dictionaries by orjson 6.3, `Table.to_pylist`
# and orjson 6.9, Polars as the writer 6.4, text put together in Arrow 6.7.
def _make(lines: list[bytes], _schema: str) -> Job:
    """Read on the caller's thread. PyArrow writes no JSON."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    payload, encode = b"\n".join(lines), msgspec.json.Encoder().encode_lines

    def job() -> bytes:
        table = pyarrow.json.read_json(pa.BufferReader(payload), _READ, _PARSED)
        columns = []
        for name in FIELDS:
            first, *rest = name.split(".")
            columns.append(pyarrow.compute.struct_field(table[first], rest).to_pylist())
        return encode(list(map(_Row, *columns)))

    return job


PYARROW_JSON = Contender(
    "pyarrow_json", "PyArrow, read_json + msgspec", "check, alias, count, skip bad lines", _make
)
