"""The tables in a Markdown file, between two markers, so that no figure there is typed by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.report import Table, tables
from benchmarks.results import Results

_FILTER = "benchmarks"
BEGIN = f"<!-- {_FILTER}:begin -->"
END = f"<!-- {_FILTER}:end -->"
BRIEF_PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
"""The page that gets the tables of the plain corpora only."""


class MarkersError(ValueError):
    """A file that does not hold the two markers once each, in order."""


def block(results: Results) -> str:
    """Return the Markdown that goes between the markers."""
    return written(tables(results), results.skipped, results.environment, "python -m benchmarks")


def written(
    shown: Iterable[Table], skipped: Mapping[str, str], around: Mapping[str, str], command: str
) -> str:
    """Return tables in Markdown, what was skipped, and how it was measured."""
    parts = ["\n".join((f"**{table.title}**", "", *_lines(table))) for table in shown]
    if skipped:
        parts.append(f"Skipped: {'; '.join(f'{name} ({why})' for name, why in skipped.items())}.")
    conditions = "; ".join(f"{name} {value}" for name, value in around.items())
    parts.append(f"Measured by `{command}`: {conditions}.")
    return "\n\n".join(parts)


def _lines(table: Table) -> list[str]:
    rule = ("---", *("---:" for _ in table.header[1:]))
    return [f"| {' | '.join(row)} |" for row in (table.header, rule, *table.rows)]


def _around(text: str, path: Path, name: str) -> tuple[str, str]:
    """Return what comes before and after the block, markers included."""
    opening, closing = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, begin, rest = text.partition(opening)
    _, end, after = rest.partition(closing)
    if not begin or not end or opening in rest or closing in before + after:
        raise MarkersError(
            f"{path.name} needs `{opening}` and `{closing}` once each, in this order"
        )
    return before + begin, end + after


def check(path: Path, name: str = _FILTER) -> None:
    """Raise what ``put`` would raise, before anything has been measured."""
    _around(path.read_text(encoding="utf-8"), path, name)


def rewrite(path: Path, results: Results) -> None:
    """Put the tables between the markers of a file: in ``BRIEF_PAGE`` the brief ones.

    Raises what ``put`` raises.
    """
    put(path, block(results.brief() if path.resolve() == BRIEF_PAGE else results))


def put(path: Path, text: str, name: str = _FILTER) -> None:
    """Put a text between the markers of that name in a file; the rest of it stays as it is.

    Raises ``MarkersError`` if the markers are not there, ``OSError`` if the file is not.
    """
    # Line ends are kept as they are.
    with path.open(encoding="utf-8", newline="") as file:
        before, after = _around(file.read(), path, name)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"{before}\n{text}\n{after}")
