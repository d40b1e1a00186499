"""The recorder: grants, vault and ledger together, behind one method for each endpoint.

A platform can embed it; ``collector recording serve`` serves it over HTTP. A method takes the
caller that a token names, checks role and meeting, lets the grant decide, and returns when what it
did is on disk. It raises ``Refused`` otherwise, with one of the codes of ``REFUSALS``.

Inside, members are known by marks, which the ledger's secret makes of their pseudonyms: no file has
a pseudonym. Every method may wait for the disk: call it from a thread.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from collector.ledger import Note
from collector.recording.access import Caller, StoredAnswer
from collector.recording.grant import Grant
from collector.recording.journal import Journal
from collector.recording.names import MAX_CHUNK_BYTES, MIXED, is_pseudonym, new_recording
from collector.recording.notices import Notice
from collector.recording.opening import open_vault
from collector.recording.refusals import Refused
from collector.recording.registry import Active, GrantRegistry
from collector.recording.states import Erased, StateEvent, Terms
from collector.recording.vault import Added, Track, Vault, VaultState

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
recordings. So the grant asks for this recording's host under ``control`` and ``erase`` (a
participant may have become that by a handover), and for its host or heir under ``track`` and
``manifest``."""


class NewChunk(NamedTuple):
    """A chunk of a track: its number counts from 0. ``owner`` is a pseudonym or ``MIXED``; ``None``
    stands for the caller's own track."""

    track: str
    number: int
    data: bytes
    kind: str
    owner: str | None = None


@dataclass(frozen=True)
class ReadableTrack:
    """A track that may be read: its kind, its size in bytes of content, and how many chunks it has.

    ``is_sealed`` tells that it was recorded for the host's own key: only ``sealed`` is of use then,
    else only ``read``.
    """

    kind: str
    size: int
    chunks: int
    is_sealed: bool
    read: Callable[[int, int | None], Iterator[bytes]]
    """Yields the content from a byte (included) to another (not included, ``None``: the end)."""
    sealed: Callable[[int], bytes]
    """Returns the age file of a chunk."""


@dataclass(frozen=True)
class RecorderState:
    """Recordings by state, counts since the start, by closed words, and the state of the vault."""

    recordings: Mapping[str, int]
    chunks: Mapping[str, int]
    accesses: Mapping[str, int]
    errors: int
    vault: VaultState


class Recorder:
    """Opens the directory of a recorder, or makes it (0700), and closes every grant that a crash
    left open. ``close`` it at the end.

    ``bucket`` is the URL of an object store for cloud recordings (``s3://…``), ``options`` are its
    settings; without it objects are in the directory. ``queue_bytes`` may wait for the bucket. A
    grant ends after ``longest_seconds``; a recording for the host's own key is deleted
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
        self._longest, self._most = longest_seconds, most_retention
        self._clock = clock
        self._chunks: Counter[str] = Counter()
        self._accesses: Counter[str] = Counter()
        self.journal: Journal = Journal(directory)
        self.vault: Vault = open_vault(
            directory,
            bucket=bucket,
            options=options,
            queue_bytes=queue_bytes,
            on_erased=self._on_erased,
        )
        self.grants: GrantRegistry = GrantRegistry(
            directory, self.vault, self.journal, local_seconds=local_seconds, clock=clock
        )

    def __repr__(self) -> str:
        return "<Recorder>"

    def close(self) -> None:
        """Close every grant, and then the files."""
        self.grants.close()
        self.vault.close()
        self.journal.close()

    def tick(self) -> None:
        """Let time pass: close what is due, delete what has been kept for long enough, and try
        again what could not be destroyed. Call it each second."""
        self.grants.tick()

    # -- the platform and the host ---------------------------------------------------------------

    def meeting(self, recording: str) -> str | None:
        """Return the meeting of a recording; ``None`` if there is no such recording."""
        return self.grants.meeting(recording)

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
        with self.grants.added(recording, grant) as active:
            line = terms.stated() | {"meeting": self.journal.who(f"meeting {terms.meeting}")}
            self.vault.create(recording, line, storage=terms.storage, recipient=terms.recipient)
            grant.announce(_notice(terms).digests, now)
            note = self.journal.note("recording", "request", recording=recording, caller=caller)
            self.grants.save(recording, active, note=note)
        return recording, _notice(terms).digest

    def control(
        self,
        caller: Caller,
        recording: str,
        action: Literal["start", "pause", "resume", "stop", "accept"],
    ) -> StateEvent:
        """Do what the host asks for, or let the heir accept; returns the state that follows."""

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
        """Take the choice of the caller, with the digest of the notice that was fetched."""
        return self._change(
            caller,
            recording,
            "choice",
            choice,
            lambda grant, mark, now: grant.choose(mark, choice, notice, now),
            notice=notice,
        )

    def withdraw(self, caller: Caller, recording: str) -> None:
        """Take back the caller's consent: tracks are destroyed when this returns."""
        self._change(
            caller,
            recording,
            "choice",
            "withdraw",
            lambda grant, mark, now: grant.withdraw(mark, now),
        )

    def events(self, caller: Caller, recording: str, since: int = 0) -> list[StateEvent]:
        """Return the changes of state with numbers above ``since``; also for media, which cuts its
        tracks at a pause. Of an erased recording no members are known: whoever is in the meeting
        may."""
        with self._checked(caller, recording, "events") as active:
            grant = active.grant
            may = caller.role in ("media", "platform") or isinstance(grant.state, Erased)
            if not may and self._mark(caller) not in (*grant.members, grant.heir):
                raise Refused("forbidden")
            return self.grants.store.events(recording, since)

    def subscribe(self, listener: Callable[[str], None]) -> None:
        """Have a listener called, in any thread, with the id of each recording that changes."""
        self.grants.listeners.append(listener)

    # -- content ---------------------------------------------------------------------------------

    def check_chunk(
        self, caller: Caller, recording: str, track: str, owner: str | None, kind: str
    ) -> None:
        """Raise ``Refused`` if a chunk is refused whatever is in it, before its bytes are read."""
        with self._checked(caller, recording, "chunk") as active:
            mark, sender = self._owner(caller, owner), self._mark(caller)
            try:
                active.grant.check_chunk(sender, caller.role, track, mark, kind, self._clock())
            finally:  # time may have passed
                self.grants.save(recording, active)

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
                self.grants.save(recording, active)
            kind = grant.tracks[name].kind
            return self.vault.add(recording, name, chunk.number, data, owner_mark=owner, kind=kind)

    def tracks(self, caller: Caller, recording: str) -> list[Track]:
        """Return the tracks of a closed recording; their owners are marks."""
        with self._reading(caller, recording, "track") as active:
            active.grant.check_readable(self._clock())
            return self.vault.tracks(recording)

    def open_track(self, caller: Caller, recording: str, track: str) -> ReadableTrack:
        """Return a reader of a track of a closed recording; the ledger has it then."""
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
        """Return the lines of the signed manifest; the ledger has it then."""
        with self._reading(caller, recording, "manifest"):
            return self.vault.manifest_lines(recording)

    def verify(self, recording: str, checkpoint: bytes | None = None) -> list[str]:
        """Return what is wrong with a stored recording; empty if it holds."""
        return self.vault.verify(recording, checkpoint)

    def checkpoint(self, recording: str) -> bytes:
        """Return a signed line about the manifest, to be kept elsewhere."""
        return self.vault.checkpoint(recording)

    # -- the operator ----------------------------------------------------------------------------

    def answer_to(self, caller: Caller, request: bytes) -> StoredAnswer | None:
        """Return the answer that a request got before with the same token, or keep the token for
        this request alone, by its digest. Raises ``Refused``: ``replayed``."""
        return self.grants.store.answer_to(caller, request)

    def answered(self, caller: Caller, request: bytes, answer: StoredAnswer) -> None:
        """Keep the answer to a request."""
        self.grants.store.answered(caller, request, answer)

    def erase_now(self, recording: str) -> None:
        """Erase a recording as the operator asks; it is closed first, if it is not."""
        with self.grants.opened(recording) as active:
            active.grant.close("stopped", self._clock())
            self.grants.save(recording, active)
            active.grant.erase(self._clock())
            note = self.journal.note("recording", "erase", recording=recording)
            self.grants.save(recording, active, note=note)
            self.grants.carry_out(recording)

    def rotate(self) -> None:
        """Wrap every key under a new master key, and destroy the old one."""
        self.vault.rotate()
        self.journal.add(self.journal.note("recording", "rotate"))

    def state(self) -> RecorderState:
        """Return counts and the state of the vault."""
        return RecorderState(
            self.grants.store.counts(),
            dict(self._chunks),
            dict(self._accesses),
            self.grants.errors,
            self.vault.state(),
        )

    # -- inside ----------------------------------------------------------------------------------

    @contextmanager
    def _checked(self, caller: Caller, recording: str, right: str) -> Iterator[Active]:
        """Give a grant to a caller with a right. Raises ``Refused``: ``not_found``, also for
        another meeting, and ``forbidden``."""
        with self.grants.opened(recording) as active:
            if caller.meeting != active.grant.terms.meeting:
                raise Refused("not_found")
            if caller.role not in RIGHTS[right]:
                raise Refused("forbidden")
            yield active

    @contextmanager
    def _access(
        self, caller: Caller, recording: str, right: str, what: str, track: str = ""
    ) -> Iterator[Active]:
        """Give a grant to a caller who reads, with a ledger entry of what came of it: one for each
        token and track, however often it is read, and one for each way to be refused."""
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
            self.journal.add_access(caller, *found, now=self._clock())

    @contextmanager
    def _reading(
        self, caller: Caller, recording: str, what: Literal["track", "manifest"], track: str = ""
    ) -> Iterator[Active]:
        """Give a grant to a caller who may read the recording, with the ledger entry of it."""
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
        """Take a step of a grant: stored with its ledger entry, and carried out, on return."""
        with self._checked(caller, recording, right) as active:
            tracks: Iterable[str] = ()
            note: Note | None = None
            try:
                tracks = step(active.grant, self._mark(caller), self._clock()) or ()
                if what is not None:
                    note = self.journal.note(
                        "recording", what, recording=recording, caller=caller, notice=notice
                    )
            finally:  # a refused step may have let time pass
                self.grants.save(recording, active, tracks, note)
            self.grants.carry_out(recording)
            return self.grants.store.events(recording)[-1]

    def _mark(self, caller: Caller) -> str:
        return self.journal.who(caller.subject)

    def _member(self, pseudonym: str) -> str:
        """Return the mark of a member. Raises ``Refused``: ``malformed``."""
        if not is_pseudonym(pseudonym):
            raise Refused("malformed")
        return self.journal.who(pseudonym)

    def _owner(self, caller: Caller, owner: str | None) -> str:
        """Return the mark of a track's owner, or ``MIXED``. Raises ``Refused``: ``malformed``."""
        if owner is None and caller.role == "media":
            raise Refused("malformed")
        owner = caller.subject if owner is None else owner
        return MIXED if owner == MIXED else self._member(owner)

    def _on_erased(self, recording: str, is_whole: bool) -> None:
        """Write into the ledger that keys are destroyed, before their objects are."""
        what = "erase" if is_whole else "withdraw"
        self.journal.add(self.journal.note("recording", what, recording=recording))


def _notice(terms: Terms) -> Notice:
    return Notice(terms.language, terms.medium, terms.storage)
