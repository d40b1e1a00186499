"""What the ledger notes of a configuration is read back: the settings of every type of sinks, with
any values of any of them, lead to the same location."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BeforeValidator, Field, ValidationError
from pydantic.fields import FieldInfo

from collector.config import sink_types
from collector.config.model import Config, Sinks, plain_settings
from collector.config.sink_settings import Section, SinkSettings
from collector.config.sink_types import BUILT_IN, settings_of
from collector.config.values import Duration, Size
from collector.retention import earlier
from collector.sinks import Sink

_REQUIRED: dict[str, dict[str, Any]] = {
    "otlp": {"endpoint": "https://otel.example.org"},
    "postgres": {"url": "postgres://user@db.example.org/telemetry"},
    "parquet": {"path": "lake"},
    "nats": {"url": "tls://nats.example.org", "stream": "telemetry"},
    "kafka": {"url": "kafka+tls://kafka.example.org", "topic": "telemetry"},
    "within": {"place_": {"host": "h"}},
}
"""What settings of a type must at least have."""
_VALUES: list[Any] = [
    *(
        "true",
        "false",
        "first",
        "processor",
        "third",
        "DE",
        "US",
        "Example Ltd",
        "é, with: a comma",
    ),
    *("a", "b-c", "records.ndjson", "/var/lib/out", "../out", "~", "null", "None", "{}", "[]", "1"),
    *("https://otel.example.org:4318/p", "http://127.0.0.1:4318", "https://[::1]:9000"),
    *("postgres://u@h:5433/d?sslmode=verify-full", "env:PLACE", "file:/run/secret"),
    *("tls://a:1,b:2", "nats://localhost", "kafka://127.0.0.1:9092", "kafka+tls://a,b"),
    *("s3://bucket/prefix", "gs://bucket", "az://container/a/b", "eu-central-1"),
    *(
        "grpc",
        "http",
        "gzip",
        "none",
        "refuse",
        "skip",
        "PLAIN",
        "SCRAM-SHA-256",
        "a.b.c",
        "store",
        "ndjson",
    ),
    *("500ms", "1.5s", "0.3s", "59.123456s", "1.000001s", "61m", "1h", "90m", "24h", "0.1234567s"),
    *("1MiB", "1536KiB", "1048577", "64MiB", "1GiB", 4096, 3, 1, True, False, 17, 1000),
    *(["service_operations"], ["a", "b"], ["a-b", "c_d"]),
    *({"authorization": "env:TOKEN"}, {"x-a": "file:/t", "x-b": "env:B"}, {}),
    *({"host": "h2", "size": "3KiB", "wait": "1.5s"}, {"host": "h"}),
]


class _Inner(Section):
    host: str
    size: Size = 1024
    wait: Duration = 1.0


def _words(value: Any) -> Any:
    if value == ():
        raise ValueError("state one")
    return value


class _Within(SinkSettings):
    """Settings as another package may have them."""

    place_: _Inner = Field(description="A section.")
    words: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field((), description="Words.")
    weights: Mapping[str, float] = Field({}, description="A mapping.")
    paths: frozenset[Path] = Field(frozenset(), description="A set.")

    def place(self, directory: Path) -> str:
        return f"{self.place_.host} {self.place_.size}"


class _WithinSink(Sink):
    Settings: ClassVar[type[SinkSettings]] = _Within


@pytest.fixture(autouse=True, scope="module")
def _offered() -> Iterator[None]:
    """A type of another package, with sections, mappings and sets."""
    with pytest.MonkeyPatch.context() as patch:
        found = sink_types.sink_class

        def sink_class(type_: str) -> tuple[type, type[SinkSettings]]:
            return (_WithinSink, _Within) if type_ == "within" else found(type_)

        patch.setattr(sink_types, "sink_class", sink_class)
        yield


@cache
def _taken(type_: str) -> dict[str, list[Any]]:
    """The values that each setting of a type takes."""
    settings = _settings(type_)
    found: dict[str, list[Any]] = {}
    for key in settings.model_fields:
        found[key] = [each for each in _VALUES if _made(type_, {key: each}) is not None]
    return found


def _settings(type_: str) -> type[SinkSettings]:
    return _Within if type_ == "within" else settings_of(type_)


def _made(type_: str, values: Mapping[str, Any]) -> SinkSettings | None:
    required = _REQUIRED.get(type_, {})
    if "url" in values and type_ == "parquet":
        required = {}
    try:
        return _settings(type_)(**{"type": type_, **required, **values})
    except ValidationError:
        return None


def _read_back(name: str, sink: SinkSettings) -> SinkSettings | None:
    """What the ledger's entry of a configuration says of a sink."""
    config = Config(sinks=Sinks({name: sink}))
    text = orjson.dumps(plain_settings(config), option=orjson.OPT_SORT_KEYS)
    return earlier._made(name, earlier._sinks(orjson.loads(text))[name])


_TYPES = [*BUILT_IN, "within"]


def test_every_setting_has_values_to_be_tried() -> None:
    """Two or more, so that none is left out below."""
    for type_ in _TYPES:
        few = {key for key, values in _taken(type_).items() if len(values) < 2}
        assert not few - {"type", "words", "weights", "paths"}, (
            "add values that it takes to `_VALUES`"
        )


@given(st.data())
def test_settings_are_read_back(data: st.DataObject) -> None:
    """All of them, and so the location, whatever is stated and under whatever name."""
    type_ = data.draw(st.sampled_from(_TYPES))
    taken = {key: st.sampled_from(values) for key, values in _taken(type_).items() if values}
    taken.pop("type")
    taken |= _OTHERS if type_ == "within" else {}
    values = data.draw(st.fixed_dictionaries({}, optional=taken))
    if type_ == "parquet" and "url" in values:
        values.pop("path", None)
    sink = _made(type_, values)
    assert sink is not None
    name = data.draw(st.sampled_from([type_, "a-1", "lake"]))
    found = _read_back(name, sink)
    assert found == sink
    for directory in (Path("/data/sinks/lake"), Path("data/sinks/store")):
        assert found.place(directory) == sink.place(directory)
    assert (found.known_at, found.files(), found.is_on) == (sink.known_at, sink.files(), sink.is_on)


_OTHERS: dict[str, st.SearchStrategy[Any]] = {
    "words": st.lists(st.text(max_size=5), min_size=1, max_size=3).map(tuple),
    "weights": st.dictionaries(st.text(max_size=5), st.floats(0, 1), max_size=3),
    "paths": st.frozensets(st.sampled_from([Path("a"), Path("/b/c")])),
}


def test_defaults_are_read_back() -> None:
    for type_ in _TYPES:
        sink = _made(type_, {})
        assert sink is not None
        assert _read_back("lake", sink) == sink
        assert isinstance(_settings(type_).model_fields["party"], FieldInfo)
