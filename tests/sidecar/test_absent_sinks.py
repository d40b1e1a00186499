"""A sidecar starts without a sink that batches wait for, and later with it again, with kills in
between. Nothing is lost, and only a command discards anything."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.sidecar.erasing import WINDOW, address, addresses_stored, event_of
from tests.support.command import run
from tests.support.deadline import wait_until
from tests.support.ledgers import entries_of
from tests.support.otlp_receivers import http_receiver
from tests.support.sidecar import Sidecar, started
from tests.support.tcp import free_port

_NAME = "backend"
_ALLOWED = "--allow-widening"
"""A sink that did not run last widens the configuration, even if it returns."""


def _configured(folder: Path, sinks: Mapping[str, Any]) -> Path:
    """A configuration with these sinks in addition to the store."""
    path = folder / "collector.json"
    path.write_bytes(orjson.dumps({"data": str(folder / "collector-data"), "sinks": sinks}))
    return path


def _otlp(port: int) -> dict[str, Any]:
    """Settings of a sink that is a receiver on this machine."""
    return {"type": "otlp", "endpoint": f"http://127.0.0.1:{port}", "party": "first"}


def _sent(sidecar: Sidecar, *people: int) -> None:
    """Send an event of each person."""
    for number in people:
        assert sidecar.send(event_of(address(number))).status == 200


def _absent(sidecar: Sidecar) -> dict[str, float]:
    """The batches that wait for absent sinks, from the metrics."""
    lines = sidecar.admin("/metrics").body.decode().splitlines()
    found = (line.partition("{") for line in lines if line.startswith("collector_sink_absent_b"))
    pairs = (rest.split('"')[1::2] + rest.rsplit(" ", 1)[1:] for _, _, rest in found)
    return {name: float(number) for name, number in pairs}


def _status(folder: Path) -> Any:
    return run("status", "--data", folder / "collector-data", "--json").json


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """A directory in which three batches wait for a receiver that is down; the sidecar was
    killed."""
    file = _configured(tmp_path, {_NAME: _otlp(free_port())})
    with started(tmp_path, "--config", str(file)) as sidecar:
        _sent(sidecar, 1, 2, 3)
        wait_until(lambda: len(addresses_stored(tmp_path / "collector-data")) == 3)
        sidecar.stop(signal.SIGKILL)
    return tmp_path


def test_batches_wait_until_their_sink_returns(waiting: Path) -> None:
    """They wait through kills and starts without it. Log, metrics and `status` name the sink with
    the number of batches. An erasure covers waiting batches; later batches are not for it."""
    data = waiting / "collector-data"
    file = _configured(waiting, {})
    for number in (4, 5):
        with started(waiting, "--config", str(file)) as sidecar:
            _sent(sidecar, number)
            wait_until(lambda: len(addresses_stored(data)) == number)  # noqa: B023
            assert _absent(sidecar) == {_NAME: 3}
            told = _status(waiting)["absent"][_NAME]
            assert (told["state"], told["waiting"]["batches"]) == ("absent", 3)
            assert (told["waiting"]["records"], told["taken"]) == (3, 3)
            shown = run("status", "--data", data).out
            assert f"sink {_NAME} is not in the configuration: 3 records wait".encode() in shown
            wait_until(lambda: "sink_absent" in "".join(sidecar.log))
            sidecar.stop(signal.SIGKILL)
        (said,) = (each for each in sidecar.events if each["event"] == "sink_absent")
        assert (said["sink"], said["waiting"]) == (_NAME, 3)
    with started(waiting, "--config", str(file)) as sidecar:
        person = ("--field", f"client.address={address(2)}")
        window = ("--from", WINDOW[0], "--to", WINDOW[1])
        done = run("subject", "erase", "--config", file, *person, *window, "--json")
        assert (done.json["records"], done.json["sinks"]["store"]) == (1, 1)
        wait_until(lambda: _absent(sidecar) == {_NAME: 2})
        sidecar.stop(signal.SIGKILL)
    with http_receiver() as receiver:
        file = _configured(waiting, {_NAME: _otlp(receiver.port)})
        with started(waiting, "--config", str(file), _ALLOWED) as sidecar:
            assert _status(waiting)["absent"] == {}
            assert _absent(sidecar) == {}
            _sent(sidecar, 6)
            wait_until(lambda: receiver.people().total() == 3)
            wait_until(lambda: _status(waiting)["spool"]["batches"] == 0)
            sidecar.stop()
        people = receiver.people()
    assert people == {address(at): 1 for at in (1, 3, 6)}
    assert run("ledger", "verify", "--data", data).code == 0


@pytest.mark.parametrize("runs", [True, False], ids=["a sidecar runs", "none runs"])
def test_a_sink_is_dropped_by_command(waiting: Path, *, runs: bool) -> None:
    """The command works over the control socket or on the files. A dry run changes nothing. A
    configured or unknown sink is refused. The ledger has an entry, and the records of others
    stay."""
    data = waiting / "collector-data"
    on = _configured(waiting, {_NAME: _otlp(free_port())})
    refused = run("store", "drop", _NAME, "--config", on, "--yes")
    assert (refused.code, b"E122" in refused.err) == (78, True)
    file = _configured(waiting, {})

    def check() -> None:
        tried = run("store", "drop", _NAME, "--config", file, "--dry-run", "--json")
        assert tried.json == {
            "sink": _NAME,
            "batches": 3,
            "set_aside": 0,
            "records": 3,
            "dry_run": True,
        }
        for name, code in (("store", b"E122"), ("never", b"E132")):
            refused = run("store", "drop", name, "--config", file, "--yes")
            assert (refused.code, code in refused.err) == (78, True), refused.err
        done = run("store", "drop", _NAME, "--config", file)
        assert done.out == b"3 batches with 3 records for backend, 0 of them set aside: deleted\n"
        assert run("store", "drop", _NAME, "--config", file, "--json").json["batches"] == 0

    if runs:
        with started(waiting, "--config", str(file)) as sidecar:
            wait_until(lambda: "sink_absent" in "".join(sidecar.log))
            assert _absent(sidecar) == {_NAME: 3}
            check()
            assert _absent(sidecar) == {_NAME: 0}
            wait_until(lambda: "sink_absent_done" in "".join(sidecar.log))
            sidecar.stop()
    else:
        check()
    first, _ = entries_of(data / "spool.db", "drop")
    assert (first.fact("sink"), first.fact("rows"), first.fact("batches")) == (_NAME, "3", "3")
    assert len(addresses_stored(data)) == 3
    assert run("ledger", "verify", "--data", data).code == 0
    if runs:
        with http_receiver() as receiver:
            file = _configured(waiting, {_NAME: _otlp(receiver.port)})
            with started(waiting, "--config", str(file), _ALLOWED) as sidecar:
                _sent(sidecar, 7)
                wait_until(lambda: receiver.people().total() == 1)
                sidecar.stop()


def test_it_asks_on_a_terminal(waiting: Path) -> None:
    file, spool = _configured(waiting, {}), waiting / "collector-data" / "spool.db"
    for answer, code in ((b"n\n", 1), (b"y\n", 0)):
        done = run("store", "drop", _NAME, "--config", file, stdin=answer, typed=True)
        assert b"3 batches with 3 records" in done.out + done.err
        assert (done.code, len(entries_of(spool, "drop"))) == (code, 1 - code)


def test_a_sink_of_another_name_gets_what_waits(waiting: Path) -> None:
    """A sink is known by its name. Under another name it is new, and starts with the batches that
    still wait for the old name."""
    with http_receiver() as receiver:
        file = _configured(waiting, {"renamed": _otlp(receiver.port)})
        with started(waiting, "--config", str(file), _ALLOWED) as sidecar:
            wait_until(lambda: receiver.people().total() == 3)
            assert _absent(sidecar) == {_NAME: 3}
            assert run("store", "drop", _NAME, "--config", file, "--yes").code == 0
            wait_until(lambda: _status(waiting)["spool"]["batches"] == 0)
            sidecar.stop()
