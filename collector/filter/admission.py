"""The result of a filter call, and its builder: records, and the tally of everything else.

The hot path only appends to lists; ``AdmissionBuilder.finish`` adds them up once, at the end. Most
calls are for one event, and most events have the same counts. The counts of such a call are a
verdict, which costs nothing to make; a tally is made from it on request. ``TallyAccumulator`` adds
up the verdicts of events that are filtered one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, cast

import msgspec

from collector.contracts import (
    CATEGORIES,
    DROPS,
    Category,
    Drop,
    Granted,
    Record,
    Rejection,
    Tally,
    TooManyBytes,
    TooManyEvents,
)
from collector.filter.members import named_members
from collector.filter.plan import Plan, SenderInfo, content_code

Verdict = tuple[Rejection | None, tuple[Category, ...], tuple[tuple[str, Drop], ...]]
"""The counts of one event: why it is rejected, if it is; the categories of its content; the dropped
fields, with the reasons."""

_MAX_VERDICTS = 1024
_PIECE = 1000
"""Records that are encoded at once, while other threads wait."""
_encode_lines = msgspec.json.Encoder().encode_lines


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most events that a call may read, and the most bytes of records it may make.

    A small body can become very large: an element of three bytes becomes a record with the values
    of the whole document around it. So elements are counted before they become records, and records
    are encoded piece by piece. ``elements`` holds one number: how many elements with lists of
    records were read so far. They count like events.
    """

    events: int
    bytes: int
    elements: list[int] = field(default_factory=lambda: [0])

    def check(self, events: int) -> None:
        """Raise ``InputError`` E416 if these are more events than allowed, with the elements."""
        if events + self.elements[0] > self.events:
            raise TooManyEvents

    def check_bytes(self, size: int) -> None:
        """Raise ``InputError`` E416 if these are more bytes of records than allowed."""
        if size > self.bytes:
            raise TooManyBytes


def encode_records(records: Sequence[Any], bounds: Bounds | None) -> bytes:
    """Encode records as NDJSON. Raises ``InputError`` E416 if they have more bytes than allowed."""
    if bounds is None:
        return _encode_lines(records)
    pieces, total = [], 0
    for at in range(0, len(records), _PIECE):
        pieces.append(_encode_lines(records[at : at + _PIECE]))
        total += len(pieces[-1])
        bounds.check_bytes(total)
    return b"".join(pieces)


class Admission(msgspec.Struct, eq=False, gc=False):
    """The outcome of one filter call: minimised records, and the tally of everything else."""

    _structs: list[Any]
    _encoded: bytes
    _tally: Tally | None
    verdict: Verdict | None = None
    """The counts, if the call was for a single event."""
    bytes_in: int = 0
    """The size of the event as text; 0 for a mapping."""
    granted: Granted = None
    """The purposes for which the records may be used."""

    def __repr__(self) -> str:
        return f"<Admission of {self.tally.admitted} out of {self.tally.received}>"

    @property
    def tally(self) -> Tally:
        """The counts of the call."""
        if self._tally is None:
            self._tally = Tally(bytes_in=self.bytes_in, bytes_out=len(self._encoded))
            if self.verdict is not None:
                add_verdict(self._tally, self.verdict, 1)
        return self._tally

    @property
    def records(self) -> list[Record]:
        """The records as dictionaries, in the order of the events; new at each call."""
        return cast("list[Record]", msgspec.to_builtins(self._structs))

    def encode(self) -> bytes:
        """Return the records as NDJSON, one line each, in the order of the events."""
        return self._encoded


class TallyAccumulator:
    """Count many admissions into one tally, ``total``.

    Counts are buffered; ``flush`` brings the total up to date. For one thread at a time.
    """

    __slots__ = ("_bytes_in", "_bytes_out", "_total", "_verdicts")

    def __init__(self, total: Tally) -> None:
        self._total = total
        self._verdicts: dict[Verdict, list[int]] = {}  # a list of one number costs one hash less
        self._bytes_in = self._bytes_out = 0

    def __repr__(self) -> str:
        return f"<TallyAccumulator of {len(self._verdicts)} verdicts>"

    def add(self, admission: Admission) -> None:
        """Count an admission."""
        verdict = admission.verdict
        if verdict is None:
            self._total += admission.tally
            return
        times = self._verdicts.get(verdict)
        if times is None:
            if len(self._verdicts) >= _MAX_VERDICTS:
                self.flush()
            times = self._verdicts[verdict] = [0]
        times[0] += 1
        self._bytes_in += admission.bytes_in
        self._bytes_out += len(admission.encode())

    def flush(self) -> None:
        """Bring the total up to date."""
        self.add_to(self._total)
        self._verdicts.clear()
        self._bytes_in = self._bytes_out = 0

    def add_to(self, tally: Tally) -> None:
        """Add the buffered counts to a copy of the total; changes nothing here."""
        for verdict, (times,) in self._verdicts.items():
            add_verdict(tally, verdict, times)
        tally.bytes_in += self._bytes_in
        tally.bytes_out += self._bytes_out


def add_verdict(tally: Tally, verdict: Verdict, times: int) -> None:
    """Count events with the same verdict."""
    rejected, content, drops = verdict
    tally.received += times
    if rejected is None:
        tally.admitted += times
    else:
        tally.rejected[rejected] += times
    for category in content:
        tally.content[category] += times
    for name, reason in drops:
        tally.dropped.setdefault(name, Counter())[reason] += times


def record_type(plan: Plan) -> type[msgspec.Struct]:
    """Return the type of records, which all plans of a schema share: a flat struct tagged
    ``schema``; absent fields are left out."""
    return _record_type(plan.schema_id, plan.names)


@lru_cache(maxsize=64)
def _record_type(schema_id: str, names: tuple[str, ...]) -> type[msgspec.Struct]:
    return named_members(
        "Record",
        dict.fromkeys(names, (Any, None)),
        ("count", Any, None),
        tag_field="schema",
        tag=schema_id,
        omit_defaults=True,
    )


@dataclass(slots=True, repr=False)
class AdmissionBuilder:
    """An admission under construction. The judge appends to its lists directly."""

    plan: Plan
    records: list[Any] = field(default_factory=list)
    notes: list[int] = field(default_factory=list)
    """The codes of dropped fields and of content."""
    rejected: list[Rejection] = field(default_factory=list)
    oversized: list[int] = field(default_factory=list)
    """The numbers of events in documents with too many events: ``too_large``."""
    sender: SenderInfo | None = None
    """Sender values of a request that holds a single event."""
    by_grant: bool = False
    """Whether the call makes one admission for each set of granted purposes."""
    bounds: Bounds | None = None
    """The bounds of the call, if any."""
    _builders: dict[Granted, AdmissionBuilder] = field(default_factory=dict)

    def for_plan(self, plan: Plan) -> AdmissionBuilder:
        """Return the builder of this call for events that another plan reads.

        It shares this builder's lists, unless the call is ``by_grant``.
        """
        builders = self._builders
        if not builders:
            builders[self.plan.granted] = self
        builder = builders.get(plan.granted)
        if builder is None:
            builder = builders[plan.granted] = replace(self, plan=plan)
            if self.by_grant:
                builder.records, builder.notes = [], []
                builder.rejected, builder.oversized = [], []
        return builder

    @property
    def builders(self) -> list[AdmissionBuilder]:
        """The builders of this call that count separately."""
        return list(self._builders.values()) if self.by_grant and self._builders else [self]

    @property
    def received(self) -> int:
        """The number of events of the call so far."""
        return sum(builder.event_count for builder in self.builders)

    @property
    def event_count(self) -> int:
        """The number of events counted in this builder so far."""
        return len(self.records) + len(self.rejected) + sum(self.oversized)

    def expect(self, number: int) -> None:
        """Announce this many events. Raises ``InputError`` E416 if there are too many."""
        if self.bounds is not None:
            self.bounds.check(self.received + number)

    def expect_elements(self, number: int) -> None:
        """Announce this many elements that may hold lists of records. Raises ``InputError`` E416 if
        there are too many."""
        if self.bounds is not None:
            self.bounds.elements[0] += number
            self.bounds.check(self.received)

    def add_oversized(self, number: int) -> None:
        """Count the events of a document that holds too many of them."""
        self.oversized[:] = [sum(self.oversized) + number]

    def finish_all(self, bytes_in: int, merge: bool) -> list[Admission]:
        """Finish every builder of the call that counted an event or content around events; if there
        is none, this one.

        The bytes are counted with the first admission.
        """
        builders = [each for each in self.builders if each.event_count or each.notes] or [self]
        first, *others = builders
        return [first.finish(bytes_in, merge), *(other.finish(0, merge) for other in others)]

    def finish(self, bytes_in: int, merge: bool) -> Admission:
        """Encode the records, and add up the counts; those of a single event stay a verdict."""
        received, admitted = self.event_count, len(self.records)
        if merge:
            self._merge()
        encoded = encode_records(self.records, self.bounds)
        if received == 1:
            rejected = None if self.records else self.rejected[0] if self.rejected else "too_large"
            counts = verdict(self.plan, rejected, self.notes)
            return Admission(self.records, encoded, None, counts, bytes_in, self.plan.granted)
        tally = Tally(received, admitted, bytes_in=bytes_in, bytes_out=len(encoded))
        self.count(tally)
        return Admission(self.records, encoded, tally, granted=self.plan.granted)

    def count(self, tally: Tally) -> None:
        """Add rejections, drops and content; skip empty lists, because ``Counter`` is slow."""
        if self.rejected:
            tally.rejected.update(self.rejected)
        if self.oversized:
            tally.rejected["too_large"] += sum(self.oversized)
        if not self.notes:
            return
        counts = Counter(self.notes)
        for category, name in enumerate(CATEGORIES):
            if times := counts.pop(content_code(self.plan, category), 0):
                tally.content[name] = times
        for code, times in counts.items():
            column, reason = divmod(code, len(DROPS))
            dropped = tally.dropped.setdefault(self.plan.columns[column].name, Counter())
            dropped[DROPS[reason]] = times

    def _merge(self) -> None:
        """Merge identical records into one with their ``count``, at the place of the first."""
        self.records = [
            record if times == 1 else msgspec.structs.replace(record, count=times)
            for record, times in Counter(self.records).items()
        ]


class SingleAdmissions:
    """Makes the admissions of calls for a single event with the ``judge`` of a plan.

    Most events have the same counts, so verdicts are cached by the codes that the judge noted.
    """

    __slots__ = ("_admitted", "_granted", "_judge", "_plan")

    def __init__(self, plan: Plan, judge: Callable[..., None]) -> None:
        self._plan = plan
        self._granted = plan.granted
        self._judge = judge
        self._admitted: dict[tuple[int, ...], Verdict] = {}

    def __repr__(self) -> str:
        return f"<SingleAdmissions of {self._plan.schema_id}>"

    def of(self, event: Any, bytes_in: int) -> Admission:
        """Return the admission of a call for one decoded event."""
        records: list[Any] = []
        notes: list[int] = []
        rejected: list[Rejection] = []
        self._judge((event,), records, notes, rejected)
        if not records:
            counts = verdict(self._plan, rejected[0], notes)
            return Admission(records, b"", None, counts, bytes_in, self._granted)
        noted = tuple(notes)
        try:
            counts = self._admitted[noted]
        except KeyError:
            if len(self._admitted) >= _MAX_VERDICTS:
                self._admitted.clear()
            counts = self._admitted[noted] = verdict(self._plan, None, notes)
        return Admission(records, _encode_lines(records), None, counts, bytes_in, self._granted)


def verdict(plan: Plan, rejected: Rejection | None, notes: Iterable[int]) -> Verdict:
    """Return the counts of one event from the codes that the judge noted."""
    first, content, drops = len(plan.columns) * len(DROPS), [], []
    for code in notes:
        if code >= first:
            content.append(CATEGORIES[code - first])
        else:
            drops.append((plan.columns[code // len(DROPS)].name, DROPS[code % len(DROPS)]))
    return rejected, tuple(content), tuple(drops)
