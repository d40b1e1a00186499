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
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo
from psycopg.errors import lookup

from collector.errors import Cause, CollectorError, ConfigError, DeliveryError, Unreachable
from collector.sinks.relay import Relay, connected

__all__ = ["ANSWER_SECONDS", "READ_BYTES", "Cursor", "DataRefused", "Server", "check_role"]

Cursor = psycopg.Cursor[tuple[Any, ...]]
ANSWER_SECONDS = 50.0
"""How long a transaction may take: less than after which a sink counts as hung."""
_ANSWER_BYTES = 4 << 20
"""The most that a server may say. As rows in memory, it is up to ten times as large."""
READ_BYTES = 1 << 30
"""The same while a command reads records."""
_CONNECT_SECONDS = 5
_PROBE_SECONDS = 60.0
"""How often a server is asked whether it lives, while an answer may take longer than that."""
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""Is answered with a byte before anybody logs in; see "SSLRequest" in PostgreSQL's protocol."""
_LONGEST_DIRECTORY = 80
"""Bytes of a directory's path: with a socket's name, the system takes about a hundred."""
_OPEN_FILES = Path("/proc/self/fd")
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
    "rows or constraints of others are in the way: move or drop them, see docs/postgres.md",
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
    "42": ("the role lacks a right, or the tables were changed; see docs/postgres.md", "changed"),
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

    ``prepare`` is run in the first transaction of each connection. libpq reads a message of any
    length to its end, so that connections go through a relay.
    """

    def __init__(
        self,
        parameters: Mapping[str, str | int],
        prepare: Callable[[Cursor], None] | None = None,
    ) -> None:
        self._parameters = dict(parameters)
        self._prepare = prepare
        self._open: psycopg.Connection[tuple[Any, ...]] | None = None
        self._relay: Relay | None = None

    def __repr__(self) -> str:
        return f"<Server, {'closed' if self._open is None else 'connected'}>"

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._open is not None

    def connect(self) -> None:
        """Connect, if there is no connection. Raises as ``run``."""
        if self._open is None:
            self.run(_nothing)

    def run(
        self,
        action: Callable[[Cursor], _T],
        seconds: float | None = None,
        most: int = _ANSWER_BYTES,
        *,
        has_values: bool = False,
    ) -> _T:
        """Run an action in a transaction; return its result when the server has committed it.
        It may take so many ``seconds``, ``ANSWER_SECONDS`` by default, and the server say ``most``
        bytes.

        Raises ``Unreachable``, ``DataRefused`` if the action ``has_values`` of a batch, and what
        the action raises of ours; then nothing is committed, or the server did not say so: an
        action must be one that can be repeated.
        """
        failure: Exception
        try:
            return self._run(action, ANSWER_SECONDS if seconds is None else seconds, most)
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

    def rows(self, query: sql.Composed, size: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a query, so many at a time, from one state of the database. Nothing
        else can be asked meanwhile. Raises ``Unreachable``."""
        self.connect()
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
        if self._relay is not None:
            self._relay.close()
            self._relay = None

    def _guarded(self, action: Callable[[], _T]) -> _T:
        """Run a single statement of a transaction that reads records."""
        failure: Exception
        try:
            with self._deadline(ANSWER_SECONDS, READ_BYTES):
                return action()
        except psycopg.Error as error:
            failure = _translated(error.sqlstate)
        raise failure

    def _run(self, action: Callable[[Cursor], _T], seconds: float, most: int) -> _T:
        if self._open is None and self._prepare is not None:
            prepare = self._prepare
            self._connect()
            self._transact(prepare, ANSWER_SECONDS)
        self._connect()
        return self._transact(action, seconds, most)

    def _connect(self) -> None:
        if self._open is not None:
            return
        with self._relayed() as parameters, self._deadline(2 * _CONNECT_SECONDS):
            login = _login(make_conninfo("", **parameters, client_encoding="utf8"))
        if login.status != pq.ConnStatus.OK:
            state, needs_password = _state_of(login), login.needs_password
            login.finish()
            if state is not None:
                raise _translated(state)
            raise Unreachable(_UNGIVEN, "denied") if needs_password else self._silence()
        login.nonblocking = 1  # as psycopg has it
        self._open = psycopg.Connection(login)
        self._open.autocommit = True
        with self._deadline(_CONNECT_SECONDS):
            self._open.execute(_SETTINGS)

    @contextmanager
    def _relayed(self) -> Iterator[dict[str, str | int]]:
        """Let a relay take connections for a block; yield what libpq is given to reach it. The
        server's name stays, by which its certificate is known; in a file of passwords libpq would
        look for the relay."""
        with ExitStack() as stack:
            if str(self._parameters["host"]).startswith("/"):
                directory = stack.enter_context(_private_directory())
                listener = _bound(_socket_file(directory, int(self._parameters["port"])))
                self._relay = Relay(lambda _: self._dial(), listener)
                changes: dict[str, str | int] = {"host": directory}
            else:
                self._relay = Relay(lambda _: self._dial())
                changes = {"hostaddr": "127.0.0.1", "port": self._relay.port}
            stack.callback(self._relay.refuse)
            yield self._parameters | _found_password(self._parameters) | changes

    def _dial(self) -> socket.socket:
        """Connect to the server."""
        host, port = str(self._parameters["host"]), int(self._parameters["port"])
        if host.startswith("/"):
            return _connected(_socket_file(host, port))
        return connected(host, port, _CONNECT_SECONDS)

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

    def _transact(
        self, action: Callable[[Cursor], _T], seconds: float, most: int = _ANSWER_BYTES
    ) -> _T:
        db = self._open
        if db is None:
            raise Unreachable(_NO_ANSWER)
        with self._deadline(seconds, most), db.cursor() as cursor:
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
    def _deadline(self, seconds: float, most: int = _ANSWER_BYTES) -> Iterator[None]:
        """Cut the connection if the server has not answered by then, as psycopg waits for ever, if
        it stands still meanwhile, and if it says more than it may."""
        relay = self._relay
        if relay is None:
            yield
            return
        done = threading.Event()
        threading.Thread(target=self._watch, args=(relay, seconds, done), daemon=True).start()
        try:
            with relay.exchange(most):
                yield
        finally:
            done.set()

    def _watch(self, relay: Relay, seconds: float, done: threading.Event) -> None:
        until = monotonic() + seconds
        while not done.wait(min(_PROBE_SECONDS, max(0.0, until - monotonic()))):
            if monotonic() >= until or not self._is_alive():
                relay.cut()
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


def _nothing(_: Cursor) -> None:
    """Connect, and do nothing."""


def _found_password(parameters: Mapping[str, str | int]) -> dict[str, str | int]:
    """Return the password that libpq finds in its environment or its file for a server. It looks
    for it before it refuses an option, and connects to nothing then."""
    if "password" in parameters:
        return {}
    chosen = {name: str(parameters[name]) for name in ("host", "port", "dbname", "user")}
    asked = psycopg.pq.PGconn.connect_start(make_conninfo("sslmode=none", **chosen).encode())
    found = asked.password.decode(errors="ignore")
    asked.finish()
    return {"password": found} if found else {}


@contextmanager
def _private_directory() -> Iterator[str]:
    """Make a directory for a socket, and yield a path to it that is short enough for one wherever
    temporary files are."""
    with tempfile.TemporaryDirectory(prefix="collector-") as directory, ExitStack() as stack:
        if len(os.fsencode(directory)) <= _LONGEST_DIRECTORY or not _OPEN_FILES.exists():
            yield directory
            return
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, opened)
        yield str(_OPEN_FILES / str(opened))


def _socket_file(directory: str, port: int) -> str:
    return f"{directory}/.s.PGSQL.{port}"


def _bound(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def _connected(path: str) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    try:
        found.settimeout(_CONNECT_SECONDS)
        found.connect(path)
    except BaseException:
        found.close()
        raise
    return found


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
    """Check what the role may do. Raises ``ConfigError`` E219 for rights that it does not need, for
    one that it lacks, for a server whose commits are not durable, and for a database that lacks
    letters."""
    row = cursor.execute(_ROLE, {"namespace": namespace}).fetchone()
    too_much, lacks, is_unsafe, encoding = row or (None, None, None, None)
    if too_much:
        message = f"the role has more rights than it needs: {too_much}; see docs/postgres.md"
        raise ConfigError("E219", message)
    if lacks:
        raise ConfigError("E219", f"the role lacks rights: {lacks}; see docs/postgres.md")
    if is_unsafe:
        raise ConfigError("E219", "the server has `fsync` off: what it has taken may be lost")
    if encoding != "UTF8":
        message = f"the database has the encoding {encoding}, which may lack letters of records"
        raise ConfigError("E219", f"{message}: create one with ENCODING 'UTF8'")


_ROLE = """
SELECT concat_ws(', ', CASE WHEN r.rolsuper THEN 'SUPERUSER' END,
    CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
    CASE WHEN r.rolreplication THEN 'REPLICATION' END,
    CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END,
    (SELECT string_agg(p.rolname, ', ' ORDER BY p.rolname) FROM pg_roles p
     WHERE NOT r.rolsuper AND p.rolname LIKE 'pg\\_%%' AND p.rolname <> 'pg_database_owner'
     AND pg_has_role(r.oid, p.oid, 'MEMBER'))),
  concat_ws(', ', CASE WHEN NOT has_database_privilege(current_database(), 'TEMPORARY')
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
