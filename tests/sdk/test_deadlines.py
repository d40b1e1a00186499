"""An exchange with a sidecar ends at its deadline, whatever the receiver does."""

from __future__ import annotations

import threading
from pathlib import Path
from time import monotonic, sleep

import pytest

from collector.sdk import Collector
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.http_receivers import ENDLESS, check_endless, receiver

_EVENT = {"ip_address": "203.0.113.7", "device": {"type": "phone"}}
_SHORT, _LONG = 0.3, 300.0
_MARGIN = WAIT_SECONDS
"""Seconds: far more than a busy machine needs, and far less than ``_LONG``."""
_RECORDS = 30_000
"""More than the buffers of a connection hold."""


def _url(name: str, port: int) -> str:
    return f"{'https' if 'handshake' in name else 'http'}://localhost:{port}"


def _filled(
    name: str, port: int, *, timeout: float, exit_timeout: float = _SHORT, spool: Path | None = None
) -> Collector:
    """Make a ``Collector`` with records in flight."""
    telemetry = Collector(
        to=_url(name, port),
        timeout=timeout,
        exit_timeout=exit_timeout,
        spool=spool,
        batch=20_000,
        interval=0,
    )
    for _ in range(_RECORDS if "reads" in name else 1):
        assert telemetry.emit(_EVENT)
    return telemetry


def _threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("collector-")}


def test_an_attempt_ends_at_its_deadline() -> None:
    """Each failed attempt is counted soon after ``timeout``, and another one begins."""

    def check(name: str, port: int) -> None:
        telemetry = _filled(name, port, timeout=_SHORT)
        wait_until(lambda: telemetry.tally().failures >= 2, _MARGIN)
        telemetry.close(0)
        assert telemetry.tally().delivered == 0

    check_endless(check)


@pytest.mark.parametrize("with_spool", [False, True], ids=["memory", "spool"])
def test_close_ends_the_exchange(tmp_path: Path, with_spool: bool) -> None:
    """``flush`` and ``close`` return in time, and no thread goes on afterwards, even if an attempt
    may take much longer."""
    before = _threads()

    def check(name: str, port: int) -> None:
        spool = tmp_path / name if with_spool else None
        telemetry = _filled(name, port, timeout=_LONG, spool=spool)
        sleep(0.1)
        began = monotonic()
        is_flushed = telemetry.flush(_SHORT)
        assert not is_flushed or (with_spool and not telemetry.tally().queued)
        telemetry.close(_SHORT)
        assert monotonic() - began < 2 * _SHORT + _MARGIN
        account = telemetry.tally()
        assert account.delivered == account.queued == 0
        assert account.admitted == account.spooled + account.lost["unsent"]

    check_endless(check)
    for thread in _threads() - before:
        thread.join(_MARGIN)
        assert not thread.is_alive()


@pytest.mark.long
@pytest.mark.parametrize("name", ["never reads", "100 Continue, slowly"])
def test_close_without_a_thread_keeps_to_its_time(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no thread can be started, ``close`` delivers itself."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with receiver(ENDLESS[name]) as port:
        monkeypatch.setattr("collector.sdk.delivery.DeliveryWorker.start", start)
        telemetry = _filled(name, port, timeout=_LONG)
        began = monotonic()
        assert not telemetry.close(_SHORT)
        assert monotonic() - began < _SHORT + _MARGIN
    account = telemetry.tally()
    assert account.lost == {"unsent": account.admitted}
