"""A statement over a store: what it is answered, and all that it may not do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.contracts import Batch, Record
from collector.errors import DeliveryError, InputError
from collector.schema import load_schema
from collector.sinks.inventory import contents, reading
from collector.sinks.query import ask
from collector.sinks.store import Store
from collector.testing import canaries
from tests.support.database import query

_MINUTES = ("2999-01-01T00:00:00Z", "2999-01-02T10:20:00Z")
_SCHEMA = "conferencing/1.0.0"
_FILES = {"store.db", "store.db-wal", "store.db-shm"}
_ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c"
(CANARY,) = canaries(1)

REFUSED = {
    "deleting": "DELETE FROM conferencing",
    "deleting behind a name": "WITH x AS (SELECT 1) DELETE FROM conferencing",
    "inserting": "INSERT INTO conferencing (received) VALUES ('')",
    "replacing": "REPLACE INTO _delivered VALUES (1, x'00')",
    "updating": "UPDATE conferencing SET count = 2",
    "returning": "DELETE FROM conferencing RETURNING *",
    "dropping": "DROP TABLE conferencing",
    "dropping a view": "DROP VIEW conferencing_view",
    "a table": "CREATE TABLE x (y)",
    "a temporary table": "CREATE TEMP TABLE x AS SELECT * FROM conferencing",
    "a view": "CREATE TEMP VIEW conferencing AS SELECT 1",
    "a trigger": "CREATE TRIGGER x AFTER INSERT ON conferencing BEGIN SELECT 1; END",
    "an index": "CREATE INDEX x ON conferencing (count)",
    "a virtual table": "CREATE VIRTUAL TABLE x USING fts5(y)",
    "a column": "ALTER TABLE conferencing ADD COLUMN x",
    "analysing": "ANALYZE",
    "indexing again": "REINDEX",
    "attaching": f"ATTACH '{CANARY}.db' AS x",
    "detaching": "DETACH main",
    "a pragma": "PRAGMA user_version",
    "a pragma that sets": "PRAGMA query_only = OFF",
    "beginning": "BEGIN",
    "committing": "COMMIT",
    "rolling back": "ROLLBACK",
    "a savepoint": "SAVEPOINT x",
    "explaining what is refused": "EXPLAIN DELETE FROM conferencing",
    "explaining": "EXPLAIN SELECT 1",
    "explaining a plan": "eXplain query plan SELECT count FROM conferencing",
    "explaining after remarks": "; -- x\n/* y */\ufeff EXPLAIN SELECT 1",
    "an extension": f"SELECT load_extension('{CANARY}')",
    "matching": f"SELECT received FROM conferencing WHERE received MATCH '{CANARY}'",
    "much that is zero": "SELECT zeroblob(1000000000)",
    "much at random": "SELECT randomblob(1000000000)",
    "the library": "SELECT sqlite_source_id()",
    "ids of batches": "SELECT * FROM _delivered",
    "how many ids": "SELECT count(*) FROM _delivered",
    "ids under a name": 'SELECT x.id FROM "_delivered" x',
    "ids in a condition": "SELECT 1 WHERE EXISTS (SELECT 1 FROM _delivered)",
    "ids beside records": "SELECT received FROM conferencing UNION SELECT id FROM _DELIVERED",
    "an inner name of its own": "WITH _delivered AS (SELECT 1) SELECT count(*) FROM _delivered",
    "rules": "SELECT count(*) FROM _retention",
    "the schema": "SELECT sql FROM sqlite_master",
    "how long the schema is": "SELECT count(*) FROM main.sqlite_schema",
    "the temporary schema": "SELECT * FROM temp.sqlite_master",
    "a function of pragmas": "SELECT * FROM pragma_table_info('conferencing')",
    "how many pragmas": "SELECT count(*) FROM pragma_pragma_list",
    "files by a pragma": "SELECT count(*) FROM pragma_database_list",
    "pages of the file": "SELECT count(*) FROM dbstat",
    "statements of the program": "SELECT * FROM sqlite_stmt",
    "a table named as a pragma": "SELECT count(*) FROM pragma_hard_heap_limit",
    "a temporary view": "CREATE TEMP VIEW conferencing_view AS SELECT * FROM _delivered",
    "more memory": "PRAGMA hard_heap_limit = 0",
    "files for sorting": "PRAGMA temp_store = FILE",
    "tokens of a search": "SELECT fts3_tokenizer('simple')",
    "a part in a condition": "SELECT count(*) FROM conferencing WHERE (SELECT id FROM _delivered)",
    "a part in order": "SELECT 1 AS x FROM conferencing ORDER BY (SELECT sql FROM sqlite_schema)",
    "a table of JSON": "SELECT value FROM json_each('[1]')",
    "how much JSON": "SELECT count(*) FROM json_tree('[1]')",
    "a view of another program": "SELECT * FROM theirs",
    "a table of another program": "SELECT * FROM other",
}  # fmt: skip

UNANSWERED = {
    "nothing": "",
    "a comment": f"-- {CANARY}",
    "no SQL": CANARY,
    "half of one": f"SELECT '{CANARY}",
    "open brackets": "SELECT (((",
    "open names": f"SELECT {'[' * 90_000}",
    "open quotes": f"SELECT {chr(39) * 89_999}",
    "open double quotes": "SELECT " + '"' * 89_999,
    "several": f"SELECT '{CANARY}'; DELETE FROM conferencing",
    "a parameter": "SELECT ?",
    "a parameter with a name": ":x",
    "a zero": f"SELECT '{CANARY}\0'",
    "no such table": f'SELECT * FROM "{CANARY}"',
    "no such column": f'SELECT "{CANARY}" FROM conferencing',
    "writing a file": f"SELECT writefile('{CANARY}', 'x')",
    "reading a file": f"SELECT readfile('{CANARY}')",
    "a program": f"SELECT edit('{CANARY}')",
    "no such function": "SELECT nothing_of_that_name(1)",
    "a value in double quotes": f'SELECT 1 FROM conferencing WHERE "os.type" = "{CANARY}"',
    "dots without quotes": "SELECT client.address FROM conferencing",
    "two of one name": "SELECT count, count FROM conferencing",
    "of several": "SELECT count FROM conferencing, conferencing_view",
    "too deep": f"SELECT {'abs(' * 5000}1{')' * 5000}",
    "too many terms": f"SELECT {'1+' * 5000}1",
    "too many columns": f"SELECT {'1,' * 5000}1",
    "making it anew": "VACUUM",
    "making it anew elsewhere": f"VACUUM INTO '{CANARY}.db'",
    "an overflow": "SELECT abs(-9223372036854775808)",
}  # fmt: skip

TOO_MUCH = {
    "grown": "SELECT replace(printf('%.*c', 20000, 'x'), 'x', printf('%.*c', 99, 'z'))",
    "one text of all": f"{_ENDLESS} LIMIT 300000) SELECT group_concat(x) FROM c",
    "a long statement": f"SELECT '{'x' * 200_000}'",
    "sorted": f"{_ENDLESS} LIMIT 4000) SELECT printf('%199000d', x) AS y FROM c ORDER BY y",
}  # fmt: skip


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of eight events in three rows, with a table and a view of another program."""
    path = tmp_path_factory.mktemp("filled") / "store.db"
    records: list[Record] = [
        {"schema": _SCHEMA, "client.address": "203.0.113.7", "os.type": "linux", "count": 6},
        {"schema": _SCHEMA, "client.address": "203.0.113.8", "os.type": "linux"},
    ]
    with Store(path, load_schema("conferencing")) as store:
        store.deliver(Batch(b"a" * 16, _MINUTES[0], records))
        store.deliver(Batch(b"b" * 16, _MINUTES[1], [{"schema": _SCHEMA, "os.type": "ios"}]))
    query(
        path,
        "CREATE TABLE other (received TEXT, count INTEGER)",
        "CREATE VIEW theirs AS SELECT * FROM _delivered",
    )
    return path


@pytest.fixture
def path(filled: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copy(filled, tmp_path))


def answer(path: Path, statement: str) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """The columns and the rows."""
    with reading(path) as db:
        found = ask(db, statement)
        return found.columns, [tuple(row) for row in found.rows]


def test_an_answer(path: Path) -> None:
    for statement, columns, rows in [
        ("SELECT sum(count) AS n FROM conferencing", ("n",), [(8,)]),
        ("SELECT sum(count) AS n FROM CONFERENCING WHERE Received > '2999-01-02'", ("n",), [(1,)]),
        (
            'SELECT "client.address" FROM conferencing WHERE "os.type" = \'linux\' ORDER BY 1',
            ("client.address",),
            [("203.0.113.7",), ("203.0.113.8",)],
        ),
        (
            "SELECT os_type AS os, sum(count) AS n FROM conferencing_view GROUP BY 1 ORDER BY 2",
            ("os", "n"),
            [("ios", 1), ("linux", 7)],
        ),
        ("SELECT count(*) AS n FROM conferencing_view", ("n",), [(3,)]),
        ("WITH x AS (SELECT * FROM conferencing) SELECT count(*) AS n FROM x", ("n",), [(3,)]),
        ("SELECT count(*) AS n FROM (SELECT 1 UNION SELECT 2) AS x", ("n",), [(2,)]),
        (f"{_ENDLESS} LIMIT 3) SELECT count(*) AS n FROM c", ("n",), [(3,)]),
        ("SELECT row_number() OVER () AS n FROM conferencing LIMIT 1", ("n",), [(1,)]),
        (
            """SELECT 'a "b" -- c' AS "x ""y`", "[z" FROM (SELECT 1 AS "[z") -- "not there\n""",
            ('x "y`', "[z"),
            [('a "b" -- c', 1)],
        ),
        (
            "SELECT cast(x'ff41' AS TEXT) AS x, x'00ff' AS y, NULL AS z",
            ("x", "y", "z"),
            [("\ufffdA", b"\0\xff", None)],
        ),
        ("SELECT printf('%1000000000d', 1) AS x", ("x",), [(None,)]),
        ("VALUES (1)", ("column1",), [(1,)]),
        ("SELECT 1 AS n; -- and no more", ("n",), [(1,)]),
    ]:
        assert answer(path, statement) == (columns, rows)


def _code(path: Path, statement: str) -> str:
    """The code of an error that did nothing, and says nothing of the statement."""
    before = path.read_bytes()
    with pytest.raises(InputError) as caught:
        answer(path, statement)
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} <= _FILES
    assert CANARY not in f"{caught.value}{caught.value!r}"
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    return caught.value.code


def test_what_is_refused(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be answered is an error of ours, not SQLite's, and quotes nothing."""
    monkeypatch.chdir(tmp_path)
    for name, statement in (REFUSED | UNANSWERED).items():
        assert _code(path, statement) == "E407", name


@pytest.mark.parametrize("statement", TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_takes_too_much(path: Path, statement: str) -> None:
    assert _code(path, statement) == "E416"


def test_errors_help(path: Path) -> None:
    for statement, help_ in [
        ('SELECT "client.adress" FROM conferencing', "did you mean `client.address`?"),
        ('SELECT c."os.typ" FROM conferencing c', "did you mean `os.type`?"),
        ("SELECT client.address FROM conferencing", "double quotes"),
        ("SELECT * FROM conferencin", "did you mean `conferencing`?"),
        ("SELECT * FROM zzz", "`collector store query` alone shows"),
        ("SELECT summ(count) FROM conferencing", "did you mean `sum`?"),
        ("SELECT 1 FORM conferencing", "from character 15 on"),
        ("SELECT 1; SELECT 2", "one by one"),
    ]:
        with pytest.raises(InputError) as caught:
            answer(path, statement)
        assert help_ in caught.value.message


def test_a_store_that_breaks_off(path: Path) -> None:
    with Store(path, load_schema("conferencing")) as store:
        for number in range(40):
            record = {"schema": _SCHEMA, "os.type": "linux", "client.address": f"10.0.0.{number}"}
            store.deliver(Batch(bytes([number]) * 16, _MINUTES[0], [record] * 100))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"\xff" * (len(whole) // 2))
    with pytest.raises(DeliveryError, match="E501") as caught:
        answer(path, "SELECT * FROM conferencing")
    assert caught.value.__context__ is None


def test_it_sees_one_moment(path: Path) -> None:
    """What is delivered while rows are read is not held up."""
    with Store(path, load_schema("conferencing")) as store, reading(path) as db:
        rows: Iterator[object] = ask(db, "SELECT * FROM conferencing").rows
        next(rows)
        store.deliver(Batch(b"c" * 16, _MINUTES[1], [{"schema": _SCHEMA, "os.type": "ios"}]))
        assert store.count() == 9
        assert len(list(rows)) == 2


def test_contents(path: Path) -> None:
    with reading(path) as db:
        (found,) = contents(db)
    assert (found.table, found.view) == ("conferencing", "conferencing_view")
    assert (found.rows, found.events) == (3, 8)
    assert (found.first, found.last) == _MINUTES
    assert found.columns["client.address"] == "TEXT"
    assert next(iter(found.columns)) == "received"


def test_contents_of_an_empty_table(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path, load_schema("conferencing-strict")):
        pass
    query(path, "DROP VIEW conferencing_strict_view")
    with reading(path) as db:
        (found,) = contents(db)
    assert (found.view, found.rows, found.events, found.first, found.last) == (
        None, 0, 0, None, None,
    )  # fmt: skip
    assert answer(path, 'SELECT count(*) AS n FROM "conferencing-strict"')[1] == [(0,)]
