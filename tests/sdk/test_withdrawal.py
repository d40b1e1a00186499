"""Withdrawn consent: a person's data for optional purposes is removed everywhere, and counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from collector.errors import CollectorError, DeliveryError, InputError
from collector.ledger import opened
from collector.sdk import Collector
from tests.sdk.accounts import SURVEY, YESTERDAY, adds_up, both_ways, spool_of
from tests.sdk.stores import lines, rows
from tests.sdk.wires import hung, wire
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.programs import threads
from tests.support.raising import raises
from tests.support.rows import for_each
from tests.support.sidecar import Sidecar
from tests.support.unpacked import every_byte

_HIS, _HERS = "203.0.113.7", "203.0.113.8"
_MODEL = b"Pixel 8"


def _event(address: str = _HIS) -> dict[str, Any]:
    device = {"model": {"name": "Pixel 8"}, "type": "phone"}
    return {"ip_address": address, "device": device, "os": {"type": "android"}}


def _bytes(directory: Path) -> bytes:
    return every_byte(directory)


@for_each("scheme", ["sqlite", "ndjson"])
def test_stored_and_queued_records(tmp_path: Path, scheme: str) -> None:
    """One person's data goes to the last byte; data for the service, and of others, stays."""
    path = tmp_path / f"t.{scheme}"
    with Collector(to=f"{scheme}:///{path}", interval=3600) as telemetry:
        for address in (_HIS, _HIS):
            assert telemetry.emit(_event(address))
        assert telemetry.flush(WAIT_SECONDS)
        telemetry._queue.is_urgent = False  # as a flush leaves it that need not wait for long
        assert telemetry.emit(_event())
        assert _bytes(tmp_path).count(_MODEL) >= 2
        done = telemetry.withdraw("client.address", _HIS, since=YESTERDAY)
        assert (done.queued, done.spooled, done.stored, done.damaged) == (1, 0, 2, 0)
        assert done.is_swept
        assert _MODEL not in _bytes(tmp_path)
        assert telemetry.emit(_event(_HERS))
        assert telemetry.flush(WAIT_SECONDS)
    account = telemetry.tally()
    assert (account.delivered, account.lost) == (4, {})
    found = rows(path) if scheme == "sqlite" else lines(path)
    models = [(each["client.address"], each.get("device.model.name")) for each in found]
    assert sorted(models, key=str) == [(_HIS, None)] * 3 + [(_HERS, "Pixel 8")]
    assert {each["os.type"] for each in found} == {"android"}


def test_records_outside_of_the_window_stay(tmp_path: Path) -> None:
    """It is another person's. Times may be texts, days and moments."""
    now = datetime.now(UTC)
    with Collector(to=f"sqlite:///{tmp_path}/t.db") as telemetry:
        assert telemetry.emit(_event())
        assert telemetry.flush(WAIT_SECONDS)
        for since, until in (
            (now - timedelta(hours=2), now - timedelta(hours=1)),
            (YESTERDAY - timedelta(days=9), YESTERDAY - timedelta(days=1)),
            ("2026-01-01", "2026-01-31T10:00:00Z"),
        ):
            done = telemetry.withdraw("client.address", _HIS, since=since, until=until)
            assert (done.queued, done.stored) == (0, 0)
        assert telemetry.withdraw("client.address", _HIS, since=now).stored == 1


def test_a_batch_in_flight_is_redacted(sidecar: Sidecar) -> None:
    with wire(sidecar.ports["http"]) as between:
        between.is_cut = True
        with Collector(to=f"http://127.0.0.1:{between.port}", interval=0) as telemetry:
            assert telemetry.emit(_event())
            wait_until(lambda: telemetry.tally().failures)
            assert telemetry.emit(_event())
            done = telemetry.withdraw("client.address", _HIS, since=YESTERDAY)
            assert (done.queued, done.stored) == (2, 0)
            assert "subject object" in done.beyond[0]
            between.is_cut = False
            assert telemetry.flush(WAIT_SECONDS)
        assert telemetry.tally().delivered == 2
    assert between.sent.count(_HIS.encode()) == 2
    assert _MODEL not in between.sent


def test_a_spool_is_amended_with_a_receipt(sidecar: Sidecar, tmp_path: Path) -> None:
    """Its ledger has an entry and verifies; the remaining records are delivered once."""
    spool = tmp_path / "spool"
    with wire(sidecar.ports["http"]) as between:
        between.is_cut = True
        with Collector(to=f"http://127.0.0.1:{between.port}", spool=spool, interval=0) as telemetry:
            for address in (_HIS, _HERS, _HIS):
                assert telemetry.emit(_event(address))
            assert telemetry.flush(WAIT_SECONDS)
            assert telemetry.tally().spooled == 3
            done = telemetry.withdraw("client.address", _HIS, since=YESTERDAY)
            assert (done.queued, done.spooled, done.is_swept) == (0, 2, True)
            assert _bytes(spool).count(_MODEL) == 1
            adds_up(telemetry)
            between.is_cut = False
            wait_until(lambda: not telemetry.tally().spooled)
        assert telemetry.tally().delivered == 3
        assert between.sent.count(_MODEL) == 1
    with opened(spool / "0" / "spool.db") as ledger:
        assert ledger.verify().flaws == []
        (entry,) = [entry for entry in ledger.entries() if entry.kind == "amendment"]
        assert dict(entry.facts)["command"] == "sdk withdraw"
        assert int(dict(entry.facts)["batches"]) > 0
        assert _HIS.encode() not in entry.text


@both_ways
def test_records_of_which_nothing_is_left_are_lost(tmp_path: Path, with_spool: bool) -> None:
    """They are counted as withdrawn; ``flush`` does not wait for them."""
    spool, schema = spool_of(tmp_path, with_spool), tmp_path / "survey.yaml"
    schema.write_text(SURVEY)
    with hung() as port:
        to = f"http://127.0.0.1:{port}"
        telemetry = Collector(schema, to, spool=spool, interval=3600, timeout=0.2)
        for number in range(5):
            assert telemetry.emit({"client.address": _HIS if number % 2 else _HERS})
        if with_spool:
            assert telemetry.flush(WAIT_SECONDS)
        done = telemetry.withdraw("client.address", _HIS, since=YESTERDAY)
        assert (done.queued, done.spooled) == ((0, 2) if with_spool else (2, 0))
        adds_up(telemetry)
        assert telemetry.tally().lost == {"withdrawn": 2}
        done = telemetry.withdraw("client.address", _HERS, since=YESTERDAY)
        assert done.queued + done.spooled == 3
        assert telemetry.flush(WAIT_SECONDS)
        assert telemetry.tally().lost == {"withdrawn": 5}
        assert telemetry.close(0)
        adds_up(telemetry)


def test_emit_does_not_wait_for_a_withdrawal(tmp_path: Path) -> None:
    """Threads emit, records are delivered, and one person withdraws again and again: the account
    adds up, and in the end nothing optional of that person is stored."""
    path = tmp_path / "t.db"
    with Collector(to=f"sqlite:///{path}", interval=0, batch=20) as telemetry:

        def emit() -> None:
            for number in range(300):
                assert telemetry.emit(_event(_HERS if number % 3 else _HIS))

        with threads(*[emit] * 3) as emitting:
            while any(thread.is_alive() for thread in emitting):
                telemetry.withdraw("client.address", _HIS, since=YESTERDAY)
                adds_up(telemetry)
        telemetry.withdraw("client.address", _HIS, since=YESTERDAY)
        assert telemetry.flush(WAIT_SECONDS)
    found = rows(path)
    assert telemetry.tally().delivered == len(found) == 900
    models = {(each["client.address"], each["device.model.name"]) for each in found}
    assert models == {(_HIS, None), (_HERS, "Pixel 8")}


@for_each("state", ["off", "closed", "unused"])
def test_no_process_need_be_running(tmp_path: Path, state: str) -> None:
    """Data of an earlier process is removed too, from store and spool; no file is created."""
    to, spool = f"sqlite:///{tmp_path}/t.db", tmp_path / "spool"
    telemetry = Collector(to=to, spool=spool)
    assert telemetry.emit(_event())
    assert telemetry.close(WAIT_SECONDS)
    if state != "closed":
        telemetry = Collector(to=to, spool=spool, mode="off" if state == "off" else "on")
    if state == "unused":
        assert telemetry.close(WAIT_SECONDS)
    done = telemetry.withdraw("client.address", _HIS, since=YESTERDAY)
    assert done.stored + done.spooled >= 1
    assert _MODEL not in _bytes(tmp_path)
    with opened(spool / "0" / "spool.db") as ledger:
        assert [entry.kind for entry in ledger.entries()].count("amendment") == 1
    elsewhere = Collector(to=f"ndjson:///{tmp_path}/n/n", spool=tmp_path / "s", mode="off")
    assert elsewhere.withdraw("client.address", _HIS, since=YESTERDAY).is_swept
    assert not (tmp_path / "n").exists()
    assert not (tmp_path / "s").exists()


def _withdraw_often(telemetry: Collector) -> None:
    """Withdraw repeatedly; the delivery thread may not have started at first."""
    for _ in range(500):
        telemetry.flush(0.02)
        telemetry.withdraw("client.address", _HIS, since=YESTERDAY, timeout=0.02)


@both_ways
def test_a_sidecar_that_hangs_is_not_waited_for_too_long(tmp_path: Path, with_spool: bool) -> None:
    spool = spool_of(tmp_path, with_spool)
    with (
        hung() as port,
        Collector(to=f"http://127.0.0.1:{port}", spool=spool, exit_timeout=0) as telemetry,
    ):
        assert telemetry.emit(_event())
        with raises("E514", DeliveryError, match="again later"):
            _withdraw_often(telemetry)
        assert telemetry.emit(_event())


@for_each(
    ("field", "value", "since", "code"),
    [
        ("os.type", "android", "2026-11-01", "E404"),
        ("user.name", "canary", "2026-11-01", "E404"),
        ("client.address", "canary", "2026-11-01", "E107"),
        ("client.address", _HIS, "canary", "E107"),
        ("client.address", _HIS, "2999-01-01", "E107"),
        ("client.address", _HIS, datetime(2026, 11, 1, 10), "E107"),  # noqa: DTZ001 - of no zone
    ],
)
def test_a_field_that_identifies_no_person_is_an_error(
    tmp_path: Path, field: str, value: str, since: str, code: str
) -> None:
    with Collector(to=f"sqlite:///{tmp_path}/t.db") as telemetry:
        with pytest.raises(InputError) as caught:
            telemetry.withdraw(field, value, since=since)
        assert caught.value.code == code
        assert "canary" not in str(caught.value)


@for_each("given", [{"field": None}, {"value": 7}, {"since": None}, {"until": 1_800_000_000}])
def test_arguments_of_another_type_are_an_error(tmp_path: Path, given: dict[str, Any]) -> None:
    """A ``TypeError`` names the expected type."""
    sound: dict[str, Any] = {"field": "client.address", "value": _HIS, "since": YESTERDAY}
    with (
        Collector(to=f"sqlite:///{tmp_path}/t.db") as telemetry,
        pytest.raises(TypeError, match=f"`{next(iter(given))}`"),
    ):
        telemetry.withdraw(**(sound | given))


def test_a_store_that_is_none_is_an_error(tmp_path: Path) -> None:
    """The result never claims removal from an unreadable store."""
    path = tmp_path / "t.db"
    telemetry = Collector(to=f"sqlite:///{path}", mode="off")
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(CollectorError) as caught:
        telemetry.withdraw("client.address", _HIS, since=YESTERDAY)
    assert caught.value.code == "E501"
