"""The embedded store: SQLite, one table per schema, one typed column per field.

Only minimised records ever reach it. Batches are durable before ``deliver`` returns (WAL,
``synchronous=FULL``), and each is stored exactly once by its id. The file is readable by its owner
only.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from collector.config.sink_settings import SinkSettings
from collector.config.values import Flag, Location
from collector.contracts import Batch, Layout, Record, Removal, Row
from collector.errors import CollectorError, DeliveryError
from collector.files import make_directory
from collector.filter.redaction import Rule
from collector.filter.stored import Values
from collector.schema.model import Schema
from collector.sinks import store_rows
from collector.sinks.inventory import check_store, foreign_parts, reading
from collector.sinks.sink import (
    ErasableSink,
    Guarantee,
    Holding,
    Opening,
    own_directory,
)
from collector.sinks.store_file import (
    OWN,
    RowPlaces,
    RowReorder,
    Table,
    connect,
    make_private,
    require_store,
    run_or_raise,
)
from collector.sqlite.compaction import remove_copies
from collector.sqlite.connection import check_database, checkpoint, make_durable, transaction
from collector.sqlite.wal import Index, need_room
from collector.turns import in_turns

__all__ = ["FILE_NAME", "Store", "StoreSettings", "StoreSink"]

FILE_NAME = "store.db"
"""The name of the store's file in a data directory."""

_STORED_IDS = 100_000
"""How many of the newest ids are stored, out of millions in a year. A batch is repeated before the
next ones, or at worst after the spool has lost its newest pages."""
_Part = tuple[Batch, Table, list[Row]]


class StoreSettings(SinkSettings):
    """The embedded store."""

    enabled: Flag = Field(
        True,
        description="The embedded store, `store.db` in the data directory. `sinks.store: false`"
        " means the same as this.",
    )
    path: Location = Field(
        None,
        description="Its file. Default: `store.db` in the data directory, or in `sinks/NAME`"
        " there for a further store.",
    )

    @property
    def is_on(self) -> bool:
        """Whether records go there."""
        return self.enabled

    @property
    def is_local(self) -> bool:
        """Always true: the file is on this machine."""
        return True

    def file(self, directory: Path) -> Path:
        """Return the file of a sink whose own directory is ``directory``."""
        if self.path is not None:
            return self.path
        is_first = directory.name == "store"
        return (directory.parent.parent if is_first else directory) / FILE_NAME

    def place(self, directory: Path) -> str:
        """Name the file."""
        return str(self.file(directory))

    def files(self) -> Mapping[str, Path]:
        """Return the file, if the settings name one."""
        return {} if self.path is None else {"path": self.path}

    def moved(self, directory: Path) -> StoreSettings:
        """Return the same settings without the name of a file."""
        return self.model_copy(update={"path": None})


class StoreSink(ErasableSink):
    """The embedded store as a type of sinks: the tables of schemas in a file. For one thread at a
    time.

    Missing columns are added to a table, also for batches of other layouts, such as an earlier
    version of a schema; other columns stay. Raises ``ConfigError`` E203 if the path cannot be used,
    and ``DeliveryError`` if the file is not a database or has another format (E501), or a table
    does not fit (E504). If the disk or another process prevents opening the file now, it is opened
    when batches come.
    """

    Settings: ClassVar[type[SinkSettings]] = StoreSettings
    guarantee: ClassVar[Guarantee] = "once"
    is_shared = True
    unit = "rows"

    def __init__(self, settings: StoreSettings, opening: Opening) -> None:
        self.opening = opening
        self.path: Path = settings.file(own_directory(opening.data, opening.name))
        self._tables: dict[Layout, Table] = {}
        self._places: dict[str, RowPlaces] = {}
        self.reorder: RowReorder = RowReorder()
        self._index: Index | None = None
        self._connection: sqlite3.Connection | None = None
        if opening.is_offline:
            return
        make_directory(self.path.parent, within=opening.data)
        make_private(self.path)
        self._connection = connect(self.path)
        try:
            self._need()
        except CollectorError as error:
            if not (isinstance(error, DeliveryError) and error.may_pass):
                self._connection.close()
                raise

    @classmethod
    def check(cls, settings: StoreSettings, opening: Opening) -> None:
        """Check that the file can be created, or is a store of ours with columns that fit."""
        path = settings.file(own_directory(opening.data, opening.name))
        check_database(path, within=opening.data)
        for schema in opening.schemas:
            check_store(path, Table(schema.layout))

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise DeliveryError("E503", "the sink is open for a command, not for delivery")
        return self._connection

    # -- delivery ---------------------------------------------------------------------------------

    def deliver(self, *batches: Batch) -> None:
        """Store the batches durably, all of them or none, each exactly once by its id; reorder rows
        and prune if that is due.

        Raises ``DeliveryError``: E503 if the store cannot take them now, E504 if columns do not fit
        the table, E507 if a batch cannot be read.
        """
        self._need()
        parts = []
        for batch in batches:
            table = self._table(batch.layout or self.opening.schemas[0].layout)
            parts.append((batch, table, table.rows(batch)))
        if parts:
            run_or_raise(lambda: self._store(parts))
        if self.reorder.is_due:
            self.reorder.run(self._db)
        with suppress(DeliveryError):  # ``is_held`` reports it
            self.idle()

    def idle(self) -> None:
        """Reorder rows and prune, when due."""
        self._need()
        if self.reorder.is_due:
            self.reorder.run(self._db)
        super().idle()

    def close(self) -> None:
        """Reorder the newest rows, checkpoint the log if the disk permits it, and close the
        file."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self.reorder.run(self._connection)
                checkpoint(self._connection)
            with suppress(sqlite3.Error):
                self._connection.close()
        if self._index is not None:
            self._index.close()

    def _need(self) -> None:
        """Open the file, unless it is open."""
        if self._index is None:
            message = "the store cannot be opened: it is no database of ours"
            self._index = run_or_raise(self._open, "E501", message)

    def _table(self, layout: Layout) -> Table:
        """Return the table of a layout; create or widen it at the first batch of the layout."""
        table = self._tables.get(layout)
        if table is None:
            table = Table(layout)
            run_or_raise(lambda: self._fit(table, layout))
            run_or_raise(lambda: self._add(layout, table))
        return table

    def _fit(self, table: Table, layout: Layout) -> None:
        with transaction(self._db):
            table.fit(self._db)
            store_rows.note(self._db, layout, self.opening)

    def _store(self, parts: Sequence[_Part]) -> None:
        """Insert batches in one transaction. If a place is taken, which is rare, try again and
        avoid the taken places."""
        try:
            with transaction(self._db):
                added = self._insert(parts)
        except sqlite3.IntegrityError:
            with transaction(self._db):
                added = self._insert(parts, is_careful=True)
        for table, number in added.items():
            places = self._places[table.name]
            self.reorder.add(table, places.base, number)
            places.advance(number)

    def _insert(self, parts: Sequence[_Part], *, is_careful: bool = False) -> dict[Table, int]:
        """Insert the rows of new batches; return their number by table."""
        new: dict[Table, list[tuple[str, list[Row]]]] = {}
        for batch, table, rows in parts:
            if self._is_new(batch):
                new.setdefault(table, []).append((batch.received, rows))
        added: dict[Table, int] = {}
        for table, groups in new.items():
            places = self._places[table.name]
            found = self._db.execute(table.places, (places.base,)) if is_careful else ()
            rows = places.rows(groups, {place for (place,) in found} if is_careful else None)
            self._db.executemany(table.insert, in_turns(rows))
            added[table] = len(rows)
        return added

    def _is_new(self, batch: Batch) -> bool:
        """Return whether a batch is new, and note its id."""
        execute = self._db.execute
        new = execute("INSERT OR IGNORE INTO _delivered (id) VALUES (?)", (batch.id,))
        if not new.rowcount:
            return False
        execute("DELETE FROM _delivered WHERE number <= ?", ((new.lastrowid or 0) - _STORED_IDS,))
        return True

    def _open(self) -> Index:
        need_room(self.path)
        require_store(self._db)
        remove_copies(self.path)
        make_durable(self._db)
        found = [(schema.layout, Table(schema.layout)) for schema in self.opening.schemas]
        with transaction(self._db):
            OWN.create(self._db)
            for layout, table in found:
                table.fit(self._db, view=True)
                store_rows.note(self._db, layout, self.opening)
        for layout, table in found:
            self._add(layout, table)
        return Index(self.path)

    def _add(self, layout: Layout, table: Table) -> None:
        if table.name not in self._places:
            self._places[table.name] = RowPlaces(self._db.execute(table.last).fetchone()[0])
        self._tables[layout] = table

    # -- retention and rights ---------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        """Whether there is a file."""
        return self.path.is_file()

    @property
    def is_ours(self) -> bool:
        """Whether the file is a store."""
        with suppress(CollectorError), reading(self.path):
            return True
        return False

    @property
    def others(self) -> int:
        """Count the parts of the file that we would not have written."""
        return foreign_parts(self.path)

    def scan(self, rule: Rule) -> Iterator[tuple[str, Record]]:
        """Yield rows, each with its table."""
        return store_rows.read(self.path, lambda db: store_rows.scan(db, rule))

    def measure(self, rule: Rule) -> Iterator[Holding]:
        """Count rows and values, table by table."""
        return store_rows.read(self.path, lambda db: store_rows.measure(db, rule))

    def rewrite(self, rules: Sequence[Rule]) -> list[Removal]:
        """Delete and shorten rows, and compact the file once."""
        return store_rows.rewrite(self.path, rules, self.opening.wait)

    def steps(self, rule: Rule) -> Iterator[Removal]:
        """Prune several thousand rows at a time, and compact the file at the end."""
        steps = store_rows.steps(self._db, self.path, rule, self.reorder.forget)
        while (done := run_or_raise(lambda: next(steps, None))) is not None:
            yield done

    def noted(self) -> Mapping[str, Mapping[str, timedelta]]:
        """Return the retentions that the store notes."""
        return dict(store_rows.read(self.path, lambda db: store_rows.retentions(db).items()))

    def values(self) -> Iterator[Values]:
        """Yield the values of several thousand rows at a time."""
        return store_rows.read(self.path, store_rows.values)


class Store(StoreSink):
    """A store at a path for one application, with the tables of ``schema`` and of ``others``.
    ``pruned`` gets the counts of each pruning that removed anything. Raises as ``StoreSink``."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        schema: Schema,
        *others: Schema,
        pruned: Callable[[Removal], None] = lambda _: None,
    ) -> None:
        self.table: str = schema.name
        path = Path(path)
        settings = StoreSettings(type="store", path=path)
        super().__init__(settings, Opening("store", (schema, *others), path.parent, report=pruned))

    def __repr__(self) -> str:
        return f"<Store of {self.table}>"

    def count(self) -> int:
        """Return the number of events in the table; a merged row counts as several."""
        self._need()
        query = self._tables[self.opening.schemas[0].layout].count
        message = "the store cannot be read"
        return int(run_or_raise(lambda: self._db.execute(query).fetchone()[0], "E501", message))
