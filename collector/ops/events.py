"""What the log can say: the closed table of events, their levels, and what each may carry.

A value is a number, or a word of a closed list; there is no way to log a text that somebody sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

__all__ = ["EVENTS", "LIBRARIES", "SINKS", "VALUES", "Event", "EventName", "fits"]

Level = Literal["debug", "info", "warning", "error"]
EventName = Literal[
    "started",
    "stopping",
    "stopped",
    "sink_failing",
    "sink_recovered",
    "spool_failing",
    "spool_recovered",
    "spool_damaged",
    "pruning_held",
    "pruning_done",
    "unsigned",
    "unexpected",
    "library",
    "unlisted",
]

SINKS = frozenset({"store", "ndjson"})
LIBRARIES = frozenset({"uvicorn", "grpc", "asyncio", "concurrent", "warnings", "other"})
"""Libraries whose own messages are counted and not written."""


class Event(NamedTuple):
    """One thing that the log can say: how important it is, what it means, what it carries."""

    level: Level
    meaning: str
    carries: tuple[str, ...] = ()


EVENTS: dict[EventName, Event] = {
    "started": Event("info", "everything listens", ("http", "grpc", "admin", "unix", "sinks")),
    "stopping": Event("info", "a signal came; nothing new is accepted", ("signal",)),
    "stopped": Event("info", "the end", ("delivered_all", "waiting", "seconds")),
    "sink_failing": Event("warning", "a sink did not take a batch", ("sink", "failures")),
    "sink_recovered": Event("info", "it takes batches again", ("sink", "delivered")),
    "spool_failing": Event("error", "the spool takes nothing; senders are asked to come again"),
    "spool_recovered": Event("info", "the spool takes batches again"),
    "spool_damaged": Event("warning", "damaged files of the spool were set aside", ("files",)),
    "unsigned": Event("warning", "the ledger's entries are not signed: no extra, or no key"),
    "pruning_held": Event(
        "warning",
        "bytes that should be gone are there: somebody reads an old state of the store, or the disk"
        " has no room",
    ),
    "pruning_done": Event("info", "they are gone"),
    "unexpected": Event("error", "an error of ours; please report", ("error", "place", "times")),
    "library": Event("warning", "a library had something to say", ("library", "times")),
    "unlisted": Event("error", "an event that is not in this table; please report"),
}


def _is_count(value: object) -> bool:
    return isinstance(value, bool | int | float)


_PLACE = re.compile(r"[a-z_.]{1,80}:[0-9]{1,6}").fullmatch
_ERROR = re.compile(r"[A-Za-z][A-Za-z0-9]{0,60}").fullmatch


def _is_place(value: object) -> bool:
    return isinstance(value, str) and (value == "elsewhere" or bool(_PLACE(value)))


def _is_error(value: object) -> bool:
    return isinstance(value, str) and bool(_ERROR(value))


VALUES: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(
        """admin delivered delivered_all failures files grpc http seconds signal sinks times unix
        waiting""".split(),
        _is_count,
    ),
    "sink": SINKS.__contains__,
    "library": LIBRARIES.__contains__,
    "error": _is_error,
    "place": _is_place,
}
"""What each key may hold. Numbers are ports, counts, seconds and the number of a signal."""


def fits(event: Event, key: str, value: object) -> bool:
    """Whether an event may carry that."""
    return key in event.carries and key in VALUES and _holds(VALUES[key], value)


def _holds(test: Callable[[object], bool], value: object) -> bool:
    return type(value) in (bool, int, float, str) and test(value)
