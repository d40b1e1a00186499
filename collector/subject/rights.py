"""The rights of a person: export, erase and object.

Each function covers all locations of records: sinks, the spool, batches that were set aside, and
quarantined files. Each adds an entry to the ledger, which contains no value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple

from collector.contracts import Record, Removal, Subject
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
    Rule,
    find_subject,
    matching,
)
from collector.ledger import Note
from collector.retention import upkeep
from collector.retention.locations import Locations, Reachable
from collector.retention.upkeep import places_fact
from collector.schema.model import Schema
from collector.sinks.sink import in_place
from collector.spool import note
from collector.spool.recover import delete_quarantined, quarantined
from collector.spool.tables import pending_batches
from collector.subject.tombstones import remember


@dataclass(frozen=True, repr=False)
class Found:
    """The stored records of a person. ``sinks`` has the records of each sink by its name, each with
    its collection: a table, or the name of a sink without tables. ``unreadable`` counts damaged
    batches. ``aside`` names the files that were quarantined since the window began; they cannot be
    read.
    """

    sinks: Mapping[str, list[tuple[str, Record]]]
    spool: list[dict[str, Any]]
    unreadable: int
    aside: list[str]


_CAUSES_OF_SINKS: tuple[Cause, ...] = (
    "unreachable",
    "denied",
    "missing",
    "certificate",
    "full",
)
"""Causes of errors that a person's request cannot provoke."""


class SchemaSubject(NamedTuple):
    """A person's records of one schema, and those of its fields that are only for optional
    purposes."""

    subject: Subject
    refusable: frozenset[str]


class Removing(NamedTuple):
    """A person's request to erase. It removes all of their records. An objection removes only the
    fields for optional purposes, and the records that have no other fields."""

    selections: Sequence[SchemaSubject]
    is_objection: bool = False

    @property
    def subject(self) -> Subject:
        """The first selection. All selections have its field and its window."""
        return self.selections[0].subject

    @property
    def steps(self) -> list[tuple[Subject, frozenset[str] | None]]:
        """The selections to remove, each with the fields to remove; ``None`` for whole records."""
        if self.is_objection:
            return [*self.selections]
        return [(each.subject, None) for each in self.selections]

    @property
    def rule(self) -> Rule:
        """The rule that carries out all steps."""
        return Rule.any_of([Rule.removal(*step) for step in self.steps])

    def entry(self, done: Removal, places: Mapping[str, int | None]) -> Note:
        """Build the ledger's entry for the request."""
        return Note.of(
            "amendment" if self.is_objection else "erasure",
            command="subject object" if self.is_objection else "subject erase",
            field=self.subject.field,
            rows=sum(done.sinks.values()),
            batches=done.batches + done.damaged,
            files=done.files,
            places=places_fact(places),
        )


def select(
    schemas: Sequence[Schema], field: str, value: str, since: str, until: str
) -> list[SchemaSubject]:
    """Return what a request selects: the records of each schema whose field leads to a person, and
    the records of schemas that are not in force. With a single schema, it selects records of any
    schema.

    Raises ``InputError`` as ``find_subject``, if that raises for all schemas.
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
    """Return the error of the schema that comes closest: one whose field leads to a person, else
    one that has the field."""
    ranked = [
        (isinstance(error, NoPersonError), not is_listed)
        for error, is_listed in zip(errors, listed, strict=True)
    ]
    return errors[ranked.index(min(ranked))]


def export(
    locations: Locations, selections: Sequence[SchemaSubject], command: str = "subject export"
) -> Found:
    """Return the stored records of a person; a sidecar may be running. If a sink already has a
    record that is still in the spool, both have it. The ledger notes the ``command``. Raises
    ``ConfigError`` and ``DeliveryError`` for a location that cannot be read."""
    rule = Removing(selections).rule
    spool, unreadable = _spooled(locations, rule)
    found: dict[str, list[tuple[str, Record]]] = {}
    with locations.opened() as sinks:
        for name, sink in sinks.items():
            with in_place(name, sink):
                found[name] = [*sink.scan(rule)]
    since = _start(selections[0].subject)
    names = [path.name for path, moment in quarantined(locations.spool) if moment >= since]
    places = {name: len(records) for name, records in found.items()}
    entry = Note.of(
        "export",
        command=command,
        field=selections[0].subject.field,
        rows=len(spool) + sum(places.values()),
        places=places_fact(places),
    )
    note(locations.data, entry)
    return Found(found, spool, unreadable, names)


def _spooled(locations: Locations, rule: Rule) -> tuple[list[Record], int]:
    """Return the records that are pending or set aside, each with its minute, and the number of
    damaged batches."""
    found, damaged = list[Record](), 0
    for batch in pending_batches(locations.spool):
        if batch is None:
            damaged += 1
            continue
        records = matching(batch.payload, rule, batch.received)
        found += [{"received": batch.received, **record} for record in records]
    return found, damaged


def remove(locations: Locations, request: Removing, wait: float) -> Removal:
    """Carry out a request: remove every byte of the selected data. Wait up to ``wait`` seconds for
    readers. Batches and files that cannot be read are deleted whole.

    Raises ``ConfigError`` E203 if a sidecar uses the directory or a file cannot be written, and
    ``DeliveryError``. The same call later completes what was not done.
    """
    (removed,) = remove_all(locations, [request], wait)
    if isinstance(removed, CollectorError):
        raise removed
    return removed


def remove_all(
    locations: Locations, requests: Sequence[Removing], wait: float
) -> list[Removal | CollectorError]:
    """Carry out the requests of several people in one pass over each sink. Each request has its own
    counts and its own entry in the ledger. Return for each request what was removed, or the first
    error that kept part of it from being done; everything else is done. Raises as ``remove`` for
    errors that concern all requests."""
    remember(locations.data, [step for request in requests for step in request.steps])
    deadline = monotonic() + wait
    done: list[Removal] = [Removal() for _ in requests]
    places: list[dict[str, int | None]] = [{} for _ in requests]
    failures = dict[int, CollectorError]()
    with locations.reached(wait) as sinks, locations.opened_spool() as spool:
        try:
            try:
                left = max(deadline - monotonic(), 0.0)
                done = upkeep.clear(spool, [each.rule for each in requests], wait=left)
            except CollectorError as error:  # skip the sinks: the spool would deliver it again
                failures = dict.fromkeys(range(len(requests)), error)
            for at, request in enumerate(requests):
                try:
                    number = delete_quarantined(spool.path, since=_start(request.subject))
                    done[at] += Removal(files=number)
                except CollectorError as error:
                    failures.setdefault(at, error)
            able = [at for at in range(len(requests)) if at not in failures]
            for name, sink in sinks.items() if able else ():
                outcomes = _removals(name, sink, [requests[at].rule for at in able])
                for at, outcome in zip(able, outcomes, strict=True):
                    if isinstance(outcome, Removal):
                        done[at] += outcome.of_sink(name)
                        places[at][name] = outcome.records
                    else:
                        failures.setdefault(at, outcome)
                        places[at][name] = None
        finally:  # the ledger notes what was done, even if not all was
            notes = [
                spool.note(request.entry(removal, each))
                for request, removal, each in zip(requests, done, places, strict=True)
            ]
            for note_ in notes:
                note_.result()
    return [failures.get(at, removal) for at, removal in enumerate(done)]


def _removals(name: str, sink: Reachable, rules: Sequence[Rule]) -> list[Removal | CollectorError]:
    """Let a sink carry out rules in one pass. Return for each rule what was removed, or the error.
    If the pass fails, try each rule alone, because one of them may be the cause; unless the cause
    is the sink, such as a server that does not answer."""
    try:
        with in_place(name, sink):
            return [*sink.rewrite(rules)]
    except CollectorError as error:
        is_of_sink = isinstance(error, NoTurn | UnreadableFile) or (
            isinstance(error, DeliveryError) and error.cause in _CAUSES_OF_SINKS
        )
        if len(rules) == 1 or is_of_sink:
            return [error] * len(rules)
    return [_removals(name, sink, [each])[0] for each in rules]


def _start(subject: Subject) -> datetime:
    return datetime.fromisoformat(subject.start)
