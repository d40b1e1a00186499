"""The directories with records that wait for a lake, and which records may still go there.

A segment notes the place for which it was collected, and which fields reached the sink for which
purposes. It becomes a file only at that place, without the fields that no longer reach the sink.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from collector.contracts import Part
from collector.files import sync
from collector.filter.redaction import Rule
from collector.schema.model import Schema
from collector.sinks.parquet.segment_reader import (
    Segment,
    Waiting,
    disk,
    foreign_parts,
    has_segments,
    place_of,
    read_segments,
)
from collector.sinks.parquet.segments import Segments
from collector.sinks.parquet.settings import ParquetSettings
from collector.sinks.record_files import FileLock, locked_directory
from collector.sinks.sink import Opening, own_directory

_ALL = "*"


def scratch(settings: ParquetSettings, directory: Path) -> Path:
    """Return the path of the file that a sink writes before it goes to the lake."""
    if settings.path is None:
        return directory / "upload.parquet"
    return settings.path / f".{directory.name}.new"


def remove_scratch(settings: ParquetSettings, directory: Path) -> None:
    """Remove the unfinished file that a sink, or a killed process, has left. Raises
    ``DeliveryError`` E503."""
    path = scratch(settings, directory)
    with disk():
        if os.path.lexists(path):
            with nullcontext() if settings.path is None else locked_directory(settings.path):
                path.unlink(missing_ok=True)


class Routing:
    """The fields that reach a sink for its purposes under the schemas in force, as in the pipeline.
    If the sink states no purposes, all fields reach it."""

    def __init__(self, schemas: Iterable[Schema], purposes: Collection[str] | None) -> None:
        self._schemas = {schema.name: schema for schema in schemas}
        self._purposes = purposes

    def note(self, schema: str) -> str:
        """Return the routing to note with records of a schema, which is given by its name."""
        fields = self._fields(schema)
        if fields is None:
            return _ALL
        return "\n".join(" ".join((name, *purposes)) for name, purposes in fields.items())

    def _fields(self, schema: str) -> dict[str, list[str]] | None:
        if self._purposes is None:
            return None
        fields = self._schemas[schema].fields if schema in self._schemas else {}
        reached = {
            name: [purpose for purpose in field.purposes if purpose in (self._purposes or ())]
            for name, field in fields.items()
        }
        return {name: purposes for name, purposes in reached.items() if purposes}

    def tells_of(self, segment: Segment) -> bool:
        """Return whether we know which fields of a segment may reach the sink. We do if the schema
        is in force, or if the sink still has all purposes of the fields."""
        if self._purposes is None or segment.name in self._schemas:
            return True
        noted = _noted(segment)
        return noted is not None and all(
            purpose in self._purposes for purposes in noted.values() for purpose in purposes
        )

    def narrowing(self, segment: Segment) -> Rule | None:
        """Return the rule that removes the fields of a segment that may no longer go to the lake;
        ``None`` if there are no such fields.

        A segment does not note which records are of people who granted only some purposes. So in
        such a segment a field stays only if the sink still has each purpose for which the field can
        have been collected.
        """
        name = segment.name
        fields = self._fields(name)
        if fields is None or name not in self._schemas:
            return None
        noted, own = _noted(segment), self._schemas[name].fields
        remaining = {
            field
            for field, purposes in fields.items()
            if not segment.is_limited
            or {*((noted or {}).get(field) or own[field].purposes)} <= {*purposes}
        }
        if noted is not None and noted.keys() <= remaining:
            return None
        return Rule(others=[Part(but=frozenset(remaining))])


def columns(segment: Segment, types: Mapping[str, str]) -> dict[str, str]:
    """Return the columns that can have values in a segment, with their types."""
    noted = _noted(segment)
    return {name: type_ for name, type_ in types.items() if noted is None or name in noted}


def _noted(segment: Segment) -> dict[str, list[str]] | None:
    """Return the fields that reached the sink, with their purposes; ``None`` if all did."""
    if segment.routed == _ALL:
        return None
    lines = (line.split(" ") for line in segment.routed.splitlines())
    return {name: purposes for name, *purposes in lines}


class SegmentDirectories:
    """The directories in which records are collected for a lake: the sink's own, and the one that
    applications share. The latter is beside a lake on this machine, or in the data directory."""

    def __init__(self, settings: ParquetSettings, opening: Opening) -> None:
        self.own: Path = own_directory(opening.data, opening.name)
        self._settings = settings
        self._is_shared = opening.is_shared
        self._is_former = opening.is_former
        self.place: str = settings.place_digest
        self.routing: Routing = Routing(opening.schemas, settings.purposes)
        data = opening.data if settings.path is None else settings.path.resolve().parent
        shared = own_directory(data, settings.shared_name)
        self._shared = shared if opening.has_location and shared != self.own else None

    def __repr__(self) -> str:
        return "<SegmentDirectories>"

    @property
    def _all(self) -> list[Path]:
        return [self.own] if self._shared is None else [self.own, self._shared]

    def take_over(self) -> None:
        """If this sink has no directory, take over the one that a sink of the same place had under
        another name. So waiting records become files, and delivered batches are recognised. Raises
        ``DeliveryError`` E503."""
        if self._is_shared or has_segments(self.own):
            return
        with disk():
            others = [*self.own.parent.glob("*")]
        for other in others:
            is_earlier = other.name not in (self.own.name, self._settings.shared_name)
            if is_earlier and place_of(other) == self.place:
                with disk():
                    self._take(other)
                return

    def _take(self, other: Path) -> None:
        handle = os.open(other / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        lock = FileLock(handle, shared=False)
        try:
            with lock as is_locked:
                if is_locked:  # else another process uses it
                    remove_scratch(self._settings, other)
                    other.rename(self.own)
                    sync(self.own.parent)
        finally:
            lock.close()

    def is_current(self, directory: Path, segment: Segment) -> bool:
        """Return whether a segment was collected for this lake, not for an earlier place of the
        sink."""
        return directory == self._shared or segment.place == self.place

    @property
    def has_former(self) -> bool:
        """Whether segments in the sink's own directory were collected for an earlier place."""
        with read_segments(self.own) as segments:
            return not all(self.is_current(self.own, each.segment) for each in segments)

    def may_put(self, staged: Segments, segment: Segment) -> bool:
        """Return whether the sink may put a segment into the lake: the segment is for this lake,
        and we know which fields may go. Segments of applications have their own routing."""
        is_for_lake = not self._is_former and self.is_current(staged.directory, segment)
        return is_for_lake and (staged.directory != self.own or self.routing.tells_of(segment))

    def narrowed(self, staged: Segments, segment: Segment) -> Segment:
        """Rewrite a segment without the fields that no longer reach the sink."""
        rule = self.routing.narrowing(segment) if staged.directory == self.own else None
        if rule is None:
            return segment
        staged.rewrite(segment, [rule])
        return staged.note(segment, routed=self.routing.note(segment.name))

    def others(self, opening: Opening) -> int:
        """Count the parts of the directories that no sink has made."""
        schemas = (*opening.schemas, *opening.earlier.values())
        return sum(foreign_parts(directory, schemas) for directory in self._all)

    @contextmanager
    def read(self, *, former: bool = True) -> Iterator[list[Waiting]]:
        """Yield the segments as of one moment. Without ``former``, leave out segments for an
        earlier place."""
        with ExitStack() as stack:
            yield [
                found
                for directory in self._all
                for found in stack.enter_context(
                    read_segments(directory, must_know=directory == self.own)
                )
                if (former and directory == self.own) or self.is_current(directory, found.segment)
            ]

    @contextmanager
    def changed(self, own: Segments | None) -> Iterator[Sequence[Segments]]:
        """Lock and yield the segments of each directory that has any, to change them. ``own`` are
        the sink's own segments if they are open."""
        with ExitStack() as stack:
            found = [] if own is None else [own]
            if own is None and has_segments(self.own):
                found.append(Segments(self.own, is_shared=self._is_shared))
                stack.callback(found[-1].close)
            if self._shared is not None and has_segments(self._shared):
                found.append(Segments(self._shared, is_shared=True))
                stack.callback(found[-1].close)
            for staged in found:
                stack.enter_context(staged.locked())
                staged.clear()
                remove_scratch(self._settings, staged.directory)
            yield found

    def all_of(self, found: Sequence[Segments]) -> Iterator[tuple[Segments, Segment]]:
        """Yield each segment to change, with the segments of its directory."""
        for staged in found:
            for segment in staged.all():
                yield staged, segment
