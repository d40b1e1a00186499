"""What the sidecar itself writes into its ledger: what it runs with, and checkpoints.

At a start it compares schema and configuration with those that the ledger knows last. Nothing of it
may hold up what is received: what cannot be written now is tried again.
"""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from time import monotonic

import orjson

from collector.config.model import settings
from collector.errors import CollectorError
from collector.ledger import Ledger, Note, opened
from collector.ops.log import Log
from collector.proof import rerouting
from collector.schema.diff import Comparison, compare
from collector.schema.kept import recall
from collector.server.parts import Parts

__all__ = ["HOUR", "RECEIPTS", "Evidence"]

HOUR = 3600.0
"""Seconds between checkpoints, at most;"""
RECEIPTS = 10_000
"""and so many receipts."""
_WAIT_SECONDS = 2.0


class Evidence:
    """``begin`` comes before anything is received, ``look`` now and then, ``end`` after all."""

    def __init__(self, parts: Parts, log: Log) -> None:
        self._parts = parts
        self._log = log
        self._has_begun = False
        self._at = monotonic()
        self._receipts = 0

    def begin(self) -> None:
        """Note what is other than it was, and a checkpoint, once the spool is open: before, on a
        full disk, its log's index may have no room, and to look into it would end the process."""
        if not self._parts.spool.state().is_ready:
            return
        with suppress(CollectorError, TimeoutError):
            with opened(self._parts.spool.path) as ledger:
                notes = [*self._schema(ledger), *self._configuration(ledger)]
            self._write(*notes, _checkpoint("start")).result(_WAIT_SECONDS)
            self._has_begun = True
            with opened(self._parts.spool.path) as ledger:
                newest = ledger.newest("checkpoint")
            if newest is not None and not newest.key:
                self._log.say("unsigned")

    def look(self) -> None:
        """A checkpoint, if it is time for one."""
        if not self._has_begun:
            self.begin()
            return
        due = "receipts" if self._parts.spool.last - self._receipts >= RECEIPTS else None
        due = "hour" if monotonic() - self._at >= HOUR else due
        if due is not None:
            with suppress(CollectorError):
                self._write(_checkpoint(due))

    def end(self) -> None:
        """The last checkpoint, of all that there is."""
        with suppress(CollectorError, TimeoutError):
            self._write(_checkpoint("stop")).result(_WAIT_SECONDS)

    def _write(self, *notes: Note) -> Future[bool]:
        self._at, self._receipts = monotonic(), self._parts.spool.last
        return self._parts.spool.note(*notes)

    def _schema(self, ledger: Ledger) -> list[Note]:
        schema = self._parts.schema
        before = ledger.digest("schema")
        if before == schema.digest:
            return []
        found = _compared(ledger.document(before), schema.document) if before else None
        note = Note.of(
            "schema",
            document=schema.document,
            reasons=() if found is None else _reasons(found),
            schema=schema.id,
            before=before,
            change="first" if before is None else _verdict(found),
        )
        return [note]

    def _configuration(self, ledger: Ledger) -> list[Note]:
        """The flows and the settings are the document, a line each; of secrets only the number."""
        flows, config = self._parts.flows, self._parts.config
        shown = {each.name: each.of(config) for each in settings()}
        lines = (rerouting.document(flows), orjson.dumps(shown, option=orjson.OPT_SORT_KEYS))
        document = b"\n".join(lines)
        before = ledger.digest("configuration")
        old = (ledger.document(before) or b"").split(b"\n")[0]
        found = None if before is None else rerouting.since(old, flows)
        note = Note.of(
            "configuration",
            document=document,
            reasons=rerouting.reasons(found),
            before=before,
            change="first" if before is None else rerouting.verdict(found),
        )
        return [] if dict(note.facts)["digest"] == before else [note]


def _checkpoint(at: str) -> Note:
    return Note.of("checkpoint", at=at)


def _compared(old: bytes | None, new: bytes) -> Comparison | None:
    """Both as the ledger keeps them; ``None`` where one is no schema any more."""
    before, after = recall(old or b""), recall(new)
    return None if before is None or after is None else compare(before, after)


def _verdict(found: Comparison | None) -> str:
    """Of the whole: one change that widens is enough."""
    verdicts = set() if found is None else {change.verdict for change in found.changes}
    order = ("widening", "narrowing", "neutral")
    return "unknown" if found is None else next((v for v in order if v in verdicts), "neutral")


def _reasons(found: Comparison) -> list[str]:
    """The schema's own reasons for what widens, each with its place."""
    widening = (change for change in found.changes if change.verdict == "widening")
    return list(dict.fromkeys(f"{c.part}: {c.reason}" for c in widening if c.reason))
