"""Processes of sidecars, a cluster of brokers and drains: nothing acknowledged is lost or repeated.

``COLLECTOR_BROKER_KILLS`` is the number of kills (6; ``make nightly`` sets 200).
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from signal import SIGHUP
from time import sleep
from typing import Any

import pytest

from tests.support.command import run
from tests.support.deadline import wait_until
from tests.support.failing_disk import metric
from tests.support.nats_server import NatsServer, ask, cluster, require_nats, server
from tests.support.postgres import PostgresServer
from tests.support.sidecar import Sidecar, started

_KILLS = int(os.environ.get("COLLECTOR_BROKER_KILLS", "6"))
_SECONDS = 120.0
_KEY = {"MESSAGE_KEY": "0123456789abcdef" * 2}
_SINK = (
    "{{type: nats, url: '{url}', stream: {name}, subject: {name}.records, mac: 'env:MESSAGE_KEY',"
    " party: first}}"
)


def _configured(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "collector.yaml").write_text(f"data: data\n{text}")
    return folder


def _drain(folder: Path) -> AbstractContextManager[Sidecar]:
    return started(folder, "--config", "collector.yaml", environ=_KEY)


def _stored(folder: Path) -> Counter[str]:
    """Count the records in a store by address."""
    path = folder / "data" / "sinks" / "store" / "store.db"
    path = path if path.exists() else folder / "data" / "store.db"
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return Counter(one for (one,) in db.execute("SELECT client_address FROM conferencing_view"))
    return Counter()


@contextmanager
def _quick(tmp_path: Path) -> Iterator[tuple[NatsServer, Path, Path]]:
    """A server with a stream, a sidecar's directory and a drain's."""
    require_nats()
    with server(tmp_path / "nats") as nats:
        nats.stream("telemetry")
        sink = _SINK.format(url=nats.url, name="telemetry")
        sidecar = _configured(tmp_path / "sidecar", f"sinks: {{store: false, stream: {sink}}}\n")
        drain = _configured(
            tmp_path / "drain",
            f"drain: {{url: '{nats.url}', stream: telemetry, mac: 'env:MESSAGE_KEY'}}\n",
        )
        yield nats, sidecar, drain


def test_from_a_sidecar_to_a_store(tmp_path: Path) -> None:
    """Through the stream; also health, metrics and a person's erasure while the drain runs."""
    with _quick(tmp_path) as (nats, sidecar, drain), ExitStack() as stack:
        sending = stack.enter_context(started(sidecar, "--config", "collector.yaml", environ=_KEY))
        taking = stack.enter_context(_drain(drain))
        for number in (1, 2, 2):
            event = json.dumps({"ip_address": f"203.0.113.{number}"}).encode()
            assert sending.send(event + b"\n").status == 200
        wait_until(lambda: _stored(drain).total() == 3, seconds=_SECONDS)
        wait_until(lambda: nats.messages("telemetry") == [], seconds=_SECONDS)
        window = ("--from", "2026-01-01", "--to", "2099-01-01", "--json")
        person = ("--field", "client.address=203.0.113.3")
        done = run("subject", "erase", "--data", drain / "data", *person, *window, env=_KEY)
        assert b'"beyond"' in done.out
        for number in (3, 4):  # as if it had waited: clocks differ by minutes
            event = json.dumps({"ip_address": f"203.0.113.{number}"}).encode()
            assert sending.send(event + b"\n").status == 200
        wait_until(lambda: _stored(drain)["203.0.113.4"] == 1, seconds=_SECONDS)
        ready = taking.admin("/readyz?verbose")
        assert (ready.status, b"receiver broker ok" in ready.body) == (200, True)
        wait_until(lambda: _taken(taking) >= 1, seconds=_SECONDS)
        nats.kill()
        wait_until(lambda: taking.admin("/readyz").status == 503, seconds=_SECONDS)
        nats.start()
        wait_until(lambda: taking.admin("/readyz").status == 200, seconds=_SECONDS)
        assert taking.stop()[0] == 0
        assert sending.stop()[0] == 0
    assert _stored(drain) == {"203.0.113.1": 1, "203.0.113.2": 2, "203.0.113.4": 1}


@pytest.mark.long
def test_a_drain_does_not_reload(tmp_path: Path) -> None:
    with _quick(tmp_path) as (_, sidecar, drain), ExitStack() as stack:
        file = drain / "collector.yaml"
        file.write_text(f"watch: true\n{file.read_text()}")
        sending = stack.enter_context(started(sidecar, "--config", "collector.yaml", environ=_KEY))
        taking = stack.enter_context(_drain(drain))
        file.write_text(file.read_text().replace("stream: telemetry", "stream: another"))
        taking.process.send_signal(SIGHUP)
        done = run("config", "reload", "--data", drain / "data", env=_KEY)
        assert (done.code, b"E221" in done.err, b"restart" in done.err) == (78, True, True)
        sleep(1.5)  # a sidecar looks at its files every second
        assert sending.send(b'{"ip_address": "203.0.113.1"}\n').status == 200
        wait_until(lambda: _stored(drain).total() == 1, seconds=_SECONDS)
        assert taking.stop()[0] == 0
        assert not [one for one in taking.events if "reload" in one["event"]]


def _taken(drain: Sidecar) -> float:
    return float(metric(drain, 'collector_messages_total{outcome="taken"}'))


# -- kills ----------------------------------------------------------------------------------------


@dataclass
class Fleet:
    """All processes, and what was acknowledged. ``parts`` are restarted after a kill."""

    folder: Path
    nodes: list[NatsServer]
    postgres: PostgresServer
    random: Random = field(default_factory=Random)
    running: dict[str, tuple[Sidecar, ExitStack]] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    sent: int = 0
    kills: Counter[str] = field(default_factory=Counter)

    def configure(self) -> None:
        """Write the configurations. Sidecars send to two streams. Two drains take one stream to
        PostgreSQL; one drain takes the other to a store and a lake."""
        urls = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        url = f"nats://{urls}"
        sinks = ", ".join(f"{each}: {_SINK.format(url=url, name=each)}" for each in ("one", "two"))
        for at in (1, 2):
            _configured(self.folder / f"sidecar-{at}", f"sinks: {{store: false, {sinks}}}\n")
            warehouse = f"{{type: postgres, url: '{self.postgres.url}', party: first}}"
            _configured(
                self.folder / f"drain-{at}",
                f"drain: {{url: '{url}', stream: one, mac: 'env:MESSAGE_KEY'}}\n"
                f"sinks: {{store: false, warehouse: {warehouse}}}\n",
            )
        _configured(
            self.folder / "drain-3",
            f"drain: {{url: '{url}', stream: two, mac: 'env:MESSAGE_KEY'}}\n"
            "sinks: {lake: {type: parquet, path: lake, every: 1m}}\n",
        )

    def start(self, name: str) -> None:
        """Start a sidecar or a drain, or restart it after a kill."""
        stack = ExitStack()
        made = started(self.folder / name, "--config", "collector.yaml", environ=_KEY)
        self.running[name] = stack.enter_context(made), stack

    def send(self, number: int) -> None:
        """Send events to a sidecar, each from its own address."""
        name = self.random.choice(["sidecar-1", "sidecar-2"])
        addresses = [str(IPv4Address("198.18.0.0") + self.sent + at) for at in range(number)]
        self.sent += number
        body = "".join(f'{{"ip_address": "{one}"}}\n' for one in addresses).encode()
        with suppress(OSError):
            if self.running[name][0].send(body).status == 200:
                self.acknowledged.update(addresses)

    def kill(self) -> None:
        """Kill one process at random, and restart it."""
        names = ["sidecar-1", "sidecar-2", "drain-1", "drain-2", "drain-3", "node", "postgres"]
        name = self.random.choice(names)
        self.kills[name] += 1
        if name == "node":
            node = self.random.choice(self.nodes)
            node.kill()
            sleep(self.random.uniform(0, 0.5))
            node.start()
        elif name == "postgres":
            self.postgres.kill()
            self.postgres.start()
        else:
            self.running[name][0].process.kill()
            self.running[name][1].close()
            self.start(name)

    def close(self) -> None:
        """End all processes that were started here."""
        for _, stack in self.running.values():
            stack.close()

    def warehouse(self) -> Counter[str]:
        """Count the records in PostgreSQL by address."""
        with suppress(Exception):
            rows = self.postgres.ask('SELECT host("client.address") FROM collector.conferencing')
            return Counter(str(one) for (one,) in rows)
        return Counter()

    def lake(self) -> Counter[str]:
        """Count the records in the lake by address."""
        import pyarrow.dataset as datasets  # noqa: PLC0415 - an extra

        with suppress(Exception):
            table: Any = datasets.dataset(self.folder / "drain-3" / "lake", partitioning="hive")
            return Counter(table.to_table()["client.address"].to_pylist())
        return Counter()


def _streams(nodes: list[NatsServer]) -> None:
    async def make(stream: Any) -> None:
        for name in ("one", "two"):
            await stream.add_stream(
                name=name,
                subjects=[f"{name}.>"],
                retention="workqueue",
                max_age=3600,
                num_replicas=3,
            )

    ask(nodes, make)


@pytest.mark.servers
@pytest.mark.timeout(3600)
def test_nothing_acknowledged_is_lost_or_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kills hit sidecars, drains, a node of the cluster and PostgreSQL."""
    require_nats()
    with PostgresServer.made() as postgres, cluster(tmp_path / "nats") as nodes:
        _streams(nodes)
        fleet = Fleet(tmp_path, nodes, postgres)
        fleet.configure()
        try:
            for name in ("sidecar-1", "sidecar-2", "drain-1", "drain-2", "drain-3"):
                fleet.start(name)
            for _ in range(_KILLS):
                for _ in range(5):
                    fleet.send(20)
                fleet.kill()
                fleet.send(20)
            for place in (fleet.warehouse, lambda: _stored(tmp_path / "drain-3"), fleet.lake):
                wait_until(lambda place=place: fleet.acknowledged <= place().keys(), seconds=300)  # type: ignore[misc]
                found = place()
                assert set(found.values()) == {1}
                assert len(found) <= fleet.sent
        finally:
            fleet.close()
    with capsys.disabled():
        said = f"{len(fleet.acknowledged):,} of {fleet.sent:,} acknowledged; {dict(fleet.kills)}"
        print(f"\n{said}", file=sys.stderr)
    assert fleet.acknowledged


@pytest.mark.servers
@pytest.mark.timeout(600)
def test_two_nodes_of_three_are_away(tmp_path: Path) -> None:
    """The sidecar still acknowledges. Its spool fills, and empties when one node is back."""
    require_nats()
    with cluster(tmp_path / "nats") as nodes, ExitStack() as stack:
        _streams(nodes)
        url = "nats://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        sink = _SINK.format(url=url, name="one")
        sidecar = _configured(tmp_path / "sidecar", f"sinks: {{store: false, stream: {sink}}}\n")
        drain = _configured(
            tmp_path / "drain", f"drain: {{url: '{url}', stream: one, mac: 'env:MESSAGE_KEY'}}\n"
        )
        sending = stack.enter_context(started(sidecar, "--config", "collector.yaml", environ=_KEY))
        stack.enter_context(_drain(drain))
        assert sending.send(b'{"ip_address": "203.0.113.1"}\n').status == 200
        wait_until(lambda: _stored(drain).total() == 1, seconds=_SECONDS)
        for node in nodes[1:]:
            node.kill()
        for number in range(2, 40):
            assert sending.send(b'{"ip_address": "203.0.113.%d"}\n' % number).status == 200
        assert float(metric(sending, "collector_spool_batches")) > 0
        nodes[1].start()
        wait_until(lambda: _stored(drain).total() == 39, seconds=300)
        assert set(_stored(drain).values()) == {1}
        wait_until(lambda: float(metric(sending, "collector_spool_batches")) == 0, seconds=_SECONDS)
