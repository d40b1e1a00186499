"""Remove records from a namespace, and every byte of them: retention, erasure and objection.

A deleted row stays in the table's file until its page is needed, and ``VACUUM FULL`` leaves rows
that another session may still see, and says nothing where a right is lacking. So a partition from
which rows went is written anew in one transaction: into a temporary table, and back after
``TRUNCATE``, which gives the table and its indexes new files. ``_unswept`` names the partitions
that are to be written anew: those from which rows went, and those to which a session wrote that
broke off, as rows that were never committed lie there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import chain

from psycopg import sql

from collector.contracts import Record, Subject, to_minute
from collector.errors import Cause, DeliveryError, Unreachable
from collector.sinks.line_sink import EARLY
from collector.sinks.postgres.columns import (
    RESERVED_COLUMNS,
    TYPES,
    plain_rows,
    readable,
    value_fits,
)
from collector.sinks.postgres.server import Cursor, Server
from collector.sinks.postgres.tables import Namespace, window_days
from collector.sinks.sink import Removal

CHANGE_SECONDS = 3600.0
"""How long it may take to look through the partitions of a window, and to write one anew."""
_LEAST_WAIT = 1.0
_SHORT_WAIT = 0.1
_WRITER_SECONDS = 10.0
"""How long a session that writes is waited for, at least."""
_LATE = timedelta(hours=26)
"""How long after its retention a field counts as overdue: a partition goes as a whole, at the end
of its day, and there is an hour between prunings."""
_PRUNED_FOR = timedelta(hours=23)
_AHEAD = timedelta(days=1)
"""No sender's clock is assumed to be further ahead."""
_MARK = "INSERT INTO {} SELECT %s, pid, backend_start FROM {me} AS me"
_UNMARK = "DELETE FROM {} WHERE (pid, started) IN {me}"
_ME = sql.SQL("(SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())")
_DUE = "INSERT INTO {} (partition) VALUES (%s)"
_MARKED = "SELECT partition FROM {} u WHERE {dead}"
_UNMARK_DEAD = "DELETE FROM {} u WHERE partition = %s AND {dead}"
_DEAD = sql.SQL(
    "NOT EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.pid = u.pid"
    " AND a.backend_start = u.started)"
)
"""Of a mark ``u``: it is of no session that still lives."""
_FILES = """
SELECT oid, pg_relation_filenode(oid) FROM pg_class WHERE relkind <> 'p' AND (oid = %s::regclass
    OR oid IN (SELECT relid FROM pg_partition_tree(%s::regclass)))
"""
"""The file of a partition, or those of its own partitions."""
_EVERY_ROW = sql.SQL("true")


class Remover:
    """Removes rows from the partitions of a namespace. It knows which of them were pruned in the
    last day, so that they need not be looked through each hour; a sink of another process may have
    written there meanwhile."""

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
        """Note that all that this session wrote is committed."""
        cursor.execute(self._namespace.query(_UNMARK, "_unswept", me=_ME))

    def written(self, partition: str) -> None:
        """Note that rows came to a partition."""
        self._pruned.pop(partition, None)

    # -- the rights of a person -------------------------------------------------------------------

    def revise_all(self, steps: Sequence[tuple[Subject, Collection[str] | None]]) -> list[Removal]:
        """Delete the rows of each person, or clear the fields that are named and delete rows
        without any other; then write each partition anew from which something went."""

        def change(cursor: Cursor) -> list[int]:
            found = (_partitions(cursor, self._namespace, subject) for subject, _ in steps)
            self._wait_for_writers(cursor, {name for _, name in chain.from_iterable(found)})
            return [self._revised(cursor, subject, fields) for subject, fields in steps]

        numbers = self._server.run(change, CHANGE_SECONDS)
        is_swept = self._sweep([subject for subject, _ in steps])
        return [Removal(number, is_swept=is_swept) for number in numbers]

    def _wait_for_writers(
        self, cursor: Cursor, partitions: Collection[str], seconds: float | None = None
    ) -> None:
        """Let no other session write to partitions until the transaction ends. One that does so is
        waited for: what it commits later would not be found. It may be an earlier session of this
        sink, which was given up at its ``COMMIT``."""
        if partitions:
            names = sql.SQL(", ").join(map(self._namespace.of, sorted(partitions)))
            self._limit_wait(cursor, seconds or max(self._wait, _WRITER_SECONDS))
            lock = sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE")
            cursor.execute(lock.format(names))

    def _limit_wait(self, cursor: Cursor, seconds: float) -> None:
        milliseconds = sql.Literal(int(1000 * seconds))
        cursor.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(milliseconds))

    def _revised(self, cursor: Cursor, subject: Subject, fields: Collection[str] | None) -> int:
        number = 0
        for columns, partition in _partitions(cursor, self._namespace, subject):
            here = _is(subject, columns)
            if fields is None:
                statement = self._namespace.query(
                    "DELETE FROM {} WHERE {here}", partition, here=here
                )
                number += self._counted(cursor, partition, statement, _values(subject))
            else:
                parts = _split(columns, fields)
                number += self._clear(cursor, partition, parts, here, subject)
        return number

    def _clear(
        self,
        cursor: Cursor,
        partition: str,
        columns: tuple[Sequence[str], Sequence[str]],
        here: sql.Composable,
        subject: Subject | None = None,
    ) -> int:
        """Clear columns of the rows of a partition; delete rows in which the others are empty."""
        cleared, others = ([sql.Identifier(name) for name in names] for names in columns)
        if not cleared:
            return 0
        some = sql.SQL(" OR ").join(sql.SQL("{} IS NOT NULL").format(each) for each in cleared)
        none = sql.SQL(" AND ").join(sql.SQL("{} IS NULL").format(each) for each in others)
        empty = sql.SQL(", ").join(sql.SQL("{} = NULL").format(each) for each in cleared)
        number = 0
        for change in (
            "DELETE FROM {} WHERE {here} AND ({some}) AND ({none})",
            "UPDATE {} SET {empty} WHERE {here} AND ({some})",
        ):
            parts = {"here": here, "some": some, "none": none if others else _EVERY_ROW}
            statement = self._namespace.query(change, partition, empty=empty, **parts)
            number += self._counted(cursor, partition, statement, _values(subject))
        return number

    def _counted(
        self, cursor: Cursor, partition: str, statement: sql.Composed, values: Sequence[str]
    ) -> int:
        """Run a statement that removes something from a partition; note that it is to be swept."""
        number = cursor.execute(statement, values).rowcount
        if number:
            cursor.execute(self._namespace.query(_DUE, "_unswept"), (partition,))
        return number

    # -- writing anew -----------------------------------------------------------------------------

    def _sweep(self, subjects: Sequence[Subject] | None = None) -> bool:
        """Write the partitions anew that are noted, those of the subjects' windows if any are
        given; return whether all of them are. Another session that has one locked is waited for."""

        def noted(cursor: Cursor) -> list[str]:
            marked = self._namespace.query(_MARKED, "_unswept", dead=_DEAD)
            names = {name for (name,) in cursor.execute(marked)}
            if subjects is not None:
                found = (_partitions(cursor, self._namespace, subject) for subject in subjects)
                names &= {name for _, name in chain.from_iterable(found)}
            return sorted(names)

        is_swept = True
        for partition in self._server.run(noted):
            try:
                self._server.run(self._rewrites(partition), CHANGE_SECONDS)
            except Unreachable:
                is_swept = False
        return is_swept

    def _rewrites(self, partition: str) -> Callable[[Cursor], None]:
        """Return what writes a partition and its indexes into new files. It raises ``Unreachable``
        if these are the old ones, which cannot be."""
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
            before = {*execute(_FILES, 2 * relation)}
            rest = "CREATE TEMPORARY TABLE rest ON COMMIT DROP AS SELECT * FROM {}"
            execute(query(rest, partition))
            execute(query("TRUNCATE {}", partition))
            execute(query("INSERT INTO {} SELECT * FROM pg_temp.rest", partition))
            execute(unmark, (partition,))
            if before.intersection(execute(_FILES, 2 * relation)):
                raise Unreachable("the server did not write the table anew")

        return rewrite

    # -- retention --------------------------------------------------------------------------------

    def prune(self, now: datetime) -> Removal:
        """Drop partitions whose last field is over, and clear the fields that are over of others. A
        day's partition goes when its last moment is as old as the retention. One that another
        session has locked is left for the next time; others of which that is so are not waited for.
        Raises ``DeliveryError`` for one that cannot be pruned, when nothing else can be."""
        deleted = shortened = 0
        unruled, due = self._server.run(lambda cursor: _due(cursor, self._namespace, now))
        wait, causes = max(self._wait, _WRITER_SECONDS), dict[Cause, DeliveryError]()
        for partition, columns, fields in due:
            parts = _split(columns, fields)
            try:
                if not parts[1]:
                    drop = partial(self._drop, partition, wait)
                    deleted += self._server.run(drop, CHANGE_SECONDS)
                elif not self._is_pruned(partition, fields, now):
                    clear = partial(self._expire, partition, parts, wait)
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
        return Removal(deleted, shortened, is_swept, unruled)

    def _is_pruned(self, partition: str, fields: frozenset[str], now: datetime) -> bool:
        pruned, moment = self._pruned.get(partition, (frozenset(), now))
        return fields <= pruned and now - moment < _PRUNED_FOR

    def _expire(
        self,
        partition: str,
        columns: tuple[Sequence[str], Sequence[str]],
        wait: float,
        cursor: Cursor,
    ) -> int:
        self._wait_for_writers(cursor, [partition], wait)
        return self._clear(cursor, partition, columns, _EVERY_ROW)

    def _drop(self, partition: str, wait: float, cursor: Cursor) -> int:
        self._limit_wait(cursor, wait)
        count = self._namespace.query("SELECT count(*) FROM {}", partition)
        (number,) = cursor.execute(count).fetchone() or (0,)
        cursor.execute(self._namespace.query("DROP TABLE {}", partition))
        unmark = self._namespace.query("DELETE FROM {} WHERE partition = %s", "_unswept")
        cursor.execute(unmark, (partition,))
        return int(number)


# -- what is there --------------------------------------------------------------------------------


def find(cursor: Cursor, namespace: Namespace, subject: Subject) -> list[tuple[str, Record]]:
    """Return a person's rows, each with its table, without columns that are NULL."""
    found = list[tuple[str, Record]]()
    for table, columns in _concerned(cursor, namespace, subject):
        values = sql.SQL(", ").join(readable(*each) for each in columns.items())
        select = "SELECT {values} FROM {} WHERE {here} ORDER BY received"
        query = namespace.query(select, table, values=values, here=_is(subject, columns))
        rows = cursor.execute(query, _values(subject)).fetchall()
        for row in plain_rows(rows, columns):
            found.append((table, {name: each for name, each in row.items() if each is not None}))
    return found


def overdue(cursor: Cursor, namespace: Namespace, now: datetime) -> Iterator[str]:
    """Report fields that are older than they may be, and rows of the future."""
    rules = namespace.rules(cursor)
    for table in namespace.tables(cursor):
        spans = rules.get(table)
        if spans is None:
            yield f"the database's table `{table}` has no known retention"
            continue
        counts = [sql.SQL("count(*) FILTER (WHERE received > {})").format(_minute(now + _AHEAD))]
        for name, span in spans.items():
            count, end = "count({}) FILTER (WHERE received < {})", now - span - _LATE
            counts.append(sql.SQL(count).format(sql.Identifier(name), _minute(end)))
        query = namespace.query("SELECT {counts} FROM {}", table, counts=sql.SQL(", ").join(counts))
        early, *outlived = cursor.execute(query).fetchone() or (0,)
        if early:
            yield f"the database's table `{table}` holds {early} rows {EARLY}"
        for name, times in zip(spans, outlived, strict=True):
            if times:
                yield f"the database holds `{name}` of {times} records past its retention"


_Due = tuple[str, dict[str, str], frozenset[str]]


def _due(cursor: Cursor, namespace: Namespace, now: datetime) -> tuple[tuple[str, ...], list[_Due]]:
    """Return the tables without a known retention, and partitions, their columns, and the fields
    that are over."""
    tables, rules = namespace.tables(cursor), namespace.rules(cursor)
    due = list[_Due]()
    for table, spans in rules.items():
        for partition, day in namespace.partitions(cursor, table).items():
            end = _midnight(day + timedelta(days=1))
            fields = frozenset(name for name, span in spans.items() if end + span <= now)
            if fields:
                due.append((partition, tables[table], fields))
    return tuple(name for name in tables if name not in rules), due


def _split(
    columns: Mapping[str, str], fields: Collection[str]
) -> tuple[Sequence[str], Sequence[str]]:
    """Divide columns into those that are among ``fields``, and the others."""
    names = [name for name in columns if name not in RESERVED_COLUMNS]
    cleared = [name for name in names if name in fields]
    return cleared, [name for name in names if name not in fields]


def _concerned(
    cursor: Cursor, namespace: Namespace, subject: Subject
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the tables that can have a subject's value, with their columns."""
    for table, columns in namespace.tables(cursor).items():
        if subject.concerns(table) and (kind := columns.get(subject.field)) is not None:
            if kind not in TYPES:  # the person may be there, in a form that is not known
                raise DeliveryError("E504", f"column `{subject.field}` has another type")
            if value_fits(subject.value, kind):
                yield table, columns


def _partitions(
    cursor: Cursor, namespace: Namespace, subject: Subject
) -> Iterator[tuple[dict[str, str], str]]:
    """Yield the partitions that can have a subject's rows, with their columns; those that others
    have made, of whatever days, too."""
    first, last = window_days(subject)
    for table, columns in _concerned(cursor, namespace, subject):
        for partition in namespace.other_partitions(cursor, table):
            yield columns, partition
        for partition, day in namespace.partitions(cursor, table).items():
            if first <= day <= last:
                yield columns, partition


def _is(subject: Subject, columns: Mapping[str, str]) -> sql.Composed:
    text = "{} = %s::{} AND received >= %s::timestamptz AND received < %s::timestamptz"
    return sql.SQL(text).format(sql.Identifier(subject.field), sql.SQL(columns[subject.field]))


def _values(subject: Subject | None) -> Sequence[str]:
    return () if subject is None else (subject.value, subject.start, subject.end)


def _minute(moment: datetime) -> sql.Composed:
    return sql.SQL("{}::timestamptz").format(sql.Literal(to_minute(moment)))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
