"""A sink of another package is believed in what it says; what it does not say is unproven."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.config.sink_types import settings_of, sink_class
from collector.contracts import Batch
from collector.ledger import Note
from collector.schema import load_schema
from collector.sinks.sink import Opening, open_sink
from collector.spool import note
from collector.testing.sinks import batch_of
from tests.claims.test_stored_fields import found, verdicts
from tests.retention.test_earlier import configured, note_configuration
from tests.support.packages import EXAMPLE, offered

pytestmark = pytest.mark.usefixtures("no_dry_run")
_RECORD = b'{"chat": "hello from Ana"}\n'
_TEXT = b"hello from Ana\n"
_SILENT = """
from collector_jsonl import Jsonl
from collector.sinks import ErasableSink

class Silent(Jsonl):
    others = ErasableSink.others

class Failing(Jsonl):
    @property
    def others(self):
        raise ValueError("hello from Ana")

class Torn(Jsonl):
    def scan(self, rule):
        raise ValueError("hello from Ana")

class Hidden(Jsonl):
    @property
    def exists(self):
        raise ValueError("hello from Ana")
"""
_TYPES = {
    "jsonl": "collector_jsonl:Jsonl",
    **{name.lower(): f"silent:{name}" for name in ("Silent", "Failing", "Torn", "Hidden")},
}


@pytest.fixture(autouse=True)
def _offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    modules = {"collector_jsonl": EXAMPLE.read_text(), "silent": _SILENT}
    monkeypatch.syspath_prepend(str(offered(tmp_path / "site", modules, _TYPES)))
    sink_class.cache_clear()
    yield
    sink_class.cache_clear()


def _configured(folder: Path, type_: str) -> Path:
    """A configuration with a sink of a type, and its ledger."""
    sink = {"type": type_, "path": str(folder / "copy.jsonl")}
    data = folder / "data"
    file = configured(folder, "c.json", data=str(data), sinks={"store": False, "copy": sink})
    note_configuration(data, file)
    schema = load_schema("conferencing")
    note(data, Note.of("schema", document=schema.document, schema=schema.id, change="first"))
    return file


def _deliver(folder: Path, type_: str, *batches: Batch) -> None:
    """Deliver batches to the sink."""
    settings = settings_of(type_).model_validate({"type": type_, "path": folder / "copy.jsonl"})
    opening = Opening("copy", (load_schema("conferencing"),), folder / "data")
    with open_sink(settings, opening) as sink:
        sink.deliver(*batches)


@pytest.mark.parametrize(
    ("type_", "planted", "is_empty", "expected"),
    [
        ("jsonl", b"", False, "holds"),
        ("jsonl", _RECORD, False, "broken"),
        ("jsonl", _TEXT, True, "broken"),
        ("silent", b"", True, "unproven"),
        ("silent", b"", False, "unproven"),
        ("silent", _RECORD, True, "broken"),
        ("silent", _TEXT, False, "unproven"),
        ("failing", b"", False, "unproven"),
        ("torn", b"", False, "unproven"),
    ],
)
def test_what_a_type_says(
    tmp_path: Path, type_: str, planted: bytes, is_empty: bool, expected: str
) -> None:
    """A type that counts what is not Collector's is believed. Where it cannot tell, or its code
    fails, what is stored there is unproven with a reason; also where it shows no record."""
    file = _configured(tmp_path, type_)
    if not is_empty:
        _deliver(tmp_path, type_, batch_of(1, [1], load_schema("conferencing")))
    if planted:
        with (tmp_path / "copy.jsonl").open("ab") as lines:
            lines.write(planted)
    outcome = found(file)
    assert expected in verdicts(outcome)
    assert expected == "holds" or "holds" not in verdicts(outcome)
    told = [each.message for each in outcome["stored"] or ()]
    assert all("`copy`" in each for each in told)
    assert bool(told) == (expected != "holds")


def test_a_sink_that_cannot_be_read_beside_no_ledger(tmp_path: Path) -> None:
    """Records may be there of which no ledger says where they came from."""
    file = configured(
        tmp_path,
        "c.json",
        data=str(tmp_path / "data"),
        sinks={"store": False, "copy": {"type": "hidden", "path": str(tmp_path / "copy.jsonl")}},
    )
    (tmp_path / "data").mkdir(exist_ok=True)
    told = found(file)["ledger"]
    assert told
    assert all(each.is_open for each in told)
