"""What a person may ask for: to see what is kept of them, to have it deleted, to object.

Each goes over all files of ours that hold records: the store, the spool, what was set aside as
damaged, and files of records. Each leaves an entry in the ledger, which names no value.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from collector import backlog
from collector.config import Config
from collector.contracts import Record, Subject
from collector.errors import ConfigError
from collector.filter.revision import Erasure, Objection, Reason, changing, meant
from collector.ledger import Note
from collector.sinks import held
from collector.sinks.connection import guarded
from collector.sinks.files import NdjsonFile, files_of
from collector.sinks.rewriting import pieces
from collector.sinks.store import FILE_NAME as STORE_NAME
from collector.spool import FILE_NAME as SPOOL_NAME
from collector.spool import Spool, note
from collector.spool.quarantine import aside
from collector.spool.waiting import waiting

__all__ = ["Found", "Holdings", "Removed", "erase", "export", "object_to"]

_UNREADABLE = "the store cannot be read"


@dataclass(frozen=True)
class Holdings:
    """Where records of ours lie, and by name where else they may: what we cannot reach."""

    data: Path
    store: Path
    lines: Path | None
    beyond: tuple[str, ...]

    @classmethod
    def of(cls, config: Config, store: Path | None = None) -> Holdings:
        """Those of a configuration, with another store if one is named. Raises ``ConfigError`` E203
        if there is no data directory."""
        data = config.data or Path()
        if not data.is_dir():
            raise ConfigError("E203", "there is no data directory; name it, or its configuration")
        path = config.sinks.ndjson.path
        others = (
            f"sink {name}: {sink.recipient or 'no recipient is named'}"
            for name, sink in config.sinks.on().items()
            if name not in ("store", "ndjson") or sink.party != "first"
        )
        copies = [] if path is None else [f"copies that others made of {path}"]
        return cls(
            data,
            store or data / STORE_NAME,
            path,
            (
                *others,
                *copies,
                f"backups and snapshots of {data}",
                "what was read out of the store or exported before",
                "what SDKs have not sent yet: their own queues, spools and stores",
            ),
        )

    @property
    def spool(self) -> Path:
        """The spool's file."""
        return self.data / SPOOL_NAME


@dataclass(frozen=True, repr=False)
class Found:
    """What is kept of somebody, as it is kept. ``unreadable`` counts batches that are damaged;
    ``aside`` are names of files that were set aside since the window began: nobody can tell what
    is in them."""

    store: list[tuple[str, Record]]
    spool: list[dict[str, Any]]
    lines: list[dict[str, Any]]
    unreadable: int
    aside: list[str]


@dataclass(frozen=True)
class Removed:
    """What was taken away: rows of the store, batches of the spool and records in them, lines of
    files, and damaged batches and files whole. ``is_swept`` says that no byte of it is left; else
    somebody is reading an earlier state of the store or the spool."""

    rows: int
    batches: int
    records: int
    lines: int
    damaged: int
    files: int
    is_swept: bool


def export(holdings: Holdings, subject: Subject) -> Found:
    """Show what is kept of somebody; a sidecar may be running. A record that the store has got and
    that is about to leave the spool is shown in both. Raises ``ConfigError`` and ``DeliveryError``
    for what cannot be read."""
    spool, unreadable = _waiting(holdings, subject)
    store: list[tuple[str, Record]] = []
    if holdings.store.is_file():
        with held.opened(holdings.store) as db:
            store = guarded(lambda: list(held.rows(db, subject)), "E501", _UNREADABLE)
    lines = _lines(holdings, subject)
    names = [path.name for path, moment in aside(holdings.spool) if moment >= _start(subject)]
    number = len(store) + len(spool) + len(lines)
    entry = Note.of("export", command="subject export", field=subject.field, rows=number)
    note(holdings.data, entry)
    return Found(store, spool, lines, unreadable, names)


def _waiting(holdings: Holdings, subject: Subject) -> tuple[list[Record], int]:
    """The records that wait, with their minute, and how many batches are damaged."""
    batches = list(waiting(holdings.spool))
    found = [
        {"received": batch.received, **record}
        for batch in batches
        if batch is not None
        for record in meant(batch.payload, subject, batch.received)
    ]
    return found, batches.count(None)


def _lines(holdings: Holdings, subject: Subject) -> list[Record]:
    paths = [] if holdings.lines is None else files_of(holdings.lines)
    with suppress(OSError):
        return [each for path in paths for piece in pieces(path) for each in meant(piece, subject)]
    raise ConfigError("E203", "a file of records cannot be read; check its permissions")


def erase(holdings: Holdings, subject: Subject, wait: float) -> Removed:
    """Delete what is kept of somebody, and every byte of it; readers are waited for so many
    seconds. What cannot be read is deleted whole.

    Raises ``ConfigError`` E203 when a sidecar has the directory, or a file cannot be written, and
    ``DeliveryError``; what was not done is done by doing it again.
    """
    return _remove(
        holdings,
        subject,
        Erasure(subject),
        partial(held.delete, subject=subject),
        kind="erasure",
        wait=wait,
    )


def object_to(
    holdings: Holdings, subject: Subject, fields: Collection[str], wait: float
) -> Removed:
    """Take fields out of what is kept of somebody, who objects to what they are for. Otherwise as
    ``erase``."""
    clear = partial(held.clear, subject=subject, fields=fields)
    return _remove(
        holdings, subject, Objection(subject, fields), clear, kind="amendment", wait=wait
    )


def _remove(
    holdings: Holdings,
    subject: Subject,
    reason: Reason,
    remove: Callable[[sqlite3.Connection], int],
    *,
    kind: Literal["erasure", "amendment"],
    wait: float,
) -> Removed:
    cleared, lines, rows, is_swept = None, 0, 0, False
    with Spool(holdings.spool) as spool:
        try:
            cleared = backlog.clear(spool, reason, since=_start(subject), wait=wait)
            if holdings.lines is not None and files_of(holdings.lines):
                with NdjsonFile(holdings.lines) as file:
                    lines = file.revise(changing(reason))
            rows, is_swept = held.remove(holdings.store, remove, wait)
        finally:  # what was done is noted, also if not all was
            entry = Note.of(
                kind,
                command="subject erase" if kind == "erasure" else "subject object",
                field=subject.field,
                rows=rows + lines,
                batches=cleared.batches if cleared else 0,
                files=cleared.files if cleared else 0,
            )
            spool.note(entry).result()
    done = cleared.outcome
    return Removed(
        rows,
        done.batches,
        done.records,
        lines,
        done.damaged,
        cleared.files,
        is_swept and done.is_swept,
    )


def _start(subject: Subject) -> datetime:
    return datetime.fromisoformat(subject.start)
