"""Log events, built anew from what an allowlist admits. Our own log goes through it, and so may an
application's (``collector.sdk.logs``): the allowlist of the one is a table, of the other a schema.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, Literal, NamedTuple, get_args

from structlog import DropEvent

from collector.ops.total import Total

__all__ = ["LEFT_OUT", "MESSAGE", "Kept", "LeftOut", "Listed", "Members", "reason"]

LeftOut = Literal["message", "arguments", "exception", "stack", "unlisted"]
"""What of a log event is left out: its message, unless the allowlist has it; what the message was
to be formatted with; an exception; the stack; and every member that is not listed, by number."""

LEFT_OUT: tuple[LeftOut, ...] = get_args(LeftOut)

Members = dict[str, Any]
"""What a log event holds beside its message, by name."""

MESSAGE = "event"
"""The name that the message has among members, as structlog has it."""

_REASONS: dict[str, LeftOut] = {
    MESSAGE: "message",
    "positional_args": "arguments",
    "exc_info": "exception",
    "exception": "exception",
    "stack_info": "stack",
    "stack": "stack",
}
"""structlog's own names."""


def reason(name: str) -> LeftOut:
    """Why a member that an allowlist does not know is left out."""
    return _REASONS.get(name, "unlisted")


class Kept(NamedTuple):
    """What an allowlist admits of an event (``None``: nothing), and the names of what it does not
    know, ``event`` for the message."""

    event: Members | None
    unknown: Iterable[str]


class Listed:
    """A structlog processor: an event goes on as what ``admit`` keeps of its message and its
    members, and as nothing else. Safe to use from several threads."""

    def __init__(self, admit: Callable[[Any, Members], Kept]) -> None:
        self._admit = admit
        self._left_out = Total(Counter[LeftOut])

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __call__(self, _: Any, method: str, event: MutableMapping[str, Any]) -> Members:
        """The event, built anew. Raises structlog's ``DropEvent`` if nothing is left of it."""
        members = {key: value for key, value in event.items() if type(key) is str}
        odd = len(event) - len(members)
        kept, unknown = self._admit(members.pop(MESSAGE, None), members)
        self._left_out.add(Counter[LeftOut](map(reason, [*unknown, *[""] * odd])))
        if kept is None:
            del event, members, unknown
            raise DropEvent
        return kept

    def left_out(self) -> Counter[LeftOut]:
        """What was left out so far, as counts."""
        return self._left_out.sum()
