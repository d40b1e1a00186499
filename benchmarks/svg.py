"""A small writer of SVG charts that can be read on light and on dark pages.

The same drawing gives the same bytes. A chart brings its own paper, so that the page around it may
have any colour; which of the two it is, the reader's setting decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from math import floor, log10

_LIGHT = {
    "paper": "#ffffff",
    "ink": "#1f2328",
    "faint": "#59636e",
    "rule": "#d8dee4",
    "a": "#0969da",
    "b": "#6e7781",
    "c": "#bc4c00",
}
_DARK = {
    "paper": "#0d1117",
    "ink": "#e6edf3",
    "faint": "#9198a1",
    "rule": "#30363d",
    "a": "#58a6ff",
    "b": "#8b949e",
    "c": "#f0883e",
}
_WIDEST_LETTER = 0.56
"""Of the size of a font, for the average letter of a usual sans serif; rather too wide."""


def _colours(colours: dict[str, str]) -> str:
    return "".join(
        f".{name}{{fill:{colour}}}.l{name}{{stroke:{colour}}}" for name, colour in colours.items()
    )


_STYLE = (
    "text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}"
    "path,line{fill:none}"
    f"{_colours(_LIGHT)}@media(prefers-color-scheme:dark){{{_colours(_DARK)}}}"
)


def width_of(text: str, size: float = 12) -> float:
    """About how wide a text is drawn, in pixels."""
    return len(text) * size * _WIDEST_LETTER


@dataclass(slots=True)
class Drawing:
    """Shapes in pixels, from the upper left. Colours are ``paper``, ``ink``, ``faint``, ``rule``,
    and ``a``, ``b``, ``c`` for what is compared."""

    width: float
    height: float
    title: str
    parts: list[str] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        colour: str = "ink",
        size: int = 12,
        anchor: str = "start",
        bold: bool = False,
        turned: bool = False,
    ) -> None:
        """A line of text; ``anchor`` is ``start``, ``middle`` or ``end``; ``y`` is its base."""
        more = ' font-weight="600"' if bold else ""
        if turned:
            more += f' transform="rotate(-90 {x:.1f} {y:.1f})"'
        self.parts.append(
            f'<text class="{colour}" x="{x:.1f}" y="{y:.1f}" font-size="{size}"'
            f' text-anchor="{anchor}"{more}>{escape(text)}</text>'
        )

    def line(
        self,
        points: Iterable[tuple[float, float]],
        colour: str,
        *,
        dash: str = "",
        width: float = 1,
    ) -> None:
        """A line through points; ``dash`` as SVG writes it."""
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<path class="l{colour}" d="M{path}" stroke-width="{width:g}"{dashes}/>')

    def dot(self, x: float, y: float, colour: str) -> None:
        """A round mark."""
        self.parts.append(f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle."""
        self.parts.append(
            f'<rect class="{colour}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}"'
            f' height="{height:.1f}" rx="2"/>'
        )

    def svg(self) -> str:
        """Return the document."""
        size = f"{self.width:.0f} {self.height:.0f}"
        wide, high = size.split()
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}"'
            f' viewBox="0 0 {size}" role="img" aria-label="{escape(self.title)}">'
        )
        paper = f'<rect class="paper" width="{wide}" height="{high}" rx="6"/>'
        return "\n".join([head, f"<style>{_STYLE}</style>", paper, *self.parts, "</svg>"]) + "\n"


@dataclass(frozen=True, slots=True)
class Scale:
    """From numbers to pixels. On a logarithmic one, zero has a place of its own at the start."""

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[float]
    is_log: bool

    def __call__(self, value: float) -> float:
        if not self.is_log:
            share = (value - self.low) / (self.high - self.low)
        else:
            share = log10(max(value, self.low) / self.low) / log10(self.high / self.low)
        return self.start + share * (self.end - self.start)


def _nice(low: float, high: float, steps: Sequence[float]) -> list[float]:
    """Return the numbers ``step`` times a power of ten that lie between two others."""
    decades = range(floor(log10(low)), floor(log10(high)) + 1)
    found = [step * 10.0**decade for decade in decades for step in steps]
    return [tick for tick in found if low * 0.999 <= tick <= high * 1.001]


def linear(high: float, start: float, end: float) -> Scale:
    """From zero to at least ``high``, with about five ticks."""
    step = next(s for s in _nice(high / 100, high, (1, 2, 2.5, 5)) if high / s <= 6)
    count = int(high / step) + 1
    return Scale(0, high, start, end, [step * number for number in range(count)], is_log=False)


def logarithmic(values: Iterable[float], start: float, end: float) -> Scale:
    """Around positive values, with a little room; a zero among them is put half a decade lower."""
    known = sorted(values)
    positive = [value for value in known if value > 0]
    low, high = positive[0] / 1.25, positive[-1] * 1.25
    few = high / low < 300
    ticks = _nice(low, high, (1, 2, 5) if few else (1,))
    if known[0] == 0:
        low = positive[0] / 10**0.5
        ticks = [0, *ticks]
    return Scale(low, high, start, end, ticks, is_log=True)


def label(value: float, unit: str = "") -> str:
    """Return a number as a tick says it; bytes in KB and MB of thousands."""
    if unit == "bytes" and value >= 1_000:
        return f"{value / 1e6:g} MB" if value >= 1e6 else f"{value / 1e3:g} KB"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"
