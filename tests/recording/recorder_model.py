"""A naive model of a recording: that of its grant, and the chunks that are to be read of it.

A kill leaves open whether what was asked for was done, so there are several models of a recording
after it, one for each thing that may be true; each answer that only some of them explain leaves
those.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple

from tests.recording.grant_model import ENDS, Model


class Chunk(NamedTuple):
    """A chunk as it is sent: by whom, of which track, with which number and content."""

    sender: str
    role: str
    track: str
    owner: str
    kind: str
    number: int
    data: bytes


class RecordingModel:
    """What holds of a recording: its grant, the chunks of each track that stands, and the time at
    which it was stored last: from there a process goes on that was killed."""

    def __init__(self, grant: Model, *, is_local: bool, retention: float) -> None:
        self.grant = grant
        self.is_local = is_local
        self.retention = retention
        self.content: dict[str, list[bytes]] = {}
        self.stored_at = grant.time
        self._stored = self._shape()

    def copy(self) -> RecordingModel:
        """Return a model of the same."""
        grant = Model(self.grant.host, self.grant.requested)
        grant.time, grant.events = self.grant.time, list(self.grant.events)
        copy = RecordingModel(grant, is_local=self.is_local, retention=self.retention)
        copy.content = {name: list(chunks) for name, chunks in self.content.items()}
        copy.stored_at, copy._stored = self.stored_at, self._stored
        return copy

    def key(self) -> Hashable:
        """Return what tells this from other models of the recording."""
        content = tuple((name, *chunks) for name, chunks in sorted(self.content.items()))
        return (self._shape(), self.grant.last("closed"), content)

    @property
    def reason(self) -> str | None:
        """Why the recording was closed."""
        closed = self.grant.last("closed")
        return closed[3] if closed and self.grant.phase == "closed" else None

    def _shape(self) -> Hashable:
        """What a process stores, which is stored anew where this changes."""
        grant = self.grant
        members = sorted({who for _, what, who, _ in grant.events if what == "join"})
        return (
            *(grant.phase, grant.current_host, grant.heir, tuple(grant.tracks.items())),
            sum(event[1] == "handover" for event in grant.events),
            tuple((who, grant.choice(who), grant.is_present(who)) for who in members),
        )

    def settle(self) -> RecordingModel:
        """Drop the content that is not to be there, and note what is stored."""
        gone = self.grant.destroyed
        if self.grant.phase == "erased":
            gone = set(self.content)
        self.content = {name: each for name, each in self.content.items() if name not in gone}
        if (shape := self._shape()) != self._stored:
            self._stored, self.stored_at = shape, self.grant.time
        return self

    # -- what is asked of it ---------------------------------------------------------------------

    def asked(self, now: float, call: str, who: str, more: Any = None) -> Outcome:
        """What comes of a member's call, or of the platform's about a member."""
        after = self.copy()
        grant = after.grant
        grant.pass_time(now)
        phase = grant.phase
        codes = set[str]()
        if call == "erase":
            codes |= {"forbidden"} if phase != "erased" and who != grant.current_host else set()
            codes |= {"open"} if phase not in ENDS else set()
        elif call != "depart":
            codes = grant.against(call, who, more)
        if codes:
            return Outcome(codes, None, after.settle(), [])
        if call == "stop":
            grant.add("closed", more="stopped")
        elif call in ("erase", "depart"):
            if call == "erase" and phase != "erased":
                grant.add("erased")
            elif call == "depart" and phase not in ENDS and grant.is_present(who):
                grant.add("depart", who)
        elif (call, phase) not in (("start", "open"), ("pause", "paused")):
            grant.add("leave" if call == "withdraw" else call, who, more)
        return Outcome(set(), grant.phase, after.settle(), [])

    def erased_by_operator(self, now: float) -> Outcome:
        """What comes of an operator's order: it is closed first."""
        closed = self.copy()
        closed.grant.pass_time(now)
        if closed.grant.phase not in ENDS:
            closed.grant.add("closed", more="stopped")
        after = closed.settle().copy()
        if after.grant.phase != "erased":
            after.grant.add("erased")
        return Outcome(set(), None, after.settle(), [closed])

    def ticked(self, now: float) -> Outcome:
        """What time does by itself."""
        due = self.copy()
        due.grant.pass_time(now)
        closed = due.settle().grant.last("closed")
        after = due.copy()
        if closed and due.grant.phase == "closed" and closed[0] + self.retention <= now:
            after.grant.add("erased")
        return Outcome(set(), None, after.settle(), [due])

    def sent(self, now: float, chunk: Chunk) -> Outcome:
        """What comes of a chunk: a track is the member's from its first chunk on, also if that is
        refused for its number."""
        after = self.copy()
        grant = after.grant
        grant.pass_time(now)
        sender, role, track, owner, kind, number, data = chunk
        codes = grant.against_chunk(sender, role, track, owner, kind)
        if codes:
            return Outcome(codes, None, after.settle(), [])
        grant.add("chunk", track, (owner, kind))
        admitted = after.settle().copy()
        there = after.content.get(track, [])
        if number < len(there):
            codes = set() if there[number] == data else {"conflict"}
            return Outcome(codes, None if codes else (len(there), False), after, [])
        if number > len(there):
            return Outcome({"next"}, len(there), after, [])
        after.content.setdefault(track, []).append(data)
        return Outcome(set(), (number + 1, True), after, [admitted])

    def read(self, now: float, who: str = "viewer", role: str = "viewer") -> Outcome:
        """What comes of reading its content."""
        after = self.copy()
        after.grant.pass_time(now)
        codes = after.grant.against_reading(who, role, is_content=True)
        return Outcome(codes, after.content, after, [])

    def manifest(self, now: float, who: str, role: str) -> Outcome:
        """What comes of asking for its manifest."""
        after = self.copy()
        after.grant.pass_time(now)
        codes = after.grant.against_reading(who, role, is_content=False)
        return Outcome(codes, None, after, [])

    def restarted(self, now: float, *, is_killed: bool) -> RecordingModel:
        """The recording after the process has started again."""
        after = self.copy()
        if is_killed:
            after.grant.time = after.stored_at
        after.grant.pass_time(now)
        if after.grant.phase not in ENDS:
            after.grant.add("closed", more="restarted")
        return after.settle()


class Outcome(NamedTuple):
    """What comes of a call: the codes by any of which it may be refused, or what it returns; what
    holds then; and what else may hold if the process is killed within it."""

    codes: set[str]
    result: Any
    after: RecordingModel
    between: list[RecordingModel]


def restarted(
    models: Iterable[RecordingModel], now: float, *, is_killed: bool
) -> list[RecordingModel]:
    """Return the models of a recording after a start, each once."""
    found: dict[Hashable, RecordingModel] = {}
    for model in models:
        after = model.restarted(now, is_killed=is_killed)
        found.setdefault(after.key(), after)
    return list(found.values())
