"""Pending batches, read while another process may write them, and quarantined files.

Quarantined files are damaged ones that were renamed at an opening. Their readable batches were
copied into the new file. The rest of their contents is unknown, so they count as personal data, and
retention applies to them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from collector.contracts import Batch, Layout
from collector.errors import ConfigError, DeliveryError
from collector.files import failing_as
from collector.ledger.stored import require_known_format
from collector.spool.tables import BATCH, decode_granted, is_intact, staged
from collector.sqlite.connection import connect_to_read, decode_leniently

_DAMAGED = ".damaged-"
"""The text between the name of a quarantined file and the time of its quarantine."""


def pending_batches(path: Path) -> Iterator[Batch | None]:
    """Yield every batch that was accepted; ``None`` for a damaged one. Their layouts have no
    columns.

    Yields nothing if there is no file. Raises ``ConfigError`` E203 when it has another format,
    ``DeliveryError`` E507 when it cannot be read.
    """
    if not path.is_file():
        return
    failure = DeliveryError("E507", "the spool cannot be read; is it damaged, or no spool's file?")
    if (db := connect_to_read(path)) is None:
        raise failure
    with failing_as(failure, sqlite3.Error), closing(decode_leniently(db)):
        yield from _batches(db)


def _batches(db: sqlite3.Connection) -> Iterator[Batch | None]:
    require_known_format(db)
    layouts = {
        digest: Layout(schema, digest, name, ())
        for digest, schema, name in db.execute("SELECT digest, schema, name FROM layouts")
    }
    hidden = staged(db)
    query = f"SELECT {BATCH} FROM batches ORDER BY sequence"  # noqa: S608 - a constant
    for row in db.execute(query):
        sequence, id_, digest, received, _, _, _, payload, granted = row
        if sequence in hidden:
            continue
        if digest not in layouts or not is_intact(row):
            yield None
            continue
        yield Batch(
            id_,
            received,
            layout=layouts[digest],
            payload=payload,
            granted=decode_granted(granted),
        )
    for _ in range(db.execute("SELECT count(*) FROM damaged").fetchone()[0]):
        yield None


_STAMP = "%Y%m%dT%H%M%SZ"
_LENGTH = len("20261124T102030Z")


def quarantine(path: Path, only_log: bool = False) -> list[Path]:
    """Rename a file and its log; return their new names. The log is renamed last, so that it never
    is alone without a new file."""
    stamp = datetime.now(UTC).strftime(_STAMP)
    number, base = 1, f"{path.name}{_DAMAGED}{stamp}"
    while any(path.with_name(base + end).exists() for end in ("", "-wal")):
        number += 1
        base = f"{path.name}{_DAMAGED}{stamp}-{number}"
    renamed = []
    for end in ("-wal",) if only_log else ("", "-wal"):
        old, new = path.with_name(path.name + end), path.with_name(base + end)
        if old.exists() and (end == "" or old.stat().st_size):
            old.chmod(0o600)
            old.rename(new)
            renamed.append(new)
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    return renamed


def quarantined(spool: Path) -> Iterator[tuple[Path, datetime]]:
    """Yield the quarantined files of a spool's file, and when each was renamed: nothing in it was
    received later than that."""
    for path in sorted(spool.parent.glob(f"{spool.name}{_DAMAGED}*")):
        stamp = path.name.removeprefix(f"{spool.name}{_DAMAGED}")[:_LENGTH]
        with suppress(FileNotFoundError):
            yield path, _moment(stamp) or datetime.fromtimestamp(path.stat().st_mtime, UTC)


def delete_quarantined(
    spool: Path, *, since: datetime | None = None, until: datetime | None = None
) -> int:
    """Delete files that were quarantined at or after ``since`` and before ``until``; return their
    number. Raises ``ConfigError`` E203 when some cannot be deleted; all others are."""
    number, is_complete = 0, True
    for path, moment in quarantined(spool):
        if (since is None or moment >= since) and (until is None or moment < until):
            try:
                path.unlink(missing_ok=True)
                number += 1
            except OSError:
                is_complete = False
    if not is_complete:
        raise ConfigError("E203", "a quarantined file cannot be deleted; check its permissions")
    return number


def _moment(stamp: str) -> datetime | None:
    with suppress(ValueError):
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    return None
