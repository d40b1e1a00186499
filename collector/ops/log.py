"""The log: JSON on stderr, made of constants and counts only.

Events and members that are not in ``EVENTS`` are never written. Messages of libraries are counted
and never formatted, because they quote paths, headers and payloads. An unexpected error is logged
as its type, if that is Collector's or Python's own, and its place in Collector's code.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from select import select
from typing import Any, Literal, NamedTuple

import orjson
import structlog

from collector.config.sink_settings import is_sink_name
from collector.errors import CAUSES, CODES, is_answer
from collector.ops.error_log import LIBRARIES, ErrorLog
from collector.ops.log_allowlist import MESSAGE, AdmittedMembers, AllowlistProcessor, Members
from collector.ops.requests import REFUSING

Level = Literal["debug", "info", "warning", "error"]
EventName = Literal[
    "starting",
    "started",
    "stopping",
    "stopped",
    "sink_failing",
    "sink_recovered",
    "sink_absent",
    "sink_absent_done",
    "sink_skipping",
    "sink_skipping_done",
    "batches_set_aside",
    "spool_failing",
    "spool_recovered",
    "spool_full",
    "spool_has_room",
    "spool_damaged",
    "pruning_held",
    "pruning_done",
    "unsigned",
    "token_unhashed",
    "refused",
    "control_refused",
    "modes_tightened",
    "modes_loose",
    "grpc_unavailable",
    "reloaded",
    "reload_unchanged",
    "reload_refused",
    "reload_fault",
    "reload_failed",
    "worker_replaced",
    "worker_distrusted",
    "unconfined",
    "uploads_failing",
    "uploads_recovered",
    "disk_full",
    "disk_recovered",
    "keys_failing",
    "keys_recovered",
    "unexpected",
    "library",
    "unlisted",
]


class Event(NamedTuple):
    """One event of the log: its level, its meaning, and the names of its members."""

    level: Level
    meaning: str
    carries: tuple[str, ...] = ()


EVENTS: dict[EventName, Event] = {
    "starting": Event(
        "info",
        "the settings are sound: the data directory, the sinks and the workers are opened next",
        ("schemas", "sinks", "workers"),
    ),
    "started": Event(
        "info",
        "all receivers listen",
        ("http", "grpc", "admin", "unix", "recorder", "broker", "sinks"),
    ),
    "stopping": Event("info", "a signal came; nothing new is accepted", ("signal",)),
    "stopped": Event("info", "the process ends", ("delivered_all", "waiting", "seconds")),
    "sink_failing": Event(
        "warning",
        "a sink refused a batch, failed, or has not answered for a minute",
        ("sink", "failures", "cause", "answer"),
    ),
    "sink_recovered": Event("info", "the sink takes batches again", ("sink", "delivered")),
    "sink_absent": Event(
        "warning",
        "batches wait for a sink that the configuration does not have: they stay until it returns,"
        " or until `collector store drop`",
        ("sink", "waiting"),
    ),
    "sink_absent_done": Event(
        "info", "the last batch for a sink that the configuration does not have is gone", ("sink",)
    ),
    "sink_skipping": Event(
        "warning",
        "the share of a sink that skips is full: it misses what comes, and the ledger states it",
        ("sink", "waiting"),
    ),
    "sink_skipping_done": Event(
        "info",
        "the sink gets again what comes; `skipped` counts all records that it ever missed",
        ("sink", "skipped"),
    ),
    "batches_set_aside": Event(
        "error",
        "a sink will not take some batches: `collector store set-aside`",
        ("sink", "set_aside"),
    ),
    "spool_failing": Event(
        "error",
        "the data directory cannot be written: make room on its disk; senders get 503",
        ("code",),
    ),
    "spool_recovered": Event("info", "the data directory can be written again"),
    "spool_full": Event(
        "error",
        "the spool, or the share of this sink, is full because it takes nothing; senders get 503",
        ("code", "sink"),
    ),
    "spool_has_room": Event("info", "the spool has room again"),
    "spool_damaged": Event("warning", "damaged files of the spool were set aside", ("files",)),
    "unsigned": Event("warning", "the ledger's entries are not signed: no extra, or no key"),
    "token_unhashed": Event(
        "error",
        "a sender's token was refused: `auth.tokens` holds the token itself, where its SHA-256"
        " belongs",
        ("times",),
    ),
    "refused": Event(
        "debug",
        "a request was refused; with `times`, as many of them within a second",
        ("receiver", "code", "times"),
    ),
    "control_refused": Event(
        "warning",
        "a connection to the control socket was refused: another user, too many connections, or"
        " not a command",
        ("times",),
    ),
    "modes_tightened": Event(
        "warning", "others could read files or directories; only their owner can now", ("files",)
    ),
    "modes_loose": Event(
        "warning",
        "others can read or change files, keys or the data directory, and this process cannot or"
        " may not prevent it",
        ("files",),
    ),
    "grpc_unavailable": Event(
        "warning", "OTLP/gRPC is off: no extra; `grpc.address: off` turns this warning off"
    ),
    "reloaded": Event(
        "info",
        "a new configuration is in force, and new workers have replaced the old ones",
        ("seconds",),
    ),
    "reload_unchanged": Event("info", "the configuration was read again and has not changed"),
    "reload_refused": Event(
        "error",
        "the new configuration is refused and the old one stays in force. `reload_fault`, or"
        " `collector config reload`, says why",
        ("faults",),
    ),
    "reload_fault": Event(
        "error",
        "a fault of the refused configuration: its code and its place",
        ("code", "source", "line", "column"),
    ),
    "reload_failed": Event(
        "error",
        "the new configuration could not be put into force; the old one stays",
        ("code",),
    ),
    "worker_replaced": Event(
        "warning",
        "a worker ended unexpectedly and was replaced; senders repeat the requests that it had"
        " not answered",
        ("times",),
    ),
    "worker_distrusted": Event(
        "error", "a worker sent impossible data and was ended; please report", ("times",)
    ),
    "unconfined": Event(
        "warning",
        "the kernel cannot confine workers, and they run unconfined; `sandbox: required` refuses"
        " to start then, `sandbox: off` silences this warning",
    ),
    "uploads_failing": Event("warning", "uploads to the bucket of recordings fail; chunks wait"),
    "uploads_recovered": Event("info", "uploads to the bucket of recordings succeed again"),
    "disk_full": Event("error", "the disk of recordings has no room; chunks are refused"),
    "disk_recovered": Event("info", "the disk of recordings has room again"),
    "keys_failing": Event(
        "error", "the keys of `recorder.keys` cannot be read; the previous ones serve for a while"
    ),
    "keys_recovered": Event("info", "the keys of `recorder.keys` can be read again"),
    "pruning_held": Event(
        "warning",
        "expired data cannot be deleted: the disk is full, or a process reads an old state of the"
        " store",
    ),
    "pruning_done": Event("info", "expired data is deleted"),
    "unexpected": Event("error", "an unexpected error; please report", ("error", "place", "times")),
    "library": Event("warning", "a library logged a message", ("library", "times")),
    "unlisted": Event("error", "an event that is not in this table; please report"),
}


def _is_count(value: object) -> bool:
    return isinstance(value, bool | int | float)


_PLACE = re.compile(r"[a-z_.]{1,80}:[0-9]{1,6}").fullmatch
_ERROR = re.compile(r"[A-Za-z][A-Za-z0-9]{0,60}").fullmatch


def _is_place(value: object) -> bool:
    return isinstance(value, str) and (value == "elsewhere" or bool(_PLACE(value)))


def _is_sink(value: object) -> bool:
    return isinstance(value, str) and bool(is_sink_name(value))


def _is_error(value: object) -> bool:
    return isinstance(value, str) and bool(_ERROR(value))


VALUES: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(
        """admin broker column delivered delivered_all failures faults files grpc http line recorder
        schemas seconds set_aside signal sinks skipped times unix waiting workers""".split(),
        _is_count,
    ),
    "receiver": REFUSING.__contains__,
    "code": CODES.__contains__,
    "source": ("configuration", "environment", "schema").__contains__,
    "sink": _is_sink,
    "cause": CAUSES.__contains__,
    "answer": is_answer,
    "library": LIBRARIES.__contains__,
    "error": _is_error,
    "place": _is_place,
}
"""The test of each member's value. Numbers are ports, counts, seconds, signals and statuses."""


def fits(event: Event, key: str, value: object) -> bool:
    """Tell whether an event may carry the member with this value."""
    return key in event.carries and key in VALUES and _passes(VALUES[key], value)


def _passes(test: Callable[[object], bool], value: object) -> bool:
    return type(value) in (bool, int, float, str) and test(value)


_MOST_REFUSED = 100
"""The most lines about refused requests that one call writes separately."""
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class EventLog(ErrorLog):
    """The log of the process, on stderr. ``level`` is the lowest level that is written.

    May be used from any thread. It never raises: a log that cannot be written is ignored.
    """

    def __init__(self, level: str) -> None:
        self._to = sys.stderr
        self._times: Counter[tuple[str, str]] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self.use(level)

    def use(self, level: str) -> None:
        """Change the lowest level that is written."""
        self._is_debug = level == "debug"
        self._logger: Any = structlog.wrap_logger(
            structlog.WriteLogger(self._to),
            processors=[
                allowlist_processor,
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
                structlog.processors.JSONRenderer(serializer=_json),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
            cache_logger_on_first_use=True,
        )

    def write(self, name: EventName, **values: float | str) -> None:
        """Write one event of the table."""
        listed = EVENTS.get(name, EVENTS["unlisted"])
        with contextlib.suppress(OSError, ValueError):  # stderr is closed
            getattr(self._logger, listed.level)(name, **values)

    def error_at(self, kind: str, place: str) -> None:
        """Log an unexpected error: the first time, the second, the fourth, and so on."""
        if times := self._count(kind, place):
            self.write("unexpected", error=kind, place=place, times=times)

    def library(self, name: str) -> None:
        """Count a message of a library. It is logged as seldom as an error."""
        known = name.partition(".")[0]
        known = known if known in LIBRARIES else "other"
        if times := self._count("library", known):
            self.write("library", library=known, times=times)

    def refused(self, counts: Iterable[tuple[tuple[str, str], int]]) -> None:
        """At level ``debug``, write a line for each request that was refused since the last call.

        ``counts`` are pairs of receiver and code, each with the number of refusals until now. After
        ``_MOST_REFUSED`` lines, the remaining refusals of a receiver and code share one. If stderr
        is a pipe without room, the lines are written later, so nothing waits for its reader.
        """
        left = _MOST_REFUSED if self._is_debug else 0
        for key, times in counts if self._is_debug else ():
            receiver, code = key
            while times > self._refused[key] and self._has_room():
                new = 1 if left else times - self._refused[key]
                more = {"times": new} if new > 1 else {}
                self._refused[key] += new
                left = max(0, left - 1)
                self.write("refused", receiver=receiver, code=code, **more)

    def _has_room(self) -> bool:
        """Tell whether a line can be written at once."""
        try:
            return bool(select([], [self._to.fileno()], [], 0)[1])
        except (OSError, ValueError):  # not a file, or closed
            return True

    def _count(self, kind: str, place: str) -> int:
        """Count an occurrence; returns their number if it is a power of two, else 0."""
        key = (kind, place)
        with self._lock:
            self._times[key] += 1
            times = self._times[key]
        return times if times & (times - 1) == 0 else 0


def _admit(name: Any, members: Members) -> AdmittedMembers:
    """Admit an event of the table with the members that it may carry; any other becomes
    ``unlisted``."""
    listed: Event | None = EVENTS.get(name) if type(name) is str else None  # type: ignore[call-overload]
    if listed is None:
        return AdmittedMembers(
            {"level": EVENTS["unlisted"].level, "event": "unlisted"}, [MESSAGE, *members]
        )
    valid = {key: members[key] for key in listed.carries if key in members}
    valid = {key: value for key, value in valid.items() if fits(listed, key, value)}
    return AdmittedMembers(
        {"level": listed.level, "event": name, **valid}, members.keys() - valid.keys()
    )


allowlist_processor: AllowlistProcessor = AllowlistProcessor(_admit)
"""The first processor of every event of the log."""


def _json(event: dict[str, Any], **_: Any) -> str:
    first = {"time": event.pop("time", None)}
    return orjson.dumps(first | event).decode()
