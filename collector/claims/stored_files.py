"""Find files in a data directory, and beside those of sinks, that are not of Collector's making,
and files of its making with something that is looked at nowhere. Nothing is changed."""

from __future__ import annotations

import re
from glob import escape
from itertools import chain
from os.path import realpath
from pathlib import Path
from typing import NamedTuple

from collector.claims.verdicts import FILE_NAME as VERDICTS_NAME
from collector.claims.verdicts import has_only_verdicts
from collector.config.sink_settings import SinkSettings
from collector.files import walk
from collector.ledger.signing import KEY_NAME
from collector.retention.locations import Locations
from collector.sinks.record_files import MARKS_BYTES
from collector.sinks.sink import own_directory
from collector.spool.lock import FILE_NAME as LOCK_NAME
from collector.sqlite import foreign
from collector.sqlite.wal import is_whole

_OWN_FILE = re.compile(
    r"collector\.lock|ledger\.key(\.new)?(\.part)?"
    r"|(spool|spool-aside)\.db(-wal|-shm|-journal|\.compact-[0-9a-f]+)?"
    r"|spool\.db\.damaged-[0-9TZ-]+(-wal)?|verdicts\.json(\.[0-9a-f]{16}\.part)?"
).fullmatch
"""Matches the names of files in the data directory that are looked at, or hold no records."""
_OF_LINES, _OF_DATABASE = r"\.state|(\.[0-9]+)?(\.new)?", r"-wal|-shm|-journal|\.compact-[0-9a-f]+"
_COMPANIONS = {"ndjson": _OF_LINES, "store": f"|{_OF_DATABASE}"}
"""The ends of names of files that a sink makes beside its own, by its type."""
_LONGEST = {LOCK_NAME: 0, KEY_NAME: 128}
"""The most bytes of files that are not looked at."""
_LEFT_BEHIND = re.compile(r".*(\.part|\.new|-journal|\.compact-[0-9a-f]+)").fullmatch


class _Place(NamedTuple):
    """The file or directory of a sink, and the ends of names of files beside it."""

    path: Path
    ends: re.Pattern[str]

    def has(self, file: Path) -> bool:
        """Return whether a file is the sink's, one beside it, or in its directory."""
        name, path = file.name, self.path
        is_beside = file.parent == path.parent and name.startswith(path.name)
        return path in file.parents or (
            is_beside and self.ends.fullmatch(name[len(path.name) :]) is not None
        )


def _place(path: Path, sink: SinkSettings) -> _Place:
    either = f"{_OF_LINES}|{_OF_DATABASE}"
    return _Place(path, re.compile(_COMPANIONS.get(sink.type or "", either)))


def foreign_files(locations: Locations) -> int:
    """Count the files in the data directory, and copies of sinks' files, that are not ours; and
    directories that cannot be read."""
    data = Path(realpath(locations.data))
    places = [
        _place(Path(realpath(sink.place(own_directory(data, name)))), sink)
        for name, sink in locations.sinks.items()
        if sink.is_local
    ]
    for name, sink in locations.sinks.items():
        if sink.has_state:
            place = own_directory(data, locations.directories.get(name, name))
            places.append(_place(Path(realpath(place)), sink))
    beside = (each.path.parent.glob(f"{escape(each.path.name)}?*") for each in places)
    found = list(walk(data))
    files = {each.path for each in found if each.status is not None}
    files.update(filter(_is_file, chain.from_iterable(beside)))
    number = sum(
        not (file.parent == data and _OWN_FILE(file.name)) and not any(p.has(file) for p in places)
        for file in files
    )
    return number + sum(each.status is None for each in found)


def _is_file(path: Path) -> bool:
    """Return whether there is a file or a link, or something that cannot be looked at."""
    try:
        return path.is_symlink() or path.is_file()
    except OSError:
        return True


def altered_files(locations: Locations) -> int:
    """Count the files in the data directory, and those of sinks that are files and beside these,
    with something that is looked at nowhere."""
    files = {*locations.data.iterdir()}
    for name, sink in locations.sinks.items():
        place = Path(sink.place(own_directory(locations.data, name)))
        if sink.is_local and not place.is_dir():
            beside, is_of = place.parent.glob("*"), _place(place, sink).has
            files.update(each for each in beside if is_of(each))
    return sum(_has_more(file) for file in files if file.is_file())


def _has_more(file: Path) -> bool:
    """Return whether there is something in a file that is looked at nowhere: in a lock, in what an
    interrupted change left, behind the end of a key, a database or a file's marks, or in a log that
    SQLite does not read to its end."""
    if file.name == VERDICTS_NAME:
        return not has_only_verdicts(file)
    if file.name.endswith("-wal") and not _LEFT_BEHIND(file.name) and ".damaged-" not in file.name:
        return not is_whole(file)
    longest = 0 if _LEFT_BEHIND(file.name) else _LONGEST.get(file.name)
    if longest is None:
        longest = MARKS_BYTES if file.name.endswith(".state") else foreign.database_bytes(file)
    return longest is not None and file.stat().st_size > longest
