"""The sidecar's own ledger entries: its schema and configuration, their changes, and
checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import suppress
from hashlib import sha256
from math import inf
from threading import Lock
from time import monotonic
from typing import Literal

import orjson

from collector.config import Loaded
from collector.config.model import plain_settings
from collector.contracts import Written
from collector.errors import CollectorError, ConfigFaults, DeliveryError, Fault
from collector.ledger import Ledger, Note
from collector.ledger import opened as opened_ledger
from collector.ops.log import EventLog
from collector.retention.earlier import COPIES, in_force
from collector.routing import changes
from collector.routing.changes import Change, compared, strongest, widening_reasons
from collector.schema import Schema
from collector.schema.diff import Comparison
from collector.server.components import Components

_NOTE_SECONDS = 2.0
_UNKNOWN = "what ran before cannot be compared with it"
_KEYS = {
    "further away": "party",
    "another recipient": "recipient",
    "another country": "country",
    "another safeguard": "safeguard",
    "no longer limited": "purposes",
}
"""The setting of a sink that causes a change."""
ReloadCause = Literal["signal", "command", "watch"]
"""The cause of a reload: SIGHUP, the control socket, or a changed file."""
_MOST_SECONDS, _MOST_RECEIPTS = 3600.0, 10_000
"""The most time, and the most receipts, between two checkpoints."""


class LedgerNotes:
    """Write the sidecar's own ledger entries: its schema and configuration, compared with the last
    ones in the ledger, and checkpoints. An entry that cannot be written is retried later.

    Call ``begin`` before events are received, ``update`` meanwhile, and ``end`` afterwards.
    """

    def __init__(
        self,
        components: Components,
        log: EventLog,
    ) -> None:
        self._components = components
        self._log = log
        self._first: Written | None = None
        self._beginning = Lock()
        self._has_begun = False
        self._at = monotonic()
        self._receipts = 0

    def begin(self) -> None:
        """Write changes and a checkpoint, if the spool is writable; wait a moment for them."""
        self._begin()
        if self._first is not None:
            wait([self._first], _NOTE_SECONDS)
            self._begin()

    def update(self) -> None:
        """Write a checkpoint if one is due, and what ``begin`` could not write. Does not wait."""
        if not self._has_begun:
            self._begin()
            return
        count = self._components.spool.last - self._receipts
        due = "receipts" if count >= _MOST_RECEIPTS else None
        due = "hour" if monotonic() - self._at >= _MOST_SECONDS else due
        if due is not None:
            with suppress(CollectorError):
                self._write(_checkpoint(due))

    def reload(self, following: Components, cause: ReloadCause, change: str) -> Written:
        """Write in one commit that other components replace these, and what changes. Raises
        ``DeliveryError`` E506 while nothing can be written."""
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
        """Write the first entries, or check whether they were written; never twice at the same
        time.

        Before the spool is writable, on a full disk, reading the index of its log could kill the
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

    def _write(self, *notes: Note) -> Written:
        written = self._components.spool.note(*notes)
        self._at, self._receipts = monotonic(), self._components.spool.last
        written.add_done_callback(self._look)
        return written

    def _look(self, written: Written) -> None:
        """Retry a checkpoint that could not be written."""
        if written.cancelled() or written.exception() is not None:
            self._at = -inf


def _changes(ledger: Ledger, components: Components) -> list[Note]:
    """Compare schemas and configuration with the last ones in the ledger."""
    return [*_schemas(ledger, components), *_configuration(ledger, components)]


def refuse_widening(loaded: Loaded, components: Components, ledger: Ledger) -> None:
    """Raise ``ConfigFaults`` E222 if more data would flow than when the sidecar last ran, with a
    fault for each change that widens. Nothing is compared if nothing ran before."""
    command = "`--allow-widening` allows it, once"
    if faults := widenings(loaded, components, ledger, command):
        raise ConfigFaults(faults)


def widenings(loaded: Loaded, components: Components, ledger: Ledger, command: str) -> list[Fault]:
    """Return a fault for each change that widens what last ran according to the ledger, and for
    what cannot be compared. ``command`` names the command that allows it."""
    named, reasons = components.config.schema_setting, list[str]()
    for schema, before, found in _schema_changes(ledger, components):
        if before is None:  # the flows report it, too
            continue
        if found is None:
            reasons.append(f"schema {schema.name}: {_UNKNOWN}")
        else:
            wider = (each for each in found.changes if each.verdict == "widening")
            reasons += [": ".join(filter(None, (each.part, each.what))) for each in wider]
    before, flows = _flow_changes(ledger, components)
    if before is not None and flows is None:
        reasons.append(f"flows: {_UNKNOWN}")
    faults = [loaded.fault(named, f"{each}; {command}", "E222") for each in reasons]
    return list(dict.fromkeys([*faults, *widening_faults(flows or (), loaded, command)]))


def widening_faults(found: Iterable[Change], loaded: Loaded, command: str) -> list[Fault]:
    """Return a fault for each change that widens, or for several alike. It is at the setting of the
    sink that the change concerns, or else at the schema's setting."""
    places: dict[str, list[Change]] = {}
    for change in found:
        if change.verdict == "widening":
            places.setdefault(_place(change, loaded), []).append(change)
    return [
        loaded.fault(place, f"{reason}; {command}", "E222")
        for place, alike in places.items()
        for reason in changes.reasons(alike)
    ]


def _place(change: Change, loaded: Loaded) -> str:
    """Return the setting that causes a change, as far as the change tells."""
    prefix = f"sinks.{change.sink}."
    stated = [
        name
        for name, origin in loaded.origins.items()
        if name.startswith(prefix) and origin != "default"
    ]
    if not (change.sink and stated):
        return loaded.config.schema_setting
    key = prefix + _KEYS.get(change.what, "purposes")
    return key if key in stated else stated[0]


def _all_digests(schemas: Sequence[Schema]) -> str:
    """Return the digest of a single schema, or of several the digest of their digests, one a
    line."""
    lines = [schema.digest for schema in schemas]
    return lines[0] if len(lines) == 1 else sha256("\n".join(lines).encode()).hexdigest()


def _schema_changes(
    ledger: Ledger, components: Components
) -> Iterator[tuple[Schema, str | None, Comparison | None]]:
    """Yield each changed schema, the digest before it, if any, and the comparison of the two, if
    possible. A schema is compared with the one of its name, and a single schema with a single
    one."""
    schemas, known = components.schemas, in_force(ledger)
    replaced = next(iter(known.values())) if len(schemas) == len(known) == 1 else None
    for schema in schemas if known else ():
        before = known.get(schema.name, replaced)
        if before != schema.digest:
            found = compared(ledger.document(before), schema.document) if before else None
            yield schema, before, found


def _schemas(ledger: Ledger, components: Components) -> list[Note]:
    """Note each changed schema; all of them, if there was none before."""
    if not in_force(ledger):
        return [
            Note.of("schema", document=each.document, schema=each.id, change="first")
            for each in components.schemas
        ]
    return [
        Note.of(
            "schema",
            document=schema.document,
            reasons=() if found is None else widening_reasons(found),
            schema=schema.id,
            before=before,
            change=strongest(found) if before else "widening",
        )
        for schema, before, found in _schema_changes(ledger, components)
    ]


def _flow_changes(ledger: Ledger, components: Components) -> tuple[str | None, list[Change] | None]:
    """Return the digest of the last configuration, if any, and the changes of the flows since then,
    if they can be compared."""
    before = ledger.digest("configuration")
    old = (ledger.document(before) or b"").split(b"\n")[0]
    return before, None if before is None else changes.since(old, *components.flows)


def _configuration(ledger: Ledger, components: Components) -> list[Note]:
    """Compare flows and settings, the two lines of the document. It only counts secrets, and has
    the digest of an approved copy."""
    flows, config = components.flows, components.config
    shown = plain_settings(config)
    shown[COPIES] = {each.schema: each.copy.state for each in components.reviews()}
    lines = (changes.document(*flows), orjson.dumps(shown, option=orjson.OPT_SORT_KEYS))
    document = b"\n".join(lines)
    before, found = _flow_changes(ledger, components)
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
