"""Prune expired data from spool and sinks, and report what is overdue.

A sidecar prunes every hour, a command when it is called. This module has the limits that no schema
states. Data with a time in the future, from a wrong clock, are overdue too: they would stay too
long.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

from collector.contracts import FIRST, LAST, Depth, Removal, count_lines, to_minute
from collector.errors import CollectorError, ConfigError, DeliveryError
from collector.filter.redaction import Rule, redact
from collector.ledger import Note, earlier_schemas
from collector.schema.model import Schema
from collector.sinks.sink import AHEAD, EARLY, in_place
from collector.sinks.store_file import run_or_raise
from collector.spool import Spool
from collector.spool.recover import delete_quarantined, quarantined
from collector.spool.tables import aside_batches, pending_batches
from collector.sqlite.compaction import empty_log
from collector.sqlite.connection import connect_to_read

if TYPE_CHECKING:
    from collector.retention.locations import Locations

HOURS = timedelta(days=90)
"""The retention of the ledger's hourly sums of dropped fields, content and bytes."""
ASIDE = timedelta(days=7)
"""The retention of damaged batches and quarantined files, unless a field of the schema has a
shorter one: their contents are unknown."""
_EVERY_SECONDS = 3600.0
_PAUSE_SECONDS = 0.05
_HOURLY = timedelta(hours=2)
"""Data in the spool count as overdue this long after their retention: longer than the time between
prunings."""
_OLD_ROWS = (
    "SELECT (SELECT count(*) FROM damaged WHERE received < ?),"
    " (SELECT count(*) FROM hours WHERE hour < ?)"
)
_EARLIER = re.compile(r" \(earlier ")
_UNREADABLE = "the spool cannot be read; is it damaged, or no spool's file?"


def aside_for(schemas: Iterable[Schema]) -> timedelta:
    """Return the retention of damaged batches and quarantined files, which may have fields of any
    of the schemas."""
    return min(ASIDE, *(span for schema in schemas for span in schema.retentions.values()))


def clear(
    spool: Spool,
    rules: Sequence[Rule],
    *,
    wait: float,
    damaged: str = LAST,
    hours: str = FIRST,
) -> list[Removal]:
    """Carry out rules on pending batches and those that were set aside. Delete the damaged batches
    received before the minute ``damaged``, and the ledger's sums of hours before ``hours``. Return
    for each rule what was removed. Wait up to ``wait`` seconds for readers; meanwhile the spool
    takes batches. Raises ``DeliveryError`` E506."""
    found = spool.rewrite(rules, damaged=damaged, hours=hours).result()
    deadline = monotonic() + wait
    is_swept = found[0].is_swept
    while not is_swept and monotonic() < deadline:
        sleep(_PAUSE_SECONDS)
        is_swept = spool.submit(lambda file: empty_log(file.db, spool.path)).result()
    return [replace(each, is_swept=is_swept) for each in found]


def prune(spool: Spool, schemas: Sequence[Schema], wait: float = 0.0) -> Removal:
    """Prune a spool and what was set aside. If a quarantined file cannot be deleted, the result is
    not swept. Raises ``DeliveryError`` E506."""
    now = datetime.now(UTC)
    expiry, aside = _expiry(spool.path, schemas, now), now - aside_for(schemas)
    damaged, hours = to_minute(aside), to_minute(now - HOURS)
    (done,) = clear(spool, [expiry], wait=wait, damaged=damaged, hours=hours)
    try:
        return done + Removal(files=delete_quarantined(spool.path, until=aside))
    except ConfigError:
        return done + Removal(is_swept=False)


def _expiry(path: Path, schemas: Sequence[Schema], now: datetime) -> Rule:
    """Return the rule for expired records in a spool; a batch may be of an earlier schema."""
    named = {schema.name: schema for schema in schemas}
    with suppress(CollectorError):
        for schema in earlier_schemas(path).values():
            named.setdefault(schema.name, schema)
    return Rule.expiry([*named.values()], now)


def prune_all(locations: Locations, wait: float) -> Removal:
    """Prune everything in a data directory; wait up to ``wait`` seconds for readers. Raises
    ``ConfigError`` E203 if a sidecar uses the directory. If sinks fail, prune the others, and then
    raise the first error (``DeliveryError``)."""
    failures: list[CollectorError] = []
    places: dict[str, int | None] = {}
    of_sinks = Removal()
    with locations.opened_spool() as spool, locations.reached(wait) as sinks:
        done = prune(spool, locations.schemas, wait)
        for name, sink in sinks.items():
            places[name] = None
            try:
                with in_place(name, sink):
                    removal = sink.prune(datetime.now(UTC))
            except CollectorError as error:
                failures.append(error)
                continue
            places[name] = removal.records
            of_sinks += removal
            done += removal.of_sink(name)
        spool.note(_note(done, of_sinks, "store prune", places)).result()
    if failures:
        raise failures[0]
    return done


def places_fact(places: Mapping[str, int | None]) -> str | None:
    """Return the text for the ledger that states how many records each sink has lost or shown;
    ``-`` for a sink that failed."""
    stated = (
        f"{_EARLIER.sub('.', name).rstrip(')')}={'-' if number is None else number}"
        for name, number in places.items()
    )
    return " ".join(stated) or None


@dataclass(frozen=True)
class Dropped:
    """What waited for a sink, or still waits after a dry run: ``batches`` in the spool,
    ``set_aside`` batches, and the ``records`` of both."""

    sink: str
    batches: int
    set_aside: int
    records: int


def drop(spool: Spool, sink: str, *, is_dry_run: bool = False) -> Dropped:
    """Delete what waits for a sink that no longer exists, and what was set aside for it. The same
    commit drops the batches and notes that in the ledger; then the bytes are deleted.

    Raises ``ConfigError`` E132 if there never was such a sink, and ``DeliveryError`` E506 and E507.
    The same call later completes what was not done.
    """
    refused = [each.batch for each in aside_batches(spool.path) if each.sink == sink]
    waiting = spool.waiting(sink).result()
    if waiting is None and not refused:
        raise ConfigError("E132", "no sink of this name ever ran with this data directory")

    def found(waiting: Depth) -> Dropped:
        records = waiting.records + sum(count_lines(batch.payload) for batch in refused)
        return Dropped(sink, waiting.batches, len(refused), records)

    def entry(waiting: Depth) -> Note:
        done = found(waiting)
        number = done.batches + done.set_aside
        return Note.of("drop", command="store drop", sink=sink, rows=done.records, batches=number)

    if is_dry_run:
        return found(waiting or Depth())
    done = found(spool.drop(sink, entry).result())
    spool.delete_delivered()
    return done


def _note(
    done: Removal, of_sinks: Removal, command: str, places: Mapping[str, int | None] | None = None
) -> Note:
    """Build the ledger's entry for a pruning of the spool and of sinks."""
    return Note.of(
        "prune",
        command=command,
        rows=of_sinks.deleted,
        values=of_sinks.shortened,
        batches=done.batches + done.damaged,
        files=done.files,
        places=places_fact(places or {}),
    )


class Upkeep(threading.Thread):
    """Prune a sidecar's spool at the start and once an hour. Also prune the sinks of ``off``, which
    are switched off but may have records. Note both in the ledger, and what sinks pruned."""

    def __init__(
        self,
        spool: Spool,
        schemas: Sequence[Schema],
        off: Locations | None = None,
    ) -> None:
        super().__init__(name="collector-upkeep", daemon=True)
        self._spool = spool
        self.use(schemas, off)
        self._ending = threading.Event()

    def use(self, schemas: Sequence[Schema], off: Locations | None) -> None:
        """Use other schemas, and other sinks that are off, from the next pruning on."""
        self._schemas, self._off = schemas, off

    def run(self) -> None:
        """Prune until ``stop``; after an error, retry the next time."""
        while not self._ending.is_set():
            with suppress(CollectorError):
                self._add_note(prune(self._spool, self._schemas), Removal())
            with suppress(CollectorError):
                self._prune_off()
            self._ending.wait(_EVERY_SECONDS)

    def stop(self) -> None:
        """End after the current pruning."""
        self._ending.set()

    def sink_pruned(self, name: str, removal: Removal) -> None:
        """Note that a sink has pruned itself."""
        self._add_note(Removal(), removal, {name: removal.records})

    def _prune_off(self) -> None:
        """Prune the sinks that are switched off; if a reader blocks one, retry the next time."""
        if self._off is not None:
            with self._off.opened() as sinks:
                for name, sink in sinks.items():
                    with suppress(CollectorError):
                        self.sink_pruned(name, sink.prune(datetime.now(UTC)))

    def _add_note(
        self, done: Removal, of_sinks: Removal, places: Mapping[str, int] | None = None
    ) -> None:
        if done or of_sinks:
            with suppress(DeliveryError):
                self._spool.note(_note(done, of_sinks, "serve", places))


def overdue(locations: Locations) -> Iterator[str]:
    """Report, in names and counts, what is overdue in sinks and spool; change nothing.

    Raises ``DeliveryError`` for a location that cannot be read.
    """
    schemas, now = locations.schemas, datetime.now(UTC)
    with locations.opened() as sinks:
        for name, sink in sinks.items():
            with in_place(name, sink):
                found = list(sink.overdue(now))
            yield from found
    if locations.spool.is_file():
        yield from _overdue_records(locations, now)
        yield from _overdue_rest(locations.spool, schemas, now)


def _overdue_records(locations: Locations, now: datetime) -> Iterator[str]:
    """Report overdue records that wait in the spool or were set aside."""
    expiry = _expiry(locations.spool, locations.schemas, now - _HOURLY)
    ahead = to_minute(now + AHEAD)
    old = early = 0
    for batch in pending_batches(locations.spool):
        if batch is not None:
            old += redact(batch.payload, [expiry], batch.received)[1][0].records
            early += count_lines(batch.payload) if batch.received > ahead else 0
    if old:
        yield f"the spool holds {old} records past their retention"
    if early:
        yield f"the spool holds {early} records {EARLY}"


def _overdue_rest(path: Path, schemas: Sequence[Schema], now: datetime) -> Iterator[str]:
    """Report overdue damaged batches, quarantined files, and hourly sums of the ledger."""
    before, db = now - aside_for(schemas) - _HOURLY, connect_to_read(path)
    if db is None:
        raise DeliveryError("E507", _UNREADABLE)
    minutes = to_minute(before), to_minute(now - HOURS - _HOURLY)
    with closing(db):
        batches, sums = run_or_raise(
            lambda: db.execute(_OLD_ROWS, minutes).fetchone(), "E507", _UNREADABLE
        )
    damaged = sum(not before <= moment <= now + AHEAD for _, moment in quarantined(path))
    if batches:
        yield f"the spool holds damaged batches past their retention ({batches})"
    if damaged:
        yield f"the data directory holds damaged files past their retention ({damaged})"
    if sums:
        yield f"the ledger holds hourly sums past their retention ({sums})"
