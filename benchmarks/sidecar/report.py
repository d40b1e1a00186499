"""The figures of a sidecar as tables, and against their limits."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.gate import Limits, Verdict
from benchmarks.report import Table
from benchmarks.sidecar.figures import Figures, Served, Soaked
from benchmarks.sidecar.measure import EVENTS, RATE

_GAIN_AT_LEAST, _CORES_GOT = 1.6, 1.8
"""What two workers do over one, in rounds in which they and the keeper got so many cores."""


def tables(figures: Figures) -> list[Table]:
    """Return what there is to show."""
    found = []
    if figures.servers:
        found += [_throughput(figures.servers), _steady(figures.servers)]
    if figures.otlp:
        rows = tuple((name, f"{median(times):.2f}") for name, times in figures.otlp.items())
        rounds = max(map(len, figures.otlp.values()))
        title = (
            f"µs of CPU per log record in the filter, OTLP as protobuf, median of {rounds} rounds"
        )
        found.append(Table(title, ("corpus", "µs"), rows))
    return found


def _throughput(servers: list[Served]) -> Table:
    header = (
        "server",
        "events per s",
        "of rounds",
        "CPU s per million events",
        "p50 ms",
        "p99 ms",
        "records in the spool, before → after",
        "client, of a core",
        "cores it got",
        "share of each worker",
    )
    return Table(
        f"as much as it takes on one core (two workers: on two), requests of {EVENTS} medium "
        f"events, median of {len(servers[0].rounds)} rounds",
        header,
        tuple(_busy(served) for served in servers),
    )


def _busy(served: Served) -> tuple[str, ...]:
    rounds = served.rounds
    speeds = [each.events_per_second for each in rounds]
    first, last = rounds[0].before, rounds[-1].after
    shares_of = zip(*(each.workers for each in rounds), strict=True)
    return (
        served.name,
        f"{served.events_per_second:,.0f}",
        f"{min(speeds):,.0f}–{max(speeds):,.0f}",
        f"{served.cpu_per_event:.1f}",
        f"{median(each.p50 for each in rounds):.1f}",
        f"{median(each.p99 for each in rounds):.1f}",
        "–" if first is None or last is None else f"{first:,} → {last:,}",
        f"{median(each.share for each in rounds):.0%}",
        f"{median(each.cores for each in rounds):.2f}",
        ", ".join(f"{median(shares):.0%}" for shares in shares_of) or "–",
    )


def _steady(servers: list[Served]) -> Table:
    rows = []
    for served in servers:
        steady = served.steady
        latencies = (steady.p50, steady.p99, steady.longest) if steady else ()
        rows.append(
            (
                served.name,
                *(f"{value:.1f}" for value in latencies),
                f"{served.resident_mb:.0f}",
                f"{served.peak_mb:.0f}",
                f"{served.stored:,} of {served.acknowledged:,}",
            )
        )
    header = (
        "server",
        "p50 ms",
        "p99 ms",
        "longest ms",
        "resident MB",
        "peak MB of a process",
        "kept in the end",
    )
    seconds = servers[0].steady.seconds if servers[0].steady else 0
    title = f"at {RATE:,} events per second for {seconds:g} s, from the moment a request is due"
    return Table(title, header, tuple(rows))


def judge(figures: Figures, limits: Limits) -> Iterator[Verdict]:
    """Every limit of the sidecar. With ``quick``, speed may miss its limits by the tolerance."""
    wanted = limits.sidecar
    if wanted is None:
        return
    allowed = limits.quick.tolerance if figures.quick else 1.0
    ours = next(iter(figures.servers), None)
    if ours is not None and ours.steady is not None:
        p99 = ours.steady.p99
        yield _verdict(
            f"p99 ms at {RATE:,} per second: at most", wanted.p99_ms_at_most, p99, allowed
        )
        yield _verdict(
            "resident MB of a process, peak: at most", wanted.resident_mb_at_most, ours.peak_mb
        )
        two = next((each for each in figures.servers if each.name.endswith("2 workers")), None)
        if two is not None:
            yield from _two_workers(ours, two)
        after = ours.rounds[-1].after or 0
        most = wanted.waiting_seconds_at_most * ours.events_per_second
        yield _verdict("records in the spool at the end: at most", most, after)


def _two_workers(one: Served, two: Served) -> Iterator[Verdict]:
    """Judge what two workers do in the rounds in which they got their cores, if there were any."""
    rounds = [each.events_per_second for each in two.rounds if each.cores > _CORES_GOT]
    if rounds:
        gain = median(rounds) / one.events_per_second
        text = f"two workers over one: at least {_GAIN_AT_LEAST:g}, is {gain:.2f}"
        yield Verdict(gain >= _GAIN_AT_LEAST, text)


def _verdict(what: str, limit: float, found: float, factor: float = 1.0) -> Verdict:
    """Return a ceiling that may be missed by a factor."""
    return Verdict(found <= limit * factor, f"{what} {limit:,g}, is {found:,.2f}")


def soak_text(soaked: Soaked) -> str:
    """Return what a soak found, in a few lines."""
    values = [value for _, value in soaked.samples]
    seconds = soaked.samples[-1][0] - soaked.samples[0][0]
    return (
        f"resident MB over {seconds:.0f} s at {soaked.rate:,.0f} events per second, "
        f"{len(values)} samples: {values[0]:.1f} at first, {values[-1]:.1f} at last, "
        f"{min(values):.1f} to {max(values):.1f}\n"
        f"slope: {soaked.slope:+.2f} MB per hour, "
        f"95 % interval {soaked.low:+.2f} to {soaked.high:+.2f}"
    )


def judge_soak(soaked: Soaked) -> Verdict:
    """Memory does not grow: the interval includes zero, or lies below."""
    return Verdict(
        soaked.low <= 0,
        f"resident memory grows by {soaked.low:+.2f} MB per hour at least: at most 0",
    )
