"""Sinks of earlier configurations: what a sidecar wrote to another place is found by its ledger."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from collector.config import load
from collector.config.model import plain_settings
from collector.contracts import Batch
from collector.filter.stored import read
from collector.ledger import Note
from collector.retention.earlier import EarlierSinks
from collector.retention.locations import Locations
from collector.routing import all_flows, changes
from collector.routing.schemas import configured as configured_schemas
from collector.schema import load_schema
from collector.sinks.ndjson import NdjsonFile
from collector.sinks.parquet import ParquetSettings, ParquetSink
from collector.sinks.sink import Opening
from collector.sinks.store import Store
from collector.spool import Spool, note
from tests.support.command import run
from tests.support.deadline import wait_until

_SCHEMA = load_schema("conferencing")
_ADDRESS = "203.0.113.7"
_DAY = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%d")
_MINUTE = f"{_DAY}T10:20:00Z"


def configured(folder: Path, name: str, **more: Any) -> Path:
    """A file of settings."""
    path = folder / name
    path.write_bytes(orjson.dumps(more))
    return path


def note_configuration(data: Path, file: Path) -> None:
    """What a sidecar notes when it starts with a configuration."""
    config = load(file)
    matrices = all_flows(config, configured_schemas(config))
    lines = (changes.document(*matrices), orjson.dumps(plain_settings(config)))
    data.mkdir(exist_ok=True)
    with Spool(data / "spool.db"):
        pass
    note(data, Note.of("configuration", document=b"\n".join(lines), change="first"))


def batch(*addresses: str) -> Batch:
    """Records of people."""
    records = [{"schema": _SCHEMA.id, "client.address": each} for each in addresses]
    payload = b"".join(orjson.dumps(each) + b"\n" for each in records)
    layout = _SCHEMA.layout
    return read(Batch(os.urandom(16), _MINUTE, layout=layout, payload=payload))


def lines_at(path: Path) -> Path:
    """A file of records of two people."""
    with NdjsonFile(path) as file:
        file.deliver(batch(_ADDRESS, "203.0.113.8"))
    return path


def store_at(path: Path) -> Path:
    """A store with records of two people."""
    with Store(path, _SCHEMA) as store:
        store.deliver(batch(_ADDRESS, "203.0.113.8"))
    return path


def erased(folder: Path, *arguments: object, cwd: Path | None = None) -> Any:
    """Erase a person, and return the outcome."""
    window = ("--from", _DAY, "--to", _DAY, "--json")
    field = f"client.address={_ADDRESS}"
    return run("subject", "erase", "--field", field, *window, *arguments, directory=cwd or folder)


SINKS: dict[str, tuple[Mapping[str, Any], Any]] = {
    "a file of records": ({"ndjson": {"path": "{}/out/a.ndjson"}}, lines_at),
    "a file of another name": ({"lake": {"type": "ndjson", "path": "{}/out/a.ndjson"}}, lines_at),
    "another store": ({"store": {"path": "{}/out/s.db"}}, store_at),
    "a further store": ({"extra": {"type": "store"}}, store_at),
}


@pytest.mark.parametrize("case", SINKS)
def test_a_directory_by_its_name_is_enough(tmp_path: Path, case: str) -> None:
    """What a configured sink holds goes as well, without the configuration."""
    data = tmp_path / "data"
    written, make = SINKS[case]
    sinks = orjson.loads(orjson.dumps(written).replace(b"{}", str(tmp_path).encode()))
    file = configured(tmp_path, "c.json", data=str(data), sinks=sinks)
    (tmp_path / "out").mkdir()
    (sink,) = sinks.values()
    place = Path(sink.get("path", data / "sinks" / "extra" / "store.db"))
    place.parent.mkdir(parents=True, exist_ok=True)
    make(place)
    note_configuration(data, file)
    assert _ADDRESS.encode() in place.read_bytes()
    done = erased(tmp_path, "--data", data)
    assert done.code == 0, done.err
    told = done.json
    assert sum(told["sinks"].values()) == 1
    found = place.read_bytes()
    assert _ADDRESS.encode() not in found
    assert b"203.0.113.8" in found
    assert sum(erased(tmp_path, "--config", file).json["sinks"].values()) == 0


@pytest.mark.parametrize("now", ["gone", "another name", "another type"])
def test_what_a_lake_has_collected_is_found(tmp_path: Path, now: str) -> None:
    data, lake = tmp_path / "data", {"type": "parquet", "path": str(tmp_path / "lake")}
    note_configuration(data, configured(tmp_path, "old.json", data=str(data), sinks={"lake": lake}))
    opening = Opening("lake", (_SCHEMA,), data)
    with ParquetSink(ParquetSettings(type="parquet", path=tmp_path / "lake"), opening) as sink:
        sink.deliver(batch(_ADDRESS, "203.0.113.8"))
    lines = {"type": "ndjson", "path": str(tmp_path / "a.ndjson")}
    sinks = {
        "gone": {"ndjson": lines},
        "another name": {"ndjson": lines, "archive": lake},
        "another type": {"lake": lines},
    }[now]
    file = configured(tmp_path, "c.json", data=str(data), sinks=sinks)
    done = erased(tmp_path, "--config", file)
    assert done.code == 0, done.err
    assert sum(done.json["sinks"].values()) == 1
    found = b"".join(each.read_bytes() for each in data.rglob("*.ndjson"))
    assert _ADDRESS.encode() not in found
    assert b"203.0.113.8" in found


def test_a_relative_path_is_found_from_the_data_directory(tmp_path: Path) -> None:
    """It was relative to where the sidecar ran, which the name of its data directory tells."""
    site, other = tmp_path / "site", tmp_path / "other"
    for folder in (site, other):
        folder.mkdir()
    file = configured(site, "c.json", data="data", sinks={"ndjson": {"path": "a.ndjson"}})
    note_configuration(site / "data", file)
    path = lines_at(site / "a.ndjson")
    done = erased(tmp_path, "--data", site / "data", cwd=other)
    assert (done.code, sum(done.json["sinks"].values())) == (0, 1)
    assert _ADDRESS.encode() not in path.read_bytes()


def test_what_cannot_be_reached_is_said(tmp_path: Path) -> None:
    """What may be ours and cannot be looked at, as a path from nowhere or a type that is gone, is
    exit 1. A file of another program is beyond reach, and nothing of it is touched. What is not
    there any more does not matter."""
    data, foreign = tmp_path / "data", tmp_path / "foreign"
    foreign.write_text(f'{{"of": "another program", "address": "{_ADDRESS}"}}\n')
    before = foreign.read_bytes()
    cases: list[tuple[Mapping[str, Any], int, str]] = [
        ({"ndjson": {"path": str(tmp_path / "gone")}}, 0, ""),
        ({"ndjson": {"path": str(foreign)}}, 0, "beyond"),
        ({"store": {"path": str(foreign)}}, 0, "beyond"),
        ({"ndjson": {"path": "somewhere/else"}}, 1, "unreached"),
    ]
    for number, (sinks, code, heading) in enumerate(cases):
        each = tmp_path / f"data{number}"
        file = configured(tmp_path, "c.json", data=str(each), sinks=sinks)
        note_configuration(each, file)
        done = erased(tmp_path, "--data", each)
        assert done.code == code, (sinks, done.err)
        assert (b"not reached: sink" in done.err) is bool(code)
        for each_heading in ("beyond", "unreached"):
            named = "of an earlier configuration" in " ".join(done.json[each_heading])
            assert named is (each_heading == heading), (sinks, done.json)
        pruned = run("store", "prune", "--data", each, "--json", directory=tmp_path)
        assert (pruned.code, pruned.json["unreached"]) == (code, done.json["unreached"])
    assert foreign.read_bytes() == before
    document = b'{}\n{"sinks.lake.type": "nonesuch", "sinks.lake.url": "a"}'
    data.mkdir()
    with Spool(data / "spool.db"):
        pass
    note(data, Note.of("configuration", document=document, change="first"))
    without = Note.of("configuration", document=b"{}\n{}", change="neutral")
    assert erased(tmp_path, "--data", data).code == 1
    note(data, without)
    assert erased(tmp_path, "--data", data).code == 1
    note(data, Note.of("drop", command="store drop", sink="lake", rows=0, batches=0))
    given_up = erased(tmp_path, "--data", data)
    assert (given_up.code, given_up.json["unreached"]) == (0, [])
    assert any("sink lake" in place for place in given_up.json["beyond"])
    note(data, Note.of("configuration", document=document, change="unknown"), without)
    assert erased(tmp_path, "--data", data).code == 1, "it came back since"


_SENDING: dict[str, dict[str, Any]] = {
    "otlp": {"endpoint": "http://127.0.0.1:4317"},
    "nats": {"url": "nats://127.0.0.1", "stream": "telemetry"},
    "kafka": {"url": "kafka://127.0.0.1", "topic": "telemetry"},
}


@pytest.mark.parametrize(
    ("type_", "several"), [("otlp", True), ("nats", False), ("kafka", False)], ids=[*_SENDING]
)
def test_a_sink_that_cannot_forget_is_no_failure(
    tmp_path: Path, type_: str, *, several: bool
) -> None:
    data = tmp_path / "data"
    sink = {"type": type_, "party": "first", **_SENDING[type_]}
    schemas = {"schemas": ["conferencing", "webrtc"]} if several else {}
    lines = {"type": "ndjson", "path": str(lines_at(tmp_path / "a.ndjson"))}
    on = configured(tmp_path, "on.json", data=str(data), sinks={"b": sink, "c": lines}, **schemas)
    off = configured(tmp_path, "off.json", data=str(data), sinks={"c": lines}, **schemas)
    note_configuration(data, on)
    window = ("--from", _DAY, "--to", _DAY)
    for chosen, listed in ((on, "sink b: "), (off, "sink b of an earlier configuration: ")):
        found = run(
            *("subject", "export", "--config", chosen, "--field", f"client.address={_ADDRESS}"),
            *window,
        )
        asked = [found, run("store", "prune", "--config", chosen, "--json")]
        asked.append(erased(tmp_path, "--config", chosen))
        for done in asked:
            assert (done.code, done.json["unreached"]) == (0, []), done.err
            (place,) = (each for each in done.json["beyond"] if each.startswith("sink b"))
            assert place.startswith(listed)
        note_configuration(data, off)
    by_name = erased(tmp_path, "--data", data)
    assert (by_name.code, [*by_name.json["sinks"]]) == (0, ["c (earlier 1)"])


def test_a_record_is_counted_once(tmp_path: Path) -> None:
    """Under the sink that has it, also where another one has its place now; sinks that nobody
    configured are not mentioned."""
    data = tmp_path / "data"
    settings = {"path": str(tmp_path / "lake"), "type": "parquet", "size": "1MiB", "every": "1s"}
    old = configured(tmp_path, "a.json", data=str(data), sinks={"store": False, "lake": settings})
    note_configuration(data, old)
    opening = Opening("lake", (_SCHEMA,), data)
    lake = ParquetSettings.model_validate(settings)

    def put() -> bool:
        sink.idle()
        return any((tmp_path / "lake").rglob("*.parquet"))

    with ParquetSink(lake, opening) as sink:
        sink.deliver(batch(_ADDRESS))
        wait_until(put)
        sink.deliver(batch(_ADDRESS))
    settings["path"] = f"{tmp_path}/./lake/"
    new = configured(tmp_path, "b.json", data=str(data), sinks={"store": False, "other": settings})
    for chosen, names in ((old, ["lake"]), (new, ["other", "lake (earlier 1)"])):
        window = ("--from", _DAY, "--to", _DAY)
        found = run(
            *("subject", "export", "--config", chosen, "--field", f"client.address={_ADDRESS}"),
            *window,
        ).json["sinks"]
        assert [*found] == names
        assert sum(len(each) for of in found.values() for each in of.values()) == 2
    done = erased(tmp_path, "--data", data)
    assert sum(done.json["sinks"].values()) == 2
    assert sum(erased(tmp_path, "--config", new).json["sinks"].values()) == 0


def test_today_is_not_earlier(tmp_path: Path) -> None:
    """A place that the configuration names is there once, under its own name."""
    data = tmp_path / "data"
    sinks = {"ndjson": {"path": str(lines_at(tmp_path / "a.ndjson"))}}
    file = configured(tmp_path, "c.json", data=str(data), sinks=sinks)
    note_configuration(data, file)
    locations = Locations.of(load(file), (_SCHEMA,))
    assert set(locations.sinks) == {"store", "ndjson"}
    assert locations.earlier == EarlierSinks()


def test_the_schema_is_the_ledgers(tmp_path: Path) -> None:
    data = tmp_path / "data"
    web = load_schema("participants-qos")
    with Spool(data / "spool.db"):
        pass
    fact = {"schema": web.id, "change": "first"}
    note(data, Note.of("schema", document=web.document, **fact))
    window = ("--from", _DAY, "--to", _DAY)
    field = "client.address=203.0.113.7"
    done = run("subject", "export", "--data", data, "--field", field, *window)
    assert done.json["schema"] == web.id
