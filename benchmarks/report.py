"""The figures as tables, for people, and as JSON, for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from benchmarks.growth import summary
from benchmarks.parallel import CONTROL
from benchmarks.results import (
    RATIOS,
    CorpusResult,
    Interval,
    ParallelResult,
    ProcessResult,
    Results,
    StartResult,
    WholeResult,
)

_Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text. ``rows`` are as wide as ``header``; the first column is left-aligned."""

    title: str
    header: _Row
    rows: tuple[_Row, ...]


def tables(results: Results) -> list[Table]:
    """Return what there is to show of the results."""
    found = [_times(results), _ratios(results)] if results.corpora else []
    if results.otlp:
        found.append(_otlp(results.otlp))
    if results.memory:
        found.append(_memory(results))
    found += map(_whole, results.whole)
    if results.start is not None:
        found.append(_start(results.start))
    if results.parallel is not None:
        found.append(_parallel(results.parallel))
    if results.growth:
        found.append(Table(summary.TITLE, summary.HEADER, summary.rows(results.growth)))
    return found


def _corpus_names(results: Results) -> _Row:
    return tuple(f"{r.corpus} ({r.bytes_per_event / 1_000:.1f} KB)" for r in results.corpora)


def _times(results: Results) -> Table:
    rounds = max(len(times) for result in results.corpora for times in result.times.values())
    rows = []
    for name, title in results.titles.items():
        typical = (result.typical(name) for result in results.corpora)
        figures = tuple("–" if time is None else f"{time:.1f}" for time in typical)
        rows.append((title, results.does_not.get(name, "–"), *figures))
    return Table(
        f"µs of CPU per event, on one core, median of {rounds} rounds",
        ("contender", "does not", *_corpus_names(results)),
        tuple(rows),
    )


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"{interval.median:.2f} ({interval.low:.2f}–{interval.high:.2f})"


def _ratios(results: Results) -> Table:
    rows = []
    for above, below in RATIOS:
        if above in results.titles and below in results.titles:
            title = f"{results.titles[above]} / {results.titles[below]}"
            by_corpus = (r.ratios.get(f"{above}/{below}") for r in results.corpora)
            rows.append((title, *map(_interval, by_corpus)))
    return Table(
        "ratio of times within a round, median (95 % bootstrap interval)",
        ("ratio", *_corpus_names(results)),
        tuple(rows),
    )


def _otlp(results: Sequence[CorpusResult]) -> Table:
    """Contenders side by side, as there are two of them and many corpora."""
    names = tuple(results[0].times)
    rounds = len(results[0].times[names[0]])
    rows = []
    for result in results:
        figures = (f"{median(times):.1f}" for times in result.times.values())
        ratio = next(iter(result.ratios.values()))
        rows.append((result.corpus, result.what, *figures, _interval(ratio)))
    return Table(
        f"OTLP: µs of CPU per log record, span or data point, on one core, median of {rounds} "
        "rounds",
        ("corpus", "an item", *names, "ratio (95 % bootstrap interval)"),
        tuple(rows),
    )


def _memory(results: Results) -> Table:
    only_events = results.memory.get("", 0.0)
    rows = [("the events alone, in Python", f"{only_events:.0f}", "–")]
    for name, title in results.titles.items():
        if (peak := results.memory.get(name)) is not None:
            rows.append((title, f"{peak:.0f}", f"{max(0.0, peak - only_events):.0f}"))
    return Table(
        "peak memory of a fresh process that runs a contender once on the medium corpus",
        ("contender", "peak MB", "above the events, MB"),
        tuple(rows),
    )


def _process(name: str, process: ProcessResult, events: int, ratio: str) -> _Row:
    cpu = median(process.cpu_seconds)
    peak = median(process.peak_mb)
    return name, f"{cpu:.2f}", f"{cpu / events * 1e6:.1f}", f"{peak:.0f}", ratio


def _whole(whole: WholeResult) -> Table:
    runs = len(whole.jq.cpu_seconds)
    ours = whole.collector
    rows = [
        _process("collector filter", ours, whole.events, "1"),
        _process("jq -c, same projection", whole.jq, whole.events, _interval(whole.cpu_ratio)),
    ]
    if whole.fluent_bit is not None:
        compared = _interval(whole.fluent_bit_ratio)
        title = "fluent-bit, allowlist of top-level keys"
        rows.append(_process(title, whole.fluent_bit, whole.events, compared))
    return Table(
        f"whole processes on {whole.events:,} {whole.corpus} events "
        f"({whole.bytes / 1e6:.0f} MB), start included, median of {runs} runs",
        ("command", "CPU s", "µs per event", "peak MB", "collector's CPU / its (95 % interval)"),
        tuple(rows),
    )


def _start(start: StartResult) -> Table:
    rows = []
    for name, process, ratio in (
        ("collector filter, one event", start.command, _interval(start.ratio)),
        ("python -c 'import msgspec, orjson, typer'", start.imports, "1"),
    ):
        cpu, peak = median(process.cpu_seconds), median(process.peak_mb)
        rows.append((name, f"{1_000 * cpu:.0f}", f"{peak:.0f}", ratio))
    return Table(
        f"the start of a command, median of {len(start.command.cpu_seconds)} runs",
        ("command", "CPU ms", "peak MB", "times the imports (95 % interval)"),
        tuple(rows),
    )


def _parallel(parallel: ParallelResult) -> Table:
    runs = len(next(iter(parallel.commands.values())).wall_seconds)
    rows = []
    for (title, command), speedup in zip(
        parallel.commands.items(), _speedups(parallel), strict=True
    ):
        wall, cpu = median(command.wall_seconds), median(command.cpu_seconds)
        rows.append((title, f"{wall:.2f}", f"{parallel.events / wall:,.0f}", f"{cpu:.2f}", speedup))
    if parallel.control is not None:
        wall, cpu = median(parallel.control.wall_seconds), median(parallel.control.cpu_seconds)
        speed = f"{parallel.events / wall:,.0f}"
        gain = _interval(parallel.control_speedup)
        rows.append((CONTROL, f"{wall:.2f}", speed, f"{cpu:.2f}", gain))
    return Table(
        f"time on the wall with {parallel.cpus} CPUs, {parallel.events:,} {parallel.corpus} events "
        f"({parallel.bytes / 1e6:.0f} MB), start included, median of {runs} runs",
        ("command", "wall s", "events per s", "CPU s", "times as fast as --jobs 1"),
        tuple(rows),
    )


def _speedups(parallel: ParallelResult) -> list[str]:
    """Return one per command: the collector's, and nothing for the engines."""
    found = ["1", *map(_interval, parallel.speedups.values())]
    return found + ["–"] * (len(parallel.commands) - len(found))


def conditions(results: Results) -> str:
    """Where and how it was measured, in one line."""
    return "; ".join(f"{name} {value}" for name, value in results.environment.items())


def text(results: Results) -> str:
    """Everything as plain text."""
    parts = ["\n".join(aligned(table)) for table in tables(results)]
    if results.skipped:
        parts.append("\n".join(f"skipped: {n}: {why}" for n, why in results.skipped.items()))
    width = max(map(len, results.environment), default=0)
    parts.append("\n".join(f"{n:<{width}}  {value}" for n, value in results.environment.items()))
    return "\n\n".join(parts) + "\n"


def aligned(table: Table) -> Iterator[str]:
    """Yield the lines of a table in plain text."""
    widths = [max(map(len, column)) for column in zip(table.header, *table.rows, strict=True)]
    yield table.title
    for row in (table.header, tuple("-" * width for width in widths), *table.rows):
        yield "  ".join(_cells(row, widths)).rstrip()


def _cells(row: _Row, widths: Iterable[int]) -> Iterator[str]:
    for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if number else cell.ljust(width)


def as_json(results: Results) -> str:
    """Everything as JSON, with the time of every round; µs per event, seconds and MB."""
    return json.dumps(asdict(results), indent=2, ensure_ascii=False) + "\n"
