"""Apache Kafka: a topic, and a producer that writes to it, for callers that block.

``confluent_kafka`` is imported when a connection is made; then its library starts its own threads.
The library logs nothing. Its errors may quote servers and what was sent, so they are never shown:
each becomes one of the constants here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from importlib import import_module
from typing import Any

from collector.addresses import Address
from collector.brokers.message import Outgoing
from collector.config.broker_settings import KafkaAccess, Servers
from collector.errors import Cause, ConfigError, Unreachable
from collector.extras import require
from collector.http_client import tls

_FRAME_BYTES = 512
"""The most bytes of a message besides its data: its key, and the head of a Kafka batch."""
_MOST = 1_000_000
_SEGMENT = 7 * 86_400_000
"""Roughly Kafka's defaults: bytes of a message, and milliseconds of a segment."""
_CONNECT_SECONDS = 5.0
_LOOK_SECONDS = 3.0
_CLOSE_SECONDS = 2.0
_TOGETHER_BYTES = 8 << 20
_NO_ANSWER = "no server of the broker answers"
_CERTIFICATE = "the broker's certificate is not one that is trusted"
_CREDENTIALS = "the broker refuses the credentials"
_NO_TOPIC = "the broker has no such topic"
_WORDS: Mapping[str, tuple[str, Cause]] = {
    **dict.fromkeys(
        ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "UNKNOWN_TOPIC_ID"),
        (_NO_TOPIC, "changed"),
    ),
    **dict.fromkeys(
        (
            *("TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED"),
            *("SASL_AUTHENTICATION_FAILED", "_AUTHENTICATION"),
        ),
        (_CREDENTIALS, "denied"),
    ),
    "_SSL": (_CERTIFICATE, "denied"),
    **dict.fromkeys(
        ("MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"),
        ("the broker takes no messages of this size", "refused"),
    ),
    **dict.fromkeys(
        ("NOT_ENOUGH_REPLICAS", "NOT_ENOUGH_REPLICAS_AFTER_APPEND", "LEADER_NOT_AVAILABLE"),
        ("the topic has no leader, or too few replicas", "busy"),
    ),
    **dict.fromkeys(
        ("POLICY_VIOLATION", "INVALID_RECORD", "TOPIC_EXCEPTION"),
        ("the broker refuses the message", "refused"),
    ),
    "KAFKA_STORAGE_ERROR": ("the broker cannot store messages now", "full"),
}
_NOT_PERMITTED = ("TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED", "_TIMED_OUT")
"""Errors of a server that answers but does not show a topic's settings."""
_Options = Mapping[str, Any]


def kafka_topic(
    access: KafkaAccess, servers: Servers, topic: str, *, seconds: float = 10.0
) -> KafkaTopic:
    """Return the connection of a sink; it is made later. Raises ``ConfigError``: E201 without the
    library, E122 for half a login, E202 for missing secrets, E212 for the files of TLS."""
    return KafkaTopic(_kafka_options(access, servers), topic, servers, seconds=seconds)


def _kafka_options(access: KafkaAccess, servers: Servers) -> _Options:
    """Return the options for all clients of the library."""
    require("Kafka", "kafka", "confluent_kafka")
    user, password = access.secret(access.user), access.secret(access.password)
    if (user is None) != (password is None):
        message = "Kafka needs `user` and `password` together: set both, or neither"
        raise ConfigError("E122", message)
    silent = logging.Logger("collector-kafka", logging.CRITICAL + 1)
    silent.addHandler(logging.NullHandler())
    options: dict[str, Any] = {
        "bootstrap.servers": str(servers),
        "client.id": "collector",
        "log_level": 0,
        "logger": silent,
        "enable.metrics.push": False,
        "socket.timeout.ms": int(2000 * _CONNECT_SECONDS),
        "socket.connection.setup.timeout.ms": int(1000 * _CONNECT_SECONDS),
        "reconnect.backoff.max.ms": 1000,
    }
    protocol = "PLAINTEXT"
    if servers.is_encrypted:
        protocol = "SSL"
        ca, certificate, key = access.files_of_tls()
        tls(ca, certificate, key)  # to find faults; the library has its own context
        options["enable.ssl.certificate.verification"] = True
        options["ssl.endpoint.identification.algorithm"] = "https"
        if ca is not None:
            options["ssl.ca.location"] = str(ca)
        if certificate is not None:
            options["ssl.certificate.location"] = str(certificate)
            options["ssl.key.location"] = str(key or certificate)
    if user is not None:
        protocol = f"SASL_{protocol}"
        options["sasl.username"], options["sasl.password"] = user, password
        options["sasl.mechanism"] = access.mechanism
    return options | {"security.protocol": protocol}


class KafkaTopic:
    """A producer, made when needed and again after an error. For one thread at a time."""

    def __init__(
        self, options: _Options, topic: str, servers: Servers, *, seconds: float = 10.0
    ) -> None:
        self._options, self._topic, self._servers = options, topic, servers
        self._seconds = seconds
        self._reason: Unreachable | None = None
        self._producer: Any = None
        self._most = 0

    def _client_options(self) -> dict[str, Any]:
        return {**self._options, "error_cb": self._note}

    def _note(self, error: Any) -> None:
        """Note what the library reports about connections outside of a call. A known reason stays
        if the report only says that no server answers."""
        found = _meaning(error)
        if self._reason is None or found.message != _NO_ANSWER:
            self._reason = found

    def _failure(self, error: Any) -> Unreachable:
        """Return what an error means. If no server answers, return the noted reason if there is
        one."""
        found, reason = _meaning(error), self._reason
        return reason if reason is not None and found.message == _NO_ANSWER else found

    def look(self) -> None:
        """Require that the topic exists and, without encryption, that all servers of the cluster
        are on this machine, because clients connect to whatever addresses the cluster names. Raises
        ``Unreachable``."""
        from confluent_kafka import Consumer  # noqa: PLC0415 - an extra

        self._reason, found, failure = None, None, Unreachable(_NO_ANSWER)
        # Only a consumer can ask for a topic without creating it.
        client = Consumer({**self._client_options(), **_NO_MEMBER})
        try:
            found = client.list_topics(self._topic, timeout=_LOOK_SECONDS)
        except Exception as error:  # noqa: BLE001 - the library's errors may quote servers
            client.poll(0)  # to hear what it says about connections
            failure = self._failure(_code_of(error))
        finally:
            _close_in_time(client)
        if found is None:
            raise Unreachable(failure.message, failure.cause)
        if not self._servers.is_encrypted and not all(map(_is_local, found.brokers.values())):
            message = "the broker names servers of other machines: use `kafka+tls://`"
            raise Unreachable(message, "refused")
        problem = found.topics[self._topic].error
        if problem is not None:
            raise _meaning(problem)

    def configuration(self) -> Mapping[str, str] | None:
        """Return the topic's settings; ``None`` if they may not be read. Raises ``Unreachable``."""
        admin: Any = import_module("confluent_kafka.admin")  # an extra
        asking = admin.AdminClient(self._client_options())
        wanted = admin.ConfigResource(admin.ResourceType.TOPIC, self._topic)
        try:
            asked = asking.describe_configs([wanted], request_timeout=_LOOK_SECONDS)
            found = asked[wanted].result(_LOOK_SECONDS + 1)
        except Exception as error:  # noqa: BLE001 - likewise
            code = _code_of(error)
            if _name(code) in _NOT_PERMITTED or isinstance(error, TimeoutError):
                return None
            failure = self._failure(code)
        else:
            return {name: one.value for name, one in found.items() if one.value is not None}
        raise Unreachable(failure.message, failure.cause)

    def expiry(self) -> timedelta | None:
        """Return after how long the topic deletes a message at the latest: ``timedelta.max`` if it
        never does, ``None`` if that may not be read. Raises ``Unreachable``, also if there is no
        such topic."""
        self.look()
        return _expiry(self.configuration())

    def drops(self) -> bool:
        """Return whether the topic deletes messages to make room, or keeps only the last one of a
        key (the parts of a batch share one); ``False`` if that may not be read. Raises
        ``Unreachable``."""
        found = self.configuration() or {}
        most = _number(found, "retention.bytes")
        return "compact" in found.get("cleanup.policy", "") or (most is not None and most >= 0)

    def most_bytes(self) -> int:
        """Return the most bytes of a message that the topic accepts. Raises ``Unreachable``."""
        self._opened()
        return self._most

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish messages; return when all in-sync replicas have all of them. Raises
        ``Unreachable`` with the reason; some may be stored then."""
        producer = self._opened()
        for some in _pieces(messages):
            failure = self._publish(producer, some)
            if failure is not None:
                self.close()  # otherwise it would send its queue later
                raise Unreachable(failure.message, failure.cause)

    def close(self) -> None:
        """Close the connection; a later call opens it again."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(Exception):
                producer.purge(blocking=False)
            _close_in_time(producer)

    def _opened(self) -> Any:
        if self._producer is None:
            from confluent_kafka import Producer  # noqa: PLC0415 - an extra

            self.look()
            found = self.configuration() or {}
            most = min(_number(found, "max.message.bytes") or _MOST, 1 << 24)
            self._most = most - _FRAME_BYTES
            self._producer = Producer(
                {
                    **self._client_options(),
                    "enable.idempotence": True,
                    "compression.type": "none",
                    "message.max.bytes": max(most, 1000),
                    "batch.size": max(self._most, 1),
                    "queue.buffering.max.kbytes": 4 * _TOGETHER_BYTES >> 10,
                    "message.timeout.ms": int(1000 * self._seconds),
                    "request.timeout.ms": int(1000 * self._seconds),
                }
            )
        return self._producer

    def _publish(self, producer: Any, some: Sequence[Outgoing]) -> Unreachable | None:
        """Publish messages; return the first failure."""
        failures: list[Unreachable] = []

        def note(error: Any, _: Any) -> None:
            if error is not None:
                failures.append(self._failure(error))

        try:
            for one in some:
                producer.produce(self._topic, one.data, one.batch, on_delivery=note)
            left = producer.flush(self._seconds + 1)
        except Exception as error:  # noqa: BLE001 - the library's errors may quote what was sent
            return self._failure(_code_of(error))
        return next(iter(failures), self._failure(None) if left else None)


_NO_MEMBER: Mapping[str, Any] = {"group.id": "collector", "allow.auto.create.topics": False}


def _expiry(found: Mapping[str, str] | None) -> timedelta | None:
    """Return the longest that a message may stay. A broker deletes a segment once its last message
    is too old. The first one may be older by the time for which a segment is written."""
    retention = None if found is None else _number(found, "retention.ms")
    if found is None or retention is None:
        return None
    if "delete" not in found.get("cleanup.policy", "delete") or retention < 0:
        return timedelta.max
    segment = _number(found, "segment.ms")
    with suppress(OverflowError):
        return timedelta(milliseconds=retention + (_SEGMENT if segment is None else segment))
    return timedelta.max


def _number(found: Mapping[str, str], name: str) -> int | None:
    """Return a number from a topic's settings; ``None`` if it has none."""
    with suppress(KeyError, ValueError):
        return int(found[name])
    return None


def _pieces(messages: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Split messages so that no piece is much larger than what is sent at a time."""
    together, size = list[Outgoing](), 0
    for message in messages:
        if together and size + len(message.data) > _TOGETHER_BYTES:
            yield together
            together, size = [], 0
        together.append(message)
        size += len(message.data)
    if together:
        yield together


def _is_local(broker: Any) -> bool:
    return Address(broker.host, broker.port).is_loopback


def _close_in_time(client: Any) -> None:
    """Close a client in a thread, because without its servers that may take too long."""
    thread = threading.Thread(target=_close, args=(client,), name="collector-kafka", daemon=True)
    thread.start()
    thread.join(_CLOSE_SECONDS)


def _close(client: Any) -> None:
    with suppress(Exception):
        client.close()


def _code_of(error: BaseException) -> Any:
    """Return the library's own error from an exception; ``None`` if it has none."""
    first = error.args[0] if error.args else None
    return first if hasattr(first, "name") else None


def _name(error: Any) -> str:
    return "" if error is None else str(error.name())


def _meaning(error: Any) -> Unreachable:
    """Return what an error of the library means, in our words."""
    return Unreachable(*_WORDS.get(_name(error), (_NO_ANSWER, "unreachable")))
