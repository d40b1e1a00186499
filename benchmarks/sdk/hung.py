"""The caller while the receiver hangs: it takes connections, and never answers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from time import perf_counter, perf_counter_ns, sleep
from typing import Any

from benchmarks.results import BenchmarkError
from benchmarks.sdk.calls import KINDS
from benchmarks.sdk.figures import Hung
from benchmarks.sidecar.figures import percentile
from collector import Collector

RATE = 10_000
"""Events per second."""

_EVENTS = 2_000
_BEHIND_SECONDS = 0.1
_TRIES = 5
"""A machine that others use too may stand still just before the end."""


def measure(seconds: float, rate: int = RATE) -> Hung:
    """Emit medium mappings at a rate; the queue holds half of them, and overflows then.

    Raises ``BenchmarkError`` if the calling thread could not keep the rate, in none of some tries.
    """
    for _ in range(_TRIES):
        found, late = _measured(seconds, rate)
        if late <= _BEHIND_SECONDS:
            return found
    raise BenchmarkError(f"{rate:,} events per second are too many here")


def _measured(seconds: float, rate: int) -> tuple[Hung, float]:
    """Measure once; return also how many seconds it took too long."""
    events = KINDS[0].events(_EVENTS)
    number = int(seconds * rate)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        to = f"http://127.0.0.1:{listening.getsockname()[1]}"
        telemetry = Collector("conferencing", to, queue=number // 2, exit_timeout=0.1)
        try:
            took, late = _paced(telemetry.emit, list(islice(cycle(events), number)), rate)
            account = telemetry.tally()
        finally:
            telemetry.close()
    if account.delivered:
        raise BenchmarkError("a receiver that never answers has taken records")
    microseconds = sorted(each / 1_000 for each in took)
    found = Hung(
        rate,
        seconds,
        p50=percentile(microseconds, 0.5),
        p99=percentile(microseconds, 0.99),
        longest=microseconds[-1],
        kept=account.queued,
        dropped=account.lost["queue_full"],
    )
    return found, late


def _paced(
    job: Callable[[Any], object], events: Sequence[Any], rate: int
) -> tuple[list[int], float]:
    """Call the job for each event as soon as it is due; return what each call took, in ns, and by
    how many seconds the last one ended too late."""
    took = []
    begun = perf_counter()
    for number, event in enumerate(events):
        early = begun + number / rate - perf_counter()
        if early > 0:
            sleep(early)
        start = perf_counter_ns()
        job(event)
        took.append(perf_counter_ns() - start)
    return took, perf_counter() - begun - len(events) / rate
