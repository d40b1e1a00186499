"""Notes state facts of a closed list, and an entry is what its text says."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collector.ledger import KINDS, Entry, Kind, Note
from collector.ledger.receipt import Tip

ENTRY = Entry(
    7,
    "2026-11-26T03:10:00Z",
    "erasure",
    (("command", "subject erase"), ("field", "client.address"), ("rows", "12")),
    Tip(2041, bytes(range(32))),
    "ab" * 32,
    bytes(32),
    b"\1" * 32,
    b"\2" * 64,
)


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("erasure", {"field": "203.0.113.7"}),
        ("erasure", {"field": "Jane Doe"}),
        ("erasure", {"rows": -1}),
        ("erasure", {"rows": "many"}),
        ("erasure", {"reason": "because"}),
        ("read", {"command": "store query --field client.address"}),
        ("read", {"command": "SELECT * FROM conferencing"}),
        ("checkpoint", {"at": "noon"}),
        ("key", {"public": "canary"}),
        ("schema", {"change": "better"}),
        ("damage", {"rows": 1}),
    ],
)
def test_no_fact_is_free_text(kind: Kind, facts: dict[str, Any]) -> None:
    """A value that was to be erased cannot be stored in an entry."""
    with pytest.raises(ValueError, match="entry"):
        Note.of(kind, **facts)


def test_only_a_change_of_the_schema_has_reasons() -> None:
    """They are on one line each, and not endless."""
    note = Note.of("schema", change="widening", reasons=["fields.a: two\n lines", "x" * 5000])
    assert note.facts[:2] == (("change", "widening"), ("reason", "fields.a: two lines"))
    assert len(note.facts[2][1]) == 1001
    with pytest.raises(ValueError, match="states no such fact"):
        Note.of("read", reasons=["because"])


def test_a_document_is_named_by_its_digest() -> None:
    note = Note.of("configuration", document=b"text", change="first")
    assert dict(note.facts)["digest"] == hashlib.sha256(b"text").hexdigest()


def test_the_text() -> None:
    """Any program can compute it again."""
    assert ENTRY.text.decode().splitlines() == [
        "collector entry 1",
        "sequence 7",
        "minute 2026-11-26T03:10:00Z",
        "kind erasure",
        "fact command subject erase",
        "fact field client.address",
        "fact rows 12",
        f"receipt 2041 {bytes(range(32)).hex()}",
        f"key {'ab' * 32}",
        f"previous {bytes(32).hex()}",
    ]


def test_a_row_comes_back() -> None:
    assert Entry.from_row(ENTRY.as_row()) == ENTRY
    broken = Entry.from_row(("7", 1, 2, 3, "x", "y", None, 5, 6, 7))
    assert (broken.sequence, broken.minute, broken.hash) == (-1, "?", b"")


def test_only_damage_may_leave_numbers_out() -> None:
    """Any other entry comes right after the one before it."""
    last = Tip(4, bytes(32))
    for sequence, kind, follows in [
        (5, "read", 1),
        (7, "read", 0),
        (7, "damage", 1),
        (4, "damage", 0),
    ]:
        entry = replace(ENTRY, sequence=sequence, kind=kind)
        entry = replace(entry, hash=entry.compute_hash())
        assert entry.follows(last) is bool(follows)
        assert not replace(entry, previous=b"\1" * 32).follows(last)
        assert not replace(entry, minute="2026-11-26T03:11:00Z").follows(last)


def test_the_documentation_lists_every_kind() -> None:
    text = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]*)\|$", text, re.MULTILINE)
    assert {kind: tuple(re.findall(r"`(\w+)`", facts)) for kind, facts in rows} == KINDS
    assert [kind for kind, _ in rows] == list(KINDS)
