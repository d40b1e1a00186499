"""The gate: measured figures against ``limits.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.data import CORPORA
from benchmarks.results import RATIOS, Results

__all__ = ["LIMITS", "Limits", "LimitsError", "Verdict", "judge", "read"]

LIMITS = Path(__file__).with_name("limits.toml")
"""The project's own limits."""

_Ratios = dict[str, dict[str, float]]
_KNOWN = {f"{over}/{under}" for over, under in RATIOS}


class LimitsError(ValueError):
    """A file of limits that cannot be used."""


class _Whole(msgspec.Struct, forbid_unknown_fields=True):
    """Limits of whole processes; see ``limits.toml`` for units."""

    cpu_ratio_at_most: float
    cpu_ratio_from_events: int
    peak_mb_below: float


class Limits(msgspec.Struct, forbid_unknown_fields=True):
    """Ceilings and floors of ratios, by ratio and corpus, and the limits of whole processes."""

    at_most: _Ratios
    at_least: _Ratios
    whole: _Whole


@dataclass(frozen=True, slots=True)
class Verdict:
    """One limit. ``holds`` is ``None`` where there was nothing to compare; ``text`` says why."""

    holds: bool | None
    text: str


def read(path: Path) -> Limits:
    """The limits of a file.

    Raises ``LimitsError`` for a file that cannot be read, and for a ratio or corpus that is never
    measured: such a limit would hold for ever.
    """
    try:
        limits = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Limits)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise LimitsError(f"{path.name}: {error}") from error
    for ratios in (limits.at_most, limits.at_least):
        if unknown := set(ratios) - _KNOWN:
            raise LimitsError(f"{path.name}: no such ratio: {', '.join(sorted(unknown))}")
        if unknown := {corpus for by in ratios.values() for corpus in by} - set(CORPORA):
            raise LimitsError(f"{path.name}: no such corpus: {', '.join(sorted(unknown))}")
    return limits


def judge(results: Results, limits: Limits) -> list[Verdict]:
    """Every limit, in the order of the file."""
    return [*_ratios(results, limits), *_whole(results, limits.whole)]


def _ratios(results: Results, limits: Limits) -> Iterator[Verdict]:
    measured = {
        (ratio, result.corpus): interval.median
        for result in results.corpora
        for ratio, interval in result.ratios.items()
    }
    for word, sign, ratios in (("at most", 1, limits.at_most), ("at least", -1, limits.at_least)):
        for ratio, by_corpus in ratios.items():
            for corpus, limit in by_corpus.items():
                found = measured.get((ratio, corpus))
                text = f"{ratio} on {corpus}: {word} {limit:g}"
                if found is None:
                    yield Verdict(None, f"{text}, not measured")
                else:
                    yield Verdict(sign * found <= sign * limit, f"{text}, is {found:.2f}")


def _whole(results: Results, limits: _Whole) -> Iterator[Verdict]:
    whole = results.whole
    cpu = f"CPU of collector filter / jq: at most {limits.cpu_ratio_at_most:g}"
    peak = f"peak memory of collector filter: below {limits.peak_mb_below:g} MB"
    if whole is None:
        yield Verdict(None, f"{cpu}, not measured")
        yield Verdict(None, f"{peak}, not measured")
        return
    if whole.events < limits.cpu_ratio_from_events:
        yield Verdict(None, f"{cpu}, not judged below {limits.cpu_ratio_from_events:,} events")
    else:
        ratio = whole.cpu_ratio.median
        yield Verdict(ratio <= limits.cpu_ratio_at_most, f"{cpu}, is {ratio:.2f}")
    most = median(whole.collector.peak_mb)
    yield Verdict(most < limits.peak_mb_below, f"{peak}, is {most:.0f}")
