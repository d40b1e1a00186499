"""Collector's filter, and the random order of its sinks: with the shipped schema for the shape;
strongest, with the reduced one."""

from __future__ import annotations

from importlib.metadata import version

from benchmarks.leaks.contenders.base import Contender, Spec, each
from benchmarks.leaks.events import SHAPES
from collector import Filter, load_schema
from collector.sinks.sink import shuffled

_REDUCED = {"conferencing": "conferencing-strict"}


def make(variant: str, _spec: Spec) -> Contender:
    """Make it."""
    schemas = {shape.name: shape.schema for shape in SHAPES.values()}
    if variant == "strongest":
        schemas = {name: _REDUCED.get(schema, schema) for name, schema in schemas.items()}
    filters = {schema: Filter(load_schema(schema)) for schema in set(schemas.values())}

    def one(shape: str, text: str) -> str:
        filter_, signal = filters[schemas[shape]], SHAPES[shape].signal
        if signal is None:
            admission = filter_.admit_lines(text.encode())
        else:
            admission = filter_.admit_otlp(signal, text.encode(), protobuf=False)
        return b"".join(shuffled(admission.encode().splitlines(keepends=True))).decode()

    shown = ", ".join(f"{shape}: {schema}" for shape, schema in schemas.items()) + "; shuffled"
    return Contender(each(one), shown, version("data-minimisation-collector"))
