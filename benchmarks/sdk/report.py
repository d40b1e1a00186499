"""The figures of the SDK as tables, and against their limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from msgspec.structs import asdict

from benchmarks.gate import Limits, Verdict
from benchmarks.report import Table
from benchmarks.results import Interval, interval
from benchmarks.sdk.calls import KINDS
from benchmarks.sdk.figures import Call, Figures, Hung, Install, Spans
from benchmarks.sdk.start import IMPORT, READY


def tables(figures: Figures) -> list[Table]:
    """Return what there is to show."""
    found = []
    if figures.calls:
        found.append(_calls(figures.calls))
    if figures.hung is not None:
        found.append(_hung(figures.hung))
    if figures.start:
        found.append(_start(figures.start))
    if figures.install is not None:
        found.append(_install(figures.install))
    if figures.spans is not None:
        found.append(_spans(figures.spans))
    return found


def _shown(of: Interval, digits: int = 2) -> str:
    return f"{of.median:.{digits}f} ({of.low:.{digits}f}–{of.high:.{digits}f})"


def _calls(calls: Sequence[Call]) -> Table:
    rows = tuple(
        (
            each.name,
            f"{median(each.nothing):.2f}",
            _shown(interval(each.admit)),
            _shown(interval(each.emit)),
            f"{each.p99:.1f}",
            _shown(each.ratio),
        )
        for each in calls
    )
    return Table(
        "µs of the calling thread for one call, while a thread delivers to a store on the same "
        f"core; medians of {len(calls[0].emit)} rounds (95 % bootstrap interval)",
        ("event", "nothing", "Filter.admit", "Collector.emit", "emit, p99", "emit / admit"),
        rows,
    )


def _hung(hung: Hung) -> Table:
    row = (
        "Collector.emit",
        *(f"{value:.1f}" for value in (hung.p50, hung.p99, hung.longest)),
        f"{hung.kept:,}",
        f"{hung.dropped:,}",
    )
    return Table(
        f"µs of one call at {hung.rate:,} medium mappings per second for {hung.seconds:g} s, while "
        "the sidecar takes connections and never answers",
        ("", "p50", "p99", "longest", "queued", "dropped and counted"),
        (row,),
    )


def _start(start: dict[str, list[float]]) -> Table:
    rows = tuple((step, _shown(interval(times), 0)) for step, times in start.items())
    runs = max(map(len, start.values()))
    title = f"ms on the wall, median of {runs} fresh processes (95 % bootstrap interval)"
    return Table(title, ("step", "ms"), rows)


def _install(install: Install) -> Table:
    row = ("pip install, without extras", f"{install.megabytes:.1f}", f"{len(install.packages)}")
    title = "what an installation adds to an empty environment, compiled files included"
    return Table(title, ("", "MB", "packages, this one included"), (row,))


def _spans(spans: Spans) -> Table:
    rows = (
        ("exporter in memory", f"{median(spans.bare):.2f}"),
        ("the same, minimised", f"{median(spans.minimised):.2f}"),
        ("added", f"{spans.added:.2f}"),
    )
    return Table(
        f"OpenTelemetry: µs of CPU per span, in batches of {spans.batch}, median of "
        f"{len(spans.bare)} rounds",
        ("exporter", "µs"),
        rows,
    )


_WHAT = {
    "emit_of_admit_at_most": "emit / admit",
    "hung_p99_us_at_most": "p99 µs of emit, receiver hung",
    "import_ms_at_most": "ms to import",
    "ready_ms_at_most": "ms from there to a filter",
    "install_mb_at_most": "MB installed",
}
"""What each limit is for."""


def judge(figures: Figures, limits: Limits) -> Iterator[Verdict]:
    """Yield every limit of the SDK. With ``quick``, what is timed may miss its limits by the
    tolerance."""
    if limits.sdk is None:
        return
    found = dict(_judged(figures))
    for name, limit in asdict(limits.sdk).items():
        text = f"{_WHAT[name]}: at most {limit:g}"
        if name in found:
            is_timed = figures.quick and name != "install_mb_at_most"
            most = limit * (limits.quick.tolerance if is_timed else 1.0)
            yield Verdict(found[name] <= most, f"{text}, is {found[name]:,.2f}")
        else:
            yield Verdict(None, f"{text}, not measured")


def _judged(figures: Figures) -> Iterator[tuple[str, float]]:
    """Yield what there is a limit for, by the limit's name."""
    for each in figures.calls:
        if (each.corpus, each.form) == (KINDS[0].corpus, KINDS[0].form):
            yield "emit_of_admit_at_most", each.ratio.median
    if figures.hung is not None:
        yield "hung_p99_us_at_most", figures.hung.p99
    for step, name in ((IMPORT, "import_ms_at_most"), (READY, "ready_ms_at_most")):
        if step in figures.start:
            yield name, median(figures.start[step])
    if figures.install is not None:
        yield "install_mb_at_most", figures.install.megabytes
