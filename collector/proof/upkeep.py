"""What is older than it may be goes: from the store, the spool, files of records, and from what was
set aside; by itself in a sidecar, and when somebody asks."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from collector import backlog
from collector.errors import CollectorError, DeliveryError
from collector.filter.revision import expired
from collector.ledger import Note
from collector.schema.model import Schema
from collector.sinks import held
from collector.sinks.connection import guarded
from collector.sinks.pruning import Pruned, Pruning, prune, swept
from collector.sinks.retention import note, tables, unruled
from collector.spool import Spool

__all__ = ["Outdated", "Upkeep", "prune_all"]

_EVERY_SECONDS = 3600.0


@dataclass(frozen=True)
class Outdated:
    """What was too old: rows of the store that are gone, and that lost fields; batches of the spool
    and lines of files that lost some, or are gone; damaged batches and files that were set aside;
    sums of hours.

    ``is_swept`` says that no byte of it is left; ``unruled`` are tables that no rule is known of.
    """

    rows: int = 0
    shortened: int = 0
    batches: int = 0
    lines: int = 0
    damaged: int = 0
    files: int = 0
    hours: int = 0
    is_swept: bool = True
    unruled: tuple[str, ...] = ()


def prune_all(
    schema: Schema, spool_path: Path, store: Path, lines: Path | None, wait: float
) -> Outdated:
    """Take out of everything in a data directory what is too old; readers are waited for so many
    seconds. Raises ``ConfigError`` E203 when a sidecar has the directory, and ``DeliveryError``."""
    from collector.sinks.files import NdjsonFile, files_of  # noqa: PLC0415 - seldom used

    with Spool(spool_path) as spool:
        done = prune_spool(spool, schema, wait)
        if lines is not None and files_of(lines):
            with NdjsonFile(lines) as file:
                done = replace(done, lines=file.revise(expired(schema)))
        pruned, is_swept, others = _prune_store(store, schema, wait)
        done = replace(
            done,
            rows=pruned.deleted,
            shortened=pruned.shortened,
            is_swept=is_swept and done.is_swept,
            unruled=others,
        )
        spool.note(entry(done, "store prune")).result()
    return done


def prune_spool(spool: Spool, schema: Schema, wait: float = 0.0) -> Outdated:
    """Take out of a spool, and of what was set aside, what is too old. Raises ``DeliveryError``."""
    cleared = backlog.prune(spool, schema, wait)
    done = cleared.outcome
    return Outdated(
        batches=done.batches,
        damaged=done.damaged,
        files=cleared.files,
        hours=done.hours,
        is_swept=done.is_swept,
    )


def entry(done: Outdated, command: str) -> Note:
    """What the ledger notes of it."""
    return Note.of(
        "prune",
        command=command,
        rows=done.rows + done.lines,
        values=done.shortened,
        batches=done.batches + done.damaged,
        files=done.files,
    )


class Upkeep(threading.Thread):
    """Prunes a sidecar's spool at the start and every so many seconds, and ``left``, a store that
    may be there though no sink has it; notes in the ledger what it did, and what sinks did."""

    def __init__(
        self,
        spool: Spool,
        schema: Schema,
        left: Path | None = None,
        *,
        every: float = _EVERY_SECONDS,
    ) -> None:
        super().__init__(name="collector-upkeep", daemon=True)
        self._spool, self._schema, self._left, self._every = spool, schema, left, every
        self._ending = threading.Event()

    def run(self) -> None:
        """Until it is told to stop. What cannot be done now is done in an hour."""
        while not self._ending.is_set():
            with suppress(CollectorError):
                self._tell(prune_spool(self._spool, self._schema))
            with suppress(CollectorError):
                self._prune_left()
            self._ending.wait(self._every)

    def stop(self) -> None:
        """End, if not in the midst of it."""
        self._ending.set()

    def store_pruned(self, pruned: Pruned) -> None:
        """The store has pruned itself."""
        self._tell(Outdated(rows=pruned.deleted, shortened=pruned.shortened))

    def lines_pruned(self, number: int) -> None:
        """The files of records have pruned themselves, of so many lines."""
        self._tell(Outdated(lines=number))

    def _prune_left(self) -> None:
        """In one go, as nobody waits for it; who is reading is not waited for, but next time."""
        if self._left is not None and self._left.is_file():
            pruning = Pruning(self._left, self.store_pruned)
            with _ruled(self._left, self._schema) as db:
                while pruning.is_due:
                    pruning.work(db)

    def _tell(self, done: Outdated) -> None:
        is_some = done.rows or done.shortened or done.lines or done.batches or done.damaged
        if is_some or done.files:
            with suppress(DeliveryError):
                self._spool.note(entry(done, "serve"))


def _prune_store(path: Path, schema: Schema, wait: float) -> tuple[Pruned, bool, tuple[str, ...]]:
    if not path.is_file():
        return Pruned(), True, ()
    with _ruled(path, schema) as db:
        steps = guarded(lambda: list(prune(db, datetime.now(UTC))))
        pruned = sum((done for _, done in steps), Pruned())
        is_swept = swept(db, path, wait)
        return pruned, is_swept, tuple(guarded(lambda: unruled(db)))


@contextmanager
def _ruled(path: Path, schema: Schema) -> Iterator[sqlite3.Connection]:
    """A store that is there, and what the schema says of it is noted."""
    with held.opened(path) as db:
        if schema.name in guarded(lambda: tables(db)):
            guarded(lambda: note(db, schema.name, schema.retentions))
        yield db
