"""Explain which record an event becomes: per field the value found, its path, and the outcome.

It shows names of the schema, admitted canonical values, content categories, and the number of
unlisted members. It never shows unlisted names or refused values.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Any

import msgspec

from collector.contracts import Category, Drop, Granted, Record, Rejection, Scalar
from collector.filter.admission import AdmissionBuilder, verdict
from collector.filter.frames import clearing
from collector.filter.judge import AGENT_OUTSIDE, FROM_AGENT, OUTSIDE, Context
from collector.filter.members import FAILURES
from collector.filter.plan import Column, Keys, SenderInfo
from collector.filter.reader import Reader
from collector.filter.records import TEXTS, Form
from collector.filter.router import EventRouter
from collector.filter.sample_counts import JsonType
from collector.filter.text import BOM, is_list, readable_lines

MOST_EVENTS = 10_000
"""The most events of a sample that are examined."""
_SEGMENT = re.compile(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*")
_DEEPEST = 6
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_Decoded = tuple[Mapping[Any, Any], Mapping[str, set[Any]]]
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


_TYPES: Mapping[str, JsonType] = {
    '"': "string",
    "{": "object",
    "[": "array",
    "t": "boolean",
    "f": "boolean",
}
"""The types of values by their first character, except for numbers."""


@dataclass(frozen=True, slots=True)
class FieldOutcome:
    """The outcome of one field. ``source`` is the path of its value, as the schema writes it, and
    ``json_type`` the type that the value has there."""

    outcome: Drop | str
    source: str | None = None
    value: Scalar | None = None
    json_type: JsonType | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """One event: ``admitted`` or the reason of its rejection, and the outcome of each field.

    ``content`` and ``unlisted`` are ``None`` if the event was not examined, because it is
    unreadable or not selected.
    """

    verdict: Rejection | str
    record: Record | None = None
    fields: dict[str, FieldOutcome] = field(default_factory=dict)
    content: tuple[Category, ...] | None = None
    unlisted: int | None = None
    paths: dict[str, str | None] = field(default_factory=dict)
    """For each listed path a description of what is near it, or an empty text; ``None`` if its
    field has a value."""


def unmatched(explanations: Iterable[Explanation]) -> dict[str, str]:
    """Return the paths of fields without a value in any event, with what was near."""
    found: dict[str, str | None] = {}
    for explanation in explanations:
        for path, near in explanation.paths.items():
            known = found.get(path, "")
            found[path] = None if known is None or near is None else known or near
    return {path: near for path, near in found.items() if near is not None}


class _EnoughError(Exception):
    """The requested number of events is explained."""


class _ExplainingRouter(EventRouter):
    """Appends an explanation for each event that it reads, until there are ``most``."""

    def __init__(self, router: EventRouter, explanations: list[Explanation], most: int) -> None:
        super().__init__(router.plan, router.consent, self._explaining, router.readers)
        self._router = router
        self._most = most
        self._listed = frozenset([*router.plan.paths, *router.plan.choices])
        self._content = frozenset(name for name, _ in router.plan.content)
        self._above: dict[Keys, set[type]] = {}
        for path in self._listed:
            for depth, key in enumerate(path):
                self._above.setdefault(path[:depth], set()).add(type(key))
        self.explanations = explanations

    def _explaining(self, _granted: Granted, refused: frozenset[str]) -> EventRouter:
        """Also explain events that another router reads because of their choices."""
        return _ExplainingRouter(self._router.without(refused), self.explanations, self._most)

    def _add_slices(self, text: bytes, builder: AdmissionBuilder) -> None:
        """Add lines one by one."""
        lines = readable_lines(text, builder.rejected.append)
        self.add_events(lines, TEXTS, builder, None, self.plan.selection)

    def _add_typed_document(self, _payload: Any, _builder: AdmissionBuilder, _limit: int) -> bool:
        """Leave the records of documents to ``add_events``."""
        return False

    def add_events(
        self,
        payloads: Iterable[Any],
        form: Form,
        builder: AdmissionBuilder,
        around: Context | None,
        selection: int | None,
    ) -> None:
        """Add events as the router does, with a listener to the judge of each."""
        for payload in payloads:
            if len(self.explanations) >= self._most:
                raise _EnoughError
            before = len(builder.rejected)
            found = self.read(payload, form, builder)
            if found is not None:
                within = self.outermost(builder) if around is None else around
                explained = self._explain(found, builder, within, selection, payload)
                self.explanations.append(explained)
            elif len(builder.rejected) > before:
                self.explanations.append(Explanation(builder.rejected[-1]))

    def _explain(
        self,
        found: tuple[Reader, Any],
        builder: AdmissionBuilder,
        around: Context,
        selection: int | None,
        payload: Any,
    ) -> Explanation:
        reader, event = found
        outcomes: list[tuple[int, Scalar | None, Drop | None]] = []
        noted, rejected_before = len(builder.notes), len(builder.rejected)
        reader.judge("told", selection)(
            (event,),
            *(builder.records, builder.notes, builder.rejected),
            around,
            lambda told: outcomes.extend(zip(*told, strict=True)),
        )
        rejected = builder.rejected[rejected_before:]
        selected = None if selection is None else self.plan.selections[selection].written
        if selected is not None and rejected == ["not_selected"]:
            return Explanation("not_selected", paths={selected: _NOT_SELECTED})
        is_found = [value is not None or why is not None for _, value, why in outcomes]
        near_by = _Near(payload)
        paths = dict(self._paths(near_by, is_found))
        if selected is not None:
            paths[selected] = None
        root = type(next(iter(reader.shape.members), ""))
        each = zip(self.plan.columns, outcomes, strict=True)
        return Explanation(
            next(iter(rejected), "admitted"),
            None if rejected else msgspec.to_builtins(builder.records[-1]),
            {column.name: _outcome(column, root, near_by, outcome) for column, outcome in each},
            verdict(self.plan, None, builder.notes[noted:])[1],
            self._unlisted(payload),
            paths,
        )

    def _paths(self, near_by: _Near, is_found: Sequence[bool]) -> Iterator[tuple[str, str | None]]:
        """Yield each listed path with what is near it; with ``None`` if its field has a value."""
        for column in self.plan.columns:
            if is_found[column.index]:
                yield from ((written, None) for written in column.written)
                continue
            nearest: dict[str, str] = {}
            for path, written in zip(column.paths, column.written, strict=True):
                near = near_by.to(path)
                if near is None:
                    near = f"`{written}` is there, without what `when` asks for beside it"
                nearest[written] = nearest.get(written) or near
            yield from nearest.items()

    def _unlisted(self, payload: Any) -> int:
        """Count the members that are neither a field, nor above one, nor content."""
        found = 0
        queue: list[tuple[Keys, Any]] = [((), payload)]
        for prefix, raw in queue:
            try:
                is_read = is_list(raw) and int in self._above[prefix]
                members = enumerate(_elements(raw)) if is_read else _members(raw).items()
            except FAILURES:
                continue
            for key, member in members:
                path = (*prefix, key)
                if path in self._above:
                    queue.append((path, member))
                elif path not in self._listed and not (not prefix and key in self._content):
                    found += 1
        return found


class _Near:
    """Describes what an event has at or near a path; decodes each object and list once."""

    def __init__(self, payload: Any) -> None:
        self._payload = payload
        self._decoded: dict[tuple[Keys, type], _Decoded | None] = {}

    def to(self, path: Keys) -> str | None:
        """Describe it with names of the schema; ``None`` if the path leads to a value."""
        raw = self._payload
        for depth, key in enumerate(path):
            above = _written(path[:depth]) if depth else ""
            decoded = self._members(path[:depth], raw, type(key))
            if decoded is None:
                kind = "list" if isinstance(key, int) else "object"
                return f"`{above}` is there, and is no {kind}" if above else ""
            members, spellings = decoded
            found = members.get(key)
            if found is None or bytes(found) == b"null":
                alike = {name for plain in _spelled(path[depth:]) for name in spellings[plain]}
                if alike - {key}:
                    where = f" in `{above}`" if above else ""
                    return f"`{_written(path[depth:])}` is there in another spelling{where}"
                return f"`{above}` is there, without `{_written((key,))}`" if above else ""
            raw = found
        return None

    def json_type(self, path: Keys) -> JsonType | None:
        """Return the type of the value at a path; ``None`` if there is none."""
        raw = self._payload
        for depth, key in enumerate(path):
            decoded = self._members(path[:depth], raw, type(key))
            if decoded is None or (raw := decoded[0].get(key)) is None:
                return None
        return _TYPES.get(chr(bytes(raw).lstrip()[0]), "number")

    def _members(self, path: Keys, raw: Any, of: type) -> _Decoded | None:
        """Return the members or elements at a path, and their names in normalised spelling;
        ``None`` if the value there is not of that type."""
        if (path, of) not in self._decoded:
            decoded: _Decoded | None = None
            with suppress(*FAILURES):
                is_list = of is int
                members: dict[Any, Any] = (
                    dict(enumerate(_elements(raw))) if is_list else _members(raw)
                )
                decoded = members, defaultdict(set)
                for name in members:
                    decoded[1][_plain(name)].add(name)
            self._decoded[path, of] = decoded
        return self._decoded[path, of]


@cache
def _spelled(path: Keys) -> tuple[str, str]:
    """Return the normalised spellings of a path's first name and of the whole path."""
    return _plain(path[0]), _plain("".join(map(str, path)))


def known_places(
    text: bytes, lines: bool, places: Collection[str], around: Collection[str]
) -> dict[str, set[str]]:
    """Return the paths at which events have members of known names, each with these names.

    ``places`` are dotted names, of at most three parts, that a path may end in; the names before
    must be in ``around``. Case, dots, hyphens and underscores are ignored. No path with any other
    name is returned.
    """
    names: dict[str, set[str]] = {}
    for place in places:
        names.setdefault(_plain(place), set()).add(place)
    above = {_plain(part) for place in places for part in place.split(".")[:-1]} | {*around}
    found: dict[str, set[str]] = {}
    events = text.split(b"\n")[:MOST_EVENTS] if lines else [text]
    queue: list[tuple[tuple[str, ...], Any]] = [((), event) for event in events]
    for prefix, raw in queue:
        members: dict[str, Any] = {}
        with suppress(*FAILURES):
            if not lines and raw is text and is_list(raw):
                queue += [((), element) for element in _elements(raw)[:MOST_EVENTS]]
            else:
                members = _members(raw)
        for name in filter(_SEGMENT.fullmatch, members):
            path = (*prefix, name)
            for at in range(max(0, len(path) - 3), len(path)):
                known = names.get(_plain("".join(path[at:])))
                if known and all(_plain(each) in around for each in path[:at]):
                    found.setdefault(".".join(path), set()).update(known)
            if _plain(name) in above and len(path) < _DEEPEST:
                queue.append((path, members[name]))
    return found


def _plain(name: object) -> str:
    """Return a name in normalised spelling."""
    return "".join(filter(str.isalnum, str(name))).lower()


def _written(path: Keys) -> str:
    parts = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return "".join(parts).removeprefix(".")


_NOT_SELECTED = "a record is there, without what `when` asks for"
_UNREADABLE: frozenset[Rejection] = frozenset(
    ["malformed", "not_an_object", "too_large", "too_deep"]
)


def _outcome(
    column: Column,
    root: type,
    near_by: _Near,
    outcome: tuple[int, Scalar | None, Drop | None],
) -> FieldOutcome:
    """Return the outcome of a field from the judge's report."""
    where, value, why = outcome
    if value is None and why is None:
        return FieldOutcome("absent")
    pairs = zip(column.paths, column.written, strict=True)
    if where < 0:
        return FieldOutcome(why or "kept", ELSEWHERE[where], value)
    path, source = [each for each in pairs if type(each[0][0]) is root][where]
    return FieldOutcome(why or "kept", source, value, near_by.json_type(path))


ELSEWHERE: Mapping[int, str] = {
    FROM_AGENT: "(the user agent)",
    AGENT_OUTSIDE: "(the user agent)",
    OUTSIDE: "(outside the list of records)",
}
"""Sources of a field's value other than its paths."""


@clearing
def explain(
    router: EventRouter,
    text: bytes,
    lines: bool,
    most: int = sys.maxsize,
    sender: SenderInfo | None = None,
) -> Iterator[Explanation]:
    """Explain the first ``most`` events of a document or of NDJSON lines. ``sender`` is for a
    single event."""
    explanations: list[Explanation] = []
    explaining = _ExplainingRouter(router, explanations, most)
    builder = explaining.builder(sender)
    with suppress(_EnoughError):
        if lines:
            explaining.add_lines(text.removeprefix(BOM), builder)
        else:
            explaining.add_document(text, builder)
    unreadable = Counter[Rejection | str](
        reason for reason in builder.rejected if reason in _UNREADABLE
    )
    others = unreadable - Counter(each.verdict for each in explanations)
    explanations += map(Explanation, islice(others.elements(), most - len(explanations)))
    if builder.oversized and len(explanations) < most:
        explanations.append(Explanation("too_large"))
    return iter(explanations)
