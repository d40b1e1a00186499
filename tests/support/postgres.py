"""A PostgreSQL server for tests, in a temporary directory, with a socket."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from collector.errors import DeliveryError
from collector.sinks.postgres import PostgresSettings
from tests.support.deadline import WAIT_SECONDS, wait_until

_END_SECONDS = WAIT_SECONDS
_SESSIONS = "FROM pg_stat_activity WHERE usename = 'collector'"


def programs() -> Path | None:
    """Return the directory of the server's programs: from PATH, or Debian's newest."""
    found = shutil.which("pg_ctl")
    places = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name)
    )
    newest = [each for each in places if (each / "initdb").exists()]
    if newest:
        return newest[-1]
    return None if found is None else Path(found).resolve().parent


def require_postgres() -> Path:
    """Return that directory. Without it, skip the test, or fail it if all prerequisites are
    required."""
    found = programs()
    if found is None and os.environ.get("COLLECTOR_REQUIRE_ALL") != "1":
        pytest.skip("PostgreSQL is not installed")
    assert found is not None, "PostgreSQL is not installed"
    return found


def _state(process: int) -> str:
    """The state of a process as a letter; ``X`` if the process is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return "X"


def _is_alive(process: int) -> bool:
    return _state(process) not in ("Z", "X")


def _signal(process: int, number: int) -> None:
    with suppress(ProcessLookupError):  # a session may end at any time
        os.kill(process, number)


def _user() -> str | None:
    """Return the user that runs the server if this process is root, which may not run it."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


def _as_user(more: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the arguments that run a program as that user, with ``more`` in its environment."""
    environ = {"PATH": os.environ["PATH"], "LC_ALL": "C", **(more or {})}
    user = _user()
    return {"env": environ} if user is None else {"env": environ, "user": user, "extra_groups": []}


_END_AT_COMMIT = """
CREATE FUNCTION public.end_session() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
    'BEGIN PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER ending AFTER INSERT ON collector._delivered
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.end_session()
"""


@dataclass
class PostgresServer:
    """A server with a role ``collector``, which may create schemas in the database
    ``telemetry``."""

    directory: Path
    options: tuple[str, ...] = ()
    hosts: str = ""
    port: int = 5432
    environ: dict[str, str] = field(default_factory=dict, repr=False)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def data(self) -> Path:
        """The directory of the server's files."""
        return self.directory / "data"

    @property
    def url(self) -> str:
        """The URL for the role."""
        return f"postgres://collector@/telemetry?host={self.directory}"

    def settings(self, **more: Any) -> PostgresSettings:
        """The settings of a sink."""
        values = {"type": "postgres", "url": self.url, "party": "first"} | more
        return PostgresSettings(**values)

    def give(self, name: str, content: bytes) -> Path:
        """Write a file that only the server's user can read."""
        path = self.directory / name
        path.write_bytes(content)
        path.chmod(0o600)
        if (user := _user()) is not None:
            shutil.chown(path, user)
        return path

    def make(self) -> None:
        """Create the server's files."""
        user = _user()
        if user is not None:
            shutil.chown(self.directory, user)
        self._run("initdb", "-D", str(self.data), "-A", "trust", "-U", "admin", "-E", "UTF8", "-N")

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        words = [
            "-D",
            str(self.data),
            "-k",
            str(self.directory),
            "-h",
            self.hosts,
            "-c",
            "shared_buffers=16MB",
        ]
        for each in self.options:
            words += ["-c", each]
        log = (self.directory / "log").open("ab")
        command = [str(require_postgres() / "postgres"), *words]
        self.process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, **_as_user(self.environ)
        )
        log.close()
        process = self.process
        wait_until(lambda: process.poll() is not None or self._answers())
        if process.poll() is not None:
            pytest.fail((self.directory / "log").read_text()[-3000:])

    def _answers(self) -> bool:
        with (
            suppress(psycopg.Error),
            psycopg.connect(self.admin_url("postgres"), connect_timeout=5),
        ):
            return True
        return False

    def admin_url(self, database: str = "telemetry") -> str:
        """The URL for the superuser."""
        return f"postgresql://admin@/{database}?host={self.directory}&port={self.port}"

    def create(self) -> None:
        """Create the role and the database."""
        with psycopg.connect(self.admin_url("postgres"), autocommit=True) as db:
            db.execute("CREATE ROLE collector LOGIN")
            db.execute("CREATE DATABASE telemetry")
            db.execute("GRANT CREATE ON DATABASE telemetry TO collector")

    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement as the superuser."""
        with psycopg.connect(self.admin_url(), autocommit=True) as db:
            cursor = db.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def reset(self) -> None:
        """Drop everything that sinks created."""
        self.ask("DROP SCHEMA IF EXISTS collector CASCADE")

    def end_sessions(self) -> None:
        """End the sessions of the role."""
        self.ask(f"SELECT pg_terminate_backend(pid) {_SESSIONS}")

    def break_off(self, action: Callable[[], object]) -> None:
        """Run an action of a sink, and end its session after it has written and before it
        commits."""
        self.ask(_END_AT_COMMIT)
        try:
            with pytest.raises(DeliveryError):
                action()
        finally:
            self.ask("DROP FUNCTION public.end_session() CASCADE")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Suspend the server's processes for the block."""
        found = self._halted()
        for each in found:
            _signal(each, signal.SIGSTOP)
        try:
            yield
        finally:
            for each in reversed(found):
                _signal(each, signal.SIGCONT)

    def _halted(self) -> list[int]:
        """Suspend the first process, so that it starts no others, and return all."""
        pid = int((self.data / "postmaster.pid").read_text().split("\n")[0])
        _signal(pid, signal.SIGSTOP)
        wait_until(lambda: _state(pid) in "TZX")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def kill(self) -> None:
        """Kill all of the server's processes, as a power cut does. Suspend the first one before
        listing the others. A process that it started in between would keep the server's memory, and
        no other server could start."""
        if self.process is not None:
            found = self._halted()
            for each in reversed(found):
                _signal(each, signal.SIGKILL)
            self.process.wait(_END_SECONDS)
            wait_until(lambda: not any(map(_is_alive, found)))
            self.process = None
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop the server at once."""
        if self.process is not None:
            pid = int((self.data / "postmaster.pid").read_text().split("\n")[0])
            os.kill(pid, signal.SIGQUIT)
            self.process.wait(_END_SECONDS)
            self.process = None

    @classmethod
    @contextmanager
    def made(cls, *options: str) -> Iterator[PostgresServer]:
        """Create and run a server for a block, in a directory that its user can reach."""
        require_postgres()
        with tempfile.TemporaryDirectory(prefix="collector-postgres-") as name:
            server = cls(Path(name), options)
            server.make()
            with server.running():
                server.create()
                yield server

    @contextmanager
    def running(self) -> Iterator[PostgresServer]:
        """Run the server for a block."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def files(self) -> bytes:
        """Return the bytes of all tables and indexes after a checkpoint, without the write-ahead
        log."""
        self.ask("CHECKPOINT")
        found = []
        for path in (self.data / "base").rglob("*"):
            with suppress(FileNotFoundError, IsADirectoryError):  # the server removes some
                found.append(path.read_bytes())
        return b"".join(found)

    def _run(self, program: str, *words: str) -> None:
        command = [str(require_postgres() / program), *words]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **_as_user())


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One server for all tests of a module."""
    with PostgresServer.made() as server:
        yield server


@pytest.fixture
def clean(server: PostgresServer) -> PostgresServer:
    """The server without our tables."""
    server.reset()
    return server
