"""The registry of a recorder's grants: stored before they are acknowledged, carried out, and moved
by time.

What a grant asks of the vault is stored with it, as are the ledger's entries of a change. The
vault and the ledger follow after that; what a crash or a fault of the bucket left undone is done
later. So after a crash nothing is destroyed that was not to be, what was to be is destroyed at the
next start, and no change is without its entry.

Grants that are not closed are in memory; the others are read when they are asked for. There is one
lock for each recording, so that a withdrawal and a chunk of the same recording never overlap.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, RLock
from weakref import WeakValueDictionary

from collector.errors import CollectorError
from collector.ledger import Note
from collector.recording.grant import Grant
from collector.recording.grant_store import GrantStore, Row
from collector.recording.journal import Journal
from collector.recording.refusals import Refused
from collector.recording.states import Closed, Erased, Paused
from collector.recording.vault import Vault

__all__ = ["MOST_ACTIVE", "MOST_ACTIVE_OF_MEETING", "Active", "GrantRegistry"]

MOST_ACTIVE = 1000
"""Recordings that are not closed, at a time."""
MOST_ACTIVE_OF_MEETING = 8
_RETRY_SECONDS = 10.0
"""How often is tried again what the disk or the bucket did not let happen."""
_DESTROY, _ERASE, _FINISH = "destroy ", "erase", "finish"
"""Tasks for the vault; the first is followed by the name of a track."""


@dataclass
class Active:
    """A grant, as it was saved last: its revision, and what members know of it.

    ``destroyed`` are tracks that a withdrawal destroyed, and ``notes`` entries of changes, that no
    save has noted yet: a disk that is full must not make the next attempt forget them.
    """

    grant: Grant
    revision: int = -1
    shown: tuple[str, str | None] = ("requested", None)
    destroyed: set[str] = field(default_factory=set[str])
    notes: list[Note] = field(default_factory=list[Note])


class _Lock:
    """The lock of a recording; it exists while it is in use."""

    def __init__(self) -> None:
        self.lock = RLock()


class GrantRegistry:
    """All grants of a directory, those included that a crash left open: they are closed here.

    A closed recording is erased after its retention, one for the host's own key after
    ``local_seconds`` if that is earlier. ``clock`` returns seconds since the epoch.

    Raises ``ConfigError`` E203 if the file of grants cannot be opened.
    """

    def __init__(
        self,
        directory: Path,
        vault: Vault,
        journal: Journal,
        *,
        local_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self.listeners: list[Callable[[str], None]] = []
        self.errors: int = 0
        self.store: GrantStore = GrantStore(directory)
        self._vault, self._journal = vault, journal
        self._local, self._clock = local_seconds, clock
        self._active: dict[str, Active] = {}
        self._locks: WeakValueDictionary[str, _Lock] = WeakValueDictionary()
        self._mutex = Lock()
        self._retry_at = 0.0
        for recording in self.store.pending():
            self._enter(recording)
        vault.recover()
        for row in self.store.active():
            self.save(row.id, Active(Grant.restored(row.snapshot, clock())))
        self._retry()

    def __repr__(self) -> str:
        return f"<GrantRegistry: {len(self._active)} active>"

    def close(self) -> None:
        """Close every grant, and then the file."""
        for recording in list(self._active):
            with self._tolerated(), self.opened(recording) as active:
                active.grant.close("restarted", self._clock())
                self.save(recording, active)
                self.carry_out(recording)
        self.store.close()

    def meeting(self, recording: str) -> str | None:
        """Return the meeting of a recording; ``None`` if there is no such recording."""
        if (active := self._active.get(recording)) is not None:
            return active.grant.terms.meeting
        row = self.store.load(recording)
        return None if row is None else row.meeting

    @contextmanager
    def opened(self, recording: str) -> Iterator[Active]:
        """Lock a recording and give its grant. Raises ``Refused``: ``not_found``."""
        with self._locked(recording):
            active = self._active.get(recording)
            if active is None:
                row = self.store.load(recording)
                if row is None:
                    raise Refused("not_found")
                grant = Grant.restored(row.snapshot)
                active = Active(grant, grant.revision, _shown(grant))
            yield active

    @contextmanager
    def added(self, recording: str, grant: Grant) -> Iterator[Active]:
        """Lock a new recording and give its grant, which is forgotten if the block fails before it
        is saved. Raises ``Refused``: ``busy``."""
        active = Active(grant)
        with self._locked(recording):
            with self._mutex:
                meetings = [each.grant.terms.meeting for each in self._active.values()]
                is_many = meetings.count(grant.terms.meeting) >= MOST_ACTIVE_OF_MEETING
                if is_many or len(meetings) >= MOST_ACTIVE:
                    raise Refused("busy")
                self._active[recording] = active
            try:
                yield active
            finally:
                if active.revision < 0:
                    self._active.pop(recording, None)

    @contextmanager
    def _locked(self, recording: str) -> Iterator[None]:
        with self._mutex:
            lock = self._locks.setdefault(recording, _Lock())
        with lock.lock:
            yield

    def save(
        self,
        recording: str,
        active: Active,
        tracks: Iterable[str] = (),
        note: Note | None = None,
    ) -> None:
        """Store a grant that has changed, with the tracks to be destroyed and the ledger's entry of
        it, and tell the members. The caller holds its lock."""
        grant = active.grant
        active.destroyed.update(tracks)
        if note is not None and note not in active.notes:
            active.notes.append(note)
        if grant.revision == active.revision and not active.notes:
            return
        shown = _shown(grant)
        event = None if shown == active.shown else shown
        tasks = [f"{_DESTROY}{each}" for each in active.destroyed]
        if event is not None:
            tasks += {"closed": [_FINISH], "erased": [_ERASE]}.get(shown[0], [])
        notes = list(active.notes)
        if event is not None and isinstance(grant.state, Closed):  # which may come by itself
            reason = grant.state.reason
            end = self._journal.note("recording", "close", recording=recording, outcome=reason)
            notes.insert(0, end)
        row = Row(recording, grant.terms.meeting, shown[0], self._due(grant), grant.snapshot())
        self.store.save(row, event, tasks, notes, self._journal.tip)
        active.revision, active.shown = grant.revision, shown
        active.destroyed.clear()
        active.notes.clear()
        if isinstance(grant.state, Closed | Erased):
            self._active.pop(recording, None)
        for listener in self.listeners if event is not None else ():
            listener(recording)
        if notes:
            self._enter(recording)

    def _enter(self, recording: str) -> None:
        """Write into the ledger what was noted for it. It is on disk already: where the ledger
        cannot be written now, that is done later."""
        with self._tolerated():
            noted, newest = self.store.entries(recording), 0
            for each in noted:
                newest = self._journal.add_since(max(each.tip, newest), each.note)
            self.store.entered(each.number for each in noted)

    def carry_out(self, recording: str) -> None:
        """Do what is to be done with a recording's content. The caller holds its lock."""
        tasks = self.store.tasks(recording)
        if _ERASE in tasks:
            self._vault.erase(recording)
        else:
            if tracks := [each[len(_DESTROY) :] for each in tasks if each.startswith(_DESTROY)]:
                self._vault.destroy(recording, tracks)
            if _FINISH in tasks:
                self._vault.finish(recording)
        if tasks:
            self.store.carried_out(recording, tasks)

    def _due(self, grant: Grant) -> float | None:
        """Return when a closed recording is to be erased."""
        if not isinstance(grant.state, Closed):
            return None
        retention = grant.terms.retention
        if grant.terms.storage == "local":
            retention = min(retention, self._local)
        return grant.state.at + retention

    # -- time ------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Close and erase what is due, and try again what could not be done."""
        now = self._clock()
        for recording in list(self._active):
            with self._tolerated(), self.opened(recording) as active:
                active.grant.tick(now)
                if active.grant.revision != active.revision:  # also what could not be saved before
                    self.save(recording, active)
                    self.carry_out(recording)
        for recording in self.store.due(now):
            with self._tolerated(), self.opened(recording) as active:
                active.grant.erase(now)
                self.save(recording, active)
                self.carry_out(recording)
        if time.monotonic() >= self._retry_at:
            with self._tolerated():
                self._vault.recover()
            self._retry()

    def _retry(self) -> None:
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        for recording in self.store.pending():
            with self._tolerated(), self._locked(recording):
                self._enter(recording)
                self.carry_out(recording)

    @contextmanager
    def _tolerated(self) -> Iterator[None]:
        """Count faults of disk and bucket, which may have passed at the next tick."""
        try:
            yield
        except (Refused, CollectorError, OSError):
            self.errors += 1


def _shown(grant: Grant) -> tuple[str, str | None]:
    """Return what members are told of a grant: its state, and the reason of a pause or a close."""
    reason = grant.state.reason if isinstance(grant.state, Paused | Closed) else None
    return type(grant.state).__name__.lower(), reason
