"""A PostgreSQL server: connections, transactions, and its errors in words of our own.

Messages of the server may quote values, and are never shown: each SQLSTATE has a message here. A
transaction ends with its ``COMMIT`` answered, or its connection is dropped.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from collector.errors import Cause, CollectorError, Unreachable
from collector.sinks.memory_growth import LOOK_SECONDS, MemoryGrowth

__all__ = ["ANSWER_SECONDS", "Cursor", "DataRefused", "Server"]

Cursor = psycopg.Cursor[tuple[Any, ...]]
ANSWER_SECONDS = 50.0
"""How long a transaction may take: less than after which a sink counts as hung."""
_CONNECT_SECONDS = 5
_LONG_BYTES = 64 << 20
"""By which the process may grow besides, for other reasons, while a table is written anew."""
_FILES = Path("/proc/self/fd")
_SETTINGS = """
SET application_name = 'collector'; SET client_min_messages = 'error';
SET search_path = 'pg_catalog'; SET TimeZone = 'UTC'; SET DateStyle = 'ISO';
SET synchronous_commit = 'on'; SET jit = 'off'; SET statement_timeout = '45s';
SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s'
"""
"""Of each connection. A commit is durable whatever the default of the database is."""
_DATA = ("22", "23")
"""Classes of errors that concern the values of a batch."""
_NO_ANSWER = "the server does not answer"
_WORDS: dict[str, tuple[str, Cause]] = {
    "08": (_NO_ANSWER, "unreachable"),
    "25": ("the server takes no changes: it is a standby, or read-only", "refused"),
    "28": ("the server refuses the user or the password", "denied"),
    "3D": ("the server has no such database", "changed"),
    "40": ("another session was in the way", "busy"),
    "42": ("the role lacks a right, or the tables were changed; see docs/postgres.md", "changed"),
    "53": ("the server has no room: its disk is full, or it has too many connections", "full"),
    "54": ("the tables have more columns than the server can have", "changed"),
    "55": ("another session has locked the tables", "busy"),
    "57": ("the server is about to stop, or did not finish in time", "unreachable"),
}
_BY_STATE: dict[str, Cause] = {"42501": "denied", "53300": "busy"}
"""Where a whole SQLSTATE says more than its class: a right is lacking; too many connections."""
_OTHER: tuple[str, Cause] = ("the server failed", "refused")
_T = TypeVar("_T")


class DataRefused(Exception):
    """The server refused values of a batch."""


class Server:
    """The connection to a server, which is opened when it is needed, and again after an error.

    ``prepare`` is run in the first transaction of each connection.
    """

    def __init__(
        self,
        parameters: Mapping[str, str | int],
        prepare: Callable[[Cursor], None] | None = None,
        *,
        is_read_only: bool = False,
    ) -> None:
        self._parameters = dict(parameters)
        self._prepare = prepare
        self._is_read_only = is_read_only
        self._open: psycopg.Connection[tuple[Any, ...]] | None = None

    def __repr__(self) -> str:
        return f"<Server, {'closed' if self._open is None else 'connected'}>"

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._open is not None

    def run(
        self, action: Callable[[Cursor], _T], seconds: float | None = None, *, size: int = 0
    ) -> _T:
        """Run an action in a transaction; return its result when the server has committed it.
        ``size`` are the bytes that it makes of records.

        Raises ``Unreachable``, ``DataRefused``, and what the action raises of ours; then nothing
        is committed, or the server did not say so: an action must be one that can be repeated.
        """
        failure: Exception
        try:
            return self._run(action, ANSWER_SECONDS if seconds is None else seconds, size)
        except CollectorError:
            self.drop()
            raise
        except psycopg.Error as error:
            failure = _translated(error.sqlstate)
        except OSError:
            failure = Unreachable(_NO_ANSWER)
        except BaseException:
            self.drop()
            raise
        self.drop()
        raise failure

    def rows(self, query: sql.Composed, size: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a query, so many at a time, from one state of the database. Nothing
        else can be asked meanwhile. Raises ``Unreachable``."""
        self.run(_nothing)
        db = self._open
        if db is None:
            raise Unreachable(_NO_ANSWER)
        try:
            begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
            self._guarded(lambda: db.execute(begin))
            with db.cursor(name="collector") as cursor:
                self._guarded(lambda: cursor.execute(query))
                while some := self._guarded(lambda: cursor.fetchmany(size)):
                    yield some
        finally:
            self.drop()

    def drop(self) -> None:
        """Close the connection at once; the server rolls back what was not committed."""
        if self._open is not None:
            with suppress(psycopg.Error, OSError):
                self._open.close()
            self._open = None

    def _guarded(self, action: Callable[[], _T]) -> _T:
        """Run a single statement of a transaction that is open."""
        failure: Exception
        try:
            with self._deadline(ANSWER_SECONDS):
                return action()
        except psycopg.Error as error:
            failure = _translated(error.sqlstate)
        raise failure

    def _run(self, action: Callable[[Cursor], _T], seconds: float, size: int) -> _T:
        if self._open is None and self._prepare is not None:
            prepare = self._prepare
            self._connect()
            self._transact(prepare, ANSWER_SECONDS)
        self._connect()
        return self._transact(action, seconds, size)

    def _connect(self) -> None:
        if self._open is None:
            with _watched(2 * _CONNECT_SECONDS, partial(_cut_new, self._parameters, _sockets())):
                self._open = psycopg.connect(
                    **self._parameters,  # type: ignore[arg-type]
                    autocommit=True,
                    client_encoding="utf8",
                    connect_timeout=_CONNECT_SECONDS,
                    tcp_user_timeout=10_000,
                    keepalives_idle=10,
                    keepalives_interval=5,
                    keepalives_count=3,
                )
            with self._deadline(_CONNECT_SECONDS):
                self._open.execute(_SETTINGS)
                if self._is_read_only:
                    self._open.execute("SET default_transaction_read_only = 'on'")

    def _transact(self, action: Callable[[Cursor], _T], seconds: float, size: int = 0) -> _T:
        db = self._open
        if db is None:
            raise Unreachable(_NO_ANSWER)
        size += _LONG_BYTES if seconds > ANSWER_SECONDS else 0
        with self._deadline(seconds, size), db.cursor() as cursor:
            cursor.execute("BEGIN")
            result = action(cursor)
            cursor.execute("COMMIT")
            if cursor.statusmessage != "COMMIT":  # the server says ROLLBACK, and no error
                raise Unreachable("the server rolled the transaction back")
            return result

    @contextmanager
    def _deadline(self, seconds: float, size: int = 0) -> Iterator[None]:
        """Cut the connection if the server has not answered by then, as psycopg waits for ever; and
        if its answer to a delivery takes too much memory, as libpq reads a message to its end."""
        db = self._open
        if db is None:
            yield
            return
        with (
            socket.socket(fileno=os.dup(db.fileno())) as duplicate,
            _watched(seconds, partial(_cut, duplicate), size, self._prepare is not None),
        ):
            yield


def _nothing(_: Cursor) -> None:
    """Connect, and do nothing."""


@contextmanager
def _watched(
    seconds: float, cut: Callable[[], object], size: int = 0, is_bounded: bool = True
) -> Iterator[None]:
    """Cut a connection when the time is over, or the process's memory grows by too much more than
    ``size``."""
    ended, growth, end = threading.Event(), MemoryGrowth(size), monotonic() + seconds

    def watch() -> None:
        while not ended.wait(min(LOOK_SECONDS, max(end - monotonic(), 0.0))):
            if monotonic() >= end or (is_bounded and growth.is_too_much):
                cut()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _sockets() -> dict[str, int]:
    """Return the sockets of this process by their names, where the system tells."""
    found: dict[str, int] = {}
    with suppress(OSError):
        for each in _FILES.iterdir():
            with suppress(OSError):  # the file of this look itself is closed by then
                if (name := str(each.readlink())).startswith("socket:"):
                    found[name] = int(each.name)
    return found


def _cut_new(parameters: Mapping[str, str | int], known: Collection[str]) -> None:
    """Cut the connections to a server that were opened since: that at which psycopg is, which it
    does not show."""
    for name, number in _sockets().items():
        if name not in known:
            with suppress(OSError), socket.socket(fileno=os.dup(number)) as connection:
                if connection.getpeername()[1:2] == (parameters["port"],):
                    _cut(connection)


def _translated(state: str | None) -> Exception:
    """Return the error for an SQLSTATE; none is a connection that broke."""
    if state is not None and state[:2] in _DATA:
        return DataRefused()
    state = state or "08000"
    message, cause = _WORDS.get(state[:2], _OTHER)
    return Unreachable(message, _BY_STATE.get(state, cause))
