"""The SDK says, once, that all events are rejected, why, and what to run."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from collector.sdk import Collector, rejections
from collector.sdk.logs import EmittingHandler
from collector.testing import canaries
from tests.support.rows import for_each

_CANARY = canaries(1)[0]
_BAD: dict[str, Any] = {"os": {"type": _CANARY}, _CANARY: _CANARY, "chat": [_CANARY]}
_GOOD = {"ip": "203.0.113.7"}
_SAID = (
    "all of the last 100 events were rejected (nothing_admitted 98, malformed 2): write one into"
    " FILE and run `collector explain FILE --schema conferencing`"
)


def _telemetry(folder: Path, schema: str = "conferencing") -> Collector:
    return Collector(schema, to=f"ndjson:///{folder}/out.ndjson")


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert _CANARY not in caplog.text
    return [each.getMessage() for each in caplog.records if each.name == "collector.sdk"]


def test_a_hundred_in_a_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said at the hundredth, by reason, and never again."""
    with _telemetry(tmp_path) as telemetry:
        telemetry.emit(_GOOD)
        for event in [b"{", b"{", *[_BAD] * 97]:
            assert not telemetry.emit(event)
        assert _said(caplog) == []
        telemetry.emit(_BAD)
        assert _said(caplog) == [_SAID]
        for _ in range(300):
            telemetry.emit(_BAD)
    assert _said(caplog) == [_SAID]


def test_one_that_is_admitted_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Some rejections are usual, however many they are in all."""
    with _telemetry(tmp_path) as telemetry:
        for number in range(400):
            telemetry.emit(_GOOD if number % 99 == 0 else _BAD)
    assert _said(caplog) == []


@pytest.mark.parametrize("is_late", [False, True])
def test_all_of_a_minute(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    is_late: bool,
) -> None:
    """It is said however few they are, but not of those that came just after a good one."""
    now = [100.0]
    monkeypatch.setattr(rejections, "monotonic", lambda: now[0])
    with _telemetry(tmp_path) as telemetry:
        telemetry.emit(_GOOD)
        telemetry.emit(_BAD)
        now[0] += 61.0 if is_late else 59.0
        telemetry.emit(_BAD)
        assert len(_said(caplog)) == is_late
    assert len(_said(caplog)) == is_late


def test_a_short_program(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said at the end, if nothing at all was admitted."""
    with _telemetry(tmp_path) as telemetry:
        telemetry.emit(_BAD)
    (said,) = _said(caplog)
    assert said.startswith("all of the last 1 events were rejected (nothing_admitted 1)")


def test_one_at_the_beginning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said when events were admitted since: neither at the end, nor when the queue is
    full a minute later."""
    now = [100.0]
    monkeypatch.setattr(rejections, "monotonic", lambda: now[0])
    full = Collector("conferencing", to=f"ndjson:///{tmp_path}/full.ndjson", queue=1, interval=60)
    with _telemetry(tmp_path) as telemetry, full:
        for each in (telemetry, full):
            each.emit(_BAD)
            each.emit(_GOOD)
        now[0] += 61.0
        while full.emit(_GOOD):
            pass
        assert full.tally().lost["queue_full"]
    assert _said(caplog) == []


def test_threads_say_it_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with _telemetry(tmp_path) as telemetry, ThreadPoolExecutor(8) as pool:
        for _ in pool.map(telemetry.emit, [_BAD] * 2_000):
            pass
    assert len(_said(caplog)) == 1


def test_events_that_have_no_room_are_admitted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A queue that is full makes no row of the rejections between them."""
    to = f"ndjson:///{tmp_path}/full.ndjson"
    with Collector("conferencing", to=to, queue=1, interval=60) as telemetry:
        for number in range(400):
            telemetry.emit(_GOOD if number % 2 else _BAD)
    assert _said(caplog) == []


def test_a_log_that_goes_into_telemetry(tmp_path: Path) -> None:
    """The warning is an event like others, and no reason for another one; a filter that raises
    does not reach the caller."""
    logger = logging.getLogger("collector.sdk")

    def refuse(_: logging.LogRecord) -> bool:
        raise ValueError(_CANARY)

    with _telemetry(tmp_path) as telemetry:
        handler = EmittingHandler(telemetry)
        logger.addHandler(handler)
        logger.addFilter(refuse)
        try:
            for _ in range(150):
                assert telemetry.emit(_BAD) is False
            logger.removeFilter(refuse)
        finally:
            logger.removeFilter(refuse)
            logger.removeHandler(handler)
    assert telemetry.tally().received == 150


_GETSTATS = ["getstats", "PC_0", {"a": {"type": "outbound-rtp", "kind": "audio"}}, 1697]


@for_each("form", [list, tuple])
def test_lists_are_events_where_the_schema_reads_them(tmp_path: Path, form: type) -> None:
    schema = Path(__file__).parents[2] / "schemas" / "templates" / "rtcstats.yaml"
    with _telemetry(tmp_path, str(schema)) as telemetry:
        assert telemetry.emit(form(_GETSTATS))
        assert telemetry.emit(json.dumps([_GETSTATS]))
        assert telemetry.flush()
        assert telemetry.tally().delivered == 2
    with _telemetry(tmp_path) as telemetry:
        assert not telemetry.emit(form(_GETSTATS))
        assert telemetry.tally().rejected == {"not_an_object": 1}
