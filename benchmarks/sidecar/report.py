"""The figures of a sidecar as tables, and against their limits."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.gate import Limits, Verdict
from benchmarks.report import Table
from benchmarks.sidecar.figures import Figures, Served, Soaked
from benchmarks.sidecar.measure import EVENTS, RATE

_MOST_SHARED = 0.1
"""The share of a server's core that a client may take before its figures are marked."""


def tables(figures: Figures) -> list[Table]:
    """Return what there is to show."""
    found = []
    if figures.servers:
        found += [_throughput(figures.servers), _steady(figures.servers)]
    if figures.against:
        found.append(_against(figures.against))
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
    )
    return Table(
        f"as much as it takes on one core, requests of {EVENTS} medium events, "
        f"median of {len(servers[0].rounds)} rounds",
        header,
        tuple(_busy(served) for served in servers),
    )


def _busy(served: Served) -> tuple[str, ...]:
    rounds = served.rounds
    speeds = [each.events_per_second for each in rounds]
    first, last = rounds[0].before, rounds[-1].after
    return (
        served.name,
        f"{served.events_per_second:,.0f}",
        f"{min(speeds):,.0f}–{max(speeds):,.0f}",
        f"{served.cpu_per_event:.1f}",
        f"{median(each.p50 for each in rounds):.1f}",
        f"{median(each.p99 for each in rounds):.1f}",
        "–" if first is None or last is None else f"{first:,} → {last:,}",
        _client(served),
    )


def _client(served: Served) -> str:
    """Return the client's share of a core; it is marked where it took much of the server's."""
    share = median(each.share for each in served.rounds)
    return f"{share:.0%}" + (" (!)" if served.shares and share > _MOST_SHARED else "")


def _against(servers: list[Served]) -> Table:
    first = servers[0]
    rows = tuple(
        (
            served.name,
            f"{served.cpu_per_event:.1f}",
            f"{_cpu_ratio(served, first):.2f}",
            f"{served.events_per_second:,.0f}",
            f"{_speed_ratio(served, first):.2f}",
            f"{served.peak_mb:.0f}",
            _client(served),
        )
        for served in servers
    )
    header = (
        *("sidecar", "CPU s per million events", "of the first", "events per s", "of the first"),
        *("peak MB of a process", "client, of a core"),
    )
    return Table(
        f"against an earlier version, in the same rounds, requests of {EVENTS} medium events, as "
        f"much as each takes; median of {len(first.rounds)} rounds; (!): the client shares a core "
        "with the server and takes more than 10 % of it",
        header,
        rows,
    )


def _cpu_ratio(served: Served, first: Served) -> float:
    """Return CPU per event over that of another, round by round, as a median."""
    pairs = zip(served.rounds, first.rounds, strict=True)
    return median(ours.cpu_per_event / theirs.cpu_per_event for ours, theirs in pairs)


def _speed_ratio(served: Served, first: Served) -> float:
    pairs = zip(served.rounds, first.rounds, strict=True)
    return median(ours.events_per_second / theirs.events_per_second for ours, theirs in pairs)


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
        after = ours.rounds[-1].after or 0
        most = wanted.waiting_seconds_at_most * ours.events_per_second
        yield _verdict("records in the spool at the end: at most", most, after)
    for served in figures.against[1:]:
        first = figures.against[0]
        text = f"CPU per event of the earlier sidecar, {served.name}: at most"
        yield _verdict(text, wanted.cpu_of_earlier_at_most, _cpu_ratio(served, first), allowed)
        if served is figures.against[-1]:
            text = "events per second of the earlier sidecar on one core: at least"
            found = _speed_ratio(served, first)
            yield _verdict(text, wanted.two_cores_of_earlier_at_least, found, -allowed)
        text = f"MB of a process, peak, {served.name}: at most"
        yield _verdict(text, wanted.process_mb_at_most, served.peak_mb)
    for name, times in figures.otlp.items():
        if name in wanted.otlp_us_at_most:
            limit = wanted.otlp_us_at_most[name]
            yield _verdict(f"µs per log record ({name}): at most", limit, median(times), allowed)


def _verdict(what: str, limit: float, found: float, factor: float = 1.0) -> Verdict:
    """Return a ceiling, or with a negative factor a floor, that may be missed by that factor."""
    holds = found >= limit / -factor if factor < 0 else found <= limit * factor
    return Verdict(holds, f"{what} {limit:,g}, is {found:,.2f}")


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
