"""What a sidecar does per second: the difference between two of its answers to ``status``.

Sizes are whole MiB, because live byte counts would show the size of one message.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, NamedTuple

_MIB = 1 << 20
_SHOWN = ("state", "share", "skipped", "set_aside", "late", "cause", "answer")
"""The members of a sink that are shown unchanged."""


class Sample(NamedTuple):
    """The status, and its time in seconds by a monotonic clock."""

    at: float
    status: Mapping[str, Any]


def summary(before: Sample | None, sample: Sample) -> dict[str, Any]:
    """Return the summary: counts per second between two samples, or counts since the start without
    an earlier sample."""
    now = sample.status
    seconds = 1.0 if before is None else max(sample.at - before.at, 1e-3)

    def rates(part: str, name: str) -> dict[str, Any]:
        earlier = {} if before is None else before.status[part].get(name, {})
        return _rates(earlier, now[part][name], seconds)

    sinks = {}
    for name, each in now["sinks"].items():
        changed = rates("sinks", name)
        waiting = {key: count for key, count in each["waiting"].items() if key != "bytes"}
        sinks[name] = {key: changed[key] for key in ("delivered", "failures")} | {
            "waiting": waiting,
            **{key: each[key] for key in _SHOWN},
        }
    spool = now["spool"]
    return {
        "rates": before is not None,
        "ready": now["ready"],
        "checks": {name: state for name, state in now["checks"].items() if state != "ok"},
        "workers": now["workers"],
        "spool": {
            "batches": spool["batches"],
            "records": spool["records"],
            "mib": ceil(spool["bytes"] / _MIB),
            "limit_mib": spool["limit"] // _MIB,
        },
        "events": {schema: rates("events", schema) for schema in now["events"]},
        "sinks": sinks,
    }


def _rates(before: Mapping[str, Any], now: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return the growth per second of each nested count. A count that fell has restarted."""
    found: dict[str, Any] = {}
    for name, value in now.items():
        earlier = before.get(name)
        if isinstance(value, Mapping):
            found[name] = _rates(earlier or {}, value, seconds)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            grown = value - (earlier or 0)
            found[name] = round((grown if grown >= 0 else value) / seconds, 1)
    return found
