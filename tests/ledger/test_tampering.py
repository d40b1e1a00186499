"""Any change of the file is found: one that leaves the hashes as they were, and with a checkpoint
that was stored elsewhere, also one that computes all hashes anew.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from json import loads
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.contracts import REJECTIONS, Rejection
from collector.ledger import Audit, Entry, Note, Receipt, auditor, grammar, opened
from collector.ledger.auditor import Checkpoint
from collector.ledger.entry import ENTRY_COLUMNS
from collector.ledger.export import export_lines, format_checkpoint, parse_checkpoints
from collector.ledger.journal import NEW_DOCUMENT
from collector.ledger.receipt import COLUMNS, NOTHING, Start, Tip
from collector.ledger.signing import Key
from collector.spool import Spool, note, rotate
from collector.spool import tables as spool_tables
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS
from tests.support.ledgers import entries_of
from tests.support.make_batches import commit, entry

_RECEIPTS = 6
_SOME = max(10, settings().max_examples // 4)
TABLES = ("receipts", "entries", "starts", "tip", "last_entry", "documents")
Change = Callable[[sqlite3.Connection], object]


@dataclass(frozen=True)
class Original:
    """A ledger, where it lies, and two of its checkpoints."""

    folder: Path
    checkpoints: str
    kept: list[Checkpoint]
    rows: dict[str, list[Any]]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    """Six receipts, entries of several kinds under two keys, and documents."""
    folder = tmp_path_factory.mktemp("ledger") / "data"
    with Spool(folder / "spool.db", sinks=["sink"]) as spool:
        for n in range(_RECEIPTS):
            commit(spool, entry(*range(n % 3), rejected={"malformed": n, "too_deep": 1}))
            spool.note(Note.of("read", command="store query", rows=n)).result(WAIT_SECONDS)
            if n % 3 == 0:
                document = b'{"version": %d}' % n
                spool.note(Note.of("configuration", document=document, change="neutral")).result(
                    WAIT_SECONDS
                )
                spool.note(Note.of("checkpoint", at="hour")).result(WAIT_SECONDS)
        rotate(folder)
        spool.delivered("sink", _RECEIPTS)
    note(folder, Note.of("checkpoint", at="stop"))
    found = entries_of(folder / "spool.db", "checkpoint")
    text = "".join(format_checkpoint(each) for each in (found[1], found[-1]))
    return Original(folder, text, parse_checkpoints(text), rows_of(folder / "spool.db"))


def rows_of(path: Path) -> dict[str, list[Any]]:
    """All that the ledger's tables hold."""
    return {name: query(path, f"SELECT * FROM {name} ORDER BY 1") for name in TABLES}


@contextmanager
def tampered(original: Original, *changes: Change) -> Iterator[Path]:
    """A copy of the file in which something was changed."""
    copy = original.folder.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(original.folder, copy)
    path = copy / "spool.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for change in changes:
            change(db)
    yield path


def verified(path: Path, *kept: Checkpoint) -> Audit:
    with opened(path) as ledger:
        return ledger.verify(None, kept)


def audited(path: Path, kept: str = "") -> bool:
    """Whether the auditor's script finds nothing in an export."""
    export, elsewhere = path.with_name("export.ndjson"), path.with_name("checkpoints.txt")
    with opened(path) as ledger:
        export.write_bytes(b"".join(export_lines(ledger)))
    elsewhere.write_text(kept)
    with redirect_stdout(io.StringIO()):
        return auditor.main(str(export), *([str(elsewhere)] if kept else [])) == 0


NUMBERS = st.integers(-1, 30) | st.integers(2**40, 2**62)
TEXTS = st.sampled_from(["", "-", "read", "key", "2026-11-26T03:10:00Z", "rows 1", "canary\nx 1"])
BLOBS = st.binary(max_size=40) | st.just(NOTHING)


def value(name: str, kind: str) -> st.SearchStrategy[Any]:
    """Something that the column may hold, as the tables are strict."""
    by_kind: dict[str, st.SearchStrategy[Any]] = {"INTEGER": NUMBERS, "TEXT": TEXTS, "BLOB": BLOBS}
    return by_kind[kind] | (st.none() if name == "commitment" else st.nothing())


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """One change with a tool that writes SQLite: a value, a row less, two swapped, one twice."""
    table = draw(st.sampled_from(TABLES))
    with closing(sqlite3.connect(":memory:")) as db:
        spool_tables.DEFINITION.create(db)
        columns = db.execute(f"PRAGMA table_info({table})").fetchall()
    row = draw(st.integers(0, 20))
    which = f"(SELECT {columns[0][1]} FROM {table} ORDER BY 1 LIMIT 1 OFFSET {row})"
    one = f"{columns[0][1]} = {which}"
    how = draw(st.sampled_from(["set", "set", "delete", "swap", "copy"]))
    if how == "delete":
        return lambda db: db.execute(f"DELETE FROM {table} WHERE {one}")
    if how == "swap" and table in ("receipts", "entries"):
        return lambda db: _swap(db, table, row)
    if how == "copy" and table in ("receipts", "entries"):
        return lambda db: _copy(db, table, row)
    _, name, kind, *_ = draw(st.sampled_from(columns))
    new = draw(value(name, kind))
    return lambda db: db.execute(f"UPDATE OR IGNORE {table} SET {name} = ? WHERE {one}", (new,))


def _swap(db: sqlite3.Connection, table: str, row: int) -> None:
    """A row and the one after it get each other's numbers."""
    numbers = db.execute(f"SELECT sequence FROM {table} ORDER BY 1 LIMIT 2 OFFSET {row}").fetchall()
    if len(numbers) == 2:
        (first,), (second,) = numbers
        for new, old in ((-9, first), (first, second), (second, -9)):
            db.execute(f"UPDATE {table} SET sequence = ? WHERE sequence = ?", (new, old))


def _copy(db: sqlite3.Connection, table: str, row: int) -> None:
    """A row is there once more, as the last."""
    names = ", ".join((COLUMNS if table == "receipts" else ENTRY_COLUMNS)[1:])
    db.execute(
        f"INSERT INTO {table} (sequence, {names}) SELECT (SELECT max(sequence) + 1 FROM {table}),"
        f" {names} FROM {table} ORDER BY sequence LIMIT 1 OFFSET {row}"
    )


@settings(max_examples=2 * _SOME)
@given(change=changes())
def test_a_change_is_found(original: Original, change: Change) -> None:
    with tampered(original, change) as path:
        is_same = rows_of(path) == original.rows
        assert (verified(path).flaws == []) is is_same
        assert audited(path) is is_same


@settings(max_examples=_SOME)
@given(several=st.lists(changes(), min_size=2, max_size=6))
def test_several_changes_are_found(original: Original, several: list[Change]) -> None:
    with tampered(original, *several) as path:
        rows = rows_of(path)
        is_same = all(rows[name] == original.rows[name] for name in ("receipts", "entries"))
        assert is_same or verified(path, *original.kept).flaws
        assert is_same or not audited(path, original.checkpoints)


_START = Start(1, "new")


def rewritten(
    db: sqlite3.Connection,
    receipts: list[Receipt],
    entries: list[Entry],
    key: Key | None,
    start: Start = _START,
) -> None:
    """Write a whole new ledger of these, as a forger could."""
    hashes = {0: NOTHING}
    before = start.hash
    for number, receipt in enumerate(receipts, 1):
        new = replace(receipt, sequence=number, previous=before)
        new = replace(new, hash=new.compute_hash())
        hashes[number] = before = new.hash
        receipts[number - 1] = new
    before = NOTHING
    for number, each in enumerate(entries, 1):
        at = min(each.receipt.sequence, len(receipts))
        facts = (("public", key.public),) if key and each.kind == "key" else each.facts
        public = key.public if key else ""
        new_entry = replace(
            each, sequence=number, facts=facts, receipt=Tip(at, hashes[at]), key=public
        )
        new_entry = replace(new_entry, previous=before)
        signature = key.sign(new_entry.text) if key else b""
        new_entry = replace(new_entry, hash=new_entry.compute_hash(), signature=signature)
        entries[number - 1], before = new_entry, new_entry.hash
    for table, rows in (("receipts", receipts), ("entries", entries)):
        db.execute(f"DELETE FROM {table}")
        marks = ", ".join("?" * len(rows[0].as_row()))
        db.executemany(f"INSERT INTO {table} VALUES ({marks})", [row.as_row() for row in rows])
    db.execute("UPDATE tip SET sequence = ?, hash = ?", (len(receipts), receipts[-1].hash))
    db.execute("UPDATE last_entry SET sequence = ?, hash = ?", (len(entries), entries[-1].hash))


@settings(max_examples=_SOME // 2)
@given(data=st.data(), has_key=st.booleans())
def test_a_ledger_that_was_made_anew_is_found(
    original: Original, data: st.DataObject, has_key: bool
) -> None:
    """Made with the key, it verifies in itself, signatures included; not with a checkpoint."""
    with opened(original.folder / "spool.db") as ledger:
        receipts, entries = list(ledger.receipts()), list(ledger.entries())
    key = Key((original.folder / "ledger.key").read_bytes()) if has_key else None
    what = data.draw(st.sampled_from(["less", "no receipt", "no entry", "shorter"]))
    if what == "less":
        at = data.draw(st.integers(1, _RECEIPTS - 1))
        less = receipts[at].rejected["malformed"]
        rejected: dict[Rejection, int] = {"too_deep": 1}
        received = receipts[at].received - less
        receipts[at] = replace(receipts[at], received=received, rejected=rejected)
    elif what == "no receipt":
        del receipts[data.draw(st.integers(0, _RECEIPTS - 1))]
    elif what == "no entry":
        del entries[data.draw(st.integers(1, len(entries) - 2))]
    else:
        at = data.draw(st.integers(1, _RECEIPTS - 1))
        receipts = receipts[:at]
        entries = [each for each in entries if each.receipt.sequence <= at]
    with tampered(original, lambda db: rewritten(db, receipts, entries, key)) as path:
        assert [flaw for flaw in verified(path).flaws if "document" not in flaw.message] == []
        assert verified(path, *original.kept).flaws
        assert not audited(path, original.checkpoints)


_BAD_FACTS = [
    (("command", "store query"), ("rows", "-1")),
    (("command", "store query"), ("rows", "1"), ("rows", "2")),
    (("rows", "1"), ("command", "store query")),
    (("command", "they said hello"),),
    (("reason", "canary"),),
]
_UNGRAMMATICAL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "negative counts": ({"received": 3, "admitted": 4, "rejected": {"malformed": -1}}, {}),
    "negative sum": ({"received": -3, "admitted": -3, "rejected": {}}, {}),
    "text as minute": ({"minute": "they said hello"}, {}),
    "no such minute": ({"minute": "2026-11-31T77:10:00Z"}, {}),
    "text as schema": ({"schema": "they said hello"}, {}),
    "lines in the schema": ({"schema": f"{'ab' * 32}\nsaid hello"}, {}),
    "no commitment": ({"received": 1, "admitted": 1, "rejected": {}, "commitment": None}, {}),
    "short commitment": ({"received": 1, "admitted": 1, "rejected": {}, "commitment": b"hi"}, {}),
    "minute of an entry": ({}, {"minute": "they said hello"}),
    "kind of an entry": ({}, {"kind": "they said hello", "facts": ()}),
    "key of an entry": ({}, {"key": "they said hello"}),
    "signature of an entry": ({}, {"signature": b"they said hello"}),
    **{f"facts {n}": ({}, {"kind": "read", "facts": each}) for n, each in enumerate(_BAD_FACTS)},
}


@pytest.mark.parametrize("case", _UNGRAMMATICAL)
def test_what_has_another_form_is_refused_by_both(original: Original, case: str) -> None:
    of_receipt, of_entry = _UNGRAMMATICAL[case]
    with opened(original.folder / "spool.db") as ledger:
        receipts = list(ledger.receipts())
        entries = [replace(each, key="", signature=b"") for each in ledger.entries()]
    receipts[1] = replace(receipts[1], **of_receipt)
    last = len(entries) - 1

    def change(db: sqlite3.Connection) -> None:
        rewritten(db, receipts, entries, None)
        entry = replace(entries[last], **of_entry)
        entry = replace(entry, hash=entry.compute_hash())
        marks = ", ".join("?" * len(ENTRY_COLUMNS))
        db.execute(f"REPLACE INTO entries VALUES ({marks})", entry.as_row())
        db.execute("UPDATE last_entry SET hash = ?", (entry.hash,))

    with tampered(original, change) as path:
        assert verified(path).flaws
        assert not audited(path)


def test_a_chain_starts_for_a_listed_reason(original: Original) -> None:
    """Free text as the reason of a start is found by both."""
    with opened(original.folder / "spool.db") as ledger:
        receipts, entries = list(ledger.receipts()), list(ledger.entries())
    start = Start(1, "they said hello")  # type: ignore[arg-type]

    def change(db: sqlite3.Connection) -> None:
        rewritten(db, receipts, entries, None, start)
        db.execute("UPDATE starts SET reason = ?", (start.reason,))

    with tampered(original, change) as path:
        assert verified(path).flaws
        assert not audited(path)


def test_a_ledger_without_signatures_holds_to_both(original: Original) -> None:
    """What the tests above change is all that is wrong with it."""
    with opened(original.folder / "spool.db") as ledger:
        receipts, entries = list(ledger.receipts()), list(ledger.entries())
    with tampered(original, lambda db: rewritten(db, receipts, entries, None)) as path:
        assert verified(path).flaws == []
        assert audited(path)


def test_the_grammar_knows_every_rejection() -> None:
    """In the order in which a receipt states them."""
    assert grammar.REJECTED == REJECTIONS


def test_a_document_that_no_entry_names_is_found(original: Original) -> None:
    text = b"they said hello"
    digest = hashlib.sha256(text).hexdigest()
    row = (digest, zlib.compress(text))
    with tampered(original, lambda db: db.execute(NEW_DOCUMENT, row)) as path:
        assert [each.message for each in verified(path).flaws] == ["no entry names this document"]
        assert not audited(path)


def test_a_signature_has_one_form(original: Original) -> None:
    """The same bytes in capitals, or with blanks between them, are another line."""
    with opened(original.folder / "spool.db") as ledger:
        lines = list(export_lines(ledger))
    export = original.folder.with_name("written.ndjson")
    at = next(number for number, line in enumerate(lines) if loads(line).get("signature"))
    signature = loads(lines[at])["signature"]
    for other in (signature.upper(), f"{signature} ", f"{signature[:2]} {signature[2:]}"):
        line = lines[at].replace(signature.encode(), other.encode())
        export.write_bytes(b"".join([*lines[:at], line, *lines[at + 1 :]]))
        with redirect_stdout(io.StringIO()):
            assert auditor.main(str(export)) == 1


def test_a_line_of_an_export_says_nothing_else(original: Original) -> None:
    """A member beside the text, its hash and its signature is found."""
    with opened(original.folder / "spool.db") as ledger:
        lines = list(export_lines(ledger))
    export = original.folder.with_name("said.ndjson")
    for at in (0, 3, -1):
        said = [*lines]
        said[at] = said[at].replace(b"{", b'{"said": "hello", ', 1)
        other = [*lines]
        other[at] = other[at].replace(b"}\n", b', "said": "hello"}\n', 1)
        twice = [*lines]
        twice[at] = twice[at].replace(b"{", b'{"hash": "hello", ', 1)
        for each in (said, other, twice, [lines[0], *lines], [*lines, lines[-1]]):
            export.write_bytes(b"".join(each))
            with redirect_stdout(io.StringIO()):
                assert auditor.main(str(export)) == 1
