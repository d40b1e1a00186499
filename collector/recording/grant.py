"""The grant: a host's permission to record, with each member's choice. It does no I/O.

The states, and what leads from one to the next:

- ``Requested`` → ``Announced``: the recorder has notices to show (``announce``).
- ``Announced`` → ``Open``: the host starts, however many members have chosen by then.
- ``Open`` ⇄ ``Paused``: the host pauses and resumes. A host who departs pauses at once; only
  the host, back in the meeting, or the heir who accepted resumes.
- Any of these → ``Closed``: the host stops; the host was absent for 60 seconds; the recording
  reached its maximum age; the process ended (the next one closes the grant).
- ``Closed`` → ``Erased``. Nothing leads back.

The rules:

- The platform's roster says which members are present; a host is present from his request on.
- A member is pending, then stays or leaves; a member who stays may leave at any time, and one who
  left never stays again in this recording. A member who joins late is pending; one who comes
  back has the choice of before. A choice to stay needs presence. A choice is by the member
  himself, with the digest of one of the recording's notices.
- A chunk is taken only while the grant is open, of a kind that it covers, and of a track whose
  owner is present and stays; from the owner or from media. A mixed track is taken from media only,
  while every present member stays. The first chunk of a track fixes its owner and its kind.
- A member who leaves after having stayed destroys his tracks and every mixed one, also after the
  recording was closed, also when he has departed. A destroyed track takes no chunk again.
- A handover names an heir; when the heir, who is present, accepts, he is the host.
- Of the hosts of a meeting, only this recording's host and the heir may read it.
- Time never goes back: a call counts as made at the latest time that the grant has seen. A grant
  closes at the time when it was due to, however late the next call comes.

Each method lets time pass first, and raises ``Refused`` without having changed anything else.
Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any, Literal

from collector.recording.names import MIXED, Kind, is_name, is_pseudonym
from collector.recording.refusals import Refused
from collector.recording.states import (
    STATES,
    Announced,
    Closed,
    CloseReason,
    Erased,
    GrantedTrack,
    Member,
    Open,
    Paused,
    Requested,
    State,
    Terms,
)

ABSENCE_SECONDS = 60.0
"""How long a recording waits for its absent host."""
MAX_MEMBERS = 2_000
MAX_TRACKS = 20_000
"""The most tracks of a recording, destroyed ones included."""
MAX_OWN_TRACKS = 256
"""The most tracks of one owner."""


class Grant:
    """One host's permission to record one meeting; see the rules at the top of this module.

    ``revision`` counts the changes, so that its owner can tell whether a call made one.
    """

    def __init__(self, terms: Terms, host: str, requested: float, longest_seconds: float) -> None:
        self.terms = terms
        self.host: str = host
        self.heir: str | None = None
        self.state: State = Requested()
        self.revision: int = 0
        self._digests: frozenset[str] = frozenset()
        self._requested = self._seen = requested
        self._longest = longest_seconds
        self._members = {host: Member()}
        self._tracks: dict[str, GrantedTrack] = {}

    @classmethod
    def request(cls, terms: Terms, host: str, now: float, *, longest_seconds: float) -> Grant:
        """Make the grant that a host asks for; it closes ``longest_seconds`` later at the latest.

        Raises ``Refused`` (``malformed``) for a host without a valid pseudonym.
        """
        if not is_pseudonym(host):
            raise Refused("malformed")
        return cls(terms, host, now, longest_seconds)

    @property
    def members(self) -> Mapping[str, Member]:
        """The members by pseudonym: present ones, and departed ones who have chosen."""
        return MappingProxyType(self._members)

    @property
    def tracks(self) -> Mapping[str, GrantedTrack]:
        """The tracks by name, destroyed ones included."""
        return MappingProxyType(self._tracks)

    # -- time ------------------------------------------------------------------------------------

    def tick(self, now: float) -> bool:
        """Let time pass, and return whether that closed the recording."""
        self._seen = max(self._seen, now)
        if isinstance(self.state, Closed | Erased) or self._seen < (due := self.due).at:
            return False
        self._change(due)
        return True

    @property
    def due(self) -> Closed:
        """When, and for which reason, the recording closes unless something happens before."""
        due = Closed(self._requested + self._longest, "expired")
        departed = self._members[self.host].departed
        if departed is not None and departed + ABSENCE_SECONDS < due.at:
            due = Closed(departed + ABSENCE_SECONDS, "host_absent")
        return due

    # -- the recorder and the platform -----------------------------------------------------------

    def announce(self, digests: Collection[str], now: float) -> None:
        """Take the digests of the notices that this recording shows; each choice names one of them.

        Raises ``ValueError`` without digests or for a grant that has been announced.
        """
        self._require_alive(now)
        if not digests or not isinstance(self.state, Requested):
            raise ValueError("a requested grant is announced once, with the digests of its notices")
        self._digests = frozenset(digests)
        self._change(Announced())

    def join(self, pseudonym: str, now: float) -> None:
        """Put a member on the roster."""
        self._require_alive(now)
        if not is_pseudonym(pseudonym):
            raise Refused("malformed")
        if pseudonym not in self._members and len(self._members) >= MAX_MEMBERS:
            raise Refused("too_large")
        member = self._members.get(pseudonym, Member())
        self._set_member(pseudonym, replace(member, departed=None))
        if pseudonym == self.host:
            self._end_absence()

    def depart(self, pseudonym: str, now: float) -> None:
        """Take a member off the roster; a host who departs pauses the recording.

        Nothing happens for a member who is not there, or when the recording is closed.
        """
        self.tick(now)
        member = self._members.get(pseudonym)
        if isinstance(self.state, Closed | Erased) or member is None or not member.is_present:
            return
        if pseudonym == self.host:
            if isinstance(self.state, Open | Paused):
                since = self.state.since if isinstance(self.state, Paused) else self._seen
                self._change(Paused(since, "host_absent"))
        elif member.choice == "pending":
            del self._members[pseudonym]  # there is no choice to remember
            self.revision += 1
            return
        self._set_member(pseudonym, replace(member, departed=self._seen))

    def close(self, reason: CloseReason, now: float) -> None:
        """Close the recording, if it is not closed."""
        if not self.tick(now) and not isinstance(self.state, Closed | Erased):
            self._change(Closed(self._seen, reason))

    def erase(self, now: float) -> None:
        """Forget members and tracks of a closed recording; a second time changes nothing.

        Raises ``Refused`` (``open``) for a recording that is not closed.
        """
        self.tick(now)
        if isinstance(self.state, Closed):
            self._members, self._tracks, self.heir = {}, {}, None
            self._change(Erased())
        elif not isinstance(self.state, Erased):
            raise Refused("open")

    # -- the host --------------------------------------------------------------------------------

    def start(self, by: str, now: float) -> None:
        """Open an announced grant; an open one stays open."""
        self._require_host(by, now)
        match self.state:
            case Announced():
                self._change(Open())
            case Requested():
                raise Refused("announced")
            case Paused():
                raise Refused("paused")

    def pause(self, by: str, now: float) -> None:
        """Pause an open grant; a paused one stays as it is."""
        self._require_host(by, now, must_be_present=False)
        self._require_started()
        if isinstance(self.state, Open):
            self._change(Paused(self._seen, "host"))

    def resume(self, by: str, now: float) -> None:
        """Open a paused grant again."""
        self._require_host(by, now)
        self._require_started()
        self._change(Open())

    def stop(self, by: str, now: float) -> None:
        """Close the grant."""
        self._require_host(by, now, must_be_present=False)
        self.close("stopped", now)

    def handover(self, by: str, to: str, now: float) -> None:
        """Name the heir, a present member; naming oneself takes a handover back."""
        self._require_host(by, now)
        self._require_present(to)
        self.heir = None if to == self.host else to
        self.revision += 1

    def accept(self, by: str, now: float) -> None:
        """Make the heir the host."""
        self._require_alive(now)
        if self.heir is None or by != self.heir:
            raise Refused("handover")
        self._require_present(by)
        self.host, self.heir = by, None
        self.revision += 1
        self._end_absence()

    # -- the members -----------------------------------------------------------------------------

    def choose(
        self, by: str, choice: Literal["stay", "leave"], notice_digest: str, now: float
    ) -> frozenset[str]:
        """Take a member's choice, and return the tracks to destroy."""
        self._require_not_erased(now)
        if notice_digest not in self._digests:
            raise Refused("notice")
        if choice == "leave":
            return self._leave(by)
        if choice != "stay":
            raise Refused("malformed")
        self._require_alive(now)
        self._require_present(by)
        if self._members[by].choice == "leave":
            raise Refused("left")
        self._set_member(by, Member("stay"))
        return frozenset()

    def withdraw(self, by: str, now: float) -> frozenset[str]:
        """Let a member leave, at any time until the erasure; return the tracks to destroy."""
        self._require_not_erased(now)
        return self._leave(by)

    def _leave(self, by: str) -> frozenset[str]:
        member = self._members.get(by)
        if member is None:
            raise Refused("left")
        self._set_member(by, replace(member, choice="leave"))
        if member.choice != "stay":
            return frozenset()
        found = [
            (name, track)
            for name, track in self._tracks.items()
            if track.owner in (by, MIXED) and not track.is_destroyed
        ]
        for name, track in found:
            self._set_track(name, replace(track, is_destroyed=True))
        return frozenset(name for name, _ in found)

    # -- content ---------------------------------------------------------------------------------

    def admit(  # noqa: PLR0917 - a chunk's facts, in the order of the request
        self, sender: str, role: str, track: str, owner: str, kind: str, now: float
    ) -> None:
        """Allow a chunk or raise ``Refused``; the first chunk of a track fixes owner and kind.

        ``sender`` and ``role`` are of the caller's token; ``owner`` is a pseudonym or ``MIXED``.
        """
        covered = self.check_chunk(sender, role, track, owner, kind, now)
        if track not in self._tracks:
            own = sum(each.owner == owner for each in self._tracks.values())
            if own >= MAX_OWN_TRACKS or len(self._tracks) >= MAX_TRACKS:
                raise Refused("too_large")
            self._set_track(track, GrantedTrack(owner, covered))

    def check_chunk(  # noqa: PLR0917
        self, sender: str, role: str, track: str, owner: str, kind: str, now: float
    ) -> Kind:
        """Return the kind of a chunk, or raise ``Refused`` if it would be refused whatever its
        content."""
        self._require_alive(now)
        if role not in ("participant", "host", "media") or (owner == MIXED and role != "media"):
            raise Refused("forbidden")
        if not is_name(track):
            raise Refused("malformed")
        known = self._tracks.get(track)
        if (role != "media" and owner != sender) or (known and known.owner != owner):
            raise Refused("owner")
        covered = next((each for each in self.terms.kinds if each == kind), None)
        if covered is None or (known and known.kind != covered):
            raise Refused("kind")
        self._require_started()
        if isinstance(self.state, Paused):
            raise Refused("paused")
        if known and known.is_destroyed:
            raise Refused("left")
        self._require_consent(owner)
        return covered

    def check_reader(self, by: str, role: str, now: float) -> None:
        """Raise ``Refused``: ``forbidden`` for the host of another recording of the meeting,
        ``erased`` if nothing is left to read.

        ``role`` is a role that may read. The heir may read before accepting, even if the recording
        was closed before that. A host who has handed over may not read.
        """
        self._require_not_erased(now)
        if role == "host" and by not in (self.host, self.heir):
            raise Refused("forbidden")

    def check_readable(self, now: float) -> None:
        """Raise ``Refused`` (``open``, ``erased``) unless the recording is closed."""
        self._require_not_erased(now)
        if not isinstance(self.state, Closed):
            raise Refused("open")

    def _require_consent(self, owner: str) -> None:
        if owner == MIXED:
            choices = {each.choice for each in self._members.values() if each.is_present}
        else:
            self._require_present(owner)
            choices = {self._members[owner].choice}
        if "leave" in choices:
            raise Refused("left")
        if "pending" in choices:
            raise Refused("pending")

    # -- storing ---------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the grant as a JSON object; it holds pseudonyms, so store it privately."""
        terms = asdict(self.terms) | {"kinds": sorted(self.terms.kinds)}
        return {
            "terms": terms,
            "host": self.host,
            "heir": self.heir,
            "state": {"name": type(self.state).__name__.lower(), **asdict(self.state)},
            "revision": self.revision,
            "digests": sorted(self._digests),
            "requested": self._requested,
            "longest": self._longest,
            "seen": self._seen,
            "members": {name: asdict(each) for name, each in self._members.items()},
            "tracks": {name: asdict(each) for name, each in self._tracks.items()},
        }

    @classmethod
    def restored(cls, snapshot: Mapping[str, Any]) -> Grant:
        """Make the grant of a snapshot again. A starting process closes it (``restarted``) as of
        its start, because content may have been added after the last change."""
        terms = Terms(**{**snapshot["terms"], "kinds": frozenset(snapshot["terms"]["kinds"])})
        grant = cls(terms, snapshot["host"], snapshot["requested"], snapshot["longest"])
        grant.heir = snapshot["heir"]
        state = dict(snapshot["state"])
        grant.state = STATES[state.pop("name")](**state)
        grant.revision = snapshot["revision"]
        grant._digests = frozenset(snapshot["digests"])
        grant._seen = snapshot["seen"]
        grant._members = {name: Member(**each) for name, each in snapshot["members"].items()}
        grant._tracks = {name: GrantedTrack(**each) for name, each in snapshot["tracks"].items()}
        return grant

    # -- conditions and changes ------------------------------------------------------------------

    def _require_not_erased(self, now: float) -> None:
        self.tick(now)
        if isinstance(self.state, Erased):
            raise Refused("erased")

    def _require_alive(self, now: float) -> None:
        self._require_not_erased(now)
        if isinstance(self.state, Closed):
            raise Refused("closed")

    def _require_started(self) -> None:
        if isinstance(self.state, Requested | Announced):
            raise Refused("announced")

    def _require_host(self, by: str, now: float, *, must_be_present: bool = True) -> None:
        self._require_alive(now)
        if by != self.host:
            raise Refused("forbidden")
        if must_be_present:
            self._require_present(by)

    def _require_present(self, pseudonym: str) -> None:
        member = self._members.get(pseudonym)
        if member is None or not member.is_present:
            raise Refused("left")

    def _end_absence(self) -> None:
        """Let the host who is present now decide when to resume."""
        if isinstance(self.state, Paused):
            self._change(replace(self.state, reason="host"))

    def _change(self, state: State) -> None:
        self.revision += self.state != state
        self.state = state

    def _set_member(self, pseudonym: str, member: Member) -> None:
        self.revision += self._members.get(pseudonym) != member
        self._members[pseudonym] = member

    def _set_track(self, name: str, track: GrantedTrack) -> None:
        self.revision += self._tracks.get(name) != track
        self._tracks[name] = track
