"""``python -m benchmarks sdk``: what ``Collector`` costs an application.

Measured: calls of ``emit`` and of only ``Filter.admit``; calls while the receiver accepts
connections and never answers; fresh processes; the overhead of the OpenTelemetry wrapper; and a
fresh installation.
"""

from __future__ import annotations

import gc
import json
import random
import socket
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, perf_counter_ns, sleep, thread_time_ns
from typing import TYPE_CHECKING, Any
from venv import EnvBuilder

import orjson

from benchmarks import conditions
from benchmarks.data import SEED, flat, lines
from benchmarks.figures import BenchmarkError, Figures, interval, paired, percentile, say
from benchmarks.fleet import machine
from benchmarks.meetings import address, hexadecimal
from benchmarks.talk import ENGLISH
from collector import Collector, Filter, load_schema

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--install": {"action": "store_true", "help": "also install it; needs the package index"}
}
KINDS = {
    "medium, a mapping": ("medium", True),
    "small, a mapping": ("small", True),
    "medium, JSON as bytes": ("medium", False),
    "small, JSON as bytes": ("small", False),
}
"""Events by name: from a corpus, as mappings or as the bytes that they are parsed from. The first
has a limit."""
_FIRST = next(iter(KINDS))
_EVENTS, _FLUSH_SECONDS, _RATE = 2_000, 60.0, 10_000
_BEHIND_SECONDS, _TRIES = 0.1, 5
"""A shared machine may stall just before the end."""
_BATCH, _BATCHES = 512, 20
"""The spans of one export: the default of OpenTelemetry's processor."""
_ROOT = Path(__file__).resolve().parent.parent


def sdk(options: Namespace, figures: Figures) -> None:
    """Measure everything, and judge it."""
    rounds, runs, seconds = (5, 5, 2.0) if options.quick else (10, 9, 5.0)
    place, limit = options.directory, figures.limits.get("sdk", {})
    figures.environment = conditions.environment()
    say("fresh processes")
    steps = start(runs, place)
    with conditions.steady() as pinned:
        called = {}
        for name in KINDS:
            say(f"calls: {name}")
            called[name] = calls(name, rounds, place)
        if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
            figures.skipped["OpenTelemetry"] = "opentelemetry-sdk is not installed"
            exported = None
        else:
            say("OpenTelemetry")
            exported = spans(rounds)
        say(f"{_RATE:,} calls per second, receiver hung")
        hung_ = hung(seconds)
    figures.environment |= pinned
    installed: dict[str, Any] = {}
    if options.install:
        say("a fresh installation")
        installed = install(place)
    else:
        figures.skipped["installation"] = "only with --install, as it needs the package index"
    figures.values = {"calls": called, "hung": hung_, "start": steps, "spans": exported}
    figures.values["install"] = installed
    _show(figures, rounds, runs, seconds)
    for name, what, found in (
        ("emit_of_admit_at_most", "emit / admit", _ratio(called[_FIRST]).median),
        ("hung_p99_us_at_most", "p99 µs of emit, receiver hung", hung_["p99"]),
        ("import_ms_at_most", "ms to import", median(steps[_STEPS[0]])),
        ("ready_ms_at_most", "ms from there to a filter", median(steps[_STEPS[1]])),
        ("install_mb_at_most", "MB installed", installed.get("megabytes")),
    ):
        is_exact = name == "install_mb_at_most"
        figures.at_most(what, limit.get(name), found, is_exact=is_exact)


def _ratio(of: Mapping[str, Any]) -> Any:
    return paired(of["emit"], of["admit"])


def _show(figures: Figures, rounds: int, runs: int, seconds: float) -> None:
    found = figures.values
    figures.table(
        "µs of the calling thread for one call, while a thread delivers to a store on the same"
        f" core; medians of {rounds} rounds (95 % bootstrap interval)",
        ("event", "nothing", "Filter.admit", "Collector.emit", "emit, p99", "emit / admit"),
        (
            (
                name,
                f"{median(of['nothing']):.2f}",
                *(str(interval(of[job])) for job in ("admit", "emit")),
                f"{of['p99']:.1f}",
                str(_ratio(of)),
            )
            for name, of in found["calls"].items()
        ),
    )
    hung_ = found["hung"]
    latencies = (f"{hung_[name]:.1f}" for name in ("p50", "p99", "longest"))
    counts = (f"{hung_[name]:,}" for name in ("queued", "dropped"))
    figures.table(
        f"µs of one call at {_RATE:,} medium mappings per second for {seconds:g} s, while the"
        " sidecar takes connections and never answers",
        ("", "p50", "p99", "longest", "queued", "dropped and counted"),
        [("Collector.emit", *latencies, *counts)],
    )
    figures.table(
        f"ms on the wall, median of {runs} fresh processes (95 % bootstrap interval)",
        ("step", "ms"),
        ((step, interval(times).shown(0)) for step, times in found["start"].items()),
    )
    if installed := found["install"]:
        cells = f"{installed['megabytes']:.1f}", f"{len(installed['packages'])}"
        title = "what an installation adds to an empty environment, compiled files included"
        head = ("", "MB", "packages, this one included")
        figures.table(title, head, [("pip install, without extras", *cells)])
    if exported := found["spans"]:
        added = median(a - b for a, b in zip(exported["minimised"], exported["bare"], strict=True))
        times = median(exported["bare"]), median(exported["minimised"]), added
        names = ("exporter in memory", "the same, minimised", "added")
        figures.table(
            f"OpenTelemetry: µs of CPU per span, in batches of {_BATCH}, median of {rounds} rounds",
            ("exporter", "µs"),
            ((name, f"{time:.2f}") for name, time in zip(names, times, strict=True)),
        )


# -- calls -----------------------------------------------------------------------------------------


def events(kind: str, number: int) -> list[Any]:
    """Return events, each as a separate object."""
    corpus, is_parsed = KINDS[kind]
    drawn = lines(corpus, number)
    return [orjson.loads(line) for line in drawn] if is_parsed else drawn


def calls(kind: str, rounds: int, place: Path, number: int = _EVENTS) -> dict[str, Any]:
    """Time single calls, while the collector's own thread delivers into a real store: µs of wall
    time, as medians of each round, and the ``p99`` of all calls of ``emit``.

    Each round runs every job once, in a new random order; the first round warms up. Emitted events
    are delivered before the next job's turn, so a job pays only for its own thread. Raises
    ``BenchmarkError`` if an event is not admitted, or a record is not delivered.
    """
    given, rng = events(kind, number), random.Random(SEED)
    admit = Filter(load_schema("conferencing")).admit
    with TemporaryDirectory(prefix="collector-benchmarks-", dir=place) as name:
        store = Path(name, "telemetry.db").resolve()
        with Collector("conferencing", f"sqlite:///{store}") as telemetry:
            if not all(map(telemetry.emit, given)):
                raise BenchmarkError(f"{kind}: an event is not admitted")
            jobs: dict[str, Callable[[Any], object]] = {
                "nothing": lambda _event: True,
                "admit": lambda event: admit(event).encode(),
                "emit": telemetry.emit,
            }
            found: dict[str, list[float]] = {each: [] for each in jobs}
            every: list[int] = []
            for round_ in range(rounds + 1):
                for each in rng.sample(list(jobs), len(jobs)):
                    took = _timed(jobs[each], given)
                    if not telemetry.flush(_FLUSH_SECONDS):
                        raise BenchmarkError("the store does not take what is emitted")
                    if round_:
                        found[each].append(median(took) / 1_000)
                        every += took if each == "emit" else ()
                gc.collect()
            delivered = telemetry.tally().delivered
    if delivered != number * (rounds + 2):
        raise BenchmarkError(f"{kind}: {delivered:,} records are delivered")
    return {**found, "p99": percentile(sorted(every), 0.99) / 1_000}


def _timed(job: Callable[[Any], object], given: Sequence[Any]) -> list[int]:
    took = [0] * len(given)
    for number, event in enumerate(given):
        start = perf_counter_ns()
        job(event)
        took[number] = perf_counter_ns() - start
    return took


def hung(seconds: float, rate: int = _RATE) -> dict[str, Any]:
    """Emit medium mappings at a fixed rate, in µs per call; the queue holds half of them, and then
    overflows.

    Raises ``BenchmarkError`` if the calling thread could not keep the rate in any try.
    """
    given, number = events(_FIRST, _EVENTS), int(seconds * rate)
    for _ in range(_TRIES):
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
            to = f"http://127.0.0.1:{listening.getsockname()[1]}"
            telemetry = Collector("conferencing", to, queue=number // 2, exit_timeout=0.1)
            try:
                took, begun = [], perf_counter()
                for place, event in enumerate(islice(cycle(given), number)):
                    early = begun + place / rate - perf_counter()
                    if early > 0:
                        sleep(early)
                    start = perf_counter_ns()
                    telemetry.emit(event)
                    took.append((perf_counter_ns() - start) / 1_000)
                late = perf_counter() - begun - number / rate
                account = telemetry.tally()
            finally:
                telemetry.close()
        if account.delivered:
            raise BenchmarkError("a receiver that never answers has taken records")
        if late <= _BEHIND_SECONDS:
            took.sort()
            return {
                "p50": percentile(took, 0.5),
                "p99": percentile(took, 0.99),
                "longest": took[-1],
                "queued": account.queued,
                "dropped": account.lost["queue_full"],
            }
    raise BenchmarkError(f"{rate:,} events per second are too many here")


# -- fresh processes, and an installation ----------------------------------------------------------

_STEPS = (
    "import collector",
    'from there to Filter(load_schema("conferencing"))',
    "from there to the first record of a Collector",
)
_PROGRAM = """\
import sys
from time import perf_counter
began = perf_counter()
import collector
there = perf_counter()
filter_ = collector.Filter(collector.load_schema("conferencing"))
ready = perf_counter()
telemetry = collector.Collector("conferencing", "sqlite:///" + sys.argv[1])
assert telemetry.emit({"ip_address": "203.0.113.7"})
first = perf_counter()
assert telemetry.close(60)
print([there - began, ready - there, first - ready])
"""


def start(runs: int, place: Path) -> dict[str, list[float]]:
    """Return ms of each step by run. The first run may have to compile, and does not count."""
    found: dict[str, list[float]] = {step: [] for step in _STEPS}
    with TemporaryDirectory(prefix="collector-benchmarks-", dir=place) as name:
        command = [sys.executable, "-c", _PROGRAM, str(Path(name, "start.db").resolve())]
        for run in range(runs + 1):
            done = subprocess.run(command, stdout=subprocess.PIPE, check=False, cwd=_ROOT)
            if done.returncode:
                raise BenchmarkError(f"a fresh process ended with {done.returncode}")
            for step, seconds in zip(_STEPS, json.loads(done.stdout), strict=True):
                if run:
                    found[step].append(1e3 * seconds)
    return found


def install(place: Path) -> dict[str, Any]:
    """Return what ``pip install`` without extras puts into a fresh environment. It needs the
    package index. Raises ``BenchmarkError`` if the installation fails."""
    with TemporaryDirectory(prefix="collector-benchmarks-", dir=place) as name:
        EnvBuilder().create(name)
        before = _bytes(Path(name))
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", name]
        command = [*pip, "install", "--quiet", str(_ROOT)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:]
            raise BenchmarkError(f"pip install: {' '.join(last)}")
        listed = subprocess.run([*pip, "list", "--format=json"], stdout=subprocess.PIPE, check=True)
        packages = sorted(each["name"] for each in json.loads(listed.stdout))
        return {"megabytes": (_bytes(Path(name)) - before) / 1e6, "packages": packages}


def _bytes(directory: Path) -> int:
    """Return the total size of all files, including compiled ones."""
    files = (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files)


# -- spans -----------------------------------------------------------------------------------------


def _finished(number: int) -> Sequence[ReadableSpan]:
    """Return finished spans of one meeting client. Device and system are in the resource; each span
    has its own address and chat."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: PLC0415
        InMemorySpanExporter,
    )

    rng, exporter = random.Random(SEED), InMemorySpanExporter()
    of = machine(rng)
    about = {"service.name": "meeting-client", **flat({"device": of.device, "os": of.os})}
    provider = TracerProvider(resource=Resource(about), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("meeting-client")
    for _ in range(number):
        attributes: dict[str, Any] = {
            "client.address": address(rng),
            "client.port": rng.randrange(49152, 65536),
            "session.id": hexadecimal(rng),
            "enduser.name": rng.choice(ENGLISH.names),
            "network.rtt_ms": rng.randrange(8, 240),
            "http.route": "/v1/meetings/{meeting}/join",
            "http.response.status_code": 200,
            "chat": rng.choice(ENGLISH.sentences),
        }
        with tracer.start_as_current_span("join", attributes=attributes) as span:
            span.add_event("said", {"chat": rng.choice(ENGLISH.sentences)})
    return exporter.get_finished_spans()


def spans(rounds: int, batches: int = _BATCHES) -> dict[str, list[float]]:
    """Export the same batches with and without the wrapper, in a new random order each round; µs of
    CPU per span. Raises ``BenchmarkError`` if a span is lost."""
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: PLC0415 - an extra
        InMemorySpanExporter,
    )

    from collector.sdk.otel import minimise  # noqa: PLC0415

    given = _finished(batches * _BATCH)
    bare, inner = InMemorySpanExporter(), InMemorySpanExporter()
    jobs = {"bare": (bare, bare), "minimised": (minimise(inner, "conferencing"), inner)}

    def exported(exporter: Any, kept: InMemorySpanExporter) -> None:
        for at in range(0, len(given), _BATCH):
            exporter.export(given[at : at + _BATCH])
        if len(kept.get_finished_spans()) != len(given):
            raise BenchmarkError("not every span is exported")
        kept.clear()

    works = {name: partial(exported, *both) for name, both in jobs.items()}
    times = conditions.in_rounds(works, rounds, SEED, thread_time_ns)
    return {name: [us / len(given) for us in of] for name, of in times.items()}
