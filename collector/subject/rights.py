"""The rights of a person: export, erase and object.

Each function covers all locations of records: sinks, the spool, batches that were set aside, and
quarantined files. Each adds an entry to the ledger, which contains no value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal

from collector.contracts import Record, Subject
from collector.errors import CollectorError
from collector.filter.redaction import Erasure, Objection, RedactionRule, matching
from collector.ledger import Note
from collector.retention import upkeep
from collector.retention.locations import Locations
from collector.retention.upkeep import places_fact
from collector.sinks.sink import Removal, in_place
from collector.spool import Spool, note
from collector.spool.pending import pending_batches, quarantined
from collector.spool.set_aside import SetAside

__all__ = ["Found", "Removed", "erase", "export", "object_to"]


@dataclass(frozen=True, repr=False)
class Found:
    """The stored records of a person. ``rows`` are of sinks that have tables, each with its table,
    ``lines`` of other sinks. ``unreadable`` counts damaged batches; ``aside`` are the names of
    files that were quarantined since the window began, which cannot be read. ``places`` are the
    numbers of records by the name of the sink.
    """

    rows: list[tuple[str, Record]]
    spool: list[dict[str, Any]]
    lines: list[dict[str, Any]]
    unreadable: int
    aside: list[str]
    places: Mapping[str, int]


@dataclass(frozen=True)
class Removed:
    """The counts of what was removed: rows of stores, lines of files, batches of the spool and
    records in them, damaged batches and quarantined files. ``is_swept`` is true if no byte of it is
    left; otherwise another process reads an earlier state of a store or the spool. ``places`` are
    the numbers of records by the name of the sink."""

    rows: int
    batches: int
    records: int
    lines: int
    damaged: int
    files: int
    is_swept: bool
    places: Mapping[str, int]


def export(locations: Locations, subject: Subject) -> Found:
    """Return the stored records of a person; a sidecar may be running. A record that a sink has and
    that is about to leave the spool is in both. Raises ``ConfigError`` and ``DeliveryError`` for
    what cannot be read."""
    spool, unreadable = _spooled(locations, subject)
    rows: list[tuple[str, Record]] = []
    lines: list[Record] = []
    places: dict[str, int] = {}
    with locations.opened() as sinks:
        for name, sink in sinks.items():
            with in_place(name):
                found = list(sink.find(subject))
            places[name] = len(found)
            if sink.unit == "rows":
                rows += found
            else:
                lines += [record for _, record in found]
    names = [
        path.name for path, moment in quarantined(locations.spool) if moment >= _start(subject)
    ]
    number = len(rows) + len(spool) + len(lines)
    entry = Note.of(
        "export",
        command="subject export",
        field=subject.field,
        rows=number,
        places=places_fact(places),
    )
    note(locations.data, entry)
    return Found(rows, spool, lines, unreadable, names, places)


def _spooled(locations: Locations, subject: Subject) -> tuple[list[Record], int]:
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
        for record in matching(batch.payload, subject, batch.received)
    ]
    return found, batches.count(None)


def erase(locations: Locations, subject: Subject, wait: float) -> Removed:
    """Delete every byte of a person's records; wait so many seconds for readers. Batches and files
    that cannot be read are deleted whole.

    Raises ``ConfigError`` E203 when a sidecar has the directory, or a file cannot be written, and
    ``DeliveryError``; the same call does later what was not done.
    """
    with locations.opened(wait) as sinks:
        actions = [(name, sink.unit, partial(sink.erase, subject)) for name, sink in sinks.items()]
        return _remove(locations, subject, Erasure(subject), actions, kind="erasure", wait=wait)


def object_to(
    locations: Locations,
    subject: Subject,
    fields: Collection[str],
    wait: float,
) -> Removed:
    """Remove fields from a person's records, to whose purposes the person objects; otherwise as
    ``erase``."""
    reason = Objection(subject, fields)
    with locations.opened(wait) as sinks:
        actions = [
            (name, sink.unit, partial(sink.redact, subject, fields)) for name, sink in sinks.items()
        ]
        return _remove(locations, subject, reason, actions, kind="amendment", wait=wait)


def _remove(
    locations: Locations,
    subject: Subject,
    reason: RedactionRule,
    actions: Iterable[tuple[str, str, Callable[[], Removal]]],
    *,
    kind: Literal["erasure", "amendment"],
    wait: float,
) -> Removed:
    """Remove it from the spool and from each sink, also from those after one that fails; then raise
    the first failure."""
    failures: list[CollectorError] = []
    cleared, lines, rows, is_swept = None, 0, 0, True
    places: dict[str, int | None] = {}
    with Spool(locations.spool) as spool:
        try:
            cleared = upkeep.clear(spool, reason, since=_start(subject), wait=wait)
            for name, unit, action in actions:
                removal, places[name] = Removal(), None
                try:
                    with in_place(name):
                        removal = action()
                    places[name] = removal.records
                except CollectorError as error:
                    failures.append(error)
                rows += removal.records if unit == "rows" else 0
                lines += removal.records if unit != "rows" else 0
                is_swept &= removal.is_swept
        finally:  # the ledger notes what was done, even if not all was
            entry = _entry(kind, subject, rows + lines, cleared, places)
            spool.note(entry).result()
    if failures:
        raise failures[0]
    done = cleared.outcome
    return Removed(
        rows,
        done.batches,
        done.records,
        lines,
        done.damaged,
        cleared.files,
        is_swept and done.is_swept,
        {name: number or 0 for name, number in places.items()},
    )


def _entry(
    kind: Literal["erasure", "amendment"],
    subject: Subject,
    records: int,
    cleared: upkeep.SpoolOutcome | None,
    places: Mapping[str, int | None],
) -> Note:
    return Note.of(
        kind,
        command="subject erase" if kind == "erasure" else "subject object",
        field=subject.field,
        rows=records,
        batches=cleared.batches if cleared else 0,
        files=cleared.files if cleared else 0,
        places=places_fact(places),
    )


def _start(subject: Subject) -> datetime:
    return datetime.fromisoformat(subject.start)
