"""Tables of records in a namespace of PostgreSQL: one for each schema, with a partition a day.

Each method works within the caller's transaction.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

from psycopg import sql

from collector.contracts import Layout
from collector.errors import DeliveryError
from collector.sinks.postgres.columns import (
    FAMILIES,
    GENERAL_TYPES,
    MOST_TEXT_BYTES,
    RESERVED_COLUMNS,
    column_types,
    copied_order,
    readable,
)
from collector.sinks.postgres.server import Cursor
from collector.sinks.sink import Opening

FORMAT = 1
_NAMES = {"timestamp with time zone": "timestamptz"}
_TABLES = """
CREATE TABLE {namespace}._format (version integer NOT NULL);
CREATE TABLE {namespace}._delivered
    (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id bytea NOT NULL UNIQUE);
CREATE TABLE {namespace}._retention
    (relation text, field text, seconds bigint NOT NULL, PRIMARY KEY (relation, field));
CREATE TABLE {namespace}._unswept (partition text NOT NULL, pid integer, started timestamptz);
INSERT INTO {namespace}._format VALUES ({version})
"""
_MOST_NAME_BYTES = 63
_SYSTEM_COLUMNS = frozenset({"tableoid", "ctid", "xmin", "cmin", "xmax", "cmax"})
_PARTITION = re.compile(r"(.+)_([0-9]{4})([0-9]{2})([0-9]{2})", re.ASCII | re.DOTALL).fullmatch


class Namespace:
    """The tables of a namespace. Each method takes the cursor of the caller's transaction."""

    def __init__(self, name: str, opening: Opening) -> None:
        self.name: str = name
        self._opening = opening
        self._schemas = opening.schemas

    def __repr__(self) -> str:
        return "<Namespace>"

    @property
    def fields(self) -> set[str]:
        """The names of the fields of all known schemas."""
        known = (*self._schemas, *self._opening.earlier.values())
        return {name for schema in known for name in schema.fields}

    def of(self, *names: str) -> sql.Composed:
        """Return the SQL name of a table."""
        return sql.SQL(".").join(map(sql.Identifier, (self.name, *names)))

    def text(self, cursor: Cursor, name: str) -> str:
        """Return the SQL name of a table for a statement with bound values."""
        return self.of(name).as_string(cursor).replace("%", "%%")

    def query(self, text: str, *relations: str, **parts: sql.Composable) -> sql.Composed:
        """Return SQL in which ``{}`` are tables of the namespace."""
        own = sql.Identifier(self.name)
        return sql.SQL(text).format(*map(self.of, relations), namespace=own, **parts)

    def exists(self, cursor: Cursor) -> bool:
        """Return whether the namespace has tables, and they are ours. Raises ``DeliveryError`` E501
        for tables of another program or another format."""
        names = self.relations(cursor)
        if not names:
            return False
        version = None
        if "_format" in names:
            version = cursor.execute(
                self.query("SELECT max(version) FROM {}", "_format")
            ).fetchone()
        if version is None or version[0] is None:
            message = "the namespace has tables of another program; name one of its own"
            raise DeliveryError("E501", message)
        if version[0] != FORMAT:
            message = "the tables have a format that this version of Collector does not know"
            raise DeliveryError("E501", message)
        return True

    def relations(self, cursor: Cursor) -> dict[str, str]:
        """Return the relations of the namespace with their kinds, without indexes and sequences."""
        query = (
            "SELECT c.relname, c.relkind::text FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind IN ('r','p','v','m','f')"
        )
        return dict(cursor.execute(query, (self.name,)).fetchall())

    def lock(self, cursor: Cursor) -> None:
        """Let one session at a time create tables."""
        key = f"collector {self.name}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (key,))

    def create(self, cursor: Cursor) -> None:
        """Create the namespace and our own tables, unless they exist."""
        self.lock(cursor)
        if self.exists(cursor):
            return
        query = "SELECT 1 FROM pg_namespace WHERE nspname = %s"
        if cursor.execute(query, (self.name,)).fetchone() is None:
            cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(self.name)))
        for statement in _TABLES.split(";"):
            cursor.execute(self.query(statement, version=sql.Literal(FORMAT)))

    # -- tables of records ------------------------------------------------------------------------

    def tables(self, cursor: Cursor) -> dict[str, dict[str, str]]:
        """Return the tables of records with their columns and types, in order."""
        query = (
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a"
            " ON a.attrelid = c.oid WHERE n.nspname = %s AND c.relkind = 'p' AND a.attnum > 0"
            " AND NOT a.attisdropped ORDER BY c.relname, a.attnum"
        )
        found: dict[str, dict[str, str]] = {}
        for relation, column, kind in cursor.execute(query, (self.name,)).fetchall():
            found.setdefault(relation, {})[column] = _NAMES.get(str(kind), str(kind))
        return {
            table: columns
            for table, columns in found.items()
            if columns.keys() >= set(RESERVED_COLUMNS)
        }

    def partitions(self, cursor: Cursor, table: str) -> dict[str, date]:
        """Return the partitions of a table that we have made, with their days."""
        days = {name: _day_of(name, table) for name, _ in self._children(cursor, table)}
        return {name: day for name, day in days.items() if day is not None}

    def other_partitions(self, cursor: Cursor, table: str) -> list[str]:
        """Return the partitions of a table that others have made, such as a default partition.
        Raises ``DeliveryError`` E504 for a partition in another namespace."""
        children, own = self._children(cursor, table), self.partitions(cursor, table)
        if not all(is_here for _, is_here in children):
            message = "a partition lies in another namespace: move it back, or detach it"
            raise DeliveryError("E504", message)
        return [name for name, _ in children if name not in own]

    def _children(self, cursor: Cursor, table: str) -> list[tuple[str, bool]]:
        """Return the names of a table's partitions, and whether they are in this namespace."""
        query = (
            "SELECT c.relname, c.relnamespace = n.oid FROM pg_inherits i JOIN pg_class c"
            " ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace n"
            " ON n.oid = p.relnamespace WHERE n.nspname = %s AND p.relname = %s ORDER BY 1"
        )
        return cursor.execute(query, (self.name, table)).fetchall()

    def check(self, cursor: Cursor, layout: Layout) -> None:
        """Raise ``DeliveryError`` E504 for a column of another type, and for another relation with
        the name of the table or of its partition for today or a later day."""
        found, limited = self._columns(cursor, layout), self._limited(cursor, layout.table)
        for name, kind in self._types(layout).items():
            stored = (found or {}).get(name, kind)
            is_general = stored in GENERAL_TYPES and (stored != "text" or name in limited)
            if stored != kind and not (is_general and kind in GENERAL_TYPES[stored]):
                raise _has_another_type(name)
        today = datetime.now(UTC).date()
        for name in self.relations(cursor).keys() - self.partitions(cursor, layout.table).keys():
            if (day := _day_of(name, layout.table)) is not None and day >= today:
                raise _is_no_partition(name, layout.table)

    def _columns(self, cursor: Cursor, layout: Layout) -> dict[str, str] | None:
        """Return the columns and types of a layout's table; ``None`` if it does not exist. Raises
        ``DeliveryError`` E504 for another relation of that name."""
        found = self.tables(cursor).get(layout.table)
        if found is None and layout.table in self.relations(cursor):
            message = f"`{layout.table}` is the name of another table, such as a partition"
            raise DeliveryError("E504", f"{message}; give the schema another name, or rename that")
        return found

    def _types(self, layout: Layout) -> dict[str, str]:
        """Return the types for the columns of a layout, by its schema if the ledger has it."""
        known = filter(None, [self._opening.schema_of(layout.digest)])
        return column_types(layout, [*known, *self._schemas])

    def _limited(self, cursor: Cursor, table: str) -> set[str]:
        """Return the columns with a check. Each column that we create as ``text`` has one. A column
        that somebody else has changed to ``text`` may spell its values differently."""
        query = (
            "SELECT a.attname FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid"
            " AND c.conkey = ARRAY[a.attnum] WHERE c.contype = 'c' AND c.conrelid = to_regclass(%s)"
        )
        return {name for (name,) in cursor.execute(query, (self.of(table).as_string(cursor),))}

    def fit(self, cursor: Cursor, layout: Layout) -> list[str]:
        """Create the table of a layout, or add missing columns; note the retentions of its fields.
        Return the types of its columns. Raises ``DeliveryError`` E504."""
        check_names([layout])
        self.lock(cursor)
        found = self._columns(cursor, layout)
        types = self._types(layout)
        for name, column in layout.columns:
            if (found or {}).get(name, types[name]) not in FAMILIES[column]:
                raise _has_another_type(name)
        lacking = [name for name in types if name not in (found or {})]
        if found is None:
            statement = (
                "CREATE TABLE {} (received timestamptz NOT NULL, count bigint NOT NULL DEFAULT 1)"
                " PARTITION BY RANGE (received)"
            )
            cursor.execute(self.query(statement, layout.table))
            self._keep_no_samples(cursor, layout.table, RESERVED_COLUMNS)
        for name in lacking:
            self._add_column(cursor, layout.table, name, types[name])
        self._note(cursor, layout)
        return [(found or {}).get(name, types[name]) for name in types]

    def _add_column(self, cursor: Cursor, table: str, name: str, kind: str) -> None:
        """Add a column; one of texts gets a check of their length."""
        column = sql.Identifier(name)
        change = "ALTER TABLE {} ADD COLUMN {column} {kind}"
        cursor.execute(self.query(change, table, column=column, kind=sql.SQL(kind)))
        if kind == "text":
            check = (
                "ALTER TABLE {} ADD CONSTRAINT {column} CHECK (octet_length({column}) <= {most})"
            )
            check += " NOT VALID"
            most = sql.Literal(MOST_TEXT_BYTES)
            cursor.execute(self.query(check, table, column=column, most=most))
        self._keep_no_samples(cursor, table, [name])

    def _keep_no_samples(self, cursor: Cursor, table: str, columns: Iterable[str]) -> None:
        """Keep the server from sampling values as statistics, which would outlive the rows."""
        change = "ALTER TABLE {} ALTER COLUMN {column} SET STATISTICS 0"
        for column in columns:
            cursor.execute(self.query(change, table, column=sql.Identifier(column)))

    def partition(self, cursor: Cursor, table: str, day: date) -> str:
        """Return the partition of a day. Create it if it does not exist, without blocking readers
        of the table. Raises ``DeliveryError`` E504 for another relation of its name."""
        name = f"{table}_{day:%Y%m%d}"
        child, parent = (self.of(each).as_string(cursor) for each in (name, table))
        is_there = "SELECT FROM pg_inherits WHERE inhrelid = to_regclass(%s)"
        is_there += " AND inhparent = to_regclass(%s)"
        if cursor.execute(is_there, (child, parent)).rowcount:
            return name
        self.lock(cursor)
        if name in self.partitions(cursor, table):
            return name
        if name in self.relations(cursor):
            raise _is_no_partition(name, table)
        like = (
            "CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)"
        )
        cursor.execute(self.query(like, name, table))
        self._keep_no_samples(cursor, name, self.tables(cursor)[table])
        start, end = (sql.Literal(f"{each}T00:00:00Z") for each in (day, day + timedelta(days=1)))
        attach = "ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({start}) TO ({end})"
        cursor.execute(self.query(attach, table, name, start=start, end=end))
        return name

    def forget(self, cursor: Cursor, most: int) -> None:
        """Delete all but the ``most`` newest ids of batches. Count rows, because numbers have gaps:
        repeats and rollbacks use some."""
        old = self.query(
            "DELETE FROM {} WHERE number <="
            " (SELECT number FROM {} ORDER BY number DESC OFFSET %s LIMIT 1)",
            *(2 * ["_delivered"]),
        )
        cursor.execute(old, (most,))

    def copy(self, partition: str, layout: Layout, types: Sequence[str]) -> sql.Composed:
        """Return the statement that takes rows as ``encoded`` writes them."""
        names = [*(layout.columns[at][0] for at in copied_order(types)), "count", "received"]
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        return self.query("COPY {} ({columns}) FROM STDIN", partition, columns=columns)

    def select(self, table: str, columns: Mapping[str, str]) -> sql.Composed:
        """Return the query for all rows of a table, with values as records have them."""
        values = sql.SQL(", ").join(readable(*each) for each in columns.items())
        return self.query("SELECT {values} FROM {}", table, values=values)

    # -- retention --------------------------------------------------------------------------------

    def _note(self, cursor: Cursor, layout: Layout) -> None:
        """Note the retentions of fields. For a schema that runs, they are its own. For another one,
        keep what is noted, else use the field of the same name, or the shortest retention."""
        spans, is_own = self._opening.spans_of(layout)
        clash = "UPDATE SET seconds = EXCLUDED.seconds" if is_own else "NOTHING"
        insert = "INSERT INTO {} VALUES (%s, %s, %s) ON CONFLICT (relation, field) DO {clash}"
        rows = [(layout.table, name, int(each.total_seconds())) for name, each in spans.items()]
        cursor.executemany(self.query(insert, "_retention", clash=sql.SQL(clash)), rows)

    def retentions(self, cursor: Cursor) -> dict[str, dict[str, timedelta]]:
        """Return the retentions of fields that are noted, by table."""
        noted: dict[str, dict[str, timedelta]] = {}
        for table, name, seconds in cursor.execute(self.query("SELECT * FROM {}", "_retention")):
            noted.setdefault(table, {})[name] = timedelta(seconds=seconds)
        return noted


def check_names(layouts: Collection[Layout]) -> None:
    """Raise ``DeliveryError`` E504 for names that the server would truncate or uses for its own
    columns, and for a table with the name of another table's partition."""
    tables = [layout.table for layout in layouts]
    for layout in layouts:
        names = [f"{layout.table}_20260101", *(name for name, _ in layout.columns)]
        if any(len(name.encode()) > _MOST_NAME_BYTES for name in names):
            raise DeliveryError("E504", "names of the schema have more than 63 bytes")
        for name in _SYSTEM_COLUMNS.intersection(names):
            message = f"the server has a column `{name}` of its own in each table"
            raise DeliveryError("E504", f"{message}; give the field another name")
        for table in tables:
            if _day_of(layout.table, table) is not None:
                message = f"schema `{layout.table}` has the name of a partition of `{table}`"
                raise DeliveryError("E504", f"{message}; rename one, or use another namespace")


def _day_of(name: str, table: str) -> date | None:
    """Return the day of the partition of a table that would have this name."""
    match = _PARTITION(name)
    if match and match[1] == table:
        with suppress(ValueError):
            return date(int(match[2]), int(match[3]), int(match[4]))
    return None


def _has_another_type(column: str) -> DeliveryError:
    message = f"column `{column}` has another type; use another namespace, or a new name"
    return DeliveryError("E504", message)


def _is_no_partition(name: str, table: str) -> DeliveryError:
    message = f"`{name}` is no partition of `{table}`: attach it if it was one"
    return DeliveryError("E504", f"{message}, else rename it, or use another namespace")
