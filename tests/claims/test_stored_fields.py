"""What is stored is compared with what may be, by names and by values, at every place that the
ledger knows."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collector.claims.document import SERVING_CHECKS, load_claims
from collector.claims.findings import Found, Verdict, verdict
from collector.claims.verification import check
from collector.config import load
from collector.contracts import Batch
from collector.ledger import Note
from collector.schema import load_schema
from collector.sinks import inventory, store_rows
from collector.sinks.ndjson import NdjsonFile
from collector.sinks.store import Store
from collector.spool import Spool, note
from collector.sqlite import foreign
from collector.sqlite.connection import connect_to_read
from collector.testing import canaries, scan
from tests.retention.test_earlier import configured, note_configuration
from tests.support.make_batches import plant_aside
from tests.support.populated import PopulatedDirectory
from tests.support.rows import for_each

pytestmark = pytest.mark.usefixtures("no_dry_run")
_CLAIMS = ("needed-only", "no-content", "no-monitoring")
_CANARY = "hello from Ana"
_MOMENT = "2026-11-26T10:20:00Z"
_WHICH = {name: claim for name, claim in load_claims().items() if "stored" in claim.checks}


Attack = Callable[[PopulatedDirectory], object]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> PopulatedDirectory:
    """Records in a store and in a file, and in the spool; the ledger knows the schema."""
    place = tmp_path_factory.mktemp("lives") / "here"
    place.mkdir()
    lives = PopulatedDirectory(place)
    lives.deliver(range(3))
    lives.spool(range(3, 5))
    note_configuration(lives.data, lives.config_file)
    shutil.copytree(place, place.with_name("original"))
    return lives


@pytest.fixture
def lives(original: PopulatedDirectory) -> PopulatedDirectory:
    """The directory, filled anew at the same place."""
    place = original.directory
    shutil.rmtree(place)
    shutil.copytree(place.with_name("original"), place)
    return original


def found(file: Path) -> Found:
    """Return the findings of the checks."""
    none: Found = dict.fromkeys(SERVING_CHECKS, ())
    return {**check(load(file), canaries(2), scan), **none}


def verdicts(outcome: Found) -> set[Verdict]:
    """Those of the claims that look at what is stored."""
    told = " ".join(each.message for each in outcome["stored"] or ())
    assert "chat" not in told
    assert _CANARY not in told
    return {verdict(_WHICH[name], outcome) for name in _CLAIMS}


def edit(path: Path, *statements: str) -> None:
    """With any tool that writes SQLite."""
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


def made(path: Path) -> None:
    """A file in a directory of its own."""
    path.parent.mkdir(parents=True)
    path.write_text(_CANARY)


def appended(text: bytes) -> Attack:
    """A line in the file of records."""

    def attack(lives: PopulatedDirectory) -> None:
        with lives.lines.open("ab") as file:
            file.write(text + b"\n")

    return attack


def test_it_holds(lives: PopulatedDirectory) -> None:
    """What is there is what may be there."""
    outcome = found(lives.config_file)
    assert outcome["stored"] == ()
    assert verdicts(outcome) == {"holds"}


_COLUMN = "ALTER TABLE conferencing ADD COLUMN chat TEXT"
_SAID = f"UPDATE conferencing SET chat = '{_CANARY}'"
_RECORD = b'{"schema":"conferencing/1.0.0","os.type":"ios",%b,"received":"2026-11-26T10:20:00Z"}'


def in_store(*statements: str) -> Attack:
    """A change of the store."""
    return lambda lives: edit(lives.data / "store.db", *statements)


def added(table: str) -> Attack:
    """A table in the store."""
    said = f"INSERT INTO {table} VALUES ('{_CANARY}')"
    return in_store(f"CREATE TABLE {table} (text TEXT)", said)


def spoken(column: str, value: str = f"'{_CANARY}'") -> Attack:
    """Something else in a column of the store, which is there."""
    return in_store(f'UPDATE conferencing SET "{column}" = {value}')


def aside(payload: bytes = b"", **changes: str) -> Attack:
    """A batch of the schema that was set aside, and is not quite as it was; ``layout`` is the
    schema that it names."""

    def attack(lives: PopulatedDirectory) -> None:
        layout = replace(lives.schema.layout, schema=changes.get("layout", lives.schema.id))
        moment = changes.get("received", "2026-11-26T10:20:00Z")
        batch = Batch(bytes(16), moment, layout=layout, payload=payload)
        plant_aside(lives.data / "spool.db", "store", batch)

    return attack


def line(members: str, schema: str = "conferencing/1.0.0", received: str = _MOMENT) -> Attack:
    """A line in the file of records, as a filter writes it but for its values."""
    return appended(f'{{"schema":"{schema}",{members},"received":"{received}"}}'.encode())


def left(name: str, text: bytes = _CANARY.encode()) -> Attack:
    """Text in a file with a name of ours."""

    def attack(lives: PopulatedDirectory) -> None:
        (lives.data / name).write_bytes(text)

    return attack


def copied(end: str, text: bytes = b"") -> Attack:
    """A file beside that of records, as another program makes one: with a text, or the same."""

    def attack(lives: PopulatedDirectory) -> None:
        path = lives.lines.with_name(f"{lives.lines.name}{end}")
        path.write_bytes(text or lives.lines.read_bytes())

    return attack


def numbered(path: Path) -> None:
    """A database with a table of chat."""
    edit(path, "CREATE TABLE chat (text TEXT)", f"INSERT INTO chat VALUES ('{_CANARY}')")


def torn_log(lives: PopulatedDirectory) -> None:
    """A log of which SQLite reads nothing, as its first frame is damaged; a table of chat is in
    it."""
    path, copy = lives.data / "store.db", lives.directory / "copy.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("CREATE TABLE chat AS SELECT ? AS said", (_CANARY,))
        copy.write_bytes(path.read_bytes())
        log = bytearray(path.with_name("store.db-wal").read_bytes())
    log[1000] ^= 255
    copy.rename(path)
    path.with_name("store.db-wal").write_bytes(log)


def noted(lives: PopulatedDirectory) -> None:
    """A text behind the documents of the ledger."""
    with closing(sqlite3.connect(lives.data / "spool.db")) as db, db:
        for digest, text in db.execute("SELECT digest, text FROM documents").fetchall():
            longer = text + _CANARY.encode()
            db.execute("UPDATE documents SET text = ? WHERE digest = ?", (longer, digest))


_ANEW = "CREATE TABLE conferencing (received TEXT, count INTEGER, chat TEXT)"
_BEHIND = "CAST(CAST('ios' AS BLOB) || x'00' || 'hello from Ana' AS TEXT)"
_UNNAMED = "INSERT INTO documents VALUES (hex(zeroblob(32)), x'00')"
_CHAT = b'{"schema":"conferencing/1.0.0","chat":"hello from Ana"}\n'
_TEXT = b'{"schema":"conferencing/1.0.0","os.type":"hello from Ana"}\n'
UNPROVEN: dict[str, Attack] = {
    "a rotated copy": copied("-20260101"),
    "a compressed copy": copied(".1.gz"),
    "a numbered copy of a store": lambda of: numbered(of.data / "store.db.1"),
    "marks of a store": left("store.db.state"),
    "a log of records": copied("-wal"),
    "an index of records": copied("-shm"),
    "a log that is none": left("store.db-wal"),
    "a log that is torn": torn_log,
    "a text behind documents": noted,
    "an empty column": in_store(_COLUMN),
    "a table": added("chat"),
    "a table with an underscore": added("_chat"),
    "a table that is made anew": in_store("DROP TABLE conferencing", _ANEW),
    "a text without end": spoken("os.type", "hex(zeroblob(1000000))"),
    "a document that no entry names": lambda of: edit(of.data / "spool.db", _UNNAMED),
    "a text as schema": line('"os.type":"ios"', schema="hello from Ana"),
    "a version that is not known": line('"os.type":"ios"', schema="conferencing/0.1.0"),
    "a member twice": line('"os.type":"hello from Ana","os.type":"ios"'),
    "a line with blanks": line('"os.type":  \t"ios"'),
    "a schema that was set aside": aside(layout="hello from Ana"),
    "a file among those of sinks": lambda of: made(of.data / "sinks" / "chat" / "records.ndjson"),
    "a file that was set aside": lambda of: of.set_aside(1),
    "no database of what was set aside": left("tombstones.db", b"hello from Ana" * 999),
    "a damaged batch": lambda of: of.damage(1),
}
BROKEN: dict[str, Attack] = {
    "a column with chat": in_store(_COLUMN, _SAID),
    "a member": appended(_RECORD % b'"chat":"hello from Ana"'),
    "a list": appended(_RECORD % b'"chat":["hello from Ana"]'),
    "a member in an object": appended(_RECORD % b'"device":{"chat":"hello from Ana"}'),
    "text": appended(b"hello from Ana"),
    "a rotated file": copied(".1", _RECORD % b'"chat":"hello from Ana"' + b"\n"),
    "a batch that was set aside": aside(_CHAT),
    "bytes behind a value": spoken("os.type", _BEHIND),
    "a long text": spoken("os.type", "hex(zeroblob(100000))"),
    "no count": in_store("UPDATE conferencing SET count = -1"),
    "a text in a line": line('"os.type":"hello from Ana"'),
    "a number in a line": line('"os.type":12345678'),
    "a yes in a line": line('"os.type":true'),
    "a text as minute": line('"os.type":"ios"', received="hello from Ana"),
    "a text that was set aside": aside(_TEXT),
    "a minute that was set aside": aside(received="hello from Ana"),
}
ATTACKS: dict[str, tuple[Attack, Verdict]] = {
    **{name: (attack, "unproven") for name, attack in UNPROVEN.items()},
    **{name: (attack, "broken") for name, attack in BROKEN.items()},
}


@pytest.mark.parametrize(
    "column", ["os.type", "os.version", "device.model.name", "client.address", "received"]
)
def test_a_text_in_a_column(lives: PopulatedDirectory, column: str) -> None:
    spoken(column)(lives)
    outcome = found(lives.config_file)
    told = [each.message for each in outcome["stored"] or ()]
    assert any("`store`" in each and f"`{column}`" in each for each in told)
    assert verdicts(outcome) == {"broken"}


@pytest.mark.parametrize("table", ["batches", "documents", "receipts", "tip"])
def test_a_column_of_the_ledger_or_of_batches(lives: PopulatedDirectory, table: str) -> None:
    """A chain or a seal covers the columns that were there when it was made, and no other."""
    added = f"ALTER TABLE {table} ADD COLUMN chat TEXT"
    edit(lives.data / "spool.db", added, f"UPDATE {table} SET chat = '{_CANARY}'")
    outcome = found(lives.config_file)
    assert outcome["stored"]
    assert verdicts(outcome) <= {"broken", "unproven"}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_should_not_be_there(
    lives: PopulatedDirectory, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It breaks the claims that deny it, or leaves them unproven; nothing of it is shown."""
    for module in (foreign, store_rows):
        monkeypatch.setattr(module, "LONGEST_BYTES", 1 << 20)
    attack, expected = ATTACKS[name]
    attack(lives)
    outcome = found(lives.config_file)
    assert outcome["stored"]
    assert expected in verdicts(outcome) <= {expected, "broken"}, "another check may find more"


def test_a_store_that_another_program_has_for_itself(
    lives: PopulatedDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has written there is in a log that nobody else reads."""
    for module in (inventory, foreign):
        monkeypatch.setattr(module, "connect_to_read", lambda path, *_: connect_to_read(path, 0.01))
    with closing(sqlite3.connect(lives.data / "store.db", isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("CREATE TABLE chat AS SELECT ? AS said", (_CANARY,))
        assert verdicts(found(lives.config_file)) <= {"broken", "unproven"}


def test_a_place_that_was_not_shown(tmp_path: Path) -> None:
    """A sidecar wrote to another file than the configuration names that is shown: unproven, and
    what lies there is looked at all the same."""
    data, hidden = tmp_path / "data", tmp_path / "hidden"
    schema = load_schema("conferencing")
    ran = configured(tmp_path, "ran.json", data=str(data), sinks={"ndjson": {"path": str(hidden)}})
    note_configuration(data, ran)
    with NdjsonFile(hidden):
        pass
    for sinks in (None, {"ndjson": {"path": str(tmp_path / "shown")}}):
        shown = configured(
            tmp_path, "c.json", data=str(data), **({"sinks": sinks} if sinks else {})
        )
        assert verdicts(found(shown)) == {"unproven"}
    assert verdicts(found(ran)) == {"holds"}
    hidden.write_bytes(_RECORD % b'"chat":"hello from Ana"' + b"\n")
    assert verdicts(found(shown)) == {"broken"}
    assert verdicts(found(ran)) == {"broken"}
    with Store(data / "store.db", schema):
        pass
    later = configured(tmp_path, "later.json", data=str(data))
    note_configuration(data, later)
    assert verdicts(found(later)) == {"broken"}
    hidden.unlink()
    assert verdicts(found(later)) == {"holds"}
    hidden.write_text("of another program")
    assert verdicts(found(later)) == {"unproven"}


def test_a_store_that_no_configuration_names(tmp_path: Path) -> None:
    """It has the name of ours, and is looked at nowhere."""
    data, path = tmp_path / "data", tmp_path / "other.db"
    file = configured(tmp_path, "c.json", data=str(data), sinks={"store": {"path": str(path)}})
    note_configuration(data, file)
    assert verdicts(found(file)) == {"holds"}
    numbered(data / "store.db")
    assert verdicts(found(file)) == {"unproven"}


def test_a_directory_that_cannot_be_read(
    lives: PopulatedDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(lives.data / "other" / "chat.txt")
    scan_of = os.scandir

    def refused(path: Any) -> Any:
        if not isinstance(path, int) and Path(path).name == "other":
            raise PermissionError(13, "denied", str(path))
        return scan_of(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert verdicts(found(lives.config_file)) == {"unproven"}


def test_copies_at_an_earlier_place(tmp_path: Path) -> None:
    data, path = tmp_path / "data", tmp_path / "records.ndjson"
    ran = configured(tmp_path, "ran.json", data=str(data), sinks={"ndjson": {"path": str(path)}})
    note_configuration(data, ran)
    with NdjsonFile(path):
        pass
    later = configured(tmp_path, "later.json", data=str(data))
    note_configuration(data, later)
    path.unlink()
    assert verdicts(found(later)) == {"holds"}
    path.with_name("records.ndjson-20260101").write_text(_CANARY)
    assert verdicts(found(later)) == {"unproven"}


def test_a_field_beyond_the_flows(tmp_path: Path) -> None:
    """A file for one purpose holds a field that is for others, and no configuration has sent it
    there."""
    data, path = tmp_path / "data", tmp_path / "few"
    sinks = {"ndjson": {"path": str(path), "purposes": ["capacity_planning"]}}
    file = configured(tmp_path, "c.json", data=str(data), sinks=sinks)
    note_configuration(data, file)
    path.write_bytes(_RECORD % b'"client.address":"203.0.113.7"' + b"\n")
    outcome = found(file)
    (finding,) = outcome["stored"] or ()
    assert "`ndjson`" in finding.message
    assert "`client.address`" in finding.message
    assert verdicts(outcome) == {"broken"}


def test_another_schema_that_the_ledger_knows(tmp_path: Path) -> None:
    """Its table is looked at by its fields; without its document nothing is known of it."""
    data = tmp_path / "data"
    web, file = load_schema("web"), configured(tmp_path, "c.json", data=str(data))
    note_configuration(data, file)
    with Store(data / "store.db", web):
        pass
    assert verdicts(found(file)) == {"unproven"}
    note(data, Note.of("schema", document=web.document, schema=web.id, change="first"))
    with Spool(data / "spool.db"):
        pass
    outcome = found(file)
    assert outcome["stored"] == ()
    edit(data / "store.db", "ALTER TABLE web ADD COLUMN chat TEXT")
    edit(data / "store.db", "INSERT INTO web (received, count, chat) VALUES ('', 1, 'a')")
    assert verdicts(found(file)) == {"broken"}


_OLD = """\
schema: conferencing
version: 0.1.0
title: An earlier one
owner: tests
purposes:
  ops: {use: essential.service.operations, basis: contract, reason: Keep the call up}
fields:
  os.type: {kind: enum, values: [ios, beos], category: user.device, purposes: [ops], retention: 30d,
    reason: As today}
  device.sensors: {kind: integer, minimum: 0, maximum: 9, step: 1, category: user.device,
    purposes: [ops], retention: 30d, reason: For a while}
  os.build_id: {kind: token, pattern: "hello|[0-9]{3}", category: user.device, purposes: [ops],
    retention: 30d, reason: For a while}
"""


@for_each(
    ("column", "kept", "needed", "content"),
    [
        ("os.type", "'beos'", "holds", "holds"),
        ("device.sensors", "3", "broken", "unproven"),
        ("os.build_id", "'123'", "holds", "holds"),
    ],
)
def test_an_earlier_schema_was_wider(
    tmp_path: Path, column: str, kept: str, needed: Verdict, content: Verdict
) -> None:
    """What is stored under it is held against the sentences of today; what is not stored is not."""
    data, file = tmp_path / "data", tmp_path / "old.yaml"
    file.write_text(_OLD)
    old, now = load_schema(str(file)), load_schema("conferencing-strict")
    shown = configured(tmp_path, "c.json", data=str(data), schema="conferencing-strict")
    note_configuration(data, configured(tmp_path, "o.json", data=str(data), schema=str(file)))
    note_configuration(data, shown)
    for each in (old, now):
        note(data, Note.of("schema", document=each.document, schema=each.id, change="first"))
    with Store(data / "store.db", old), Store(data / "store.db", now):
        pass
    edit(
        data / "store.db",
        f'INSERT INTO conferencing (received, "{column}") VALUES ({_NOW}, {kept})',
    )
    outcome = found(shown)
    assert verdict(_WHICH["needed-only"], outcome) == needed
    assert verdict(_WHICH["no-content"], outcome) == content


_NOW = "strftime('%Y-%m-%dT%H:%M:00Z')"


def test_a_field_that_is_to_go_there_by_another_schema_only(tmp_path: Path) -> None:
    data, path = tmp_path / "data", tmp_path / "few"
    sinks = {"ndjson": {"path": str(path), "purposes": ["security", "capacity_planning"]}}
    file = configured(
        tmp_path, "c.json", data=str(data), sinks=sinks, schemas=["conferencing-strict", "web"]
    )
    note_configuration(data, file)
    line = b'{"schema":"%b/1.0.0","client.address":"203.0.113.0","received":"2026-11-26T03:10:00Z"}'
    path.write_bytes(line % b"web" + b"\n")
    assert found(file)["stored"] == ()
    path.write_bytes(line % b"web" + b"\n" + line % b"conferencing-strict" + b"\n")
    (finding,) = found(file)["stored"] or ()
    assert "`client.address`" in finding.message
