"""The rights of a person: export, erase and object.

Each function covers all locations of records: sinks, the spool, batches that were set aside, and
quarantined files. Each adds an entry to the ledger, which contains no value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from time import monotonic
from typing import Any, NamedTuple

from collector.contracts import Record, Subject
from collector.errors import (
    Cause,
    CollectorError,
    DeliveryError,
    InputError,
    NoTurn,
    UnreadableFile,
)
from collector.filter.redaction import (
    NoPersonError,
    RedactionRule,
    find_subject,
    matching,
    removal_rule,
)
from collector.ledger import Note
from collector.retention import upkeep
from collector.retention.locations import Locations, Reachable
from collector.retention.upkeep import places_fact
from collector.schema.model import Schema
from collector.sinks.sink import Removal, in_place
from collector.spool import note
from collector.spool.recover import quarantined
from collector.spool.set_aside import SetAside
from collector.spool.tables import pending_batches
from collector.subject.tombstones import remember


@dataclass(frozen=True, repr=False)
class Found:
    """The stored records of a person. ``sinks`` has those of each sink by its name, each with its
    collection: a table, or the name of a sink without tables. ``unreadable`` counts damaged
    batches; ``aside`` are the names of files that were quarantined since the window began, which
    cannot be read.
    """

    sinks: Mapping[str, list[tuple[str, Record]]]
    spool: list[dict[str, Any]]
    unreadable: int
    aside: list[str]


@dataclass(frozen=True)
class Removed:
    """The counts of what was removed: records of each sink by its name, batches of the spool and
    records in them, damaged batches and quarantined files. ``is_swept`` is true if no byte of it is
    left; otherwise another process reads an earlier state of a store or the spool."""

    sinks: Mapping[str, int]
    batches: int
    records: int
    damaged: int
    files: int
    is_swept: bool


_CAUSES_OF_SINKS: tuple[Cause, ...] = (
    "unreachable",
    "denied",
    "missing",
    "certificate",
    "full",
)
"""It is still at it, or has a file that cannot be read."""


class SchemaSubject(NamedTuple):
    """A person's records of one schema, and the fields of them that are for optional purposes
    only."""

    subject: Subject
    refusable: frozenset[str]


class Removing(NamedTuple):
    """A person's request that changes what is stored: all of their records go, or, where it is an
    objection, the fields for optional purposes."""

    selections: Sequence[SchemaSubject]
    is_objection: bool = False

    @property
    def subject(self) -> Subject:
        """The first selection, which has the field and the window of all."""
        return self.selections[0].subject

    @property
    def steps(self) -> list[tuple[Subject, frozenset[str] | None]]:
        """What goes, with the fields that do; ``None`` for whole records."""
        if self.is_objection:
            return [*self.selections]
        return [(each.subject, None) for each in self.selections]

    @property
    def rule(self) -> RedactionRule:
        """The same for records as lines."""
        return _AnyRule([removal_rule(*step) for step in self.steps])

    def entry(
        self, records: int, cleared: upkeep.SpoolOutcome | None, places: Mapping[str, int | None]
    ) -> Note:
        """Make its entry in the ledger."""
        return Note.of(
            "amendment" if self.is_objection else "erasure",
            command="subject object" if self.is_objection else "subject erase",
            field=self.subject.field,
            rows=records,
            batches=cleared.batches if cleared else 0,
            files=cleared.files if cleared else 0,
            places=places_fact(places),
        )


def select(
    schemas: Sequence[Schema], field: str, value: str, since: str, until: str
) -> list[SchemaSubject]:
    """Return what a request selects: the records of each schema by which the field leads to a
    person, and those of schemas that are not in force. Of one schema it is all records.

    Raises ``InputError`` as ``find_subject``, if it is so for all schemas.
    """
    found: list[SchemaSubject] = []
    errors: list[InputError] = []
    for schema in schemas:
        try:
            subject = find_subject(schema, field, value, since, until)
        except InputError as error:
            errors.append(error)
        else:
            found.append(SchemaSubject(subject, frozenset(schema.refusable)))
            if len(schemas) > 1:
                found[-1] = found[-1]._replace(subject=replace(subject, schema=schema.name))
    if not found:
        raise _closest(errors, [field in schema.fields for schema in schemas])
    if len(schemas) > 1:
        names = frozenset(schema.name for schema in schemas)
        others = replace(found[0].subject, schema=None, besides=names)
        found.append(SchemaSubject(others, frozenset().union(*(each.refusable for each in found))))
    return found


def _closest(errors: Sequence[InputError], listed: Sequence[bool]) -> InputError:
    """Return the error of the schema that comes closest: where the field leads to a person, else
    where there is such a field."""
    ranked = [
        (isinstance(error, NoPersonError), not is_listed)
        for error, is_listed in zip(errors, listed, strict=True)
    ]
    return errors[ranked.index(min(ranked))]


@dataclass(frozen=True, repr=False)
class _AnyRule:
    """Removes what one of several rules removes."""

    rules: Sequence[RedactionRule]

    @property
    def until(self) -> str:
        """The end of the last window."""
        return max(rule.until for rule in self.rules)

    def may_concern(self, text: bytes) -> bool:
        """Return whether one of the values occurs in the lines."""
        return any(rule.may_concern(text) for rule in self.rules)

    def fields_to_remove(self, record: Mapping[str, Any], minute: str) -> set[str]:
        """Return the fields that any of the rules removes."""
        return {name for rule in self.rules for name in rule.fields_to_remove(record, minute)}


def export(
    locations: Locations, selections: Sequence[SchemaSubject], command: str = "subject export"
) -> Found:
    """Return the stored records of a person; a sidecar may be running. A record that a sink has and
    that is about to leave the spool is in both. The ledger notes the ``command``. Raises
    ``ConfigError`` and ``DeliveryError`` for what cannot be read."""
    subjects = [each.subject for each in selections]
    spool, unreadable = _spooled(locations, subjects)
    found: dict[str, list[tuple[str, Record]]] = {}
    with locations.opened() as sinks:
        for name, sink in sinks.items():
            with in_place(name):
                found[name] = [each for subject in subjects for each in sink.find(subject)]
    since = _start(subjects[0])
    names = [path.name for path, moment in quarantined(locations.spool) if moment >= since]
    places = {name: len(records) for name, records in found.items()}
    entry = Note.of(
        "export",
        command=command,
        field=subjects[0].field,
        rows=len(spool) + sum(places.values()),
        places=places_fact(places),
    )
    note(locations.data, entry)
    return Found(found, spool, unreadable, names)


def _spooled(locations: Locations, subjects: Sequence[Subject]) -> tuple[list[Record], int]:
    """Return the records that are pending or were set aside, with their minute, and the number of
    damaged batches."""
    batches = [
        *pending_batches(locations.spool),
        *(each.batch for each in SetAside(locations.data).all()),
    ]
    found = [
        {"received": batch.received, **record}
        for batch in batches
        if batch is not None
        for subject in subjects
        for record in matching(batch.payload, subject, batch.received)
    ]
    return found, batches.count(None)


def erase(locations: Locations, selections: Sequence[SchemaSubject], wait: float) -> Removed:
    """Delete every byte of a person's records; wait so many seconds for readers. Batches and files
    that cannot be read are deleted whole.

    Raises ``ConfigError`` E203 when a sidecar has the directory, or a file cannot be written, and
    ``DeliveryError``; the same call does later what was not done.
    """
    return _outcome(remove_all(locations, [Removing(selections)], wait))


def object_to(locations: Locations, selections: Sequence[SchemaSubject], wait: float) -> Removed:
    """Remove the refusable fields from a person's records, to whose purposes the person objects;
    otherwise as ``erase``."""
    return _outcome(remove_all(locations, [Removing(selections, is_objection=True)], wait))


def _outcome(found: Sequence[Removed | Exception]) -> Removed:
    """Return what was removed at the only request, or raise why it failed."""
    (removed,) = found
    if isinstance(removed, Exception):
        raise removed
    return removed


def remove_all(
    locations: Locations, requests: Sequence[Removing], wait: float
) -> list[Removed | Exception]:
    """Carry out the requests of several people, in one pass over each sink; each has counts and an
    entry in the ledger of its own. Return for each what was removed, or the first error that kept
    something of it from being done; all else is done. Raises as ``erase`` what concerns all."""
    remember(locations.data, [step for request in requests for step in request.steps])
    deadline = monotonic() + wait
    done = [_Counts() for _ in requests]
    with locations.reached(wait) as sinks, locations.opened_spool() as spool:
        try:
            for request, counts in zip(requests, done, strict=True):
                left = max(deadline - monotonic(), 0.0)
                try:
                    since = _start(request.subject)
                    counts.cleared = upkeep.clear(spool, request.rule, since=since, wait=left)
                except CollectorError as error:
                    counts.failure = error  # the spool would deliver it again: not in the sinks
            able = [at for at, counts in enumerate(done) if counts.failure is None]
            for name, sink in sinks.items() if able else ():
                outcomes = _removals(name, sink, [requests[at] for at in able])
                for at, outcome in zip(able, outcomes, strict=True):
                    done[at].add(name, outcome)
        finally:  # the ledger notes what was done, even if not all was
            notes = [
                spool.note(request.entry(counts.total, counts.cleared, counts.places))
                for request, counts in zip(requests, done, strict=True)
            ]
            for note_ in notes:
                note_.result()
    return [counts.outcome() for counts in done]


def _removals(
    name: str, sink: Reachable, requests: Sequence[Removing]
) -> list[list[Removal] | Exception]:
    """Let a sink carry out requests in one pass; return for each what was removed, or the error. If
    the pass fails, each is carried out by itself, as one of them may be the reason; not where the
    reason is the sink, as a server that does not answer."""
    try:
        with in_place(name):
            removals = sink.revise_all([step for each in requests for step in each.steps])
        rest = iter(removals)
        return [[*islice(rest, len(each.steps))] for each in requests]
    except Exception as error:  # noqa: BLE001 - the code of a type may raise anything
        if len(requests) == 1 or (isinstance(error, DeliveryError) and _is_of_sink(error)):
            return [error] * len(requests)
    return [_removals(name, sink, [each])[0] for each in requests]


def _is_of_sink(error: DeliveryError) -> bool:
    """Return whether no request of a person can be the reason of an error."""
    return error.cause in _CAUSES_OF_SINKS or isinstance(error, NoTurn | UnreadableFile)


@dataclass
class _Counts:
    """What was removed at one person's request. ``places`` has ``None`` for a sink that failed,
    ``failure`` is the first error."""

    cleared: upkeep.SpoolOutcome | None = None
    failure: Exception | None = None
    is_swept: bool = True
    places: dict[str, int | None] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The number of records of all sinks."""
        return sum(number or 0 for number in self.places.values())

    def add(self, name: str, removals: Sequence[Removal] | Exception) -> None:
        """Add what one sink removed, or that it failed."""
        if isinstance(removals, Exception):
            self.places[name] = None
            self.failure = self.failure or removals
            return
        self.places[name] = sum(removal.records for removal in removals)
        self.is_swept &= all(removal.is_swept for removal in removals)

    def outcome(self) -> Removed | Exception:
        """Return the counts with those of the spool, or the first error."""
        if self.failure is not None:
            return self.failure
        assert self.cleared is not None  # noqa: S101 - for the type
        spool = self.cleared.outcome
        return Removed(
            {name: number or 0 for name, number in self.places.items()},
            spool.batches,
            spool.records,
            spool.damaged,
            self.cleared.files,
            self.is_swept and spool.is_swept,
        )


def _start(subject: Subject) -> datetime:
    return datetime.fromisoformat(subject.start)
