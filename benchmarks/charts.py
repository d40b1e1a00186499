"""The figures as charts, one SVG file each: bars for a corpus, lines for a curve of growth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.growth.curve import Curve
from benchmarks.growth.jobs import TITLES
from benchmarks.growth.summary import exponent, per_unit
from benchmarks.results import CorpusResult, Results
from benchmarks.svg import Drawing, Scale, label, linear, logarithmic, width_of

_FLOOR = "bare"
_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 76.0, 692.0, 96.0, 362.0
_LOOKS = {"ours": ("a", ""), "bare": ("b", "6 4"), "orjson_projection": ("c", "")}
_ROW, _BAR, _BARS_WIDE = 30.0, 18.0, 400.0
_CLOSEST = 40.0


def draw(results: Results, folder: Path) -> list[Path]:
    """Write a chart for each corpus and each curve, and return the files.

    The folder is made if it is not there. Raises ``OSError`` if it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    charts = {f"corpus-{r.corpus}": bars(r, results) for r in results.corpora}
    charts |= {f"growth-{curve.name}": lines(curve) for curve in results.growth}
    written = []
    for name, text in charts.items():
        path = folder / f"{name}.svg"
        path.write_text(text, encoding="utf-8", newline="\n")
        written.append(path)
    return written


def bars(result: CorpusResult, results: Results) -> str:
    """One bar for each contender that was timed, and the floor as a line across all of them."""
    rows = {n: t for n in results.titles if (t := result.typical(n)) is not None}
    left = 28 + max(width_of(results.titles[name]) for name in rows)
    bottom = _TOP - 8 + _ROW * len(rows)
    drawing = Drawing(left + _BARS_WIDE + 72, bottom + 58, f"Corpus {result.corpus}")
    about = f"{result.what}; {result.bytes_per_event / 1_000:.1f} KB per event"
    _headline(drawing, f"Corpus {result.corpus}", about)
    scale = linear(max(rows.values()), left, left + _BARS_WIDE)
    _across(drawing, scale, (_TOP - 12, bottom), "µs of CPU per event", "")
    entries: dict[str, str] = {}
    for number, (name, time) in enumerate(rows.items()):
        y = _TOP - 8 + _ROW * number
        checks = results.checks_values.get(name, False)
        drawing.bar(left, y + 4, scale(time) - left, _BAR, "a" if checks else "b")
        drawing.text(left - 10, y + 17, results.titles[name], anchor="end")
        entries["a" if checks else "b"] = "checks values" if checks else "does not check them"
    if _FLOOR in rows:
        x = scale(rows[_FLOOR])
        drawing.line([(x, _TOP - 12), (x, bottom)], "c", dash="5 4", width=1.5)
        entries["c"] = "floor"
    _figures(drawing, scale, rows.values())
    _legend(drawing, [(c, "5 4" if c == "c" else "bar", entries[c]) for c in sorted(entries)])
    return drawing.svg()


def _figures(drawing: Drawing, scale: Scale, times: Iterable[float]) -> None:
    """The times at the ends of their bars, on paper of their own, so that no line crosses them."""
    for number, time in enumerate(times):
        figure, x, y = f"{time:.1f}", scale(time), _TOP - 8 + _ROW * number
        drawing.bar(x + 3, y + 4, width_of(figure) + 6, _BAR, "paper")
        drawing.text(x + 6, y + 17, figure, colour="faint")


def lines(curve: Curve) -> str:
    """Both axes are logarithmic: a straight line through zero rises by one decade per decade."""
    drawing = Drawing(_WIDTH, _HEIGHT, curve.title)
    _headline(drawing, curve.title, _verdict(curve))
    xs = [point.x for point in curve.points]
    times = [point.typical(job) for point in curve.points for job in curve.jobs]
    across = logarithmic(xs, _LEFT, _RIGHT)
    up = logarithmic(times, _BOTTOM, _TOP)
    _across(drawing, across, (_TOP, _BOTTOM), curve.unit, curve.unit)
    _up(drawing, up, f"µs of CPU per {_one(curve) if curve.per_call else 'event'}")
    entries = []
    for job in sorted(curve.jobs, key=list(_LOOKS).index, reverse=True):
        colour, dash = _LOOKS[job]
        places = [(across(p.x), up(p.typical(job))) for p in curve.points]
        drawing.line(places, colour, dash=dash, width=2)
        for x, y in places:
            drawing.dot(x, y, colour)
        entries.append((colour, dash, TITLES[job]))
    _legend(drawing, entries[::-1])
    return drawing.svg()


def _verdict(curve: Curve) -> str:
    """Return what the upper half of the curve says about the collector."""
    if curve.per_call:
        return f"Flat is linear: exponent {exponent(curve)} over the upper half"
    return (
        f"Upper half: exponent {exponent(curve)} (1 is linear), "
        f"{per_unit(curve)} ns per {_one(curve)} in the collector"
    )


def _one(curve: Curve) -> str:
    return curve.unit.removesuffix("s")


def _headline(drawing: Drawing, title: str, about: str) -> None:
    drawing.text(20, 30, title, size=16, bold=True)
    drawing.text(20, 50, about, colour="faint")


def _legend(drawing: Drawing, entries: Sequence[tuple[str, str, str]]) -> None:
    """Colour, dashes (or ``bar``) and name of each, in a row."""
    x, y = 20.0, 72.0
    for colour, look, name in entries:
        if look == "bar":
            drawing.bar(x, y - 9, 22, 10, colour)
        else:
            drawing.line([(x, y - 4), (x + 22, y - 4)], colour, dash=look, width=2)
        drawing.text(x + 28, y, name)
        x += 28 + width_of(name) + 20


def _across(
    drawing: Drawing, scale: Scale, between: tuple[float, float], name: str, unit: str
) -> None:
    """The axis at the foot, with a rule at each tick; labels that would touch are left out."""
    top, bottom = between
    free = -_CLOSEST
    for tick in scale.ticks:
        x = scale(tick)
        drawing.line([(x, top), (x, bottom)], "rule")
        if x - free >= _CLOSEST:
            drawing.text(x, bottom + 18, label(tick, unit), colour="faint", anchor="middle")
            free = x
    middle = (scale.start + scale.end) / 2
    drawing.text(middle, bottom + 42, name, anchor="middle")


def _up(drawing: Drawing, scale: Scale, name: str) -> None:
    for tick in scale.ticks:
        y = scale(tick)
        drawing.line([(_LEFT, y), (_RIGHT, y)], "rule")
        drawing.text(_LEFT - 8, y + 4, label(tick), colour="faint", anchor="end")
    drawing.text(20, (scale.start + scale.end) / 2, name, anchor="middle", turned=True)
