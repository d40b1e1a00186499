"""Bar charts as SVG files for light and dark pages. The same figures give the same bytes. A chart
has its own background, so that the page may have any colour; the reader's setting chooses between
light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_COLOURS = {  # on a light and on a dark background
    "paper": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#e6edf3"),
    "faint": ("#59636e", "#9198a1"),
    "rule": ("#d8dee4", "#30363d"),
    "a": ("#0969da", "#58a6ff"),
    "c": ("#bc4c00", "#f0883e"),
}
_LIGHT, _DARK = (
    "".join(f".{name}{{fill:{both[which]}}}" for name, both in _COLOURS.items()) for which in (0, 1)
)
_STYLE = (
    "text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}"
    f"{_LIGHT}@media(prefers-color-scheme:dark){{{_DARK}}}"
)
_LETTER, _ROW, _TOP, _PIXELS = 6.7, 30.0, 68.0, 4.0
"""The average width of a letter (rather too wide), the height of a row, the top of the first row,
and the width of 1 %, in pixels."""


def bars(
    title: str, rows: Mapping[str, Sequence[tuple[float, str]]], names: Mapping[str, str]
) -> str:
    """Draw a chart of shares in %. A row has a name and one bar or several, each with a value and a
    colour; ``names`` are the colours' names."""
    parts: list[str] = []

    def text(
        x: float, y: float, said: str, colour: str = "ink", *, size: int = 12, at: str = ""
    ) -> None:
        anchor = f' text-anchor="{at}"' if at else ""
        place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}"{anchor}'
        parts.append(f'<text class="{colour}" {place}>{escape(said)}</text>')

    def box(x: float, y: float, width: float, height: float, colour: str) -> None:
        size = f'width="{width:.1f}" height="{height:.1f}"'
        parts.append(f'<rect class="{colour}" x="{x:.1f}" y="{y:.1f}" {size} rx="1"/>')

    left, bottom = 28 + _LETTER * max(map(len, rows)), _TOP + _ROW * len(rows)
    box(0, 0, left + 472, bottom + 36, "paper")
    text(20, 30, title, size=16)
    for tick in range(0, 101, 20):
        box(left + _PIXELS * tick, _TOP - 4, 1, bottom - _TOP + 4, "rule")
        text(left + _PIXELS * tick, bottom + 18, f"{tick} %", "faint", at="middle")
    for number, (name, values) in enumerate(rows.items()):
        y, thick = _TOP + _ROW * number, 20 / len(values)
        text(left - 10, y + 17, name, at="end")
        for place, (value, colour) in enumerate(values):
            top, end, figure = y + 3 + place * (thick + 1), left + _PIXELS * value, f"{value:.1f}"
            box(left, top, max(end - left, 1), thick, colour)
            box(end + 3, top, _LETTER * len(figure) + 6, thick, "paper")
            text(end + 6, top + thick / 2 + 4, figure, "faint", size=int(min(12, thick)))
    x = 20.0
    for colour, name in names.items():
        box(x, 43, 22, 10, colour)
        text(x + 28, 52, name)
        x += 48 + _LETTER * len(name)
    size = f'width="{left + 472:.0f}" height="{bottom + 36:.0f}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">'
    )
    return "\n".join([head, f"<style>{_STYLE}</style>", *parts, "</svg>\n"])
