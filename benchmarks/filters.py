"""``python -m benchmarks``: the filter and other programs, in one process and as whole processes.

In one process, contenders first have to give the same records. Then they take turns, round by
round, on the same events. The clock is that of the process, because engines have their own threads.
Whole processes are ``collector filter FILE``, jq, Fluent Bit, and engines with all threads. CPU is
user and system time including the start, and memory is the peak resident size.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import orjson

from benchmarks import conditions, contenders, fluent_bit, growth, otlp, processes
from benchmarks.contenders import FIELDS, SCHEMA, Contender, Outcome, Record, parsed
from benchmarks.data import CORPORA, SEED, Corpus, lines
from benchmarks.figures import BenchmarkError, Figures, Interval, Row, Table, paired, say
from benchmarks.processes import COLLECTOR, Process, Source, in_turns

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--corpus": {"action": "append", "choices": CORPORA, "help": "only this corpus; repeatable"},
    "--growth": {"action": "store_true", "help": "also measure how time grows"},
    "--no-whole": {"action": "store_true", "help": "leave whole processes out"},
}
RATIOS: tuple[tuple[str, str], ...] = (
    ("ours", "bare"),
    ("ours_documents", "ours"),
    ("ours_documents", "bare"),
    ("ours_mappings", "ours"),
    *((name, "ours") for name in contenders.CONTENDERS if name != "bare" and "ours" not in name),
)
"""Pairs of contenders whose times are divided: numerator, denominator."""
_AGAIN = 3
"""How often a corpus is measured again if a limit does not hold, because a shared machine has slow
minutes. Every round counts."""


class Effort(NamedTuple):
    """How much is measured. ``payload`` is the bytes of events in one contender's round. ``events``
    and ``runs`` are those of whole processes. Files for programs that use every CPU repeat the
    events ``times`` times. ``starts`` is the number of runs that measure the start."""

    rounds: int
    payload: int
    events: int
    runs: int
    times: int = 1
    starts: int = 1


# Engines that work on batches have a cost per call, so a payload must not be small: DuckDB takes
# 6.0 µs per medium event for 2 MB, 4.3 for 6 MB.
FULL = Effort(rounds=8, payload=6_000_000, events=200_000, runs=3, times=2, starts=9)
QUICK = Effort(rounds=7, payload=3_000_000, events=20_000, runs=3, starts=7)


@dataclass(slots=True)
class Timed:
    """One corpus: ``times`` are µs of CPU per event, by contender and round."""

    what: str
    bytes_per_event: float
    times: dict[str, list[float]]

    def ratio(self, above: str, below: str) -> Interval | None:
        """Return the ratio of two contenders, if both took part."""
        both = self.times.get(above), self.times.get(below)
        return paired(both[0], both[1]) if both[0] and both[1] else None

    def typical(self, name: str) -> float | None:
        """Return the median of a contender, if it took part."""
        return median(self.times[name]) if name in self.times else None

    def add(self, other: Timed) -> None:
        """Add the rounds of another measurement."""
        for name, times in other.times.items():
            self.times[name] += times


def measure(options: Namespace, figures: Figures) -> None:
    """Measure everything, and judge it."""
    effort = QUICK if options.quick else FULL
    figures.environment = conditions.environment() | conditions.compiled()
    timed: dict[str, Timed] = {}
    # Contenders are loaded after the process is pinned, so that their threads are pinned too.
    with conditions.steady() as pinned:
        ready, figures.skipped = contenders.load()
        clock = {"seed": str(SEED), "clock": "CPU time of the process, all threads"}
        figures.environment |= pinned | clock
        for corpus in options.corpus or CORPORA:
            say(f"measuring {corpus}")
            timed[corpus] = _corpus(corpus, ready, effort)
        items = {} if options.corpus else _otlp(effort.rounds)
        _judge(figures, timed, items)
        for _ in range(_AGAIN if options.check else 0):
            for corpus in sorted(figures.missed()):
                say(f"measuring {corpus} again")
                if corpus in timed:
                    timed[corpus].add(_corpus(corpus, ready, effort))
                else:
                    items[corpus].add(_otlp(effort.rounds, corpus)[corpus])
            figures.verdicts.clear()
            _judge(figures, timed, items)
        figures.tables = [*_tables(ready, timed), *_otlp_table(items)]
        if options.growth:
            growth.measure(figures)
    figures.values["corpora"] = {name: asdict(of) for name, of in timed.items()}
    figures.values["otlp"] = {name: asdict(of) for name, of in items.items()}
    if reason := "left out" if options.no_whole else obstacle():
        figures.skipped["whole processes"] = reason
    else:
        _whole(figures, effort, options.fluent_bit)


# -- in one process --------------------------------------------------------------------------------


def _corpus(corpus: str, ready: Sequence[Contender], effort: Effort) -> Timed:
    """Time the contenders that can process a corpus."""
    about = CORPORA[corpus]
    takers = [each for each in ready if contenders.takes(each, about)]
    payload = lines(corpus, max(1, effort.payload // about.bytes))
    agree(takers, payload, about)
    works = {each.name: partial(_run, each) for each in takers}
    fresh = partial(_prepare, takers, about, len(payload)) if about.fresh else None
    events = len(payload) * about.events
    times = conditions.in_rounds(works, effort.rounds, SEED, before=fresh)
    per_event = {name: [us / events for us in of] for name, of in times.items()}
    return Timed(about.what, sum(map(len, payload)) / events, per_event)


def _run(contender: Contender) -> object:
    return contender.run()


def _prepare(takers: Sequence[Contender], about: Corpus, number: int, round_: int) -> None:
    """Draw new lines and prepare the contenders, untimed."""
    drawn = lines(about.name, number, SEED + round_)
    for contender in takers:
        contender.prepare(drawn, about.schema)


def agree(takers: Sequence[Contender], payload: list[bytes], about: Corpus) -> None:
    """Prepare the contenders on a payload, and compare their records.

    Raises ``BenchmarkError`` for the first contender whose records differ from the first
    contender's, or whose counts differ from those of the first contender that counts.
    """
    expected: Outcome | None = None
    for contender in takers:
        contender.prepare(payload, about.schema)
        found = contender.check(contender.run())
        if len(found.records) != len(payload) * about.records:
            number = f"{len(found.records)} of {len(payload) * about.records}"
            raise BenchmarkError(f"{contender.name} gives {number} records")
        if expected is None:
            expected = found
        if found.records != expected.records:
            raise BenchmarkError(f"{contender.name} and {takers[0].name} give other records")
        if expected.tally is None:
            expected = found
        if found.tally not in (None, expected.tally):
            raise BenchmarkError(f"{contender.name} counts otherwise than another contender")


def _otlp(rounds: int, only: str = "") -> dict[str, Timed]:
    return {
        corpus.name: Timed("", *otlp.measure(corpus, rounds))
        for corpus in otlp.CORPORA
        if only in ("", corpus.name)
    }


def _tables(ready: Sequence[Contender], timed: Mapping[str, Timed]) -> Iterable[Table]:
    if not timed:
        return
    corpora = tuple(f"{name} ({of.bytes_per_event / 1_000:.1f} KB)" for name, of in timed.items())
    rounds = max(len(times) for of in timed.values() for times in of.times.values())
    rows: list[Row] = []
    for each in ready:
        typical = (of.typical(each.name) for of in timed.values())
        cells = ("–" if time is None else f"{time:.1f}" for time in typical)
        rows.append((each.title, each.does_not, *cells))
    title = f"µs of CPU per event, on one core, median of {rounds} rounds"
    yield Table(title, ("contender", "does not", *corpora), rows)
    titles, rows = {each.name: each.title for each in ready}, []
    for above, below in RATIOS:
        if above in titles and below in titles:
            cells = (str(of.ratio(above, below) or "–") for of in timed.values())
            rows.append((f"{titles[above]} / {titles[below]}", *cells))
    title = "ratio of times within a round, median (95 % bootstrap interval)"
    yield Table(title, ("ratio", *corpora), rows)


def _otlp_table(items: Mapping[str, Timed]) -> Iterable[Table]:
    if not items:
        return
    rows = []
    for name, of in items.items():
        cells = (f"{median(times):.1f}" for times in of.times.values())
        ratio = str(of.ratio(otlp.OURS, otlp.BARE))
        rows.append((name, f"{of.bytes_per_event:.0f} bytes", *cells, ratio))
    first = next(iter(items.values())).times
    rounds = len(first[otlp.OURS])
    title = (
        "OTLP: µs of CPU per log record, span or data point, on one core, median of"
        f" {rounds} rounds"
    )
    yield Table(title, ("corpus", "an item", *first, "ratio (95 % bootstrap interval)"), rows)


def _judge(figures: Figures, timed: Mapping[str, Timed], items: Mapping[str, Timed]) -> None:
    """Judge ratios of times, in the order of the file. Raises ``BenchmarkError`` for a limit of
    something that is never measured, because it would always hold."""
    for judge, part in ((figures.at_most, "at_most"), (figures.at_least, "at_least")):
        for ratio, by_corpus in figures.limits.get(part, {}).items():
            above, _, below = ratio.partition("/")
            _check_known((above, below), contenders.CONTENDERS)
            _check_known(by_corpus, CORPORA)
            for corpus, limit in by_corpus.items():
                found = timed[corpus].ratio(above, below) if corpus in timed else None
                judge(f"{ratio} on {corpus}", limit, found, about=(corpus,))
    _check_known(figures.limits.get("otlp", ()), [corpus.name for corpus in otlp.CORPORA])
    for corpus, limit in figures.limits.get("otlp", {}).items():
        found = items[corpus].ratio(otlp.OURS, otlp.BARE) if corpus in items else None
        figures.at_most(f"OTLP over its floor, {corpus}", limit, found, about=(corpus,))
    _check_known(figures.limits.get("corpora", ()), contenders.CONTENDERS)
    for contender, pairs in figures.limits.get("corpora", {}).items():
        for pair, limit in pairs.items():
            names = tuple(pair.split("/"))
            _check_known(names, CORPORA)
            both = [timed[name].typical(contender) for name in names if name in timed]
            times = [time for time in both if time]
            share = times[0] / times[1] if len(times) == 2 else None
            figures.at_most(f"{contender} on {pair}", limit, share, about=names)


def _check_known(names: Iterable[str], known: Iterable[str]) -> None:
    if strange := set(names).difference(known):
        raise BenchmarkError(f"limits of what is never measured: {', '.join(sorted(strange))}")


# -- whole processes -------------------------------------------------------------------------------

# This was the fastest of five ways to leave absent fields out in jq 1.7.1: 29 µs per event;
# `with_entries(select(…))` took 53. Keeping them as null, which gives a different record, took 27.
JQ_PROGRAM = f'{{"schema": "{SCHEMA}"}}' + "".join(
    f' + (.{name} | if . == null then {{}} else {{"{name}": .}} end)' for name in FIELDS
)
"""The projection of an event to the flat record."""
_CONTROL = "two processes that share nothing, half of the events each (control)"
_ENGINES = {
    "duckdb": ("DuckDB, every thread", "duckdb_copy"),
    "polars": ("Polars, every thread", "polars_lazy"),
}
_SETTINGS = ("--schema", "conferencing")
_COMPARED, _BLOCK, _PROBE = 5_000, 1 << 24, 1 << 20


def obstacle() -> str | None:
    """Return why whole processes cannot be measured here; ``None`` if they can."""
    if not hasattr(os, "wait4"):
        return "this system does not tell what a process used (os.wait4)"
    if shutil.which("jq") is None:
        return "jq is not installed"
    if subprocess.run([*COLLECTOR, "--help"], capture_output=True, check=False).returncode:
        return "the command `collector filter` cannot be run"
    return None


def _whole(figures: Figures, effort: Effort, fluent_path: str | None) -> None:
    limits = figures.limits["whole"]
    jq = subprocess.run(["jq", "--version"], capture_output=True, text=True, check=True)
    figures.environment["jq"] = jq.stdout.strip()
    fluent = fluent_bit.find(fluent_path)
    if fluent is None:
        figures.skipped["fluent-bit"] = fluent_bit.OBSTACLE
    else:
        figures.environment["fluent-bit"] = fluent_bit.version(fluent)
    few = effort.events < limits["from_events"]
    below = f", not judged below {limits['from_events']:,} events"

    def judge(
        judge_: Callable[..., None], what: str, name: str, found: Any, limit: Any = None
    ) -> None:
        limit = limits.get(name) if limit is None else limit
        if few and found is not None:
            figures.check(None, f"{what}: limit {limit:g}{below}")
        elif limit is not None:
            judge_(what, limit, found, is_exact=True)

    say(f"measuring whole processes on {effort.events:,} events")
    peak = None
    for corpus in ("medium", "non_ascii"):
        with processes.source(corpus, effort.events) as source:
            with_fluent = fluent if corpus == "medium" else None
            found = beside(source, effort.runs, with_fluent, figures)
        if corpus == "medium":
            peak = median(found["collector filter"].peak_mb)
        ours = found["collector filter"].cpu_seconds
        what, limit = f"CPU of collector filter / jq on {corpus}", limits["cpu_of_jq_at_most"]
        judge(figures.at_most, what, "", paired(ours, found["jq"].cpu_seconds), limit[corpus])
        if corpus == "medium":
            theirs = found["fluent-bit"].cpu_seconds if fluent else None
            ratio = paired(ours, theirs) if theirs else None
            what = "CPU of collector filter / fluent-bit"
            judge(figures.at_most, what, "cpu_of_fluent_bit_at_most", ratio)
    say("measuring every CPU")
    with processes.source("medium", effort.events, effort.times) as source:
        two, of_control = every_cpu(source, effort.runs, figures)
    judge(figures.at_least, "two jobs against one", "two_jobs_at_least", two)
    what = "two jobs against two processes that share nothing"
    judge(figures.at_least, what, "two_jobs_of_control_at_least", of_control)
    say("measuring the start of a command")
    with processes.source("medium", 1) as source:
        start = _start(source, effort.starts, figures)
    what = "start of collector filter / of its libraries"
    figures.at_most(what, limits.get("start_of_imports_at_most"), start)
    figures.check(
        peak is not None and peak < limits["peak_mb_below"],
        f"peak memory of collector filter: below {limits['peak_mb_below']:g} MB, is {peak:.0f}",
    )


def beside(source: Source, runs: int, fluent: str | None, figures: Figures) -> dict[str, Process]:
    """Run the commands in turns on a file of events, and add their table.

    Raises ``BenchmarkError`` if one fails or their records differ.
    """
    ours = _command(source.path, source.beside("collector.ndjson"), "collector filter")
    jq = Process("jq", ("jq", "-c", JQ_PROGRAM, str(source.path)), source.beside("jq.ndjson"))
    commands = [ours, jq]
    for each in commands:
        each.run()
    compare(ours.records, jq.output, source.events)
    if fluent is not None:
        theirs = fluent_bit.process(fluent, source)
        theirs.run()
        if not theirs.records.is_file():
            raise BenchmarkError("fluent-bit wrote no file")
        compare(ours.records, theirs.records, source.events, fluent_bit.record)
        theirs.records.unlink()  # it would append to an existing file
        commands.append(theirs)
    in_turns(commands, runs)
    titles = (
        "collector filter",
        "jq -c, same projection",
        "fluent-bit, allowlist of top-level keys",
    )
    rows = []
    for title, each in zip(titles, commands, strict=False):
        cpu = median(each.cpu_seconds)
        ratio = "1" if each is ours else str(paired(ours.cpu_seconds, each.cpu_seconds))
        figure = f"{cpu:.2f}", f"{cpu / source.events * 1e6:.1f}", f"{median(each.peak_mb):.0f}"
        rows.append((title, *figure, ratio))
    title = (
        f"whole processes on {source.events:,} {source.corpus} events"
        f" ({source.bytes / 1e6:.0f} MB), start included, median of {runs} runs"
    )
    last = "collector's CPU / its (95 % interval)"
    figures.table(title, ("command", "CPU s", "µs per event", "peak MB", last), rows)
    figures.values[f"whole {source.corpus}"] = {each.name: each.used() for each in commands}
    return {each.name: each for each in commands}


def compare(
    ours: Path, theirs: Path, events: int, read: Callable[[bytes], Record] = orjson.loads
) -> None:
    """Compare the numbers of all lines, and the records of the first few thousand.

    ``read`` parses a line of the other program into a record. Raises ``BenchmarkError`` if they
    differ.
    """
    for path in (ours, theirs):
        with path.open("rb") as file:
            count = sum(1 for _ in file)
        if count != events:
            raise BenchmarkError(f"{path.stem} gives {count} records of {events} events")
    with ours.open("rb") as first, theirs.open("rb") as second:
        pairs = zip(first, second, strict=True)
        for number, (left, right) in enumerate(islice(pairs, _COMPARED), 1):
            if orjson.loads(left) != read(right):
                raise BenchmarkError(f"{ours.stem} and {theirs.stem} differ in record {number}")


def cpus() -> int:
    """Return the CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def every_cpu(
    source: Source, runs: int, figures: Figures
) -> tuple[Interval | None, Interval | None]:
    """Run one to as many ``--jobs`` as CPUs, in powers of two, and engines with all threads. A
    control runs two independent processes, each on half of the events, which is the upper bound for
    two jobs. Returns the speed of two jobs over one, and over the control, if there are two CPUs.

    Raises ``BenchmarkError`` if one fails or their records differ.
    """
    most = max(2, cpus())
    numbers = sorted(
        {*(1 << power for power in range(most.bit_length()) if 1 << power <= most), most}
    )
    ours = {}
    for number in numbers:
        target, name = source.beside(f"jobs-{number}.ndjson"), f"collector filter --jobs {number}"
        ours[number] = _command(source.path, target, name, "--jobs", str(number))
    engines = []
    for library, (title, module) in _ENGINES.items():
        if find_spec(library) is not None:
            target = source.beside(f"{module}.ndjson")
            program = (sys.executable, "-m", "benchmarks.contenders", module)
            command = (*program, str(source.path), str(target))
            engines.append(Process(title, command, target.with_suffix(".printed"), target))
    commands = [*ours.values(), *engines]
    for each in commands:
        each.run()
        compare(ours[1].records, each.records, source.events, lambda line: parsed(line)[0])
    control = _pair(source, _half(source))
    control.run()
    _check_halves(control, ours[1].records)
    in_turns([*commands, control], runs)
    one, rows = ours[1].wall_seconds, []
    for each in (*commands, control):
        wall, cpu = median(each.wall_seconds), median(each.cpu_seconds)
        gain = "–" if each in engines else str(paired(one, each.wall_seconds))
        cells = f"{wall:.2f}", f"{source.events / wall:,.0f}", f"{cpu:.2f}"
        rows.append((each.name, *cells, "1" if each is ours[1] else gain))
    title = (
        f"time on the wall with {cpus()} CPUs, {source.events:,} {source.corpus} events"
        f" ({source.bytes / 1e6:.0f} MB), start included, median of {runs} runs"
    )
    head = ("command", "wall s", "events per s", "CPU s", "times as fast as --jobs 1")
    figures.table(title, head, rows)
    figures.values["every CPU"] = {each.name: each.used() for each in (*commands, control)}
    if cpus() < 2:
        return None, None
    two = ours[2].wall_seconds
    return paired(one, two), paired(control.wall_seconds, two)


def control_gain(source: Source, runs: int) -> Interval:
    """Return how much faster two independent processes are than one."""
    half = _half(source)
    alone, both = _command(half, source.beside("alone.ndjson"), "half"), _pair(source, half)
    in_turns([alone, both], runs + 1)
    return paired([2 * seconds for seconds in alone.wall_seconds[1:]], both.wall_seconds[1:])


def _half(source: Source) -> Path:
    """Write the first half of the events to another file."""
    half = source.beside("half.ndjson")
    with source.path.open("rb") as events, half.open("wb") as file:
        left = source.bytes // 2 - 1
        while left > 0 and (block := events.read(min(left, _BLOCK))):
            file.write(block)
            left -= len(block)
        file.write(events.readline())
    return half


def _pair(source: Source, half: Path) -> Process:
    first = source.beside("control.ndjson")
    other = _command(half, first.with_suffix(".second"), "")
    return _command(half, first, _CONTROL, beside=other.command)


def _check_halves(control: Process, records: Path) -> None:
    size = records.stat().st_size
    for half in (control.records, control.records.with_suffix(".second")):
        with half.open("rb") as found, records.open("rb") as whole:
            first = found.read(_PROBE)
            if not 0 < half.stat().st_size < size or first != whole.read(len(first)):
                raise BenchmarkError("half of the events gives other records")


def _command(
    events: Path, target: Path, name: str, *more: str, beside: Sequence[str] = ()
) -> Process:
    command = (*COLLECTOR, str(events), *_SETTINGS, *more, "--output", str(target))
    return Process(name, command, target.with_suffix(".printed"), target, beside)


def _start(source: Source, runs: int, figures: Figures) -> Interval:
    """Measure the start of ``collector filter`` on one event, relative to an interpreter that
    imports only the libraries that every command needs."""
    imports = "import msgspec, orjson, typer"
    both = [
        Process(
            "collector filter, one event",
            (*COLLECTOR, str(source.path), *_SETTINGS),
            source.beside("a"),
        ),
        Process(f"python -c '{imports}'", (sys.executable, "-c", imports), source.beside("b")),
    ]
    in_turns(both, 1)  # warms the file cache
    for each in both:
        each.runs.clear()
    in_turns(both, runs)
    ratio = paired(both[0].cpu_seconds, both[1].cpu_seconds)
    rows = [
        (each.name, f"{1_000 * median(each.cpu_seconds):.0f}", f"{median(each.peak_mb):.0f}", shown)
        for each, shown in zip(both, (str(ratio), "1"), strict=True)
    ]
    title = f"the start of a command, median of {runs} runs"
    figures.table(
        title, ("command", "CPU ms", "peak MB", "times the imports (95 % interval)"), rows
    )
    figures.values["start"] = {each.name: each.used() for each in both}
    return ratio
