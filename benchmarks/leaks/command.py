"""``python -m benchmarks leaks``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from benchmarks import conditions, output
from benchmarks.data import SEED
from benchmarks.leaks import channels, environments, measure, report
from benchmarks.leaks.figures import Figures
from benchmarks.leaks.sidecar import Sidecar, rows, running
from benchmarks.leaks.spelling import Delivered, Record, Send, event, spelled
from benchmarks.leaks.sweep import sweep
from benchmarks.output import say
from collector import Schema, load_schema
from collector.schema import resources
from collector.schema.model import record_bits

_SECTION = "leaks"
_PARTS = ("contenders", "bits", "channels", "sweep")
_LINES = 1_000


def leaks(arguments: Sequence[str]) -> int:
    """Measure what gets through; returns the exit code."""
    parser = ArgumentParser(
        f"python -m benchmarks {_SECTION}", description="Measure what gets through."
    )
    add = parser.add_argument
    add("--json", type=Path, metavar="PATH", help="write everything as JSON")
    add("--check", action="store_true", help="exit 1 when a limit does not hold")
    add("--chart", type=Path, metavar="PATH", help="draw the leak rates as an SVG file")
    add("--build", action="store_true", help="install the contenders, each by itself, first")
    add("--fluent-bit", metavar="PATH", help="Fluent Bit's executable, if it is in no usual place")
    add("--attacks", type=int, metavar="N", help="attacks on whole Collectors")
    add("--only", action="append", choices=_PARTS, help="only this part; may be repeated")
    output.add_options(parser)
    options = parser.parse_args(arguments)
    limits = output.limits(options, _SECTION)
    if limits is None:
        return 2
    return output.conclude(
        options, _SECTION, _measured, report.tables, partial(report.judge, limits=limits)
    )


def _measured(options: Namespace) -> Figures:
    effort = measure.QUICK if options.quick else measure.FULL
    parts = options.only or _PARTS
    environment = conditions.environment()
    del environment["vector-vrl"]  # contenders have environments of their own
    figures = Figures(environment | {"seed": str(SEED)}, quick=options.quick)
    random = Random(SEED)
    if options.build:
        environments.build(say)
    if "contenders" in parts:
        measure.contenders(figures, effort, say, options.fluent_bit)
        print(report.configurations(figures), end="\n\n")
        figures.environment["no leak"] = report.ties(figures)
    if "bits" in parts:
        with ThreadPoolExecutor(2) as pool:
            spell = partial(_spelled, messages=effort.messages)
            figures.delivered = list(pool.map(spell, resources.names()))
    if "channels" in parts:
        figures.channels = list(channels.measure(SEED, quick=options.quick, say=say))
        figures.unnamed = channels.unnamed(random)
    if "sweep" in parts:
        figures.sweep = sweep(options.attacks or effort.sweep, SEED, say)
    if options.chart and figures.results:
        options.chart.write_text(report.chart(figures), encoding="utf-8")
    return figures


def _spelled(name: str, messages: int) -> Delivered:
    say(f"leaks: spelling with {name}")
    schema, random = load_schema(name), Random(f"{SEED} {name}")
    with TemporaryDirectory() as folder, running(Path(folder), schema.name) as sidecar:
        return spelled(schema, record_bits(schema), _sender(sidecar, schema), messages, random)


def _sender(sidecar: Sidecar, schema: Schema) -> Send:
    """Return the function that sends records as lines and reads from the store what arrived."""
    known: Counter[tuple[str | None, ...]] = Counter()
    names = list(schema.fields)
    columns = ", ".join(f'"{name}"' for name in names)

    def send(records: Sequence[Record]) -> list[Record]:
        lines = event(schema, records)
        for at in range(0, len(lines), _LINES):
            # Two lines at least: of a lone event, the sender's address may stand in.
            text = "\n".join([*lines[at : at + _LINES], "{}"])
            sidecar.post("/v1/events", "application/x-ndjson", text.encode())
        sidecar.delivered()
        stored = Counter(rows(sidecar.store, f'SELECT {columns} FROM "{schema.name}"'))
        new = stored - known
        known.update(new)
        found = (dict(zip(names, row, strict=True)) for row in new.elements())
        return [{name: value for name, value in row.items() if value is not None} for row in found]

    return send
