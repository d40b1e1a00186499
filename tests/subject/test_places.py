"""Rights over several sinks, one of which is on another machine: each is named, and none holds up
the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from collector.config import load
from collector.config.sink_types import sink_class
from collector.contracts import Removal, Subject
from collector.errors import DeliveryError, Unreachable
from collector.filter.redaction import Rule
from collector.ledger import Note
from collector.retention.locations import Locations
from collector.retention.upkeep import prune_all
from collector.routing import changes, flows
from collector.sinks.ndjson import NdjsonSink
from collector.sinks.sink import Opening, open_sink
from collector.spool import note
from collector.subject.rights import Removing, SchemaSubject, export, remove, remove_all
from collector.testing.sinks import batch_of
from tests.support.ledgers import entries_of
from tests.support.packages import EXAMPLE, offered
from tests.support.populated import PopulatedDirectory, address, minute

_REMOTE = '''
"""A sink of another machine: a file that stands for it, and another that says it is down."""

import os
from pathlib import Path

from collector_jsonl import Jsonl

from collector.sinks import SinkSettings, Unreachable


class Settings(SinkSettings):
    url: str

    @property
    def path(self):
        return Path(os.environ.get(self.url, "nowhere"))

    def place(self, directory):
        return f"remote://{os.environ.get(self.url)}"

    def beyond(self):
        return ["replicas of the other machine"]


class Remote(Jsonl):
    Settings = Settings
    unit = "rows"

    def scan(self, rule):
        self._reach()
        return super().scan(rule)

    def rewrite(self, rules):
        self._reach()
        return super().rewrite(rules)

    def _reach(self):
        if self.path.with_suffix(".down").exists():
            raise Unreachable("the server does not answer")
'''
_ALL = ("store", "ndjson", "warehouse")
_SINK = {
    "type": "remote",
    "url": "REMOTE_PLACE",
    "party": "processor",
    "recipient": "Example Ltd",
    "country": "DE",
    "purposes": ["service_operations"],
}


@pytest.fixture
def populated(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PopulatedDirectory]:
    """A hundred people in the store and in files, and three of them on another machine."""
    sources = {"collector_jsonl": EXAMPLE.read_text(), "collector_remote": _REMOTE}
    site = offered(
        tmp_path_factory.mktemp("p") / "site", sources, {"remote": "collector_remote:Remote"}
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("REMOTE_PLACE", str(tmp_path / "remote.jsonl"))
    sink_class.cache_clear()
    populated = PopulatedDirectory(tmp_path)
    settings = orjson.loads(populated.config_file.read_bytes())
    settings["sinks"]["warehouse"] = _SINK
    populated.config_file.write_bytes(orjson.dumps(settings))
    populated.deliver(range(100))
    opening = Opening("warehouse", (populated.schema,), populated.data)
    with open_sink(load(populated.config_file).sinks["warehouse"], opening) as sink:
        batch = batch_of(1, [1, 2], populated.schema)
        text = batch.payload.replace(b"203.0.113.1", address(3).encode())
        sink.deliver(type(batch)(batch.id, minute(), layout=batch.layout, payload=text))
    yield populated
    sink_class.cache_clear()


def _subject(number: int) -> list[SchemaSubject]:
    subject = Subject("client.address", address(number), minute(1), minute(-1))
    return [SchemaSubject(subject, frozenset())]


def test_each_place_is_named(populated: PopulatedDirectory) -> None:
    """In the answers and in the ledger; with recipient and country, what remains elsewhere."""
    found = export(populated.locations, _subject(3))
    assert {n: len(each) for n, each in found.sinks.items()} == dict.fromkeys(_ALL, 1)
    done = remove(populated.locations, Removing(_subject(3)), wait=1)
    assert asdict(done)["sinks"] == {"store": 1, "ndjson": 1, "warehouse": 1}
    beyond = populated.locations.beyond
    assert "sink warehouse: Example Ltd, DE" in beyond
    assert "replicas of the other machine" in beyond
    facts = [entry.fact("places") for entry in entries_of(populated.data / "spool.db")]
    assert facts[-2:] == ["store=1 ndjson=1 warehouse=1"] * 2
    assert populated.left([3]) == set()


def test_one_that_does_not_answer(populated: PopulatedDirectory) -> None:
    """The others have done it; it is named, in the ledger too, and is done later."""
    down = populated.directory / "remote.down"
    down.touch()
    with pytest.raises(Unreachable, match=r"^warehouse: .* \[E514\]"):
        remove(populated.locations, Removing(_subject(3)), wait=1)
    with pytest.raises(Unreachable, match=r"\[E514\]"):
        prune_all(populated.locations, wait=1)
    erased, pruned = entries_of(populated.data / "spool.db", "erasure", "prune")
    assert erased.fact("places") == "store=1 ndjson=1 warehouse=-"
    assert pruned.fact("places") == "store=0 ndjson=0 warehouse=-"
    down.unlink()
    assert remove(populated.locations, Removing(_subject(3)), wait=1).sinks["warehouse"] == 1
    assert populated.left([3]) == set()


@pytest.mark.parametrize("error", [DeliveryError("E503", "refused"), ValueError("canary")])
def test_what_one_person_asks_for_does_not_hold_up_others(
    populated: PopulatedDirectory, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuses(sink: NdjsonSink, rules: Sequence[Rule]) -> Any:
        if any(rule.may_concern(f'"{address(5)}"'.encode()) for rule in rules):
            raise error
        return rewrite(sink, rules)

    rewrite = NdjsonSink.rewrite
    with populated.locations.opened() as sinks:
        monkeypatch.setattr(type(sinks["ndjson"]), "rewrite", refuses)
    requests = [Removing(_subject(number)) for number in (3, 5, 7)]
    third, fifth, seventh = remove_all(populated.locations, requests, wait=1)
    assert isinstance(third, Removal)
    assert third.sinks == {"store": 1, "ndjson": 1, "warehouse": 1}
    assert isinstance(fifth, DeliveryError)
    assert "canary" not in str(fifth)
    assert isinstance(seventh, Removal)
    assert seventh.sinks == {"store": 1, "ndjson": 1, "warehouse": 0}
    facts = [each.fact("places") for each in entries_of(populated.data / "spool.db", "erasure")]
    assert facts == [
        "store=1 ndjson=1 warehouse=1",
        "store=1 ndjson=- warehouse=0",
        "store=1 ndjson=1 warehouse=0",
    ]
    with pytest.raises(DeliveryError):
        remove(populated.locations, Removing(_subject(5)), wait=1)


def _without(populated: PopulatedDirectory, name: str) -> Locations:
    """The locations after a configuration ran, and a sink is none of its sinks any more."""
    config = load(populated.config_file)
    shown = {f"sinks.{name}.{key}": value for key, value in _SINK.items()}
    lines = changes.document(flows(config, populated.schema)), orjson.dumps(shown)
    note(populated.data, Note.of("configuration", document=b"\n".join(lines), change="first"))
    settings = orjson.loads(populated.config_file.read_bytes())
    settings["sinks"].pop(name)
    populated.config_file.write_bytes(orjson.dumps(settings))
    return populated.locations


def test_a_sink_of_an_earlier_configuration(populated: PopulatedDirectory) -> None:
    """It is found by its settings, also under another name, and once."""
    locations = _without(populated, "warehouse")
    done = remove(locations, Removing(_subject(3)), wait=1)
    assert done.sinks == {"store": 1, "ndjson": 1, "warehouse (earlier 1)": 1}
    (entry,) = entries_of(populated.data / "spool.db", "erasure")
    assert entry.fact("places") == "store=1 ndjson=1 warehouse.1=1"
    settings = orjson.loads(populated.config_file.read_bytes())
    settings["sinks"]["lake"] = _SINK
    populated.config_file.write_bytes(orjson.dumps(settings))
    assert [*populated.locations.sinks] == ["store", "ndjson", "lake"]


def test_a_reference_that_leads_elsewhere_now(
    populated: PopulatedDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place that the ledger states is said, and not taken for the new one."""
    before = str(populated.directory / "remote.jsonl")
    locations = _without(populated, "warehouse")
    monkeypatch.setenv("REMOTE_PLACE", str(populated.directory / "other.jsonl"))
    locations = populated.locations
    (place,) = locations.unreached
    assert place.startswith(f"sink warehouse of an earlier configuration: remote://{before}, which")
