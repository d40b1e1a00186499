"""``python -m benchmarks``: measure, report, and compare with the limits.

``python -m benchmarks sidecar`` measures a sidecar, ``python -m benchmarks soak`` its memory,
``python -m benchmarks sdk`` what the SDK costs an application, ``python -m benchmarks consent``
what it costs to heed a person's choices, ``python -m benchmarks recording`` the vault, ``python -m
benchmarks sinks`` delivery, ``python -m benchmarks leaks`` what gets through Collector and
through others, ``python -m benchmarks spark`` archives on Spark, and ``python -m benchmarks scale``
what many machines hold.

Exit codes: 0 fine, 1 a limit does not hold or a contender failed, 2 usage.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from benchmarks import (
    charts,
    conditions,
    contenders,
    fluent_bit,
    gate,
    markdown,
    memory,
    otlp,
    parallel,
    processes,
    report,
    runner,
    start,
    whole,
)
from benchmarks.consent import consent
from benchmarks.data import CORPORA, SEED
from benchmarks.growth import measure as growth
from benchmarks.leaks.command import leaks
from benchmarks.recording import recording
from benchmarks.results import BenchmarkError, CorpusResult, Results
from benchmarks.scale import scale
from benchmarks.sdk.command import sdk
from benchmarks.sidecar.command import sidecar, soaked
from benchmarks.sinks.backlog import backlog
from benchmarks.sinks.command import sinks
from benchmarks.spark import spark
from benchmarks.when import when

COMMANDS = {
    "sidecar": sidecar,
    "soak": soaked,
    "sdk": sdk,
    "consent": consent,
    "when": when,
    "recording": recording,
    "leaks": leaks,
    "sinks": sinks,
    "backlog": backlog,
    "spark": spark,
    "scale": scale,
}
"""What is measured besides the filter."""

_AGAIN = 3
"""A corpus on which a limit does not hold is measured again up to so many times, as a machine that
others use too has slow minutes; every round counts."""

_ELSE = (
    "`python -m benchmarks` with `sidecar`, `soak`, `sdk`, `consent`, `when`, `recording`, `leaks`,"
    " `sinks`, `spark` or `scale` measures these instead."
)


def _parser() -> ArgumentParser:
    parser = ArgumentParser("python -m benchmarks", description="Measure the filter.", epilog=_ELSE)
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer events and rounds")
    add("--corpus", action="append", choices=CORPORA, help="only this corpus; may be repeated")
    add("--growth", action="store_true", help="also measure how time grows with size and number")
    add("--charts", type=Path, metavar="DIR", help="draw the figures as SVG files")
    add("--no-whole", action="store_true", help="leave whole processes out")
    add("--fluent-bit", metavar="PATH", help="Fluent Bit's executable, if it is in no usual place")
    add("--json", type=Path, metavar="PATH", help="write everything as JSON")
    add(
        "--markdown",
        metavar="PATH",
        action="append",
        default=[],
        help="rewrite the tables in a file; docs/benchmarks.md gets the brief ones; repeatable",
    )
    add("--check", action="store_true", help="exit 1 when a limit does not hold")
    add("--limits", type=Path, metavar="PATH", default=gate.LIMITS, help="other limits")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _measure(options: Namespace, limits: gate.Limits) -> Results:
    effort = runner.QUICK if options.quick else runner.FULL
    around = conditions.environment() | conditions.compiled()
    results = Results(around, quick=options.quick)
    # Contenders are loaded when the process is pinned, so that threads of theirs are pinned too.
    takers: dict[str, list[contenders.Contender]] = {}
    with conditions.steady() as pinned:
        ready, results.skipped = contenders.load()
        results.titles = {contender.name: contender.title for contender in ready}
        results.checks_values = {contender.name: contender.checks_values for contender in ready}
        results.does_not = {contender.name: contender.does_not for contender in ready}
        results.environment = {**results.environment, **pinned, "seed": str(SEED)}
        for corpus in options.corpus or CORPORA:
            _say(f"measuring {corpus}")
            takers[corpus], others = runner.takers(corpus, ready)
            results.corpora.append(runner.measure(corpus, takers[corpus], effort))
            for reason, names in others.items():
                results.skipped[f"{', '.join(names)} on {corpus}"] = reason
        if options.corpus is None:
            _say("measuring OTLP")
            results.otlp = otlp.measure(effort.rounds)
        for _ in range(_AGAIN if options.check else 0):
            for corpus in sorted(gate.missed(results, limits)):
                _say(f"measuring {corpus} again")
                if corpus in takers:
                    again = runner.measure(corpus, takers[corpus], effort)
                    results.corpora = _pooled(results.corpora, again)
                else:
                    (again,) = otlp.measure(effort.rounds, [otlp.named(corpus)])
                    results.otlp = _pooled(results.otlp, again)
        if options.growth:
            results.growth = growth.measure(growth.QUICK if options.quick else growth.FULL, _say)
    results.environment["clock"] = conditions.clock(results.corpora)
    obstacle = "left out" if options.no_whole else whole.obstacle()
    if obstacle is None:
        _measure_processes(results, effort, options.fluent_bit)
    else:
        results.skipped["whole processes"] = obstacle
    return results


def _pooled(found: Sequence[CorpusResult], again: CorpusResult) -> list[CorpusResult]:
    """Return the results with the rounds of another one for the same corpus."""
    return [of.with_rounds_of(again) if of.corpus == again.corpus else of for of in found]


def _measure_processes(results: Results, effort: runner.Effort, fluent_path: str | None) -> None:
    """What is measured of processes from their start to their end."""
    _say("measuring memory")
    payload = effort.payload // CORPORA[memory.CORPUS].bytes
    with processes.source(memory.CORPUS, payload) as source:
        results.memory = memory.measure(results.titles, source)
    results.environment["jq"] = whole.jq_version()
    fluent = fluent_bit.find(fluent_path)
    if fluent is None:
        results.skipped["fluent-bit"] = fluent_bit.OBSTACLE
    else:
        results.environment["fluent-bit"] = fluent_bit.version(fluent)
    _say(f"measuring whole processes on {effort.events:,} events")
    with processes.source("medium", effort.events) as source:
        results.whole = [whole.measure(source, effort.runs, fluent)]
    with processes.source("non_ascii", effort.events) as source:
        results.whole.append(whole.measure(source, effort.runs))
    _say("measuring the start of a command")
    with processes.source(memory.CORPUS, 1) as source:
        results.start = start.measure(source, effort.starts)
    _say("measuring every CPU")
    with processes.source("medium", effort.events, effort.times) as source:
        results.parallel = parallel.measure(source, effort.runs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in COMMANDS:
        conditions.compiled()
        return COMMANDS[given[0]](given[1:])
    options = _parser().parse_args(given)
    targets = [Path(path) for path in options.markdown]
    try:
        limits = gate.read(options.limits)
        for target in targets:
            markdown.check(target)
    except (gate.LimitsError, markdown.MarkersError, OSError) as error:
        _say(f"benchmarks: {error}")
        return 2
    try:
        results = _measure(options, limits)
    except BenchmarkError as error:
        _say(f"benchmarks: {error}")
        return 1
    print(report.text(results))
    if options.json:
        options.json.write_text(report.as_json(results), encoding="utf-8")
    if options.charts:
        charts.draw(results, options.charts)
    for target in targets:
        markdown.rewrite(target, results)
    return gate.announce(gate.judge(results, limits)) if options.check else 0


if __name__ == "__main__":
    sys.exit(main())
