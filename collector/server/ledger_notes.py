"""The sidecar's own entries in its ledger: what it runs by, what changes of it, and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from hashlib import sha256
from math import inf
from threading import Lock
from time import monotonic
from typing import Literal

import orjson

from collector.config.model import settings
from collector.errors import CollectorError, DeliveryError
from collector.ledger import Ledger, Note
from collector.ledger import opened as opened_ledger
from collector.ops.log import EventLog
from collector.retention.earlier import COPIES, in_force
from collector.routing import changes
from collector.routing.changes import compared, strongest, widening_reasons
from collector.schema import Schema
from collector.server.components import Components

__all__ = ["LedgerNotes", "ReloadCause"]

_NOTE_SECONDS = 2.0
ReloadCause = Literal["signal", "command", "watch"]
"""What asks for a reload: SIGHUP, the control socket, or a file that has changed."""


class LedgerNotes:
    """Write the sidecar's own ledger entries: its schema and configuration, compared with the last
    ones of the ledger, and checkpoints. An entry that cannot be written now is tried again.

    ``begin`` is for before events are received, ``update`` for meanwhile, ``end`` for afterwards.
    At most ``seconds`` and ``receipts`` are between two checkpoints.
    """

    def __init__(
        self,
        components: Components,
        log: EventLog,
        *,
        seconds: float = 3600.0,
        receipts: int = 10_000,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._components = components
        self._log = log
        self._most_seconds, self._most_receipts, self._clock = seconds, receipts, clock
        self._first: Future[bool] | None = None
        self._beginning = Lock()
        self._has_begun = False
        self._at = clock()
        self._receipts = 0

    def begin(self, seconds: float = _NOTE_SECONDS) -> None:
        """Write changes and a checkpoint, if the spool is writable; wait so long for them."""
        self._begin()
        if self._first is not None:
            wait([self._first], seconds)
            self._begin()

    def update(self) -> None:
        """Write a checkpoint if one is due, and what ``begin`` could not write. Does not wait."""
        if not self._has_begun:
            self._begin()
            return
        count = self._components.spool.last - self._receipts
        due = "receipts" if count >= self._most_receipts else None
        due = "hour" if self._clock() - self._at >= self._most_seconds else due
        if due is not None:
            with suppress(CollectorError):
                self._write(_checkpoint(due))

    def reload(self, following: Components, cause: ReloadCause, change: str) -> Future[bool]:
        """Write that other components take the place of these, with what changes, in one commit.
        Raises ``DeliveryError`` E506 while nothing can be written."""
        if not self._has_begun:
            self._begin()
            if not self._has_begun:
                raise DeliveryError("E506", "the ledger cannot be written now; reload again later")
        before, after = (_all_digests(each.schemas) for each in (self._components, following))
        with opened_ledger(self._components.spool.path) as ledger:
            notes, old = _changes(ledger, following), ledger.digest("configuration")
        digests = [dict(note.facts)["digest"] for note in notes if note.kind == "configuration"]
        note = Note.of(
            "reload",
            cause=cause,
            change=change,
            schemas=after,
            schemas_before=before,
            digest=digests[0] if digests else old,
            before=old,
        )
        return self._components.spool.note(*notes, note)

    def end(self) -> None:
        """Write the last checkpoint."""
        with suppress(CollectorError, TimeoutError):
            self._write(_checkpoint("stop")).result(_NOTE_SECONDS)

    def _begin(self) -> None:
        """Write the first entries, or see what became of them; never twice at the same time.

        Before the spool is writable, on a full disk, reading the index of its log could end the
        process.
        """
        with self._beginning:  # a reload may do the same in a thread
            if not self._has_begun and (self._first is None or self._first.done()):
                self._try_to_begin()

    def _try_to_begin(self) -> None:
        first, self._first = self._first, None
        with suppress(CollectorError):
            if first is not None and first.exception() is None:
                self._has_begun = True
                with opened_ledger(self._components.spool.path) as ledger:
                    newest = ledger.newest("checkpoint")
                if newest is not None and not newest.key:
                    self._log.write("unsigned")
            elif self._components.spool.state().is_ready:
                with opened_ledger(self._components.spool.path) as ledger:
                    notes = _changes(ledger, self._components)
                self._first = self._write(*notes, _checkpoint("start"))

    def _write(self, *notes: Note) -> Future[bool]:
        written = self._components.spool.note(*notes)
        self._at, self._receipts = self._clock(), self._components.spool.last
        written.add_done_callback(self._look)
        return written

    def _look(self, written: Future[bool]) -> None:
        """Have a checkpoint written again that could not be written."""
        if written.cancelled() or written.exception() is not None:
            self._at = -inf


def _changes(ledger: Ledger, components: Components) -> list[Note]:
    """Compare schemas and configuration with the last ones of the ledger."""
    return [*_schemas(ledger, components), *_configuration(ledger, components)]


def _all_digests(schemas: Sequence[Schema]) -> str:
    """Return the digest of the only schema; of several, that of their digests, a line each."""
    lines = [schema.digest for schema in schemas]
    return lines[0] if len(lines) == 1 else sha256("\n".join(lines).encode()).hexdigest()


def _schemas(ledger: Ledger, components: Components) -> list[Note]:
    """Compare each schema with that of its name, and one alone with one alone."""
    schemas, known = components.schemas, in_force(ledger)
    replaced = next(iter(known.values())) if len(schemas) == len(known) == 1 else None
    notes = []
    for schema in schemas:
        before = known.get(schema.name, replaced)
        if before == schema.digest:
            continue
        found = compared(ledger.document(before), schema.document) if before else None
        note = Note.of(
            "schema",
            document=schema.document,
            reasons=() if found is None else widening_reasons(found),
            schema=schema.id,
            before=before,
            change=strongest(found) if before else "widening" if known else "first",
        )
        notes.append(note)
    return notes


def _configuration(ledger: Ledger, components: Components) -> list[Note]:
    """Compare flows and settings, the document's two lines; secrets are only counted in it, and of
    an approved copy it has the digest."""
    flows, config = components.flows, components.config
    shown = {each.name: each.of(config) for each in settings(config.sinks.sections())}
    shown[COPIES] = {each.schema: each.copy.state for each in components.reviews()}
    lines = (changes.document(*flows), orjson.dumps(shown, option=orjson.OPT_SORT_KEYS))
    document = b"\n".join(lines)
    before = ledger.digest("configuration")
    old = (ledger.document(before) or b"").split(b"\n")[0]
    found = None if before is None else changes.since(old, *flows)
    note = Note.of(
        "configuration",
        document=document,
        reasons=changes.reasons(found),
        before=before,
        change="first" if before is None else changes.verdict(found),
    )
    return [] if dict(note.facts)["digest"] == before else [note]


def _checkpoint(at: str) -> Note:
    return Note.of("checkpoint", at=at)
