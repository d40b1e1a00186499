"""Refusals of the recorder: one closed table of codes, with what the caller should do next.

Each code has an HTTP status and a constant message. The answer repeats nothing of the request. Only
the code ``next`` adds something: the number of the chunk that the recorder expects.
"""

from __future__ import annotations

from typing import NamedTuple


class Meaning(NamedTuple):
    """The status and the message that belong to a code."""

    status: int
    message: str


REFUSALS: dict[str, Meaning] = {
    "malformed": Meaning(400, "the request is not well formed: correct it before it is sent again"),
    "expired": Meaning(401, "the token has expired: ask the platform for a new one"),
    "forbidden": Meaning(403, "the token's role or subject may not do this"),
    "not_found": Meaning(404, "not found, or no valid token for this meeting"),
    "announced": Meaning(409, "the recording has not started: discard the content until it does"),
    "paused": Meaning(409, "the recording is paused: discard the content until it is open again"),
    "pending": Meaning(409, "a member has not chosen yet: discard the content until the choice"),
    "left": Meaning(
        409, "a member is not in the recording: nothing is taken of or from the member"
    ),
    "closed": Meaning(409, "the recording is closed: a new one needs a new request by a host"),
    "erased": Meaning(409, "the recording has been erased"),
    "open": Meaning(409, "the recording is not closed: the host has to stop it first"),
    "next": Meaning(409, "the chunk is out of order: go on with the number under `next`"),
    "conflict": Meaning(409, "a chunk with this number and other content is there already"),
    "owner": Meaning(409, "the track belongs to another member: use a track of your own"),
    "kind": Meaning(409, "the grant does not cover this kind, or the track is of another kind"),
    "replayed": Meaning(409, "the token was used for another request: ask for a new one"),
    "notice": Meaning(409, "the digest is not of this recording's notice: fetch the notice"),
    "handover": Meaning(409, "no handover to this member is there to accept"),
    "too_large": Meaning(413, "more bytes, tracks or members than the recorder takes"),
    "terms": Meaning(422, "the terms are not valid: correct storage, recipient, kinds or times"),
    "busy": Meaning(429, "too many requests: wait, and send again"),
    "unavailable": Meaning(503, "the recorder cannot do this now: wait, and send again"),
    "full": Meaning(507, "the recorder has no room: wait, and send again"),
}
"""Code → status and message; a code never changes its meaning."""


class Refused(Exception):
    """A request was refused with a code of ``REFUSALS`` and changed nothing."""

    status: int
    message: str

    def __init__(self, code: str, *, next: int | None = None) -> None:  # noqa: A002
        """Refuse with a code; ``next`` is the number of the expected chunk, for the code ``next``.

        Raises ``KeyError`` for a code that is not in the table.
        """
        self.status, self.message = REFUSALS[code]
        self.code = code
        self.next = next
        super().__init__(f"{code}: {self.message}")
