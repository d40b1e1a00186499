"""A grant at one moment: its terms, its state, its members and its tracks.

Each state is a separate type with only the data of that state: an open grant has no reason for a
pause, and only a closed grant has a closing time.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from collector.recording.names import KINDS, Kind, Language, Medium, Storage, is_name
from collector.recording.refusals import Refused

Choice = Literal["pending", "stay", "leave"]
CloseReason = Literal["stopped", "host_absent", "expired", "restarted"]

_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}", re.ASCII).fullmatch


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the host asked for; invalid terms cannot be made (``Refused``, ``terms``).

    ``recipient`` is the host's age recipient for local storage, and ``None`` for cloud storage.
    ``retention`` is in seconds from the close.
    """

    meeting: str
    storage: Storage
    recipient: str | None
    kinds: frozenset[Kind]
    retention: float
    medium: Medium
    language: Language

    def __post_init__(self) -> None:
        is_valid = (
            is_name(self.meeting)
            and self.storage in get_args(Storage)
            and (self.recipient is None) == (self.storage == "cloud")
            and (self.recipient is None or _RECIPIENT(self.recipient) is not None)
            and bool(self.kinds)
            and self.kinds <= KINDS
            and 0 < self.retention < math.inf
            and self.medium in get_args(Medium)
            and self.language in get_args(Language)
        )
        if not is_valid:
            raise Refused("terms")

    def stated(self) -> dict[str, str]:
        """Return the terms as the manifest states them. They never change."""
        kinds = " ".join(sorted(self.kinds))
        return {"kinds": kinds, "storage": self.storage, "retention": repr(self.retention)}


@dataclass(frozen=True)
class Requested:
    """The host has asked; the notice is not ready yet."""


@dataclass(frozen=True)
class Announced:
    """Members can fetch the notice and choose; nothing is taken yet."""


@dataclass(frozen=True)
class Open:
    """Chunks are taken."""


@dataclass(frozen=True)
class Paused:
    """Nothing is taken until the host resumes."""

    since: float
    reason: Literal["host", "host_absent"]


@dataclass(frozen=True)
class Closed:
    """Nothing is taken any more. People with the right may read."""

    at: float
    reason: CloseReason


@dataclass(frozen=True)
class Erased:
    """Nothing is left."""


State = Requested | Announced | Open | Paused | Closed | Erased
STATES: dict[str, type[State]] = {
    each.__name__.lower(): each for each in (Requested, Announced, Open, Paused, Closed, Erased)
}


@dataclass(frozen=True)
class Member:
    """A member's choice, and since when the member is away; ``None`` while present."""

    choice: Choice = "pending"
    departed: float | None = None

    @property
    def is_present(self) -> bool:
        """Return whether the platform's roster has the member."""
        return self.departed is None


@dataclass(frozen=True)
class GrantedTrack:
    """What the first chunk of a track fixed, and whether a withdrawal destroyed the track."""

    owner: str
    kind: Kind
    is_destroyed: bool = False


StateName = Literal["requested", "announced", "open", "paused", "closed", "erased"]


class StateEvent(NamedTuple):
    """A change that members are told: its number, the new state, and the reason for a pause or a
    close. Numbers count from 1 within a recording."""

    number: int
    state: StateName
    reason: str | None

    @property
    def indicator(self) -> bool:
        """Whether content is recorded in this state."""
        return self.state == "open"
