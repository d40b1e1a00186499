"""Leave nothing of an event in the frames that an exception refers to."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from traceback import clear_frames
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


def clearing(call: Callable[_P, _T]) -> Callable[_P, _T]:
    """Clear the variables of a call, and of all that it has called, where it raises anything: an
    interrupt, or what ``keys`` of pseudonyms raise. The exception goes on."""

    @wraps(call)
    def cleared(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return call(*args, **kwargs)
        except BaseException as error:
            del args, kwargs
            clear_frames(error.__traceback__)
            raise

    return cleared
