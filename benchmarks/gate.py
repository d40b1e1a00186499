"""The gate: measured figures against ``limits.toml``."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import median

import msgspec

from benchmarks import otlp
from benchmarks.contenders import NAMES
from benchmarks.data import CORPORA
from benchmarks.results import RATIOS, Interval, Results

LIMITS = Path(__file__).with_name("limits.toml")
"""The project's own limits."""

_Ratios = dict[str, dict[str, float]]
_KNOWN = {f"{above}/{below}" for above, below in RATIOS}
_Judge = Callable[[str, float, "Interval | None"], "Verdict"]


class LimitsError(ValueError):
    """A file of limits that cannot be used."""


class _Whole(msgspec.Struct, forbid_unknown_fields=True):
    """Limits of whole processes; see ``limits.toml`` for units."""

    from_events: int
    cpu_of_jq_at_most: dict[str, float]
    cpu_of_fluent_bit_at_most: float
    two_jobs_at_least: float
    peak_mb_below: float
    two_jobs_of_control_at_least: float | None = None
    start_of_imports_at_most: float | None = None


class _Sidecar(msgspec.Struct, forbid_unknown_fields=True):
    """Limits of the sidecar; see ``limits.toml``."""

    waiting_seconds_at_most: float
    p99_ms_at_most: float
    resident_mb_at_most: float


class _Sdk(msgspec.Struct, forbid_unknown_fields=True):
    """Limits of the SDK; see ``limits.toml``."""

    emit_of_admit_at_most: float
    hung_p99_us_at_most: float
    import_ms_at_most: float
    ready_ms_at_most: float
    install_mb_at_most: float


class _Consent(msgspec.Struct, forbid_unknown_fields=True):
    """Limits of consent."""

    of_the_filter_at_most: float


class _Recording(msgspec.Struct, forbid_unknown_fields=True):
    """Limits of the vault of recordings."""

    of_bare_at_least: float
    peak_mb_below: float


class _Leaks(msgspec.Struct, forbid_unknown_fields=True):
    """Limits of what gets through: bits delivered over bits stated."""

    share_at_least: float
    share_at_most: float


class _Sinks(msgspec.Struct, forbid_unknown_fields=True):
    """Limits of sinks: shares of a bare writer's rate, and records per second of CPU time."""

    of_bare_at_least: float
    records_at_least: dict[str, float]


class _Quick(msgspec.Struct, forbid_unknown_fields=True):
    """What is allowed when little was measured."""

    tolerance: float


class _Newer(msgspec.Struct, forbid_unknown_fields=True):
    """Other ceilings and floors, from a version of Python on."""

    at_most: _Ratios = {}
    at_least: _Ratios = {}


class Limits(msgspec.Struct, forbid_unknown_fields=True):
    """Ceilings and floors of ratios, by ratio and corpus, and the limits of whole processes.

    ``otlp`` are ceilings of the time for bodies of OTLP over that of their floor, by corpus;
    ``corpora`` are ceilings of a contender's time on one corpus over that on another;
    ``from_python`` replaces single ratios, by the version from which on it does.
    """

    at_most: _Ratios
    at_least: _Ratios
    corpora: _Ratios
    whole: _Whole
    quick: _Quick
    otlp: dict[str, float] = {}
    from_python: dict[str, _Newer] = {}
    sidecar: _Sidecar | None = None
    sdk: _Sdk | None = None
    consent: _Consent | None = None
    recording: _Recording | None = None
    leaks: _Leaks | None = None
    sinks: _Sinks | None = None

    def of(self, python: tuple[int, int]) -> Limits:
        """Return the limits that hold for a version of Python."""
        chosen = msgspec.structs.replace(self, from_python={})
        for since, newer in sorted(self.from_python.items(), key=lambda item: _version(item[0])):
            if _version(since) <= python:
                chosen.at_most = _replaced(chosen.at_most, newer.at_most)
                chosen.at_least = _replaced(chosen.at_least, newer.at_least)
        return chosen


@dataclass(frozen=True, slots=True)
class Verdict:
    """One limit. ``holds`` is ``None`` where there was nothing to compare; ``text`` says why.

    ``corpora`` are those whose rounds it was judged by."""

    holds: bool | None
    text: str
    corpora: tuple[str, ...] = ()


def announce(verdicts: Iterable[Verdict]) -> int:
    """Print every verdict; returns the exit code, 1 if a limit does not hold."""
    words, failed = {True: "ok", False: "FAILED", None: "skipped"}, False
    for verdict in verdicts:
        print(f"{words[verdict.holds]:<8}{verdict.text}")
        failed |= verdict.holds is False
    return int(failed)


def _version(text: str) -> tuple[int, int]:
    major, minor = map(int, text.split("."))
    return major, minor


def _replaced(ratios: _Ratios, by: _Ratios) -> _Ratios:
    """Return the ratios with those of ``by`` in their places."""
    return ratios | {ratio: ratios.get(ratio, {}) | corpora for ratio, corpora in by.items()}


def read(path: Path, python: tuple[int, int] = sys.version_info[:2]) -> Limits:
    """Return the limits of a file, for a version of Python.

    Raises ``LimitsError`` for a file that cannot be read, and for a ratio or corpus that is never
    measured: such a limit would hold for ever.
    """
    try:
        limits = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Limits)
        given = limits.at_most, limits.at_least
        newer = [(of.at_most, of.at_least) for of in limits.from_python.values()]
        limits = limits.of(python)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise LimitsError(f"{path.name}: {error}") from error
    for ratios in chain(given, *newer):
        _refuse(set(ratios) - _KNOWN, "ratio", path)
        _refuse({corpus for by in ratios.values() for corpus in by} - set(CORPORA), "corpus", path)
    _refuse(set(limits.corpora) - set(NAMES), "contender", path)
    pairs = {corpus for by in limits.corpora.values() for pair in by for corpus in pair.split("/")}
    _refuse({*pairs, *limits.whole.cpu_of_jq_at_most} - set(CORPORA), "corpus", path)
    _refuse(set(limits.otlp) - {corpus.name for corpus in otlp.CORPORA}, "corpus of OTLP", path)
    return limits


def _refuse(unknown: set[str], what: str, path: Path) -> None:
    if unknown:
        raise LimitsError(f"{path.name}: no such {what}: {', '.join(sorted(unknown))}")


def judge(results: Results, limits: Limits) -> list[Verdict]:
    """Return every limit, in the order of the file.

    Ratios of times may miss theirs by the tolerance when little was measured.
    """
    tolerance = limits.quick.tolerance if results.quick else 1.0
    return [
        *_ratios(results, limits, tolerance),
        *_otlp(results, limits, tolerance),
        *_corpora(results, limits, tolerance),
        *_whole(results, limits.whole, tolerance),
    ]


def missed(results: Results, limits: Limits) -> set[str]:
    """Return the corpora on which a limit does not hold."""
    verdicts = judge(results, limits)
    return {corpus for of in verdicts if of.holds is False for corpus in of.corpora}


def _at_most(what: str, limit: float, found: Interval | None, tolerance: float = 1.0) -> Verdict:
    text = f"{what}: at most {limit:g}{_allowed(tolerance)}"
    return _verdict(text, found, lambda is_: is_.low <= limit * tolerance)


def _at_least(what: str, limit: float, found: Interval | None, tolerance: float = 1.0) -> Verdict:
    text = f"{what}: at least {limit:g}{_allowed(tolerance)}"
    return _verdict(text, found, lambda is_: is_.high >= limit / tolerance)


def _allowed(tolerance: float) -> str:
    return "" if tolerance == 1.0 else f" (may miss it {tolerance:g} times)"


def _verdict(text: str, found: Interval | None, holds: Callable[[Interval], bool]) -> Verdict:
    """A limit does not hold only where all of the interval lies beyond it."""
    if found is None:
        return Verdict(None, f"{text}, not measured")
    around = f" ({found.low:.2f}–{found.high:.2f})" if found.low < found.high else ""
    return Verdict(holds(found), f"{text}, is {found.median:.2f}{around}")


def _ratios(results: Results, limits: Limits, tolerance: float) -> Iterator[Verdict]:
    measured = {
        (ratio, result.corpus): interval
        for result in results.corpora
        for ratio, interval in result.ratios.items()
    }
    for judge_, ratios in ((_at_most, limits.at_most), (_at_least, limits.at_least)):
        for ratio, by_corpus in ratios.items():
            for corpus, limit in by_corpus.items():
                found = measured.get((ratio, corpus))
                verdict = judge_(f"{ratio} on {corpus}", limit, found, tolerance)
                yield replace(verdict, corpora=(corpus,))


def _otlp(results: Results, limits: Limits, tolerance: float) -> Iterator[Verdict]:
    measured = {of.corpus: next(iter(of.ratios.values())) for of in results.otlp}
    for corpus, limit in limits.otlp.items():
        verdict = _at_most(f"OTLP over its floor, {corpus}", limit, measured.get(corpus), tolerance)
        yield replace(verdict, corpora=(corpus,))


def _corpora(results: Results, limits: Limits, tolerance: float) -> Iterator[Verdict]:
    """Yield times on two corpora, measured one after the other: their medians."""
    by_name = {result.corpus: result for result in results.corpora}
    for contender, by_pair in limits.corpora.items():
        for pair, limit in by_pair.items():
            names = tuple(pair.split("/"))
            above, below = (
                by_name[name].typical(contender) if name in by_name else None for name in names
            )
            found = above / below if above is not None and below else None
            verdict = _at_most(f"{contender} on {pair}", limit, _exactly(found), tolerance)
            yield replace(verdict, corpora=names)


def _exactly(found: float | None) -> Interval | None:
    return None if found is None else Interval(found, found, found)


def _whole(results: Results, limits: _Whole, tolerance: float) -> Iterator[Verdict]:
    whole, parallel = {of.corpus: of for of in results.whole}, results.parallel
    few = any(of.events < limits.from_events for of in results.whole)

    def ratio(judge_: _Judge, what: str, limit: float, interval: Interval | None) -> Verdict:
        verdict = judge_(what, limit, None if few else interval)
        if few and interval is not None:
            start, _, _ = verdict.text.rpartition(",")
            return Verdict(None, f"{start}, not judged below {limits.from_events:,} events")
        return verdict

    for corpus, limit in limits.cpu_of_jq_at_most.items():
        jq = whole[corpus].cpu_ratio if corpus in whole else None
        yield ratio(_at_most, f"CPU of collector filter / jq on {corpus}", limit, jq)
    medium = whole.get("medium")
    fluent = medium.fluent_bit_ratio if medium else None
    what = "CPU of collector filter / fluent-bit"
    yield ratio(_at_most, what, limits.cpu_of_fluent_bit_at_most, fluent)
    two = parallel.speedups.get(2) if parallel and parallel.cpus > 1 else None
    yield ratio(_at_least, "two jobs against one", limits.two_jobs_at_least, two)
    if limits.two_jobs_of_control_at_least is not None:
        two = parallel.of_control if parallel and parallel.cpus > 1 else None
        what = "two jobs against two processes that share nothing"
        yield ratio(_at_least, what, limits.two_jobs_of_control_at_least, two)
    if limits.start_of_imports_at_most is not None:
        start = results.start.ratio if results.start else None
        what = "start of collector filter / of its libraries"
        yield _at_most(what, limits.start_of_imports_at_most, start, tolerance)
    peak = f"peak memory of collector filter: below {limits.peak_mb_below:g} MB"
    most = _exactly(median(medium.collector.peak_mb)) if medium else None
    yield _verdict(peak, most, lambda is_: is_.median < limits.peak_mb_below)
