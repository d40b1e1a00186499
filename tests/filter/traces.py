"""Where a value leaves traces: what exceptions, logs, streams and living objects hold."""

from __future__ import annotations

import gc
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import (
    BuiltinFunctionType,
    FrameType,
    FunctionType,
    MethodType,
    ModuleType,
    TracebackType,
)

import pytest

from collector.testing import canaries

CANARY = canaries(1)[0]
DIGITS = "73159026480917"
MARKS = (CANARY, DIGITS, CANARY.encode().hex(), CANARY.split("-")[-1])
"""Any of these in an output is a leak."""


def mentions(text: object) -> bool:
    """Whether a text or its bytes hold a canary."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return isinstance(text, str) and any(mark in text for mark in MARKS)


def is_ours(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name.startswith("collector") or frame.f_code.co_filename == "<filter>"


def told_by(error: BaseException, seen: frozenset[int] = frozenset()) -> Iterator[object]:
    """All that an error reporter gets out of an exception: texts, attributes, what it is chained
    to, and the local variables of our frames."""
    if id(error) in seen:
        return
    yield from (str(error), repr(error), repr(error.args), repr(getattr(error, "__notes__", "")))
    yield repr({name: getattr(error, name) for name in dir(error) if name[:1] != "_"})
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if is_ours(frame):
            yield from (repr(value) for value in frame.f_locals.values())
    for other in (error.__context__, error.__cause__):
        if other is not None:
            yield from told_by(other, seen | {id(error)})


def exceptions() -> list[BaseException]:
    """Every exception that is alive, also those in cycles that no one has collected yet."""
    return [one for one in gc.get_objects() if issubclass(type(one), BaseException)]


_NOT_OF_IT = (ModuleType, type, BuiltinFunctionType, FrameType, TracebackType, logging.Logger)


def reachable(start: object) -> Iterator[object]:
    """Everything that an object holds: members, closures, defaults; not the modules around it."""
    seen: set[int] = set()
    queue = [start]
    while queue:
        one = queue.pop()
        if id(one) in seen or isinstance(one, _NOT_OF_IT):
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, FunctionType):
            queue += [one.__closure__, one.__defaults__, one.__kwdefaults__, one.__dict__]
        elif isinstance(one, MethodType):
            queue += [one.__self__, one.__func__]
        else:
            queue += gc.get_referents(one)


class Log(logging.Handler):
    """Takes every log record of any level."""

    def __init__(self) -> None:
        super().__init__(0)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.getMessage()} {vars(record)}")


@contextmanager
def watched(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Nothing that is done inside is written, logged, or stays behind in an exception."""
    log, root = Log(), logging.getLogger()
    level = root.level
    root.addHandler(log)
    root.setLevel(0)
    gc.collect()
    gc.disable()
    before = exceptions()
    unraisable: list[object] = []
    hook, sys.unraisablehook = sys.unraisablehook, unraisable.append
    try:
        yield
        known = {id(one) for one in before}
        assert [type(one) for one in exceptions() if id(one) not in known] == []
        assert sys.exc_info() == (None, None, None)
        assert not any(mentions(repr(getattr(sys, name, ""))) for name in _LAST)
        assert unraisable == []
        assert log.lines == []
        assert capfd.readouterr() == ("", "")
    finally:
        sys.unraisablehook = hook
        gc.enable()
        root.removeHandler(log)
        root.setLevel(level)


_LAST = ("last_type", "last_value", "last_traceback", "last_exc")
