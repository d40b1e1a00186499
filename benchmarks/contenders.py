"""The contenders: NDJSON bytes in, nine fields of each event out, as NDJSON bytes, on one thread.

Each contender is a function that takes events and returns a job that does all the work once; the
table at the end adds its properties. A contender whose library is not installed is skipped. For
each library, the fastest way is here; comments name the other ways that were tried, in µs for a
medium event.

``python -m benchmarks.contenders NAME SOURCE TARGET`` filters one file into another once, with all
cores, for engines that support this.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial, reduce
from importlib.util import find_spec
from io import BytesIO
from ipaddress import ip_address
from operator import add
from pathlib import Path
from tempfile import mkdtemp
from textwrap import indent
from typing import Annotated, Any, Literal, NamedTuple
from weakref import finalize

import msgspec
import orjson

from benchmarks.data import Corpus, flat
from collector import Filter, Tally, load_schema
from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.token import TokenField
from collector.schema.kinds.version import VersionField

Record = dict[str, Any]
"""One flat record: the key ``schema`` and the fields that the event has."""
Job = Callable[[], bytes]
"""Does all the work once; the output is NDJSON."""

SCHEMA, QOS_SCHEMA = "conferencing/1.0.0", "participants-qos/1.0.0"
"""The values of the key ``schema``. Equal records show that the loaded schemas have the same
names."""
FIELDS: tuple[str, ...] = (
    *("client.address", "device.type", "device.manufacturer", "device.model.identifier"),
    *("device.model.name", "os.type", "os.name", "os.version", "os.build_id"),
)
"""The fields in schema order; dots separate the levels of an event."""
_BOTH = ("conferencing", "participants-qos")
_DUMPS, _NEWLINE = orjson.dumps, orjson.OPT_APPEND_NEWLINE


class Outcome(NamedTuple):
    """The outcome of a run: the records in the order of the events, and, if the contender counts,
    ``received``, ``admitted``, ``rejected``, ``dropped`` and ``content``."""

    records: list[Record]
    tally: dict[str, Any] | None = None


def parsed(output: bytes) -> list[Record]:
    """Return the values of NDJSON text without nulls, because engines write every column in each
    row."""
    return [_present(row) for row in map(orjson.loads, output.splitlines())]


def _present(row: Record) -> Record:
    return {name: value for name, value in row.items() if value is not None}


@dataclass
class Contender:
    """One way to do the job: ``prepare`` once per corpus, then ``run`` once for each timing.

    ``checks_values`` says whether it refuses values that the schema would refuse. ``does_not``
    names missing parts of the job; docs/benchmarks.md explains the words. ``schemas`` are the
    shipped schemas that it knows, ``library`` is the library that it needs. ``read`` parses the
    output into records, and ``count`` returns a tally of the events.
    """

    name: str
    title: str
    does_not: str
    make: Callable[[list[bytes], str], Job]
    schemas: tuple[str, ...] = ("conferencing",)
    library: str = "msgspec"
    checks_values: bool = False
    read: Callable[[bytes, str], list[Record]] = lambda output, _schema: parsed(output)
    count: Callable[[list[bytes], str], Iterable[Tally]] | None = None
    run: Job = field(init=False)

    def prepare(self, lines: list[bytes], schema: str) -> None:
        """Take the events, one JSON text each, and prepare everything that needs to be made only
        once."""
        self.run, self._given = self.make(lines, schema), (lines, schema)

    def check(self, output: bytes) -> Outcome:
        """Return the outcome of ``run`` in a comparable form: the order of keys does not matter."""
        tally = None
        if self.count is not None:  # without bytes, which depend on the form of the input
            total = reduce(add, self.count(*self._given), Tally()).as_dict()
            tally = {name: of for name, of in total.items() if not name.startswith("bytes_")}
        return Outcome(self.read(output, self._given[1]), tally)


def _each_line(lines: list[bytes]) -> Callable[[], BytesIO]:
    """Return a function that iterates over the lines of the NDJSON payload.

    It costs less than the other ways that were tried (``split``, slices of 64 and 128 KiB), so it
    slows no contender down.
    """
    payload = b"\n".join(lines)
    return lambda: BytesIO(payload)


def _devices(name: str) -> dict[str, str]:
    """Return the values that the schema ``participants-qos`` maps a ``device`` to for a field, for
    contenders with their own table."""
    found = load_schema("participants-qos").fields[name]
    if not isinstance(found, EnumField):
        raise TypeError(f"{name} is not an enum")
    return {value: value for value in found.values} | dict(found.aliases)


# -- the floor: decode the canonical fields and encode them again, as they are nested --------------

_NONE: Any = None


def _struct(**members: Any) -> Any:
    fields = [(key, kind | None, _NONE) for key, kind in members.items()]
    return msgspec.defstruct("Part", fields, gc=False, omit_defaults=True)


_DEVICE = _struct(type=str, manufacturer=str, model=_struct(identifier=str, name=str))
_SYSTEM = _struct(type=str, name=str, version=str, build_id=str)
_PARTICIPANT = _struct(ip_address=str, device=str)
_REPORT = msgspec.defstruct("Report", [("participants", list[_PARTICIPANT])], gc=False)  # type: ignore[valid-type]
_TYPES = {
    "conferencing": _struct(client=_struct(address=str), device=_DEVICE, os=_SYSTEM),
    "participants-qos": _REPORT,
}


def _bare(lines: list[bytes], schema: str) -> Job:
    """No aliases, no checks, no flat record: the lower bound for a filter around msgspec."""
    decode: Any = msgspec.json.Decoder(_TYPES[schema]).decode
    encode, events = msgspec.json.Encoder().encode_lines, _each_line(lines)
    return lambda: encode([decode(line) for line in events()])


def _read_bare(output: bytes, schema: str) -> list[Record]:
    events = parsed(output)
    if schema == "conferencing":
        return [{"schema": SCHEMA} | flat(event) for event in events]
    types, systems = _devices("device.type"), _devices("os.type")
    return [
        _present(
            {
                "schema": QOS_SCHEMA,
                "client.address": each.get("ip_address"),
                "device.type": types.get(each.get("device", "")),
                "os.type": systems.get(each.get("device", "")),
            }
        )
        for event in events
        for each in event["participants"]
    ]


# -- Collector: on lines, a call per event, and on mappings that were parsed outside the time ------


def _ours(lines: list[bytes], schema: str) -> Job:
    admit, payload = Filter(load_schema(schema)).admit_lines, b"\n".join(lines)
    return lambda: admit(payload).encode()


def _documents(lines: list[bytes], schema: str) -> Job:
    admit = Filter(load_schema(schema)).admit
    return lambda: b"".join([admit(document).encode() for document in lines])


def _mappings(lines: list[bytes], schema: str) -> Job:
    admit, mappings = Filter(load_schema(schema)).admit, [orjson.loads(line) for line in lines]
    return lambda: b"".join([admit(mapping).encode() for mapping in mappings])


def _count_lines(lines: list[bytes], schema: str) -> Iterable[Tally]:
    return [Filter(load_schema(schema)).admit_lines(b"\n".join(lines)).tally]


def _count_documents(lines: list[bytes], schema: str) -> Iterable[Tally]:
    admit = Filter(load_schema(schema)).admit
    return (admit(document).tally for document in lines)


def _count_mappings(lines: list[bytes], schema: str) -> Iterable[Tally]:
    admit = Filter(load_schema(schema)).admit
    return (admit(orjson.loads(line)).tally for line in lines)


# -- projections by hand: no value is looked at, only whether it is there --------------------------

_OBJECTS = {"client": "client", "device": "device", "device.model": "model", "os": "system"}
_WITH_ORJSON = """\
event = parse(line)
client, device, system = event.get("client", {}), event.get("device", {}), event.get("os", {})
"""
# `as_dict` of the three objects 3.0, `get` of each member 4.1, `at_pointer` of each field 5.0. A
# document must be freed before the parser takes the next one.
_WITH_SIMDJSON = """\
event = parse(line)
client = {} if (lazy := event.get("client")) is None else lazy.as_dict()
device = {} if (lazy := event.get("device")) is None else lazy.as_dict()
system = {} if (lazy := event.get("os")) is None else lazy.as_dict()
event = lazy = None
"""


def _written(read: str, parse: Callable[[bytes], Any]) -> Callable[[Any], bytes]:
    """Return a projection as generated code. A loop over a table of names, a call, or a dict from
    which absent fields are removed again would be slower."""
    body = f"{read}model = device.get('model', {{}})\nrecord = {{'schema': {SCHEMA!r}}}\n"
    for name in FIELDS:
        above, _, leaf = name.rpartition(".")
        body += f"if (value := {_OBJECTS[above]}.get({leaf!r})) is not None:\n"
        body += f"    record[{name!r}] = value\n"
    body += "out.append(dumps(record, option=newline))\n"
    head = "def job(lines, parse=parse, dumps=dumps, newline=newline):"
    text = f"{head}\n out = []\n for line in lines:\n"
    names: dict[str, Any] = {"parse": parse, "dumps": _DUMPS, "newline": _NEWLINE}
    exec(f"{text}{indent(body, '  ')} return b''.join(out)", names)
    made: Callable[[Any], bytes] = names["job"]
    return made


def _orjson(lines: list[bytes], schema: str) -> Job:
    """It parses the whole event."""
    events = _each_line(lines)
    if schema == "conferencing":
        projected = _written(_WITH_ORJSON, orjson.loads)
        return lambda: projected(events())
    loads, dumps, newline = orjson.loads, _DUMPS, _NEWLINE
    types, systems = _devices("device.type").get, _devices("os.type").get

    def participants() -> bytes:
        out: list[bytes] = []
        for line in events():
            for participant in loads(line)["participants"]:
                record = {"schema": QOS_SCHEMA}
                if (value := participant.get("ip_address")) is not None:
                    record["client.address"] = value
                device = participant.get("device")
                if (value := types(device)) is not None:
                    record["device.type"] = value
                if (value := systems(device)) is not None:
                    record["os.type"] = value
                out.append(dumps(record, option=newline))
        return b"".join(out)

    return participants


def _simdjson(lines: list[bytes], _schema: str) -> Job:
    """One parser, as its documentation recommends, and lazy access."""
    import simdjson  # noqa: PLC0415 - it may not be installed

    events, projected = _each_line(lines), _written(_WITH_SIMDJSON, simdjson.Parser().parse)
    return lambda: projected(events())


# -- pydantic: nested models that check what the schema checks, then a flat record -----------------

_VERSION = r"^[0-9]{1,2}(\.[0-9]{1,2}(\.[0-9]{1,5}(\.[0-9]{1,5})?)?)?$"
"""The schema's version format: at most 99.99.99999, and a last part that is cut off."""


def _address(text: str) -> str:
    address = ip_address(text)
    if address.is_multicast or address.is_link_local:
        raise ValueError("not a unicast address")
    return str(address)


def _coarse(text: str) -> str:
    return text if text.count(".") < 3 else text.rpartition(".")[0]


def _member(entries: Collection[str], text: str) -> str:
    if text not in entries:
        raise ValueError("not in the catalogue")
    return text


def _model() -> Any:
    """Return the model of an event, with the schema's catalogues and patterns."""
    from pydantic import AfterValidator, Field, create_model  # noqa: PLC0415 - as above

    tree: dict[str, Any] = {}
    for name, known in load_schema("conferencing").fields.items():
        kind: Any = Annotated[str, AfterValidator(_address)]
        if isinstance(known, EnumField):
            kind = Literal[tuple(known.values)]
        elif isinstance(known, TokenField) and known.pattern is None:
            kind = Annotated[str, AfterValidator(partial(_member, known.entries))]
        elif isinstance(known, TokenField):
            kind = Annotated[str, Field(pattern=f"^(?:{known.pattern})$")]
        elif isinstance(known, VersionField):
            kind = Annotated[str, Field(pattern=_VERSION), AfterValidator(_coarse)]
        *above, leaf = name.split(".")
        reduce(lambda node, key: node.setdefault(key, {}), above, tree)[leaf] = kind

    def model(title: str, members: dict[str, Any]) -> Any:
        made: dict[str, Any] = {}
        for name, kind in members.items():
            if isinstance(kind, dict):
                inner = model(name.title(), kind)
                made[name] = (inner, inner())
            else:
                made[name] = (kind | None, None)
        return create_model(title, **made)

    return model("Event", tree)


def _pydantic(lines: list[bytes], _schema: str) -> Job:
    """A refused value costs the whole event here, and only its field in Collector. No corpus has
    events with both valid and refused values."""
    from pydantic import ValidationError  # noqa: PLC0415 - as above

    validate, dumps, newline = _model().model_validate_json, _DUMPS, _NEWLINE
    events = _each_line(lines)

    def record_of(event: Any) -> dict[str, str]:
        device, model, system = event.device, event.device.model, event.os
        record = {
            "schema": SCHEMA,
            "client.address": event.client.address,
            "device.type": device.type,
            "device.manufacturer": device.manufacturer,
            "device.model.identifier": model.identifier,
            "device.model.name": model.name,
            "os.type": system.type,
            "os.name": system.name,
            "os.version": system.version,
            "os.build_id": system.build_id,
        }
        return {name: value for name, value in record.items() if value is not None}

    def job() -> bytes:
        out: list[bytes] = []
        for line in events():
            try:
                out.append(dumps(record_of(validate(line)), option=newline))
            except ValidationError:
                continue
        return b"".join(out)

    return job


# -- engines ---------------------------------------------------------------------------------------

_COLUMNS = """{
    client: 'STRUCT(address VARCHAR)',
    device: 'STRUCT(type VARCHAR, manufacturer VARCHAR,
                    model STRUCT(identifier VARCHAR, name VARCHAR))',
    os: 'STRUCT(type VARCHAR, name VARCHAR, version VARCHAR, build_id VARCHAR)'
}"""
_SELECTED = ", ".join((f"'{SCHEMA}' AS schema", *(f'{name} AS "{name}"' for name in FIELDS)))


# Columns of STRUCT 4.1, of JSON with `->>` 4.9, `json_extract_string` of whole objects 5.4; rows
# fetched and written by orjson 4.4. Files in memory are not faster.
def _statement(source: Path, target: Path) -> str:
    """Return the SQL that filters one file into another. The paths are ours, and have no quotes."""
    return (
        f"COPY (SELECT {_SELECTED} FROM read_ndjson('{source}', columns = {_COLUMNS}))"
        f" TO '{target}' (FORMAT json)"
    )


def _duckdb(lines: list[bytes], _schema: str) -> Job:
    """From file to file on one thread. The output is then read, because the job returns bytes."""
    import duckdb  # noqa: PLC0415 - as above

    folder = Path(mkdtemp(prefix="collector-benchmarks-"))
    source, target = folder / "in.ndjson", folder / "out.ndjson"
    source.write_bytes(b"\n".join(lines))
    database, text = duckdb.connect(config={"threads": 1}), _statement(source, target)

    def job() -> bytes:
        database.execute(text)
        return target.read_bytes()

    finalize(job, shutil.rmtree, folder, ignore_errors=True)
    return job


def _duckdb_whole(source: Path, target: Path) -> None:
    import duckdb  # noqa: PLC0415 - as above

    duckdb.connect().execute(_statement(source, target))


# Scan and sink 7.7, `read_ndjson` and `write_ndjson` 8.2, `json_decode` of a column of texts 9.2,
# `json_path_match` per field 81.
def _polars_copy(source: BytesIO | Path, target: BytesIO | Path) -> None:
    """Filter one file or buffer into another."""
    import polars as pl  # noqa: PLC0415 - as above

    text = pl.String
    model = pl.Struct({"identifier": text, "name": text})
    types = {
        "client": pl.Struct({"address": text}),
        "device": pl.Struct({"type": text, "manufacturer": text, "model": model}),
        "os": pl.Struct({"type": text, "name": text, "version": text, "build_id": text}),
    }
    selected = [pl.lit(SCHEMA).alias("schema")]
    for name in FIELDS:
        first, *rest = name.split(".")
        column = reduce(lambda of, part: of.struct.field(part), rest, pl.col(first))
        selected.append(column.alias(name))
    pl.scan_ndjson(source, schema=types).select(selected).sink_ndjson(target)


def _polars(lines: list[bytes], _schema: str) -> Job:
    """From memory to memory, with a pool of one thread, which is not the caller's."""
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # read when Polars is imported
    payload = b"\n".join(lines)

    def job() -> bytes:
        target = BytesIO()
        _polars_copy(BytesIO(payload), target)
        return target.getvalue()

    return job


# Structs by msgspec 5.7, dictionaries by orjson 6.3, `Table.to_pylist` and orjson 6.9, Polars as
# the writer 6.4, text put together in Arrow 6.7; blocks of 8 MiB are read in 4.9.
def _pyarrow(lines: list[bytes], _schema: str) -> Job:
    """It reads on the caller's thread. PyArrow cannot write JSON, so msgspec does."""
    import pyarrow as pa  # noqa: PLC0415 - as above
    import pyarrow.compute  # noqa: PLC0415
    import pyarrow.json  # noqa: PLC0415

    text = pa.string()
    model = pa.struct({"identifier": text, "name": text})
    system = pa.struct({"type": text, "name": text, "version": text, "build_id": text})
    device = pa.struct({"type": text, "manufacturer": text, "model": model})
    types = pa.schema({"client": pa.struct({"address": text}), "device": device, "os": system})
    parse = pyarrow.json.ParseOptions(explicit_schema=types, unexpected_field_behavior="ignore")
    read = pyarrow.json.ReadOptions(use_threads=False, block_size=8 << 20)
    row = msgspec.defstruct(
        "_Row",
        [(f"c{number}", str | None, None) for number in range(len(FIELDS))],
        rename={f"c{number}": name for number, name in enumerate(FIELDS)},
        tag_field="schema",
        tag=SCHEMA,
        omit_defaults=True,
        gc=False,
    )
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    payload, encode = b"\n".join(lines), msgspec.json.Encoder().encode_lines

    def job() -> bytes:
        table = pyarrow.json.read_json(pa.BufferReader(payload), read, parse)
        columns = []
        for name in FIELDS:
            first, *rest = name.split(".")
            columns.append(pyarrow.compute.struct_field(table[first], rest).to_pylist())
        return encode(list(map(row, *columns)))

    return job


# Written by `encode_json` in the program 22.2, by orjson 23.0; an object with nulls that Python
# leaves out 22.5, one put together with `if` 24.0.
_PROGRAM = (
    f'. = compact({{"schema": "{SCHEMA}", '
    + ", ".join(f'"{name}": .{name}' for name in FIELDS)
    + '})\n. = {"record": encode_json(.)}'
)


def _vrl(lines: list[bytes], _schema: str) -> Job:
    """The program is compiled at each call, which is once per payload; it takes text."""
    from vector_vrl import execute_vrl  # noqa: PLC0415 - as above

    payload = b"\n".join(lines)

    def job() -> bytes:
        rows = execute_vrl(_PROGRAM, payload.decode().split("\n"))
        return "".join([f"{row['record']}\n" for row in rows]).encode()

    return job


# -- all of them -----------------------------------------------------------------------------------

_BY_HAND = "check, alias, count, skip bad lines"
_BARE = "check, alias, flatten, count, skip bad lines"
_WITH_NULLS = f"{_BY_HAND}, leave nulls out"
_CHECKED: Mapping[str, Any] = {"schemas": _BOTH, "checks_values": True}
_ALL = (
    Contender("bare", "bare msgspec (floor)", _BARE, _bare, _BOTH, read=_read_bare),
    Contender("ours", "collector", "–", _ours, **_CHECKED, count=_count_lines),
    Contender(
        *("ours_documents", "collector, a call per event", "–", _documents),
        **_CHECKED,
        count=_count_documents,
    ),
    Contender(
        *("ours_mappings", "collector, a call per mapping (parsed before)", "parse", _mappings),
        **_CHECKED,
        count=_count_mappings,
    ),
    Contender("orjson_projection", "orjson + projection by hand", _BY_HAND, _orjson, _BOTH),
    Contender(
        *("simdjson_projection", "pysimdjson + projection by hand", _BY_HAND, _simdjson),
        library="simdjson",
    ),
    Contender(
        *("pydantic_models", "pydantic models", "alias, count; a bad value costs the event"),
        _pydantic,
        library="pydantic",
        checks_values=True,
    ),
    Contender("duckdb_copy", "DuckDB, COPY of read_ndjson", _WITH_NULLS, _duckdb, library="duckdb"),
    Contender(
        *("polars_lazy", "Polars, scan_ndjson → sink_ndjson", _WITH_NULLS, _polars),
        library="polars",
    ),
    Contender(
        "pyarrow_json", "PyArrow, read_json + msgspec", _BY_HAND, _pyarrow, library="pyarrow"
    ),
    Contender("vrl", "Vector's VRL, in process", _BY_HAND, _vrl, library="vector_vrl"),
)
CONTENDERS: dict[str, Contender] = {each.name: each for each in _ALL}
"""By name, in reporting order."""
WHOLE: dict[str, Callable[[Path, Path], None]] = {
    "duckdb_copy": _duckdb_whole,
    "polars_lazy": _polars_copy,
}
"""The engines that can filter a file with all cores."""


def load(names: Iterable[str] = tuple(CONTENDERS)) -> tuple[list[Contender], dict[str, str]]:
    """The contenders that can run here, and the reasons why the others cannot."""
    given = [CONTENDERS[name] for name in names]
    missing = {each.name: each.library for each in given if find_spec(each.library) is None}
    skipped = {name: f"{library} is not installed" for name, library in missing.items()}
    return [each for each in given if each.name not in missing], skipped


def takes(contender: Contender, corpus: Corpus) -> bool:
    """Return whether a contender can process a corpus: it must know the schema and, if no event may
    be admitted, check values."""
    return corpus.schema in contender.schemas and (corpus.admitted or contender.checks_values)


if __name__ == "__main__":
    WHOLE[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
