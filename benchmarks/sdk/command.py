"""``python -m benchmarks sdk``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import gettempdir

from benchmarks import conditions, output
from benchmarks.output import say
from benchmarks.sdk import calls, hung, install, report, spans, start
from benchmarks.sdk.figures import Figures

_SECTION = "sdk"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: ``rounds`` of calls and of spans, ``runs`` of fresh processes, and
    ``hung`` seconds of a receiver that never answers."""

    rounds: int = 20
    runs: int = 15
    hung: float = 10.0


FULL = Effort()
QUICK = Effort(rounds=5, runs=5, hung=2.0)


def sdk(arguments: Sequence[str]) -> int:
    """Measure the SDK; returns the exit code."""
    parser = ArgumentParser("python -m benchmarks sdk", description="Measure the SDK.")
    add = parser.add_argument
    add("--directory", type=Path, default=Path(gettempdir()), help="where stores are kept")
    add("--json", type=Path, metavar="PATH", help="write everything as JSON")
    add("--check", action="store_true", help="exit 1 when a limit does not hold")
    add("--install", action="store_true", help="also install it afresh; needs the package index")
    output.add_options(parser)
    options = parser.parse_args(arguments)
    limits = output.limits(options, _SECTION)
    if limits is None:
        return 2
    options.directory.mkdir(parents=True, exist_ok=True)
    return output.conclude(
        options, _SECTION, _measure, report.tables, partial(report.judge, limits=limits)
    )


def _measure(options: Namespace) -> Figures:
    effort = QUICK if options.quick else FULL
    figures = Figures(conditions.environment(), quick=options.quick)
    say("fresh processes")
    figures.start = start.measure(effort.runs, options.directory)
    with conditions.steady() as pinned:
        for kind in calls.KINDS:
            say(f"calls: {kind.corpus}, {kind.form}")
            figures.calls.append(calls.measure(kind, effort.rounds, options.directory))
        obstacle = spans.obstacle()
        if obstacle is None:
            say("OpenTelemetry")
            figures.spans = spans.measure(effort.rounds)
        else:
            figures.skipped["OpenTelemetry"] = obstacle
        say(f"{hung.RATE:,} calls per second, receiver hung")
        figures.hung = hung.measure(effort.hung)
    figures.environment |= pinned
    if options.install:
        say("a fresh installation")
        figures.install = install.measure(options.directory)
    else:
        figures.skipped["installation"] = "only with --install, as it needs the package index"
    return figures
