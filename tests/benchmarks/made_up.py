"""Made-up results, and an effort so small that what is measured says nothing."""

from __future__ import annotations

from benchmarks import runner
from benchmarks.results import CorpusResult, Interval, ParallelResult, Results, StartResult
from benchmarks.results import ProcessResult as Process
from benchmarks.results import WholeResult as Whole

SMALL = ("--quick", "--corpus", "small", "--no-whole")
"""The options of a call that is over at once."""

LITTLE = runner.Effort(rounds=5, warmups=1, payload=100_000, events=10, runs=1)
"""An effort for real timings."""


def whole_result(events: int, cpu: float, peak: float, fluent: float | None = None) -> Whole:
    """Whole processes whose ratios are ``cpu`` (to jq) and ``fluent``."""
    return Whole(
        "medium",
        events,
        9_000,
        Process([cpu], [peak], [cpu]),
        Process([1.0], [5.0], [1.0]),
        Interval(cpu, cpu, cpu),
        None if fluent is None else Process([cpu / fluent], [30.0], [1.0]),
        None if fluent is None else Interval(fluent, fluent, fluent),
    )


def parallel_result(speedup: float, cpus: int = 2) -> ParallelResult:
    """Two jobs that are ``speedup`` times as fast as one, and an engine."""
    commands = {
        "collector filter --jobs 1": Process([1.0], [50.0], [1.0]),
        "collector filter --jobs 2": Process([1.1], [50.0], [1 / speedup]),
        "DuckDB, every thread": Process([2.0], [90.0], [0.8]),
    }
    speedups = {2: Interval(speedup, speedup, speedup)}
    return ParallelResult(
        "medium",
        20_000,
        9_000,
        cpus,
        commands,
        speedups,
        control=Process([1.0], [50.0], [0.5]),
        control_speedup=Interval(2.0, 1.9, 2.1),
        of_control=Interval(speedup / 2, speedup / 2, speedup / 2),
    )


def results(events: int = 20_000) -> Results:
    """A corpus, memory, and whole processes."""
    return Results(
        environment={"python": "CPython"},
        titles={"bare": "bare msgspec", "ours": "collector"},
        checks_values={"bare": False, "ours": True},
        does_not={"bare": "check", "ours": "–"},
        corpora=[
            CorpusResult(
                "small",
                "no content",
                10,
                480.0,
                {"bare": [1.0, 1.2], "ours": [2.0, 2.4]},
                {"ours/bare": Interval(2.0, 1.9, 2.1)},
            )
        ],
        memory={"": 40.0, "bare": 42.0, "ours": 45.0},
        whole=[whole_result(events, 0.5, 50)],
        start=StartResult(Process([0.4], [50.0]), Process([0.1], [30.0]), Interval(4.0, 3.9, 4.1)),
        parallel=parallel_result(1.6),
        skipped={"pydantic_models": "pydantic is not installed"},
    )
