"""A start that lets more data flow than the last run in the data directory."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from collector.config import Loaded, examine
from collector.errors import ConfigFaults
from collector.ledger import opened as opened_ledger
from collector.ops.log import EventLog
from collector.routing.changes import all_changes, verdict
from collector.server.components import Components
from collector.server.ledger_notes import LedgerNotes, widenings
from collector.server.preflight import prepare
from collector.spool import FILE_NAME, Spool, recover
from tests.server.keeping import settings
from tests.support.command import Ended, run_process
from tests.support.deadline import wait_until
from tests.support.sidecar import FREE_PORTS, started
from tests.support.tcp import free_port

_FILE = "collector.yaml"
_EVENT = b'{"client.address": "203.0.113.7", "device": {"type": "phone"}}\n'
_SCHEMA = """\
schema: usage
version: 1.0.0
title: What the service needs
owner: tests
purposes:
  service: {{use: essential.service.operations, basis: contract, reason: Run the service}}
  planning: {{use: functional.service.improve, basis: contract, reason: Plan capacity}}
fields:
  client.address:
    kind: ip
    category: user.device.ip_address
    purposes: [{purposes}]
    retention: {retention}
    reason: Run the service
"""
_MORE = """\
  device.type:
    kind: enum
    values: [phone, desktop]
    category: user.device
    purposes: [service, planning]
    retention: 30d
    reason: Run the service
"""
_PLAIN = _SCHEMA.format(purposes="service", retention="30d")


@dataclass(frozen=True)
class _Setup:
    """The configuration and schemas with which a sidecar starts."""

    schema: str = _PLAIN
    sinks: str = "store: true"
    more: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    named: str = "schema: {folder}/usage.yaml"


def _write(folder: Path, setup: _Setup) -> dict[str, str]:
    (folder / "usage.yaml").write_text(setup.schema)
    named = setup.named.format(folder=folder)
    text = f"{named}\nsinks: {{{setup.sinks}}}\n{setup.more}\n"
    (folder / _FILE).write_text(text)
    return {name: value.format(folder=folder) for name, value in setup.environ.items()}


def _refused(folder: Path, setup: _Setup, *more: str) -> Ended:
    environ = FREE_PORTS | _write(folder, setup)
    return run_process("serve", "--config", _FILE, *more, env=environ, directory=folder)


def _served(folder: Path, setup: _Setup, *more: str, number: int = signal.SIGTERM) -> None:
    """Start it, send an event, and end it."""
    environ = _write(folder, setup)
    with started(folder, "--config", _FILE, *more, environ=environ) as sidecar:
        assert sidecar.send(_EVENT).status == 200
        sidecar.stop(number)


def _rows(folder: Path) -> list[Any]:
    """Everything that the ledger and the spool hold about configurations and batches."""
    with closing(sqlite3.connect(folder / "collector-data" / FILE_NAME)) as db:
        tables = ("entries", "documents", "batches", "sinks", "layouts")
        return [db.execute(f"SELECT * FROM {table}").fetchall() for table in tables]


_LINES = "store: true, lines: {{type: ndjson, path: records.ndjson{}}}"
_MORE_LINES = _Setup(_PLAIN + _MORE, _LINES.format(", purposes: [planning]"))
_WIDER = {
    "a field": (
        _Setup(),
        _Setup(_PLAIN + _MORE),
        [f"{_FILE}:1:9: schema: fields.device.type: field added"],
    ),
    "retention": (
        _Setup(),
        _Setup(_SCHEMA.format(purposes="service", retention="31d")),
        [f"{_FILE}:1:9: schema: fields.client.address: kept longer"],
    ),
    "a purpose": (
        _Setup(),
        _Setup(_SCHEMA.format(purposes="service, planning", retention="30d")),
        ["schema: fields.client.address: used for more", "store: used for more client.address"],
    ),
    "a sink": (
        _Setup(),
        _Setup(sinks=_LINES.format("")),
        [f"{_FILE}:2:", "lines: sink added", "lines: flow added client.address"],
    ),
    "a purpose of a sink": (
        _MORE_LINES,
        _Setup(_PLAIN + _MORE, _LINES.format(", purposes: [planning, service]")),
        ["sinks.lines.purposes: lines: flow added client.address"],
    ),
    "no limit of a sink": (
        _MORE_LINES,
        _Setup(_PLAIN + _MORE, _LINES.format("")),
        ["lines: no longer limited"],
    ),
    "the environment": (
        _Setup(),
        _Setup(environ={"COLLECTOR__SCHEMA": "conferencing"}),
        ["environment: schema: "],
    ),
    "a sink of the environment": (
        _Setup(),
        _Setup(environ={"COLLECTOR__SINKS__NDJSON__PATH": "{folder}/out.ndjson"}),
        ["ndjson: sink added"],
    ),
    "a schema": (
        _Setup(),
        _Setup(named="schemas: [{folder}/usage.yaml, web]"),
        ["web: schema added"],
    ),
    "another party": (
        _Setup(_PLAIN + _MORE, _LINES.format("")),
        _Setup(
            _PLAIN + _MORE,
            _LINES.format(
                ", party: processor, recipient: Example, country: DE, purposes: [planning, service]"
            ),
        ),
        ["sinks.lines.party: lines: further away"],
    ),
}
"""What ran, what would run, and parts of the message."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Callable[[_Setup], Path]:
    """A directory where a sidecar ran with a setup. A refused start changes nothing there."""
    folders = dict[str, Path]()

    def found(setup: _Setup) -> Path:
        if repr(setup) not in folders:
            folders[repr(setup)] = folder = tmp_path_factory.mktemp("ran")
            _served(folder, setup)
        return folders[repr(setup)]

    return found


@pytest.mark.parametrize("case", _WIDER)
def test_a_start_that_widens_is_refused(ran: Callable[[_Setup], Path], case: str) -> None:
    """It exits with 78 and names each widening by its place. Nothing is created or changed."""
    before, after, parts = _WIDER[case]
    folder = ran(before)
    rows, names = _rows(folder), {path.name for path in folder.rglob("*")}
    done = _refused(folder, after)
    assert done.code == 78, done.err
    first, *faults = done.err.decode().splitlines()
    assert '"starting"' in first
    said = "\n".join(faults)
    assert said.count("[E222]") == len(faults) > 0, said
    assert all(part in said for part in parts), said
    assert "--allow-widening" in said
    assert _rows(folder) == rows
    assert {path.name for path in folder.rglob("*")} <= names


def test_a_widening_that_is_allowed(tmp_path: Path) -> None:
    before, after, _ = _WIDER["a sink"]
    _served(tmp_path, before, number=signal.SIGKILL)
    assert _refused(tmp_path, after).code == 78
    _served(tmp_path, before)
    _served(tmp_path, after, "--allow-widening")
    _served(tmp_path, after)
    _served(tmp_path, before, "--allow-widening")
    assert _refused(tmp_path, after).code == 78


def test_a_data_directory_that_was_moved(tmp_path: Path) -> None:
    """The ledger moves with the directory; a new directory has none."""
    _served(tmp_path, _Setup())
    shutil.move(tmp_path / "collector-data", tmp_path / "moved")
    wider = _Setup(_PLAIN + _MORE, more="data: moved")
    done = _refused(tmp_path, wider)
    assert (done.code, b"fields.device.type" in done.err) == (78, True)
    _served(tmp_path, _Setup(_PLAIN + _MORE, more="data: new"))


def test_what_waits_for_a_sink_outlives_a_refused_start(tmp_path: Path) -> None:
    away = f"{{type: otlp, endpoint: 'http://127.0.0.1:{free_port()}', party: first}}"
    setup = _Setup(sinks=f"store: true, away: {away}")
    with started(tmp_path, "--config", _FILE, environ=_write(tmp_path, setup)) as sidecar:
        assert sidecar.send(_EVENT).status == 200
        wait_until(
            lambda: b'collector_spool_batches{sink="away"} 1.0' in sidecar.admin("/metrics").body
        )
        sidecar.stop()
    rows = _rows(tmp_path)
    assert _refused(tmp_path, _Setup(_PLAIN + _MORE)).code == 78
    assert _rows(tmp_path) == rows
    assert len(rows[2]) == 1


def test_a_spool_that_can_be_opened_only_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The widening is found before anything is taken or delivered, and is reported then."""
    loaded, components = _prepared(tmp_path, _Setup(_PLAIN))
    _note(components)
    asked = list[int]()

    def refuse(ledger: object) -> None:
        asked.append(1)
        raise ConfigFaults([loaded.fault("schema", "more would flow", "E222")])

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "no room")

    with monkeypatch.context() as patched:
        patched.setattr(recover, "open_file", fail)
        spool = Spool(tmp_path / "data" / FILE_NAME, sinks=["store"], admit=refuse)
    with closing(spool):
        wait_until(lambda: spool.refusal is not None)
        assert asked
        assert not spool.state().is_ready
        assert not spool.wait("store", 0.1)


def _prepared(folder: Path, setup: _Setup) -> tuple[Loaded, Components]:
    environ = settings(folder, _write(folder, setup))
    loaded = examine(folder / _FILE, environ)
    return loaded, prepare(loaded)


def _note(components: Components) -> None:
    """Write what a sidecar runs with into its ledger."""
    with ExitStack() as stack:
        components.open(stack)
        LedgerNotes(components, EventLog("error")).begin()


def _random(random: Random, folder: Path) -> _Setup:
    purposes = random.choice(["service", "planning", "service, planning"])
    schema = _SCHEMA.format(purposes=purposes, retention=random.choice(["7d", "30d", "90d"]))
    schema += _MORE if random.random() < 0.5 else ""
    sinks = [f"store: {random.choice(['true', 'true', 'false'])}"]
    for name in ("a", "b"):
        party = random.choice(["first", "processor, recipient: X, country: DE", "third"])
        if party == "third":
            party += f", recipient: {random.choice('XY')}, country: {random.choice(['DE', 'US'])}"
        limit = random.choice(["service", "planning", "service, planning"])
        limited = f", purposes: [{limit}]" if "recipient" in party or random.random() < 0.5 else ""
        if random.random() < 0.6:
            sinks.append(
                f"{name}: {{type: ndjson, path: {folder}/{name}, party: {party}{limited}}}"
            )
    return _Setup(schema, ", ".join(sinks))


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(each, marks=pytest.mark.long) for each in range(2, 8))]
)
def test_a_start_refuses_what_a_reload_refuses(seed: int) -> None:
    random, verdicts = Random(seed), set[str]()
    for _ in range(12):
        with TemporaryDirectory() as name:
            folder = Path(name)
            pair = []
            for _ in range(2):
                setup = _random(random, folder)
                loaded = examine(folder / _FILE, settings(folder, _write(folder, setup)))
                try:
                    pair.append((loaded, prepare(loaded)))
                except ConfigFaults:
                    break
                if len(pair) == 1:
                    _note(pair[0][1])
            if len(pair) < 2:
                continue
            (_, before), (loaded, after) = pair
            with opened_ledger(folder / "data" / FILE_NAME) as ledger:
                found = widenings(loaded, after, ledger, "so")
                assert widenings(loaded, before, ledger, "so") == []
            wanted = verdict(all_changes(before.flows, after.flows))
            verdicts.add(wanted)
            assert bool(found) == (wanted == "widening"), (found, wanted)
    assert "widening" in verdicts
