"""The sink of PostgreSQL, beside psycopg's own ``COPY``, row by row, into a table without types of
its own and without ids of batches."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from benchmarks.figures import BenchmarkError
from benchmarks.sinks import Writers
from collector.contracts import Record
from collector.schema import Schema

if TYPE_CHECKING:
    from psycopg import Connection

_START_SECONDS = 60.0


def obstacle() -> str | None:
    """Return why there can be no server here."""
    return None if _programs() else "PostgreSQL is not installed"


def _programs() -> list[Path]:
    return sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@contextmanager
def by_copy(directory: Path, schema: Schema) -> Iterator[Writers]:
    """Write into a server of its own."""
    import psycopg  # noqa: PLC0415 - an extra

    from collector.sinks.postgres import PostgresSettings, PostgresSink  # noqa: PLC0415
    from collector.sinks.sink import Opening  # noqa: PLC0415

    with server() as place:
        url = f"postgres://collector@/telemetry?host={place}"
        values = {"type": "postgres", "url": url, "party": "first"}
        opening = Opening("warehouse", (schema,), directory)
        columns = [name for name, _ in schema.layout.columns]
        with (
            PostgresSink(PostgresSettings(**values), opening) as sink,
            psycopg.connect(url.replace("postgres:", "postgresql:"), autocommit=True) as db,
        ):
            db.execute("CREATE SCHEMA bare")
            db.execute("SET search_path = bare")
            texts = ", ".join(f'"{name}" text' for name in columns)
            db.execute(f"CREATE TABLE bare ({texts})".encode())

            def copy(records: Sequence[Record]) -> None:
                copying = "COPY bare FROM STDIN"
                with db.transaction(), db.cursor() as cursor, cursor.copy(copying) as into:
                    for record in records:
                        into.write_row([*map(record.get, columns)])

            yield Writers(lambda batches: sink.deliver(*batches), copy)


@contextmanager
def server() -> Iterator[Path]:
    """Make and start a server; yield the directory of its socket."""
    programs, user = _programs()[-1].parent, _user()
    with tempfile.TemporaryDirectory(prefix="collector-postgres-") as name:
        if user:
            shutil.chown(name, **user)
        make = [str(programs / "initdb"), "-D", f"{name}/data", "-U", "admin", "-E", "UTF8", "-N"]
        subprocess.run(make, check=True, capture_output=True, cwd="/", **user)
        run = [str(programs / "postgres"), "-D", f"{name}/data", "-k", name, "-h", ""]
        with subprocess.Popen(run, stderr=subprocess.DEVNULL, cwd="/", **user) as process:
            try:
                with _connected(f"postgresql://admin@/postgres?host={name}") as db:
                    db.execute("CREATE ROLE collector LOGIN")
                    db.execute("CREATE DATABASE telemetry")
                    db.execute("GRANT CREATE ON DATABASE telemetry TO collector")
                yield Path(name)
            finally:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_START_SECONDS)


@contextmanager
def _connected(url: str) -> Iterator[Connection[tuple[Any, ...]]]:
    """Connect as soon as the server answers."""
    import psycopg  # noqa: PLC0415 - an extra

    until = monotonic() + _START_SECONDS
    while True:
        with suppress(psycopg.OperationalError):
            db = psycopg.connect(url, autocommit=True)
            break
        if monotonic() > until:
            raise BenchmarkError("the server does not start")
        sleep(0.1)
    with db:
        yield db


def _user() -> dict[str, Any]:
    """Return the user as whom the server runs, where root may not."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid}
    return {}
