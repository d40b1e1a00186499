"""The log: JSON on stderr, made of constants and counts alone.

What is not in the table of ``collector.ops.events`` is not written, whoever asks for it. Messages
of libraries are counted and never formatted: they quote paths, headers and payloads. An error that
nobody expected leaves its type, if that is ours or Python's own, and its place in our code.
"""

from __future__ import annotations

import builtins
import contextlib
import logging
import sys
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

import orjson
import structlog

from collector import errors
from collector.ops.events import EVENTS, LIBRARIES, Event, EventName, fits
from collector.ops.listed import MESSAGE, Kept, Listed, Members

__all__ = ["Log", "Silence", "only_listed", "place_of", "type_of"]

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_ELSEWHERE = "elsewhere"
_PACKAGE = __name__.partition(".")[0]


class Log:
    """What the process says. ``level`` is the least that is said; ``to`` is stderr by default.

    May be used from any thread. It never raises: a log that cannot be written is no reason to stop.
    """

    def __init__(self, level: str = "info", to: TextIO | None = None) -> None:
        self._write: Any = structlog.wrap_logger(
            structlog.WriteLogger(to or sys.stderr),
            processors=[
                only_listed,
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
                structlog.processors.JSONRenderer(serializer=_json),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
            cache_logger_on_first_use=True,
        )
        self._times: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "<Log>"

    def say(self, name: EventName, **values: float | str) -> None:
        """Write one event of the table."""
        listed = EVENTS.get(name, EVENTS["unlisted"])
        with contextlib.suppress(OSError, ValueError):  # nobody reads stderr any more
            getattr(self._write, listed.level)(name, **values)

    def unexpected(self, error: BaseException) -> None:
        """Say that something failed which should not: its type and place, at the first time, the
        second, the fourth and so on."""
        kind, place = type_of(type(error)), place_of(error.__traceback__)
        if times := self._counted(kind, place):
            self.say("unexpected", error=kind, place=place, times=times)

    def library(self, name: str) -> None:
        """Count a library's message; said as seldom as errors are."""
        known = name.partition(".")[0]
        known = known if known in LIBRARIES else "other"
        if times := self._counted("library", known):
            self.say("library", library=known, times=times)

    def _counted(self, *what: str) -> int:
        """How often that was, if it is time to say so, else 0."""
        key = (what[0], what[1])
        with self._lock:
            self._times[key] += 1
            times = self._times[key]
        return times if times & (times - 1) == 0 else 0


def _in_the_table(name: Any, members: Members) -> Kept:
    """An event of the table with what it may carry; any other leaves no trace but the word
    ``unlisted``."""
    listed: Event | None = EVENTS.get(name) if type(name) is str else None  # type: ignore[call-overload]
    if listed is None:
        return Kept({"level": EVENTS["unlisted"].level, "event": "unlisted"}, [MESSAGE, *members])
    sound = {key: members[key] for key in listed.carries if key in members}
    sound = {key: value for key, value in sound.items() if fits(listed, key, value)}
    return Kept({"level": listed.level, "event": name, **sound}, members.keys() - sound.keys())


only_listed: Listed = Listed(_in_the_table)
"""The processor behind the promise."""


def _json(event: dict[str, Any], **_: Any) -> str:
    first = {"time": event.pop("time", None)}
    return orjson.dumps(first | event).decode()


def type_of(kind: type[BaseException]) -> str:
    """The name of an exception's type if it is Python's own or ours, else that of the nearest base
    that is."""
    for base in kind.__mro__:
        name: str = base.__name__
        if base in (getattr(builtins, name, None), getattr(errors, name, None)):
            return name
    return "Exception"


def place_of(trace: TracebackType | None) -> str:
    """Where in our code an error arose, as ``module:line``; ``elsewhere`` if it was not ours."""
    found = _ELSEWHERE
    for frame, line in traceback.walk_tb(trace):
        module = frame.f_globals.get("__name__")
        if isinstance(module, str) and module.partition(".")[0] == _PACKAGE:
            found = f"{module}:{line}"
    return found


class Silence(logging.Handler):
    """The only handler of the ``logging`` module: counts, and formats nothing."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record. Its message and arguments are not looked at."""
        self._log.library(record.name)

    def install(self) -> None:
        """Silence the process: loggers, warnings, and whatever reports errors by itself."""
        logging.raiseExceptions = False
        logging.lastResort = None
        root = logging.getLogger()
        _only(root, self)
        for name in list(logging.Logger.manager.loggerDict):
            _only(logging.getLogger(name), None)
        root.setLevel(logging.WARNING)
        warnings.showwarning = lambda *_, **__: self._log.library("warnings")
        sys.excepthook = lambda _kind, error, _trace: self._log.unexpected(error)
        threading.excepthook = lambda told: _told(self._log.unexpected, told.exc_value)
        sys.unraisablehook = lambda told: _told(self._log.unexpected, told.exc_value)


def _only(logger: logging.Logger, handler: logging.Handler | None) -> None:
    logger.handlers[:] = [handler] if handler else []
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
    logger.disabled = False


def _told(say: Callable[[BaseException], None], error: BaseException | None) -> None:
    if error is not None:
        say(error)
