"""A sink of another package as the target of the SDK: by its scheme, without a change to
Collector."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from collector.config.sink_types import sink_class
from collector.errors import ConfigError, ConfigFaults
from collector.sdk import Collector
from tests.sdk.accounts import YESTERDAY, both_ways, spool_of
from tests.sdk.stores import lines
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.packages import EXAMPLE, offered
from tests.support.rows import for_each

_EVENT = {"ip": "203.0.113.7", "device": {"model": {"name": "Pixel 8"}}, "chat": "not kept"}

_OTHERS = """
from collector.sinks import Sink, Unacceptable
from collector_jsonl import Jsonl, JsonlSettings

class Alone(Jsonl):
    is_shared = False

class FarSettings(JsonlSettings):
    @property
    def is_local(self):
        return False

class Far(Jsonl):
    Settings = FarSettings

class More(JsonlSettings):
    url: str

class Unplaced(Jsonl):
    Settings = More

class Picky(Sink):
    Settings = JsonlSettings
    is_shared = True

    def __init__(self, settings, opening):
        assert opening.is_shared
        self.path, self.is_idle = settings.path, False

    def deliver(self, *batches):
        for batch in batches:
            if b"203.0.113.9" in batch.payload:
                raise Unacceptable(batch.id)
        with self.path.open("ab") as file:
            file.writelines(batch.payload for batch in batches)

    def idle(self):
        raise RuntimeError("no time to tidy up")

class Wild(Picky):
    failures = 2

    def deliver(self, *batches):
        if self.failures:
            self.failures -= 1
            raise SystemExit(1)
        super().deliver(*batches)

    def idle(self):
        raise SystemExit(1)

    def close(self):
        raise SystemExit(1)

    @property
    def is_held(self):
        raise SystemExit(1)
"""
_TYPES = {
    "jsonl": "collector_jsonl:Jsonl",
    "broken": "nowhere:Nothing",
    **{name.lower(): f"others:{name}" for name in ("Alone", "Far", "Unplaced", "Picky", "Wild")},
}


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {"collector_jsonl": EXAMPLE.read_text(), "others": _OTHERS}
    monkeypatch.syspath_prepend(str(offered(tmp_path / "site", modules, _TYPES)))
    for name in modules:
        sys.modules.pop(name, None)
    sink_class.cache_clear()


@both_ways
def test_the_example_as_a_target(tmp_path: Path, with_spool: bool) -> None:
    """Records arrive, from a forked child too; a withdrawal takes the optional fields out."""
    path, spool = tmp_path / "records.jsonl", spool_of(tmp_path, with_spool)
    with Collector(to=f"jsonl:///{path}", spool=spool, interval=0) as telemetry:
        assert telemetry.emit(_EVENT)
        assert telemetry.flush(WAIT_SECONDS)
        child = os.fork()
        if not child:
            is_done = telemetry.emit(_EVENT) and telemetry.close(WAIT_SECONDS)
            os._exit(0 if is_done else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert telemetry.emit(_EVENT)
        wait_until(lambda: telemetry.tally().delivered == 2)
        assert [record["device.model.name"] for record in lines(path)] == ["Pixel 8"] * 3
        assert b"not kept" not in path.read_bytes()
        done = telemetry.withdraw("client.address", "203.0.113.7", since=YESTERDAY)
        assert (done.stored, done.is_swept) == (3, True)
        assert not any("sink" in place for place in done.beyond)
    assert len(lines(path)) == 3
    assert not any("device.model.name" in record for record in lines(path))
    assert (telemetry.tally().delivered, telemetry.tally().lost) == (2, {})


@both_ways
def test_a_sink_that_refuses_and_raises(tmp_path: Path, with_spool: bool) -> None:
    """Records that it will never take are refused, the others arrive; what it raises while it
    tidies up ends no thread. A withdrawal says that it cannot forget."""
    path, spool = tmp_path / "records", spool_of(tmp_path, with_spool)
    with Collector(to=f"picky:///{path}", spool=spool, batch=1, interval=0) as telemetry:
        for address in ("203.0.113.8", "203.0.113.9", "203.0.113.8"):
            assert telemetry.emit({"ip": address})
        wait_until(lambda: telemetry.tally().delivered == 2)
        wait_until(lambda: telemetry.tally().lost == {"refused": 1})
        done = telemetry.withdraw("client.address", "203.0.113.8", since=YESTERDAY)
        assert "cannot forget" in done.beyond[0]
    assert path.read_bytes().count(b"203.0.113.8") == 2


@both_ways
def test_a_sink_that_would_end_its_thread(tmp_path: Path, with_spool: bool) -> None:
    """Failures are counted, and each record arrives once, although no method of the sink returns
    from its first call without an error."""
    path, spool = tmp_path / "records", spool_of(tmp_path, with_spool)
    with Collector(to=f"wild:///{path}", spool=spool, batch=1, interval=0) as telemetry:
        assert telemetry.emit(_EVENT)
        wait_until(lambda: telemetry.tally().delivered == 1)
        failures = telemetry.tally().failures
        assert failures == 2 or (with_spool and failures > 2)  # it is left to tidy up, too
        assert telemetry.emit(_EVENT)
        assert telemetry.flush(WAIT_SECONDS)
        wait_until(lambda: telemetry.tally().delivered == 2)
    assert path.read_bytes().count(b"203.0.113.7") == 2


@for_each(
    ("scheme", "code", "field"),
    [
        ("jsonk", "E107", "to"),
        ("store", "E107", "to"),
        ("broken", "E201", ""),
        ("alone", "E107", ""),
        ("far", "E107", ""),
        ("unplaced", "E107", ""),
    ],
)
def test_types_that_cannot_be_targets(tmp_path: Path, scheme: str, code: str, field: str) -> None:
    """One that is not installed, does not load, is not local, or that processes cannot share."""
    with pytest.raises((ConfigError, ConfigFaults)) as caught:
        Collector(to=f"{scheme}:///{tmp_path}/canary")
    assert caught.value.code == code
    assert "canary" not in str(caught.value)
    if isinstance(caught.value, ConfigFaults):
        assert [fault.field for fault in caught.value.faults] == [field]
