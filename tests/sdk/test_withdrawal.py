"""Consent that is withdrawn: what was kept of somebody for optional purposes is gone, wherever it
waits or lies, and the account tells of it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from collector.errors import CollectorError, DeliveryError, InputError
from collector.ledger import opened
from collector.sdk import Collector
from tests.sdk.stores import lines, rows
from tests.sdk.wires import hung, wire
from tests.sidecar.serving import started

_HIS, _HERS = "203.0.113.7", "203.0.113.8"
_TODAY = datetime.now(UTC).date() - timedelta(days=1)  # also around midnight
_MODEL = b"Pixel 8"
_FOREVER = 30.0


def _event(address: str = _HIS) -> dict[str, Any]:
    device = {"model": {"name": "Pixel 8"}, "type": "phone"}
    return {"ip_address": address, "device": device, "os": {"type": "android"}}


def _bytes(directory: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def _adds_up(telemetry: Collector) -> None:
    account = telemetry.tally()
    where = account.delivered + account.queued + account.spooled + sum(account.lost.values())
    assert account.admitted + account.recovered == where


@pytest.mark.parametrize("scheme", ["sqlite", "ndjson"])
def test_what_is_stored_and_what_waits(tmp_path: Path, scheme: str) -> None:
    """Of one person, to the last byte; what is for the service stays, and all that is of others."""
    path = tmp_path / f"t.{scheme}"
    with Collector(to=f"{scheme}:///{path}", interval=3600) as telemetry:
        for address in (_HIS, _HIS):
            assert telemetry.emit(_event(address))
        assert telemetry.flush(_FOREVER)
        assert telemetry.emit(_event())
        assert _bytes(tmp_path).count(_MODEL) >= 2
        done = telemetry.withdraw("client.address", _HIS, since=_TODAY)
        assert (done.queued, done.spooled, done.stored, done.damaged) == (1, 0, 2, 0)
        assert done.is_swept
        assert _MODEL not in _bytes(tmp_path)
        assert telemetry.emit(_event(_HERS))
        assert telemetry.flush(_FOREVER)
    account = telemetry.tally()
    assert (account.delivered, account.lost) == (4, {})
    found = rows(path) if scheme == "sqlite" else lines(path)
    models = [(each["client.address"], each.get("device.model.name")) for each in found]
    assert sorted(models, key=str) == [(_HIS, None)] * 3 + [(_HERS, "Pixel 8")]
    assert {each["os.type"] for each in found} == {"android"}


def test_what_came_outside_of_the_window_stays(tmp_path: Path) -> None:
    """It is somebody else's. Times may be texts, days and moments."""
    now = datetime.now(UTC)
    with Collector(to=f"sqlite:///{tmp_path}/t.db") as telemetry:
        assert telemetry.emit(_event())
        assert telemetry.flush(_FOREVER)
        for since, until in (
            (now - timedelta(hours=2), now - timedelta(hours=1)),
            (_TODAY - timedelta(days=9), _TODAY - timedelta(days=1)),
            ("2026-01-01", "2026-01-31T10:00:00Z"),
        ):
            done = telemetry.withdraw("client.address", _HIS, since=since, until=until)
            assert (done.queued, done.stored) == (0, 0)
        assert telemetry.withdraw("client.address", _HIS, since=now).stored == 1


def test_what_is_on_its_way_is_not_sent_as_it_was(tmp_path: Path) -> None:
    """While the sidecar is away, a batch is tried again and again: once it is back, what is left
    of it arrives. What it has taken is named as beyond reach."""
    with started(tmp_path) as sidecar, wire(sidecar.ports["http"]) as between:
        between.is_cut = True
        with Collector(to=f"http://127.0.0.1:{between.port}", interval=0) as telemetry:
            assert telemetry.emit(_event())
            while not telemetry.tally().failures:
                sleep(0.01)
            assert telemetry.emit(_event())
            done = telemetry.withdraw("client.address", _HIS, since=_TODAY)
            assert (done.queued, done.stored) == (2, 0)
            assert "subject object" in done.beyond[0]
            between.is_cut = False
            assert telemetry.flush(_FOREVER)
        assert telemetry.tally().delivered == 2
    assert between.sent.count(_HIS.encode()) == 2
    assert _MODEL not in between.sent


def test_a_spool_is_amended_with_a_receipt(tmp_path: Path) -> None:
    """Its ledger says that it was done, and holds; what is left is delivered, each record once."""
    spool = tmp_path / "spool"
    with started(tmp_path) as sidecar, wire(sidecar.ports["http"]) as between:
        between.is_cut = True
        with Collector(to=f"http://127.0.0.1:{between.port}", spool=spool, interval=0) as telemetry:
            for address in (_HIS, _HERS, _HIS):
                assert telemetry.emit(_event(address))
            assert telemetry.flush(_FOREVER)
            assert telemetry.tally().spooled == 3
            done = telemetry.withdraw("client.address", _HIS, since=_TODAY)
            assert (done.queued, done.spooled, done.is_swept) == (0, 2, True)
            assert _bytes(spool).count(_MODEL) == 1
            _adds_up(telemetry)
            between.is_cut = False
            while telemetry.tally().spooled:
                sleep(0.01)
        assert telemetry.tally().delivered == 3
        assert between.sent.count(_MODEL) == 1
    with opened(spool / "0" / "spool.db") as ledger:
        assert ledger.verify().flaws == []
        (entry,) = [entry for entry in ledger.entries() if entry.kind == "amendment"]
        assert dict(entry.facts)["command"] == "sdk withdraw"
        assert int(dict(entry.facts)["batches"]) > 0
        assert _HIS.encode() not in entry.text


_SURVEY = """
schema: survey
version: 1.0.0
title: A survey
owner: somebody
purposes:
  planning:
    use: analytics.reporting.system.performance
    basis: consent
    reason: Which networks to test with
    optional: true
fields:
  client.address:
    kind: ip
    category: user.device.ip_address
    purposes: [planning]
    retention: 30d
    reason: Which networks to test with
"""


@pytest.mark.parametrize("with_spool", [False, True], ids=["memory", "spool"])
def test_records_of_which_nothing_is_left_are_lost(tmp_path: Path, with_spool: bool) -> None:
    """And counted as such; whoever waits in ``flush`` does not wait for them."""
    spool, schema = tmp_path / "spool" if with_spool else None, tmp_path / "survey.yaml"
    schema.write_text(_SURVEY)
    with hung() as port:
        to = f"http://127.0.0.1:{port}"
        telemetry = Collector(schema, to, spool=spool, interval=3600, timeout=0.2)
        for number in range(5):
            assert telemetry.emit({"client.address": _HIS if number % 2 else _HERS})
        if with_spool:
            assert telemetry.flush(_FOREVER)
        done = telemetry.withdraw("client.address", _HIS, since=_TODAY)
        assert (done.queued, done.spooled) == ((0, 2) if with_spool else (2, 0))
        _adds_up(telemetry)
        assert telemetry.tally().lost == {"withdrawn": 2}
        done = telemetry.withdraw("client.address", _HERS, since=_TODAY)
        assert done.queued + done.spooled == 3
        assert telemetry.flush(_FOREVER)
        assert telemetry.tally().lost == {"withdrawn": 5}
        assert telemetry.close(0)
        _adds_up(telemetry)


def test_who_emits_meanwhile_waits_for_nothing(tmp_path: Path) -> None:
    """Threads emit, records are delivered, and of somebody everything is withdrawn again and again:
    the account adds up, and in the end nothing optional of him is there."""
    path = tmp_path / "t.db"
    with Collector(to=f"sqlite:///{path}", interval=0, batch=20) as telemetry:

        def emit() -> None:
            for number in range(300):
                assert telemetry.emit(_event(_HERS if number % 3 else _HIS))

        threads = [threading.Thread(target=emit) for _ in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            telemetry.withdraw("client.address", _HIS, since=_TODAY)
            _adds_up(telemetry)
        telemetry.withdraw("client.address", _HIS, since=_TODAY)
        assert telemetry.flush(_FOREVER)
    found = rows(path)
    assert telemetry.tally().delivered == len(found) == 900
    models = {(each["client.address"], each["device.model.name"]) for each in found}
    assert models == {(_HIS, None), (_HERS, "Pixel 8")}


@pytest.mark.parametrize("state", ["off", "closed", "unused"])
def test_nobody_must_be_running(tmp_path: Path, state: str) -> None:
    """What an earlier process has left goes as well, in store and spool; nothing is made anew."""
    to, spool = f"sqlite:///{tmp_path}/t.db", tmp_path / "spool"
    telemetry = Collector(to=to, spool=spool)
    assert telemetry.emit(_event())
    assert telemetry.close(_FOREVER)
    if state != "closed":
        telemetry = Collector(to=to, spool=spool, mode="off" if state == "off" else "on")
    if state == "unused":
        assert telemetry.close(_FOREVER)
    done = telemetry.withdraw("client.address", _HIS, since=_TODAY)
    assert done.stored + done.spooled >= 1
    assert _MODEL not in _bytes(tmp_path)
    with opened(spool / "0" / "spool.db") as ledger:
        assert [entry.kind for entry in ledger.entries()].count("amendment") == 1
    elsewhere = Collector(to=f"ndjson:///{tmp_path}/n/n", spool=tmp_path / "s", mode="off")
    assert elsewhere.withdraw("client.address", _HIS, since=_TODAY).is_swept
    assert not (tmp_path / "n").exists()
    assert not (tmp_path / "s").exists()


def _withdraw_often(telemetry: Collector) -> None:
    """At first, the thread that delivers may not have begun."""
    for _ in range(500):
        telemetry.flush(0.02)
        telemetry.withdraw("client.address", _HIS, since=_TODAY, timeout=0.02)


@pytest.mark.parametrize("with_spool", [False, True], ids=["memory", "spool"])
def test_a_sidecar_that_hangs_is_not_waited_for_too_long(tmp_path: Path, with_spool: bool) -> None:
    """While records are on their way to it nothing is done, and that is said."""
    spool = tmp_path / "spool" if with_spool else None
    with (
        hung() as port,
        Collector(to=f"http://127.0.0.1:{port}", spool=spool, exit_timeout=0) as telemetry,
    ):
        assert telemetry.emit(_event())
        with pytest.raises(DeliveryError, match="again later") as caught:
            _withdraw_often(telemetry)
        assert caught.value.code == "E510"
        assert telemetry.emit(_event())


@pytest.mark.parametrize(
    ("field", "value", "since", "code"),
    [
        ("os.type", "android", "2026-11-01", "E404"),
        ("user.name", "canary", "2026-11-01", "E404"),
        ("client.address", "canary", "2026-11-01", "E405"),
        ("client.address", _HIS, "canary", "E406"),
        ("client.address", _HIS, "2999-01-01", "E406"),
        ("client.address", _HIS, datetime(2026, 11, 1, 10), "E406"),  # noqa: DTZ001 - of no zone
    ],
)
def test_what_leads_to_nobody_is_an_error(
    tmp_path: Path, field: str, value: str, since: str, code: str
) -> None:
    """As for the command; what was given is not quoted."""
    with Collector(to=f"sqlite:///{tmp_path}/t.db") as telemetry:
        with pytest.raises(InputError) as caught:
            telemetry.withdraw(field, value, since=since)
        assert caught.value.code == code
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "given", [{"field": None}, {"value": 7}, {"since": None}, {"until": 1_800_000_000}]
)
def test_what_is_of_another_type_is_an_error(tmp_path: Path, given: dict[str, Any]) -> None:
    """Of the caller's; it says what should be there."""
    sound: dict[str, Any] = {"field": "client.address", "value": _HIS, "since": _TODAY}
    with (
        Collector(to=f"sqlite:///{tmp_path}/t.db") as telemetry,
        pytest.raises(TypeError, match=f"`{next(iter(given))}`"),
    ):
        telemetry.withdraw(**(sound | given))


def test_a_store_that_is_none_is_an_error(tmp_path: Path) -> None:
    """Nothing is said to be gone that may be there."""
    path = tmp_path / "t.db"
    telemetry = Collector(to=f"sqlite:///{path}", mode="off")
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(CollectorError) as caught:
        telemetry.withdraw("client.address", _HIS, since=_TODAY)
    assert caught.value.code == "E501"
