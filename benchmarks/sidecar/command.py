"""``python -m benchmarks sidecar`` and ``python -m benchmarks soak``."""

from __future__ import annotations

import json
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import gettempdir

from benchmarks import conditions, fluent_bit, gate, otlp, output, parallel, processes
from benchmarks.output import say
from benchmarks.results import BenchmarkError
from benchmarks.sidecar import measure, report
from benchmarks.sidecar.figures import Figures
from benchmarks.sidecar.server import cores, obstacle
from benchmarks.sidecar.soak import soak

_SECTION = "sidecar"
_OTLP_ROUNDS, _CORES_OF_TWO = 15, 3
_CONTROL_EVENTS, _CONTROL_RUNS = 50_000, 3


def _environment(place: Path) -> dict[str, str]:
    core, other = cores()
    pinned = {"pinned": f"server to CPU {core}, load to CPU {other}", "disk": _file_system(place)}
    return conditions.environment() | pinned


def _file_system(place: Path) -> str:
    """What kind of file system holds a directory: on one in memory, syncing costs nothing."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    around = {str(folder) for folder in (place.resolve(), *place.resolve().parents)}
    found = [(len(mount[1]), mount[2]) for mount in mounts if mount[1] in around]
    return max(found)[1] if found else "unknown"


def _common(name: str, description: str) -> ArgumentParser:
    parser = ArgumentParser(f"python -m benchmarks {name}", description=description)
    add = parser.add_argument
    add("--directory", type=Path, default=Path(gettempdir()), help="where the sidecar keeps data")
    add("--json", type=Path, metavar="PATH", help="write everything as JSON")
    add("--check", action="store_true", help="exit 1 when a limit does not hold")
    return parser


def _ready(name: str, options: Namespace) -> bool:
    """Whether there is something to measure; says why not."""
    if reason := obstacle():
        say(f"skipped: {name}: {reason}")
        return False
    options.directory.mkdir(parents=True, exist_ok=True)
    return True


def sidecar(arguments: Sequence[str]) -> int:
    """Measure the sidecar; returns the exit code."""
    parser = _common("sidecar", "Measure the sidecar as a whole.")
    output.add_options(parser)
    found = "Fluent Bit's executable, if it is in no usual place"
    parser.add_argument("--fluent-bit", metavar="PATH", help=found)
    options = parser.parse_args(arguments)
    limits = output.limits(options, _SECTION)
    if limits is None:
        return 2
    if not _ready("sidecar", options):
        return 0
    return output.conclude(
        options, _SECTION, _measure, report.tables, partial(report.judge, limits=limits)
    )


def _measure(options: Namespace) -> Figures:
    effort = measure.QUICK if options.quick else measure.FULL
    figures = Figures(_environment(options.directory), quick=options.quick)
    with processes.source("medium", _CONTROL_EVENTS // (5 if options.quick else 1)) as source:
        gain = parallel.control_gain(source, _CONTROL_RUNS)
    figures.environment["control"] = (
        f"two processes that share nothing do {gain.median:.2f} ({gain.low:.2f}–{gain.high:.2f}) "
        "times as much as one"
    )
    figures.servers.append(measure.serve(effort, say, options.directory))
    if len(os.sched_getaffinity(0)) < _CORES_OF_TWO:
        figures.skipped["two workers"] = "skipped: cores; two of a server and one of the load"
    else:
        figures.servers.append(measure.serve(effort, say, options.directory, workers=2))
    fluent = fluent_bit.find(options.fluent_bit)
    if fluent is None:
        figures.skipped["fluent-bit"] = fluent_bit.OBSTACLE
    else:
        figures.environment["fluent-bit"] = fluent_bit.version(fluent)
        figures.servers.append(measure.serve(effort, say, options.directory, fluent))
    say("OTLP in the filter")
    corpora = [corpus for corpus in otlp.CORPORA if corpus.signal == "logs" and corpus.protobuf]
    with conditions.steady():
        found = otlp.measure(_OTLP_ROUNDS // (3 if options.quick else 1), corpora)
    figures.otlp = {each.corpus: each.times[otlp.OURS] for each in found}
    return figures


def soaked(arguments: Sequence[str]) -> int:
    """Soak the sidecar; returns the exit code."""
    parser = _common("soak", "Load the sidecar for minutes, and look whether its memory grows.")
    add = parser.add_argument
    add("--minutes", type=float, default=10.0, help="how long, after half of it to warm up (10)")
    add("--rate", type=float, default=float(measure.RATE), help="events per second (10,000)")
    options = parser.parse_args(arguments)
    if not _ready("soak", options):
        return 0
    place = options.directory
    try:
        found = soak(60 * options.minutes, options.rate, place, _environment(place), say)
    except BenchmarkError as error:
        say(f"benchmarks: {error}")
        return 1
    print(report.soak_text(found))
    if options.json:
        options.json.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
    code = gate.announce([report.judge_soak(found)])
    return code if options.check else 0
