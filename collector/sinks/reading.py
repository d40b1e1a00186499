"""Looking at a store without changing anything: who delivers to it is not disturbed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from collector.errors import ConfigError, DeliveryError
from collector.sinks.connection import BUSY_SECONDS, guarded

__all__ = ["looked", "reading"]

_UNREADABLE = "the store cannot be read: it is damaged, or no store of ours"
_T = TypeVar("_T")


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that looks at one moment of a store's file, and cannot write to it. Tables of
    its own, and what sorting needs, are in memory only.

    Raises ``ConfigError`` E203 when there is no such file, ``DeliveryError`` E501 when it cannot be
    read; what is asked of it later is for ``looked`` to ask.
    """
    if not path.is_file():
        raise ConfigError("E203", "there is no store there; name its directory or its file")
    with closing(_connected(path)) as db:
        yield db


def looked(action: Callable[[], _T]) -> _T:
    """What an action sees that reads. Raises ``DeliveryError`` E501 or E503."""
    return guarded(action, "E501", _UNREADABLE)


def _connected(path: Path) -> sqlite3.Connection:
    place = f"{path.absolute().as_uri()}?mode=ro"
    for way in ("", "&immutable=1"):  # the latter where nobody may write, so nobody does
        with ExitStack() as stack, suppress(sqlite3.Error):
            uri = f"{place}{way}"
            db = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
            stack.callback(db.close)
            db.execute("PRAGMA temp_store = MEMORY")
            db.execute("PRAGMA trusted_schema = OFF")
            db.execute("BEGIN")
            db.execute("SELECT 1 FROM sqlite_master").fetchone()
            stack.pop_all()
            return db
    raise DeliveryError("E501", _UNREADABLE)
