"""A document of headings, sentences, lists and tables, written as Markdown or as HTML.

Texts are plain; each form escapes all of them. The HTML is one file, has no scripts, and loads
nothing; its tables have heads for columns and rows, and can be scrolled by keyboard.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_MARKS = re.compile(r"([\\`*_\[\]<>|~&])")
_AT_START = re.compile(r"^([-+=#]|\d+(?=[.)]))")
_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "div{overflow-x:auto}table{border-collapse:collapse}tbody th{font-weight:normal}"
    "th,td{border:1px solid #999;padding:.3rem .6rem;text-align:left;vertical-align:top}"
)


@dataclass(frozen=True)
class Heading:
    """A heading; the first level is the title."""

    level: int
    text: str


@dataclass(frozen=True)
class Sentence:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class BulletList:
    """A list."""

    texts: Sequence[str]


@dataclass(frozen=True)
class DataTable:
    """A table with a head; the first cell of a row is its heading."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


Block = Heading | Sentence | BulletList | DataTable


def as_markdown(blocks: Iterable[Block]) -> str:
    """Write the document in GitHub's Markdown."""
    return "\n\n".join("\n".join(_markdown(block)) for block in blocks) + "\n"


def as_html(blocks: Sequence[Block], language: str) -> str:
    """Write the document in HTML 5."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "")
    body = "\n".join(_body(blocks, title))
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!DOCTYPE html>\n<html lang="{html.escape(language)}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _markdown(block: Block) -> Iterator[str]:
    match block:
        case Heading(level, text):
            yield f"{'#' * level} {_escaped(text)}"
        case Sentence(text):
            yield _escaped(text)
        case BulletList(texts):
            yield from (f"- {_escaped(text)}" for text in texts)
        case DataTable(head, rows):
            yield _line(map(_escaped, head))
            yield _line(["---"] * len(head))
            yield from (_line(map(_escaped, row)) for row in rows)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Escape a text, on one line, so that no character of it is markup."""
    line = _MARKS.sub(r"\\\1", " ".join(text.split()))
    return _AT_START.sub(lambda found: _at_start(found[1]), line)


def _at_start(mark: str) -> str:
    """Escape the start of a list or a rule; of a numbered list, its dot."""
    return f"{mark}\\" if mark[0].isdigit() else f"\\{mark}"


def _body(blocks: Iterable[Block], title: str) -> Iterator[str]:
    """Write the blocks, each with the heading above it."""
    heading = title
    for block in blocks:
        heading = block.text if isinstance(block, Heading) else heading
        yield from _html(block, heading)


def _html(block: Block, heading: str) -> Iterator[str]:
    match block:
        case Heading(level, text):
            yield f"<h{level}>{html.escape(text)}</h{level}>"
        case Sentence(text):
            yield f"<p>{html.escape(text)}</p>"
        case BulletList(texts):
            yield "<ul>"
            yield from (f"<li>{html.escape(text)}</li>" for text in texts)
            yield "</ul>"
        case DataTable(head, rows):
            yield f'<div role="region" aria-label="{html.escape(heading)}" tabindex="0">'
            columns = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
            yield f"<table>\n<thead><tr>{columns}</tr></thead>\n<tbody>"
            yield from map(_row, rows)
            yield "</tbody>\n</table>\n</div>"


def _row(cells: Sequence[str]) -> str:
    first, *others = map(html.escape, cells)
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'
