"""Bars as SVG files that can be read on light and on dark pages. The same figures give the same
bytes. A chart brings its own paper, so that the page around it may have any colour; which of the
two it is, the reader's setting decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_COLOURS = {  # on light and on dark paper
    "paper": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#e6edf3"),
    "faint": ("#59636e", "#9198a1"),
    "rule": ("#d8dee4", "#30363d"),
    "a": ("#0969da", "#58a6ff"),
    "c": ("#bc4c00", "#f0883e"),
}


def _style(which: int) -> str:
    return "".join(
        f".{n}{{fill:{c[which]}}}.l{n}{{stroke:{c[which]}}}" for n, c in _COLOURS.items()
    )


_STYLE = (
    "text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}"
    "path{fill:none}" + _style(0) + f"@media(prefers-color-scheme:dark){{{_style(1)}}}"
)
_WIDEST_LETTER = 0.56
"""Of the size of a font, for the average letter of a usual sans serif; rather too wide."""
_ROW, _TOP, _PIXELS = 30.0, 68.0, 4.0


def _width(text: str) -> float:
    return len(text) * 12 * _WIDEST_LETTER


class _Drawing:
    """Shapes in pixels, from the upper left."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self._size, self._title = (width, height), title
        self._parts: list[str] = []
        self.text(20, 30, title, size=16, weight="600")

    def text(
        self, x: float, y: float, text: str, colour: str = "ink", size: int = 12, **more: str
    ) -> None:
        """A line of text; ``y`` is its base."""
        weight, anchor = more.get("weight", "400"), more.get("anchor", "start")
        self._parts.append(
            f'<text class="{colour}" x="{x:.1f}" y="{y:.1f}" font-size="{size}"'
            f' font-weight="{weight}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def rule(self, x: float, top: float, bottom: float) -> None:
        """A line from the top to the bottom."""
        path = f"M{x:.1f} {top:.1f}L{x:.1f} {bottom:.1f}"
        self._parts.append(f'<path class="lrule" d="{path}" stroke-width="1"/>')

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle."""
        self._parts.append(
            f'<rect class="{colour}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}"'
            f' height="{height:.1f}" rx="2"/>'
        )

    def svg(self) -> str:
        """Return the document."""
        wide, high = (f"{each:.0f}" for each in self._size)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}"'
            f' viewBox="0 0 {wide} {high}" role="img" aria-label="{escape(self._title)}">'
        )
        paper = f'<rect class="paper" width="{wide}" height="{high}" rx="6"/>'
        return "\n".join([head, f"<style>{_STYLE}</style>", paper, *self._parts, "</svg>"]) + "\n"


def bars(
    title: str, rows: Mapping[str, Sequence[tuple[float, str]]], names: Mapping[str, str]
) -> str:
    """Draw a chart of shares in %. A row has a name and one bar or several, each a value and a
    colour; ``names`` are those of the colours."""
    left, bottom = 28 + max(map(_width, rows)), _TOP + _ROW * len(rows)
    drawing = _Drawing(left + 472, bottom + 36, title)
    for tick in range(0, 101, 20):
        x = left + _PIXELS * tick
        drawing.rule(x, _TOP - 4, bottom)
        drawing.text(x, bottom + 18, f"{tick} %", "faint", anchor="middle")
    for number, (name, values) in enumerate(rows.items()):
        y, thick = _TOP + _ROW * number, 20 / len(values)
        drawing.text(left - 10, y + 17, name, anchor="end")
        for place, (value, colour) in enumerate(values):
            at, end, figure = y + 3 + place * (thick + 1), left + _PIXELS * value, f"{value:.1f}"
            drawing.bar(left, at, max(end - left, 1), thick, colour)
            drawing.bar(end + 3, at, _width(figure) + 6, thick, "paper")
            drawing.text(end + 6, at + thick / 2 + 4, figure, "faint", int(min(12, thick)))
    x = 20.0
    for colour, name in names.items():
        drawing.bar(x, 43, 22, 10, colour)
        drawing.text(x + 28, 52, name)
        x += 48 + _width(name)
    return drawing.svg()
