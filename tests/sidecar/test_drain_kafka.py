"""Sidecars and drains as processes, with a topic of Kafka between them."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from time import sleep

import pytest
from typer.testing import CliRunner

from collector.cli.app import app
from collector.config import read
from collector.errors import ConfigFaults
from tests.brokers.kafka_server import KafkaServer, require_kafka, server
from tests.deadline import wait_until
from tests.sidecar.faults import metric
from tests.sidecar.serving import Sidecar, started
from tests.sinks.postgres import PostgresServer

_MANY = int(os.environ.get("COLLECTOR_BROKER_KILLS", "0"))
_KILLS = max(1, _MANY // 10)
"""A group waits ten seconds for a member that was killed."""
_SECONDS = 120.0
_KEY = {"MESSAGE_KEY": "0123456789abcdef" * 2}
_CANARIES = ("203.0.113", "198.18", "canary", "0123456789abcdef")


@contextmanager
def _pair(tmp_path: Path, partitions: int = 3) -> Iterator[tuple[KafkaServer, Path, Path]]:
    """A broker with a topic, a sidecar's directory and a drain's."""
    require_kafka()
    with server() as kafka:
        kafka.topic("telemetry", partitions, retention_ms=86_400_000)
        mac = "mac: 'env:MESSAGE_KEY'"
        topic = f"{{type: kafka, url: '{kafka.url}', topic: telemetry, {mac}, party: first}}"
        texts = {
            "sidecar": f"sinks: {{store: false, topic: {topic}}}\n",
            "drain": f"drain: {{url: '{kafka.url}', topic: telemetry, group: g, {mac}}}\n",
        }
        for name, text in texts.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "collector.yaml").write_text(f"data: data\n{text}")
        yield kafka, tmp_path / "sidecar", tmp_path / "drain"


def _sidecar(folder: Path) -> AbstractContextManager[Sidecar]:
    return started(folder, "--config", "collector.yaml", environ=_KEY)


def _drain(folder: Path) -> AbstractContextManager[Sidecar]:
    return started(folder, "--config", "collector.yaml", word="drain", environ=_KEY)


def _stored(folder: Path) -> Counter[str]:
    """Count the records in a store by their address."""
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"file:{folder}/data/store.db?mode=ro", uri=True)) as db,
    ):
        return Counter(one for (one,) in db.execute("SELECT client_address FROM conferencing_view"))
    return Counter()


def _send(sidecar: Sidecar, *addresses: str) -> None:
    lines = (
        json.dumps({"ip_address": one, "chat": [{"text": "canary-chat"}]}) for one in addresses
    )
    assert sidecar.send("".join(f"{line}\n" for line in lines).encode()).status == 200


def _assert_silent(*processes: Sidecar) -> None:
    """No value, secret or content is in a log, nor anything that is no event of ours."""
    for process in processes:
        assert process.events
        text = "".join(process.log)
        assert not [each for each in _CANARIES if each in text]


@pytest.mark.servers
def test_from_a_sidecar_to_a_store(tmp_path: Path) -> None:
    """By way of the topic, with poison in it; a person who is erased while a batch waits does not
    come back; health and metrics are told, and logs are silent."""
    with _pair(tmp_path) as (kafka, sidecar, drain), ExitStack() as stack:
        sending = stack.enter_context(_sidecar(sidecar))
        with _drain(drain) as taking:
            _send(sending, "203.0.113.1", "203.0.113.2", "203.0.113.2")
            wait_until(lambda: _stored(drain).total() == 3, seconds=_SECONDS)
            for number in range(30):
                kafka.put("telemetry", b"canary-poison", None, partition=number % 3)
            ready = taking.admin("/readyz?verbose")
            assert (ready.status, b"receiver broker ok" in ready.body) == (200, True)
            foreign = 'collector_messages_total{outcome="foreign"}'
            # More where partitions change hands: what was read, and not noted, is read again.
            wait_until(lambda: float(metric(taking, foreign)) >= 60, seconds=_SECONDS)
            assert taking.stop()[0] == 0
        batches = len(kafka.messages("telemetry"))
        _send(sending, "203.0.113.3", "203.0.113.4")
        wait_until(lambda: len(kafka.messages("telemetry")) > batches, seconds=_SECONDS)
        window = ("--from", "2026-01-01", "--to", "2099-01-01", "--json")
        erased = CliRunner().invoke(
            app,
            [
                *("subject", "erase", "--data", str(drain / "data"), *window),
                *("--config", str(drain / "collector.yaml")),
                *("--field", "client.address=203.0.113.3"),
            ],
            env=_KEY,
        )
        (beyond,) = (one for one in json.loads(erased.stdout)["beyond"] if "Kafka" in one)
        assert beyond.startswith(f"what is in Kafka at {kafka.address}, topic telemetry")
        again = stack.enter_context(_drain(drain))
        wait_until(lambda: _stored(drain)["203.0.113.4"] == 1, seconds=_SECONDS)
        sleep(0.5)
        assert again.stop()[0] == 0
        assert sending.stop()[0] == 0
        _assert_silent(sending, taking, again)
    assert _stored(drain) == {"203.0.113.1": 1, "203.0.113.2": 2, "203.0.113.4": 1}
    for path in drain.rglob("*"):
        assert not path.is_file() or b"canary" not in path.read_bytes()


@pytest.mark.servers
@pytest.mark.timeout(3600)
def test_a_drain_that_is_killed(tmp_path: Path) -> None:
    """In the midst of batches, again and again: nothing is lost, and nothing is stored twice."""
    random, sent = Random(1), 0
    with _pair(tmp_path) as (_, sidecar, drain), ExitStack() as stack:
        sending = stack.enter_context(_sidecar(sidecar))
        for _ in range(_KILLS):
            with _drain(drain) as taking:
                before = _stored(drain).total()
                for _ in range(20):
                    _send(sending, *(f"198.18.{sent // 250}.{sent % 250}" for _ in range(5)))
                    sent += 1
                wait_until(lambda before=before: _stored(drain).total() > before, seconds=_SECONDS)  # type: ignore[misc]
                sleep(random.uniform(0, 0.2))
                taking.process.kill()
                _assert_silent(taking)
        with _drain(drain) as taking:
            wait_until(lambda: _stored(drain).total() >= 5 * sent, seconds=_SECONDS)
            sleep(1)
            assert taking.stop()[0] == 0
    assert set(_stored(drain).values()) == {5}
    assert len(_stored(drain)) == sent


@pytest.mark.servers
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not _MANY, reason="`make brokers` runs it")
def test_nothing_acknowledged_is_lost_or_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is killed: the sidecar, one of two drains of a group, PostgreSQL; while the broker,
    which has all in memory, does not answer for a while."""
    random, kills = Random(), Counter[str]()
    acknowledged, sent = set[str](), 0
    with PostgresServer.made() as postgres, _pair(tmp_path, 6) as (kafka, sidecar, drain):
        text = (drain / "collector.yaml").read_text()
        sink = f"{{type: postgres, url: '{postgres.url}', party: first}}"
        folders = {"sidecar": sidecar, "one": tmp_path / "one", "two": tmp_path / "two"}
        for name in ("one", "two"):
            folders[name].mkdir()
            sinks = f"sinks: {{store: false, warehouse: {sink}}}\n"
            (folders[name] / "collector.yaml").write_text(text + sinks)
        running: dict[str, tuple[Sidecar, ExitStack]] = {}

        def start(name: str) -> None:
            stack = ExitStack()
            made = _sidecar(folders[name]) if name == "sidecar" else _drain(folders[name])
            running[name] = stack.enter_context(made), stack

        def stored() -> Counter[str]:
            with suppress(Exception):
                rows = postgres.ask('SELECT host("client.address") FROM collector.conferencing')
                return Counter(str(one) for (one,) in rows)
            return Counter()

        with ExitStack() as end:
            for name in folders:
                start(name)
                end.callback(lambda name=name: running[name][1].close())  # type: ignore[misc]
            for _ in range(_MANY // 4):
                for _ in range(5):
                    some = [str(IPv4Address("198.18.0.0") + sent + each) for each in range(20)]
                    sent += len(some)
                    with suppress(OSError, AssertionError):
                        _send(running["sidecar"][0], *some)
                        acknowledged.update(some)
                name = random.choice([*folders, "postgres", "broker"])
                kills[name] += 1
                if name == "broker":
                    with kafka.stopped():
                        sleep(random.uniform(0, 12))
                elif name == "postgres":
                    postgres.kill()
                    postgres.start()
                else:
                    running[name][0].process.kill()
                    _assert_silent(running[name][0])
                    running[name][1].close()
                    start(name)
            wait_until(lambda: acknowledged <= stored().keys(), seconds=300)
            assert set(stored().values()) == {1}
            _assert_silent(*(each for each, _ in running.values()))
    with capsys.disabled():
        said = f"{len(acknowledged):,} of {sent:,} acknowledged; {dict(kills)}"
        print(f"\n{said}", file=sys.stderr)
    assert acknowledged


@pytest.mark.servers
def test_by_options(tmp_path: Path) -> None:
    """A drain needs no file; what its address lacks is said."""
    with _pair(tmp_path) as (kafka, sidecar, drain):
        (drain / "collector.yaml").unlink()
        place = f"{kafka.url}/telemetry?group=another"
        with _sidecar(sidecar) as sending:
            _send(sending, "203.0.113.1")
            environ = {**_KEY, "COLLECTOR__DRAIN__MAC": "env:MESSAGE_KEY"}
            options = ("--from", place, "--data", "data", "--to", "sqlite:///data/s.db")
            with started(drain, *options, word="drain", environ=environ) as taking:
                taken = 'collector_messages_total{outcome="taken"}'
                wait_until(lambda: float(metric(taking, taken)) == 1, seconds=_SECONDS)
                assert taking.stop()[0] == 0
        wait_until(lambda: max(kafka.committed("telemetry", "another", 3)) == 1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("kafka://127.0.0.1", "name the stream or the topic"),
        ("kafka://127.0.0.1/", "name the stream or the topic"),
        ("kafka://127.0.0.1/t?consumer=x", "only `?group=NAME`"),
        ("kafka://127.0.0.1/t?group=", "only `?group=NAME`"),
        ("nats://127.0.0.1/t?group=x", "only `?group=NAME`"),
    ],
)
def test_addresses_that_are_none(source: str, message: str) -> None:
    """They are refused before anything is connected to."""
    done = CliRunner().invoke(app, ["drain", "--from", source], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.parametrize(
    ("drain", "field"),
    [
        ("url: 'kafka://127.0.0.1'", "drain.topic"),
        ("topic: t", "drain.url"),
        ("url: 'kafka://127.0.0.1', topic: t, stream: s", "drain.stream"),
        ("url: 'kafka://127.0.0.1', topic: t, auth_token: 'env:T'", "drain.auth_token"),
        ("url: 'nats://127.0.0.1', stream: s, topic: t", "drain.topic"),
        ("url: 'nats://127.0.0.1', stream: s, group: g", "drain.group"),
    ],
)
def test_settings_of_the_other_broker(drain: str, field: str, tmp_path: Path) -> None:
    """They would have no effect, which is said."""
    (tmp_path / "c.yaml").write_text(f"data: {tmp_path}/data\ndrain: {{{drain}}}\n")
    with pytest.raises(ConfigFaults) as caught:
        read(tmp_path / "c.yaml", {})
    assert (field, "E211") in [(one.field, one.code) for one in caught.value.faults]


def test_the_flows_name_the_topic(tmp_path: Path) -> None:
    """As a location like any other, with its party."""
    text = "sinks: {topic: {type: kafka, url: 'kafka+tls://k.example.org', topic: t, party: first}}"
    (tmp_path / "c.yaml").write_text(text)
    done = CliRunner().invoke(app, ["config", "flows", "--json", str(tmp_path / "c.yaml")])
    assert done.exit_code == 0
    assert "Kafka at k.example.org:9092, topic t" in done.stdout
