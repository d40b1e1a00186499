"""A PostgreSQL server: connections, transactions, and its errors in words of our own.

Messages of the server may quote values, and are never shown: each SQLSTATE has a message here.
psycopg knows no SQLSTATE of a login that fails, and the server's words are in a language of the
server's. So libpq is told to report nothing but the SQLSTATE, from the first message on. Where the
server says nothing at all, it is asked for its certificate.

A transaction ends with its ``COMMIT`` answered, or its connection is dropped.
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
"""How long a transaction may take: less than after which a sink counts as hung."""
_CONNECT_SECONDS = 5
_PROBE_SECONDS = 60.0
"""How often a server is asked whether it lives, while an answer may take longer than that."""
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""Is answered with a byte before anybody logs in; see "SSLRequest" in PostgreSQL's protocol."""
_OPTIONS: Mapping[str, str | int] = {
    "client_encoding": "utf8",
    "hostaddr": "",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""What libpq is given besides: the environment (``PGHOSTADDR``) names no other server, and a broken
connection is noticed within half a minute."""
_SETTINGS = """
SET application_name = 'collector'; SET client_min_messages = 'error';
SET search_path = 'pg_catalog'; SET TimeZone = 'UTC'; SET DateStyle = 'ISO';
SET synchronous_commit = 'on'; SET jit = 'off'; SET statement_timeout = '45s';
SET default_transaction_isolation = 'read committed';
SET row_security = 'off'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s'
"""
"""Of each connection. Whatever the defaults of the database are, a commit is durable, and each
statement sees what others have committed before it, or fails where a policy would hide rows."""
_DATA = ("22", "23")
"""Classes of errors that concern the values of a batch, where some are sent."""
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
"""By OpenSSL's number of the error, `X509_V_ERR_…`."""
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
"""Where a whole SQLSTATE says more than its class: a right is lacking; too many connections."""
_OTHER: tuple[str, Cause] = ("the server failed", "refused")
_SQLSTATES_ONLY = 3
"""``PQERRORS_SQLSTATE`` of libpq 12 or newer."""
_REPORTED = re.compile(rb":  ([0-9A-Z]{5})\s*\Z")
"""How libpq ends the error of a login then: severity, in the server's language, and SQLSTATE."""
_T = TypeVar("_T")


class DataRefused(DeliveryError):
    """The server refused values."""

    def __init__(self) -> None:
        super().__init__("E503", "the server refused a value", "batch")


class Server:
    """The connection to a server, which is opened when it is needed, and again after an error.

    ``prepare`` is run in the first transaction of each connection.
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
        """Run an action in a transaction; return its result when the server has committed it.
        It may take so many ``seconds``, ``ANSWER_SECONDS`` by default.

        Raises ``Unreachable``, ``DataRefused`` if the action ``has_values`` of a batch, and what
        the action raises of ours; then nothing is committed, or the server did not say so: an
        action must be one that can be repeated.
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
        """Yield the rows of a query, so many at a time, from one state of the database; some of
        them may take so many seconds. Nothing else can be asked meanwhile. Raises
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
        """Close the connection at once; the server rolls back what was not committed."""
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
        """Return the connection, which is made if there is none."""
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
        """Return why a login failed about which the server said nothing: nobody answers, or the
        certificate is not the one that is wanted, as libpq says in words only."""
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
            if cursor.statusmessage != "COMMIT":  # the server says ROLLBACK, and no error
                raise Unreachable("the server rolled the transaction back")
            return result

    @contextmanager
    def _deadline(self, db: _Connection, seconds: float) -> Iterator[None]:
        """Shut the connection down if a block has not ended by then, as psycopg waits for ever, and
        if the server stands still meanwhile."""
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
        """Tell whether the server answers a new connection. Its kernel alone takes one, too."""
        with suppress(OSError), self._dial() as probe:
            probe.settimeout(_PROBE_SECONDS / 2)
            probe.sendall(_SSL_REQUEST)
            return probe.recv(1) != b""
        return False


def _login(conninfo: str) -> pq.abc.PGconn:
    """Log in; return libpq's connection when that has succeeded, failed, or taken too long."""
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
    """Have libpq report SQLSTATEs in the place of the server's messages. psycopg does not wrap this
    call, and gives the pointer for such calls. Where it does not bring its own libpq, as in the
    binary package, logins fail without an SQLSTATE."""
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
    """Return the error for an SQLSTATE; none is a connection that broke. It tells the SQLSTATE if
    that is one of PostgreSQL's: another one might spell something."""
    if has_values and state is not None and state[:2] in _DATA:
        return DataRefused()
    answer = ""
    with suppress(KeyError):
        answer = f"SQLSTATE {state}" if state and lookup(state) else ""
    state = state or "08000"
    message, cause = _WORDS.get(state[:2], _OTHER)
    return Unreachable(message, _BY_STATE.get(state, cause), answer)


def check_role(cursor: Cursor, namespace: str) -> None:
    """Check what the role may do. Raises ``ConfigError`` E219 for a right that it lacks, for a
    server whose commits are not durable, and for a database that lacks letters."""
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
    """Return the rights of the role that no sink needs, with commas between them."""
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
