"""Text that somebody has planted stands beside no claim that holds, wherever it is.

What is planted is one table for each place: the files of a sidecar, its databases, a lake, a
recorder, and PostgreSQL. Afterwards something is found, or the text is nowhere any more.
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from collector.claims import verification
from collector.claims.stored_fields import mismatches
from collector.config import load
from collector.files import lock_file
from collector.recording import claims as recorder_claims
from collector.recording import dry_run
from collector.retention.locations import Locations
from collector.routing import all_flows
from collector.routing.schemas import configured, reviewed
from collector.schema import load_schema
from collector.sinks.parquet import ParquetSettings, ParquetSink
from collector.sinks.postgres import PostgresSink
from collector.sinks.sink import Opening
from collector.spool import Spool
from collector.spool.idempotency import request_key
from collector.subject.tombstones import Tombstones
from collector.testing.sinks import batch_of
from tests.retention.test_earlier import configured as written_settings
from tests.retention.test_earlier import note_configuration
from tests.support.deadline import WAIT_SECONDS
from tests.support.parquet import write_parquet
from tests.support.populated import PopulatedDirectory
from tests.support.postgres import PostgresServer, clean, server

__all__ = ["clean", "server"]  # fixtures

CANARY = "hello from Ana"
_QUOTED = f'"{CANARY}"'
_SCHEMA = load_schema("conferencing")
_XATTR = "user.note"


def stored(file: Path) -> list[str]:
    """Return what claims find in the directories of a configuration."""
    config = load(file)
    schemas = configured(config)
    locations = Locations.of(config, schemas)
    verification._settle(locations)
    reviews = reviewed(config, schemas)
    found = mismatches(locations, all_flows(config, schemas), reviews)
    return [each[1].message for each in found]


def is_anywhere(top: Path) -> bool:
    """Return whether the text is in the name, the bytes, the link or an attribute of anything."""
    text = CANARY.encode()
    for path in (top, *top.rglob("*")):
        if CANARY in path.name or (path.is_symlink() and CANARY in str(path.readlink())):
            return True
        with suppress(OSError):
            names = os.listxattr(path, follow_symlinks=False)
            if any(text in os.getxattr(path, name, follow_symlinks=False) for name in names):
                return True
        if path.is_file() and text in path.read_bytes():
            return True
    return False


class Planted(PopulatedDirectory):
    """A directory with a store, a file of records and a lake, a spool with the key of a request,
    and the tombstones of a drain."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.store = self.data / "store.db"
        self.spool_file = self.data / "spool.db"
        self.lake = self.directory / "lake"
        self.waiting = self.data / "sinks" / "lake"
        self.config_file = written_settings(
            self.directory,
            "collector.json",
            data=str(self.data),
            sinks={
                "store": True,
                "ndjson": {"path": str(self.lines)},
                "lake": {"type": "parquet", "path": str(self.lake)},
            },
        )

    def begin(self) -> None:
        """Start with the configuration."""
        note_configuration(self.data, self.config_file)

    def fill(self) -> None:
        """Put records everywhere."""
        self.begin()
        self.deliver(range(3))
        self.spool(range(3, 5))
        key = request_key(b"k" * 16, "/v1/events", _SCHEMA.id, b"{}")
        with Spool(self.spool_file, sinks=["store"]) as spool:
            spool.put(self.entry(range(5, 6), 0), key=key).result(WAIT_SECONDS)
        opening = Opening("lake", (_SCHEMA,), self.data)
        with ParquetSink(ParquetSettings(type="parquet", path=self.lake), opening) as sink:
            sink.deliver(batch_of(1, [1, 2], _SCHEMA, age=timedelta(hours=2)))
            sink.finish()
            sink.deliver(batch_of(2, [3], _SCHEMA, age=timedelta(hours=2)))
        with closing(Tombstones(self.data)):
            pass

    def file_of_lake(self) -> Path:
        """The only file of the lake."""
        return next(self.lake.rglob("*.parquet"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory as it was filled."""
    place = tmp_path_factory.mktemp("planted") / "here"
    place.mkdir()
    Planted(place).fill()
    shutil.copytree(place, place.with_name("original"))
    return place


@pytest.fixture
def lives(original: Path) -> Planted:
    """The directory, filled anew at the same place."""
    shutil.rmtree(original)
    shutil.copytree(original.with_name("original"), original)
    return Planted(original)


def edit(path: Path, *statements: str) -> None:
    """With any tool that writes SQLite; nothing is left in its log."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def rewritten(path: Path, table: str, old: str, new: str) -> None:
    """Change the text of a definition, but not what lies in the file."""
    edit(
        path,
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}') WHERE name = '{table}'",
        "PRAGMA writable_schema = RESET",
    )


def viewed(path: Path) -> None:
    """A view that is named as if it were SQLite's."""
    edit(path, f"CREATE VIEW zzz AS SELECT '{CANARY}'")
    edit(
        path,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET name = 'sqlite_zzz', tbl_name = 'sqlite_zzz',"
        " sql = replace(sql, 'zzz', 'sqlite_zzz') WHERE name = 'zzz'",
    )


def cut_out(path: Path, table: str) -> None:
    """A column that was filled, and is cut out of the definition: its values stay in the rows."""
    edit(path, f"ALTER TABLE {table} ADD COLUMN chat TEXT", f"UPDATE {table} SET chat = '{CANARY}'")
    rewritten(path, table, ", chat TEXT", "")


def behind_values(path: Path) -> None:
    """Bytes behind the last value of a row: a text is made shorter in the types of the row only."""
    edit(path, f"UPDATE conferencing SET \"os.type\" = '{'x' * 20}'")
    data = path.read_bytes()
    at = data.index(b"x" * 20)
    start = data.rindex(bytes([2 * 20 + 13]), at - 60, at)
    changed = data[:start] + bytes([2 * 3 + 13]) + data[start + 1 : at] + b"ios" + b"y" * 17
    path.write_bytes(changed + data[at + 20 :])


def in_free_page(path: Path) -> None:
    """In a page of no table."""
    edit(path, "CREATE TABLE t AS SELECT zeroblob(100000) AS b", "DROP TABLE t")
    data, size = bytearray(path.read_bytes()), int.from_bytes(path.read_bytes()[16:18])
    trunk = int.from_bytes(data[32:36])
    leaf = int.from_bytes(data[(trunk - 1) * size + 8 :][:4])
    data[(leaf - 1) * size + 500 :][:14] = b""
    at = (leaf - 1) * size + 500
    data[at : at + len(CANARY)] = CANARY.encode()
    path.write_bytes(data)


def in_header(path: Path) -> None:
    """In the bytes that SQLite has reserved."""
    data = bytearray(path.read_bytes())
    data[72 : 72 + len(CANARY)] = CANARY.encode()
    path.write_bytes(data)


def after(path: Path) -> None:
    """Behind the end of a file."""
    with path.open("ab") as file:
        file.write(CANARY.encode() * 3)


def piped(path: Path) -> None:
    """A FIFO of that name."""
    os.mkfifo(path)


def listened(path: Path) -> None:
    """A socket of that name."""
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            listening.bind(path.name)
        finally:
            os.chdir(here)


def attributed(path: Path) -> None:
    """In an extended attribute."""
    try:
        os.setxattr(path, _XATTR, CANARY.encode())
    except OSError:
        pytest.skip("the file system has no extended attributes")


def before_footer(path: Path) -> None:
    """Between the last column of a Parquet file and its end."""
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    footer = len(data) - 8 - length
    path.write_bytes(data[:footer] + CANARY.encode() + data[footer:])


def in_metadata(path: Path) -> None:
    """In the metadata of a Parquet file."""
    table = parquet.read_table(path, partitioning=None)
    metadata = {**(table.schema.metadata or {}), b"said": CANARY.encode()}
    parquet.write_table(table.replace_schema_metadata(metadata), path)


def in_footer(path: Path) -> None:
    """In a field of the end of a Parquet file that readers skip: one of its structure has the
    number 100."""
    data, text = path.read_bytes(), CANARY.encode()
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8]
    assert footer.endswith(b"\0")
    more = b"\x08" + bytes([200, 1]) + bytes([len(text)]) + text + b"\0"
    whole = footer[:-1] + more
    path.write_bytes(data[: -8 - length] + whole + len(whole).to_bytes(4, "little") + b"PAR1")


def in_dictionary(path: Path) -> None:
    """In the dictionary of a column of a Parquet file, as a value that no record has."""
    table = parquet.read_table(path, partitioning=None)
    (at,) = table.schema.get_all_field_indices("os.type")
    found = table.column(at).combine_chunks().dictionary_encode()
    values = pa.array([*found.dictionary.to_pylist(), CANARY])
    more = pa.DictionaryArray.from_arrays(found.indices, values)
    table = table.set_column(at, table.schema.field(at).with_type(more.type), more)
    write_parquet(path, table)


def in_empty(path: Path) -> None:
    """In the name of a column of a Parquet file that has no records any more."""
    found = parquet.read_schema(path)
    write_parquet(path, found.append(pa.field(CANARY, pa.string())).empty_table())


FILES: dict[str, Callable[[Planted], object]] = {
    "a directory": lambda of: (of.data / CANARY).mkdir(),
    "a directory among those of sinks": lambda of: (of.data / "sinks" / CANARY).mkdir(),
    "a file": lambda of: (of.data / CANARY).touch(),
    "a FIFO": lambda of: piped(of.data / CANARY),
    "a socket": lambda of: listened(of.data / CANARY),
    "a link": lambda of: (of.data / "link").symlink_to(CANARY),
    "an attribute of a file": lambda of: attributed(of.store),
    "an attribute of the directory": lambda of: attributed(of.data),
    "a directory beside a file of records": lambda of: of.lines.with_name(
        f"{of.lines.name}.{CANARY}"
    ).mkdir(),
    "the lock": lambda of: (of.data / "collector.lock").write_text(CANARY),
    "behind the key": lambda of: after(of.data / "ledger.key"),
    "a part of a key": lambda of: (of.data / "ledger.key.part").write_text(CANARY),
    "a copy of a database": lambda of: (of.data / f"store.db.compact-{'0' * 16}").write_text(
        CANARY
    ),
    "a file that is not whole": lambda of: of.lines.with_name(f"{of.lines.name}.new").write_text(
        CANARY
    ),
    "behind marks": lambda of: after(of.lines.with_name(f"{of.lines.name}.state")),
    "in marks": lambda of: of.lines.with_name(f"{of.lines.name}.state").write_text(CANARY),
    "a line": lambda of: after(of.lines),
    "verdicts": lambda of: (of.data / "verdicts.json").write_text(CANARY),
}
DATABASES: dict[str, Callable[[Planted], object]] = {
    "a constraint": lambda of: edit(
        of.store, f"CREATE TABLE t (n INTEGER, CONSTRAINT {_QUOTED} CHECK (n > 0))"
    ),
    "a constraint of the store's own": lambda of: rewritten(
        of.store, "_delivered", "number INTEGER", f"number INTEGER CONSTRAINT {_QUOTED}"
    ),
    "a default": lambda of: edit(
        of.spool_file, f"ALTER TABLE gaps ADD COLUMN more TEXT DEFAULT '{CANARY}'"
    ),
    "a default of records": lambda of: rewritten(
        of.store, "conferencing", '"os.type" TEXT', f'"os.type" TEXT DEFAULT {_QUOTED}'
    ),
    "a comment": lambda of: rewritten(of.store, "_remains", "(one", f"(/* {CANARY} */ one"),
    "a view of SQLite's names": lambda of: viewed(of.store),
    "a column cut out of a definition": lambda of: cut_out(of.store, "conferencing"),
    "one of the spool": lambda of: cut_out(of.spool_file, "sinks"),
    "behind the values of a row": lambda of: behind_values(of.store),
    "a free page": lambda of: in_free_page(of.store),
    "a free page of the spool": lambda of: in_free_page(of.spool_file),
    "the header": lambda of: in_header(of.store),
    "behind the last page": lambda of: after(of.store),
    "behind the last page of tombstones": lambda of: after(of.data / "tombstones.db"),
    "a table of tombstones": lambda of: edit(
        of.data / "tombstones.db", f"CREATE TABLE {_QUOTED} (n)"
    ),
    "samples of a planner": lambda of: edit(
        of.store, "ANALYZE", f"INSERT INTO sqlite_stat1 VALUES ('{CANARY}', NULL, '1')"
    ),
    "an index": lambda of: edit(
        of.store, f"CREATE INDEX i ON conferencing (count) WHERE received <> '{CANARY}'"
    ),
    "a trigger": lambda of: edit(
        of.spool_file, f"CREATE TRIGGER t AFTER DELETE ON gaps BEGIN SELECT '{CANARY}'; END"
    ),
    "a generated column": lambda of: edit(
        of.store, f"ALTER TABLE conferencing ADD COLUMN {_QUOTED} INTEGER AS (1)"
    ),
    "a log": lambda of: of.store.with_name("store.db-wal").write_text(CANARY),
    "the sink of what was set aside": lambda of: edit(
        of.spool_file,
        f"INSERT INTO aside SELECT '{CANARY}', sequence, id, layout, received, records, salt, seal,"
        " payload, granted, receipt FROM batches LIMIT 1",
    ),
    "a text of the ledger's tables": lambda of: edit(
        of.spool_file, f"INSERT INTO hours VALUES ('{CANARY}', 'in', '', '', 1)"
    ),
}
LAKE: dict[str, Callable[[Planted], object]] = {
    "the gap before a footer": lambda of: before_footer(of.file_of_lake()),
    "a field of a footer": lambda of: in_footer(of.file_of_lake()),
    "metadata": lambda of: in_metadata(of.file_of_lake()),
    "a dictionary": lambda of: in_dictionary(of.file_of_lake()),
    "a column": lambda of: in_empty(of.file_of_lake()),
    "a directory": lambda of: (of.lake / CANARY).mkdir(),
    "a hidden file": lambda of: (of.lake / f".{CANARY}").touch(),
    "a FIFO": lambda of: piped(of.lake / CANARY),
    "a socket": lambda of: listened(of.lake / CANARY),
    "an attribute": lambda of: attributed(of.file_of_lake()),
    "an attribute of the lake": lambda of: attributed(of.lake),
    "a directory of what waits": lambda of: (of.waiting / CANARY).mkdir(),
    "an attribute of what waits": lambda of: attributed(next(of.waiting.glob("*.ndjson"))),
    "a table of what waits": lambda of: edit(
        of.waiting / "segments.db", f"CREATE VIEW v AS SELECT '{CANARY}'"
    ),
    "a column cut out there": lambda of: cut_out(of.waiting / "segments.db", "places"),
    "behind a segment": lambda of: after(next(of.waiting.glob("*.ndjson"))),
    "its lock": lambda of: (of.waiting / "lock").write_text(CANARY),
}
_PLACES = {
    f"{place}: {name}": plant
    for place, table in (("files", FILES), ("SQLite", DATABASES), ("lake", LAKE))
    for name, plant in table.items()
}


def test_nothing_is_planted(lives: Planted) -> None:
    for directory in (lives.data, lives.lake):
        (directory / "lost+found").mkdir(0o700)
    assert stored(lives.config_file) == []
    assert not is_anywhere(lives.directory)


@pytest.mark.parametrize("name", _PLACES)
def test_a_planted_text(lives: Planted, name: str) -> None:
    """It is found, and not shown, or it is gone."""
    _PLACES[name](lives)
    found = stored(lives.config_file)
    assert found or not is_anywhere(lives.directory)
    assert CANARY not in str(found)
    assert "chat" not in str(found)


def test_an_index_that_a_process_has_open(lives: Planted) -> None:
    """SQLite makes it anew when nobody has it open; text in it stays as long as somebody has."""
    with closing(sqlite3.connect(lives.store)) as db:
        db.execute("SELECT count(*) FROM conferencing").fetchone()
        with lives.store.with_name("store.db-shm").open("r+b") as index:
            index.seek(20_000)
            index.write(CANARY.encode())
        assert stored(lives.config_file)


# -- recorder -------------------------------------------------------------------------------------

RECORDER: dict[str, Callable[[Path], object]] = {
    "a table": lambda of: edit(of / "recorder.db", f"CREATE TABLE {_QUOTED} (n INTEGER)"),
    "a view of keys": lambda of: edit(
        of / "vault" / "keys.db", f"CREATE VIEW v AS SELECT '{CANARY}'"
    ),
    "a column cut out": lambda of: cut_out(of / "recorder.db", "recordings"),
    "a directory": lambda of: (of / CANARY).mkdir(0o700),
    "a FIFO": lambda of: piped(of / "vault" / CANARY),
    "a socket": lambda of: listened(of / CANARY),
    "an attribute": lambda of: attributed(of / "recorder.db"),
    "behind the last page": lambda of: after(of / "recorder.db"),
    "the lock": lambda of: after(of / "collector.lock"),
    "behind the key of the ledger": lambda of: after(of / "ledger.key"),
    "behind the secret": lambda of: after(of / "subjects.key"),
    "behind the master key": lambda of: after(of / "vault" / "master.key"),
    "the next master key": lambda of: (of / "vault" / "master.key.new").write_text(CANARY),
    "lost and found": lambda of: (of / "lost+found" / CANARY).mkdir(parents=True, mode=0o700),
    "a reason": lambda of: edit(of / "recorder.db", f"UPDATE events SET reason = '{CANARY}'"),
    "a meeting": lambda of: edit(of / "recorder.db", f"UPDATE recordings SET meeting = '{CANARY}'"),
    "a snapshot": lambda of: edit(
        of / "recorder.db",
        f"UPDATE recordings SET snapshot = json_set(snapshot, '$.said', '{CANARY}')",
    ),
    "a member of a snapshot": lambda of: edit(
        of / "recorder.db",
        f"UPDATE recordings SET snapshot = json_set(snapshot, '$.heir', '{CANARY}')",
    ),
    "a task": lambda of: edit(of / "recorder.db", f"UPDATE tasks SET object = '{CANARY}'"),
    "a track": lambda of: edit(of / "vault" / "keys.db", f"UPDATE tracks SET name = '{CANARY}'"),
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorder's directory with a recording."""
    place = tmp_path_factory.mktemp("recorder") / "here"
    trial = dry_run.TrialRecorder(place, "canary-1")
    with closing(trial.recorder):
        trial.stay("guest-1")
        trial.control("start")
        trial.send("guest-1")
        trial.control("stop")
    shutil.copytree(place, place.with_name("original"))
    return place


@pytest.fixture
def recorder(recorded: Path) -> Path:
    """The directory as it was."""
    shutil.rmtree(recorded)
    shutil.copytree(recorded.with_name("original"), recorded)
    return recorded


def _found_in(directory: Path) -> list[str]:
    place = recorder_claims.Place(directory)
    return [each.message for found in recorder_claims.look(place).values() for each in found]


_LEFT: dict[str, Callable[[Path], object]] = {
    "nothing": lambda _: None,
    "a copy of the keys": lambda of: shutil.copy(
        of / "vault" / "keys.db", of / "vault" / f"keys.db.compact-{'0' * 16}"
    ),
    "half a copy": lambda of: (of / "vault" / f"keys.db.compact-{'0' * 16}").write_bytes(b"SQL"),
    "a part of a key": lambda of: (of / "ledger.key.new.part").touch(0o600),
    "the next key": lambda of: shutil.copy(of / "ledger.key", of / "ledger.key.new"),
    "the next master key": lambda of: (of / "vault" / "master.key.new").touch(0o600),
    "what ext4 makes": lambda of: (of / "lost+found").mkdir(0o700),
}
"""What the recorder or the system leaves: where a kill ended a withdrawal or a rotation."""


@pytest.mark.parametrize("name", _LEFT)
def test_nothing_is_planted_in_a_recorder(recorder: Path, name: str) -> None:
    _LEFT[name](recorder)
    for path in recorder.rglob("*"):
        path.chmod(path.stat().st_mode & ~0o077)
    assert _found_in(recorder) == []


def test_a_copy_that_a_process_is_at_work_on(recorder: Path) -> None:
    """Its lock tells it from one that somebody has left."""
    copy = recorder / "vault" / f"keys.db.compact-{'0' * 16}"
    copy.touch(0o600)
    with copy.open("rb") as file:
        assert lock_file(file.fileno())
        assert _found_in(recorder) == []


@pytest.mark.parametrize("name", RECORDER)
def test_a_text_planted_in_a_recorder(recorder: Path, name: str) -> None:
    """It is found, and not shown."""
    RECORDER[name](recorder)
    found = _found_in(recorder)
    assert found
    assert CANARY not in str(found)


# -- PostgreSQL -----------------------------------------------------------------------------------

_NEW = "CREATE {what} collector.{name}".format
_TABLE = "collector.conferencing"
_TRIGGER = (
    f"CREATE TRIGGER {_QUOTED} BEFORE UPDATE ON {_TABLE} FOR EACH ROW"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
)
POSTGRES: dict[str, Sequence[str]] = {
    "a table": (_NEW(what="TABLE", name=_QUOTED) + " (n integer)",),
    "a column of our own tables": (f"ALTER TABLE collector._delivered ADD {_QUOTED} integer",),
    "a dropped column": (
        f"ALTER TABLE {_TABLE} ADD chat text",
        f"UPDATE {_TABLE} SET chat = '{CANARY}'",
        f"ALTER TABLE {_TABLE} DROP chat",
    ),
    "a default": (f"ALTER TABLE {_TABLE} ALTER \"os.type\" SET DEFAULT '{CANARY}'",),
    "a default that was": (
        f"ALTER TABLE {_TABLE} ADD chat text DEFAULT '{CANARY}'",
        f"ALTER TABLE {_TABLE} ALTER chat DROP DEFAULT",
    ),
    "a constraint": (f"ALTER TABLE {_TABLE} ADD CONSTRAINT {_QUOTED} CHECK (count > 0)",),
    "a check": (f"ALTER TABLE {_TABLE} ADD CHECK (\"os.type\" <> '{CANARY}')",),
    "a comment": (f"COMMENT ON TABLE {_TABLE} IS '{CANARY}'",),
    "a comment of a column": (f"COMMENT ON COLUMN {_TABLE}.count IS '{CANARY}'",),
    "a comment of the namespace": (f"COMMENT ON SCHEMA collector IS '{CANARY}'",),
    "a type": (_NEW(what="TYPE", name="said") + f" AS ENUM ('{CANARY}')",),
    "a domain": (_NEW(what="DOMAIN", name="said") + f" AS text DEFAULT '{CANARY}'",),
    "a function": (
        _NEW(what="FUNCTION", name="said()")
        + f" RETURNS text LANGUAGE sql AS $$SELECT '{CANARY}'$$",
    ),
    "a view": (_NEW(what="VIEW", name="said") + f" AS SELECT '{CANARY}' AS said",),
    "a sequence": (_NEW(what="SEQUENCE", name=_QUOTED),),
    "an index": (f"CREATE INDEX {_QUOTED} ON {_TABLE} (count)",),
    "a rule": (f"CREATE RULE {_QUOTED} AS ON UPDATE TO {_TABLE} DO ALSO NOTHING",),
    "a policy": (f"CREATE POLICY {_QUOTED} ON {_TABLE} USING (true)",),
    "a trigger": (_TRIGGER,),
    "extended statistics": (
        f"CREATE STATISTICS collector.{_QUOTED} ON received, count FROM {_TABLE}",
    ),
    "a configuration of search": (
        _NEW(what="TEXT SEARCH CONFIGURATION", name=_QUOTED) + " (COPY = pg_catalog.simple)",
    ),
    "a collation": (_NEW(what="COLLATION", name=_QUOTED) + ' FROM "C"',),
    "a partition": (f"CREATE TABLE collector.{_QUOTED} PARTITION OF {_TABLE} DEFAULT",),
    "a retention": (f"INSERT INTO collector._retention VALUES ('said', '{CANARY}', 1)",),
    "a mark": (f"INSERT INTO collector._unswept VALUES ('{CANARY}')",),
    "an id": (f"INSERT INTO collector._delivered (id) VALUES ('{CANARY}')",),
}


def _of_postgres(server: PostgresServer, directory: Path) -> PostgresSink:
    return PostgresSink(server.settings(), Opening("warehouse", (_SCHEMA,), directory))


@pytest.mark.servers
def test_nothing_is_planted_in_postgres(clean: PostgresServer, tmp_path: Path) -> None:
    columns = (*_SCHEMA.layout.columns, ("order", "TEXT"), ("said", "REAL"))
    wider = replace(_SCHEMA.layout, columns=columns, digest="0" * 64)
    with _of_postgres(clean, tmp_path) as sink:
        assert sink.others == 0
        for age in (0, 1, 40):
            sink.deliver(batch_of(age, [1], _SCHEMA, age=timedelta(days=age)))
            assert sink.others == 0
        later = batch_of(7, [3], _SCHEMA)
        sink.deliver(replace(later, layout=wider, rows=None))
        clean.ask(f"GRANT SELECT ON {_TABLE} TO PUBLIC")
        clean.ask("ANALYZE")
        assert sink.others == 0
        sink.prune(datetime.now(UTC))
        assert sink.others == 0


@pytest.mark.servers
@pytest.mark.parametrize("name", POSTGRES)
def test_a_text_planted_in_postgres(clean: PostgresServer, tmp_path: Path, name: str) -> None:
    """It is counted."""
    with _of_postgres(clean, tmp_path) as sink:
        sink.deliver(batch_of(1, [1], _SCHEMA))
        assert sink.others == 0
        for statement in POSTGRES[name]:
            clean.ask(statement)
        assert sink.others > 0
