"""``collector store query``: the tables, answers in every form, and an entry for each."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from time import sleep

import pytest

from collector.contracts import Batch, Record
from collector.sinks.query import FUNCTIONS
from collector.sinks.store import Store
from collector.spool import Spool
from collector.testing import canaries
from tests.support.command import Ended, Running, run, run_measured, started
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, eventually, wait_until
from tests.support.ledgers import entries_of
from tests.support.populated import PopulatedDirectory, address, minute
from tests.support.programs import threads
from tests.support.terminal import Terminal

_ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
_MANY = f"{_ENDLESS} SELECT x, 'phone' AS y FROM c"
_MOST_MB = 120
_PAGE = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()
_WRITES_FREELY = os.geteuid() == 0

Asking = AbstractContextManager[Running]


@pytest.fixture
def lives(tmp_path: Path) -> PopulatedDirectory:
    """Five people in a store with a ledger."""
    lives = PopulatedDirectory(tmp_path)
    lives.deliver_aged((range(5), 0))
    return lives


def ask(lives: PopulatedDirectory, *arguments: object, stdin: bytes = b"") -> Ended:
    return run("store", "query", "--data", lives.data, *arguments, stdin=stdin)


def asking(lives: PopulatedDirectory, *arguments: str, **streams: int) -> Asking:
    """A process whose output is read by the test."""
    return started("store", "query", "--data", lives.data, *arguments, **streams)


def noted(lives: PopulatedDirectory) -> list[dict[str, str]]:
    """Return the ledger's entries of readings."""
    return [dict(entry.facts) for entry in entries_of(lives.data / "spool.db", "read")]


def read(rows: int | None) -> dict[str, str]:
    """An entry of so many rows, or of a beginning."""
    return {"command": "store query"} | ({} if rows is None else {"rows": str(rows)})


def test_what_there_is(lives: PopulatedDirectory) -> None:
    """No row is shown, and the ledger has an entry about it."""
    (table,) = ask(lives, "--json").json["tables"]
    assert (table["table"], table["view"]) == ("conferencing", "conferencing_view")
    assert (table["rows"], table["events"], table["first"]) == (5, 5, minute())
    assert table["columns"]["client.address"] == "TEXT"
    shown = ask(lives).out.decode()
    assert shown.startswith(f"conferencing: 5 rows, 5 events, received from {minute()} to")
    assert ["client.address", "TEXT"] in [line.split() for line in shown.splitlines()]
    assert "conferencing_view" in shown
    assert "_delivered" not in shown
    assert noted(lives) == [read(0)] * 2


def test_names_that_would_be_obeyed(lives: PopulatedDirectory) -> None:
    """A tampered file moves no cursor, and colours nothing."""
    with closing(sqlite3.connect(lives.data / "store.db")) as db, db:
        db.execute('CREATE TABLE "a\x1b[31m" (received TEXT, "[b]" TEXT, count INTEGER) STRICT')
        db.execute('INSERT INTO "a\x1b[31m" VALUES (?, NULL, 1)', ("\x1b[31m[red]",))
    shown = ask(lives).out
    assert b"\x1b" not in shown
    assert b"[31m[red]" in shown
    assert b"[b]" in shown


def test_forms(lives: PopulatedDirectory) -> None:
    statement = (
        'SELECT "client.address", "device.model.name" AS model, count FROM conferencing'
        ' ORDER BY "client.address" LIMIT 2'
    )
    rows = [
        {"client.address": address(0), "model": None, "count": 1},
        {"client.address": address(1), "model": "Pixel 8", "count": 1},
    ]
    assert ask(lives, statement).lines == rows
    assert ask(lives, statement, "--format", "ndjson").lines == rows
    assert ask(lives, statement, "--json").json == rows
    assert ask(lives, f"{statement} OFFSET 9", "--json").json == []
    text = ask(lives, statement, "--format", "csv").out.decode()
    assert list(csv.reader(text.splitlines())) == [
        ["client.address", "model", "count"],
        [address(0), "", "1"],
        [address(1), "Pixel 8", "1"],
    ]
    table = ask(lives, statement, "--format", "table").out.decode().splitlines()
    assert [line.split() for line in table] == [
        ["client.address", "model", "count"],
        [address(0), "1"],
        [address(1), "Pixel", "8", "1"],
    ]
    assert noted(lives) == [read(2)] * 3 + [read(0)] + [read(2)] * 2


def test_a_statement_on_stdin(lives: PopulatedDirectory) -> None:
    """There it is in no list of processes."""
    assert ask(lives, "-", stdin=b"SELECT 'a' AS b\n").lines == [{"b": "a"}]
    for bad in (b"SELECT '\xff'", b"SELECT 1" + b" " * 200_000, b""):
        done = ask(lives, "-", stdin=bad)
        assert (done.code, b"E407" in done.err, done.out) == (2, True, b"")


def test_a_terminal_gets_a_table(lives: PopulatedDirectory) -> None:
    out = _on_a_terminal(lives, f"{_MANY} LIMIT 1200")
    assert "1000" in out
    assert "1001" not in out
    assert "more than these 1,000 rows" in out
    shown = _on_a_terminal(lives, "SELECT char(27) || '[31mred[/]' AS \"[bold]a\"")
    assert "\x1b[31mred" not in shown
    assert "[31mred[/]" in shown
    assert "[bold]a" in shown
    assert noted(lives) == [read(1000), read(1)]


def _on_a_terminal(lives: PopulatedDirectory, statement: str) -> str:
    terminal = Terminal("store", "query", "--data", lives.data, statement)
    assert terminal.end() == 0
    return terminal.shown


def test_a_long_answer_has_two_entries(lives: PopulatedDirectory) -> None:
    """The first is written before the first row; the second has the number of rows."""
    statement = f"{_ENDLESS} SELECT x, '{'y' * 100}' AS y FROM c LIMIT 100000"
    done = run_measured("store", "query", "--data", lives.data, statement)
    assert (done.code, done.out.count(b"\n")) == (0, 100_000)
    assert done.peak < _MOST_MB
    assert noted(lives) == [read(None), read(100_000)]


def test_a_reader_that_goes_away(lives: PopulatedDirectory) -> None:
    """The entry has no fewer rows than were read."""
    with asking(lives, _MANY) as running:
        assert running.out.readline() == b'{"x":1,"y":"phone"}\n'
        running.out.close()
        assert running.ended() == Ended(0, b"", b"")
    _assert_it_was_noted(lives)


@pytest.mark.parametrize(
    "arguments", [(), ("SELECT 1 AS n",), ("SELECT 1 AS n", "--format", "table")]
)
def test_a_reader_that_was_never_there(
    lives: PopulatedDirectory, arguments: tuple[str, ...]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with asking(lives, *arguments, out=writing) as running:
        os.close(writing)
        assert running.ended() == Ended(0, b"", b"")


def _assert_it_was_noted(lives: PopulatedDirectory) -> None:
    begun, ended = noted(lives)
    assert begun == read(None)
    assert 1000 < int(ended["rows"]) < 50_000


def test_it_is_interrupted_while_somebody_reads(lives: PopulatedDirectory) -> None:
    with asking(lives, _MANY) as running:
        running.out.readline()
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(WAIT_SECONDS) == 130  # nobody reads meanwhile
        assert running.err.read() == b""
    _assert_it_was_noted(lives)


_LONG = "printf('%.*c', 190000, 'a')"
_HALF = "printf('%.*c', 95000, 'a') || 'b'"
"""To look for the one in the other takes a second, and nothing interrupts it."""
_FORTY = "+".join(["instr(a, b)"] * 40)
_THOUSAND = (
    f"WITH t AS (SELECT {_LONG} AS a, {_HALF} AS b)"
    f" SELECT {'+'.join([f'({_FORTY})'] * 25)} AS x FROM t"
)
"""One step of many minutes."""


@pytest.mark.parametrize("statement", [f"{_ENDLESS} SELECT max(x) AS x FROM c", _THOUSAND])
def test_it_is_interrupted_while_it_computes(lives: PopulatedDirectory, statement: str) -> None:
    """It is interrupted between the steps of SQLite, and in one that nothing interrupts."""
    with asking(lives, statement) as running:
        files = Path(f"/proc/{running.process.pid}/fd")

        def has_it_open() -> bool:
            with suppress(FileNotFoundError):
                return any(str(file.readlink()).endswith("/store.db") for file in files.iterdir())
            return False

        wait_until(has_it_open)
        sleep(0.1)
        running.process.send_signal(signal.SIGINT)
        assert running.ended() == Ended(130, b"", b"")
    assert noted(lives) == [read(0)]


@pytest.mark.parametrize(
    "statement",
    [
        f"{_ENDLESS} SELECT max(x) AS x FROM c",
        _MANY,
        f"{_ENDLESS} SELECT max(instr({_LONG} || x, {_HALF})) AS x FROM c",
        f"{_ENDLESS} SELECT count(replace({_LONG} || x, {_HALF}, 'x')) AS x FROM c",
        f"{_ENDLESS} SELECT count(*) AS n FROM c WHERE instr({_LONG} || x, {_HALF}) > x",
        _THOUSAND,
        f"{_ENDLESS} SELECT x FROM c ORDER BY x % 7",
        f"{_ENDLESS} SELECT count(*) AS n FROM c a, c b, c d WHERE a.x + b.x + d.x < 0",
        f"{_MANY} LIMIT 50000",
    ],
    ids=[
        *("computes", "gives rows", "finds", "replaces", "finds where", "finds a thousand times"),
        *("sorts", "joins", "gives few rows"),
    ],
)
def test_it_takes_too_long(lives: PopulatedDirectory, statement: str) -> None:
    """E416, whether it computes in many steps or in one, or waits for its reader."""
    with asking(lives, statement, "--timeout", "0.1") as running:
        assert running.process.wait(WAIT_SECONDS) == 65
        assert b"--timeout" in running.err.read()
    assert noted(lives)


def test_nobody_reads_the_error(lives: PopulatedDirectory) -> None:
    """It ends although stdout and stderr are full pipes."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while os.write(writing, bytes(4096)):
            pass
    os.set_blocking(writing, True)
    with asking(lives, _MANY, "--timeout", "0.5", out=writing, err=writing) as running:
        assert running.process.wait(WAIT_SECONDS) == 65
    os.close(reading)
    os.close(writing)
    assert noted(lives)


def test_it_writes_no_file(lives: PopulatedDirectory, tmp_path: Path) -> None:
    """Sorting and joining is done in memory, so nothing that was read reaches another disk."""
    statement = (
        f"{_ENDLESS} SELECT DISTINCT x % 100000 AS x, hex(x) || '{'y' * 90}' AS y FROM"
        " (SELECT x FROM c LIMIT 100000) ORDER BY y"
    )
    code = (
        "import resource, signal; from collector.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); main()"
    )
    shutil.copy(lives.data / "store.db", tmp_path / "alone.db")
    command = [sys.executable, "-c", code, "store", "query", "--store", str(tmp_path / "alone.db")]
    done = subprocess.run(
        [*command, statement], capture_output=True, check=False, timeout=WAIT_SECONDS, cwd=tmp_path
    )
    assert (done.returncode, done.stdout.count(b"\n")) == (0, 100_000)


def test_wide_answers(lives: PopulatedDirectory) -> None:
    """A row of very many bytes is refused before it takes much memory."""
    columns = ", ".join(f"x AS c{n}" for n in range(190))
    wide = f"WITH t AS (SELECT {_LONG} AS x) SELECT {columns} FROM t"
    blobs = wide.replace("SELECT printf", "SELECT CAST(printf").replace(") AS x", ") AS BLOB) AS x")
    tall = f"{_ENDLESS} SELECT {_LONG} AS y FROM c LIMIT 1000"
    for arguments in ((wide,), (blobs,), (tall, "--format", "table")):
        done = run_measured("store", "query", "--data", lives.data, *arguments)
        assert (done.code, done.out, b"E416" in done.err) == (65, b"", True), arguments
        assert done.peak < 2 * _MOST_MB


def test_nobody_reads_unnoted(lives: PopulatedDirectory) -> None:
    with Spool(lives.data / "spool.db"), closing(sqlite3.connect(lives.data / "spool.db")) as db:
        db.execute("CREATE TRIGGER no BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, ''); END")
        for arguments in ((), ("SELECT * FROM conferencing",), (f"{_MANY} LIMIT 300000",)):
            done = ask(lives, *arguments)
            assert (done.code, done.out, b"E506" in done.err) == (1, b"", True)
        db.execute("DROP TRIGGER no")


@pytest.mark.skipif(_WRITES_FREELY, reason="nothing is read-only for root")
def test_a_directory_that_cannot_be_written(lives: PopulatedDirectory) -> None:
    lives.data.chmod(0o500)
    try:
        done = ask(lives, "SELECT * FROM conferencing")
    finally:
        lives.data.chmod(0o700)
    assert (done.code, done.out, b"E506" in done.err) == (1, b"", True)


def test_where_there_is_no_ledger_none_is_made(
    lives: PopulatedDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An SDK's store has no data directory."""
    alone = tmp_path / "alone"
    alone.mkdir()
    (lives.data / "store.db").rename(alone / "telemetry.db")
    monkeypatch.chdir(alone)
    counted = "SELECT count(*) AS n FROM conferencing"
    assert run("store", "query", "--store", "telemetry.db", counted).lines == [{"n": 5}]
    assert run("store", "risk", "--store", "telemetry.db", "--json").code == 0
    assert {path.name.partition("-")[0] for path in alone.iterdir()} == {"telemetry.db"}


def test_the_ledger_beside_a_store_is_told(lives: PopulatedDirectory, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(lives.data / "store.db")
    for store in (link, lives.data / "store.db"):
        named = ("--data", tmp_path, "--store", store)
        assert run("store", "query", *named, "SELECT 1 AS n").code == 0
    assert noted(lives) == [read(1)] * 2


def test_what_is_no_statement(lives: PopulatedDirectory) -> None:
    """Nothing of the statement is repeated, and the attempt is noted."""
    (canary,) = canaries(1)
    before = (lives.data / "store.db").read_bytes()
    for statement in (
        f"DELETE FROM conferencing WHERE \"client.address\" = '{canary}'",
        f"ATTACH '{lives.data / canary}' AS x",
        f'SELECT * FROM conferencing WHERE "client.address" = "{canary}"',
        canary,
    ):
        done = ask(lives, statement)
        assert (done.code, done.out, b"E407" in done.err) == (2, b"", True)
        assert canary.encode() not in done.err
        assert done.err.count(b"\n") == 1
    assert (lives.data / "store.db").read_bytes() == before
    assert canary.encode() not in lives.bytes()
    assert noted(lives) == [read(0)] * 4


def _damaged(store: Path) -> None:
    store.write_bytes(b"SQLite format 3\0" + b"\xff" * 9000)


def _of_another_format(store: Path) -> None:
    query(store, "PRAGMA user_version = 99")


def _a_spool(store: Path) -> None:
    store.write_bytes((store.parent / "spool.db").read_bytes())


def _a_directory(store: Path) -> None:
    store.unlink()
    store.mkdir()


def _a_link_to_itself(store: Path) -> None:
    store.unlink()
    store.symlink_to(store)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        *((change, b"E203") for change in (Path.unlink, _a_directory, _a_link_to_itself)),
        *((change, b"E501") for change in (_damaged, _a_spool, _of_another_format)),
    ],
)
@pytest.mark.parametrize("arguments", [(), ("SELECT 1 AS n",)])
def test_what_is_no_store(
    lives: PopulatedDirectory,
    change: Callable[[Path], object],
    code: bytes,
    arguments: tuple[str],
) -> None:
    change(lives.data / "store.db")
    done = ask(lives, *arguments)
    assert (done.code, done.out, code in done.err) == (78, b"", True)
    assert done.err.count(b"\n") == 1


def test_while_somebody_writes(lives: PopulatedDirectory) -> None:
    """Readers see whole batches, and a reader that stands still does not hold up a writer."""
    record: Record = {"schema": lives.schema.id, "os.type": "ios", "count": 2}
    with Store(lives.data / "store.db", lives.schema) as store, asking(lives, _MANY) as standing:
        standing.out.readline()
        stop, done = threading.Event(), list[bytes]()

        def work() -> None:
            while not stop.is_set():
                store.deliver(Batch(key := os.urandom(16), minute(), [record] * 10))
                done.append(key)

        with threads(work):
            count = "SELECT sum(count) AS n FROM conferencing"
            counts = [ask(lives, count).lines[0]["n"] for _ in range(3)]
            is_held_up = not eventually(lambda: len(done) > 4)
            counts.append(ask(lives, count).lines[0]["n"])
            stop.set()
    assert not is_held_up
    assert all(count % 20 == 5 for count in counts)
    assert counts == sorted(counts)
    assert counts[-1] > 5


def test_the_page_lists_the_functions() -> None:
    (listed,) = re.findall(r"<!-- functions -->\n```text\n(.*?)```", _PAGE, re.DOTALL)
    assert listed.split() == sorted(FUNCTIONS)


@pytest.mark.long  # `tests/test_fresh.py` runs them as well, from the wheel
def test_examples_of_the_page(tmp_path: Path) -> None:
    (block,) = re.findall(r"<!-- run -->\n```console\n(.*?)```", _PAGE, re.DOTALL)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for example in block.removeprefix("$ ").split("\n$ "):
        command, _, shown = example.partition("\n")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=True,
            timeout=WAIT_SECONDS,
        )
        assert _lines(done.stdout.decode()) == _lines(shown)


def _lines(text: str) -> list[str]:
    return [re.sub(r"[0-9-]{10}T[0-9:]{8}Z", "", line).rstrip() for line in text.splitlines()]
