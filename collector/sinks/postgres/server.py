"""A PostgreSQL server: connections, transactions, and its errors in our own words.

The server's messages may quote values, so we never show them: each SQLSTATE has a message here.
psycopg gives no SQLSTATE for a failed login, and the server's message is in the server's language.
So we make libpq report only the SQLSTATE, from the first message on. If the server says nothing at
all, we look at its certificate.

A transaction ends when the server answers ``COMMIT``. Otherwise the connection is dropped.
"""

from __future__ import annotations

import ctypes
import os
import re
import selectors
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo
from psycopg.errors import lookup

from collector.errors import Cause, CollectorError, ConfigError, DeliveryError, Unreachable

Cursor = psycopg.Cursor[tuple[Any, ...]]
_Connection = psycopg.Connection[tuple[Any, ...]]
ANSWER_SECONDS = 50.0
"""How long a transaction may take: less than the time after which a sink counts as hung."""
_CONNECT_SECONDS = 5
_PROBE_SECONDS = 60.0
"""How often we probe whether a server is alive, while it takes longer to answer."""
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""The server answers this with a byte before a login; see "SSLRequest" in its protocol."""
_OPTIONS: Mapping[str, str | int] = {
    "client_encoding": "utf8",
    "hostaddr": "",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Further parameters for libpq. They keep the environment (``PGHOSTADDR``) from naming another
server, and notice a broken connection within half a minute."""
_SETTINGS = """
SET application_name = 'collector'; SET client_min_messages = 'error';
SET search_path = 'pg_catalog'; SET TimeZone = 'UTC'; SET DateStyle = 'ISO';
SET synchronous_commit = 'on'; SET jit = 'off'; SET statement_timeout = '45s';
SET default_transaction_isolation = 'read committed';
SET row_security = 'off'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s'
"""
"""The settings of each connection. Whatever the database's defaults, a commit is durable, and each
statement sees what others have committed before it. It fails if a policy would hide rows."""
_DATA = ("22", "23")
"""Classes of errors that concern the values of a batch, if values were sent."""
_NO_ANSWER = "the server does not answer"
_BROKE_OFF = "the server ended the connection before the login was over"
_UNGIVEN = "the server wants a password, and none is configured"
_NO_ENCRYPTION = "the server offers no encryption, which `sslmode` asks for"
_NO_CA = "the file of `ca` cannot be read, or has no certificate in it"
_CERTIFICATE = "the server's certificate is not valid"
_CERTIFICATES = {
    10: "the server's certificate has expired",
    18: "no trusted authority has signed the server's certificate; see `ca`",
    19: "no trusted authority has signed the server's certificate; see `ca`",
    20: "no trusted authority has signed the server's certificate; see `ca`",
    21: "no trusted authority has signed the server's certificate; see `ca`",
    62: "the server's certificate is for another name than that in `url`",
    64: "the server's certificate is for another name than that in `url`",
}
"""Messages by OpenSSL's error number, `X509_V_ERR_…`."""
_OF_OTHERS: tuple[str, Cause] = (
    "rows or constraints of others are in the way: move or drop them, see docs/stores.md",
    "changed",
)
_WORDS: dict[str, tuple[str, Cause]] = {
    "08": (_NO_ANSWER, "unreachable"),
    "22": _OF_OTHERS,
    "23": _OF_OTHERS,
    "25": ("the server takes no changes: it is a standby, or read-only", "refused"),
    "28": ("the server refuses the user or the password", "denied"),
    "3D": ("the server has no such database", "missing"),
    "40": ("another session was in the way", "busy"),
    "42": ("the role lacks a right, or the tables were changed; see docs/stores.md", "changed"),
    "53": ("the server has no room: its disk is full, or it has too many connections", "full"),
    "54": ("the tables have more columns than the server can have", "changed"),
    "55": ("another session has locked the tables", "busy"),
    "57": ("the server is about to stop, or did not finish in time", "unreachable"),
}
_BY_STATE: dict[str, Cause] = {"42501": "denied", "53300": "busy"}
"""SQLSTATEs that say more than their classes: a missing right; too many connections."""
_OTHER: tuple[str, Cause] = ("the server failed", "refused")
_SQLSTATES_ONLY = 3
"""``PQERRORS_SQLSTATE`` of libpq 12 or newer."""
_REPORTED = re.compile(rb":  ([0-9A-Z]{5})\s*\Z")
"""Matches the end of libpq's error of a login then: severity (in the server's language) and
SQLSTATE."""
_T = TypeVar("_T")


class DataRefused(DeliveryError):
    """The server refused values."""

    def __init__(self) -> None:
        super().__init__("E503", "the server refused a value", "batch")


class Server:
    """The connection to a server. It is opened when it is needed, and again after an error.

    ``prepare`` runs in the first transaction of each connection.
    """

    def __init__(
        self,
        parameters: Mapping[str, str | int],
        prepare: Callable[[Cursor], None] | None = None,
    ) -> None:
        self._parameters = dict(parameters)
        self._prepare = prepare
        self._open: _Connection | None = None

    def __repr__(self) -> str:
        return f"<Server, {'closed' if self._open is None else 'connected'}>"

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._open is not None

    def connect(self) -> None:
        """Connect, if there is no connection. Raises as ``run``."""
        if self._open is None:
            self.run(lambda _: None)

    def run(
        self,
        action: Callable[[Cursor], _T],
        seconds: float | None = None,
        *,
        has_values: bool = False,
    ) -> _T:
        """Run an action in a transaction; return its result when the server has committed it. The
        transaction may take ``seconds``, by default ``ANSWER_SECONDS``.

        Raises ``Unreachable``, ``DataRefused`` if the action ``has_values`` of a batch, and our
        errors that the action raises. Then nothing was committed, or the server did not confirm it.
        So an action must be repeatable.
        """
        failure: Exception
        try:
            if self._open is None and self._prepare is not None:
                self._transact(self._connected(), self._prepare, ANSWER_SECONDS)
            most = ANSWER_SECONDS if seconds is None else seconds
            return self._transact(self._connected(), action, most)
        except CollectorError:
            self.drop()
            raise
        except psycopg.Error as error:
            failure = _translated(error.sqlstate, has_values=has_values)
        except OSError:
            failure = Unreachable(_NO_ANSWER)
        except BaseException:
            self.drop()
            raise
        self.drop()
        raise failure

    def rows(
        self,
        query: sql.Composed,
        size: int,
        values: Mapping[str, str] | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a query from one state of the database, ``size`` at a time. Each part
        may take ``seconds``. Meanwhile the connection cannot run anything else. Raises
        ``Unreachable``."""
        self.connect()
        db = self._connected()
        try:
            begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
            self._guarded(db, lambda: db.execute(begin))
            with db.cursor(name="collector") as cursor:
                self._guarded(db, lambda: cursor.execute(query, values), seconds)
                while some := self._guarded(db, lambda: cursor.fetchmany(size), seconds):
                    yield some
        finally:
            self.drop()

    def drop(self) -> None:
        """Close the connection at once. The server rolls back an open transaction."""
        if self._open is not None:
            with suppress(psycopg.Error, OSError):
                self._open.close()
            self._open = None

    def _guarded(
        self, db: _Connection, action: Callable[[], _T], seconds: float = ANSWER_SECONDS
    ) -> _T:
        """Run a single statement of a transaction that reads records."""
        failure: Exception
        try:
            with self._deadline(db, seconds):
                return action()
        except psycopg.Error as error:
            failure = _translated(error.sqlstate)
        raise failure

    def _connected(self) -> _Connection:
        """Return the connection; open one if there is none."""
        if self._open is not None:
            return self._open
        login = _login(make_conninfo("", **self._parameters, **_OPTIONS))
        if login.status != pq.ConnStatus.OK:
            state, needs_password = _state_of(login), login.needs_password
            login.finish()
            if state is not None:
                raise _translated(state)
            raise Unreachable(_UNGIVEN, "denied") if needs_password else self._silence()
        login.nonblocking = 1  # as psycopg has it
        self._open = db = psycopg.Connection(login)
        db.autocommit = True
        with self._deadline(db, _CONNECT_SECONDS):
            db.execute(_SETTINGS)
        return db

    def _dial(self) -> socket.socket:
        """Connect to the server."""
        host, port = str(self._parameters["host"]), int(self._parameters["port"])
        if not host.startswith("/"):
            return socket.create_connection((host, port), _CONNECT_SECONDS)
        found = socket.socket(socket.AF_UNIX)
        try:
            found.settimeout(_CONNECT_SECONDS)
            found.connect(f"{host}/.s.PGSQL.{port}")
        except BaseException:
            found.close()
            raise
        return found

    def _silence(self) -> Unreachable:
        """Return why a login failed without an SQLSTATE: nobody answers, or the certificate is
        wrong, which libpq reports only in words."""
        mode = self._parameters["sslmode"]
        try:
            with self._dial() as probe:
                probe.settimeout(_CONNECT_SECONDS)
                probe.sendall(_SSL_REQUEST)
                offered = probe.recv(1)
                if offered == b"N" and mode in ("require", "verify-ca", "verify-full"):
                    return Unreachable(_NO_ENCRYPTION, "certificate")
                if offered != b"S" or mode != "verify-full":
                    return Unreachable(_BROKE_OFF if offered else _NO_ANSWER)
                root = str(self._parameters["sslrootcert"])
                try:
                    context = ssl.create_default_context(cafile=None if root == "system" else root)
                except OSError:
                    return Unreachable(_NO_CA, "certificate")
                with context.wrap_socket(probe, server_hostname=str(self._parameters["host"])):
                    return Unreachable(_BROKE_OFF)
        except ssl.SSLCertVerificationError as error:
            message = _CERTIFICATES.get(error.verify_code, _CERTIFICATE)
            return Unreachable(message, "certificate")
        except OSError:
            return Unreachable(_NO_ANSWER)

    def _transact(self, db: _Connection, action: Callable[[Cursor], _T], seconds: float) -> _T:
        with self._deadline(db, seconds), db.cursor() as cursor:
            cursor.execute("BEGIN")
            if seconds > ANSWER_SECONDS:
                limit = sql.Literal(int(1000 * seconds))
                cursor.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(limit))
            result = action(cursor)
            cursor.execute("COMMIT")
            if cursor.statusmessage != "COMMIT":  # the server answers ROLLBACK without an error
                raise Unreachable("the server rolled the transaction back")
            return result

    @contextmanager
    def _deadline(self, db: _Connection, seconds: float) -> Iterator[None]:
        """Shut the connection down if a block takes longer than ``seconds``, because psycopg would
        wait forever, or if the server stops answering meanwhile."""
        done, end = threading.Event(), socket.socket(fileno=os.dup(db.fileno()))
        threading.Thread(target=self._watch, args=(end, seconds, done), daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def _watch(self, end: socket.socket, seconds: float, done: threading.Event) -> None:
        until = monotonic() + seconds
        with end:
            while not done.wait(min(_PROBE_SECONDS, max(0.0, until - monotonic()))):
                if monotonic() >= until or not self._is_alive():
                    with suppress(OSError):  # it has ended by itself
                        end.shutdown(socket.SHUT_RDWR)
                    return

    def _is_alive(self) -> bool:
        """Return whether the server answers on a new connection. Connecting alone proves nothing:
        its kernel accepts."""
        with suppress(OSError), self._dial() as probe:
            probe.settimeout(_PROBE_SECONDS / 2)
            probe.sendall(_SSL_REQUEST)
            return probe.recv(1) != b""
        return False


def _login(conninfo: str) -> pq.abc.PGconn:
    """Log in; return libpq's connection when the login has succeeded, failed or timed out."""
    login = pq.PGconn.connect_start(conninfo.encode())
    _report_sqlstates(login)
    until = monotonic() + _CONNECT_SECONDS
    while login.status != pq.ConnStatus.BAD and monotonic() < until:
        state = login.connect_poll()
        if state not in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
            break
        is_reading = state == pq.PollingStatus.READING
        with selectors.DefaultSelector() as waiting:  # the socket may be another one each time
            event = selectors.EVENT_READ if is_reading else selectors.EVENT_WRITE
            waiting.register(login.socket, event)
            waiting.select(max(0.0, until - monotonic()))
    return login


def _report_sqlstates(login: pq.abc.PGconn) -> None:
    """Make libpq report SQLSTATEs instead of the server's messages. psycopg does not wrap this
    call, but offers the pointer for it. Without a compiled psycopg, such as the binary package,
    failed logins have no SQLSTATE."""
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(sys.modules[type(login).__module__].__file__)
        report = library.PQsetErrorVerbosity  # found in the libpq that the module is linked with
        report.argtypes, report.restype = (ctypes.c_void_p, ctypes.c_int), ctypes.c_int
        report(getattr(login, "pgconn_ptr"), _SQLSTATES_ONLY)  # noqa: B009 - not in its protocol


def _state_of(login: pq.abc.PGconn) -> str | None:
    """Return the SQLSTATE with which the server refused a login; ``None`` if it said none."""
    found = _REPORTED.search(login.error_message)
    return None if found is None else found[1].decode()


def _translated(state: str | None, *, has_values: bool = False) -> Exception:
    """Return the error for an SQLSTATE; ``None`` means a broken connection. The error names the
    SQLSTATE only if PostgreSQL defines it, because another one might spell something."""
    if has_values and state is not None and state[:2] in _DATA:
        return DataRefused()
    answer = ""
    with suppress(KeyError):
        answer = f"SQLSTATE {state}" if state and lookup(state) else ""
    state = state or "08000"
    message, cause = _WORDS.get(state[:2], _OTHER)
    return Unreachable(message, _BY_STATE.get(state, cause), answer)


def check_role(cursor: Cursor, namespace: str) -> None:
    """Check the role and the server. Raises ``ConfigError`` E219 for a missing right, a server
    whose commits are not durable, and a database whose encoding is not UTF8."""
    row = cursor.execute(_ROLE, {"namespace": namespace}).fetchone()
    lacks, is_unsafe, encoding = row or (None, None, None)
    if lacks:
        raise ConfigError("E219", f"the role lacks rights: {lacks}; see docs/stores.md")
    if is_unsafe:
        raise ConfigError("E219", "the server has `fsync` off: what it has taken may be lost")
    if encoding != "UTF8":
        message = f"the database has the encoding {encoding}, which may lack letters of records"
        raise ConfigError("E219", f"{message}: create one with ENCODING 'UTF8'")


def excess_rights(cursor: Cursor) -> str:
    """Return the rights of the role that no sink needs, separated by commas."""
    row = cursor.execute(_EXCESS).fetchone()
    return str(row[0]) if row else ""


_EXCESS = """
SELECT concat_ws(', ', CASE WHEN r.rolsuper THEN 'SUPERUSER' END,
    CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
    CASE WHEN r.rolreplication THEN 'REPLICATION' END,
    CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END,
    (SELECT string_agg(p.rolname, ', ' ORDER BY p.rolname) FROM pg_roles p
     WHERE NOT r.rolsuper AND p.rolname LIKE 'pg\\_%' AND p.rolname <> 'pg_database_owner'
     AND pg_has_role(r.oid, p.oid, 'MEMBER')))
FROM pg_roles r WHERE r.rolname = current_user
"""
_ROLE = """
SELECT concat_ws(', ', CASE WHEN NOT has_database_privilege(current_database(), 'TEMPORARY')
    THEN 'TEMPORARY on the database' END,
    CASE WHEN n.oid IS NULL AND NOT has_database_privilege(current_database(), 'CREATE')
    THEN 'CREATE on the database, or a schema that it may use' END,
    CASE WHEN NOT coalesce(has_schema_privilege(n.oid, 'CREATE')
      AND has_schema_privilege(n.oid, 'USAGE'), true)
    THEN 'CREATE and USAGE on the schema' END,
    CASE WHEN EXISTS (SELECT 1 FROM pg_class c WHERE c.relnamespace = n.oid
      AND c.relkind IN ('r', 'p') AND NOT pg_has_role(c.relowner, 'USAGE'))
    THEN 'ownership of the tables' END),
  current_setting('fsync') = 'off', current_setting('server_encoding')
FROM pg_roles r LEFT JOIN pg_namespace n ON n.nspname = %(namespace)s
WHERE r.rolname = current_user
"""
