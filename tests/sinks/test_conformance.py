"""Our own types of sinks, and the example's, pass the tests that every type passes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from unittest import mock

import pytest

from collector.config.sink_settings import SinkSettings
from collector.config.sink_types import settings_of, sink_class
from collector.contracts import Removal
from collector.errors import DeliveryError
from collector.sinks.ndjson import NdjsonSettings
from collector.sinks.otlp import OtlpSettings
from collector.sinks.parquet import ParquetSettings
from collector.sinks.sink import Sink
from collector.testing.sinks import SinkConformance
from tests.support.otlp_receivers import Answer, Received, http_receiver, taken
from tests.support.packages import EXAMPLE, offered


def _appended(path: Path) -> bool:
    with path.open("ab") as file:
        file.write(b"hello from Ana\n")
    return True


class TestStore(SinkConformance):
    """The embedded store, in its own directory."""

    @pytest.fixture(autouse=True)
    def _short_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("collector.sqlite.connection.BUSY_SECONDS", 0.1)

    def settings(self, directory: Path) -> SinkSettings:
        """Without a path."""
        return settings_of("store")(type="store")

    @contextmanager
    def failing(self, directory: Path) -> Iterator[None]:
        """Another process writes for longer than it is waited for."""
        path = directory / "sinks" / self.name / "store.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            yield

    def plant(self, directory: Path) -> bool:
        """A table of another program."""
        with closing(sqlite3.connect(directory / "sinks" / self.name / "store.db")) as db, db:
            db.execute("CREATE TABLE chat (text TEXT)")
        return True


class TestNdjson(SinkConformance):
    """Files of records."""

    def settings(self, directory: Path) -> SinkSettings:
        """A file."""
        return NdjsonSettings(type="ndjson", path=directory / "a" / "records.ndjson")

    @contextmanager
    def failing(self, directory: Path) -> Iterator[None]:
        """The disk is full."""
        with mock.patch("collector.sinks.ndjson._write", side_effect=OSError):
            yield

    def plant(self, directory: Path) -> bool:
        """A line of another program."""
        return _appended(directory / "a" / "records.ndjson")


class TestParquet(SinkConformance):
    """Files of a lake, which are made once a day, so that records are collected."""

    def settings(self, directory: Path) -> SinkSettings:
        """A directory."""
        return ParquetSettings(type="parquet", path=directory / "lake", every="24h")

    @contextmanager
    def failing(self, directory: Path) -> Iterator[None]:
        """The disk is full."""
        with mock.patch("collector.sinks.parquet.segments._write", side_effect=OSError):
            yield

    def plant(self, directory: Path) -> bool:
        """A file of another program."""
        (directory / "lake").mkdir(exist_ok=True)
        return _appended(directory / "lake" / "chat.txt")


class TestParquetFiles(TestParquet):
    """Files of a lake, which are made at once."""

    @contextmanager
    def opened(
        self, directory: Path, *, offline: bool = False, reports: list[Removal] | None = None
    ) -> Iterator[Sink]:
        """Make files of all that was collected, when the sink is opened and when it is closed."""
        is_due = mock.patch("collector.sinks.parquet.segments.Segment.is_due", return_value=True)
        with is_due, super().opened(directory, offline=offline, reports=reports) as sink:
            yield sink
            if not offline:
                with suppress(DeliveryError):  # it is closed
                    sink.deliver()


class TestExample(SinkConformance):
    """The one of a package of its own."""

    @pytest.fixture(autouse=True)
    def _installed(
        self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path_factory.mktemp("packages") / "site"
        source = {"collector_jsonl": EXAMPLE.read_text()}
        site = offered(folder, source, {"jsonl": "collector_jsonl:Jsonl"})
        monkeypatch.syspath_prepend(str(site))
        sink_class.cache_clear()

    def settings(self, directory: Path) -> SinkSettings:
        """In its own directory."""
        return settings_of("jsonl")(type="jsonl")

    def plant(self, directory: Path) -> bool:
        """A line of another program."""
        return _appended(directory / "sinks" / self.name / "records.jsonl")


class TestOtlp(SinkConformance):
    """A receiver of OTLP, which keeps what it takes in memory."""

    received: Received

    @pytest.fixture(autouse=True)
    def _receiving(self) -> Iterator[None]:
        self.is_away = False
        with http_receiver(self._answer) as self.received:
            yield

    def _answer(self, *_: object) -> Answer:
        return Answer(503) if self.is_away else taken()

    def settings(self, directory: Path) -> SinkSettings:
        """An address."""
        endpoint = f"http://127.0.0.1:{self.received.port}"
        return OtlpSettings(type="otlp", endpoint=endpoint, timeout="60s")

    def records(self, directory: Path) -> dict[str, int]:
        """Count what the receiver has; it gets each uid as often as its batch comes."""
        return dict(self.received.people())

    @contextmanager
    def failing(self, directory: Path) -> Iterator[None]:
        """The receiver has no room."""
        self.is_away = True
        yield
        self.is_away = False
