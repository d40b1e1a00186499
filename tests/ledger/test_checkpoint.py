"""A checkpoint as a file: what is written is read, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import InputError
from collector.ledger import Entry
from collector.ledger.checkpoint import checkpoints, written
from collector.ledger.receipt import Tip
from collector.ledger.signing import successor

ENTRY = Entry(
    7,
    "2026-11-26T03:10:00Z",
    "checkpoint",
    (("at", "stop"), ("reason", "two words")),
    Tip(2041, bytes(range(32))),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Signed or not, one or several, with any ends of lines, and room around them."""
    key = successor(tmp_path)
    plain = replace(ENTRY, hash=ENTRY.computed())
    signed = replace(ENTRY, key=key.public)
    signed = replace(signed, hash=signed.computed(), signature=key.sign(signed.text))
    both = written(plain) + written(signed)
    assert checkpoints(both) == [plain, signed]
    assert checkpoints(both.replace("\n", "\r\n")) == [plain, signed]
    assert checkpoints(f"\n{both}\n \n") == [plain, signed]
    assert checkpoints(written(replace(plain, facts=()))) == [
        replace(plain, facts=(), hash=replace(plain, facts=()).computed())
    ]


def test_a_signature_of_another_text_is_refused(tmp_path: Path) -> None:
    """So that nobody compares with a file that was changed."""
    key = successor(tmp_path)
    signed = replace(ENTRY, key=key.public)
    signed = replace(signed, signature=key.sign(signed.text))
    assert checkpoints(written(signed))
    with pytest.raises(InputError, match="signature"):
        checkpoints(written(replace(signed, sequence=8)))


@given(text=st.text() | st.text().map(lambda text: written(ENTRY) + text))
def test_nothing_else_is_read(text: str) -> None:
    """And nothing of it is in the error."""
    if text.strip() == written(ENTRY).strip():
        assert checkpoints(text)
        return
    with pytest.raises(InputError) as caught:
        checkpoints(text)
    assert caught.value.code == "E401"
    assert caught.value.__context__ is None
