"""Bars as SVG files that can be read on light and on dark pages. The same figures give the same
bytes. A chart brings its own paper, so that the page around it may have any colour; which of the
two it is, the reader's setting decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import floor, log10
from typing import NamedTuple

_COLOURS = {  # on light and on dark paper
    "paper": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#e6edf3"),
    "faint": ("#59636e", "#9198a1"),
    "rule": ("#d8dee4", "#30363d"),
    "a": ("#0969da", "#58a6ff"),
    "b": ("#6e7781", "#8b949e"),
    "c": ("#bc4c00", "#f0883e"),
}


def _style(which: int) -> str:
    return "".join(
        f".{n}{{fill:{c[which]}}}.l{n}{{stroke:{c[which]}}}" for n, c in _COLOURS.items()
    )


_STYLE = (
    "text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}"
    "path,line{fill:none}" + _style(0) + f"@media(prefers-color-scheme:dark){{{_style(1)}}}"
)
_WIDEST_LETTER = 0.56
"""Of the size of a font, for the average letter of a usual sans serif; rather too wide."""
_ROW, _TOP = 30.0, 88.0


def _width(text: str) -> float:
    return len(text) * 12 * _WIDEST_LETTER


class _Drawing:
    """Shapes in pixels, from the upper left."""

    def __init__(self, width: float, height: float, title: str, about: str) -> None:
        self._size, self._title = (width, height), title
        self._parts: list[str] = []
        self.text(20, 30, title, size=16, weight="600")
        self.text(20, 50, about, colour="faint")

    def text(
        self, x: float, y: float, text: str, colour: str = "ink", size: int = 12, **more: str
    ) -> None:
        """A line of text; ``y`` is its base."""
        weight, anchor = more.get("weight", "400"), more.get("anchor", "start")
        self._parts.append(
            f'<text class="{colour}" x="{x:.1f}" y="{y:.1f}" font-size="{size}"'
            f' font-weight="{weight}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def line(
        self, points: Iterable[tuple[float, float]], colour: str, dash: str = "", width: float = 1
    ) -> None:
        """A line through points."""
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(f'<path class="l{colour}" d="M{path}" stroke-width="{width}"{dashes}/>')

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle."""
        self._parts.append(
            f'<rect class="{colour}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}"'
            f' height="{height:.1f}" rx="2"/>'
        )

    def legend(self, entries: Iterable[tuple[str, str, str]]) -> None:
        """Colour, dashes (or ``bar``) and name of each, in a row."""
        x, y = 20.0, 72.0
        for colour, look, name in entries:
            if look == "bar":
                self.bar(x, y - 9, 22, 10, colour)
            else:
                self.line([(x, y - 4), (x + 22, y - 4)], colour, look, 2)
            self.text(x + 28, y, name)
            x += 48 + _width(name)

    def across(self, scale: _Scale, between: tuple[float, float], name: str) -> None:
        """The axis at the foot, with a rule at each tick; labels that would touch are left out."""
        top, bottom = between
        free = -40.0
        for tick in scale.ticks:
            x = scale(tick)
            self.line([(x, top), (x, bottom)], "rule")
            if x - free >= 40:
                self.text(x, bottom + 18, f"{tick:g}", "faint", anchor="middle")
                free = x
        self.text((scale.start + scale.end) / 2, bottom + 42, name, anchor="middle")

    def svg(self) -> str:
        """Return the document."""
        wide, high = (f"{each:.0f}" for each in self._size)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}"'
            f' viewBox="0 0 {wide} {high}" role="img" aria-label="{escape(self._title)}">'
        )
        paper = f'<rect class="paper" width="{wide}" height="{high}" rx="6"/>'
        return "\n".join([head, f"<style>{_STYLE}</style>", paper, *self._parts, "</svg>"]) + "\n"


class _Scale(NamedTuple):
    """From numbers, from zero on, to pixels."""

    high: float
    start: float
    end: float
    ticks: Sequence[float]

    def __call__(self, value: float) -> float:
        return self.start + value / self.high * (self.end - self.start)


def _linear(high: float, start: float, end: float) -> _Scale:
    """From zero to at least ``high``, with about five ticks."""
    decades = range(floor(log10(high)) - 2, floor(log10(high)) + 1)
    steps = [step * 10.0**decade for decade in decades for step in (1, 2, 2.5, 5)]
    step = next(step for step in steps if high / step <= 6)
    return _Scale(high, start, end, [step * number for number in range(int(high / step) + 1)])


def bars(
    titles: tuple[str, str],
    unit: str,
    rows: Mapping[str, Sequence[tuple[float, str]]],
    names: Mapping[str, str],
    floor_: float | None = None,
) -> str:
    """Draw a chart with a title and a line below it. A row has a name and one bar or several, each
    a value and a colour; ``names`` are those of the colours. The floor is a line across all."""
    left = 28 + max(map(_width, rows))
    bottom, high = _TOP + _ROW * len(rows), max(v for each in rows.values() for v, _ in each)
    drawing = _Drawing(left + 472, bottom + 58, *titles)
    scale = _linear(high or 1, left, left + 400)
    drawing.across(scale, (_TOP - 4, bottom), unit)
    if floor_ is not None:
        drawing.line([(scale(floor_), _TOP - 4), (scale(floor_), bottom)], "c", "5 4", 1.5)
    for number, (name, values) in enumerate(rows.items()):
        y, thick = _TOP + _ROW * number, 20 / len(values)
        drawing.text(left - 10, y + 17, name, anchor="end")
        for place, (value, colour) in enumerate(values):
            at, figure = y + 3 + place * (thick + 1), f"{value:.1f}"
            drawing.bar(left, at, max(scale(value) - left, 1), thick, colour)
            drawing.bar(scale(value) + 3, at, _width(figure) + 6, thick, "paper")
            drawing.text(scale(value) + 6, at + thick / 2 + 4, figure, "faint", int(min(12, thick)))
    drawing.legend(
        (colour, "5 4" if colour == "c" else "bar", name) for colour, name in names.items()
    )
    return drawing.svg()
