"""Count why events are rejected and fields dropped, over a bounded sample of the events received.

Counts are of closed vocabularies: reasons of rejections, and for each field of a schema an outcome
and the JSON type of its value. Nothing else of an event is kept. At most ``MOST_IN_SECOND`` events
are examined in a second, and at most ``_SECONDS`` of processor time is spent on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from threading import Lock
from time import monotonic, thread_time
from typing import Any

import msgspec

from collector.contracts import SIGNALS, Request
from collector.filter.explain import Explanation, explain
from collector.filter.plan import SenderInfo
from collector.filter.run import Filter
from collector.filter.sample_counts import MOST_IN_SECOND, MOST_SEEN, JsonType, Seen
from collector.filter.text import is_list

_MOST_EXPLAINED = 50
"""Events of one request that are explained, which takes about half a millisecond each."""
_MOST_FIELDS = 3_000
"""Fields that are explained in the events of one request: ten microseconds each."""
_SECONDS = 0.05
_MOST_BYTES, _MOST_COUNTED = 1 << 15, 1 << 19
"""Larger documents are not examined, and larger bodies of telemetry or records are not counted. Of
longer NDJSON, only the first lines are examined."""
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class LiveSample:
    """Examines requests on arrival until ``end``. Safe to use from several threads: while one
    examines a request, those of the others are skipped."""

    def __init__(
        self,
        clock: Callable[[], float] = monotonic,
        spent: Callable[[], float] = thread_time,
    ) -> None:
        self.seen: dict[str, Seen] = {}
        """Counts by the digest of the schema's layout."""
        self._clock, self._spent = clock, spent
        self._lock, self._has_ended = Lock(), False
        self._second, self._left, self._seconds_left = -1, 0, 0.0
        self._left_in_all = MOST_SEEN

    def __repr__(self) -> str:
        return f"<LiveSample of {len(self.seen)} schemas>"

    def look(self, request: Request, filter_: Filter) -> None:
        """Count the outcomes of some events of a request. Never raises for a request."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._has_ended:
                return
            second = int(self._clock())
            if second != self._second:
                self._second, self._seconds_left = second, _SECONDS
                self._left = min(MOST_IN_SECOND, self._left_in_all)
            if self._left and self._seconds_left > 0:
                begun = self._spent()
                seen = self.seen.setdefault(filter_.schema.layout.digest, Seen())
                before = seen.events
                with suppress(Exception):  # the filter reports the same error next
                    self._count(request, filter_, seen)
                self._left -= seen.events - before
                self._left_in_all -= seen.events - before
                self._seconds_left -= self._spent() - begun
        finally:
            self._lock.release()

    def end(self) -> dict[str, Seen]:
        """Return the counts; examine no more requests."""
        with self._lock:
            self._has_ended = True
            return self.seen

    def _count(self, request: Request, filter_: Filter, seen: Seen) -> None:
        text, is_lines = request.body, request.form in ("ndjson", "records")
        most = _MOST_BYTES if request.form in ("json", "ndjson") else _MOST_COUNTED
        if len(text) > most:
            text = text[: text.rfind(b"\n", 0, most) + 1] if is_lines else b""
        if not text:
            return
        names = filter_.schema.fields
        if request.form in SIGNALS:
            made = filter_.admit_otlp(
                request.form,
                text,
                protobuf=request.protobuf,
                peer=request.peer,
                user_agent=request.user_agent,
            )
            if made.tally.received <= self._left:
                seen.add_tally(made.tally, _kept(made.encode()), names)
        elif request.form == "records":
            left = self._left
            for batch in filter_.admit_records(text):
                if batch.tally.received <= left:
                    left -= batch.tally.received
                    seen.add_tally(batch.tally, _kept(batch.payload), names)
        else:
            is_single = not (is_lines or is_list(text) or filter_.schema.records)
            sender = SenderInfo(request.peer, request.user_agent) if is_single else None
            router = filter_.router
            by_fields = 1 + _MOST_FIELDS // len(router.plan.columns)
            most = min(self._left, _MOST_EXPLAINED, by_fields)
            written = {column.name: column.written for column in router.plan.columns}
            for each in explain(router, text, is_lines, most, sender):
                seen.add(each.verdict, dict(_outcomes(written, each)))


def _outcomes(
    written: Mapping[str, Iterable[str]], found: Explanation
) -> Iterator[tuple[str, tuple[str, JsonType | None]]]:
    """Yield the outcome and the type of each field, with the paths that are ``written``."""
    for name, each in found.fields.items():
        is_near = each.outcome == "absent" and any(map(found.paths.get, written[name]))
        yield name, ("near" if is_near else each.outcome, each.json_type)


def _kept(lines: bytes) -> Counter[str]:
    """Count in how many records each field is."""
    kept: Counter[str] = Counter()
    for line in lines.splitlines():
        members: dict[str, Any] = _members(line)
        times = int(bytes(members.get("count", b"1")))
        for name in members:
            kept[name] += times
    return kept
