"""A PostgreSQL database as a sink: a table for each schema, partitioned by day, each batch once.

``psycopg`` is imported only when a sink is made, so that settings can be read without the extra
``postgres``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BeforeValidator, Field

from collector.addresses import Address
from collector.config.sink_settings import SinkSettings
from collector.config.values import Location, Reference, matching, resolved
from collector.contracts import Batch, Layout, Record, Removal, layout_of
from collector.documents import fault
from collector.errors import ConfigError, DeliveryError, Unacceptable
from collector.extras import require
from collector.filter.redaction import Rule
from collector.filter.stored import Values
from collector.sinks.sink import ErasableSink, Guarantee, Holding, Opening, shuffled

if TYPE_CHECKING:
    from collector.sinks.postgres.server import Cursor, Server

__all__ = ["PostgresSettings", "PostgresSink"]

_DEFAULT_PORT = 5432
_SCHEMES = ("postgres", "postgresql")
_OPTIONS = {"host", "sslmode"}
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_ROWS = 5000
_LAST_SECONDS = 5.0
_STORED_IDS = 1_000_000
"""How many of the newest ids are stored, in some 140 MB. A sidecar repeats a batch before the next
ones. But of many drains, one that was away for hours may repeat batches that others have taken."""
_FORM = (
    "this must be `env:NAME` or `file:PATH`, or an address without a password, such as"
    " `postgres://collector@db.example.com/telemetry`"
)
_FORGET_AFTER = 10_000
"""How many batches come between two deletions of old ids: counting a million may take half a
second."""
_T = TypeVar("_T")


class _Address(NamedTuple):
    """What an address says. A ``host`` that begins with a slash is a directory with a socket."""

    host: str
    port: int
    database: str
    user: str
    password: str
    mode: str

    def __repr__(self) -> str:
        return "<Address>"

    @property
    def is_local(self) -> bool:
        return self.host.startswith("/") or Address(self.host, self.port).is_loopback


def _parsed(url: str) -> _Address | None:
    """Read ``postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=MODE``, or with ``host=DIRECTORY``
    for a socket; ``None`` for anything else."""
    try:
        parts = urlsplit(url)
        options = dict(
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        )
        host, port = parts.hostname or options.get("host", ""), parts.port or _DEFAULT_PORT
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        return None
    mode, database = options.get("sslmode", ""), unquote(parts.path[1:])
    is_whole = bool(host and user and database) and "/" not in database and not parts.fragment
    is_known = parts.scheme in _SCHEMES and options.keys() <= _OPTIONS and mode in ("", *_MODES)
    is_host = host.startswith("/") if not parts.hostname else "host" not in options
    is_host = is_host and "," not in host
    texts = (host, user, password, database)
    if is_whole and is_known and is_host and all(text.isprintable() or not text for text in texts):
        return _Address(host, port, database, user, password, mode)
    return None


def _is_reference(value: str) -> bool:
    return value.startswith(("env:", "file:"))


def _url(value: Any) -> str:
    if isinstance(value, str) and value.isprintable():
        found = None if _is_reference(value) else _parsed(value)
        if _is_reference(value) or (found is not None and not found.password):
            return value
    raise fault("E107", _FORM)


_NAMESPACE = matching(
    "(?!pg_)[a-z][a-z0-9_]{0,62}",
    "this must be a name of small letters, digits and `_`, of at most 63 characters",
)


class PostgresSettings(SinkSettings):
    """A PostgreSQL database."""

    url: Annotated[str, BeforeValidator(_url)] = Field(
        description="The database: `postgres://USER@HOST:PORT/DATABASE`, or where that is:"
        " `env:NAME` or `file:PATH`. A password stands in neither but the latter two."
    )
    password: Reference = Field(
        None, description="Where the password is, if the address has none: `env:NAME`, `file:PATH`."
    )
    ca: Location = Field(
        None,
        description="Who signs the server's certificate, a PEM file; none: those that the system"
        " trusts.",
    )
    namespace: Annotated[str, *_NAMESPACE] = Field(
        "collector", description="The schema of the database (its namespace) with the tables."
    )

    def place(self, directory: Path) -> str:
        """Name server, database and namespace, without user and password."""
        try:
            found = self.address()
        except ConfigError:
            return f"{self.url}, {self.namespace}"
        return f"postgres://{found.host}:{found.port}/{found.database}/{self.namespace}"

    @property
    def known_at(self) -> str:
        """The namespace of the tables."""
        return self.place(Path())

    def beyond(self) -> Iterable[str]:
        """Name what a server keeps besides its tables."""
        place = self.place(Path())
        return (
            f"the write-ahead log and its archive, replicas and backups of {place}",
            f"the server's log, and copies that others made of the tables of {place}",
            f"samples for the planner of partitions that others made of the tables of {place}",
        )

    def address(self) -> _Address:
        """Return where the database is. Raises ``ConfigError`` E202 for a reference that cannot be
        resolved, and E107 for one that does not lead to an address."""
        found = _parsed(resolved(self.url) if _is_reference(self.url) else self.url)
        if found is None:
            raise ConfigError("E107", "the reference in `url` leads to no address of a database")
        return found

    def parameters(self) -> dict[str, str | int]:
        """Return the parameters for libpq. Raises ``ConfigError`` as ``address``, and E219 for a
        server on another machine without verified encryption."""
        found = self.address()
        mode = found.mode or ("prefer" if found.is_local else "verify-full")
        if not found.is_local and mode != "verify-full":
            message = "records would go to another machine without verified encryption: leave"
            raise ConfigError("E219", f"{message} `sslmode` out, or set it to `verify-full`")
        password = found.password or (resolved(self.password) if self.password else "")
        parameters: dict[str, str | int] = {
            "host": found.host,
            "port": found.port,
            "dbname": found.database,
            "user": found.user,
            "sslmode": mode,
            "target_session_attrs": "read-write",
        }
        if password:
            parameters["password"] = password
        if mode == "verify-full":
            parameters["sslrootcert"] = "system" if self.ca is None else str(self.ca)
        return parameters


class PostgresSink(ErasableSink):
    """A PostgreSQL database as a type of sinks."""

    Settings: ClassVar[type[SinkSettings]] = PostgresSettings
    guarantee: ClassVar[Guarantee] = "once"
    is_shared = True
    unit = "rows"
    late: ClassVar[timedelta] = timedelta(hours=26)
    """A partition is dropped as a whole, after the end of its day; pruning runs once an hour."""

    def __init__(self, settings: PostgresSettings, opening: Opening) -> None:
        require("a sink of this type", "postgres", "psycopg")
        from collector.sinks.postgres.removal import Remover  # noqa: PLC0415 - it loads psycopg
        from collector.sinks.postgres.server import Server  # noqa: PLC0415
        from collector.sinks.postgres.tables import Namespace  # noqa: PLC0415

        self.opening = opening
        self._namespace = Namespace(settings.namespace, opening)
        self._types: dict[Layout, list[str]] = {}
        self._marked: set[str] = set()
        self._taken = _FORGET_AFTER
        prepare = None if opening.is_offline else self._prepare
        self._server: Server = Server(settings.parameters(), prepare)
        self._remover = Remover(self._server, self._namespace, opening.wait)

    def __repr__(self) -> str:
        return "<PostgresSink>"

    @classmethod
    def check(cls, settings: PostgresSettings, opening: Opening) -> None:
        """Check names and encryption, and on the server the role and the tables."""
        with cls(settings, replace(opening, is_offline=True)) as sink:
            from collector.sinks.postgres.server import check_role  # noqa: PLC0415
            from collector.sinks.postgres.tables import check_names  # noqa: PLC0415

            check_names(layouts := [schema.layout for schema in opening.schemas])
            space = sink._namespace

            def look(cursor: Cursor) -> None:
                check_role(cursor, space.name)
                if space.exists(cursor):
                    for layout in layouts:
                        space.check(cursor, layout)

            sink._server.run(look)

    @classmethod
    def warnings(cls, settings: PostgresSettings, opening: Opening) -> Iterator[ConfigError]:
        """Yield a warning if the role has rights that the sink does not need."""
        with cls(settings, replace(opening, is_offline=True)) as sink:
            from collector.sinks.postgres.server import excess_rights  # noqa: PLC0415

            if excess := sink._server.run(excess_rights):
                message = f"the role has more rights than it needs: {excess}; see docs/stores.md"
                yield ConfigError("E219", message)

    # -- delivery ---------------------------------------------------------------------------------

    def _prepare(self, cursor: Cursor) -> None:
        """Prepare the tables at the beginning of each connection."""
        from collector.sinks.postgres.server import check_role  # noqa: PLC0415

        check_role(cursor, self._namespace.name)
        self._namespace.create(cursor)
        self._types.clear()
        self._marked.clear()
        for schema in self.opening.schemas:
            self._types[schema.layout] = self._namespace.fit(cursor, schema.layout)

    def deliver(self, *batches: Batch) -> None:
        """Store the batches in one transaction, each once."""
        from collector.sinks.postgres.server import DataRefused  # noqa: PLC0415

        if self.opening.is_offline:
            raise DeliveryError("E503", "the sink is open for a command, not for delivery")
        if not batches:
            return
        is_refused = False
        try:
            self._ready(batches)
            self._server.run(lambda cursor: self._store(cursor, batches), has_values=True)
        except DataRefused:
            is_refused = True
        if is_refused and len(batches) == 1:
            raise Unacceptable(batches[0].id)
        if is_refused:
            raise DeliveryError("E503", "the server refused values of a batch", "batch")

    def _ready(self, batches: Collection[Batch]) -> None:
        """Create tables and partitions, and note that this session writes to them. Each has its own
        transaction, because the session may break off."""
        self._server.connect()  # first: a new connection clears what is known
        self._taken += len(batches)
        if self._taken > _FORGET_AFTER:
            self._server.run(lambda cursor: self._namespace.forget(cursor, _STORED_IDS))
            self._taken = 0
        for layout in {layout_of(batch) for batch in batches} - self._types.keys():
            self._types[layout] = self._server.run(
                lambda cursor, layout=layout: self._namespace.fit(cursor, layout)  # type: ignore[misc]
            )
        for table, day in sorted({_day(batch) for batch in batches}):
            if f"{table}_{day:%Y%m%d}" in self._marked:
                continue

            def mark(cursor: Cursor, table: str = table, day: date = day) -> str:
                partition = self._namespace.partition(cursor, table, day)
                self._remover.mark_writing(cursor, partition)
                return partition

            self._marked.add(self._server.run(mark))

    def _store(self, cursor: Cursor, batches: Collection[Batch]) -> None:
        from collector.sinks.postgres.columns import encoded  # noqa: PLC0415

        new = self._new(cursor, batches)
        parts: dict[tuple[str, Layout], list[str]] = defaultdict(list)
        for batch in batches:
            if batch.id in new:
                new.discard(batch.id)
                table, day = _day(batch)
                layout = layout_of(batch)
                lines = encoded(batch, layout, self._types[layout])
                parts[f"{table}_{day:%Y%m%d}", layout] += lines
        for (partition, layout), lines in parts.items():
            self._remover.written(partition)
            statement = self._namespace.copy(partition, layout, self._types[layout])
            with cursor.copy(statement) as copy:
                copy.write("".join(shuffled(lines)).encode())

    def _new(self, cursor: Cursor, batches: Collection[Batch]) -> set[bytes]:
        """Note the ids of batches, and return the new ones."""
        insert = self._namespace.query(
            "INSERT INTO {} (id) SELECT unnest(%s::bytea[]) ON CONFLICT DO NOTHING RETURNING id",
            "_delivered",
        )
        ids = sorted({batch.id for batch in batches})
        return {bytes(id_) for (id_,) in cursor.execute(insert, (ids,))}

    def close(self) -> None:
        """Note that this session has committed all that it wrote, and close the connection."""
        if self._marked and self._server.is_open:
            with suppress(DeliveryError):
                self._server.run(self._remover.unmark_writing, _LAST_SECONDS)
            self._marked.clear()
        self._server.drop()

    # -- retention and rights ---------------------------------------------------------------------

    def _ask(self, action: Callable[[Cursor], _T], nothing: _T) -> _T:
        """Run a query in the namespace; return ``nothing`` if the namespace does not exist."""

        def look(cursor: Cursor) -> _T:
            return action(cursor) if self._namespace.exists(cursor) else nothing

        return self._server.run(look)

    @property
    def exists(self) -> bool:
        """Whether the namespace has tables of ours."""
        return self._server.run(self._namespace.exists)

    @property
    def others(self) -> int:
        """Count the parts of the namespace in the catalogue that our statements do not make."""
        from collector.sinks.postgres.catalogue import foreign_parts  # noqa: PLC0415

        return self._ask(partial(foreign_parts, space=self._namespace), 0)

    def noted(self) -> Mapping[str, Mapping[str, timedelta]]:
        """Return the retentions that the database notes."""
        return self._ask(self._namespace.retentions, {})

    def scan(self, rule: Rule) -> Iterator[tuple[str, Record]]:
        """Yield rows, each with its table, without columns that are NULL."""
        from collector.sinks.postgres.columns import plain_rows  # noqa: PLC0415
        from collector.sinks.postgres.removal import CHANGE_SECONDS, scan  # noqa: PLC0415

        queries: list[Any] = self._ask(lambda db: [*scan(db, self._namespace, rule)], [])
        for table, columns, query, values in queries:
            for rows in self._server.rows(query, _ROWS, values, CHANGE_SECONDS):
                for row in plain_rows(rows, columns):
                    yield table, {name: each for name, each in row.items() if each is not None}

    def measure(self, rule: Rule) -> list[Holding]:
        """Count rows and values, table by table."""
        from collector.sinks.postgres.removal import CHANGE_SECONDS, measure  # noqa: PLC0415

        if not self.exists:
            return []
        look = partial(measure, namespace=self._namespace, rule=rule)
        return self._server.run(lambda cursor: [*look(cursor)], CHANGE_SECONDS)

    def rewrite(self, rules: Sequence[Rule]) -> list[Removal]:
        """Delete and shorten rows, and rewrite each changed partition once; drop expired partitions
        day by day."""
        if not self.exists:
            return [Removal() for _ in rules]
        if all(rule.now is not None for rule in rules):
            return [self._remover.prune(rule) for rule in rules]
        return self._remover.rewrite(rules)

    def values(self) -> Iterator[Values]:
        """Yield the values of several thousand rows at a time, by table."""
        from collector.sinks.postgres.columns import plain_rows  # noqa: PLC0415

        tables: dict[str, dict[str, str]] = self._ask(self._namespace.tables, {})
        for table, columns in tables.items():
            yield table, {name: set() for name in columns}  # the table may be empty
            for rows in self._server.rows(self._namespace.select(table, columns), _ROWS):
                found: dict[str, set[object]] = {name: set() for name in columns}
                for row in plain_rows(rows, columns):
                    for name, value in row.items():
                        found[name].add(value)
                yield table, found


def _day(batch: Batch) -> tuple[str, date]:
    """Return the table of a batch and the day of its minute, in UTC."""
    try:
        day = date.fromisoformat(batch.received[:10])
    except ValueError:
        day = None
    if day is None:
        raise Unacceptable(batch.id)
    return layout_of(batch).table, day
