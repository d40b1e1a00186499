"""The contenders: NDJSON bytes in, nine fields of each event out, as NDJSON bytes, on one thread.

A module here has one or several. Each is a function that takes events and returns what does the
whole job once; ``@contender`` says the rest about it. A module that cannot be loaded is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from io import BytesIO
from typing import Any, NamedTuple

import orjson

from benchmarks.data import Corpus
from collector import load_schema
from collector.schema.kinds.enum import EnumField

Record = dict[str, Any]
"""One flat record: the key ``schema`` and the fields that the event has."""
Job = Callable[[], bytes]
"""Does the whole job once; the output is NDJSON."""

SCHEMA, QOS_SCHEMA = "conferencing/1.0.0", "participants-qos/1.0.0"
"""What the key ``schema`` says; that the loaded schemas say the same, equal records show."""
FIELDS: tuple[str, ...] = (
    *("client.address", "device.type", "device.manufacturer", "device.model.identifier"),
    *("device.model.name", "os.type", "os.name", "os.version", "os.build_id"),
)
"""The fields in schema order; dots are levels of an event."""


class Unavailable(Exception):
    """Why a contender cannot run here, although it is there."""


class Outcome(NamedTuple):
    """What came of a run: the records in the order of the events, and, from a contender that
    counts, ``received``, ``admitted``, ``rejected``, ``dropped`` and ``content``."""

    records: list[Record]
    tally: dict[str, Any] | None = None


def parsed(output: bytes) -> list[Record]:
    """Return the values of NDJSON text, without nulls: rows of engines have every column."""
    found = map(orjson.loads, output.splitlines())
    return [{name: value for name, value in row.items() if value is not None} for row in found]


@dataclass
class Contender:
    """One way to do the job. ``prepare`` once per corpus, then ``run`` as often as it is timed.

    ``checks_values`` says whether a value that the schema would refuse is refused. ``does_not`` is
    what is not done of the job; docs/benchmarks.md explains the words. ``schemas`` are the shipped
    ones that it knows. ``read`` makes records of the output, and ``count`` a tally of the events.
    """

    name: str
    title: str
    does_not: str
    make: Callable[[list[bytes], str], Job]
    schemas: tuple[str, ...] = ("conferencing",)
    checks_values: bool = False
    read: Callable[[bytes, str], list[Record]] = lambda output, _schema: parsed(output)
    count: Callable[[list[bytes], str], dict[str, Any]] | None = None
    run: Job = field(init=False)

    def prepare(self, lines: list[bytes], schema: str) -> None:
        """Take the events, one JSON text each, and make what is made only once."""
        self.run, self._given = self.make(lines, schema), (lines, schema)

    def check(self, output: bytes) -> Outcome:
        """Return what came of ``run``, in one form: keys are compared in any order."""
        tally = self.count(*self._given) if self.count else None
        return Outcome(self.read(output, self._given[1]), tally)


_MODULES = {
    "ours": ("ours", "ours_documents", "ours_mappings"),
    "bare": ("bare",),
    "by_hand": ("orjson_projection", "simdjson_projection"),
    "pydantic_models": ("pydantic_models",),
    "duckdb_copy": ("duckdb_copy",),
    "polars_lazy": ("polars_lazy",),
    "pyarrow_json": ("pyarrow_json",),
    "vrl": ("vrl",),
}
_LIBRARY = {"simdjson_projection": "simdjson"}
NAMES: tuple[str, ...] = (
    *("bare", "ours", "ours_documents", "ours_mappings", "orjson_projection"),
    *("simdjson_projection", "pydantic_models", "duckdb_copy", "polars_lazy", "pyarrow_json"),
    "vrl",
)
"""In the order in which they are reported."""


def load(names: Iterable[str] = NAMES) -> tuple[list[Contender], dict[str, str]]:
    """The contenders that can run here, and for each of the others the reason why it cannot."""
    ready: list[Contender] = []
    skipped: dict[str, str] = {}
    for name in names:
        module = next(each for each, inside in _MODULES.items() if name in inside)
        try:
            if name in _LIBRARY:
                import_module(_LIBRARY[name])
            ready.append(getattr(import_module(f"benchmarks.contenders.{module}"), name.upper()))
        except ModuleNotFoundError as missing:
            skipped[name] = f"{missing.name} is not installed"
        except Unavailable as why:
            skipped[name] = str(why)
    return ready, skipped


def obstacle(contender: Contender, corpus: Corpus) -> str | None:
    """Why a contender does not take part in a corpus; ``None`` if it does."""
    if corpus.schema not in contender.schemas:
        return f"does not know the schema {corpus.schema}"
    if not corpus.admitted and not contender.checks_values:
        return "does not check values, and so would admit what must not be"
    return None


def each_line(lines: list[bytes]) -> Callable[[], BytesIO]:
    """Return what gives the lines of the NDJSON payload, one at a time.

    Of the ways to cut a payload that were tried (``split``, slices of 64 and 128 KiB, this), this
    one costs the least, so no contender is slowed down by it.
    """
    payload = b"\n".join(lines)
    return lambda: BytesIO(payload)


def devices(name: str) -> dict[str, str]:
    """Return what the schema ``participants-qos`` makes of a value of ``device`` for a field, for
    contenders with a table of their own."""
    found = load_schema("participants-qos").fields[name]
    if not isinstance(found, EnumField):
        raise TypeError(f"{name} is not an enum")
    return {value: value for value in found.values} | dict(found.aliases)
