"""Why an event becomes the record it becomes: per field what was found, where, and what came of it.

Shown are names of the schema, canonical values that are admitted anyway, content categories, and a
count of the unlisted members. Unlisted names and refused values are never shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from collector.contracts import CATEGORIES, Category, Drop, Granted, Record, Rejection, Scalar
from collector.filter.compile import Column, Keys, Plan
from collector.filter.draft import Draft
from collector.filter.events import Events, Slow
from collector.filter.generate import Outer
from collector.filter.tolerant import is_list

__all__ = ["Explanation", "Finding", "explain"]

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one field. ``source`` is the path that decided, as the schema writes it."""

    outcome: Drop | str
    source: str | None = None
    value: Scalar | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """One event: ``admitted`` or the reason of its rejection, and what was found in it."""

    verdict: Rejection | str
    record: Record | None = None
    fields: dict[str, Finding] = field(default_factory=dict)
    content: tuple[Category, ...] = ()
    unlisted: int = 0


class _Explainer(Slow):
    """Writes down what it finds in an event."""

    def __init__(self, events: Events, written: list[Explanation]) -> None:
        super().__init__(events.plan, events.choices, self._other)
        self._events = events
        self.written = written

    def _other(self, _most: Granted, refused: frozenset[str]) -> Events:
        """Whoever takes an event by its choices explains it too."""
        return _Explainer(self._events.left(refused), self.written)

    def _tolerantly(
        self, draft: Draft, outer: Outer | None, blank_counts: bool, payload: Any
    ) -> None:
        before = len(draft.records), len(draft.rejected)
        super()._tolerantly(draft, outer, blank_counts, payload)
        if len(draft.rejected) > before[1] and draft.rejected[-1] in _NO_EVENT:
            self.written.append(Explanation(draft.rejected[-1]))
        elif (len(draft.records), len(draft.rejected)) != before:
            self.written.append(self._explained(draft, outer, payload, before[0]))

    def _explained(
        self, draft: Draft, outer: Outer | None, payload: Any, records: int
    ) -> Explanation:
        form = self._tolerant.form(payload)
        event = form.decode(payload)
        own = form.read(event)
        values, content, agent = own[:3] if outer is None else outer.around(own)
        derived = self.plan.derive(values, agent)
        found = {
            column.name: _finding(
                column,
                derived[column.index],
                _source(form.source(event, column), values[column.index]),
            )
            for column in self.plan.columns
        }
        admitted = len(draft.records) > records
        return Explanation(
            "admitted" if admitted else draft.rejected[-1],
            msgspec.to_builtins(draft.records[-1]) if admitted else None,
            found,
            tuple(CATEGORIES[index] for index in sorted(content)),
            sum(1 for _ in _unlisted(self.plan, payload)),
        )


def _source(path: Keys | None, value: Any) -> str:
    """Where a value comes from, as the schema writes it."""
    if path is None:
        return "(the user agent)" if value is None else "(outside the list of records)"
    first, *others = path
    return ".".join(map(str, [f"[{first}]" if isinstance(first, int) else first, *others]))


_NO_EVENT: frozenset[Rejection] = frozenset(["malformed", "not_an_object", "too_large", "too_deep"])


def _finding(column: Column, value: Any, source: str) -> Finding:
    if value is None:
        return Finding("absent")
    result, reason = column.judge(value)
    return Finding(reason or "kept", source, result)


def _unlisted(plan: Plan, payload: Any) -> Iterator[int]:
    """One item for each member that is neither a field, nor on the way to one, nor content."""
    paths = {*plan.paths, *plan.choices}
    content = {name for name, _ in plan.content}
    queue: list[tuple[Keys, Any]] = [((), payload)]
    for prefix, raw in queue:
        try:
            is_event = not prefix and is_list(raw)
            members = enumerate(_elements(raw)) if is_event else _members(raw).items()
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        for key, member in members:
            path = (*prefix, key)
            if any(known[: len(path)] == path and known != path for known in paths):
                queue.append((path, member))
            elif path not in paths and not (not prefix and key in content):
                yield 1


def explain(paths: Events, text: bytes, lines: bool) -> Iterator[Explanation]:
    """An explanation for each event of a document, or of NDJSON lines."""
    events = _Explainer(paths, [])
    draft = events.draft()
    (events.lines if lines else events.document)(text, draft)
    yield from events.written
    told = sum(1 for one in events.written if one.verdict in _NO_EVENT)
    untold = [reason for reason in draft.rejected if reason in _NO_EVENT][told:]
    yield from (Explanation(reason) for reason in untold)
    if draft.unread:
        yield Explanation("too_large")
