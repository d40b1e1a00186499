"""The sink of Kafka, against a broker that keeps everything in memory."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from pydantic import ValidationError

from collector import Collector, load_schema
from collector.brokers.message import MOST_BYTES, outgoing, read_message
from collector.config.sink_settings import SinkSettings
from collector.errors import ConfigError, Unreachable
from collector.filter.stored import records_in
from collector.sinks.kafka import KafkaSettings, KafkaSink
from collector.sinks.sink import Opening, expiry_of
from collector.testing.sinks import SinkConformance, batch_of
from tests.support.certificates import Authority
from tests.support.deadline import WAIT_SECONDS
from tests.support.kafka_front import front
from tests.support.kafka_server import (
    KafkaServer,
    add_topic,
    make_topic,
    messages,
    mock_cluster,
    require_kafka,
    server,
)
from tests.support.raising import raises

SCHEMA = load_schema("conferencing")
_DAY = 86_400_000


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaServer]:
    """A broker for the tests of this module."""
    require_kafka()
    with server() as made:
        yield made


def _topic(directory: Path) -> str:
    return f"t{hashlib.sha256(str(directory).encode()).hexdigest()[:16]}"


def _settings(kafka: KafkaServer, directory: Path, **more: Any) -> KafkaSettings:
    """Return the settings for a topic that belongs to a directory; it is made."""
    name = _topic(directory)
    kafka.topic(name, 3, retention_ms=_DAY, segment_ms=_DAY)
    return KafkaSettings(type="kafka", url=kafka.url, topic=name, party="first", **more)


def _opened(settings: KafkaSettings, directory: Path) -> closing[KafkaSink]:
    return closing(KafkaSink(settings, Opening("tested", (SCHEMA,), directory)))


def _records(found: list[Any], keys: list[bytes] | None = None) -> list[Any]:
    read = [read_message(each.value(), keys or []) for each in found]
    return [record for each in read for record in records_in(each.payload)]


@pytest.mark.servers
class TestConformance(SinkConformance):
    """A topic, which forgets nothing before its retention."""

    kafka: KafkaServer

    @pytest.fixture(autouse=True)
    def _server(self, kafka: KafkaServer) -> None:
        self.kafka = kafka

    def settings(self, directory: Path) -> SinkSettings:
        """A topic of its own."""
        return _settings(self.kafka, directory, timeout="30s")

    def records(self, directory: Path) -> dict[str, int]:
        """Read the topic."""
        found = _records(self.kafka.messages(_topic(directory)))
        return dict(Counter(record["client.address"] for record in found))

    @contextmanager
    def failing(self, directory: Path) -> Iterator[None]:
        """The broker answers nothing."""
        with self.kafka.stopped(), mock.patch("collector.brokers.kafka._LOOK_SECONDS", 3.0):
            yield


@pytest.mark.servers
def test_a_large_batch_goes_in_parts(
    kafka: KafkaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_KEY", "k" * 32)
    batch = batch_of(1, list(range(1, 250)) * 80, SCHEMA)
    for most, number in ((1 << 20, 4), (100_000, 17)):
        directory = tmp_path / str(most)
        kafka.topic(_topic(directory), max_message_bytes=most, retention_ms=_DAY)
        with _opened(_settings(kafka, directory, mac="env:BROKER_KEY"), directory) as sink:
            sink.deliver(batch)
        found = kafka.messages(_topic(directory))
        assert len(found) == number
        assert all(len(each.value()) < min(MOST_BYTES, most) for each in found)
        assert {each.key() for each in found} == {batch.id.hex().encode()}
        assert len(_records(found, [b"k" * 32])) == 249 * 80


@pytest.mark.servers
@pytest.mark.parametrize(
    ("config", "expected", "is_faulty"),
    [
        ({"retention_ms": _DAY, "segment_ms": _DAY}, timedelta(days=2), False),
        ({"retention_ms": _DAY}, timedelta(days=8), False),
        ({"retention_ms": 29 * _DAY, "segment_ms": 2 * _DAY}, timedelta(days=31), True),
        ({"retention_ms": -1}, timedelta.max, True),
        ({"retention_ms": _DAY, "cleanup_policy": "compact"}, timedelta.max, True),
        (
            {"retention_ms": _DAY, "segment_ms": 0, "cleanup_policy": "compact,delete"},
            timedelta(days=1),
            True,
        ),
        (
            {"retention_ms": _DAY, "segment_ms": 0, "retention_bytes": 1 << 30},
            timedelta(days=1),
            True,
        ),
        ({"retention_ms": _DAY, "segment_ms": 0, "retention_bytes": -1}, timedelta(days=1), False),
        ({"retention_ms": 9 * 10**18}, timedelta.max, True),
        ({}, None, False),
    ],
)
def test_how_long_the_topic_keeps_messages(
    kafka: KafkaServer,
    tmp_path: Path,
    *,
    config: dict[str, Any],
    expected: timedelta | None,
    is_faulty: bool,
) -> None:
    """A segment is deleted as a whole, so its first message stays longer."""
    kafka.topic(_topic(tmp_path), **config)
    settings, opening = _settings(kafka, tmp_path), Opening("tested", (SCHEMA,), tmp_path)
    assert KafkaSink.read_expiry(settings) == expected
    with raises("E219", ConfigError) if is_faulty else nullcontext():
        KafkaSink.check(settings, opening)


@pytest.mark.servers
def test_a_cluster_of_three(tmp_path: Path) -> None:
    """What the cluster does not show is unknown."""
    with mock_cluster() as addresses:
        url = f"kafka://{addresses}"
        make_topic(addresses, "t")
        settings = KafkaSettings(type="kafka", url=url, topic="t", party="first", timeout="30s")
        with _opened(settings, tmp_path) as sink:
            for number in range(1, 20):
                sink.deliver(batch_of(number, [number], SCHEMA))
        assert len(_records(messages(addresses, "t"))) == 19
        assert expiry_of(settings) is None


@pytest.mark.servers
def test_what_the_broker_refuses(
    kafka: KafkaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = _settings(kafka, tmp_path)
    missing = sound.model_copy(update={"topic": "none"})
    for _ in range(2):
        with (
            _opened(missing, tmp_path) as sink,
            raises("E514", Unreachable, "no such topic") as caught,
        ):
            sink.deliver(batch_of(1, [1], SCHEMA))
        assert caught.value.cause == "changed"
    monkeypatch.setattr("collector.brokers.kafka._LOOK_SECONDS", 3.0)
    away = sound.model_copy(update={"url": "kafka://127.0.0.1:9"})
    with _opened(away, tmp_path) as sink, raises("E514", Unreachable, "no server") as caught:
        sink.deliver(batch_of(1, [1], SCHEMA))
    assert caught.value.cause == "unreachable"


@pytest.mark.servers
def test_only_servers_of_this_machine_without_encryption(tmp_path: Path) -> None:
    """Clients connect to whatever address a cluster names, so records would leave the machine."""
    require_kafka()
    with server("--advertised-listener-url", "tcp://broker.example.org:9092") as kafka:
        settings = KafkaSettings(type="kafka", url=kafka.url, topic="t", party="first")
        with _opened(settings, tmp_path) as sink, raises("E514", Unreachable, "other machines"):
            sink.deliver(batch_of(1, [1], SCHEMA))


@pytest.mark.servers
def test_nothing_is_logged(kafka: KafkaServer, tmp_path: Path) -> None:
    """Neither the library nor the sink logs, and errors hold no secret."""
    kafka.topic("logged", retention_ms=_DAY)
    program = f"""
import os
from pathlib import Path
from collector.brokers import kafka
from collector.errors import CollectorError
from collector.sinks.kafka import KafkaSettings, KafkaSink
from collector.sinks.sink import Opening
from collector import load_schema
from collector.testing.sinks import batch_of
os.environ["USER_NAME"], os.environ["SECRET"] = "canary-user", "canary-5ecret"
schema = load_schema("conferencing")
login = dict(user="env:USER_NAME", password="env:SECRET")
for url, more in (
    ("{kafka.url}", dict(topic="logged")),
    ("{kafka.url}", dict(topic="none")),
    ("{kafka.url}", dict(topic="logged", **login)),
    ("{kafka.url.replace("kafka:", "kafka+tls:")}", dict(topic="logged", **login)),
    ("kafka://127.0.0.1:9", dict(topic="logged", **login, mechanism="PLAIN")),
):
    settings = KafkaSettings(type="kafka", url=url, party="first", timeout="30s", **more)
    kafka._LOOK_SECONDS = 3.0 if "user" in more else 30.0  # as those get no answer
    sink = KafkaSink(settings, Opening("tested", (schema,), Path({str(tmp_path)!r})))
    try:
        sink.deliver(batch_of(1, [1], schema))
        print("delivered")
    except CollectorError as error:
        print(error.code, error.message, repr(error), repr(sink), repr(settings))
    sink.close()
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, timeout=WAIT_SECONDS)
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr) == (0, b"")
    assert [line.split()[0] for line in lines] == ["delivered", *["E514"] * 4]
    for canary in ("canary", "203.0.113", str(kafka.port)):
        assert canary not in done.stdout.decode()


@pytest.mark.servers
def test_tls_and_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without the right certificate does not see the password."""
    require_kafka()
    monkeypatch.setenv("KAFKA_USER", "sidecar")
    monkeypatch.setenv("KAFKA_SECRET", "canary-5ecret")
    monkeypatch.setenv("KAFKA_OTHER", "canary-0ther")
    ours, theirs = Authority(tmp_path), Authority(tmp_path, "another")
    pair = ours.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with front(context, b"\0sidecar\0canary-5ecret") as before:
        url = f"kafka+tls://localhost:{before.port}"
        base = {"type": "kafka", "url": url, "topic": "t", "party": "first", "timeout": "30s"}
        login = {"user": "env:KAFKA_USER", "password": "env:KAFKA_SECRET", "mechanism": "PLAIN"}
        wrong = login | {"password": "env:KAFKA_OTHER"}
        ca = ours.own.certificate
        access = {
            "bootstrap.servers": f"localhost:{before.port}",
            "ssl.ca.location": str(ca),
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "sidecar",
            "sasl.password": "canary-5ecret",
        }
        add_topic(access, "t", retention_ms=_DAY)
        with _opened(KafkaSettings(**base, **login, ca=ca), tmp_path) as sink:
            sink.deliver(batch_of(1, [1], SCHEMA))
        assert set(before.logins) == {b"\0sidecar\0canary-5ecret"}
        cases: list[dict[str, Any]] = [{"ca": theirs.own.certificate}, {}]
        for change in cases:
            with raises("E514", Unreachable, "certificate"):
                KafkaSink.read_expiry(KafkaSettings(**base, **wrong, **change))
        assert b"\0sidecar\0canary-0ther" not in before.logins
        with raises("E514", Unreachable, "refuses the credentials") as caught:
            KafkaSink.read_expiry(KafkaSettings(**base, **wrong, ca=ca))
        assert caught.value.cause == "denied"
        assert "canary" not in repr(caught.value)
        assert b"\0sidecar\0canary-0ther" in before.logins


def test_the_library_is_loaded_when_a_sink_delivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading settings does not load it."""
    program = """
import sys
from collector.sinks.kafka import KafkaSettings, KafkaSink
from collector.sinks.sink import Opening
from pathlib import Path
settings = KafkaSettings(type="kafka", url="kafka+tls://k.example.org", topic="t", party="first")
KafkaSink(settings, Opening("tested", (), Path())).close()
print([name for name in sys.modules if name.startswith("confluent")])
"""
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b"[]\n"
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    settings = KafkaSettings(type="kafka", url="kafka+tls://k.example.org", topic="t")
    with raises("E201", ConfigError, "kafka"):
        settings.publisher()


def test_secrets_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_USER", "somebody")
    where = {"type": "kafka", "url": "kafka+tls://localhost", "topic": "t", "party": "first"}
    with raises("E122", ConfigError, "set both"):
        KafkaSettings(**where, user="env:KAFKA_USER").publisher()
    with raises("E202", ConfigError):
        KafkaSettings(**where, user="env:KAFKA_USER", password="env:KAFKA_NONE").publisher()
    (tmp_path / "ca.pem").write_text("none")
    with raises("E212", ConfigError):
        KafkaSettings(**where, ca=tmp_path / "ca.pem").publisher()


def test_settings_that_are_none() -> None:
    for change in [
        {"url": "kafka://broker.example.org:9092"},
        {"url": "kafka://127.0.0.1,10.0.0.1"},
        {"url": "nats://127.0.0.1"},
        {"url": "tls://broker.example.org"},
        {"url": "kafka+tls://user:secret@broker.example.org"},
        {"url": "kafka+tls://broker.example.org/topic"},
        {"url": "kafka+tls://broker.example.org:70000"},
        {"topic": ""},
        {"topic": "^every.*"},
        {"topic": ".."},
        {"topic": "t" * 250},
        {"topic": "a/b"},
        {"user": "somebody"},
        {"mechanism": "OAUTHBEARER"},
        {"mac": "secret-secret-secret-secret-secret"},
        {"timeout": "2m"},
    ]:
        sound = {"type": "kafka", "url": "kafka+tls://broker.example.org", "topic": "t.a-b_c"}
        settings = KafkaSettings(**sound)
        assert settings.place(Path()) == "Kafka at broker.example.org:9092, topic t.a-b_c"
        with pytest.raises(ValidationError):
            KafkaSettings(**sound | change)


def test_addresses_of_the_sdk() -> None:
    for faulty in (
        "kafka://broker.example.org/t",
        "kafka://127.0.0.1",
        "kafka://127.0.0.1/t?group=x",
        "kafka://127.0.0.1/t?user=somebody",
        "kafka://127.0.0.1/t/u",
    ):
        with raises("E107", ConfigError):
            KafkaSettings.at_address("kafka", faulty)
    text = "kafka+tls://broker.example.org/t?user=env:NAME&password=env:SECRET&mechanism=PLAIN"
    made = KafkaSettings.at_address("kafka", text)
    assert (made.topic, made.user, made.mechanism) == ("t", "env:NAME", "PLAIN")


@pytest.mark.servers
def test_the_sdk(kafka: KafkaServer) -> None:
    kafka.topic("sdk", retention_ms=_DAY)
    with Collector("conferencing", f"{kafka.url}/sdk", exit_timeout=WAIT_SECONDS) as telemetry:
        telemetry.emit({"ip_address": "203.0.113.7", "os": {"type": "linux"}})
    (record,) = _records(kafka.messages("sdk"))
    assert record["client.address"] == "203.0.113.7"


def test_the_key_of_a_message_is_its_batch() -> None:
    batch = batch_of(1, [1] * 1000, SCHEMA)
    parts = list(outgoing(batch, None, 20_000))
    assert len(parts) > 1
    assert {each.batch for each in parts} == {batch.id.hex()}
    assert len({each.id for each in parts}) == len(parts)
