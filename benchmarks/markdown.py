"""The tables in a Markdown file, between two markers, so that no figure there is typed by hand."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import Table, conditions, tables
from benchmarks.results import Results

__all__ = ["BEGIN", "END", "README", "MarkersError", "block", "check", "rewrite"]

BEGIN = "<!-- benchmarks:begin -->"
END = "<!-- benchmarks:end -->"
README = Path(__file__).resolve().parent.parent / "README.md"
"""The project's README."""


class MarkersError(ValueError):
    """A file that does not hold the two markers once each, in order."""


def block(results: Results) -> str:
    """The Markdown that goes between the markers."""
    parts = ["\n".join((f"**{table.title}**", "", *_lines(table))) for table in tables(results)]
    skipped = "; ".join(f"{name} ({why})" for name, why in results.skipped.items())
    if skipped:
        parts.append(f"Skipped: {skipped}.")
    parts.append(f"Measured by `python -m benchmarks`: {conditions(results)}.")
    return "\n\n".join(parts)


def _lines(table: Table) -> list[str]:
    rule = ("---", *("---:" for _ in table.header[1:]))
    return [f"| {' | '.join(row)} |" for row in (table.header, rule, *table.rows)]


def _around(text: str, path: Path) -> tuple[str, str]:
    """What comes before and after the block, markers included."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise MarkersError(f"{path.name} needs `{BEGIN}` and `{END}` once each, in this order")
    return before + begin, end + after


def check(path: Path) -> None:
    """Raise what ``rewrite`` would raise, before anything has been measured."""
    _around(path.read_text(encoding="utf-8"), path)


def rewrite(path: Path, results: Results) -> None:
    """Put the tables between the markers of a file; the rest of it stays as it is.

    The project's README gets the brief ones.

    Raises ``MarkersError`` if the markers are not there, ``OSError`` if the file is not.
    """
    shown = results.brief() if path == README else results
    # Line ends are kept as they are.
    with path.open(encoding="utf-8", newline="") as file:
        before, after = _around(file.read(), path)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"{before}\n{block(shown)}\n{after}")
