"""The sink of NATS JetStream, against a server."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from nats.js.errors import BadRequestError
from pydantic import ValidationError

from collector import Collector, load_schema
from collector.brokers.message import MOST_BYTES, read_message
from collector.config.sink_settings import SinkSettings
from collector.contracts import Batch
from collector.errors import ConfigError, DeliveryError, MessageError, Unreachable
from collector.filter.stored import records_in
from collector.sinks.nats import NatsSettings, NatsSink
from collector.sinks.sink import Opening
from collector.testing.sinks import SinkConformance, batch_of
from tests.support.certificates import Authority
from tests.support.deadline import WAIT_SECONDS
from tests.support.nats_server import NatsServer, require_nats, server
from tests.support.raising import raises

SCHEMA = load_schema("conferencing")
_CONNECT_SECONDS = "collector.brokers.jetstream._CONNECT_SECONDS"
"""Which pass where a server is away."""


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server for the tests of this module."""
    require_nats()
    with server(tmp_path_factory.mktemp("nats")) as made:
        yield made


def _stream(directory: Path) -> str:
    return f"s{hashlib.sha256(str(directory).encode()).hexdigest()[:16]}"


def _settings(nats: NatsServer, directory: Path, **more: Any) -> NatsSettings:
    """Return the settings for a stream that belongs to a directory; it is made."""
    name = _stream(directory)
    nats.stream(name)
    where = {"url": nats.url, "stream": name, "subject": f"{name}.records", "timeout": "30s"}
    return NatsSettings(type="nats", party="first", **where, **more)


def _opened(settings: NatsSettings, directory: Path) -> closing[NatsSink]:
    return closing(NatsSink(settings, Opening("tested", (SCHEMA,), directory)))


def _records(nats: NatsServer, directory: Path, keys: list[bytes] | None = None) -> list[Any]:
    found = [read_message(each, keys or []) for each in nats.messages(_stream(directory))]
    return [record for each in found for record in records_in(each.payload)]


class TestConformance(SinkConformance):
    """A stream, which forgets nothing before its max age."""

    nats: NatsServer

    @pytest.fixture(autouse=True)
    def _server(self, nats: NatsServer) -> None:
        self.nats = nats

    def settings(self, directory: Path) -> SinkSettings:
        """A stream of its own."""
        return _settings(self.nats, directory)

    def records(self, directory: Path) -> dict[str, int]:
        """Read the stream."""
        return dict(Counter(record["client.address"] for record in _records(self.nats, directory)))

    @contextmanager
    def failing(self, directory: Path) -> Iterator[None]:
        """The server is away."""
        self.nats.kill()
        try:
            with mock.patch(_CONNECT_SECONDS, 3.0):
                yield
        finally:
            self.nats.start()


def test_a_batch_that_comes_again_is_stored_once(nats: NatsServer, tmp_path: Path) -> None:
    batch = batch_of(1, [1, 2], SCHEMA)
    for _ in range(2):
        with _opened(_settings(nats, tmp_path), tmp_path) as sink:
            sink.deliver(batch)
            sink.deliver(batch, batch_of(2, [3], SCHEMA))
    assert len(_records(nats, tmp_path)) == 3


def test_a_large_batch_goes_in_parts(
    nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_KEY", "k" * 32)
    batch = batch_of(1, list(range(1, 250)) * 80, SCHEMA)
    assert len(batch.payload) > 3 * MOST_BYTES
    with _opened(_settings(nats, tmp_path, mac="env:BROKER_KEY"), tmp_path) as sink:
        sink.deliver(batch)
    messages = nats.messages(_stream(tmp_path))
    assert len(messages) == 4
    assert all(len(each) < MOST_BYTES for each in messages)
    assert len(_records(nats, tmp_path, [b"k" * 32])) == 249 * 80
    with raises("E520", MessageError):
        read_message(messages[0], [b"o" * 32])


def test_a_stream_with_a_limit_of_its_own(nats: NatsServer, tmp_path: Path) -> None:
    settings = _settings(nats, tmp_path)
    nats.stream("small", max_msg_size=65_536)
    settings = settings.model_copy(update={"stream": "small", "subject": "small.records"})
    batch = batch_of(1, list(range(1, 250)) * 20, SCHEMA)
    with _opened(settings, tmp_path) as sink:
        sink.deliver(batch)
    messages = nats.messages("small")
    assert len(messages) > len(batch.payload) // 65_536
    assert max(map(len, messages)) < 65_536


@pytest.mark.parametrize(
    ("subject", "is_taken"),
    [
        ("a.b", True),
        ("a.c", False),
        ("x.1.z", True),
        ("x.1.2.z", False),
        ("y.1", True),
        ("y.1.2", True),
        ("y", False),
    ],
)
def test_a_subject_that_the_stream_does_not_take(
    nats: NatsServer, tmp_path: Path, subject: str, is_taken: bool
) -> None:
    async def make(stream: Any) -> None:
        with suppress(BadRequestError):
            await stream.add_stream(name="some", subjects=["a.b", "x.*.z", "y.>"], max_age=60.0)

    nats.ask(make)
    settings = _settings(nats, tmp_path).model_copy(update={"stream": "some", "subject": subject})
    opening = Opening("tested", (SCHEMA,), tmp_path)
    if is_taken:
        NatsSink.check(settings, opening)
        with _opened(settings, tmp_path) as sink:
            sink.deliver(batch_of(1, [1], SCHEMA))
    else:
        with raises("E514", Unreachable) as caught:
            NatsSink.check(settings, opening)
        assert "takes the subject" in caught.value.message


def test_the_granted_purposes_are_those_of_sink_and_person(
    nats: NatsServer, tmp_path: Path
) -> None:
    """A drain sees for what it has the records."""
    first, *_ = SCHEMA.purposes
    batch = batch_of(1, [1], SCHEMA)
    cases: list[tuple[Any, Any, Any]] = [
        (None, None, None),
        (None, ("a", "b"), ("a", "b")),
        ([first], None, (first,)),
        ([first], (first, "b"), (first,)),
        ([first], ("b",), ()),
        ([first, "of_another_schema"], None, (first,)),
    ]
    for purposes, granted, expected in cases:
        settings = _settings(nats, tmp_path, **({"purposes": purposes} if purposes else {}))
        with _opened(settings, tmp_path) as sink:
            number = len(nats.messages(settings.stream))
            layout, payload = batch.layout, batch.payload
            id_ = (100 + number).to_bytes(16)
            sink.deliver(
                Batch(id_, batch.received, layout=layout, payload=payload, granted=granted)
            )
        assert read_message(nats.messages(settings.stream)[-1]).granted == expected


@pytest.mark.parametrize(
    ("config", "is_faulty"),
    [
        ({"max_age": 3600.0}, False),
        ({"max_age": 400 * 86400.0}, True),
        ({"max_age": 0.0}, True),
        ({"max_bytes": 1 << 20}, True),
        ({"max_bytes": 1 << 20, "discard": "new"}, False),
        ({"max_msgs": 10, "discard": "old"}, True),
        ({"max_msgs_per_subject": 10}, True),
        ({"discard": "old"}, False),
        ({"retention": "interest"}, True),
        ({"retention": "limits"}, False),
    ],
)
def test_how_long_the_stream_keeps_messages(
    nats: NatsServer, tmp_path: Path, *, config: dict[str, Any], is_faulty: bool
) -> None:
    """Longer than the schema allows is a fault, and so is losing what nobody took."""
    nats.stream(_stream(tmp_path), **config)
    settings, opening = _settings(nats, tmp_path), Opening("tested", (SCHEMA,), tmp_path)
    if "max_age" in config:
        expected = timedelta(seconds=config["max_age"]) or timedelta.max
        assert NatsSink.read_expiry(settings) == expected
    with raises("E219", ConfigError) if is_faulty else nullcontext():
        NatsSink.check(settings, opening)


def test_what_the_broker_refuses(nats: NatsServer, tmp_path: Path) -> None:
    settings = _settings(nats, tmp_path)
    cases = {"no_such": settings.subject, settings.stream: "nothing.takes.this"}
    for stream, subject in cases.items():
        wrong = settings.model_copy(update={"stream": stream, "subject": subject})
        with _opened(wrong, tmp_path) as sink:
            with raises("E514", Unreachable) as caught:
                sink.deliver(batch_of(1, [1], SCHEMA))
            assert "203.0.113" not in str(caught.value)
    full = tmp_path / "full"
    nats.stream(_stream(full), max_msgs=1, discard="new")
    with _opened(_settings(nats, full), full) as sink:
        sink.deliver(batch_of(1, [1], SCHEMA))
        with raises("E514", Unreachable):
            sink.deliver(batch_of(2, [2], SCHEMA))
    offline = Opening("tested", (SCHEMA,), tmp_path, is_offline=True)
    with closing(NatsSink(settings, offline)) as sink, raises("E503", DeliveryError):
        sink.deliver(batch_of(1, [1], SCHEMA))


def test_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_TOKEN", "t0ken-that-is-secret")
    monkeypatch.setenv("NATS_OTHER", "another")
    with server(tmp_path / "token", "--auth", "t0ken-that-is-secret") as nats:
        where = {"type": "nats", "url": nats.url, "stream": "s", "party": "first"}

        async def make(stream: Any) -> None:
            await stream.add_stream(name="s", subjects=["collector.records"], max_age=60)

        nats.ask(make, token="t0ken-that-is-secret")
        right = NatsSettings(**where, auth_token="env:NATS_TOKEN", timeout="30s")
        with _opened(right, tmp_path) as sink:
            sink.deliver(batch_of(1, [1], SCHEMA))
        wrong = NatsSettings(**where, auth_token="env:NATS_OTHER", timeout="2s")
        with _opened(wrong, tmp_path) as sink, raises("E514", Unreachable) as caught:
            sink.deliver(batch_of(1, [1], SCHEMA))
        assert "another" not in str(caught.value)
    with raises("E202", ConfigError):
        NatsSettings(**where, auth_token="env:NATS_NONE").publisher()
    with raises("E202", ConfigError):
        NatsSettings(**where, credentials=tmp_path / "none.creds").publisher()


def test_settings_that_are_faulty() -> None:
    for change in [
        {"url": "nats://broker.example.org:4222"},
        {"url": "http://127.0.0.1:4222"},
        {"url": "nats://user:hunter2@127.0.0.1"},
        {"url": "nats://127.0.0.1:99999"},
        {"url": "nats://"},
        {"url": "tls://" + ",".join(["a.example.org"] * 17)},
        {"stream": "a.b"},
        {"stream": "a b"},
        {"subject": "a.*"},
        {"subject": "a..b"},
        {"auth_token": "hunter2"},
        {"mac": "hunter2"},
    ]:
        sound = {"type": "nats", "url": "tls://a.example.org,b.example.org:4333", "stream": "s"}
        settings = NatsSettings(**sound)
        assert settings.place(Path()) == "NATS at a.example.org:4222,b.example.org:4333, stream s"
        assert (settings.is_local, settings.servers.is_encrypted) == (False, True)
        with pytest.raises(ValidationError) as caught:
            NatsSettings(**sound | change)
        (fault,) = caught.value.errors(
            include_url=False, include_context=False, include_input=False
        )
        assert fault["type"] == "E107"
        assert "hunter2" not in fault["msg"]


def test_an_application_sends_to_a_stream(nats: NatsServer, tmp_path: Path) -> None:
    settings = _settings(nats, tmp_path)
    to = f"{nats.url}/{settings.stream}?subject={settings.subject}"
    with Collector("conferencing", to, spool=None, exit_timeout=WAIT_SECONDS) as telemetry:
        telemetry.emit({"ip_address": "203.0.113.7", "os": {"type": "linux"}})
    (record,) = _records(nats, tmp_path)
    assert record["client.address"] == "203.0.113.7"
    for faulty in ("nats://127.0.0.1", "nats://127.0.0.1/s?url=x", "nats+tls://h/s/t"):
        with raises("E107", ConfigError):
            NatsSettings.at_address("nats", faulty)
    made = NatsSettings.at_address("nats", "nats+tls://broker.example.org/s?auth_token=env:TOKEN")
    assert (made.url, made.stream, made.auth_token) == (
        "tls://broker.example.org",
        "s",
        "env:TOKEN",
    )


@pytest.mark.long
def test_encryption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = Authority(tmp_path), Authority(tmp_path, "another")
    pair = ours.issue("localhost")
    tls = ("--tls", "--tlscert", str(pair.certificate), "--tlskey", str(pair.key))
    with server(tmp_path / "server", *tls) as nats:
        where = {
            "type": "nats",
            "url": nats.url.replace("nats://127.0.0.1", "tls://localhost"),
            "stream": "none",
        }
        settings = NatsSettings(**where, ca=ours.own.certificate, timeout="30s")
        with raises("E514", Unreachable, "no such stream"):
            NatsSink.read_expiry(settings)
        monkeypatch.setattr(_CONNECT_SECONDS, 3.0)
        settings = NatsSettings(**where, ca=theirs.own.certificate, timeout="5s")
        with raises("E514", Unreachable, "no server"):
            NatsSink.read_expiry(settings)
