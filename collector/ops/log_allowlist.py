"""Build log events from the members that an allowlist admits.

Collector's own log uses it with a table as its allowlist. An application's log can use it with a
schema (``collector.sdk.logs``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, Literal, NamedTuple, get_args

from structlog import DropEvent

from collector.ops.total import Total

LeftOut = Literal["message", "arguments", "exception", "stack", "unlisted"]
"""Parts of a log event that are left out: its message, unless the allowlist has it; arguments for
formatting it; an exception; the stack; and members that are not listed, which are counted."""

LEFT_OUT: tuple[LeftOut, ...] = get_args(LeftOut)

Members = dict[str, Any]
"""The members of a log event besides its message, by name."""

MESSAGE = "event"
"""The name of the message among members, as in structlog."""

_REASONS: dict[str, LeftOut] = {
    MESSAGE: "message",
    "positional_args": "arguments",
    "exc_info": "exception",
    "exception": "exception",
    "stack_info": "stack",
    "stack": "stack",
}
"""Members that structlog names, with the reason for leaving each out."""


def reason(name: str) -> LeftOut:
    """Return the reason for leaving out a member that is not in the allowlist."""
    return _REASONS.get(name, "unlisted")


class AdmittedMembers(NamedTuple):
    """The members that an allowlist admits (``None``: drop the event), and the names of all others,
    ``event`` for the message."""

    event: Members | None
    unknown: Iterable[str]


class AllowlistProcessor:
    """A structlog processor that passes on only what ``admit`` admits of a message and its members.

    Safe to use from several threads.
    """

    def __init__(self, admit: Callable[[Any, Members], AdmittedMembers]) -> None:
        self._admit = admit
        self._left_out = Total(Counter[LeftOut])

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __call__(self, _: Any, method: str, event: MutableMapping[str, Any]) -> Members:
        """Rebuild the event. Raises structlog's ``DropEvent`` if nothing is admitted."""
        members = {key: value for key, value in event.items() if type(key) is str}
        unnamed = len(event) - len(members)
        admitted, unknown = self._admit(members.pop(MESSAGE, None), members)
        self._left_out.add(Counter[LeftOut](map(reason, [*unknown, *[""] * unnamed])))
        if admitted is None:
            del event, members, unknown
            raise DropEvent
        return admitted

    def left_out(self) -> Counter[LeftOut]:
        """Return the counts of what was left out so far."""
        return self._left_out.sum()
