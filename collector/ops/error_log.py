"""Errors that nothing else handles, and messages of libraries: what may be known about them.

An unexpected error is reduced to its type, if that is Collector's or Python's own, and its place in
Collector's code. Messages of libraries are counted and never formatted, because they quote paths,
headers and payloads.
"""

from __future__ import annotations

import builtins
import logging
import sys
import threading
import traceback
import warnings
from types import TracebackType

from collector import errors

LIBRARIES = frozenset({"grpc", "asyncio", "concurrent", "warnings", "other"})
"""Libraries whose messages are counted by name."""

_ELSEWHERE = "elsewhere"
_PACKAGE = __name__.partition(".")[0]


class ErrorLog:
    """Takes what no part of the program handles: unexpected errors, and messages of libraries."""

    def unexpected(self, error: BaseException) -> None:
        """Take the type and place of an unexpected error."""
        self.error_at(type_of(type(error)), place_of(error.__traceback__))

    def error_at(self, kind: str, place: str) -> None:
        """Take the results of ``type_of`` and ``place_of``."""
        raise NotImplementedError

    def library(self, name: str) -> None:
        """Count a message of a library."""
        raise NotImplementedError


def type_of(kind: type[BaseException]) -> str:
    """Return the name of an exception's type or, if that is neither Python's nor Collector's, of
    its nearest base that is."""
    for base in kind.__mro__:
        name: str = base.__name__
        if base in (getattr(builtins, name, None), getattr(errors, name, None)):
            return name
    return "Exception"


def place_of(trace: TracebackType | None) -> str:
    """Return where in Collector's code an error arose, as ``module:line``, or ``elsewhere``."""
    found = _ELSEWHERE
    for frame, line in traceback.walk_tb(trace):
        module = frame.f_globals.get("__name__")
        if isinstance(module, str) and module.partition(".")[0] == _PACKAGE:
            found = f"{module}:{line}"
    return found


class LibraryLogHandler(logging.Handler):
    """The only handler of the ``logging`` module: counts messages, and formats none."""

    def __init__(self, log: ErrorLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record, without its message and arguments."""
        self._log.library(record.name)

    def install(self) -> None:
        """Replace the handlers of loggers, warnings and uncaught exceptions."""
        logging.raiseExceptions = False
        logging.lastResort = None
        root = logging.getLogger()
        _reset(root, self)
        for name in list(logging.Logger.manager.loggerDict):
            _reset(logging.getLogger(name), None)
        root.setLevel(logging.WARNING)
        warnings.showwarning = lambda *_, **__: self._log.library("warnings")
        sys.excepthook = lambda _kind, error, _trace: self._log.unexpected(error)
        threading.excepthook = lambda hook: _report(self._log, hook.exc_value)
        sys.unraisablehook = lambda hook: _report(self._log, hook.exc_value)


def _reset(logger: logging.Logger, handler: logging.Handler | None) -> None:
    logger.handlers[:] = [handler] if handler else []
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
    logger.disabled = False


def _report(log: ErrorLog, error: BaseException | None) -> None:
    if error is not None:
        log.unexpected(error)
