"""Compare the entries of a data directory, and those beside the files of sinks, with the list of
what Collector makes there.

We count each entry that is not on the list, and each file of ours that has anything besides its own
parts. ``collector.sqlite.foreign`` compares databases. Each sink checks its own directory.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, suppress
from glob import escape
from os.path import realpath
from pathlib import Path
from time import sleep
from typing import NamedTuple

from collector.claims.verdicts import FILE_NAME as VERDICTS_NAME
from collector.claims.verdicts import has_only_verdicts
from collector.config.sink_settings import SinkSettings
from collector.files import foreign_entries, has_attributes, is_locked
from collector.ledger.signing import KEY_NAME, is_key
from collector.retention.locations import Locations
from collector.sinks.record_files import has_only_marks
from collector.sinks.sink import own_directory
from collector.spool.lock import FILE_NAME as LOCK_NAME
from collector.sqlite.connection import connect_unset, number_of, transaction

_DATABASE = r"(-wal|-shm|-journal|\.compact-[0-9a-f]{16})?"
_LINES = r"(\.state|(\.[0-9]+)?(\.new)?)"
_OWN_FILE = re.compile(
    rf"collector\.lock|ledger\.key(\.new)?(\.part)?|(spool|tombstones)\.db{_DATABASE}"
    r"|spool\.db\.damaged-[0-9TZ-]+(-wal)?|verdicts\.json(\.part)?"
).fullmatch
"""Matches the names of files in the data directory."""
_BESIDE = {"ndjson": _LINES, "store": _DATABASE}
"""The suffixes of a sink's files, by its type."""
_CONTENTS: dict[str, Callable[[Path], bool]] = {
    LOCK_NAME: lambda path: not path.stat().st_size,
    KEY_NAME: is_key,
    f"{KEY_NAME}.new": is_key,
    VERDICTS_NAME: has_only_verdicts,
}
"""By name of a file that nothing else checks: the function that says whether the file has only its
own parts."""
_UNFINISHED = re.compile(r".*(\.part|\.new|-journal|\.compact-[0-9a-f]+)").fullmatch
_LOOKS, _PAUSE = 5, 0.05
"""Several looks, because a running sidecar makes and removes files meanwhile."""


class _Place(NamedTuple):
    """The file or directory of a sink, and the suffixes of files beside it."""

    path: Path
    ends: re.Pattern[str]

    def has(self, path: Path) -> bool:
        """Return whether a path is in the sink's directory, or is its file or one beside it."""
        if self.path in path.parents:
            return not self.path.is_file()
        is_beside = path.parent == self.path.parent and path.name.startswith(self.path.name)
        return is_beside and self.ends.fullmatch(path.name[len(self.path.name) :]) is not None

    @property
    def beside(self) -> Iterator[Path]:
        """The entries whose names begin with the name of the file or directory."""
        return self.path.parent.glob(f"{escape(self.path.name)}*")


def _places(locations: Locations) -> Iterator[_Place]:
    data = Path(realpath(locations.data))
    for name, sink in locations.sinks.items():
        if sink.is_local:
            yield _place(sink.place(own_directory(data, name)), sink)
        if sink.has_state:
            named = locations.earlier.directories.get(name, name)
            yield _place(own_directory(data, named), sink)


def _place(path: str | Path, sink: SinkSettings) -> _Place:
    ends = _BESIDE.get(sink.type or "", f"{_LINES}|{_DATABASE}")
    return _Place(Path(realpath(path)), re.compile(ends))


def count_entries(locations: Locations, names: Collection[str], sockets: Collection[Path]) -> int:
    """Count the entries of the data directory, and the copies of sinks' files, that are not ours.
    ``names`` are the names of all sinks, current and earlier. ``sockets`` are the paths that the
    configuration names."""
    data, places = Path(realpath(locations.data)), [*_places(locations)]
    own = {"sinks", *(f"sinks/{name}" for name in names)}
    of_sinks = {"pipe", "socket", "link", "device", "unknown"}

    def is_file(name: str) -> bool:
        return _OWN_FILE(name) is not None or is_of_sink(name)

    def is_of_sink(name: str) -> bool:
        return any(each.has(data / name) for each in places)

    def is_in_sink(name: str) -> bool:
        return any(each.path in (data / name).parents and each.has(data / name) for each in places)

    def is_directory(name: str) -> bool:
        return name in own or _is_above(data / name, places) or is_in_sink(name)

    def is_socket(name: str) -> bool:
        return name == "control.sock" or data / name in sockets or is_in_sink(name)

    owned = dict.fromkeys(of_sinks, is_in_sink)
    owned |= {"file": is_file, "directory": is_directory, "socket": is_socket}

    def look() -> set[Path]:
        found = {*foreign_entries(data, owned)}
        for place in places:
            beside = (each for each in place.beside if data not in each.parents)
            found.update(each for each in beside if _is_foreign(each, place, places))
        return found

    return _number_that_stay(look)


def _number_that_stay(look: Callable[[], Iterable[Path]]) -> int:
    found = {*look()}
    for _ in range(_LOOKS - 1):
        if found:
            sleep(_PAUSE)
            found.intersection_update(look())
    return len(found)


def _is_foreign(path: Path, place: _Place, places: Collection[_Place]) -> bool:
    """Return whether an entry beside a place is not a file of a sink. A directory does not count if
    the place is a directory, or if a place is below it."""
    if path.is_dir() and not path.is_symlink() and (place.path.is_dir() or _is_above(path, places)):
        return False
    is_file = path.is_file() and not path.is_symlink()
    return has_attributes(path) or not (is_file and any(each.has(path) for each in places))


def _is_above(path: Path, places: Collection[_Place]) -> bool:
    return any(path in (each.path, *each.path.parents) for each in places)


def count_altered(locations: Locations) -> int:
    """Count the files of the data directory and of sinks that have anything besides their own
    parts: text in a lock or after a key, and what an interrupted change left."""
    return _number_that_stay(lambda: filter(_has_more, _files(locations)))


def _files(locations: Locations) -> set[Path]:
    """Return the files of the data directory that have names of ours, and the files of sinks."""
    found = {each for each in locations.data.iterdir() if _OWN_FILE(each.name)}
    for place in _places(locations):
        found.update(each for each in place.beside if place.has(each))
    return found


def _has_more(path: Path) -> bool:
    with suppress(FileNotFoundError):
        if path.is_symlink() or not path.is_file():
            return False  # counted as an entry
        if _UNFINISHED(path.name) and path.name not in _CONTENTS:
            return path.stat().st_size > 0 and not is_locked(path)
        if path.name.endswith(".state"):
            return not has_only_marks(path)
        has_only_own = _CONTENTS.get(path.name)
        return has_only_own is not None and not has_only_own(path)
    return False


def clear_unfinished(locations: Locations) -> None:
    """Remove the unfinished files that a killed process left, and roll back its transactions, as
    the next start does. Call this only while no process uses the data directory."""
    for each in _files(locations):
        is_left = _UNFINISHED(each.name) and each.name not in _CONTENTS and not each.is_symlink()
        with suppress(OSError, sqlite3.Error):
            if is_left and each.name.endswith("-journal"):
                path = each.with_name(each.name.removesuffix("-journal"))
                with closing(connect_unset(path, must_exist=True)) as db, transaction(db):
                    version = number_of(db, "user_version")  # only a write removes the journal
                    db.execute(f"PRAGMA user_version = {version}")
            elif is_left and not is_locked(each):
                each.unlink()
