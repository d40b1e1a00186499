"""``Collector``: an allowlist in three lines, without waiting."""

from __future__ import annotations

import asyncio
import pickle
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import collector
from collector.errors import CODES, CollectorError, ConfigError, ConfigFaults, SchemaError
from collector.schema import load_schema
from collector.sdk import Account, Collector
from tests.sdk.stores import addresses, lines, rows
from tests.support.deadline import wait_until

_EVENT = {"ip_address": "203.0.113.7", "device": {"type": "phone"}, "chat": ["not kept"]}


def test_three_lines(tmp_path: Path) -> None:
    """A mapping in, a row out, and the content is counted."""
    path = tmp_path / "telemetry.db"
    with Collector(schema="conferencing", to=f"sqlite:///{path}") as telemetry:
        assert telemetry.emit(_EVENT)
    (row,) = rows(path)
    assert (row["client.address"], row["device.type"], row["count"]) == ("203.0.113.7", "phone", 1)
    assert row["received"].endswith(":00Z")
    assert b"not kept" not in path.read_bytes()
    assert telemetry.tally() == Account(
        1, 1, content=telemetry.tally().content, bytes_out=85, delivered=1
    )
    assert telemetry.tally().content == {"chat": 1}


def test_the_facade_has_it() -> None:
    """``from collector import Collector`` works."""
    assert collector.Collector is Collector
    assert collector.Account is Account


def test_relative_and_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes are relative, four are absolute, for both kinds of files."""
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///a.db", f"sqlite:///{tmp_path}/b.db", "ndjson:///c/d.ndjson"):
        with Collector(to=url) as telemetry:
            assert telemetry.emit(_EVENT)
    assert len(rows(tmp_path / "a.db")) == len(rows(tmp_path / "b.db")) == 1
    (line,) = lines(tmp_path / "c" / "d.ndjson")
    assert list(line) == ["schema", "client.address", "device.type", "received"]


@pytest.mark.parametrize(
    ("event", "is_admitted", "counted"),
    [
        (b'{"ip": "::1"}', True, {}),
        ('{"ip": "::1"}', True, {}),
        (bytearray(b'{"ip": "::1"}'), True, {}),
        (memoryview(b'{"ip": "::1"}'), True, {}),
        (MappingProxyType({"ip": "::1"}), True, {}),
        (b'[{"ip": "::1"}, {"ip": "::2"}]', True, {}),
        (b'[{"ip": "::1"}, {"ip": 5}]', True, {"nothing_admitted": 1}),
        ("stray", False, {"malformed": 1}),
        (b"", False, {"malformed": 1}),
        (b"\xff\x00", False, {"malformed": 1}),
        ({"ip": "nowhere"}, False, {"nothing_admitted": 1}),
        ({}, False, {"nothing_admitted": 1}),
        (None, False, {"not_an_object": 1}),
        (5, False, {"not_an_object": 1}),
        (object(), False, {"not_an_object": 1}),
        (dict, False, {"not_an_object": 1}),
    ],
    ids=[
        *("bytes", "str", "bytearray", "memoryview", "proxy", "list", "partly", "stray", "empty"),
        *("binary", "refused", "nothing", "none", "number", "object", "class"),
    ],
)
def test_what_is_emitted(
    tmp_path: Path, event: object, is_admitted: bool, counted: dict[str, int]
) -> None:
    """Any object is admitted or counted, and none raises."""
    with Collector(to=f"sqlite:///{tmp_path}/t.db") as telemetry:
        assert telemetry.emit(event) is is_admitted
        assert telemetry.tally().rejected == counted
    account = telemetry.tally()
    assert account.received == account.admitted + sum(account.rejected.values())
    assert len(rows(tmp_path / "t.db")) == account.admitted == account.delivered


class _Hostile(dict[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("a secret")

    def keys(self) -> Any:
        raise RuntimeError("a secret")

    __iter__ = items = values = get = keys  # type: ignore[assignment]


@dataclass
class _Trap:
    ip: str = "::1"

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("a secret")


def test_events_that_fight_back(tmp_path: Path) -> None:
    """An event whose code raises is counted as rejected; an object is read without running its
    code."""
    loop: dict[str, Any] = {}
    loop["device"] = loop
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"device": deep}
    with Collector(to=f"sqlite:///{tmp_path}/t.db") as telemetry:
        for event in (_Hostile(), loop, deep):
            assert telemetry.emit(event) is False
        assert telemetry.tally().received == sum(telemetry.tally().rejected.values()) == 3
        assert telemetry.emit(_Trap()) is True
        while deep:  # taken apart here: the interpreter would need the stack for it
            deep = deep.pop("device")


def test_wrong_use_is_told_at_once(tmp_path: Path) -> None:
    """All faults are reported together, with codes; no message quotes a value."""
    with pytest.raises(ConfigFaults) as caught:
        Collector(to="redis://canary", queue=0, when_full="canary", mode="canary")  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.count("[E107]") == 4
    assert "canary" not in text
    with pytest.raises(ConfigFaults) as caught:
        Collector(to="redis://canary")
    assert "canary" not in str(caught.value)
    with pytest.raises(SchemaError):
        Collector(schema="no-such-schema", to=f"sqlite:///{tmp_path}/t.db")
    (tmp_path / "file").write_text("not a directory")
    for to in (f"sqlite:///{tmp_path}/file/t.db", f"ndjson:///{tmp_path}/file/t.ndjson"):
        with pytest.raises(ConfigError) as refused:
            Collector(to=to)
        assert refused.value.code in CODES
    (tmp_path / "no.db").write_bytes(b"this is no database, whatever its name says" * 99)
    with pytest.raises(CollectorError, match="E501"):
        Collector(to=f"sqlite:///{tmp_path}/no.db")
    with pytest.raises(ConfigError):
        Collector(to=f"sqlite:///{tmp_path}/t.db", spool=tmp_path / "file")


def test_flush_and_close_say_what_they_did(tmp_path: Path) -> None:
    """``flush`` waits for earlier records; ``close`` may be called again."""
    path = tmp_path / "t.db"
    telemetry = Collector(to=f"sqlite:///{path}", interval=3600)
    assert telemetry.flush()
    telemetry.emit(_EVENT)
    assert telemetry.tally().queued == 1
    assert telemetry.flush()
    assert len(rows(path)) == telemetry.tally().delivered == 1
    telemetry.emit(_EVENT)
    assert telemetry.close()
    assert telemetry.close()
    assert len(rows(path)) == 2
    assert telemetry.emit(_EVENT) is False
    account = telemetry.tally()
    assert (account.admitted, account.delivered, account.lost) == (3, 2, {"closed": 1})


@pytest.mark.usefixtures("one_minute")
def test_a_batch_goes_when_it_is_full(tmp_path: Path) -> None:
    """It is delivered long before the interval is over."""
    with Collector(to=f"sqlite:///{tmp_path}/t.db", interval=3600, batch=10) as telemetry:
        for _ in range(10):
            telemetry.emit(_EVENT)
        wait_until(lambda: telemetry.tally().delivered == 10)


def test_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTOR_SDK_MODE", "off")
    with Collector(to=f"sqlite:///{tmp_path}/t.db", mode="on") as telemetry:
        assert telemetry.emit(_EVENT) is False
        assert telemetry.flush()
    assert telemetry.tally() == Account()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("local", [None, "ndjson"])
def test_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: str | None) -> None:
    monkeypatch.setenv("COLLECTOR_SDK_MODE", "local")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    where = tmp_path / "home" / "collector" / "telemetry.db"
    if local:
        where = tmp_path / "kept.ndjson"
        monkeypatch.setenv("COLLECTOR_SDK_LOCAL", f"ndjson:///{where}")
    with Collector(to="http://localhost:1") as telemetry:
        telemetry.emit(_EVENT)
    assert addresses(where) == ["203.0.113.7"]
    with Collector(to=f"sqlite:///{tmp_path}/t.db") as telemetry:
        telemetry.emit(_EVENT)
    assert addresses(tmp_path / "t.db") == ["203.0.113.7"]


def test_without_a_place_it_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default target is the store in the user's data directory."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with Collector() as telemetry:
        telemetry.emit(_EVENT)
    assert addresses(tmp_path / "collector" / "telemetry.db") == ["203.0.113.7"]


def test_a_schema_of_ones_own(tmp_path: Path) -> None:
    """A schema is given as an object, and as a path."""
    schema = load_schema("conferencing-strict")
    with Collector(schema, f"sqlite:///{tmp_path}/t.db") as telemetry:
        assert telemetry.schema is schema
        telemetry.emit(_EVENT)
    (row,) = rows(tmp_path / "t.db", "conferencing-strict")
    assert row["client.address"] == "203.0.113.0"


def test_peer_and_user_agent(tmp_path: Path) -> None:
    """Data of the request fills fields that the event leaves open, if the schema says so."""
    with Collector(to=f"sqlite:///{tmp_path}/t.db") as telemetry:
        telemetry.emit({"os": {"type": "linux"}}, peer="203.0.113.9")
    (row,) = rows(tmp_path / "t.db")
    expected = "203.0.113.9" if "peer" in str(telemetry.schema.fields["client.address"]) else None
    assert row["client.address"] == expected


def test_asyncio(tmp_path: Path) -> None:
    """``emit`` is called directly; ``aclose`` does not block the loop."""

    async def run() -> None:
        async with Collector(to=f"sqlite:///{tmp_path}/t.db", interval=0.01) as telemetry:
            await asyncio.gather(*(asyncio.to_thread(telemetry.emit, _EVENT) for _ in range(20)))
            for _ in range(20):
                telemetry.emit(_EVENT)
        assert telemetry.tally().delivered == 40

    asyncio.run(run())


def test_it_can_be_sent_to_another_process(tmp_path: Path) -> None:
    """Settings and schema are pickled; the account is not."""
    with Collector(to=f"ndjson:///{tmp_path}/t.ndjson", queue=7) as telemetry:
        telemetry.emit(_EVENT)
        with pickle.loads(pickle.dumps(telemetry)) as other:
            assert other.tally() == Account()
            other.emit({"ip": "::1"})
    assert addresses(tmp_path / "t.ndjson") == ["203.0.113.7", "::1"]


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("collector.sdk.delivery.DeliveryWorker.start", RuntimeError),
        ("_thread.start_new_thread", RuntimeError),
        ("_thread.start_new_thread", KeyboardInterrupt),
    ],
)
def test_a_thread_that_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: type[BaseException]
) -> None:
    """If the start is interrupted, or refused by an ending interpreter, ``close`` delivers."""

    def start(*_: object) -> None:
        raise error

    monkeypatch.setattr(function, start)
    telemetry = Collector(to=f"sqlite:///{tmp_path}/t.db")
    with suppress(KeyboardInterrupt):
        telemetry.emit(_EVENT)
    assert telemetry.close()
    assert addresses(tmp_path / "t.db") == ["203.0.113.7"]


def test_what_it_shows_of_itself(tmp_path: Path) -> None:
    """``repr`` shows neither target, token nor record."""
    with Collector(to=f"sqlite:///{tmp_path}/t.db", token="hunter2-hunter2") as telemetry:
        telemetry.emit({"ip": "198.51.100.77"})
        text = repr(telemetry) + str(telemetry) + repr(vars(telemetry))
        assert repr(telemetry) == "<Collector of conferencing/1.0.0, on>"
    assert str(tmp_path) not in text
    assert "hunter2" not in text
    assert "198.51.100" not in text
