"""Remove records from a namespace, and every byte of them: retention, erasure and objection.

A deleted row stays in the table's file until its page is needed. ``VACUUM FULL`` leaves rows that
another session may still see, and gives no error if a right is missing. So a partition with deleted
rows is rewritten in one transaction: into a temporary table, and back after ``TRUNCATE``, which
gives the table and its indexes new files. ``_unswept`` names the partitions to rewrite: those with
deleted rows, and those to which a session wrote before it broke off, because they may hold rows
that were never committed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import chain
from typing import Any, cast

from psycopg import sql as sql_

from collector.contracts import RESERVED, Part, Removal, to_minute
from collector.errors import Cause, DeliveryError, Unreachable
from collector.filter.redaction import Rule, SqlRule, sql
from collector.sinks.postgres.columns import DIALECT, TYPES, readable, value_fits
from collector.sinks.postgres.server import Cursor, Server
from collector.sinks.postgres.tables import Namespace
from collector.sinks.sink import Holding, measured

CHANGE_SECONDS = 3600.0
"""How long it may take to search the partitions of a window, or to rewrite one."""
_LEAST_WAIT = 1.0
_SHORT_WAIT = 0.1
_WRITER_SECONDS = 10.0
"""The least time to wait for a session that writes."""
_PRUNED_FOR = timedelta(hours=23)
_MARK = "INSERT INTO {} SELECT %s, pid, backend_start FROM {me} AS me"
_UNMARK = "DELETE FROM {} WHERE (pid, started) IN {me}"
_ME = sql_.SQL("(SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())")
_DUE = "INSERT INTO {} (partition) VALUES (%s)"
_MARKED = "SELECT partition FROM {} u WHERE {dead}"
_UNMARK_DEAD = "DELETE FROM {} u WHERE partition = %s AND {dead}"
_DEAD = sql_.SQL(
    "NOT EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.pid = u.pid"
    " AND a.backend_start = u.started)"
)
"""SQL that is true for a mark ``u`` of no living session."""


class Remover:
    """Removes rows from the partitions of a namespace. It knows which of them were pruned in the
    last day, and does not search these every hour. It does search them once a day, because a sink
    of another process may have written there."""

    def __init__(self, server: Server, namespace: Namespace, wait: float) -> None:
        self._server = server
        self._namespace = namespace
        self._wait = wait
        self._pruned: dict[str, tuple[frozenset[str], datetime]] = {}

    def __repr__(self) -> str:
        return f"<Remover: {len(self._pruned)} partitions were pruned>"

    # -- what a session writes --------------------------------------------------------------------

    def mark_writing(self, cursor: Cursor, partition: str) -> None:
        """Note, in a transaction of its own, that this session writes to a partition."""
        cursor.execute(self._namespace.query(_MARK, "_unswept", me=_ME), (partition,))

    def unmark_writing(self, cursor: Cursor) -> None:
        """Note that everything that this session wrote is committed."""
        cursor.execute(self._namespace.query(_UNMARK, "_unswept", me=_ME))

    def written(self, partition: str) -> None:
        """Note that a partition gets new rows."""
        self._pruned.pop(partition, None)

    # -- the rights of a person -------------------------------------------------------------------

    def rewrite(self, rules: Sequence[Rule]) -> list[Removal]:
        """Delete and shorten rows; then rewrite each changed partition."""

        def change(cursor: Cursor) -> list[int]:
            found = [[*concerned(cursor, self._namespace, rule)] for rule in rules]
            self._wait_for_writers(cursor, {name for some in found for name, _ in some})
            return [
                sum(self._change(cursor, name, compiled) for name, compiled in some)
                for some in found
            ]

        numbers = self._server.run(change, CHANGE_SECONDS)
        is_swept = self._sweep(rules)
        return [Removal(number, is_swept=is_swept) for number in numbers]

    def _wait_for_writers(
        self, cursor: Cursor, partitions: Collection[str], seconds: float | None = None
    ) -> None:
        """Keep other sessions from writing to partitions until the transaction ends. Wait for those
        that write now, because we would miss what they commit later. One may be an earlier session
        of this sink that was given up at its ``COMMIT``."""
        if partitions:
            names = sql_.SQL(", ").join(map(self._namespace.of, sorted(partitions)))
            self._limit_wait(cursor, seconds or max(self._wait, _WRITER_SECONDS))
            lock = sql_.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE")
            cursor.execute(lock.format(names))

    def _limit_wait(self, cursor: Cursor, seconds: float) -> None:
        milliseconds = sql_.Literal(int(1000 * seconds))
        cursor.execute(sql_.SQL("SET LOCAL lock_timeout = {}").format(milliseconds))

    def _change(self, cursor: Cursor, partition: str, compiled: SqlRule) -> int:
        """Delete and shorten rows of a partition; note that it must be swept."""
        table = self._namespace.text(cursor, partition)
        number = 0
        for statement in compiled.changes(table):
            number += cursor.execute(statement.encode(), compiled.values).rowcount
        if number:
            cursor.execute(self._namespace.query(_DUE, "_unswept"), (partition,))
        return number

    # -- writing anew -----------------------------------------------------------------------------

    def _sweep(self, rules: Sequence[Rule] | None = None) -> bool:
        """Rewrite the noted partitions, or with ``rules`` only those that they may concern. Return
        whether all were rewritten. Wait for other sessions that have locked a partition."""

        def noted(cursor: Cursor) -> list[str]:
            marked = self._namespace.query(_MARKED, "_unswept", dead=_DEAD)
            names = {name for (name,) in cursor.execute(marked)}
            if rules is not None:
                found = (concerned(cursor, self._namespace, rule) for rule in rules)
                names &= {name for some in found for name, _ in some}
            return sorted(names)

        is_swept = True
        for partition in self._server.run(noted):
            try:
                self._server.run(self._rewrites(partition), CHANGE_SECONDS)
            except Unreachable:
                is_swept = False
        return is_swept

    def _rewrites(self, partition: str) -> Callable[[Cursor], None]:
        """Return the action that writes a partition and its indexes into new files."""
        query = self._namespace.query

        def rewrite(cursor: Cursor) -> None:
            execute = cursor.execute
            relation = (self._namespace.of(partition).as_string(cursor),)
            self._limit_wait(cursor, max(self._wait, _LEAST_WAIT))
            unmark = query(_UNMARK_DEAD, "_unswept", dead=_DEAD)
            if execute("SELECT to_regclass(%s)", relation).fetchone() == (None,):
                execute(unmark, (partition,))
                return
            execute(query("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", partition))
            rest = "CREATE TEMPORARY TABLE rest ON COMMIT DROP AS SELECT * FROM {}"
            execute(query(rest, partition))
            execute(query("TRUNCATE {}", partition))
            execute(query("INSERT INTO {} SELECT * FROM pg_temp.rest", partition))
            execute(unmark, (partition,))

        return rewrite

    # -- retention --------------------------------------------------------------------------------

    def prune(self, rule: Rule) -> Removal:
        """Drop partitions whose fields have all expired, and clear the expired fields of others. A
        field of a day's partition expires when the day's last moment is as old as the retention. If
        another session has locked a partition, leave it for the next time, and hardly wait for
        further ones. Raises ``DeliveryError`` if a partition cannot be pruned and no other was."""
        deleted = shortened = 0
        now = rule.now or datetime.now(UTC)
        unruled, due = self._server.run(lambda cursor: _due(cursor, self._namespace, rule))
        wait, causes = max(self._wait, _WRITER_SECONDS), dict[Cause, DeliveryError]()
        for partition, columns, fields in due:
            try:
                if len(fields) == len(columns.keys() - RESERVED):
                    drop = partial(self._drop, partition, wait)
                    deleted += self._server.run(drop, CHANGE_SECONDS)
                elif not self._is_pruned(partition, fields, now):
                    clear = partial(self._expire, partition, columns, fields, wait)
                    shortened += self._server.run(clear, CHANGE_SECONDS)
                    self._pruned[partition] = fields, now
            except DeliveryError as error:
                causes[error.cause] = error
                wait = _SHORT_WAIT
                if error.cause == "unreachable":
                    break
        is_swept = self._sweep() and not causes
        causes.pop("busy", None)
        if causes and not deleted and not shortened:
            raise next(iter(causes.values()))
        return Removal(deleted, shortened, is_swept=is_swept, unruled=unruled)

    def _is_pruned(self, partition: str, fields: frozenset[str], now: datetime) -> bool:
        pruned, moment = self._pruned.get(partition, (frozenset(), now))
        return fields <= pruned and now - moment < _PRUNED_FOR

    def _expire(
        self,
        partition: str,
        columns: Mapping[str, str],
        fields: frozenset[str],
        wait: float,
        cursor: Cursor,
    ) -> int:
        compiled = sql([Part(fields)], columns, DIALECT)
        if compiled is None:
            return 0
        self._wait_for_writers(cursor, [partition], wait)
        return self._change(cursor, partition, compiled)

    def _drop(self, partition: str, wait: float, cursor: Cursor) -> int:
        self._limit_wait(cursor, wait)
        count = self._namespace.query("SELECT count(*) FROM {}", partition)
        (number,) = cursor.execute(count).fetchone() or (0,)
        cursor.execute(self._namespace.query("DROP TABLE {}", partition))
        unmark = self._namespace.query("DELETE FROM {} WHERE partition = %s", "_unswept")
        cursor.execute(unmark, (partition,))
        return int(number)


# -- what is there --------------------------------------------------------------------------------


def scan(
    cursor: Cursor, namespace: Namespace, rule: Rule
) -> Iterator[tuple[str, dict[str, str], sql_.Composed, Mapping[str, str]]]:
    """Yield each table that a rule concerns, with its columns, the query for the rows, and the
    query's values."""
    for table, columns, compiled in _tables(cursor, namespace, rule):
        if compiled is not None:
            values = sql_.SQL(", ").join(readable(*each) for each in columns.items())
            query = namespace.query("SELECT {values} FROM {} WHERE ", table, values=values)
            yield table, columns, query + _raw(compiled.concerned), compiled.values


def measure(cursor: Cursor, namespace: Namespace, rule: Rule) -> Iterator[Holding]:
    """Count the rows that a rule concerns, and the values that they lose, table by table."""

    def row(query: str, values: Mapping[str, str]) -> Sequence[Any]:
        return cursor.execute(query.encode(), values).fetchone() or ()

    tables = (
        (table, namespace.text(cursor, table), compiled)
        for table, _, compiled in _tables(cursor, namespace, rule)
    )
    return measured(tables, readable("received", "timestamptz").as_string(cursor), row)


def _raw(text: str) -> sql_.Composed:
    """Return SQL that was compiled from a rule."""
    return sql_.SQL(cast("Any", text.replace("{", "{{").replace("}", "}}"))).format()


def _tables(
    cursor: Cursor, namespace: Namespace, rule: Rule
) -> Iterator[tuple[str, dict[str, str], SqlRule | None]]:
    """Yield the tables with their columns and what a rule does to them, ``None`` if the rule does
    not know the table. Raises ``DeliveryError`` E504 if a column may hold a person in an unknown
    form."""
    for table, columns in namespace.tables(cursor).items():
        parts = rule.parts(table)
        if parts is None:
            yield table, columns, None
        elif compiled := sql([each for each in parts if _fits(each, columns)], columns, DIALECT):
            yield table, columns, compiled


def _fits(part: Part, columns: Mapping[str, str]) -> bool:
    """Return whether a table can have the value by which a part selects a person."""
    if part.field is None:
        return True
    kind = columns.get(part.field)
    if kind is not None and kind not in TYPES:
        raise DeliveryError("E504", f"column `{part.field}` has another type")
    return kind is not None and value_fits(part.value, kind)


def concerned(cursor: Cursor, namespace: Namespace, rule: Rule) -> Iterator[tuple[str, SqlRule]]:
    """Yield the partitions that a rule may concern, and all that others have made, whatever their
    days."""
    for table, _, compiled in _tables(cursor, namespace, rule):
        if compiled is None:
            continue
        parts = rule.parts(table) or ()
        for partition in namespace.other_partitions(cursor, table):
            yield partition, compiled
        for partition, day in namespace.partitions(cursor, table).items():
            first, last = (to_minute(_midnight(day + timedelta(days=each))) for each in (0, 1))
            if any(part.start < last and first < part.end for part in parts):
                yield partition, compiled


_Due = tuple[str, dict[str, str], frozenset[str]]


def _due(cursor: Cursor, namespace: Namespace, rule: Rule) -> tuple[tuple[str, ...], list[_Due]]:
    """Return the tables without a known retention, and the partitions with expired fields, with
    their columns and these fields."""
    unruled, due = list[str](), list[_Due]()
    for table, columns in namespace.tables(cursor).items():
        parts = rule.parts(table)
        if parts is None:
            unruled.append(table)
        for partition, day in namespace.partitions(cursor, table).items() if parts else ():
            end = to_minute(_midnight(day + timedelta(days=1)))
            over = (part.removed(columns) for part in parts or () if end <= part.end)
            if fields := frozenset(chain.from_iterable(over)):
                due.append((partition, columns, fields))
    return tuple(unruled), due


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
