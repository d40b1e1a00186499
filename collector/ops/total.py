"""A sum that several threads add to."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class Total(Generic[_T]):
    """A sum that begins with ``zero()``. May be used from any thread and after a ``fork``, which
    never leaves it locked."""

    def __init__(self, zero: Callable[[], _T]) -> None:
        self._zero = zero
        self._sum: Any = zero()
        self._lock = threading.Lock()
        _ALL.add(self)

    def add(self, more: _T) -> None:
        """Add to the sum."""
        with self._lock:
            self._sum += more

    def sum(self) -> _T:
        """Return a copy of the sum."""
        copy: Any = self._zero()
        with self._lock:
            copy += self._sum
        return copy  # type: ignore[no-any-return]

    def unlock(self) -> None:
        """Replace the lock: a new process lacks the thread that held it."""
        self._lock = threading.Lock()


_ALL: weakref.WeakSet[Total[Any]] = weakref.WeakSet()


def _unlock_all() -> None:
    for total in list(_ALL):
        total.unlock()


os.register_at_fork(after_in_child=_unlock_all)
