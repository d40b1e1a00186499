"""The page about the benchmarks names what there is, and explains every word of the tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import contenders
from benchmarks.data import CORPORA

PAGE = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def table(first: str) -> list[str]:
    """The first column of the table whose first heading that is."""
    _, _, rest = PAGE.partition(f"\n| {first} |")
    rows = re.match(r".*\n\|[-| ]+\n((?:\|.*\n)+)", rest)
    assert rows is not None
    return [row.split("|")[1].strip(" `") for row in rows[1].splitlines()]


def test_page_lists_contenders_and_corpora() -> None:
    """All of them, in the order of the tables."""
    assert table("contender") == list(contenders.NAMES)
    assert table("corpus") == list(CORPORA)


@pytest.mark.parametrize("name", contenders.NAMES)
def test_page_explains_what_is_not_done(name: str) -> None:
    """Every word of the column stands in the table of words."""
    ready, obstacles = contenders.load([name])
    if not ready:
        pytest.skip(obstacles[name])
    (contender,) = ready
    words = [] if contender.does_not == "–" else re.split(r"[,;] ", contender.does_not)
    assert set(words) <= set(table("word"))
    assert ("check" in words) != contender.checks_values
