"""The live pages: made when something has changed, never for a request, and of whole hours."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any

import pytest

from collector.claims.document import load_claims
from collector.claims.promises import Promise
from collector.claims.verdicts import fingerprint, record
from collector.contracts import Backlog, DeliveryState, Depth
from collector.ops.error_log import ErrorLog
from collector.ops.sink_state import Growth, SinkState
from collector.server.components import Components
from collector.server.pages import File, LivePages
from collector.server.status import Status, render_status
from tests.server.keeping import keeping

_NOW = datetime(2026, 12, 1, 3, 20, tzinfo=UTC)


@pytest.fixture
def components(tmp_path: Path) -> Iterator[Components]:
    """Those of a sidecar, with an open spool."""
    with keeping(tmp_path) as kept:
        yield kept.components


class Log(ErrorLog):
    """Keeps what went wrong."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def error_at(self, kind: str, place: str) -> None:
        """Keep its type."""
        self.kinds.append(kind)


class Clock:
    """The time, which a test moves."""

    now = _NOW

    def __call__(self) -> datetime:
        return self.now


def _live(components: Components, clock: Clock) -> LivePages:
    return LivePages(components, lambda: _STATUS, Log(), clock=clock)


def _file(live: LivePages, path: str = "/", language: str = "en") -> File:
    """What is sent after a look."""
    live.update()
    found = asyncio.run(live.file(path, language))
    assert found is not None
    return found


def _facts(live: LivePages) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_file(live, "/page.json").body)
    return found


def test_it_is_made_when_something_changes(components: Components) -> None:
    """A verdict, the hour or the configuration; not for each request, nor as time goes by."""
    clock = Clock()
    live = _live(components, clock)
    before = [_file(live)]

    def is_new() -> bool:
        before.append(_file(live))
        return before[-1] is not before[-2]

    assert not is_new()
    clock.now = _NOW + timedelta(minutes=39)
    assert not is_new()
    clock.now = _NOW + timedelta(minutes=41)
    assert is_new()
    record(components.config.data or Path(), [Promise("no-sale", "a", "holds")], "b", _NOW)
    assert (is_new(), is_new()) == (True, False)
    components.config = components.config.model_copy()
    assert (is_new(), is_new()) == (True, False)
    for _ in range(2):  # two reloads between two looks
        components.config = components.config.model_copy()
    assert (is_new(), is_new()) == (True, False)
    assert _file(live, language="id").body != before[-1].body


def test_it_shows_the_latest_verdicts(components: Components) -> None:
    live = _live(components, Clock())
    before = _facts(live)
    assert {each["verdict"] for each in before["promises"]} == {"unproven"}
    assert before["checked"] is None
    configuration = fingerprint(components.config, components.flows, components.copies)
    made = [Promise(name, claim.text, "holds", "So.") for name, claim in load_claims().items()]
    record(components.config.data or Path(), made, configuration, _NOW)
    after = _facts(live)
    assert {each["verdict"] for each in after["promises"]} == {"holds"}
    assert after["checked"] is not None


def test_it_counts_by_whole_hours(components: Components) -> None:
    """Bytes, and content by category; neither what is of this hour or the one before, nor fields
    by value, nor more than a day."""
    rows = [
        (f"2026-{hour}:00:00Z", *each)
        for hour in ("12-01T03", "12-01T02", "12-01T01", "11-30T02", "11-30T01")
        for each in (
            ("bytes", "in", "", 1234),
            ("bytes", "out", "", 56),
            ("content", "chat", "", 78),
            ("dropped", "os.type", "invalid_value", 9),
        )
    ]
    with closing(sqlite3.connect(components.spool.path)) as db, db:
        db.executemany("INSERT INTO hours VALUES (?, ?, ?, ?, ?)", rows)
    told = {"bytes_in": 1234, "bytes_out": 56, "content": {"chat": 78}}
    hours = [f"{hour}:00:00+00:00" for hour in ("2026-12-01T01", "2026-11-30T02")]
    live = _live(components, Clock())
    assert _facts(live)["hours"] == [{"hour": hour, **told} for hour in hours]
    for text in (
        _file(live).body.decode(),
        _file(live, language="id").body.decode(),
        render_status(replace(_STATUS, spool=components.spool.path)).decode(),
    ):
        assert text.count("1,234" if "1,234" in text else "1.234") == len(hours)
        assert "78" in text
        assert "invalid_value" not in text


def test_a_page_that_cannot_be_made(
    components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made before is sent; at first there is none."""
    clock, log = Clock(), Log()
    live = LivePages(components, lambda: _STATUS, log, clock=clock)
    faulty = "collector.pages.render.render"
    with monkeypatch.context() as patch:
        patch.setattr(faulty, lambda *_: 1 / 0)
        assert asyncio.run(live.file("/", "en")) is None
        live.update()
        assert log.kinds == ["ZeroDivisionError"], "it is not tried again for nothing"
    clock.now += timedelta(hours=1)
    whole = _file(live)
    monkeypatch.setattr(faulty, lambda *_: 1 / 0)
    clock.now += timedelta(hours=1)
    assert _file(live) == whole
    assert _file(live, "/status").body == render_status(_STATUS)


def test_when_the_spool_is_full() -> None:
    growth = Growth()
    for minute in range(200):
        if minute < 10:
            assert growth.until_full(1000) is None
        growth.add(minute * 60.0, {"": minute * 10, "lake": minute * 5})
        growth.add(minute * 60.0 + 1, {"": 0})  # within the same minute
    assert growth.until_full(1000) == pytest.approx(6000)
    assert growth.until_full(1000, "lake") == pytest.approx(12000)
    assert (growth.until_full(-5), growth.until_full(1, "new")) == (0, None)
    for minute in range(200, 300):
        growth.add(minute * 60.0, {"": 5})
    assert growth.until_full(1000) == inf


_SCRIPT = "<script>alert(1)</script>\u202e"
_STATUS = Status(
    _NOW,
    [_SCRIPT],
    Path("/data dir/<b>"),
    Path("/absent/spool.db"),
    {"spool": "full", "sink lake": "blocking", "sandbox": "late"},
    is_ready=False,
    used=3 << 20,
    limit=10 << 20,
    until_full=7200.0,
    batches=7,
    sinks={
        "lake": SinkState(
            "blocking",
            Backlog(2, 10, 3 << 20, 90.0, 4.5, 4 << 20, skipped=Depth(1, 77, 5)),
            DeliveryState(failing=True, cause="denied", answer="HTTP 403"),
            7200.0,
        ),
        "old": SinkState("absent", Backlog(1, 1, 1, 1.0, 1.0), DeliveryState(), is_absent=True),
    },
    certificates={"http": _NOW + timedelta(days=5), "admin": _NOW - timedelta(days=1)},
    workers=(1, 2),
    replaced=3,
    confined=1,
    reloaded=_NOW,
    is_reloaded=False,
)


def test_the_status_says_what_is_wrong() -> None:
    """The sink with its cause, what waits, certificates, workers, and the command for the ledger;
    names execute nothing."""
    text = render_status(_STATUS).decode()
    for part in ("Not ready", "denied (HTTP 403)", "2 batches, 10 records", "in 2 hours", "1 of 2"):
        assert part in text
    for part in ("5 days left", "expired", "collector store drop old", "could not be read"):
        assert part in text
    for part in ("75 % of 4 MiB", "77 skipped"):
        assert part in text
    assert "<script" not in text
    assert "<b>" not in text


def test_the_status_shows_no_bytes() -> None:
    """A record more or less does not show, as its size is a matter of a person."""
    more = replace(_STATUS, used=_STATUS.used - 900)
    assert render_status(more) == render_status(_STATUS)
