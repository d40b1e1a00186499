"""The sidecar's own ledger entries: changes since the last run, and checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from time import sleep
from typing import Any

import pytest

from collector.config import read
from collector.ledger import Entry, opened
from collector.ops.log import EventLog
from collector.retention.earlier import noted_schemas
from collector.schema import resources
from collector.server import ledger_notes
from collector.server.components import Components
from collector.server.ledger_notes import LedgerNotes
from collector.server.preflight import prepare
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.ledgers import entries_of
from tests.support.make_batches import commit, entry
from tests.support.programs import threads
from tests.support.sidecar import FREE_PORTS


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first entries are waited for, however busy the machine is."""
    monkeypatch.setattr(ledger_notes, "_NOTE_SECONDS", WAIT_SECONDS)


@contextmanager
def sidecar(folder: Path, settings: str = "") -> Iterator[tuple[Components, LedgerNotes]]:
    """The components of a sidecar, and what writes of them; nothing is received."""
    file = folder / "config.yaml"
    schema = folder / "s.yaml"
    if not schema.exists():
        path = resources.schema("web")
        assert path is not None
        schema.write_text(path.read_text())
    file.write_text(f"data: {folder / 'data'}\nschema: {schema}\n{settings}")
    with ExitStack() as stack:
        components = prepare(read(file, FREE_PORTS))
        components.open(stack)
        yield components, LedgerNotes(components, EventLog("info"))


def entries(folder: Path) -> list[Entry]:
    """All but those that name keys; the ledger must hold."""
    return [each for each in entries_of(folder / "data" / "spool.db") if each.kind != "key"]


def told(folder: Path) -> list[tuple[str, str | None]]:
    """Each entry in short."""
    return [(each.kind, each.fact("change") or each.fact("at")) for each in entries(folder)]


def lived(folder: Path, settings: str = "") -> list[tuple[str, str | None]]:
    """The entries of a start and a stop."""
    before = len(told(folder)) if (folder / "data" / "spool.db").exists() else 0
    with sidecar(folder, settings) as (_, writes):
        writes.begin()
        writes.end()
    return told(folder)[before:]


START, STOP = ("checkpoint", "start"), ("checkpoint", "stop")


def test_the_first_start_notes_what_it_runs_with(tmp_path: Path) -> None:
    assert lived(tmp_path) == [("schema", "first"), ("configuration", "first"), START, STOP]
    assert lived(tmp_path) == [START, STOP]
    schema = entries(tmp_path)[0]
    with sidecar(tmp_path) as (components, _), opened(components.spool.path) as ledger:
        documents = dict(ledger.documents())
        assert documents[schema.fact("digest") or ""] == components.schemas[0].document
        assert schema.fact("schema") == components.schemas[0].id


def change(folder: Path, old: str, new: str) -> None:
    """Edit the schema."""
    path = folder / "s.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_schema_that_lets_more_through(tmp_path: Path) -> None:
    """It is called widening, with the schema's own reasons for what widens."""
    lived(tmp_path)
    first = entries(tmp_path)[0].fact("digest")
    change(tmp_path, "retention: 30d", "retention: 60d")
    assert ("schema", "widening") in lived(tmp_path)
    noted = next(each for each in reversed(entries(tmp_path)) if each.kind == "schema")
    assert noted.fact("before") == first
    reasons = [fact for name, fact in noted.facts if name == "reason"]
    assert reasons
    assert all(reason.startswith("fields.") for reason in reasons)
    change(tmp_path, "retention: 60d", "retention: 7d")
    assert lived(tmp_path) == [("schema", "narrowing"), START, STOP]


def test_a_configuration_that_sends_more(tmp_path: Path) -> None:
    lived(tmp_path)
    more = f"sinks: {{ndjson: {{path: {tmp_path / 'out.ndjson'}}}}}\n"
    assert lived(tmp_path, more) == [("configuration", "widening"), START, STOP]
    reasons = [fact for name, fact in entries(tmp_path)[-3].facts if name == "reason"]
    assert reasons[0] == "ndjson: sink added"
    assert reasons[1].startswith("ndjson: flow added ")
    assert lived(tmp_path, f"{more}log: {{level: debug}}\n")[0] == ("configuration", "neutral")
    assert lived(tmp_path)[0] == ("configuration", "narrowing")
    token = "auth: {tokens: [" + "c0ffee11" * 8 + "]}\n"
    assert lived(tmp_path, token)[0] == ("configuration", "neutral")
    with opened(tmp_path / "data" / "spool.db") as ledger:
        assert not any(b"c0ffee11" in (text or b"") for _, text in ledger.documents())


def test_a_document_that_is_gone_makes_a_change_unknown(tmp_path: Path) -> None:
    """It is said as it is, and the start goes on."""
    lived(tmp_path)
    with sidecar(tmp_path) as (components, _):
        query(components.spool.path, "UPDATE documents SET text = x'00'")
    change(tmp_path, "retention: 30d", "retention: 60d")
    with sidecar(tmp_path) as (_, writes):
        writes.begin()
    with opened(tmp_path / "data" / "spool.db") as ledger:
        newest = ledger.newest("schema")
    assert newest is not None
    assert newest.fact("change") == "unknown"


def test_checkpoints_come_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [0.0]
    monkeypatch.setattr(ledger_notes, "monotonic", lambda: seconds[0])
    monkeypatch.setattr(ledger_notes, "_MOST_RECEIPTS", 3)
    with sidecar(tmp_path) as (components, writes):
        writes.begin()
        for n in range(7):
            commit(components.spool, entry(n))
            writes.update()
        seconds[0] = 3600.0
        writes.update()
        wait_until(lambda: told(tmp_path)[-1] == ("checkpoint", "hour"))
    checkpoints = [each for each in entries(tmp_path) if each.kind == "checkpoint"]
    assert [each.fact("at") for each in checkpoints] == ["start", "receipts", "receipts", "hour"]
    tips = [each.receipt.sequence for each in checkpoints]  # one may come with the next receipt
    assert all(least <= tip <= least + 1 for least, tip in zip([0, 3, 6, 7], tips, strict=True))


def test_a_key_that_is_of_no_use(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The log says that nothing is signed; all else goes on."""
    lived(tmp_path)
    assert "unsigned" not in capfd.readouterr().err
    (tmp_path / "data" / "ledger.key").write_bytes(b"canary")
    assert lived(tmp_path) == [START, STOP]
    told_by_log = capfd.readouterr().err
    assert '"event":"unsigned"' in told_by_log
    assert "canary" not in told_by_log


def test_a_slow_disk_gets_the_first_entries_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are neither waited for nor written again while they are pending."""
    goes_on = Event()
    with sidecar(tmp_path) as (components, writes):
        slow = components.spool.submit(lambda _: goes_on.wait(WAIT_SECONDS))
        monkeypatch.setattr(ledger_notes, "_NOTE_SECONDS", 0)
        writes.begin()
        monkeypatch.setattr(ledger_notes, "_NOTE_SECONDS", WAIT_SECONDS)
        for _ in range(3):
            writes.update()
        goes_on.set()
        assert slow.result(WAIT_SECONDS)
        wait_until(lambda: START in told(tmp_path))
        writes.update()
        writes.end()
    assert told(tmp_path) == [("schema", "first"), ("configuration", "first"), START, STOP]


def test_what_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    """A start is not held up by it, and is noted later."""
    with sidecar(tmp_path) as (components, writes):
        components.spool.close()
        writes.begin()
        writes.update()
        writes.end()
    assert told(tmp_path) == []
    assert lived(tmp_path)[0] == ("schema", "first")


def test_schemas_that_come_and_go(tmp_path: Path) -> None:
    """Each that is new or changed has an entry, compared with the last of its name; the ledger
    knows which are in force, and one alone in the place of one alone is compared with it."""

    def started(*names: str) -> list[tuple[str | None, str | None]]:
        """The schemas that an entry is about, and what changes, where these run."""
        before, file = len(told(tmp_path)) if data.exists() else 0, tmp_path / "config.yaml"
        file.write_text(f"data: {data.parent}\nschemas: [{', '.join(names)}]\n")
        with ExitStack() as stack:
            components = prepare(read(file, FREE_PORTS))
            components.open(stack)
            writes = LedgerNotes(components, EventLog("info"))
            writes.begin()
            writes.end()
        assert [schema.name for schema in noted_schemas(data.parent)] == [*names]
        noted = [each for each in entries(tmp_path)[before:] if each.kind == "schema"]
        return [(each.fact("schema"), each.fact("change")) for each in noted]

    data = tmp_path / "data" / "spool.db"
    strict, web = "conferencing-strict", "web"
    assert started("conferencing") == [("conferencing/1.0.0", "first")]
    assert started("conferencing", web) == [("web/1.0.0", "widening")]
    assert started(web, "conferencing") == []
    assert started(web) == []
    assert started(strict) == [("conferencing-strict/1.0.0", "widening")]
    assert started(web) == [("web/1.0.0", "widening")]
    assert started(web, strict) == [("conferencing-strict/1.0.0", "widening")]
    assert started(web, strict) == []


def test_a_reload_beside_the_first_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lived(tmp_path)
    compare = ledger_notes._changes

    def slowly(*parts: Any) -> Any:
        sleep(0.1)
        return compare(*parts)

    monkeypatch.setattr(ledger_notes, "_changes", slowly)
    with sidecar(tmp_path) as (components, writes):
        with threads(*[writes.update] * 3):
            pass
        writes.begin()
        components.spool.close()
    assert told(tmp_path)[-1:] == [START]
    assert told(tmp_path).count(START) == 2
