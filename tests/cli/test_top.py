"""What a running sidecar does, in rates: its counts, and nothing else of what was sent."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.server.rates import Sample, summary
from collector.testing import canaries
from tests.support.command import run
from tests.support.command import started as command
from tests.support.deadline import wait_until
from tests.support.sidecar import started
from tests.support.terminal import Terminal

_CANARY = canaries(1)[0]
_BODY = b"\n".join(
    [
        *[b'{"device":{"type":"phone"},"os":{"type":"linux"},"chat":[{"text":"%s"}]}'
        % _CANARY.encode()] * 3,
        b'{"device":{"type":"%s"},"os":{"type":"linux"}}' % _CANARY.encode(),
        b'{"%s":1}' % _CANARY.encode(),
        b"{broken",
    ]
)  # fmt: skip
_SINK = ("sink ", "store ")
"""The beginnings of the two lines of the table of sinks, on 80 columns."""
_EVENTS: dict[str, Any] = {
    "received": 6.0,
    "admitted": 4.0,
    "rejected": {"malformed": 1.0, "nothing_admitted": 1.0},
    "dropped": {"device.type": {"invalid_value": 1.0}},
    "content": {"chat": 3.0},
}


def test_a_sidecar_is_watched(tmp_path: Path) -> None:
    data = tmp_path / "collector-data"
    ended = run("top", "--once", "--data", data)
    assert (ended.code, b"name another one with `--data`" in ended.err) == (1, True)
    with started(tmp_path) as sidecar:
        assert sidecar.send(_BODY).status == 200
        shown = run("top", "--once", "--data", data).out.decode()
        assert ("chat 3" in shown, "device.type" in shown, "invalid_value 1" in shown) == (
            True,
        ) * 3
        heading, row = (line.split("  ") for line in shown.splitlines() if line.startswith(_SINK))
        assert ([*filter(None, row)][:2], "oldest" in heading) == (["store", "up to date"], True)
        assert max(map(len, shown.splitlines())) <= 80
        wait_until(
            lambda: run("top", "--once", "--json", "--data", data).json["sinks"]["store"][
                "delivered"
            ]
        )
        found = run("top", "--once", "--json", "--data", data).json
        assert (found["rates"], found["events"]["conferencing"]) == (False, _EVENTS)
        words = ("top", "--json", "--interval", "0.5", "--data", data)
        with command(*words) as running:
            first = orjson.loads(running.out.readline())
            sidecar.send(_BODY)
            changed = next(filter(_has_events, map(orjson.loads, running.out)))
            running.process.send_signal(signal.SIGINT)
            ended = running.ended()
        assert (ended.code, ended.err) == (0, b"")
        assert (first["rates"], _has_events(first)) == (True, False)
        assert changed["events"]["conferencing"]["rejected"].keys() == _EVENTS["rejected"].keys()
        assert _CANARY not in f"{shown}{found}{first}{changed}"
        terminal = Terminal("top", "--data", data, TTY_INTERACTIVE="1")
        for _ in range(3):  # drawn again: all is set up
            terminal.wait_for("workers")
        terminal.terminate()
        terminal.wait_for("\x1b[?1049l")  # the screen as it was before
        assert terminal.end() == 0


def _has_events(facts: dict[str, Any]) -> bool:
    return bool(facts["events"]["conferencing"]["received"])


def _status(counts: list[int]) -> dict[str, Any]:
    received, rejected, delivered, waiting = counts
    events = {"received": received, "admitted": 0, "rejected": {"malformed": rejected}}
    sink = {"delivered": delivered, "failures": {}, "set_aside": 0, "late": False, "cause": None}
    sink |= {"state": "ok", "share": 0.0, "skipped": 0}
    spool = {"batches": waiting, "records": waiting, "bytes": waiting, "limit": 1 << 20}
    return {
        "ready": True,
        "checks": {"spool": "ok"},
        "workers": {"ready": 1, "replaced": 0},
        "spool": spool,
        "events": {"one": events},
        "sinks": {
            "store": sink | {"answer": "", "waiting": {"records": waiting, "bytes": waiting}}
        },
    }


_COUNTS = st.lists(st.integers(0, 1 << 40), min_size=4, max_size=4)


@given(_COUNTS, _COUNTS, st.floats(0.5, 3600))
def test_rates_are_differences(before: list[int], after: list[int], seconds: float) -> None:
    """A count that fell began anew with a restart."""
    facts = summary(Sample(1.0, _status(before)), Sample(1.0 + seconds, _status(after)))
    grown = [b - a if b >= a else b for a, b in zip(before, after, strict=True)]
    events, store = facts["events"]["one"], facts["sinks"]["store"]
    found = [events["received"], events["rejected"]["malformed"], store["delivered"]]
    assert found == pytest.approx([each / seconds for each in grown[:3]], rel=1e-6, abs=0.06)
    assert store["waiting"] == {"records": after[3]}
