"""Tests that try rows of data in turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.rows import for_each


def test_a_row_that_fails_is_named(tmp_path: Path) -> None:
    """The rows before it run, each in its own empty folder. The exception keeps its type."""
    tried = list[tuple[int, str]]()

    @for_each(("number", "text"), [(1, "a"), (2, "b"), (3, "c")])
    def row(number: int, text: str, tmp_path: Path) -> None:
        tried.append((number, text))
        assert not [*tmp_path.iterdir()]
        (tmp_path / text).touch()
        assert number < 2, text

    with pytest.raises(AssertionError, match="b") as caught:
        row(tmp_path=tmp_path)
    assert tried == [(1, "a"), (2, "b")]
    assert caught.value.__notes__ == ["with number = 2, text = 'b'"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["0", "1", "a", "b"]


def test_a_row_that_raises_nothing_is_named() -> None:
    """``pytest.raises`` raises something other than ``Exception`` then, as a time-out does."""

    @for_each("number", [1, 2, 3])
    def row(number: int) -> None:
        with pytest.raises(ZeroDivisionError):
            _ = 1 // (number - 1)

    with pytest.raises(pytest.fail.Exception) as caught:
        row()
    assert caught.value.__notes__ == ["with number = 2"]


def test_no_rows() -> None:
    """A test without rows would pass."""
    with pytest.raises(ValueError, match="no row"):
        for_each("number", [])
