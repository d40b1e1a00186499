"""Compare stored data with what the schemas allow: names of columns and members, and each value
with the kind of its field.

Names that no schema lists are counted and never shown. No value is shown. Nothing is changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from collector.claims.findings import ACCESS, Against, ClaimFinding, unread
from collector.claims.own_files import count_altered, count_entries
from collector.contracts import CATEGORIES, DROPS
from collector.errors import DeliveryError, UnreadableBatch
from collector.filter.stored import foreign_lines, values
from collector.ledger import grammar, journal, opened
from collector.ledger.stored import TABLES as LEDGER_TABLES
from collector.retention.locations import Locations
from collector.routing import Flows
from collector.routing.changes import reached
from collector.schema.kinds import FieldBase
from collector.schema.model import Schema
from collector.schema.names.scope import scope
from collector.schema.review import ApprovedCopy, Review, review
from collector.schema.stored_document import load_stored
from collector.sinks.sink import ErasableSink, in_place, is_erasable
from collector.spool import FILE_NAME as SPOOL_NAME
from collector.spool.recover import quarantined
from collector.spool.tables import DEFINITION as SPOOL_DEFINITION
from collector.spool.tables import pending_batches
from collector.sqlite.definition import Definition
from collector.sqlite.foreign import foreign_parts
from collector.subject.tombstones import DEFINITION as TOMBSTONES_DEFINITION
from collector.subject.tombstones import FILE_NAME as TOMBSTONES_NAME


def _against(message: str, advice: str) -> Against:
    return "stored", ClaimFinding(message, advice=advice)


def _open(message: str, advice: str) -> Against:
    return "stored", ClaimFinding(message, is_open=True, advice=advice)


_ERASE = "Find out which program wrote it, stop it, and delete what it wrote."
_LOOK = "Look there, remove what is not Collector's, and run this again."

_RESTORE = "Restore the ledger (`spool.db`) from a backup, or delete these records."
_DAMAGED = "Run `collector store set-aside` and `collector ledger verify` to see what is damaged."


class _Judge:
    """Accepts a value if a version of its field accepts it. Looks at each value once."""

    def __init__(self, *accepts: Callable[[object], bool]) -> None:
        self.accepts = [*accepts]
        self._accepted: set[object] = {None}

    def refuses(self, values: Collection[object]) -> bool:
        """Return whether no version accepts one of the values."""
        new = set(values) - self._accepted
        for accept in self.accepts:
            if not new:
                break
            accepted = {*filter(accept, new)}
            new -= accepted
            if len(self._accepted) < _MOST_ACCEPTED:
                self._accepted |= accepted
        return bool(new)


def _accepts(field: FieldBase) -> Callable[[object], bool]:
    """Return the function that recognises the values of a field. For a boolean field it also takes
    0 and 1, which a store has."""
    recognised, wire = field.recognised(), field.wire
    if wire == {bool}:
        return lambda value: value in (0, 1)
    if len(wire) == 1:
        (only,) = wire
        return lambda value: type(value) is only and recognised(value) is not None
    return lambda value: type(value) in wire and recognised(value) is not None


_NONE = _Judge()
_MOST_ACCEPTED = 10_000
"""The most values of a field that are remembered, so that they need not be checked again."""
_MINUTE = re.compile(grammar.MINUTE, re.ASCII).fullmatch
_RESERVED: Mapping[str, Callable[[object], bool]] = {
    "received": lambda value: isinstance(value, str) and _MINUTE(value) is not None,
    "count": lambda value: type(value) is int and value > 0,
}


@dataclass
class _Allowed:
    """The fields that current schemas and the ledger's schemas list, by schema name and by
    ``name/version``, and the fields that any configuration has sent to each sink.

    ``schemas`` are all of these schemas; ``is_whole`` is false if one of them no longer loads.
    ``filled`` are the names that have values, by the names of their schemas.
    """

    tables: dict[str, dict[str, _Judge]] = field(default_factory=dict)
    sinks: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    schemas: list[Schema] = field(default_factory=list)
    is_whole: bool = True
    filled: dict[str, set[str]] = field(default_factory=dict)
    reserved: Mapping[str, _Judge] = field(
        default_factory=lambda: {name: _Judge(accept) for name, accept in _RESERVED.items()}
    )

    def add(self, schema: Schema) -> None:
        """Add the fields of a schema, or of a version of it."""
        self.schemas.append(schema)
        for name in (schema.layout.table, schema.id):
            judges = self.tables.setdefault(name, {})
            for each, one in schema.fields.items():
                judges.setdefault(each, _Judge()).accepts.append(_accepts(one))

    def add_earlier(self, schema: Schema | None) -> None:
        """Add a schema that the ledger knows, if it still loads."""
        if schema is None:
            self.is_whole = False
        else:
            self.add(schema)

    def refused(self, schema: str, members: Mapping[str, Collection[object]]) -> Iterator[str]:
        """Yield the listed names that have values which the schema, as far as it is known, does not
        allow."""
        judges = {**self.tables.get(schema, {}), **self.reserved}
        listed = {*judges}.union(*self.tables.values()) if schema in self.tables else {*judges}
        for name, found in members.items():
            if not {None}.issuperset(found):
                self.filled.setdefault(schema, set()).add(name)
            if name in listed and judges.get(name, _NONE).refuses(found):
                yield name

    def names(self, schema: str) -> set[str]:
        """Return the names of the members that a record may have, besides ``schema``."""
        return {*self.tables.get(schema, {}), *self.reserved}

    @property
    def every(self) -> set[str]:
        """The names of the members that a record of any schema may have."""
        return {*self.reserved}.union(*self.tables.values())

    @property
    def words(self) -> set[str]:
        """All names and digests that Collector's own tables may hold."""
        fields = set[str]().union(*self.tables.values())
        purposes = {name for each in self.schemas for name in each.purposes}
        return {*self.tables, *fields, *self.sinks, *purposes, *(s.digest for s in self.schemas)}

    def add_flows(self, flows: Mapping[str, Mapping[str, Collection[str]]]) -> None:
        """Add the fields that reached each sink, by the names of schemas."""
        for sink, schemas in flows.items():
            for schema, fields in schemas.items():
                self.sinks.setdefault(sink, {}).setdefault(schema, set()).update(fields)

    def reaching(self, sink: str, schema: str) -> set[str]:
        """Return the fields of a schema (its name or ``name/version``) that reached a sink."""
        return self.sinks.get(sink, {}).get(schema.partition("/")[0], set())


def mismatches(
    locations: Locations,
    matrices: Sequence[Flows],
    reviews: Mapping[str, Review],
    sockets: Collection[Path] = (),
) -> Iterator[Against]:
    """Check all sinks and the spool against the schemas in force and their ``reviews``, which are
    by schema name. ``sockets`` are the paths that the configuration names. If several schemas are
    in force, a finding names the one that it is about."""
    allowed, matrix = _Allowed(), matrices[0]
    for each in matrices:
        allowed.add(each.schema)
        allowed.add_flows({name: {each.schema.name: each.to(name)} for name in each.sinks})
    yield from _readable("ledger", _noted(locations, allowed))
    for name, settings in matrix.sinks.items():
        if not is_erasable(settings):
            yield _open(
                f"Collector cannot read back what the sink `{name}` holds.",
                "Ask its recipient, or use a type of sink that Collector can read.",
            )
    for place in (*locations.earlier.unreached, *locations.earlier.beyond):
        yield _open(
            f"Records may be left where Collector could not look: {place}.",
            "Make this place readable, or run `collector store drop` for its sink.",
        )
    with locations.opened() as sinks:
        for name, sink in sinks.items():
            is_listed = name in matrix.sinks
            found = _in_sink(name, sink, allowed, is_listed=is_listed)
            yield from _readable(name, found, sink)
    if locations.spool.is_file():
        yield from _readable("spool", _in_spool(locations, allowed))
    yield from _of_earlier_schemas([each.schema for each in matrices], allowed, reviews)
    names = {*locations.sinks, *locations.earlier.directories.values(), *allowed.sinks}
    names |= {each.shared_name for each in locations.sinks.values()}
    if number := count_entries(locations, names, sockets):
        what = "1 entry that Collector did not make is" if number == 1 else f"{number} entries that"
        what += "" if number == 1 else " Collector did not make are"
        yield _open(f"{what} in the data directory or beside the records.", _MOVE)
    if number := count_altered(locations):
        what = "1 file of Collector is" if number == 1 else f"{number} files of Collector are"
        message = f"{what} damaged, longer than expected, or left by an interrupted change."
        yield _open(message, "Restart the sidecar, which repairs its files, and run this again.")


def _readable(
    where: str, found: Iterator[Against], sink: ErasableSink | None = None
) -> Iterator[Against]:
    """Yield findings. A line that is not a record counts against the claim; a location that cannot
    be read gives an open finding."""
    try:
        with nullcontext() if sink is None else in_place(where, sink):
            yield from found
    except UnreadableBatch:
        yield _against(f"{_named(where)} holds lines that are not records.", _ERASE)
    except DeliveryError as error:
        if sink is None:
            yield _open(f"{_named(where)} could not be read.", ACCESS)
        else:
            yield "stored", unread(where, error)


def _named(where: str) -> str:
    """Return the words for a sink, or for the spool or the ledger."""
    return f"The {where}" if where in ("spool", "ledger") else f"The sink `{where}`"


def _noted(locations: Locations, allowed: _Allowed) -> Iterator[Against]:
    """Add the schemas and flows that the ledger knows; report documents that no entry names."""
    if locations.spool.is_file():
        with opened(locations.spool) as ledger:
            kinds = {entry.fact("digest"): entry.kind for entry in ledger.entries()}
            documents = [(kinds.get(digest), text or b"") for digest, text in ledger.documents()]
        for kind, text in documents:
            if kind == "schema":
                allowed.add_earlier(load_stored(text))
            if kind == "configuration":
                allowed.add_flows(reached(text.partition(b"\n")[0]))
        if number := sum(1 for kind, _ in documents if kind is None):
            message = f"The ledger holds documents that no entry names ({number})."
            yield _open(message, "Run `collector ledger verify`, and find out who added them.")


def _in_sink(
    name: str, sink: ErasableSink, allowed: _Allowed, *, is_listed: bool
) -> Iterator[Against]:
    others = sink.others
    if others is None:
        message = f"The sink `{name}` cannot tell whether it holds what Collector did not make."
        yield _open(message, "Look there, or use a type whose `others` counts it.")
    elif others:
        parts = _PARTS.get(sink.unit, "parts")
        yield _open(
            f"The sink `{name}` holds {parts} that Collector did not make ({others}).", _LOOK
        )
    if not sink.exists:
        return
    found = _Names()
    for schema, members in sink.values():
        names = found.add(schema, members, allowed, has_tables=sink.unit == "rows")
        if is_listed:
            found.misled |= names - allowed.reaching(name, schema)
    yield from found.mismatches(name, allowed)
    for each in sink.unproven():
        message = f"The sink `{name}` could not be checked whole: {each}."
        stored = _open(message, f"See docs/sinks.md on `{name}`'s type, and run this again.")
        yield from (stored, ("retention", stored[1]))


@dataclass
class _Names:
    """Names of stored fields that may not be there. ``unlisted`` and ``empty`` ones are in no
    schema; the latter have no values. ``refused`` ones have values that no schema allows.
    ``misled`` ones are in a sink that no configuration sends them to. ``unknown`` counts tables and
    records of schemas that nobody knows."""

    unlisted: set[str] = field(default_factory=set)
    empty: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    misled: set[str] = field(default_factory=set)
    unknown: int = 0

    def add(
        self,
        schema: str,
        members: Mapping[str, Collection[object]],
        allowed: _Allowed,
        *,
        has_tables: bool,
    ) -> set[str]:
        """Compare values with the kinds of their fields. Return the fields of the schema that have
        values. The columns of a table of an unknown schema are not checked; a record of an unknown
        schema may have the names that any schema lists."""
        self.refused.update(allowed.refused(schema, members))
        filled = {name for name, each in members.items() if not {None}.issuperset(each)}
        is_known = schema in allowed.tables
        self.unknown += not is_known
        if is_known or not has_tables:
            names = allowed.names(schema) if is_known else allowed.every
            self.unlisted |= filled - names
            self.empty |= members.keys() - filled - names
        return filled.intersection(allowed.tables.get(schema, ()))

    def mismatches(self, where: str, allowed: _Allowed) -> Iterator[Against]:
        """Yield the findings for a sink or the spool."""
        named = _named(where)
        if self.unlisted:
            message = f"{named} holds fields that no schema lists ({len(self.unlisted)})."
            yield _against(message, _ERASE)
        if self.empty:
            message = f"{named} has empty columns that no schema lists ({len(self.empty)})."
            yield _open(message, "Remove these columns, and run this again.")
        for each in sorted(self.refused):
            message = f"{named} holds values of `{each}` that no schema allows."
            yield _against(message, _ERASE) if allowed.is_whole else _open(message, _RESTORE)
        for each in sorted(self.misled):
            message = f"{named} holds `{each}`, which no configuration sends there."
            yield _against(message, _ERASE)
        if self.unknown:
            yield _open(f"{named} has a table or records of a schema that nobody knows.", _RESTORE)


def _in_spool(locations: Locations, allowed: _Allowed) -> Iterator[Against]:
    """Check the records that wait and those that were set aside."""
    damaged, stored = len([*quarantined(locations.spool)]), _Names()
    for batch in pending_batches(locations.spool):
        if batch is None or batch.layout is None:
            damaged += 1
            continue
        columns = {"received": {batch.received}, **{name: () for name, _ in batch.layout.columns}}
        try:
            damaged += bool(foreign_lines(batch.payload))
            found = [(batch.layout.schema, columns), *values(batch.payload)]
        except DeliveryError:
            damaged += 1
            continue
        for schema, members in found:
            stored.add(schema, members, allowed, has_tables=True)
    yield from stored.mismatches("spool", allowed)
    words = {*allowed.words, *_WORDS}
    for name, definition in _FILES.items():
        damaged += foreign_parts(
            locations.data / name, definition, words=lambda _: words, passed=_PASSED
        )
    if damaged:
        message = f"The spool has parts that are damaged or not Collector's ({damaged})."
        yield _open(message, _DAMAGED)


def _of_earlier_schemas(
    current: Iterable[Schema], allowed: _Allowed, reviews: Mapping[str, Review]
) -> Iterator[Against]:
    """Compare the fields that are stored under earlier schemas with today's sentences and the
    approved copy. If today's schema has such a field too, the stored values may be from either
    schema."""
    in_force = {schema.name: schema for schema in current}
    for schema in allowed.schemas:
        now = in_force.get(schema.name)
        named = "" if now is None or len(in_force) == 1 else now.name
        keys = (schema.layout.table, schema.id)
        filled = set[str]().union(*(allowed.filled.get(key, ()) for key in keys))
        if now is None or schema.digest != now.digest:
            yield from _unreviewed(schema, filled, reviews.get(schema.name), named)
        filled -= set() if now is None else scope(now).outside.keys()
        for name, text in scope(schema).outside.items():
            if name in filled and text is not None:
                finding = ClaimFinding(f"Also collected: {text}", amends=True, schema=named)
                yield "scope", finding
            elif name in filled:
                is_open = now is not None and name in now.fields
                message = f"`{name}` of `{schema.id}` is stored, and no sentence tells the public."
                finding = ClaimFinding(message, is_open=is_open, schema=named, advice=_OF_EARLIER)
                yield "scope", finding


def _unreviewed(
    schema: Schema, filled: Collection[str], current: Review | None, named: str
) -> Iterator[Against]:
    """Compare what is stored under an earlier schema with the approved copy of today's schema of
    the same name, if there is one."""
    copy = ApprovedCopy(Path()) if current is None else current.copy
    found = review(schema, copy)
    stored = replace(found, fields=tuple(each for each in found.fields if each.name in filled))
    for each in stored.unapproved:
        message = f"Records of `{schema.id}` are stored. {each.reason}"
        finding = ClaimFinding(message, is_open=True, schema=named, advice=_OF_EARLIER)
        yield "review", finding
    for addition in stored.additions:
        message = f"Also collected: {addition}"
        yield "review", ClaimFinding(message, amends=True, schema=named)


_OF_EARLIER = "Wait until these records expire, or delete them."
_MOVE = "Find out what they are. Move them elsewhere, or delete them."


_PARTS = {"rows": "tables", "lines": "lines or files"}


# -- Collector's own tables: names that it knows, times, and hashes --------------------------------


_VERIFIED = Definition((*LEDGER_TABLES, *journal.TABLES)).columns.keys()
"""The tables that the ledger's chains cover."""
_SEALED = frozenset({"batches", "aside", "damaged"})
"""The spool's tables whose rows are damaged, or have a seal over everything but the sink."""
_PASSED = {
    (table, column)
    for table, columns in SPOOL_DEFINITION.columns.items()
    for column in columns
    if (table in _VERIFIED | _SEALED and column != "sink")
    or column == "counts"  # encrypted, and the table demands their length
}
"""The columns whose values are not checked here."""
_FILES: Mapping[str, Definition] = {
    SPOOL_NAME: SPOOL_DEFINITION,
    TOMBSTONES_NAME: TOMBSTONES_DEFINITION,
}
_WORDS = frozenset(
    {*CATEGORIES, *DROPS, "dropped", "content", "bytes", "in", "out", "TEXT", "INTEGER", "REAL"}
)
