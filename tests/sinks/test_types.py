"""Types of sinks: ours and those of other packages, unknown, broken and clashing ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector import sinks
from collector.config import Loaded, examine, read
from collector.config.sink_settings import SinkSettings
from collector.config.sink_types import BUILT_IN, names, sink_class
from collector.errors import ConfigError, DeliveryError, Fault
from collector.sinks.sink import (
    Opening,
    check_sink,
    in_place,
    is_erasable,
    open_sink,
    sink_type,
)
from collector.sinks.store import StoreSink
from tests.support.packages import EXAMPLE, offered


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Types are loaded once in a process."""
    sink_class.cache_clear()
    yield
    sink_class.cache_clear()


def _read(tmp_path: Path, text: str, **environ: str) -> Loaded:
    (tmp_path / "collector.yaml").write_text(text)
    return read(tmp_path / "collector.yaml", environ)


def _faults(tmp_path: Path, text: str, **environ: str) -> list[Fault]:
    (tmp_path / "collector.yaml").write_text(text)
    return list(examine(tmp_path / "collector.yaml", environ).faults)


def test_public_names() -> None:
    assert all(getattr(sinks, name) for name in sinks.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sinks.nothing


def test_ours_can_forget() -> None:
    for name, settings in read(None, {}).config.sinks.items():
        assert name in BUILT_IN
        assert is_erasable(settings)
    assert sink_type(read(None, {}).config.sinks["store"]) is StoreSink


def test_several_sinks_of_a_type(tmp_path: Path) -> None:
    """In the environment, ``_`` stands for ``-``."""
    text = "sinks: {archive-2: {type: ndjson, path: a}, second: {type: store}}"
    environ = {
        "COLLECTOR__SINKS__ARCHIVE_2__PATH": "b",
        "COLLECTOR__SINKS__MORE__TYPE": "ndjson",
        "COLLECTOR__SINKS__MORE__PATH": "c",
        "COLLECTOR__SINKS__SECOND": "false",
    }
    loaded = _read(tmp_path, text, **environ)
    on = loaded.config.sinks.on()
    assert {name: (sink.type, dict(sink.files())) for name, sink in on.items()} == {
        "store": ("store", {}),
        "archive-2": ("ndjson", {"path": Path("b")}),
        "more": ("ndjson", {"path": Path("c")}),
    }
    assert loaded.origins["sinks.archive-2.path"] == "environment"
    assert loaded.origins["sinks.archive-2.type"].endswith("collector.yaml:1")
    data = tmp_path / "data" / "sinks"
    second = loaded.config.sinks["second"].place(data / "second")
    assert second == str(data / "second" / "store.db")
    assert loaded.config.sinks["store"].place(data / "store") == str(tmp_path / "data" / "store.db")


def test_another_package_offers_a_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not loaded before it is named."""
    broken = {"broken": "nowhere:Nothing"}
    source = {"collector_jsonl": EXAMPLE.read_text()}
    folder = offered(tmp_path / "site", source, {"jsonl": "collector_jsonl:Jsonl", **broken})
    monkeypatch.syspath_prepend(str(folder))
    assert {"store", "ndjson", "jsonl", "broken"} <= set(names())
    loaded = _read(tmp_path, f"sinks: {{jsonl: {{path: {tmp_path}/a}}}}")
    assert loaded.config.sinks["jsonl"].is_local
    assert is_erasable(loaded.config.sinks["jsonl"])
    (fault,) = _faults(tmp_path, "sinks: {x: {type: jsonk}}")
    assert (fault.field, fault.code) == ("sinks.x.type", "E107")
    assert "did you mean `jsonl`?" in fault.message


@pytest.mark.parametrize(
    ("entries", "type_"),
    [
        ({"lake": "nowhere:Nothing"}, "lake"),
        ({"lake": "broken:Lake"}, "lake"),
        ({"lake": "pathlib:Path"}, "lake"),
        ({"lake": "pathlib:Path", "lake ": "os:getcwd"}, "lake"),
        ({"store": "pathlib:Path"}, "store"),
    ],
)
def test_broken_and_clashing_types(
    entries: dict[str, str], type_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = {"broken": "raise SystemError('canary')"}
    monkeypatch.syspath_prepend(str(offered(tmp_path / "site", modules, entries)))
    faults = _faults(tmp_path, f"sinks: {{some: {{type: {type_}}}}}")
    assert [(fault.field, fault.code) for fault in faults] == [("sinks.some.type", "E201")]
    assert "canary" not in str(faults)


def test_a_type_whose_code_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
from collector.sinks import Sink, SinkSettings

class Far(Sink):
    Settings = SinkSettings
    def __init__(self, settings, opening):
        raise KeyError("canary")
    @classmethod
    def check(cls, settings, opening):
        raise type("Canary", (Exception,), {})("canary")
"""
    folder = offered(tmp_path / "site", {"failing": source}, {"failing": "failing:Far"})
    monkeypatch.syspath_prepend(str(folder))
    settings, opening = SinkSettings(type="failing"), Opening("far", (), tmp_path)
    failed = "the code of this sink type failed to"
    with pytest.raises(ConfigError) as caught:
        open_sink(settings, opening)
    assert caught.value.message == f"{failed} open the sink: KeyError in failing, line 7"
    with pytest.raises(ConfigError) as caught:
        check_sink(settings, opening)
    assert caught.value.message == f"{failed} check the sink: an exception in failing, line 10"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("canary"), "the code of this sink type failed: KeyError in builtins"),
        (SystemExit("canary"), "the code of this sink type tried to end the program"),
        (MemoryError("canary"), "there is not enough memory"),
    ],
)
def test_what_a_sink_may_not_raise(error: BaseException, words: str) -> None:
    with pytest.raises(DeliveryError) as caught, in_place("far", object()):
        raise error
    assert (caught.value.code, caught.value.message) == ("E503", f"far: {words}")
    assert caught.value.__context__ is None


def test_settings_that_a_type_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A location elsewhere needs a party."""
    source = """
from collector.sinks import Sink, SinkSettings

class Settings(SinkSettings):
    url: str

class Far(Sink):
    Settings = Settings
    def deliver(self, *batches): ...
"""
    entries = {"far": "far:Far"}
    monkeypatch.syspath_prepend(str(offered(tmp_path / "site", {"far": source}, entries)))
    for given, lacks in (("party: first", "url"), ("url: a", "party")):
        (fault,) = _faults(tmp_path, f"sinks: {{far: {{{given}}}}}")
        assert (fault.field, fault.code) == (f"sinks.far.{lacks}", "E106")
    assert "far" in _read(tmp_path, "sinks: {far: {url: a, party: first}}").config.sinks.on()
