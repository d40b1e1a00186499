"""Records as Parquet files: on this machine's disk, or in a bucket of S3, Google or Azure.

The sink collects records in segments in its own directory. It makes one file for each schema and
hour, or several if there are many records. Nothing is compacted: a file changes only when its
records expire or a person's records are erased.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from collector.config.sink_settings import SinkSettings
from collector.config.values import resolved
from collector.contracts import (
    Batch,
    Layout,
    Part,
    Record,
    Removal,
    added,
    count_lines,
    layout_of,
)
from collector.errors import DeliveryError, UnreadableBatch
from collector.extras import require
from collector.files import check_directory
from collector.filter.redaction import Rule, matching
from collector.filter.stored import Values, read, values
from collector.sinks.parquet.lake import FileKey, Lake, most_bytes
from collector.sinks.parquet.object_store import BucketObjects, DirectoryObjects
from collector.sinks.parquet.segment_reader import Segment, Waiting, read_segments
from collector.sinks.parquet.segment_routing import (
    SegmentDirectories,
    columns,
    remove_scratch,
    scratch,
)
from collector.sinks.parquet.segments import Segments, Terms
from collector.sinks.parquet.settings import PARTITION, ParquetSettings
from collector.sinks.sink import (
    ErasableSink,
    Guarantee,
    Holding,
    Opening,
    counted,
    joined,
    own_directory,
)

if TYPE_CHECKING:
    from collector.filter.arrow import ColumnTypes

__all__ = ["ParquetSettings", "ParquetSink"]

_T = TypeVar("_T")
_FORMER = "records wait for an earlier place of the sink, or for a schema that is not in force"


class ParquetSink(ErasableSink):
    """A lake of Parquet files as a type of sinks."""

    Settings: ClassVar[type[SinkSettings]] = ParquetSettings
    guarantee: ClassVar[Guarantee] = "once"
    is_shared = True
    late: ClassVar[timedelta] = timedelta(hours=3)
    """A file has the records of an hour, and is pruned once the last of them has expired; pruning
    runs once an hour."""

    def __init__(self, settings: ParquetSettings, opening: Opening) -> None:
        self.settings = settings
        self.opening = opening
        self._noted = set[str]()
        self._left_out = 0
        self._is_checked = False
        self._directory = own_directory(opening.data, opening.name)
        self._waiting = SegmentDirectories(settings, opening)
        # If another sink has the location, this one sees a lake without files.
        own = settings if opening.has_location else settings.moved(self._directory / "none")
        self._lake = _lake(own, self._directory)
        self._staged: Segments | None = None
        if not opening.is_offline:
            self._waiting.take_over()
            with ExitStack() as stack:
                staged = Segments(opening.directory, is_shared=opening.is_shared)
                stack.callback(staged.close)
                with staged.locked():
                    staged.note_place(self._waiting.place)
                    remove_scratch(settings, self._directory)
                    for segment in staged.all():
                        self._adopt(staged, segment)
                self._staged = staged
                stack.pop_all()

    @classmethod
    def check(cls, settings: ParquetSettings, opening: Opening) -> None:
        """Check names of fields, the extra, the directories, and whether the bucket exists and
        accepts the credentials."""
        names = {name.lower() for schema in opening.schemas for name in schema.fields}
        if PARTITION in names:
            message = f"`{PARTITION}` is in the path of each file, which readers take for a column"
            raise DeliveryError("E504", f"{message}: rename the field")
        directory = own_directory(opening.data, opening.name)
        check_directory(directory, within=opening.data)
        with read_segments(directory):
            pass
        if settings.path is not None:
            check_directory(settings.path, within=opening.data)
        lake = _lake(settings, directory)
        if opening.asks:
            lake.objects.check()

    # -- delivery ---------------------------------------------------------------------------------

    def deliver(self, *batches: Batch) -> None:
        """Collect the batches durably, each once. While the lake does not take a file that is due,
        collect nothing: the spool keeps the batches, within its limit."""
        if self._staged is None:
            raise DeliveryError("E503", "the sink is open for a command, not for delivery")
        with self._staged.locked() as staged:
            self._put_due(staged)
            self._note_retentions(staged, batches)
            staged.add(batches, self._types_of, self._terms)
        self._check_left_out()

    def finish(self) -> None:
        """Make files of all collected records."""
        if self._staged is not None:
            with self._staged.locked() as staged:
                for segment in self._current(staged):
                    self._put(staged, segment)
        self._check_left_out()

    def idle(self) -> None:
        """Make files that are due, and prune once an hour."""
        if self._staged is not None:
            with self._staged.locked() as staged:
                self._put_due(staged)
        super().idle()
        self._check_left_out()
        self._check_former()

    def close(self) -> None:
        """Release the directory. Collected records are on disk, and become files next time."""
        self._lake.close()
        if self._staged is not None:
            self._staged.close()
            self._staged = None

    def _check_left_out(self) -> None:
        """Raise ``DeliveryError`` E507 once if unreadable records were left out of a file."""
        number, self._left_out = self._left_out, 0
        if number:
            raise UnreadableBatch(f"{number} collected records cannot be read, and are lost")

    def _check_former(self) -> None:
        """Raise ``DeliveryError`` E503 once if records wait that may not go to the lake now."""
        if self._staged is not None and not self._is_checked:
            self._is_checked, number = True, len(self._staged.all())
            if number > len(self._current(self._staged)):
                raise DeliveryError("E503", _FORMER, "changed")

    @cached_property
    def _types(self) -> ColumnTypes:
        from collector.filter.arrow import ColumnTypes  # noqa: PLC0415 - pyarrow

        return ColumnTypes(self.opening.schemas, self.opening.schema_of)

    def _types_of(self, batch: Batch, noted: Mapping[str, str]) -> Mapping[str, str | None]:
        rows = read(replace(batch, rows=None)).rows
        return self._types.of(layout_of(batch), rows or list, noted)

    def _note_retentions(self, staged: Segments, batches: Sequence[Batch]) -> None:
        for digest in {layout_of(batch).digest for batch in batches} - self._noted:
            if (schema := self.opening.schema_of(digest)) is not None:
                staged.note_retentions(digest, schema.retentions)
            self._noted.add(digest)

    def _terms(self, layout: Layout) -> Terms:
        size, waiting = min(self.settings.size, most_bytes(layout)), self._waiting
        return Terms(size, waiting.place, waiting.routing.note(layout.table))

    def _put_due(self, staged: Segments) -> None:
        segments, settings = self._current(staged), self.settings
        due = [each for each in segments if each.is_due(settings.every, settings.size)]
        if not due and sum(each.length for each in segments) > 2 * settings.size:
            due = [max(segments, key=lambda each: each.length)]
        for segment in due:
            self._put(staged, segment)

    def _adopt(self, staged: Segments, segment: Segment) -> None:
        """Take over a segment of an earlier process, with only the fields that reach the sink now.
        If the disk fails, that is done later, before the segment becomes a file."""
        if self._waiting.may_put(staged, segment):
            with suppress(DeliveryError):
                self._waiting.narrowed(staged, segment)

    def _current(self, staged: Segments) -> list[Segment]:
        return [segment for segment in staged.all() if self._waiting.may_put(staged, segment)]

    def _put(self, staged: Segments, segment: Segment) -> None:
        """Make a file of a segment. Close the segment first, so that a file that is made again has
        the same batches."""
        segment = self._waiting.narrowed(staged, segment)
        if not segment.length and not segment.is_closed:
            staged.remove(segment)  # all of it was erased
            return
        segment = staged.close_segment(segment)
        pieces, types = staged.pieces(segment), columns(segment, staged.types(segment))
        known = self._types.known(segment.digest)
        types = {name: known.get(name, type_) for name, type_ in types.items()}
        spans = staged.retentions(segment) or self.opening.retentions.get(segment.name, {})
        spans = {name: span for name, span in spans.items() if name in types}
        self._left_out += self._lake.write(segment.key, pieces, segment.schema, types, spans)
        staged.remove(segment)

    # -- retention and rights ---------------------------------------------------------------------

    def rewrite(self, rules: Sequence[Rule]) -> list[Removal]:
        """Carry out rules in one pass over the segments and the files. A file expires, or loses
        fields, when the last minute of its hour is too old. A closed segment with records of a
        person may be on its way to the lake. It becomes a file first, so that a late upload cannot
        create the earlier state under its key."""
        total = [Removal() for _ in rules]
        with self._waiting.changed(self._staged) as found, self._lake.past_unreadable() as others:
            for staged, segment in self._waiting.all_of(found):
                stated = partial(staged.retentions, segment)
                steps = [rule.parts(segment.name, stated) for rule in rules]
                done = [
                    Removal(unruled=(segment.name,) * (segment.last < rule.until))
                    if parts is None
                    else Removal()
                    for rule, parts in zip(rules, steps, strict=True)
                ]
                if any(_overlaps(parts, segment) for parts in steps):
                    own = [Rule(others=parts or ()) for parts in steps]
                    left = staged.rewrite(segment, own)
                    done = added(done, left)
                total = added(total, done)
            for staged, segment in self._waiting.all_of(found):
                is_concerned = any(
                    rule.now is None and _overlaps(rule.parts(segment.name), segment)
                    for rule in rules
                )
                if segment.is_closed and is_concerned and self._waiting.may_put(staged, segment):
                    self._put(staged, segment)
            for key in list(self._lake.all_keys()):
                with others():
                    done = self._rewrite_file(key, rules)
                    total = added(total, done)
        return [replace(each, unruled=tuple(sorted(each.unruled))) for each in total]

    def _rewrite_file(self, key: FileKey, rules: Sequence[Rule]) -> list[Removal]:
        done, steps = [Removal() for _ in rules], dict[int, Sequence[Part]]()
        for at, rule in enumerate(rules):
            parts = rule.parts(key.schema, partial(self._lake.retentions, key.text))
            if parts is None:
                said = self._lake.known(key.text) if key.last < rule.until else None
                if said is not None and said.filled:
                    done[at] = Removal(unruled=(key.schema,))
            elif rule.now is None:
                steps[at] = parts if _overlaps(parts, key) else ()
            elif over := [part for part in parts if key.last < part.end]:
                if len(over) == len(parts):  # an unreadable file is not ours, and raises
                    said = self._lake.statistics(key.text)
                    self._lake.objects.remove(key.text)
                    done[at] = Removal(said.records if said else 0)
                    return done
                said = self._lake.known(key.text)
                steps[at] = [part for part in over if said and part.removed(said.filled)]
        if any(steps.values()):
            found = self._lake.revise(key.text, [*steps.values()])
            for at, removal in zip(steps, found, strict=True):
                done[at] = removal
        return done

    def scan(self, rule: Rule) -> Iterator[tuple[str, Record]]:
        """Yield stored and collected records, each with the name of its schema."""
        return self._each(
            lambda found: _scan_segment(found, rule), lambda key: self._found(key, rule)
        )

    def _each(
        self,
        of_segment: Callable[[Waiting], Iterable[_T]],
        of_file: Callable[[FileKey], Iterable[_T]],
        *,
        former: bool = True,
    ) -> Iterator[_T]:
        """Yield what segments hold, and what files hold whose key no waiting segment has. Raises
        ``UnreadableFile`` at the end if files could not be read."""
        with self._waiting.read(former=former) as segments:
            waiting = {each.segment.key for each in segments}
            for each in segments:
                yield from of_segment(each)
            with self._lake.past_unreadable() as others:
                for key in self._lake.all_keys():
                    with others():
                        yield from of_file(key) if key.text not in waiting else ()

    def _found(self, key: FileKey, rule: Rule) -> Iterator[tuple[str, Record]]:
        parts = rule.parts(key.schema, partial(self._lake.retentions, key.text))
        if parts and _overlaps(parts, key):
            for record in self._lake.find(key.text, parts):
                yield key.schema, record

    def measure(self, rule: Rule) -> Iterator[Holding]:
        """Count what a rule concerns by schema. If it concerns a whole file, use the file's end."""

        def of_segment(each: Waiting) -> Iterator[Holding]:
            name = each.segment.name
            if (parts := rule.parts(name, partial(dict, each.retentions))) is None:
                number = sum(count_lines(piece) for m, piece in each.pieces if m < rule.until)
                yield Holding(name, 0, {}, None, None, number)
            else:
                told = Rule(others=parts)
                yield from counted(_scan_segment(each, told), told)

        return joined(self._each(of_segment, lambda key: self._measured_file(key, rule)))

    def _measured_file(self, key: FileKey, rule: Rule) -> Iterator[Holding]:
        parts = rule.parts(key.schema, partial(self._lake.retentions, key.text))
        if parts is not None:
            parts = [part for part in parts if part.overlaps(key.first, key.last)]
        if parts == [] or (found := self._lake.statistics(key.text)) is None:
            return
        if parts is None:
            if key.last < rule.until:
                yield Holding(key.schema, 0, {}, None, None, found.records)
            return
        removed = frozenset[str]().union(*(part.removed(found.filled) for part in parts))
        fields = {name: found.fields[name] for name in removed}
        is_of_all = all(part.covers(key.first, key.last) for part in parts)
        if is_of_all and found.records and found.records == max(fields.values(), default=0):
            yield Holding(key.schema, found.records, fields, found.first, found.last)
        elif removed:
            number, lost = self._lake.count(key.text, parts)
            yield Holding(key.schema, number, lost, key.first, key.last)

    # -- what is there ----------------------------------------------------------------------------

    def settle(self) -> None:
        """Remove partly written files and ends."""
        with self._waiting.changed(self._staged):
            pass

    @property
    def exists(self) -> bool:
        """Whether there is a file, or a segment."""
        with self._waiting.read() as segments:
            return bool(segments) or any(True for _ in self._lake.all_keys())

    @property
    def is_ours(self) -> bool:
        """Whether there are segments, or a file that bears our mark."""
        with self._waiting.read() as segments:
            keys = self._lake.all_keys()
            return bool(segments) or any(self._lake.is_ours(key.text) for key in keys)

    @property
    def others(self) -> int:
        """Count the entries of the lake and of the sink's directory that are not ours."""
        schemas = {each.name for each in (*self.opening.schemas, *self.opening.earlier.values())}
        foreign = self._lake.foreign_entries(schemas) + self._waiting.others(self.opening)
        keys = self._lake.objects.all_keys()
        return foreign + sum(not self._lake.is_ours(key, is_whole=True) for key in keys)

    def values(self) -> Iterator[Values]:
        """Yield the values of each piece of a segment, and of each row group of a file."""

        def of_segment(each: Waiting) -> Iterator[Values]:
            for minute, piece in each.pieces:
                for schema, members in values(piece):
                    yield schema, {**members, "received": {minute}}

        return self._each(of_segment, lambda key: self._lake.values(key.text), former=False)

    def unproven(self) -> Iterator[str]:
        """Report a bucket that says it keeps earlier versions, and records for an earlier place,
        which ``values`` leaves out."""
        if self._waiting.has_former:
            yield "records wait that were collected for an earlier place of the sink"
        if self._lake.objects.keeps_versions:
            yield "the bucket keeps earlier versions of what was rewritten or removed"


def _scan_segment(waiting: Waiting, rule: Rule) -> Iterator[tuple[str, Record]]:
    name = waiting.segment.name
    parts = rule.parts(name, partial(dict, waiting.retentions))
    if parts and _overlaps(parts, waiting.segment):
        own = Rule(others=parts)
        for minute, piece in waiting.pieces:
            for record in matching(piece, own, minute):
                yield name, {**record, "received": minute}


def _overlaps(parts: Sequence[Part] | None, where: Segment | FileKey) -> bool:
    """Return whether parts may concern records of an hour."""
    return any(part.overlaps(where.first, where.last) for part in parts or ())


def _lake(settings: ParquetSettings, directory: Path) -> Lake:
    """Return the lake. Raises ``ConfigError``: E201 without an extra, E202 for a reference without
    a secret, E122 for options that cannot be used."""
    require("Parquet", "parquet", "pyarrow")
    if settings.path is not None:
        return Lake(DirectoryObjects(settings.path, scratch(settings, directory)))
    options = {
        "endpoint": settings.endpoint,
        "region": settings.region,
        "access_key_id": settings.access_key and resolved(settings.access_key),
        "secret_access_key": settings.secret_key and resolved(settings.secret_key),
    }
    named = {name: option for name, option in options.items() if option is not None}
    return Lake(BucketObjects(str(settings.url), named, scratch(settings, directory)))
