"""The recorder's ledger: what was done with recordings, what was looked at, when, and by whom.

It is a file of the spool's format, in which there are entries and no batches, so ``collector
ledger`` verifies, exports and checkpoints it as it does that of a sidecar. An entry names no
meeting, track or member: ``who`` is the HMAC of the token's subject, under a secret of the
directory, which compares entries, and leads to no person where the secret is destroyed. A reader
who reads a track in many ranges makes one entry with a token, so that no reader fills the disk.
"""

from __future__ import annotations

import hmac
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal

from collector.errors import ConfigError
from collector.files import sync, write_private
from collector.ledger import Entry, Note
from collector.ledger.journal import SELECT_ENTRIES, append_all
from collector.recording.access import LEEWAY, Caller
from collector.recording.refusals import REFUSALS, Refused
from collector.spool.file import SpoolFile
from collector.spool.lock import Lock
from collector.spool.recover import open_file
from collector.sqlite.connection import transaction

FILE_NAME = "spool.db"
"""The name by which ``collector ledger`` finds the file."""
SECRET_NAME = "subjects.key"  # noqa: S105 - a name
_SECRET_BYTES = 32
_MOST_ACCESSES = 50_000
"""Accesses that are known to be in the ledger; of more, the oldest would be another entry."""
_SINCE = f"{SELECT_ENTRIES} WHERE sequence > ? AND kind = ? ORDER BY sequence"
ACTIONS: frozenset[str] = frozenset(
    "request announce start pause resume stop close handover accept join depart stay leave withdraw"
    " expire erase rotate notice track manifest chunk events list verify open".split()
)
"""What was done with a recording, or looked at in one."""
OUTCOMES: frozenset[str] = frozenset(
    {"done", "stopped", "host_absent", "expired", "restarted", *REFUSALS}
)
"""What came of it: done, why a recording was closed, or the code of a refusal."""


class Journal:
    """The ledger in a recorder's directory, which it locks until ``close``; use from any thread.

    Each method returns when its entries are on disk. Raises ``InUse`` where another process has the
    directory, ``ConfigError`` E203 where it cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._mutex = threading.Lock()
        self._file: SpoolFile | None = None
        self.tip: int = 0
        """The number of the newest entry of this process."""
        self._accesses: dict[tuple[str, ...], float] = {}
        self._lock = Lock(directory)
        try:
            self._secret = _secret(directory / SECRET_NAME)
            self.checkpoint("start")
        except BaseException as error:
            self._release()
            if not isinstance(error, OSError | Refused):
                raise
        if self._file is None:
            message = "the recorder's ledger cannot be opened or written; check its directory"
            raise ConfigError("E203", message)

    def __repr__(self) -> str:
        return "<Journal>"

    def add(self, note: Note) -> None:
        """Add an entry: of a change of a recording, of an access to one, or a checkpoint.

        Raises ``Refused``, ``unavailable``, if it cannot be written now: nothing may be done or
        shown then.
        """
        with self._opened() as db:
            with transaction(db):
                append_all(db, self._path, [note])
                newest = db.execute("SELECT sequence FROM last_entry").fetchone()[0]
            self.tip = newest

    def add_access(
        self, caller: Caller, recording: str, what: str, outcome: str, track: str, *, now: float
    ) -> None:
        """Add the entry of an access, unless the ledger has it: one for each token and track, and
        one for each way in which a token was refused. Raises as ``add`` does."""
        access = (caller.jti, caller.role, caller.subject, recording, what, outcome, track)
        with self._mutex:
            is_there = self._accesses.get(access, 0.0) > now
        if is_there:
            return
        self.add(self.note("access", what, recording=recording, caller=caller, outcome=outcome))
        with self._mutex:
            self._accesses[access] = caller.exp + LEEWAY
            while len(self._accesses) > 1:
                oldest = next(iter(self._accesses))
                if self._accesses[oldest] > now and len(self._accesses) <= _MOST_ACCESSES:
                    break
                del self._accesses[oldest]

    def note(
        self,
        kind: Literal["recording", "access"],
        what: str,
        *,
        recording: str | None = None,
        caller: Caller | None = None,
        notice: str | None = None,
        outcome: str = "done",
    ) -> Note:
        """Build the contents of an entry.

        ``what`` is one of ``ACTIONS``, ``outcome`` one of ``OUTCOMES``; ``recording`` is an id;
        ``caller`` is ``None`` where the recorder acts by itself; ``notice`` is the digest that came
        with a choice. Raises ``ValueError`` for other words.
        """
        if what not in ACTIONS or outcome not in OUTCOMES:
            raise ValueError("an entry states words of closed lists")
        return Note.of(
            kind,
            recording=recording,
            what=what,
            role=None if caller is None else caller.role,
            who=None if caller is None else self.who(caller.subject),
            notice=notice,
            outcome=outcome,
        )

    def add_since(self, tip: int, note: Note) -> int:
        """Add an entry that was noted elsewhere, unless an equal one is above ``tip``: a crash may
        have come after it. Returns its number. Raises ``Refused``, ``unavailable``."""
        with self._opened() as db:
            entries = [Entry.from_row(row) for row in db.execute(_SINCE, (tip, note.kind))]
        for each in entries:
            if each.facts == note.facts:
                return each.sequence
        self.add(note)
        return self.tip

    def checkpoint(self, at: Literal["start", "stop", "hour", "asked"]) -> None:
        """Add a checkpoint. Raises ``Refused``, ``unavailable``."""
        self.add(Note.of("checkpoint", at=at))

    def who(self, subject: str) -> str:
        """Return what stands for a subject in this ledger: 64 hexadecimal digits."""
        return _mark(self._secret, subject)

    def close(self) -> None:
        """Add a last checkpoint, and unlock the directory."""
        with suppress(Refused):
            self.checkpoint("stop")
        self._release()

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Give the file's connection to one thread. Raises ``Refused``, ``unavailable``, where a
        statement fails."""
        with self._mutex:
            try:
                if self._file is None:
                    self._file = open_file(self._path, (), ()).file
                yield self._file.db
            except (sqlite3.Error, OSError, ConfigError):
                self._close_file()  # its state is unknown: the next entry opens it again
            else:
                return
        raise Refused("unavailable")

    def _release(self) -> None:
        with self._mutex:
            self._close_file()
            self._lock.release()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def read_marks(directory: Path) -> Callable[[str], str]:
    """Return what ``Journal.who`` is in a directory, also while a recorder has it. Raises
    ``ConfigError`` E203 where the secret cannot be read."""
    with suppress(OSError):
        return partial(_mark, _read_secret(directory / SECRET_NAME))
    raise ConfigError("E203", "subjects.key of the recorder's directory cannot be read")


def _mark(secret: bytes, subject: str) -> str:
    return hmac.digest(secret, subject.encode(), "sha256").hex()


def _secret(path: Path) -> bytes:
    """Read the secret of a directory; create it (0600) if there is none. Raises ``OSError``."""
    if not path.exists():
        part = path.with_name(f"{path.name}.part")
        part.unlink(missing_ok=True)
        write_private(part, [secrets.token_bytes(_SECRET_BYTES)])
        part.rename(path)
        sync(path.parent)
    return _read_secret(path)


def _read_secret(path: Path) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
        secret = file.read(_SECRET_BYTES + 1)
    if len(secret) != _SECRET_BYTES:
        raise OSError
    return secret
