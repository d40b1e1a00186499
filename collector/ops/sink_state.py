"""The state of each sink: how far it is behind, when that matters, and what happened to its
records.

``sink_states`` computes it. Readiness, ``status``, log, metrics, page and alerts use it. Sizes that
people see are whole MiB: a live byte count would show the size of one message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf, isfinite
from typing import Any, Literal

from collector.contracts import SUMS, Backlog, DeliveryState, SpoolState

_MIB = 1 << 20
_SAMPLE_SECONDS = 60.0
_SAMPLES = 60
_FEWEST_SECONDS = 600.0

Condition = Literal["ok", "late", "skipping", "absent", "blocking"]
"""``late``: the sink fails or does not answer. ``skipping``: its share is full, and it misses new
records. ``absent``: it is not in the configuration. ``blocking``: senders are refused because of
it.
"""


class Growth:
    """How fast the backlog grows, for the whole spool (an empty name) and for each sink, from its
    size at each of the last sixty minutes."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Mapping[str, int]]] = deque(maxlen=_SAMPLES + 1)

    def add(self, now: float, sizes: Mapping[str, int]) -> None:
        """Note sizes, once a minute."""
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_SECONDS:
            self._samples.append((now, sizes))

    def until_full(self, left: int, name: str = "") -> float | None:
        """Return in how many seconds ``left`` bytes are used up: infinity if nothing grows,
        ``None`` during the first ten minutes."""
        found = [(at, sizes[name]) for at, sizes in self._samples if name in sizes]
        if not found or found[-1][0] - found[0][0] < _FEWEST_SECONDS:
            return None
        (first, before), (last, now) = found[0], found[-1]
        return max(left, 0) * (last - first) / (now - before) if now > before else inf


@dataclass(frozen=True, slots=True)
class SinkState:
    """A sink's backlog and what happened to its other records, how its deliveries go, and in how
    many seconds its share is full at the rate of the last hour: 0 if it is full, infinity if it
    does not grow, ``None`` if that is not known yet. A sink that ``is_absent`` is not in the
    configuration."""

    condition: Condition
    backlog: Backlog
    delivery: DeliveryState
    until_full: float | None = None
    is_absent: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the state for ``status``. Outcomes are counted in records."""
        backlog, delivery, seconds = self.backlog, self.delivery, self.until_full
        is_seen = seconds is not None and isfinite(seconds)
        is_late = delivery.is_late
        return {
            "state": self.condition,
            "late": is_late,
            **({"cause": None, "answer": ""} | (delivery.reason() if is_late else {})),
            "failures": {cause: times for cause, times in delivery.causes.items() if times},
            "waiting": {
                "batches": backlog.batches,
                "records": backlog.records,
                "bytes": backlog.bytes,
                "oldest_seconds": round(backlog.oldest, 1),
                "lag_seconds": round(backlog.lag, 1),
            },
            "limit": backlog.limit,
            "share": round(backlog.share, 3),
            "full_in_seconds": round(seconds or 0.0) if is_seen else None,
            "set_aside": backlog.aside.records,
            **{name: getattr(backlog, name).records for name in SUMS},
        }


def sink_states(
    spool: SpoolState, deliveries: Mapping[str, DeliveryState], growth: Growth
) -> dict[str, SinkState]:
    """Return the state of each sink by name, followed by each absent sink for which batches wait.

    Among the sinks that hold up a full spool, a sink that is neither late nor absent is still
    catching up with a burst. It is not to blame while there are others.
    """
    late = {name for name, each in deliveries.items() if each.is_late}
    full = {name for name, each in spool.backlogs.items() if each.is_full}
    blocking = {*spool.blocking} & (late | full | {*spool.absent}) or {*spool.blocking}
    found = dict[str, SinkState]()
    for name, backlog in {**spool.backlogs, **spool.absent}.items():
        condition: Condition = "ok"
        if name in blocking:
            condition = "blocking"
        elif name in spool.absent:
            condition = "absent"
        elif backlog.is_skipping:
            condition = "skipping"
        elif name in late:
            condition = "late"
        until = growth.until_full(backlog.limit - backlog.bytes, name)
        if backlog.is_full or backlog.is_skipping:
            until = 0.0
        delivery = deliveries.get(name) or DeliveryState()
        found[name] = SinkState(condition, backlog, delivery, until, name in spool.absent)
    return found


def describe(state: Mapping[str, Any]) -> str:
    """Describe in words what ``SinkState.as_dict`` returned."""
    waiting, causes = state["waiting"], state["failures"]
    size, share = ceil(waiting["bytes"] / _MIB), ceil(100 * state["share"])
    last = f", the last after {waiting['lag_seconds']:,} s" if state["delivered"] else ""
    soon = "" if state["full_in_seconds"] is None else f", full in {state['full_in_seconds']:,} s"
    failures = ", ".join(f"{times:,} {cause}" for cause, times in sorted(causes.items()))
    rest = ("skipped", "set_aside", "expired", "erased", "damaged")
    others = "".join(f", {state[name]:,} {name.replace('_', ' ')}" for name in rest if state[name])
    return (
        f"{waiting['records']:,} records wait, at most {size:,} MiB, the oldest for"
        f" {waiting['oldest_seconds']:,} s, {share} % of its share{soon};"
        f" {state['delivered']:,} delivered{last}{others};"
        f" failures: {failures or 'none'}"
    )
