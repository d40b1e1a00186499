"""Names, ids and numbers: what is well formed, and that none of them is a path."""

from __future__ import annotations

from collector.recording.names import (
    MAX_CHUNK_NUMBER,
    MIXED,
    chunk_number,
    is_name,
    is_pseudonym,
    is_recording,
    new_recording,
)
from tests.support.rows import for_each


@for_each("name", ["a", "A-1_b", "0", "x" * 64])
def test_names(name: str) -> None:
    """Letters, digits, ``_`` and ``-``, at most 64."""
    assert is_name(name)
    assert is_pseudonym(name)


@for_each(
    "text",
    [
        "",
        "-a",
        "_a",
        "a.b",
        "a/b",
        "..",
        "%2e",
        "a b",
        "a\n",
        "é",
        "٣",
        "x" * 65,
        "a\0",
    ],
)
def test_what_is_no_name(text: str) -> None:
    assert not is_name(text)
    assert not is_pseudonym(text)
    assert not is_recording(text)


def test_mixed_is_no_pseudonym() -> None:
    """A member of that pseudonym would own every mixed track."""
    assert is_name(MIXED)
    assert not is_pseudonym(MIXED)


def test_recordings() -> None:
    """Each is new, and written in one way."""
    assert is_recording(new_recording())
    assert new_recording() != new_recording()
    assert not is_recording("A" * 32)
    assert not is_recording("a" * 31)


@for_each(
    ("text", "number"),
    [
        ("0", 0),
        ("10", 10),
        (str(MAX_CHUNK_NUMBER), MAX_CHUNK_NUMBER),
        (str(MAX_CHUNK_NUMBER + 1), None),
        ("9" * 10, None),
        ("9" * 5000, None),
        ("01", None),
        ("-1", None),
        ("+1", None),
        ("1_0", None),
        (" 1", None),
        ("1\n", None),
        ("١", None),
        ("", None),
    ],
)
def test_chunk_numbers(text: str, number: int | None) -> None:
    """A number is written in one way only."""
    assert chunk_number(text) == number
