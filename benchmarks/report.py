"""The figures as tables, for people, and as JSON, for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from statistics import median

from benchmarks.growth import summary
from benchmarks.results import RATIOS, Interval, ProcessResult, Results, WholeResult

__all__ = ["Table", "as_json", "conditions", "tables", "text"]

_Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text. ``rows`` are as wide as ``header``; the first column is left-aligned."""

    title: str
    header: _Row
    rows: tuple[_Row, ...]


def tables(results: Results) -> list[Table]:
    """What there is to show of the results."""
    found = [_times(results), _ratios(results)] if results.corpora else []
    if results.whole is not None:
        found.append(_whole(results.whole))
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
        rows.append((title, "yes" if results.checks_values[name] else "no", *figures))
    return Table(
        f"µs of CPU per event, on one core, median of {rounds} rounds",
        ("contender", "checks values", *_corpus_names(results)),
        tuple(rows),
    )


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"{interval.median:.2f} ({interval.low:.2f}–{interval.high:.2f})"


def _ratios(results: Results) -> Table:
    rows = []
    for over, under in RATIOS:
        if over in results.titles and under in results.titles:
            title = f"{results.titles[over]} / {results.titles[under]}"
            by_corpus = (r.ratios.get(f"{over}/{under}") for r in results.corpora)
            rows.append((title, *map(_interval, by_corpus)))
    return Table(
        "ratio of times within a round, median (95 % bootstrap interval)",
        ("ratio", *_corpus_names(results)),
        tuple(rows),
    )


def _process(name: str, process: ProcessResult, events: int, ratio: str) -> _Row:
    cpu = median(process.cpu_seconds)
    peak = median(process.peak_mb)
    return name, f"{cpu:.2f}", f"{cpu / events * 1e6:.1f}", f"{peak:.0f}", ratio


def _whole(whole: WholeResult) -> Table:
    runs = len(whole.jq.cpu_seconds)
    return Table(
        f"whole processes on {whole.events:,} {whole.corpus} events "
        f"({whole.bytes / 1e6:.0f} MB), start included, median of {runs} runs",
        ("command", "CPU s", "µs per event", "peak MB", "CPU / jq's (95 % interval)"),
        (
            _process("collector filter", whole.collector, whole.events, _interval(whole.cpu_ratio)),
            _process("jq -c, same projection", whole.jq, whole.events, "1"),
        ),
    )


def conditions(results: Results) -> str:
    """Where and how it was measured, in one line."""
    return "; ".join(f"{name} {value}" for name, value in results.environment.items())


def text(results: Results) -> str:
    """Everything as plain text."""
    parts = ["\n".join(_aligned(table)) for table in tables(results)]
    if results.skipped:
        parts.append("\n".join(f"skipped: {n}: {why}" for n, why in results.skipped.items()))
    width = max(map(len, results.environment), default=0)
    parts.append("\n".join(f"{n:<{width}}  {value}" for n, value in results.environment.items()))
    return "\n\n".join(parts) + "\n"


def _aligned(table: Table) -> Iterator[str]:
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
