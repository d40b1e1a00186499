"""What the page, the notice and the record of processing say: one model, of plain data.

It is built from a configuration, its schemas and the verdicts on the claims. Its only words are
those of the documents; templates and ``phrases`` add the words of each language. It has nothing
that is only for operators: no location of a sink, no path and no address.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import orjson

from collector.claims.findings import Verdict
from collector.claims.promises import Promise
from collector.config import Config
from collector.config.sink_settings import Party, SinkSettings
from collector.documents import without_hidden
from collector.pages.phrases import LANGUAGES, Terms, phrase_book
from collector.pages.pipe import Pipe, pipe, plain_text
from collector.retention.upkeep import HOURS, aside_for
from collector.routing import Flows, all_flows, is_abroad, is_unprotected
from collector.routing.schemas import reviewed
from collector.schema.conditions import Condition
from collector.schema.kinds import FieldBase
from collector.schema.model import Basis, Schema, field_bits, record_bits
from collector.schema.names.scope import conditions, scope
from collector.schema.review import Review

_T = TypeVar("_T")
_LEAD = ("no-content", "unless-recorded")
"""The claims that the first sentence of the page repeats."""
_WORST_FIRST: tuple[Verdict, ...] = ("broken", "unproven", "missing", "amended", "holds")


@dataclass(frozen=True)
class PurposeFacts:
    """A purpose for which at least one field is collected."""

    name: str
    use: str
    basis: Basis
    reason: str
    optional: bool


@dataclass(frozen=True)
class FieldFacts:
    """A field. ``precision`` is its sentence by language, ``sinks`` the purposes for which it
    reaches each sink; ``refusable`` says whether a person may refuse it entirely."""

    name: str
    kind: str
    category: str
    precision: Mapping[str, str]
    example: str
    reason: str
    purposes: tuple[str, ...]
    retention: timedelta
    required: bool
    refusable: bool
    identifies: bool
    pseudonymous: bool
    bits: float
    sinks: Mapping[str, tuple[str, ...]]
    conditions: tuple[Terms, ...] = ()


@dataclass(frozen=True)
class Approved:
    """Fields beyond the public sentences that somebody has approved, as the approved copy says."""

    fields: tuple[str, ...]
    sentence: str | None
    by: str
    date: str


@dataclass(frozen=True)
class SchemaVersion:
    """A version of a schema: since when, and what it widens and narrows."""

    date: str
    version: str
    widening: tuple[str, ...] = ()
    narrowing: tuple[str, ...] = ()
    is_first: bool = False


@dataclass(frozen=True)
class SchemaFacts:
    """A schema. ``history`` are its versions, the newest first; ``None`` if none is known."""

    name: str
    version: str
    title: str
    owner: str
    digest: str
    bits: float
    aside: timedelta
    purposes: tuple[PurposeFacts, ...]
    fields: tuple[FieldFacts, ...]
    conditions: tuple[Terms, ...]
    sentences: tuple[str, ...]
    approved: tuple[Approved, ...]
    unapproved: Mapping[str, str]
    pipe: Pipe
    history: tuple[SchemaVersion, ...] | None = None

    @property
    def id(self) -> str:
        """Return ``name/version``."""
        return f"{self.name}/{self.version}"

    def field(self, name: str) -> FieldFacts:
        """Return the field of this name."""
        return next(each for each in self.fields if each.name == name)

    def kept(self, name: str) -> str:
        """Return the value of a field in the record of the pipe."""
        return dict(self.pipe.record).get(name, "")

    def place(self, name: str) -> int:
        """Return the position of a field in that record."""
        return list(dict(self.pipe.record)).index(name)

    def added(self) -> set[str]:
        """Return the approved fields beyond the public sentences."""
        return {name for each in self.approved for name in each.fields}


@dataclass(frozen=True)
class Destination:
    """A sink, without its location. ``purposes`` are the purposes for which it gets any field."""

    name: str
    type: str
    party: Party
    recipient: str | None
    country: str | None
    safeguard: str | None
    abroad: bool
    unprotected: bool
    purposes: tuple[str, ...]

    def whose(self) -> str:
        """Say whose sink it is."""
        return whose(self)


@dataclass(frozen=True)
class HourFacts:
    """What a sidecar received in a whole hour: bytes of events and of the records made of them,
    and how many events had content, by its category."""

    hour: datetime
    bytes_in: int
    bytes_out: int
    content: Mapping[str, int]


@dataclass(frozen=True)
class Page:
    """What is collected, what happens to it, and which promises hold. ``checked`` is when the
    checks ran, ``None`` if nothing was checked; ``made`` is when the page was made. ``hours`` are
    the last hours of a running sidecar, the newest first; ``None`` if none runs."""

    organisation: str | None
    contact: str | None
    officer: str | None
    country: str | None
    authenticated: bool
    encrypted: bool
    counts_kept: timedelta
    schemas: tuple[SchemaFacts, ...]
    destinations: tuple[Destination, ...]
    promises: tuple[Promise, ...]
    checked: datetime | None
    made: datetime
    hours: tuple[HourFacts, ...] | None = None

    def as_json(self) -> bytes:
        """Write ``page.json``: the same facts, for programs. Spans are in seconds."""
        return orjson.dumps(
            self, default=_plain, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        )

    def only(self, schema: str) -> Page:
        """Return the page of one of several schemas."""
        return replace(self, schemas=tuple(each for each in self.schemas if each.name == schema))

    def names(self) -> tuple[str, ...]:
        """Return the names of all fields, each once."""
        return tuple(dict.fromkeys(each.name for one in self.schemas for each in one.fields))

    def lead(self) -> str:
        """Return the phrase about content. It claims no more than the checks have shown."""
        found = [each.verdict for each in self.promises if each.id in _LEAD]
        if "broken" in found:
            return "lead_broken"
        return "lead" if found and set(found) <= {"holds", "amended"} else "lead_open"

    def counts(self) -> list[tuple[Verdict, int]]:
        """Count the promises by verdict, the best first."""
        found = Counter(each.verdict for each in self.promises)
        return [(verdict, found[verdict]) for verdict in reversed(_WORST_FIRST) if found[verdict]]

    def ordered(self) -> list[Promise]:
        """Return the promises, broken ones first."""
        return sorted(self.promises, key=lambda each: _WORST_FIRST.index(each.verdict))

    def destination(self, name: str) -> Destination:
        """Return the destination of this name."""
        return next(each for each in self.destinations if each.name == name)

    def purposes(self, *bases: Basis) -> tuple[str, ...]:
        """Return the purposes with one of these legal bases."""
        return self._purposes(lambda each: each.basis in bases)

    def refusable(self) -> tuple[str, ...]:
        """Return the purposes that a person may refuse."""
        return self._purposes(lambda each: each.optional)

    def _purposes(self, is_one: Callable[[PurposeFacts], bool]) -> tuple[str, ...]:
        every = (each for schema in self.schemas for each in schema.purposes)
        return tuple(dict.fromkeys(each.name for each in every if is_one(each)))

    def found_by(self) -> tuple[str, ...]:
        """Return the fields by which records of one person are found."""
        every = (each for schema in self.schemas for each in schema.fields)
        by = (each.name for each in every if each.identifies and not each.pseudonymous)
        return tuple(dict.fromkeys(by))

    def to(self, sink: str) -> dict[str, tuple[str, ...]]:
        """Return the fields of all schemas that reach a sink, each with its purposes."""
        every = (field for schema in self.schemas for field in schema.fields)
        return {field.name: field.sinks[sink] for field in every if sink in field.sinks}


def build(
    config: Config,
    schemas: Sequence[Schema],
    verdicts: Iterable[Promise],
    *,
    checked: datetime | None,
    now: datetime,
    reviews: Mapping[str, Review] | None = None,
    history: Mapping[str, tuple[SchemaVersion, ...] | None] | None = None,
    hours: tuple[HourFacts, ...] | None = None,
) -> Page:
    """Build the page of a configuration with these schemas. ``reviews`` and ``history`` have schema
    names as keys; without ``reviews`` the approved copies are read.

    Raises ``ConfigFaults`` as ``all_flows`` does, and ``ConfigError`` E201 if an extra is missing.
    """
    about, matrices = config.about, all_flows(config, schemas)
    if reviews is None:
        reviews = reviewed(config, schemas)
    page = Page(
        about.controller,
        about.contact,
        about.officer,
        about.country,
        authenticated=bool(config.auth.tokens or config.tls.client_ca is not None),
        encrypted=config.tls.certificate is not None,
        counts_kept=HOURS,
        schemas=tuple(
            _schema(each, reviews[each.schema.name], now, (history or {}).get(each.schema.name))
            for each in matrices
        ),
        destinations=tuple(
            _destination(name, sink, config, matrices) for name, sink in matrices[0].sinks.items()
        ),
        promises=tuple(verdicts),
        checked=checked,
        made=now,
        hours=hours,
    )
    # Documents with hidden characters are refused (E107); other texts lose them here.
    return mapped(page, without_hidden)


def _schema(
    flows: Flows, reviewed: Review, now: datetime, history: tuple[SchemaVersion, ...] | None
) -> SchemaFacts:
    schema, shown = flows.schema, pipe(flows.schema, now)
    used = {purpose for field in schema.fields.values() for purpose in field.purposes}
    reached = {sink: flows.to(sink) for sink in flows.sinks}
    found, examples = conditions(schema), dict(shown.record)
    return SchemaFacts(
        schema.name,
        schema.version,
        schema.title,
        schema.owner,
        schema.digest,
        round(record_bits(schema), 1),
        aside_for([schema]),
        tuple(
            PurposeFacts(name, each.use, each.basis, each.reason, each.optional)
            for name, each in schema.purposes.items()
            if name in used
        ),
        tuple(
            FieldFacts(
                name,
                each.kind,
                each.category,
                precision(each),
                examples.get(name) or plain_text(each.example(now)),
                each.reason,
                each.purposes,
                each.retention,
                each.required,
                name in schema.refusable,
                each.identifies,
                each.pseudonymous,
                round(field_bits(each), 1),
                {sink: fields[name] for sink, fields in reached.items() if name in fields},
                tuple(map(_terms, found.of_fields.get(name, ()))),
            )
            for name, each in schema.fields.items()
        ),
        tuple(map(_terms, found.of_records)),
        scope(schema).sentences,
        tuple(
            Approved(each.fields, each.sentence, each.by, each.date.isoformat())
            for each in reviewed.additions
        ),
        {each.name: each.why for each in reviewed.unapproved},
        shown,
        history,
    )


def precision(field: FieldBase) -> dict[str, str]:
    """State a field's precision in each language, with a phrase of its kind."""
    return {language: phrase_book(language).precision(field) for language in LANGUAGES}


def _terms(condition: Condition) -> Terms:
    return tuple((name, tuple(listed.written())) for name, listed in condition)


def whose(sink: SinkSettings | Destination) -> str:
    """Say whose a sink is: the party, the recipient and the country."""
    words = {"first": "ours", "processor": "processor", "third": "third party"}[sink.party]
    return ", ".join(part for part in (words, sink.recipient, sink.country) if part)


def _destination(
    name: str, sink: SinkSettings, config: Config, matrices: Sequence[Flows]
) -> Destination:
    purposes = (why for each in matrices for reasons in each.to(name).values() for why in reasons)
    return Destination(
        name,
        sink.type or name,
        sink.party,
        sink.recipient,
        config.about.place(sink),
        sink.safeguard,
        is_abroad(sink, config.about),
        is_unprotected(sink, config.about),
        tuple(dict.fromkeys(purposes)),
    )


def mapped(part: _T, change: Callable[[str], str]) -> _T:
    """Return a part of a page with ``change`` applied to each text in it."""
    found: Any = part
    if isinstance(found, str):
        found = change(found)
    elif isinstance(found, tuple):
        found = tuple(mapped(each, change) for each in found)
    elif isinstance(found, Mapping):
        found = {mapped(key, change): mapped(each, change) for key, each in found.items()}
    elif is_dataclass(found) and not isinstance(found, type):
        parts = {each.name: mapped(getattr(found, each.name), change) for each in fields(found)}
        found = replace(found, **parts)
    return found  # type: ignore[no-any-return]


def _plain(value: object) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise TypeError
