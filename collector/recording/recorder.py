"""The recorder: grants, content and ledger together, behind one method for each endpoint.

A platform can embed it; ``collector recording serve`` serves it over HTTP. A method takes the
caller that a token names, checks role and meeting, lets the grant decide, and returns when its
changes are on disk. Otherwise it raises ``Refused`` with a code of ``REFUSALS``.

A step of a grant is one commit: its snapshot, the event for members, the entries of the ledger, the
lines of the manifest, and the tasks that follow from it. A step that cannot be committed did not
happen. Keys and files are destroyed after the commit, before the call returns. If that fails, the
step stands, and the task is tried again. The last committed state of each grant that is not closed
is in memory. Each recording has a lock, so a withdrawal and a chunk of the same recording never
overlap.

Members are stored by marks, made of their pseudonyms with the directory's secret: no file has a
pseudonym. Every method may wait for the disk: call it from a thread.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from threading import Lock, RLock
from typing import Literal, NamedTuple
from weakref import WeakValueDictionary

from collector.ledger import Note
from collector.recording.access import Caller
from collector.recording.grant import Grant
from collector.recording.names import MAX_CHUNK_BYTES, MIXED, is_pseudonym, new_recording
from collector.recording.notices import Notice
from collector.recording.refusals import Refused
from collector.recording.states import Announced, Closed, Erased, Open, Paused, StateEvent, Terms
from collector.recording.store import Store, Task
from collector.recording.tasks import Tasks
from collector.recording.vault import VAULT_NAME, Added, Track, Vault, load_signer
from collector.recording.verification import verify

MOST_ACTIVE = 1000
"""The most recordings that are not closed at a time."""
MOST_ACTIVE_OF_MEETING = 8

RIGHTS: dict[str, frozenset[str]] = {
    "member": frozenset({"platform"}),
    "request": frozenset({"host"}),
    "control": frozenset({"host", "participant"}),
    "choice": frozenset({"host", "participant"}),
    "chunk": frozenset({"host", "participant", "media"}),
    "events": frozenset({"host", "participant", "media", "platform"}),
    "track": frozenset({"host", "viewer"}),
    "manifest": frozenset({"host", "viewer", "auditor"}),
    "erase": frozenset({"host", "participant"}),
}
"""What a role may ask for. A token's ``host`` is a host of the meeting, perhaps of another of its
recordings. So the grant requires this recording's host for ``control`` and ``erase`` (a handover
may have made a participant the host), and its host or heir for ``track`` and ``manifest``."""


class NewChunk(NamedTuple):
    """A chunk of a track: its number counts from 0. ``owner`` is a pseudonym or ``MIXED``; ``None``
    stands for the caller's own track."""

    track: str
    number: int
    data: bytes
    kind: str
    owner: str | None = None

    def __repr__(self) -> str:
        return "<NewChunk>"


@dataclass(frozen=True)
class ReadableTrack:
    """A track that may be read: its kind, its size in bytes of content, and how many chunks it has.

    ``is_sealed`` says that it was recorded for the host's own key. Use ``sealed`` then, and
    ``read`` otherwise.
    """

    kind: str
    size: int
    chunks: int
    is_sealed: bool
    read: Callable[[int, int | None], Iterator[bytes]]
    """Yields the content from one byte to before another (``None``: to the end)."""
    sealed: Callable[[int], bytes]
    """Returns the age file of a chunk."""


@dataclass(frozen=True)
class RecorderState:
    """Recordings by state, counts since the start by closed words, and what waits for the bucket.

    ``errors`` counts failures on this machine, ``bucket_errors`` failures of the bucket;
    ``is_failing`` says that the bucket accepts nothing now.
    """

    recordings: Mapping[str, int]
    chunks: Mapping[str, int]
    accesses: Mapping[str, int]
    errors: int = 0
    queued_bytes: int = 0
    queued_files: int = 0
    is_failing: bool = False
    bucket_errors: int = 0


@dataclass
class _Active:
    """A grant, its last committed revision, and what its members were last told."""

    grant: Grant
    revision: int = -1
    shown: tuple[str, str | None] = ("requested", None)

    @classmethod
    def of(cls, snapshot: Mapping[str, object]) -> _Active:
        """Restore a grant that was committed."""
        grant = Grant.restored(snapshot)
        return cls(grant, grant.revision, _shown(grant))


class _Lock:
    """The lock of a recording; it exists while it is in use."""

    def __init__(self) -> None:
        self.lock = RLock()


class Recorder:
    """Opens the directory of a recorder, or makes it (0700), and closes every grant that a crash
    left open. ``close`` it at the end.

    ``bucket`` is the URL of an object store for cloud recordings (``s3://…``), with the settings
    ``options``; without it, objects stay in the directory. At most ``queue_bytes`` wait for the
    bucket. A grant ends after ``longest_seconds``; a recording for the host's own key is deleted
    ``local_seconds`` after it was closed, any other after its own retention, at most
    ``most_retention`` seconds. ``clock`` returns seconds since the epoch.

    Raises ``InUse`` if another process has the directory, ``ConfigError`` if it cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        *,
        bucket: str | None = None,
        options: Mapping[str, str] | None = None,
        queue_bytes: int = 1 << 30,
        longest_seconds: float = 24 * 3600.0,
        local_seconds: float = 72 * 3600.0,
        most_retention: float = 366 * 86400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._longest, self._most, self._local = longest_seconds, most_retention, local_seconds
        self._clock = clock
        self._chunks: Counter[str] = Counter()
        self._accesses: Counter[str] = Counter()
        self._listeners: list[Callable[[str], None]] = []
        self._active: dict[str, _Active] = {}
        self._locks: WeakValueDictionary[str, _Lock] = WeakValueDictionary()
        self._mutex = Lock()
        with ExitStack() as opened:
            self.store: Store = Store(directory)
            opened.callback(self.store.close)
            self.vault: Vault = Vault(
                directory / VAULT_NAME,
                self.store,
                signer=load_signer(directory),
                bucket=bucket,
                options=options,
                queue_bytes=queue_bytes,
                clock=clock,
            )
            opened.callback(self.vault.close)
            self.tasks: Tasks = self.vault.tasks({"close": self._close_due, "expire": self._expire})
            opened.callback(self.tasks.close)
            for row in self.store.open_rows():
                self._close(row.id)
            self.tasks.run()
            self._opened = opened.pop_all()

    def __repr__(self) -> str:
        return f"<Recorder: {len(self._active)} active>"

    def close(self) -> None:
        """Close every grant, and then the files."""
        for recording in list(self._active):
            with suppress(Refused):  # the next start closes it
                self._close(recording)
        self._opened.close()

    def tick(self) -> None:
        """Let time pass: close recordings that are due, erase those whose retention is over, and
        retry failed destructions. Call it every second."""
        self.tasks.run()

    def _close(self, recording: str) -> None:
        """Close a grant because the process ends, or ended before."""
        with self._locked(recording) as active:
            active.grant.close("restarted", self._clock())
            self._commit(recording, active)

    def _close_due(self, recording: str, _tasks: list[Task]) -> None:
        """Close a grant whose time is over."""
        with self._locked(recording) as active:
            active.grant.tick(self._clock())
            self._commit(recording, active)

    def _expire(self, recording: str, _tasks: list[Task]) -> None:
        """Erase a recording whose retention is over."""
        with self._locked(recording) as active:
            active.grant.erase(self._clock())
            self._commit(recording, active)
            self.tasks.carry_out(recording, "erase")

    # -- the platform and the host ---------------------------------------------------------------

    def meeting(self, recording: str) -> str | None:
        """Return the meeting of a recording; ``None`` if there is no such recording."""
        if (active := self._active.get(recording)) is not None:
            return active.grant.terms.meeting
        row = self.store.load(recording)
        return None if row is None else row.meeting

    def join(self, caller: Caller, recording: str, pseudonym: str) -> None:
        """Put a member on the roster."""
        mark = self._member(pseudonym)
        self._change(caller, recording, "member", None, lambda grant, _, now: grant.join(mark, now))

    def depart(self, caller: Caller, recording: str, pseudonym: str) -> None:
        """Take a member off the roster."""
        mark = self._member(pseudonym)
        self._change(
            caller, recording, "member", None, lambda grant, _, now: grant.depart(mark, now)
        )

    def request(self, caller: Caller, terms: Terms) -> tuple[str, str]:
        """Make a recording for a host, announce it, and return its id and the notice's digest."""
        if caller.role not in RIGHTS["request"]:
            raise Refused("forbidden")
        if caller.meeting != terms.meeting:
            raise Refused("not_found")
        if terms.retention > self._most:
            raise Refused("terms")
        recording, now = new_recording(), self._clock()
        grant = Grant.request(terms, self._mark(caller), now, longest_seconds=self._longest)
        line = terms.stated() | {"meeting": self.store.who(f"meeting {terms.meeting}")}

        def begin(db: Connection) -> None:
            self.vault.begin(db, recording, line, terms.storage, terms.recipient)

        with self._added(recording, grant) as active:
            self.vault.prepare(recording, terms.recipient)
            grant.announce(_notice(terms).digests, now)
            note = self.store.note("recording", "request", recording=recording, caller=caller)
            self._commit(recording, active, note, begin=begin)
        return recording, _notice(terms).digest

    def control(
        self,
        caller: Caller,
        recording: str,
        action: Literal["start", "pause", "resume", "stop", "accept"],
    ) -> StateEvent:
        """Do what the host asks for, or let the heir accept. Returns the new state."""

        def step(grant: Grant, mark: str, now: float) -> None:
            getattr(grant, action)(mark, now)

        return self._change(caller, recording, "control", action, step)

    def handover(self, caller: Caller, recording: str, to: str) -> StateEvent:
        """Name the heir of a host."""
        heir = self._member(to)
        return self._change(
            caller,
            recording,
            "control",
            "handover",
            lambda grant, mark, now: grant.handover(mark, heir, now),
        )

    def erase(self, caller: Caller, recording: str) -> None:
        """Erase a closed recording, as its host asks."""

        def step(grant: Grant, mark: str, now: float) -> None:
            if not isinstance(grant.state, Erased) and mark != grant.host:
                raise Refused("forbidden")
            grant.erase(now)

        self._change(caller, recording, "erase", "erase", step)

    # -- the members -----------------------------------------------------------------------------

    def notice(self, caller: Caller, recording: str, form: Literal["wav", "png"]) -> bytes:
        """Return the notice as sound (WAV) or picture (PNG)."""
        with self._access(caller, recording, "choice", "notice") as active:
            found = _notice(active.grant.terms)
        return found.wav if form == "wav" else found.png

    def choose(
        self, caller: Caller, recording: str, choice: Literal["stay", "leave"], notice: str
    ) -> StateEvent:
        """Take the caller's choice, with the digest of the fetched notice."""
        return self._change(
            caller,
            recording,
            "choice",
            choice,
            lambda grant, mark, now: grant.choose(mark, choice, notice, now),
            notice=notice,
        )

    def withdraw(self, caller: Caller, recording: str) -> None:
        """Withdraw the caller's consent: the tracks are destroyed when this returns."""
        self._change(
            caller,
            recording,
            "choice",
            "withdraw",
            lambda grant, mark, now: grant.withdraw(mark, now),
        )

    def events(self, caller: Caller, recording: str, since: int = 0) -> list[StateEvent]:
        """Return the changes of state with numbers above ``since``. Media may ask too, because it
        cuts its tracks at a pause. The members of an erased recording are unknown, so everybody in
        its meeting may ask."""
        with self._checked(caller, recording, "events") as active:
            grant = active.grant
            may = caller.role in ("media", "platform") or isinstance(grant.state, Erased)
            if not may and self._mark(caller) not in (*grant.members, grant.heir):
                raise Refused("forbidden")
            return self.store.events(recording, since)

    def subscribe(self, listener: Callable[[str], None]) -> None:
        """Call ``listener``, in any thread, with the id of each recording that changes."""
        self._listeners.append(listener)

    # -- content ---------------------------------------------------------------------------------

    def check_chunk(
        self, caller: Caller, recording: str, track: str, owner: str | None, kind: str
    ) -> None:
        """Before a chunk's bytes are read, raise ``Refused`` if it would be refused whatever they
        are."""
        with self._checked(caller, recording, "chunk") as active:
            mark, sender = self._owner(caller, owner), self._mark(caller)
            try:
                active.grant.check_chunk(sender, caller.role, track, mark, kind, self._clock())
            finally:  # time may have passed
                self._commit(recording, active)

    def add_chunk(self, caller: Caller, recording: str, chunk: NewChunk) -> Added:
        """Keep a chunk of a track: it is on disk when this returns."""
        outcome = "refused"
        try:
            added = self._add_chunk(caller, recording, chunk)
            outcome = "accepted" if added.is_new else "repeated"
        finally:
            self._chunks[outcome] += 1
        return added

    def _add_chunk(self, caller: Caller, recording: str, chunk: NewChunk) -> Added:
        data = chunk.data
        if not data or len(data) > MAX_CHUNK_BYTES:
            raise Refused("too_large" if data else "malformed")
        with self._checked(caller, recording, "chunk") as active:
            owner, sender = self._owner(caller, chunk.owner), self._mark(caller)
            grant, name = active.grant, chunk.track
            try:
                grant.admit(sender, caller.role, name, owner, chunk.kind, self._clock())
            finally:
                self._commit(recording, active)
            kind = grant.tracks[name].kind
            added = self.vault.add(recording, name, chunk.number, data, owner_mark=owner, kind=kind)
        if added.is_new:
            self.tasks.wake()
        return added

    def tracks(self, caller: Caller, recording: str) -> list[Track]:
        """Return the tracks of a closed recording; their owners are marks."""
        with self._reading(caller, recording, "track") as active:
            active.grant.check_readable(self._clock())
            return self.vault.tracks(recording)

    def open_track(self, caller: Caller, recording: str, track: str) -> ReadableTrack:
        """Return a reader of a track of a closed recording, after noting the access in the
        ledger."""
        with self._reading(caller, recording, "track", track) as active:
            active.grant.check_readable(self._clock())
            return self._reader(recording, track, active.grant)

    def _reader(self, recording: str, track: str, grant: Grant) -> ReadableTrack:
        found = next((each for each in self.vault.tracks(recording) if each.name == track), None)
        if found is None:
            known = grant.tracks.get(track)
            raise Refused("left" if known is not None and known.is_destroyed else "not_found")
        return ReadableTrack(
            found.kind,
            found.size,
            found.chunks,
            grant.terms.storage == "local",
            lambda start, end: self.vault.read(recording, track, start, end),
            lambda number: self.vault.ciphertext(recording, track, number),
        )

    def manifest(self, caller: Caller, recording: str) -> Iterator[bytes]:
        """Return the lines of the signed manifest, after noting the access in the ledger."""
        with self._reading(caller, recording, "manifest"):
            return self.vault.manifest_lines(recording)

    def verify(self, recording: str, checkpoint: bytes | None = None) -> list[str]:
        """Return what is wrong with a stored recording; empty if it is intact."""
        return verify(self.vault, recording, checkpoint)

    def checkpoint(self, recording: str) -> bytes:
        """Return a signed line about the manifest, to keep elsewhere."""
        return self.vault.checkpoint(recording)

    # -- the operator ----------------------------------------------------------------------------

    def erase_now(self, recording: str) -> None:
        """Erase a recording as the operator asks; close it first if need be."""
        with self._locked(recording) as active:
            active.grant.close("stopped", self._clock())
            self._commit(recording, active)
            active.grant.erase(self._clock())
            note = self.store.note("recording", "erase", recording=recording)
            self._commit(recording, active, note)
            self.tasks.carry_out(recording, "erase")

    def rotate(self) -> None:
        """Wrap every key under a new master key, and destroy the old one."""
        self.store.commit(lambda db: self.store.add_task(db, "compact"))
        try:
            self.vault.keys.rotate()
        except OSError:
            raise Refused("unavailable") from None
        self.store.add(self.store.note("recording", "rotate"))
        self.tasks.carry_out("", "compact")

    def state(self) -> RecorderState:
        """Return counts, and what waits for the bucket."""
        return RecorderState(
            self.store.counts(),
            dict(self._chunks),
            dict(self._accesses),
            self.tasks.errors,
            *self.store.queued(),
            self.tasks.is_failing,
            self.tasks.bucket_errors,
        )

    # -- inside ----------------------------------------------------------------------------------

    @contextmanager
    def _locked(self, recording: str) -> Iterator[_Active]:
        """Lock a recording and yield its grant. Raises ``Refused``: ``not_found``."""
        with self._lock(recording):
            active = self._active.get(recording)
            if active is None:
                row = self.store.load(recording)
                if row is None:
                    raise Refused("not_found")
                active = _Active.of(row.snapshot)
                if not isinstance(active.grant.state, Closed | Erased):
                    self._active[recording] = active
            yield active

    @contextmanager
    def _lock(self, recording: str) -> Iterator[None]:
        with self._mutex:
            lock = self._locks.setdefault(recording, _Lock())
        with lock.lock:
            yield

    @contextmanager
    def _added(self, recording: str, grant: Grant) -> Iterator[_Active]:
        """Lock a new recording and yield its grant. Forget the grant if the block fails. Raises
        ``Refused``: ``busy``."""
        with self._lock(recording):
            with self._mutex:
                meetings = [each.grant.terms.meeting for each in self._active.values()]
                is_many = meetings.count(grant.terms.meeting) >= MOST_ACTIVE_OF_MEETING
                if is_many or len(meetings) >= MOST_ACTIVE:
                    raise Refused("busy")
                active = self._active[recording] = _Active(grant)
            try:
                yield active
            except BaseException:
                self._active.pop(recording, None)
                raise

    def _commit(
        self,
        recording: str,
        active: _Active,
        *notes: Note,
        tracks: Iterable[str] = (),
        begin: Callable[[Connection], None] | None = None,
    ) -> None:
        """Commit a changed grant with the entries of the ledger, the tracks to destroy, and the
        tasks that follow from its state; then tell the members. The caller holds its lock. Raises
        ``Refused``: then the grant is back in its last committed state."""
        grant = active.grant
        if grant.revision == active.revision and not notes:
            return
        shown = _shown(grant)
        event = None if shown == active.shown else shown
        snapshot, objects = grant.snapshot(), self.vault.objects(recording, [*tracks])
        if event is not None and isinstance(grant.state, Closed):  # the close may come by itself
            end = self.store.note("recording", "close", recording=recording, outcome=shown[1] or "")
            notes = (end, *notes)

        def work(db: Connection) -> None:
            if begin is not None:
                begin(db)
            self.store.save(db, recording, shown[0], snapshot, event)
            self.store.append(db, *notes)
            if objects:
                self.vault.destroy(db, recording, objects)
            self._follow(db, recording, grant, is_new=event is not None)

        try:
            self.store.commit(work)
        except BaseException:
            self._active.pop(recording, None)  # it is read again
            raise
        active.revision, active.shown = grant.revision, shown
        if isinstance(grant.state, Closed | Erased):
            self._active.pop(recording, None)
        for listener in self._listeners if event is not None else ():
            listener(recording)

    def _follow(self, db: Connection, recording: str, grant: Grant, *, is_new: bool) -> None:
        """Add the tasks that follow from a grant's state. A close or an erasure adds them once,
        when the state ``is_new``."""
        match grant.state:
            case Closed(at=at) if is_new:
                retention = grant.terms.retention
                if grant.terms.storage == "local":
                    retention = min(retention, self._local)
                self.vault.finish(db, recording)
                self.store.drop_tasks(db, "close", recording)
                self.store.add_task(db, "expire", recording, due=at + retention)
            case Erased() if is_new:
                self.vault.erase(db, recording)
            case Announced() | Open() | Paused():
                self.store.add_task(db, "close", recording, due=grant.due.at)

    @contextmanager
    def _checked(self, caller: Caller, recording: str, right: str) -> Iterator[_Active]:
        """Yield a grant to a caller with a right. Raises ``Refused``: ``forbidden``, and
        ``not_found``, also for another meeting."""
        with self._locked(recording) as active:
            if caller.meeting != active.grant.terms.meeting:
                raise Refused("not_found")
            if caller.role not in RIGHTS[right]:
                raise Refused("forbidden")
            yield active

    @contextmanager
    def _access(
        self, caller: Caller, recording: str, right: str, what: str, track: str = ""
    ) -> Iterator[_Active]:
        """Yield a grant to a caller who reads, and note the outcome in the ledger. Repeated reads
        of one track with one token share an entry, and so do refusals for the same reason."""
        outcome = "done"
        try:
            with self._checked(caller, recording, right) as active:
                yield active
        except Refused as refused:
            outcome = refused.code
            raise
        finally:
            self._accesses[what] += 1
            found = (recording, what, outcome, track if outcome == "done" else "")
            self.store.add_access(caller, *found, now=self._clock())

    @contextmanager
    def _reading(
        self, caller: Caller, recording: str, what: Literal["track", "manifest"], track: str = ""
    ) -> Iterator[_Active]:
        """Yield a grant to a caller who may read the recording, and note that in the ledger."""
        with self._access(caller, recording, what, what, track) as active:
            active.grant.check_reader(self._mark(caller), caller.role, self._clock())
            yield active

    def _change(
        self,
        caller: Caller,
        recording: str,
        right: str,
        what: str | None,
        step: Callable[[Grant, str, float], Iterable[str] | None],
        *,
        notice: str | None = None,
    ) -> StateEvent:
        """Take a step of a grant: on return it is stored with its ledger entry, and carried out."""
        with self._checked(caller, recording, right) as active:
            tracks: Iterable[str] = ()
            notes = list[Note]()
            try:
                tracks = step(active.grant, self._mark(caller), self._clock()) or ()
                if what is not None:
                    note = self.store.note(
                        "recording", what, recording=recording, caller=caller, notice=notice
                    )
                    notes.append(note)
            finally:  # a refused step may have let time pass
                self._commit(recording, active, *notes, tracks=tracks)
            self.tasks.carry_out(recording, "erase")
            return self.store.events(recording)[-1]

    def _mark(self, caller: Caller) -> str:
        return self.store.who(caller.subject)

    def _member(self, pseudonym: str) -> str:
        """Return the mark of a member. Raises ``Refused``: ``malformed``."""
        if not is_pseudonym(pseudonym):
            raise Refused("malformed")
        return self.store.who(pseudonym)

    def _owner(self, caller: Caller, owner: str | None) -> str:
        """Return the mark of a track's owner, or ``MIXED``. Raises ``Refused``: ``malformed``."""
        if owner is None and caller.role == "media":
            raise Refused("malformed")
        owner = caller.subject if owner is None else owner
        return MIXED if owner == MIXED else self._member(owner)


def _notice(terms: Terms) -> Notice:
    return Notice(terms.language, terms.medium, terms.storage)


def _shown(grant: Grant) -> tuple[str, str | None]:
    """Return what members are told about a grant: its state, and the reason for a pause or a
    close."""
    reason = grant.state.reason if isinstance(grant.state, Paused | Closed) else None
    return type(grant.state).__name__.lower(), reason
