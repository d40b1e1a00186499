"""Remove events from the frames that an exception refers to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from traceback import clear_frames
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


def clear(error: BaseException) -> None:
    """Clear the variables of a failed call and of all its inner calls. The reference to the
    exception that it was handling is removed, because that may be an error about a value; the
    exception that the caller handles is kept."""
    clear_frames(error.__traceback__)
    handled = error.__context__
    with suppress(RuntimeError):  # the frame that caught the caller's exception is still running
        while handled is not None and handled.__traceback__ is not None:
            handled.__traceback__.tb_frame.clear()
            handled = handled.__context__
    error.__context__ = handled


def clearing(call: Callable[_P, _T]) -> Callable[_P, _T]:
    """Clear the variables of a call and of all its inner calls if it raises anything, such as an
    interrupt or an error from ``keys``. The exception propagates."""

    @wraps(call)
    def cleared(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return call(*args, **kwargs)
        except BaseException as error:
            del args, kwargs
            clear(error)
            raise

    return cleared
