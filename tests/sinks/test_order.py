"""Places of rows: mixed with all that came lately, in a table that grows at its end."""

from __future__ import annotations

from itertools import pairwise

import pytest

from collector.contracts import Row
from collector.sinks.order import Places, shuffled

_MINUTE = "2026-11-24T10:20:00Z"
_LAST = (1 << 63) - 1


def _rows(first: int, number: int) -> list[Row]:
    return [(value, 1) for value in range(first, first + number)]


def test_rows_get_a_place_and_their_minute() -> None:
    """In the order of places, each row whole, places positive and different."""
    placed = Places(0).rows([(_MINUTE, _rows(0, 500)), ("later", _rows(500, 500))])
    assert sorted(row[2:] for row in placed) == _rows(0, 1000)
    assert all(row[1] == (_MINUTE if row[2] < 500 else "later") for row in placed)  # type: ignore[operator]
    numbers = [row[0] for row in placed]
    assert all(0 <= a < b <= _LAST for a, b in pairwise(numbers))  # type: ignore[operator]


def test_what_comes_together_does_not_lie_together() -> None:
    """A hundred requests of ten, each a transaction: neighbours are of the same one as often as
    chance wants it, 9 times in 1,000, and not 900."""
    places, table = Places(0), list[tuple[object, int]]()
    for request in range(100):
        rows = places.rows([(_MINUTE, [(request, 1)] * 10)])
        places.taken(len(rows))
        table += [(row[0], request) for row in rows]
    table.sort()
    together = sum(one[1] == other[1] for one, other in pairwise(table))
    assert together < 40


def test_the_last_rows_do_not_lie_alone() -> None:
    """Of the last hundred of 50,000, hardly any two are neighbours; and what is far from the end is
    not touched any more, so that a table grows at its end."""
    places, table = Places(0), list[tuple[object, int]]()
    for number in range(500):
        rows = places.rows([(_MINUTE, [(number, 1)] * 100)])
        places.taken(len(rows))
        table += [(row[0], number) for row in rows]
    table.sort()
    order = [number for _, number in table]
    assert sum(a == b == 499 for a, b in pairwise(order)) < 20  # three, as a rule
    assert min(order[25_000:]) > 150
    assert max(order[:25_000]) < 350


@pytest.mark.parametrize("last", [0, 1, 1 << 36, 1 << 50, _LAST - 1, _LAST])
def test_a_table_that_is_there_goes_on(last: int) -> None:
    """Among the newest rows of it, and never beyond the highest number there is."""
    places = Places(last)
    for _ in range(3):
        numbers = [row[0] for row in places.rows([(_MINUTE, _rows(0, 1000))])]
        assert max(0, last - (1 << 37)) <= min(numbers) < max(numbers) <= _LAST  # type: ignore[type-var, operator]
        places.taken(1000)


def test_shuffled_is_the_same_in_another_order() -> None:
    """1,000 in order by chance: 1 in 1,000!."""
    items = list(range(1000))
    assert sorted(shuffled(items)) == items != shuffled(items)
    assert shuffled([]) == []


def test_rows_that_were_numbered_anew_are_left_behind() -> None:
    """A table that was made anew is dense: the next rows go behind all of it, as a place among it
    is taken. In any other they go among the newest."""
    assert Places(1_000_000).base == 1_000_000
    assert Places(1 << 37).base == 1 << 36
    assert Places(0).base == 0
