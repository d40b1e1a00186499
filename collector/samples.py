"""Compare a sample of events with schemas: which fields are found, in how many events, and where
values collapse. Also propose a schema for the sample.

Results consist of names that a schema lists, and of counts, never of anything else in an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, NamedTuple

from collector.contracts import Rejection, Tally
from collector.documents import Document, read, read_bytes
from collector.filter import Admission, Filter
from collector.filter.explain import (
    ELSEWHERE,
    MOST_EVENTS,
    Explanation,
    explain,
    known_places,
)
from collector.filter.judge import FROM_AGENT, OUTSIDE
from collector.filter.text import BOM
from collector.schema import Schema, load_schema, resources
from collector.schema.checks import TO_WRITE
from collector.schema.kinds.numeric import IntegerField, NumberField
from collector.schema.load import parse_source
from collector.schema.names.scope import scope
from collector.schema.policy import DERIVABLE
from collector.schema.starter import AROUND, PLACES, propose

_BASE = "conferencing"
_HEAD_BYTES = 1 << 20
_TRIED_EVENTS = 1_000
"""A proposal looks at this many events of a sample."""
_SHARE = 0.5
_FINER = 1_000
_UNREAD: tuple[Rejection, ...] = (
    *("malformed", "not_an_object", "too_large", "too_deep", "not_selected"),
)
_FROM_AGENT, _OUTSIDE = ELSEWHERE[FROM_AGENT], ELSEWHERE[OUTSIDE]
Keys = Callable[[str, int], bytes]
"""Returns the key of a reference in a period."""
_Fields = dict[str, tuple[dict[str, Any], list[Any]]]
"""Fields, each with the options of a shipped schema and the paths of its values."""


def _no_key(reference: str, period: int) -> bytes:
    """Stand in for the keys of pseudonyms: a sample needs none."""
    return bytes(32)


class Sample:
    """Events of a file: lines of JSON, or one document.

    If more than half of the lines are malformed, and the whole text is a document, it is read as
    one.
    """

    def __init__(self, data: bytes, *, lines: bool) -> None:
        self.data: bytes = data.removeprefix(BOM)
        self.is_lines: bool = lines and not self._is_document()

    def _is_document(self) -> bool:
        if not self.data.lstrip().startswith((b"{", b"[")):
            return False
        base = Filter(load_schema(_BASE))
        head = base.admit_lines(self.data[:_HEAD_BYTES]).tally
        if 2 * head.rejected["malformed"] <= head.received:
            return False
        return not base.admit(self.data).tally.rejected["malformed"]

    def beginning(self) -> Sample:
        """Return the sample without the lines after the first megabyte; a document stays whole."""
        if not self.is_lines or len(self.data) <= _HEAD_BYTES:
            return self
        return Sample(self.data[: self.data.rfind(b"\n", 0, _HEAD_BYTES) + 1], lines=True)

    def admit(self, filter_: Filter) -> Admission:
        """Filter all events."""
        return filter_.admit_lines(self.data) if self.is_lines else filter_.admit(self.data)

    def explained(
        self, schema: Schema, most: int = MOST_EVENTS, keys: Keys = _no_key
    ) -> list[Explanation]:
        """Explain the first ``most`` events. An unreadable event has no ``paths``."""
        return list(explain(Filter(schema, keys=keys).router, self.data, self.is_lines, most))

    def known(self, places: Collection[str], around: Collection[str]) -> dict[str, set[str]]:
        """Return the paths with known names: see ``known_places``."""
        return known_places(self.data, self.is_lines, places, around)


class Collapse(NamedTuple):
    """A number whose values mostly become equal: a ``share`` of the values of ``field`` are
    ``value``, although a smaller step would keep them apart."""

    field: str
    share: float
    value: float


@dataclass(frozen=True)
class Reach:
    """The result of a schema for a sample: the counts, in how many records each field is, and the
    numbers that collapse."""

    tally: Tally
    kept: Mapping[str, int]
    collapses: tuple[Collapse, ...]

    def share(self, name: str) -> float:
        """Return the share of the readable, selected events that have a field."""
        return self.kept[name] / max(self.events, 1)

    @property
    def events(self) -> int:
        """The number of events that could be read and are selected."""
        return self.tally.received - sum(self.tally.rejected[reason] for reason in _UNREAD)


def reach(schema: Schema, sample: Sample, keys: Keys = _no_key) -> Reach:
    """Filter a sample, and count in how many records each field is. Raises ``ConfigError`` E202 if
    ``keys`` has no key for a pseudonym."""
    admission = sample.admit(Filter(schema, keys=keys))
    records = admission.records
    kept = {name: sum(1 for each in records if name in each) for name in schema.fields}
    return Reach(admission.tally, kept, tuple(_collapses(schema, sample, records)))


def _collapses(
    schema: Schema, sample: Sample, records: Iterable[Mapping[str, Any]]
) -> Iterator[Collapse]:
    """Yield the numbers of which at least half become one value, but would not with a step a
    thousand times smaller."""
    suspects: dict[str, tuple[Any, float]] = {}
    for name, each in schema.fields.items():
        if isinstance(each, IntegerField | NumberField):
            values = Counter(record[name] for record in records if name in record)
            if values and (most := values.most_common(1)[0])[1] >= _SHARE * values.total():
                suspects[name] = most[0], most[1] / values.total()
    if not suspects:
        return
    finer = {
        name: _finer(each) if name in suspects else each for name, each in schema.fields.items()
    }
    fine = sample.admit(Filter(schema.model_copy(update={"fields": finer}), keys=_no_key)).records
    for name, (value, share) in suspects.items():
        values = Counter(record[name] for record in fine if name in record)
        if values.most_common(1)[0][1] < _SHARE * share * values.total():
            yield Collapse(name, share, value)


def _finer(one: Any) -> Any:
    """Return a number's field with a smaller step."""
    is_whole = isinstance(one, IntegerField)
    step = max(one.step // _FINER, 1) if is_whole else float(f"{one.step / _FINER:.15g}")
    return one.model_copy(update={"step": step})


# -- which schema fits -----------------------------------------------------------------------------


class Fit(NamedTuple):
    """How a shipped schema or template fits a sample: ``kept`` of its ``fields`` are found, in
    ``share`` of the events; with ``is_map``, only if the schema says that its events are in a
    map."""

    name: str
    kept: int
    fields: int
    share: float
    is_map: bool

    def __str__(self) -> str:
        found = f"`{self.name}` finds {self.kept} of its {self.fields} fields"
        return f'{found} with `records: "*"`' if self.is_map else found


def fitting(sample: Sample) -> list[Fit]:
    """Return the shipped schemas and templates that find at least two fields in the beginning of a
    sample, the best one first."""
    sample = sample.beginning()
    fits = []
    for name, schema, document in _candidates():
        found = sample.admit(Filter(schema, keys=_no_key))
        kept = len({key for each in found.records for key in each} & schema.fields.keys())
        if kept > 1:
            share = found.tally.admitted / found.tally.received
            is_map = document.get("records") == "*"
            fits.append(Fit(name, kept, len(schema.fields), share, is_map))
    return sorted(fits, key=lambda fit: (-fit.kept, -fit.share, fit.is_map, fit.fields))


@cache
def _candidates() -> tuple[tuple[str, Schema, dict[str, Any]], ...]:
    """Return the shipped schemas and templates, by name, with their documents; those whose records
    are the members of an object also as schemas of a map."""
    found = []
    for name in [
        *sorted(resources.names(), key=lambda name: name != _BASE),
        *resources.templates(),
    ]:
        document = _document(name)
        schema = load_schema(resources.templates().get(name) or name)
        found.append((name, schema, document))
        if any(way.endswith(".*") for way in schema.ways):
            bare = document | {"records": "*", "tests": []}
            as_map, _ = parse_source(Document(name, value=bare))
            found += [] if as_map is None else [(name, as_map, bare)]
    return tuple(found)


def _document(name: str) -> dict[str, Any]:
    path = resources.templates().get(name) or resources.shipped() / f"{name}.yaml"
    return dict(read(path).value)


# -- a proposal ------------------------------------------------------------------------------------


@dataclass
class Proposal:
    """A schema of the fields of shipped schemas and templates that a sample has."""

    name: str
    sample: Sample
    fields: _Fields = field(default_factory=dict)
    records: Any = None
    user_agent: tuple[str, ...] = ()

    @cached_property
    def text(self) -> str:
        """The document. It does not load until its author has filled in the placeholders."""
        parts = (self.name, self.fields, self.records, self.user_agent)
        schema = _loaded(propose(*parts))
        return propose(*parts, outside=() if schema is None else scope(schema).without_sentence)

    def others(self) -> tuple[int, int]:
        """Return the number of examined events, and of their members that no field reads."""
        schema = _loaded(self.text)
        found = [] if schema is None else self.sample.explained(schema, _TRIED_EVENTS)
        return sum(1 for each in found if each.paths), sum(each.unlisted or 0 for each in found)


def proposed(name: str, sample: Sample) -> Proposal:
    """Propose a schema for a sample. It has no fields if nothing in the sample is known.

    A schema with lists of records is proposed alone, if it finds more fields than all others
    together.
    """
    plain: _Fields = {}
    best = Proposal(name, sample)
    for _, schema, document in _candidates():
        found, agent = _found(schema, document["fields"], sample)
        if schema.records is not None:
            if len(found) > len(best.fields):
                agents = tuple(document["user_agent"]) if agent else ()
                best = Proposal(name, sample, found, document["records"], agents)
            continue
        for key, each in found.items():
            if each[1]:
                plain.setdefault(key, each)
    fields, user_agent = _named(sample, plain)
    if len(best.fields) > len(fields):
        return best
    order = [key for key in (*PLACES, *fields) if key in fields]
    return Proposal(name, sample, {key: fields[key] for key in order}, None, user_agent)


def _found(schema: Schema, options: Mapping[str, Any], sample: Sample) -> tuple[_Fields, bool]:
    """Return the fields of a schema that a sample has, each with the paths of its values, and
    whether a user agent fills any."""
    found: _Fields = {}
    agent = False
    for name, source in _kept(schema, sample):
        paths = found.setdefault(name, (options[name], []))[1]
        listed = options[name].get("from", [])
        agent = agent or source == _FROM_AGENT
        here: list[Any] = {_FROM_AGENT: [], _OUTSIDE: listed or [name]}.get(source) or [
            one for one in listed if isinstance(one, dict) and one["path"] == source
        ]
        if not here and source not in (_FROM_AGENT, _OUTSIDE):
            here = [source]
        paths += [one for one in here if one not in paths]
    return found, agent


def _named(sample: Sample, fields: _Fields) -> tuple[_Fields, tuple[str, ...]]:
    """Add fields found under other names that are usual in telemetry, and a user agent that fills
    any field."""
    known = sample.known({place for places in PLACES.values() for place in places}, AROUND)
    documents = _document(_BASE)["fields"]
    at = {
        name: [path for path, found in known.items() if not found.isdisjoint(places)]
        for name, places in PLACES.items()
    }
    user_agent = tuple(at.pop("user_agent"))
    for name, paths in at.items():
        options, listed = fields.get(name, (documents[name], []))
        tried = [path for path in paths if path not in listed]
        schema = _of({name: (options, [*listed, *tried])}) if tried else None
        if schema is None:
            continue
        admitted = dict.fromkeys(source for _, source in _kept(schema, sample))
        if admitted:
            fields[name] = options, [*listed, *(path for path in admitted if path not in listed)]
    return _derived(sample, fields, user_agent)


def _derived(
    sample: Sample, fields: _Fields, user_agent: tuple[str, ...]
) -> tuple[_Fields, tuple[str, ...]]:
    """Add the fields that a user agent fills, if any."""
    web = _document("web")["fields"]
    everything: _Fields = {name: (web[name], []) for name in DERIVABLE if name in web}
    everything |= fields
    schema = _of(everything, user_agent) if user_agent else None
    if schema is None:
        return fields, ()
    filled = {name for name, _ in _kept(schema, sample)}
    found = {name: each for name, each in everything.items() if name in filled}
    return (found, user_agent) if len(found) > len(fields) else (fields, ())


def _of(fields: _Fields, user_agent: tuple[str, ...] = ()) -> Schema | None:
    """Load a schema of these fields; ``None`` if it has any fault."""
    return _loaded(propose("proposed", fields, user_agent=user_agent))


def _loaded(text: str) -> Schema | None:
    """Load a proposed document as if its author had filled in the placeholders."""
    written = text.replace(TO_WRITE, "Say")
    return parse_source(read_bytes(written.encode(), Document("proposed")))[0]


def _kept(schema: Schema, sample: Sample) -> Iterator[tuple[str, str]]:
    """Yield each field that is kept from an event, with the path or other source of its value."""
    for explanation in sample.explained(schema, _TRIED_EVENTS):
        for name, each in explanation.fields.items():
            known = {*schema.fields[name].paths(name), _FROM_AGENT, _OUTSIDE}
            if each.outcome == "kept" and each.source in known:
                yield name, each.source
