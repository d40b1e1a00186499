"""Shared by all benchmarks: tables of figures, verdicts against ``limits.toml``, and output to the
terminal, to JSON, and to the tables between two markers of a page.

A benchmark is a function that measures, and adds to ``Figures`` a ``Table``, its ``values`` and a
``Verdict`` for each limit. ``run`` makes a command of it.
"""

from __future__ import annotations

import json
import random
import sys
import tomllib
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import gettempdir
from typing import Any, NamedTuple

LIMITS = Path(__file__).with_name("limits.toml")
"""The project's own limits."""
_RESAMPLES, _SEED = 2_000, 95


class BenchmarkError(Exception):
    """A contender did not do the job, so its times would mean nothing."""


class UsageError(Exception):
    """A file of limits, or a page for tables, that cannot be used."""


class Interval(NamedTuple):
    """A median, and the 95 % bootstrap interval around it."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return self.shown()

    def shown(self, digits: int = 2) -> str:
        """Format it with this many digits."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}–{self.high:.{digits}f})"


def interval(values: Sequence[float]) -> Interval:
    """Return the median over rounds, with a seeded percentile bootstrap."""
    rng = random.Random(_SEED)
    medians = sorted(median(rng.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    cut = round(_RESAMPLES * 0.025)
    return Interval(median(values), medians[cut], medians[-1 - cut])


def paired(numerator: Sequence[float], denominator: Sequence[float]) -> Interval:
    """Return the ratio of two contenders, computed round by round, so that disturbances of a round
    cancel out."""
    return interval([above / below for above, below in zip(numerator, denominator, strict=True)])


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that this share of the ordered values does not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope of the least-squares line."""
    x0, y0 = sum(xs) / len(xs), sum(ys) / len(ys)
    across = sum((x - x0) ** 2 for x in xs)
    return sum((x - x0) * (y - y0) for x, y in zip(xs, ys, strict=True)) / across


def peak_mb() -> float:
    """Return the peak resident memory of this process. ``getrusage`` would include the memory of
    the parent process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


Row = tuple[str, ...]


class Table(NamedTuple):
    """A table of text. ``rows`` are as wide as ``header``; the first column is left-aligned."""

    title: str
    header: Row
    rows: Sequence[Row]

    def text(self) -> str:
        """Format it for a terminal."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [self.title]
        for row in (self.header, ["-" * width for width in widths], *self.rows):
            first, *others = zip(row, widths, strict=True)
            cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def markdown(self) -> str:
        """Format it as Markdown."""
        rule = ("---", *("---:" for _ in self.header[1:]))
        lines = [f"| {' | '.join(row)} |" for row in (self.header, rule, *self.rows)]
        return "\n".join((f"**{self.title}**", "", *lines))


class Verdict(NamedTuple):
    """One limit. ``holds`` is ``None`` if there was nothing to compare; ``about`` names what to
    measure again on a failure."""

    holds: bool | None
    text: str
    about: tuple[str, ...] = ()


@dataclass
class Figures:
    """The results of one benchmark run. ``values`` go into JSON, and ``skipped`` says what was not
    measured, and why."""

    environment: dict[str, str] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    quick: bool = False
    skipped: dict[str, str] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)

    def table(self, title: str, header: Row, rows: Iterable[Row]) -> None:
        """Add a table, unless it is empty."""
        if found := tuple(rows):
            self.tables.append(Table(title, header, found))

    def limit(self, section: str, name: str) -> Any:
        """Return a limit; ``None`` if the file has none."""
        return self.limits.get(section, {}).get(name)

    def at_most(self, what: str, limit: float | None, found: Any, **more: Any) -> None:
        """Judge an upper limit of an ``Interval`` or a number."""
        self._judge(what, limit, found, is_most=True, **more)

    def at_least(self, what: str, limit: float | None, found: Any, **more: Any) -> None:
        """Judge a lower limit of an ``Interval`` or a number."""
        self._judge(what, limit, found, is_most=False, **more)

    def _judge(
        self,
        what: str,
        limit: float | None,
        found: Interval | float | None,
        *,
        is_most: bool,
        is_exact: bool = False,
        about: tuple[str, ...] = (),
    ) -> None:
        """A limit fails only if the whole interval is beyond it. After a quick measurement it may
        be missed by the tolerance, unless it ``is_exact``."""
        if limit is None:
            self.verdicts.append(Verdict(None, f"{what}: no limit"))
            return
        factor = self.limits["quick"]["tolerance"] if self.quick and not is_exact else 1.0
        allowed = "" if factor == 1 else f" (may miss it {factor:g} times)"
        text = f"{what}: at {'most' if is_most else 'least'} {limit:,g}{allowed}"
        if found is None:
            self.verdicts.append(Verdict(None, f"{text}, not measured", about))
            return
        of = found if isinstance(found, Interval) else Interval(found, found, found)
        holds = of.low <= limit * factor if is_most else of.high >= limit / factor
        told = str(of) if of.low < of.high else f"{of.median:,.2f}"
        self.verdicts.append(Verdict(holds, f"{text}, is {told}", about))

    def check(self, holds: bool | None, text: str) -> None:
        """Judge a condition that is not a number."""
        self.verdicts.append(Verdict(holds, text))

    def missed(self) -> set[str]:
        """Return what must be measured again."""
        return {each for of in self.verdicts if of.holds is False for each in of.about}


# -- limits ----------------------------------------------------------------------------------------


def read_limits(path: Path, python: tuple[int, ...] = sys.version_info[:2]) -> dict[str, Any]:
    """Return the limits in a file for a version of Python.

    Raises ``UsageError`` if a file cannot be read, or has a limit that the project's own file does
    not have, because nothing would measure it.
    """
    try:
        limits, own = (tomllib.loads(each.read_text("utf-8")) for each in (path, LIMITS))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path.name}: {error}") from error
    known = {name for name, _ in _leaves(own)}
    for name, value in _leaves(limits):
        if name not in known or isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"{path.name}: no such limit, or not a number: {'/'.join(name)}")
    newer = limits.pop("from_python", {})
    for since in sorted(newer, key=_version):
        if _version(since) <= python:
            _merge(limits, newer[since])
    return limits


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for name, value in other.items():
        if isinstance(value, dict):
            _merge(into.setdefault(name, {}), value)
        else:
            into[name] = value


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name))
    else:
        yield path, value


# -- a command -------------------------------------------------------------------------------------

Measure = Callable[[Namespace, Figures], object]
Options = Mapping[str, Mapping[str, Any]]
"""Further options, with the arguments of ``add_argument`` for each."""


def say(text: str) -> None:
    """Print the current measurement to stderr, for people who wait."""
    print(text, file=sys.stderr, flush=True)


def run(
    arguments: Sequence[str], section: str, about: str, measure: Measure, options: Options
) -> int:
    """Run a benchmark: measure, show, and judge with ``--check``; returns the exit code."""
    parser = ArgumentParser(f"python -m benchmarks {section}", description=about)
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer and shorter rounds")
    add("--check", action="store_true", help="exit 1 when a limit does not hold")
    add("--json", type=Path, metavar="PATH", help="write everything as JSON")
    add("--markdown", type=Path, metavar="PATH", action="append", default=[], help="rewrite tables")
    add("--limits", type=Path, metavar="PATH", default=LIMITS, help="other limits")
    add("--directory", type=Path, default=Path(gettempdir()), help="where data are kept meanwhile")
    add("--fluent-bit", metavar="PATH", help="Fluent Bit's executable, if it is in no usual place")
    for name, told in options.items():
        add(name, **told)
    given = parser.parse_args(arguments)
    try:
        figures = Figures(limits=read_limits(given.limits), quick=given.quick)
        for page in given.markdown:
            _around(page, section)
        given.directory.mkdir(parents=True, exist_ok=True)
    except (UsageError, OSError) as error:
        say(f"benchmarks: {error}")
        return 2
    try:
        measure(given, figures)
    except BenchmarkError as error:
        say(f"benchmarks: {error}")
        return 1
    _show(given, figures, section)
    if not given.check:
        return 0
    words = {True: "ok", False: "FAILED", None: "skipped"}
    print("\n".join(f"{words[each.holds]:<8}{each.text}" for each in figures.verdicts))
    return int(any(each.holds is False for each in figures.verdicts))


def _show(given: Namespace, figures: Figures, section: str) -> None:
    parts = [table.text() for table in figures.tables]
    parts += [f"skipped: {name}: {why}" for name, why in figures.skipped.items()]
    parts.append("\n".join(f"{name}  {value}" for name, value in figures.environment.items()))
    print("\n\n".join(parts))
    if given.json:
        shown = {name: getattr(figures, name) for name in ("environment", "quick", "skipped")}
        verdicts = [each._asdict() for each in figures.verdicts]
        told = {**shown, **figures.values, "tables": figures.tables, "verdicts": verdicts}
        text = json.dumps(told, indent=2, ensure_ascii=False)
        given.json.write_text(f"{text}\n", encoding="utf-8")
    for page in given.markdown:
        put(page, section, figures)


def put(page: Path, section: str, figures: Figures, last: str = "") -> None:
    """Write the tables between the markers of a section, and a last line that says how they were
    measured, unless another one is given. The rest of the page stays unchanged."""
    parts = [each.markdown() for each in figures.tables]
    skipped = [f"{name} ({why})" for name, why in figures.skipped.items()]
    if skipped:
        parts.append(f"Skipped: {'; '.join(skipped)}.")
    around = "; ".join(f"{name} {value}" for name, value in figures.environment.items())
    command = f"python -m benchmarks {section}".removesuffix(" benchmarks")
    measured = f"Measured by `{command}`: {around}." if around else f"Computed by `{command}`."
    parts.append(last or measured)
    before, after = _around(page, section)
    text = "\n\n".join(parts)
    with page.open("w", encoding="utf-8", newline="") as file:
        file.write(f"{before}\n{text}\n{after}")


def _around(page: Path, section: str) -> tuple[str, str]:
    """Return the text before and after the tables of a section, including markers and line ends.
    Raises ``UsageError`` unless both markers occur once, in order."""
    opening, closing = f"<!-- {section}:begin -->", f"<!-- {section}:end -->"
    with page.open(encoding="utf-8", newline="") as file:
        text = file.read()
    before, begin, rest = text.partition(opening)
    _, end, after = rest.partition(closing)
    if not begin or not end or opening in rest or closing in before + after:
        raise UsageError(f"{page.name} needs `{opening}` and `{closing}` once each, in this order")
    return before + begin, end + after
