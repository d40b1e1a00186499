"""The versions of a schema in its git repository, and what each version widens and narrows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path

from collector.pages.model import SchemaVersion
from collector.schema import git, resources
from collector.schema.diff import compare
from collector.schema.model import Schema

_MOST = 30
"""The most commits of a file that are read."""
_MOST_WORDS = 8
"""The most changes of a version that are listed."""


def history(reference: str, schema: Schema, today: date) -> tuple[SchemaVersion, ...] | None:
    """Return the versions of a schema, the newest first; ``None`` if no repository has its file. An
    uncommitted version in force has today's date."""
    file = Path(reference)
    if not resources.is_path(reference) or not (commits := git.revisions(file, _MOST)):
        return None
    found = [(today.isoformat(), schema)]
    for revision, day in commits:
        try:
            older, _ = git.parse(revision, f"./{file.name}", file.parent, reference)
        except git.RevisionError:  # this commit deleted it
            continue
        if older is not None and older.digest == found[-1][1].digest:
            found[-1] = day, found[-1][1]
        elif older is not None:
            found.append((day, older))
    return tuple(versions(found, is_whole=len(commits) < _MOST))


def versions(found: list[tuple[str, Schema]], *, is_whole: bool) -> Iterator[SchemaVersion]:
    for (day, new), (_, old) in pairwise(found):
        told: dict[str, list[str]] = {"widening": [], "narrowing": [], "neutral": []}
        for change in compare(old, new).changes:
            told[change.verdict].append(f"{change.at}: {change.what}")
        yield SchemaVersion(
            day,
            new.version,
            tuple(told["widening"][:_MOST_WORDS]),
            tuple(told["narrowing"][:_MOST_WORDS]),
        )
    if is_whole:
        day, first = found[-1]
        yield SchemaVersion(day, first.version, is_first=True)
