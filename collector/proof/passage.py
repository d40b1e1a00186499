"""A passage: events full of canaries go through the whole pipeline of a configuration, in a
directory of its own, into the sinks that it names. What was written can then be looked at.

Beside them comes something that is far too old, and what is too old is pruned.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from collector import synthetic
from collector.contracts import Record, Request, Sink, Spooled, Tally
from collector.filter import Filter
from collector.filter.stored import Records, project, read
from collector.keyring import Keyring
from collector.pipeline import Pipeline
from collector.proof.flows import Flows
from collector.proof.upkeep import prune_all
from collector.schema.model import Schema
from collector.sinks.files import NdjsonFile, files_of
from collector.sinks.reading import reading
from collector.sinks.retention import tables
from collector.sinks.store import FILE_NAME as STORE_NAME
from collector.sinks.store import Store
from collector.sinks.table import quoted
from collector.spool import FILE_NAME as SPOOL_NAME
from collector.spool import Spool

__all__ = ["LONG_AGO", "Passage", "pass_refused", "pass_through"]

LONG_AGO = "2000-01-01T00:00:00Z"
_MEETINGS = 200
_BATCH = 50
_SECONDS = 60.0
_LINES = "records.ndjson"
_BESIDES = frozenset({"schema", "received", "count"})
"""What records have that is no field."""


@dataclass(frozen=True, repr=False)
class Passage:
    """What came of it. ``fields`` are the names of the fields that each sink got; ``spool`` is the
    file with the ledger; ``stale`` counts records that are there although they are too old."""

    tally: Tally
    spool: Path
    fields: Mapping[str, frozenset[str]]
    stale: int


def pass_through(flows: Flows, folder: Path, canaries: Sequence[str]) -> Passage:
    """Let synthetic meetings, and the events of the schema's own tests, through a pipeline with the
    sinks of ``flows`` into a folder. Raises what its parts raise."""
    tally = _accepted(flows, folder, canaries)
    chosen = Filter(flows.schema, keys=Keyring())
    with ExitStack() as stack:
        admitted = [chosen.admit_lines(body).encode() for body in _bodies(flows.schema, canaries)]
        layout = flows.schema.layout
        old = Spooled(secrets.token_bytes(16), LONG_AGO, layout, b"".join(admitted))
        for name, sink in _sinks(flows, folder, stack).items():
            names = flows.reaching(name)
            sink.deliver(read(old if names is None else project(old, names)))
    spool = folder / SPOOL_NAME
    prune_all(flows.schema, spool, folder / STORE_NAME, folder / _LINES, _SECONDS)
    found = _found(flows, folder)
    stale = sum(record["received"] == LONG_AGO for each in found.values() for record in each)
    return Passage(tally, spool, _fields(found), stale)


def pass_refused(flows: Flows, folder: Path, canaries: Sequence[str]) -> dict[str, frozenset[str]]:
    """Let the same through for people who refuse all that they may; the fields that each sink
    got."""
    _accepted(flows, folder, canaries, refuses=True)
    return _fields(_found(flows, folder))


def _accepted(
    flows: Flows, folder: Path, canaries: Sequence[str], *, refuses: bool = False
) -> Tally:
    """Send everything through a pipeline; what it has counted."""
    chosen, tally = Filter(flows.schema, keys=Keyring()), Tally()
    with ExitStack() as stack:
        sinks = _sinks(flows, folder, stack)
        spool = stack.enter_context(Spool(folder / SPOOL_NAME, sinks=list(sinks)))
        pipeline = Pipeline(chosen, spool, sinks, lambda _: None, flows.reaching)
        pipeline.start()
        stack.callback(pipeline.close, _SECONDS)
        for body in _bodies(flows.schema, canaries):
            tally += pipeline.accept_now(Request("ndjson", body, refuses=refuses))
    return tally


def _found(flows: Flows, folder: Path) -> dict[str, list[Record]]:
    """What each sink holds."""
    readers = {"store": _rows(folder / STORE_NAME), "ndjson": _records(folder / _LINES)}
    return {name: list(readers[name]) for name in flows.sinks}


def _fields(found: Mapping[str, Sequence[Record]]) -> dict[str, frozenset[str]]:
    return {name: frozenset().union(*records) - _BESIDES for name, records in found.items()}


def _sinks(flows: Flows, folder: Path, stack: ExitStack) -> dict[str, Sink]:
    """The same sinks in another place."""
    sinks: dict[str, Sink] = {}
    if "store" in flows.sinks:
        sinks["store"] = stack.enter_context(Store(folder / STORE_NAME, flows.schema))
    if "ndjson" in flows.sinks:
        sinks["ndjson"] = stack.enter_context(NdjsonFile(folder / _LINES))
    return sinks


def _bodies(schema: Schema, canaries: Sequence[str]) -> Iterator[bytes]:
    """Bodies of NDJSON. Content is planted in the tests of a schema, under each of its names."""
    content = {name: [*canaries] for name in schema.content_names}
    own = [{**test.event, **content} for test in schema.tests if isinstance(test.event, dict)]
    others = [test.event for test in schema.tests if not isinstance(test.event, dict)]
    events: Iterator[Any] = iter([*own, *others, *synthetic.events(_MEETINGS, 0, canaries)])
    while batch := list(islice(events, _BATCH)):
        yield b"\n".join(map(orjson.dumps, batch))


def _rows(path: Path) -> Iterator[Record]:
    if not path.is_file():
        return
    with reading(path) as db:
        for table in tables(db):
            found = db.execute(f"SELECT * FROM {quoted(table)}")  # noqa: S608 - a name of the store
            names = [column[0] for column in found.description]
            for row in found:
                pairs = zip(names, row, strict=True)
                yield {name: value for name, value in pairs if value is not None}


def _records(path: Path) -> Iterator[Record]:
    for file in files_of(path):
        yield from Records(file.read_bytes())
