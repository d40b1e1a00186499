"""A naive model of a grant: the list of what happened, from which each answer is worked out anew.

It has no state but the list and the time, and no order of conditions: it gives all the reasons that
speak against a call, and a grant may refuse by any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MIXED = "mixed"
LONGEST = 3600.0
ENDS = ("closed", "erased")


@dataclass
class Model:
    """What happened to a recording: time, event, member, and what else the event has."""

    host: str
    time: float
    events: list[tuple[float, str, str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.requested = self.time
        self.add("join", self.host)

    def add(self, what: str, who: str = "", more: Any = None, at: float | None = None) -> None:
        """Put an event at the end."""
        self.events.append((self.time if at is None else at, what, who, more))

    def before(self, place: int) -> Model:
        """The recording as it was before an event of the list."""
        earlier = Model(self.host, self.requested, self.events[:place])
        earlier.events = self.events[:place]
        return earlier

    def last(self, *whats: str, who: str | None = None) -> tuple[float, str, str, Any] | None:
        """The last event of some kinds, of a member where one is given."""
        found = [e for e in self.events if e[1] in whats and who in (None, e[2])]
        return found[-1] if found else None

    def has(self, what: str, who: str | None = None) -> bool:
        """Whether an event has happened."""
        return self.last(what, who=who) is not None

    # -- what holds now --------------------------------------------------------------------------

    @property
    def current_host(self) -> str:
        """The member who accepted last, or the one who asked."""
        accepted = self.last("accept")
        return accepted[2] if accepted else self.host

    @property
    def heir(self) -> str | None:
        """The member whom the last handover named, unless that was accepted or taken back."""
        event = self.last("handover", "accept", "erased")
        return event[3] if event and event[1] == "handover" and event[3] != event[2] else None

    def is_present(self, who: str) -> bool:
        """Whether the member joined and did not depart since."""
        event = self.last("join", "depart", who=who)
        return event is not None and event[1] == "join"

    def choice(self, who: str) -> str:
        """The member's choice."""
        return "leave" if self.has("leave", who) else "stay" if self.has("stay", who) else "pending"

    def is_known(self, who: str) -> bool:
        """Whether there is something to remember of a member."""
        left = [place for place, e in enumerate(self.events) if e[1:3] == ("depart", who)]
        was_host = bool(left) and self.before(left[-1]).current_host == who
        return self.is_present(who) or self.choice(who) != "pending" or was_host

    @property
    def phase(self) -> str:
        """The state's name."""
        phase = "requested"
        for place, (_, what, who, _) in enumerate(self.events):
            if what in ("announced", *ENDS):
                phase = what
            elif what in ("start", "resume"):
                phase = "open"
            elif what == "pause" or (
                what == "depart" and phase == "open" and self.before(place).current_host == who
            ):
                phase = "paused"
        return phase

    @property
    def tracks(self) -> dict[str, tuple[str, str]]:
        """The owner and the kind of each track: those of its first chunk."""
        found: dict[str, tuple[str, str]] = {}
        for _, what, track, more in self.events:
            if what == "chunk":
                found.setdefault(track, more)
        return found

    def destroyed_by(self, who: str, place: int) -> set[str]:
        """The tracks that a member's leaving destroyed, where that is the event at a place."""
        earlier = self.before(place)
        if earlier.choice(who) != "stay":
            return set()
        return {name for name, (owner, _) in earlier.tracks.items() if owner in (who, MIXED)}

    @property
    def destroyed(self) -> set[str]:
        """The tracks that are destroyed."""
        return {
            track
            for place, (_, what, who, _) in enumerate(self.events)
            if what == "leave"
            for track in self.destroyed_by(who, place)
        }

    def pass_time(self, now: float) -> None:
        """Let time pass, and close what is due."""
        self.time = max(self.time, now)
        if self.phase in ENDS:
            return
        due = [(self.requested + LONGEST, "expired")]
        if not self.is_present(self.current_host):
            departed = self.last("depart", who=self.current_host)
            assert departed is not None
            due.append((departed[0] + 60, "host_absent"))
        at, reason = min(due)
        if at <= self.time:
            self.add("closed", more=reason, at=at)

    def heard(self, owner: str) -> frozenset[str]:
        """The members whom a track has in it now: its owner, or all who are present."""
        joined = {event[2] for event in self.events if event[1] == "join"}
        return frozenset(filter(self.is_present, joined)) if owner == MIXED else frozenset({owner})

    # -- what speaks against a call --------------------------------------------------------------

    def against(self, call: str, who: str, more: Any = None) -> set[str]:
        """The reasons that speak against a call of a member."""
        phase, found = self.phase, set()
        if phase == "erased" or (phase == "closed" and call not in ("leave", "withdraw")):
            found.add(phase)
        if call in ("start", "pause", "resume", "stop", "handover"):
            found |= {"forbidden"} if who != self.current_host else set()
        if call in ("start", "resume", "handover", "stay", "accept") and not self.is_present(who):
            found.add("left")
        if call in ("pause", "resume") and phase in ("requested", "announced"):
            found.add("announced")
        if call == "start":
            found |= {"requested": {"announced"}, "paused": {"paused"}}.get(phase, set())
        if call == "handover" and not self.is_present(more):
            found.add("left")
        if call == "accept" and who != self.heir:
            found.add("handover")
        if call in ("stay", "leave") and not (self.has("announced") and more):
            found.add("notice")
        if call == "stay" and self.choice(who) == "leave":
            found.add("left")
        if call in ("leave", "withdraw") and not self.is_known(who):
            found.add("left")
        return found

    def against_reading(self, who: str, role: str, *, is_content: bool) -> set[str]:
        """The reasons that speak against reading, by a caller whose role may read at all: the
        content, or what is known of it at any time."""
        phase, found = self.phase, set()
        if phase == "erased":
            found.add("erased")
        elif role == "host" and who not in (self.current_host, self.heir):
            found.add("forbidden")
        if is_content and phase not in ENDS:
            found.add("open")
        return found

    def against_chunk(self, who: str, role: str, track: str, owner: str, kind: str) -> set[str]:
        """The reasons that speak against a chunk."""
        found: set[str] = set()
        if self.phase != "open":
            found.add("announced" if self.phase == "requested" else self.phase)
        if role not in ("host", "participant", "media") or (owner == MIXED and role != "media"):
            found.add("forbidden")
        first_owner, first_kind = self.tracks.get(track, (owner, kind))
        if first_owner != owner or (role != "media" and who != owner):
            found.add("owner")
        if first_kind != kind or kind not in ("audio", "video"):
            found.add("kind")
        if track in self.destroyed:
            found.add("left")
        for member in self.heard(owner):
            if not self.is_present(member):
                found.add("left")
            elif (choice := self.choice(member)) != "stay":
                found.add({"pending": "pending", "leave": "left"}[choice])
        return found
