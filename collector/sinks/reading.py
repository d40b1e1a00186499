"""Looking at a store without changing anything: who delivers to it is not disturbed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from collector.errors import ConfigError, DeliveryError
from collector.readonly import connect
from collector.sinks.connection import ALIEN, guarded, need_ours

__all__ = ["looked", "reading"]

_T = TypeVar("_T")


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that looks at one moment of a store's file, and cannot write to it. Tables of
    its own, and what sorting needs, are in memory only.

    Raises ``ConfigError`` E203 when there is no such file, ``DeliveryError`` when it cannot be read
    (E501) or is newer than we are (E502); what is asked of it later is for ``looked`` to ask.
    """
    if not path.is_file():
        raise ConfigError("E203", "there is no store there; name its directory or its file")
    db = connect(path)
    if db is None:
        raise DeliveryError("E501", ALIEN)
    with closing(db):
        need_ours(db)
        yield db


def looked(action: Callable[[], _T]) -> _T:
    """What an action sees that reads. Raises ``DeliveryError`` E501 or E503."""
    return guarded(action, "E501", ALIEN)
