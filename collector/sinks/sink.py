"""The contract of a sink: what a type of sinks is given, must do and may do.

``docs/sinks.md`` explains it with an example; ``collector.testing.sinks`` tests a type against it.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path
from time import monotonic
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from collector.contracts import (
    RESERVED,
    Batch,
    Closing,
    Layout,
    Part,
    Record,
    Removal,
    to_minute,
)
from collector.errors import CollectorError, ConfigError, DeliveryError
from collector.files import failing_as, make_directory

if TYPE_CHECKING:
    from collector.config.sink_settings import SinkSettings
    from collector.filter.redaction import Rule, SqlRule
    from collector.filter.stored import Values
    from collector.schema.model import Schema

__all__ = [
    "ErasableSink",
    "Guarantee",
    "Holding",
    "Opening",
    "Removal",
    "Sink",
    "check_sink",
    "close_sink",
    "contained",
    "expiry_of",
    "finish_sink",
    "holds_expired",
    "in_place",
    "is_erasable",
    "open_sink",
    "own_directory",
    "random_keys",
    "random_order",
    "shuffled",
    "sink_type",
]

Guarantee = Literal["once", "at_least_once"]
EARLY = "dated in the future, so a clock was wrong"
AHEAD = timedelta(days=1)
"""We assume that no sender's clock is further ahead."""
_STEP_SECONDS = 0.05
_SOON, _LATER = 5.0, 60.0
"""The pause before another try to sweep a part, and before another pruning after a failure."""
_SHOWN = 5000
_T = TypeVar("_T")


def random_keys(number: int) -> list[int]:
    """Draw numbers of 64 bits from the system."""
    return memoryview(os.urandom(8 * number)).cast("Q").tolist()


def random_order(number: int) -> list[int]:
    """Return the numbers below ``number`` in an unpredictable order, because neighbouring records
    would tell who met whom."""
    keys = random_keys(number)
    return sorted(range(number), key=keys.__getitem__)


def shuffled(items: Sequence[_T]) -> list[_T]:
    """Return items in random order."""
    return [items[at] for at in random_order(len(items))]


def own_directory(data: Path, name: str) -> Path:
    """Return the directory of a sink below the data directory."""
    return data / "sinks" / name


@dataclass(frozen=True, slots=True)
class Holding:
    """What a rule concerns in a sink's collection, such as a table or a file: the number of
    records, how many of them lose each field, and the minutes of the first and the last.
    ``unruled`` counts old records of schemas that the rule does not know."""

    name: str
    records: int
    fields: Mapping[str, int]
    first: str | None
    last: str | None
    unruled: int = 0


def counted(records: Iterable[tuple[str, Record]], rule: Rule) -> Iterator[Holding]:
    """Count records, and the fields that they lose by a rule, by collection. Records of schemas
    that the rule does not know count as ``unruled``."""
    from collector.filter.redaction import EVERYTHING  # noqa: PLC0415 - it loads msgspec

    def lost(name: str, record: Record, minute: str) -> tuple[str, ...] | None:
        if rule is EVERYTHING:
            return tuple(record.keys() - RESERVED)
        removed = rule.fields_to_remove({"schema": name, **record}, minute)
        return None if removed is None else tuple(removed)

    numbers = Counter[tuple[str, str, tuple[str, ...] | None]]()
    known = dict[tuple[object, ...], tuple[str, str, tuple[str, ...] | None]]()
    for name, record in records:
        minute = str(record.get("received", ""))
        if rule.has_people:
            numbers[name, minute, lost(name, record, minute)] += 1
            continue
        shape = name, minute, record.get("schema"), *record
        if shape not in known:
            known[shape] = name, minute, lost(name, record, minute)
        numbers[known[shape]] += 1
    for (name, minute, fields), number in numbers.items():
        if fields is None:
            yield Holding(name, 0, {}, None, None, number)
        else:
            yield Holding(name, number, dict.fromkeys(fields, number), minute, minute)


def joined(holdings: Iterable[Holding]) -> Iterator[Holding]:
    """Add up the holdings of the parts of each collection."""
    numbers: dict[str, Counter[str]] = {}
    ends: dict[str, tuple[str, str]] = {}
    first: str | None
    last: str | None
    for each in holdings:
        number = numbers.setdefault(each.name, Counter())
        number.update({"": each.records, "?": each.unruled})
        number.update(each.fields)
        if each.first is not None and each.last is not None:
            low, high = ends.get(each.name, (each.first, each.last))
            ends[each.name] = min(low, each.first), max(high, each.last)
    for name, fields in sorted(numbers.items()):
        records, unruled = fields.pop(""), fields.pop("?")
        first, last = ends.get(name, (None, None))
        yield Holding(name, records, fields, first, last, unruled)


def measured(
    tables: Iterable[tuple[str, str, SqlRule | None]],
    minute: str,
    row: Callable[[str, Mapping[str, str]], Sequence[Any]],
) -> Iterator[Holding]:
    """Count the rows of tables that a rule concerns, and the values that they lose. Each table has
    its name in SQL and what the rule does to it, ``None`` if the rule does not know it. ``minute``
    is SQL for when a row was received. ``row`` runs a query with values and returns one row."""
    for table, source, compiled in tables:
        if compiled is None:
            (number,) = row(f"SELECT count(*) FROM {source}", {})  # noqa: S608 - quoted names
            yield Holding(table, 0, {}, None, None, number)
        else:
            number, first, last, *times = row(compiled.counting(source, minute), compiled.values)
            fields = dict(zip(compiled.counts, times, strict=True))
            yield Holding(table, number, fields, first, last)


@dataclass(frozen=True)
class Opening:
    """The context in which a sink is opened.

    ``name`` is the sink's name. ``schemas`` are the schemas that run, the default first, each with
    the ``retentions`` of its fields. ``report`` takes the counts of what the sink has pruned by
    itself, for the ledger.

    ``is_offline`` is true if a command opens the sink: nothing is delivered, and opening it must
    not create or change anything. ``scan``, ``measure`` and ``values`` may be called while a
    sidecar has the same sink open, ``rewrite`` only while none has. ``rewrite`` waits ``wait``
    seconds for readers.

    ``is_former`` is true if only an earlier configuration named the sink: nothing goes to its
    location any more, not even what waits in its own directory. ``has_location`` is false if
    another sink has its location now; then this sink covers only its own directory.

    ``is_shared`` is true if an application's SDK opens the sink: other processes, and other sinks
    of this process, may have its location open too.

    ``asks`` is false if a type's ``check`` must not wait for servers that may not answer, for
    example before a sidecar starts.
    """

    name: str
    schemas: tuple[Schema, ...]
    data: Path
    report: Callable[[Removal], None] = field(default=lambda _: None)
    is_offline: bool = False
    wait: float = 0.0
    is_shared: bool = False
    is_former: bool = False
    has_location: bool = True
    asks: bool = True

    @property
    def directory(self) -> Path:
        """Return the sink's own directory; create it (0700) unless it is opened offline."""
        directory = own_directory(self.data, self.name)
        if not self.is_offline:
            make_directory(directory, within=self.data)
        return directory

    @cached_property
    def earlier(self) -> Mapping[str, Schema]:
        """By digest, the schemas with which a sidecar ever ran in the data directory according to
        its ledger, the latest first. Empty if there is no ledger, or it cannot be read."""
        from collector.ledger import earlier_schemas  # noqa: PLC0415 - most sinks never need it
        from collector.spool import FILE_NAME  # noqa: PLC0415

        path = self.data / FILE_NAME
        with suppress(CollectorError):
            return earlier_schemas(path) if path.is_file() else {}
        return {}

    @cached_property
    def retentions(self) -> Mapping[str, Mapping[str, timedelta]]:
        """The retentions of fields by the name of their schema. They come from the schema that
        runs, else from the one that ran last according to the data directory's ledger."""
        found: dict[str, Mapping[str, timedelta]] = {}
        for schema in (*self.schemas, *self.earlier.values()):
            found.setdefault(schema.name, schema.retentions)
        return found

    def spans_of(self, layout: Layout) -> tuple[Mapping[str, timedelta], bool]:
        """Return the retentions of a layout's fields to note beside its records, and whether its
        schema runs. If it does not, a field gets the retention of a running field of the same name,
        or else the shortest one."""
        from collector.filter.redaction import shortest_retentions  # noqa: PLC0415 - as below

        for schema in self.schemas:
            if schema.name == layout.table:
                return schema.retentions, True
        spans = shortest_retentions(self.schemas)
        shortest = min(spans.values())
        return {name: spans.get(name, shortest) for name, _ in layout.columns}, False

    def schema_of(self, digest: str) -> Schema | None:
        """Return the schema with a digest; ``None`` if neither the schemas that run nor the ledger
        have it."""
        for schema in self.schemas:
            if schema.digest == digest:
                return schema
        return self.earlier.get(digest)


class Sink(Closing):
    """Where records go. For one thread at a time.

    A type derives from this class and names its ``Settings``. ``type(settings, opening)`` makes a
    sink; it raises ``ConfigError`` or ``DeliveryError`` if the sink cannot be used.
    """

    Settings: ClassVar[type[SinkSettings]]
    """The settings' class, which derives from ``SinkSettings``."""
    guarantee: ClassVar[Guarantee] = "at_least_once"
    """``once`` if a batch with the ``id`` of an earlier one has no effect, even after a
    restart."""
    is_shared: ClassVar[bool] = False
    """Whether several processes may have one location open at the same time, to deliver and to
    ``rewrite``, if the opening says ``is_shared``. The SDK needs that."""
    expires: ClassVar[timedelta | None] = None
    """How long the location keeps records before it deletes them, for a sink that is not an
    ``ErasableSink``. ``collector claims`` compares it with the schema; ``None`` is ``unproven``."""

    @classmethod
    def read_expiry(cls, settings: Any) -> timedelta | None:
        """Return ``expires`` as the location itself states it, if it can be asked; ``None`` if we
        lack the right to read it. May raise ``Unreachable`` and ``ConfigError``."""
        return cls.expires

    @classmethod
    def check(cls, settings: Any, opening: Opening) -> None:
        """Raise what making a sink would, as far as reading shows that; create and change nothing.

        Called by ``config check`` and before the sidecar starts. ``InUse`` is for a location that
        another process uses now, which is not a fault of the settings. The default makes a sink
        offline and closes it.
        """
        make: type = cls
        made: Sink = make(settings, replace(opening, is_offline=True))
        close_sink(made)

    @classmethod
    def warnings(cls, settings: Any, opening: Opening) -> Iterable[ConfigError]:
        """Return what an operator should change although the sink works. Called by ``config check``
        after ``check`` found no fault. Raises as ``check``."""
        return ()

    def deliver(self, *batches: Batch) -> None:
        """Store the batches durably, all of them before returning.

        Raises ``DeliveryError`` if it cannot store them now, and is called again later;
        ``Unacceptable`` for a batch that it will never take. Any other exception is a failure too.
        """
        raise NotImplementedError

    def idle(self) -> None:
        """Tidy up while no batch is pending. Called now and then, and again soon after an
        exception."""

    def finish(self) -> None:
        """Deliver collected records now, as far as possible. Called once before ``close`` when an
        application ends, because it may not run again."""

    def close(self) -> None:
        """Release all resources."""

    @property
    def is_held(self) -> bool:
        """Whether expired data could not be removed yet."""
        return False


class ErasableSink(Sink, ABC):
    """A sink that stores records, and can show and delete them. A type implements ``scan`` and
    ``rewrite``, and inherits the rest.

    ``unit`` is the name of its records in counts. The type's constructor sets ``opening``.
    """

    unit: ClassVar[str] = "records"
    late: ClassVar[timedelta] = timedelta(hours=2)
    """A field counts as overdue this long after its retention: longer than the time between
    prunings."""
    prune_seconds: ClassVar[float] = 3600.0
    """The time from one pruning to the next."""
    opening: Opening
    prune_at: float = 0.0
    """When pruning goes on, by the monotonic clock."""
    _steps: Iterator[Removal] | None = None
    _pruned: Removal = Removal()
    _is_held: bool = False

    @abstractmethod
    def scan(self, rule: Rule) -> Iterator[tuple[str, Record]]:
        """Yield the records that a rule concerns, whole, each with the name of its collection, in
        bounded memory."""

    @abstractmethod
    def rewrite(self, rules: Sequence[Rule]) -> list[Removal]:
        """Carry out rules in order, in one pass if that is cheaper, and leave no byte of what they
        remove. Return for each rule what was removed."""

    def measure(self, rule: Rule) -> Iterable[Holding]:
        """Count what a rule concerns, collection by collection. A type that can count without
        reading all records overrides this."""
        return joined(counted(self.scan(rule.with_unknown), rule))

    def steps(self, rule: Rule) -> Iterator[Removal]:
        """Carry out a rule by age. A type may override this to do so in parts, between which others
        use the sink. If a part is not swept, the next part tries again."""
        yield from self.rewrite([rule])

    def idle(self) -> None:
        """Prune if that is due, for some milliseconds at a time, and report the counts at the
        end."""
        until = monotonic() + _STEP_SECONDS
        while self.prune_at <= monotonic() < until:
            self._prune_some()

    def _prune_some(self) -> None:
        """Carry out the next part of a pruning, and set when the following part is due."""
        done, is_held = None, True
        try:
            if self._steps is None:
                self._steps = self.steps(self.expiry(datetime.now(UTC)))
            done = next(self._steps, None)
            is_held = self._is_held if done is None else not done.is_swept
        finally:
            self._is_held = is_held
            self._pruned += done or Removal()
            if done is None:
                self._steps = None
                self.prune_at = monotonic() + (_LATER if is_held else self.prune_seconds)
            else:
                self.prune_at = monotonic() + (_SOON if is_held else 0.0)
            if self._pruned and (done is None or is_held):
                total, self._pruned = self._pruned, Removal()
                self.opening.report(replace(total, is_swept=True))

    @property
    def is_held(self) -> bool:
        """Whether expired data could not be removed yet."""
        return self._is_held

    @property
    def exists(self) -> bool:
        """Whether its location exists, at least as a file without records."""
        from collector.filter.redaction import EVERYTHING  # noqa: PLC0415 - it loads msgspec

        return any(True for _ in self.measure(EVERYTHING))

    @property
    def is_ours(self) -> bool:
        """Whether the location has our mark, and so is not another program's."""
        return self.exists

    @property
    def others(self) -> int | None:
        """Count what else is at the location that we have not made. ``None`` if the type cannot
        tell; then claims about stored data are ``unproven``."""
        return None

    def settle(self) -> None:
        """Finish or undo what a killed process has begun. Called while no other process uses the
        data directory."""

    def noted(self) -> Mapping[str, Mapping[str, timedelta]]:
        """Return the retentions of fields that the type notes beside the records, if it does so, by
        the names of their schemas."""
        return {}

    def expiry(self, now: datetime) -> Rule:
        """Return the rule that removes what has expired at ``now``: by the schemas that run, else
        by the noted retentions, else by the ledger."""
        from collector.filter.redaction import Rule  # noqa: PLC0415 - it loads msgspec

        spans = {**self.opening.retentions, **self.noted()}
        for schema in self.opening.schemas:
            spans[schema.name] = {**spans.get(schema.name, {}), **schema.retentions}
        return Rule.expiry_by_name(spans, now)

    def prune(self, now: datetime) -> Removal:
        """Remove what has expired at ``now``."""
        return self.rewrite([self.expiry(now)])[0]

    def overdue(self, now: datetime) -> Iterator[str]:
        """Report, without any value, what should have been pruned already, and what is dated in the
        future."""
        from collector.filter.redaction import Rule  # noqa: PLC0415 - it loads msgspec

        sink, unit = self.opening.name, self.unit
        late = [*self.measure(self.expiry(now - self.late))]
        early = self.measure(Rule(others=[Part(start=to_minute(now + AHEAD))]))
        if old := sum(each.records for each in late):
            lost = (name for each in late for name, times in each.fields.items() if times)
            named = ", ".join(f"`{name}`" for name in sorted({*lost}))
            yield f"the sink `{sink}` holds {old} {unit} past their retention ({named})"
        if number := sum(each.records for each in early):
            yield f"the sink `{sink}` holds {number} {unit} {EARLY}"
        if unruled := sum(each.unruled for each in late):
            yield f"the sink `{sink}` holds {unruled} {unit} of schemas whose retention is unknown"

    def values(self) -> Iterable[Values]:
        """Yield the distinct values of each field, including ``received`` and ``count``, for a
        bounded number of records at a time, by schema name or ``name/version``."""
        from collector.filter.redaction import EVERYTHING  # noqa: PLC0415 - it loads msgspec

        records = self.scan(EVERYTHING)
        while some := list(islice(records, _SHOWN)):
            found: dict[str, dict[str, set[object]]] = {}
            for name, record in some:
                members = found.setdefault(str(record.pop("schema", name)), {})
                for field_, value in record.items():
                    members.setdefault(field_, set()).add(value)
            yield from found.items()

    def unproven(self) -> Iterable[str]:
        """Name what cannot be checked, such as earlier versions of objects. Then claims about what
        is stored, and for how long, are ``unproven``. Called after ``values``."""
        return ()


def sink_type(settings: SinkSettings) -> type[Sink]:
    """Return the class of a sink. Raises ``ConfigError`` E107 and E201."""
    from collector.config.sink_types import sink_class  # noqa: PLC0415 - it loads pydantic

    found, _ = sink_class(settings.type or "")
    if not issubclass(found, Sink):
        raise ConfigError("E201", "the class of this sink type does not derive from `Sink`")
    return found


def is_erasable(settings: SinkSettings) -> bool:
    """Return whether sinks of this type can show and delete their records."""
    return issubclass(sink_type(settings), ErasableSink)


def expiry_of(settings: SinkSettings) -> timedelta | None:
    """Return how long the location of a sink keeps records; ``None`` if that cannot be read."""
    with contained():
        return sink_type(settings).read_expiry(settings)
    return None


def check_sink(settings: SinkSettings, opening: Opening) -> None:
    """Let a type check a sink. Raises what the type may raise, and ``ConfigError`` E201 for any
    other exception of its code."""
    of_type = sink_type(settings)
    with _of_type(of_type, "check"):
        of_type.check(settings, opening)


def warnings_of(settings: SinkSettings, opening: Opening) -> list[ConfigError]:
    """Return the warnings of a sink's type; none if it fails."""
    with contained():
        return [*sink_type(settings).warnings(settings, opening)]
    return []


def open_sink(settings: SinkSettings, opening: Opening) -> Sink:
    """Open a sink. Raises as ``check_sink``."""
    make: type = sink_type(settings)  # a type has a constructor of its own
    with _of_type(make, "open"):
        sink: Sink = make(settings, opening)
    return sink


def _of_type(of_type: type, action: str) -> AbstractContextManager[None]:
    """Turn exceptions that a type may not raise into ``ConfigError`` E201."""

    def failure(error: BaseException) -> ConfigError:
        return ConfigError("E201", _failed(of_type, f" to {action} the sink", error))

    return failing_as(failure, BaseException, but=(CollectorError, KeyboardInterrupt))


def _failed(of_type: type, action: str, error: BaseException) -> str:
    """Return the message for an exception that a type may not raise. It names the place in the code
    and a built-in exception class, but not the exception's text, which may quote anything."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, SystemExit):
        return "the code of this sink type tried to end the program"
    module, kind = of_type.__module__, type(error)
    lines = [
        line
        for frame, line in walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__") == module
    ]
    what = kind.__name__ if kind.__module__ == "builtins" else "an exception"
    place = f"{module}{f', line {lines[-1]}' if lines else ''}"
    return f"the code of this sink type failed{action}: {what} in {place}"


@contextmanager
def contained() -> Iterator[None]:
    """Ignore every exception of a sink, so that the program goes on. Only Ctrl-C ends it."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the code of a type may raise anything
        return


def in_place(name: str, sink: object) -> AbstractContextManager[None]:
    """Add the name of a sink to its errors, because only one of several sinks failed. Exceptions
    that its type may not raise become ``DeliveryError`` E503."""

    def failure(error: BaseException) -> CollectorError:
        if isinstance(error, CollectorError) and not isinstance(error, DeliveryError):
            return error
        named = copy(error) if isinstance(error, DeliveryError) else None
        named = named or DeliveryError("E503", _failed(type(sink), "", error), "failed")
        named.message = f"{name}: {named.message}"
        return named

    return failing_as(failure, BaseException, but=(KeyboardInterrupt, GeneratorExit))


def holds_expired(sink: Sink) -> bool:
    """Return whether expired data could not be removed from a sink yet; true if the sink fails."""
    with contained():
        return bool(sink.is_held)
    return True


def finish_sink(sink: Sink) -> None:
    """Let a sink deliver what it collected, and close it; ignore its exceptions."""
    with contained():
        sink.finish()
    close_sink(sink)


def close_sink(sink: Sink) -> None:
    """Close a sink, and ignore its exceptions: the spool still has what the sink did not take."""
    with contained():
        sink.close()
