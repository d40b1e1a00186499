"""A checkpoint as a file: what is written is read, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import InputError
from collector.ledger import Entry
from collector.ledger.auditor import Checkpoint
from collector.ledger.export import format_checkpoint, parse_checkpoints
from collector.ledger.receipt import Tip
from collector.ledger.signing import create_next_key
from tests.support.raising import raises

ENTRY = Entry(
    7,
    "2026-11-26T03:10:00Z",
    "checkpoint",
    (("at", "stop"), ("reason", "two words")),
    Tip(2041, bytes(range(32))),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Signed or not, one or several, with any ends of lines, and room around them."""
    key = create_next_key(tmp_path)
    plain = replace(ENTRY, hash=ENTRY.compute_hash())
    signed = replace(ENTRY, key=key.public)
    signed = replace(signed, hash=signed.compute_hash(), signature=key.sign(signed.text))
    bare = replace(plain, facts=(), hash=replace(plain, facts=()).compute_hash())
    both = format_checkpoint(plain) + format_checkpoint(signed)
    found = [
        Checkpoint(7, each.hash.hex(), (2041, bytes(range(32)).hex()))
        for each in (plain, signed, bare)
    ]
    assert parse_checkpoints(both) == found[:2]
    assert parse_checkpoints(both.replace("\n", "\r\n")) == found[:2]
    assert parse_checkpoints(f"\n{both}\n \n") == found[:2]
    assert parse_checkpoints(format_checkpoint(bare)) == found[2:]


def test_a_signature_of_another_text_is_refused(tmp_path: Path) -> None:
    """A file that was changed is no reference."""
    key = create_next_key(tmp_path)
    signed = replace(ENTRY, key=key.public)
    signed = replace(signed, signature=key.sign(signed.text))
    assert parse_checkpoints(format_checkpoint(signed))
    with pytest.raises(InputError, match="signature"):
        parse_checkpoints(format_checkpoint(replace(signed, sequence=8)))
    for other in (replace(signed, signature=b""), replace(signed, key="")):
        with pytest.raises(InputError, match="signature"):
            parse_checkpoints(format_checkpoint(other))


@given(text=st.text() | st.text().map(lambda text: format_checkpoint(ENTRY) + text))
def test_nothing_else_is_read(text: str) -> None:
    if text.strip() == format_checkpoint(ENTRY).strip():
        assert parse_checkpoints(text)
        return
    with raises("E422", InputError):
        parse_checkpoints(text)
