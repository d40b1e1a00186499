"""``collector schema diff``: show what a new version of a schema lets through that the old did
not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.table import Table

from collector.cli.console import changes_table, err, out, print_faults, print_json, wide
from collector.cli.options import AsJson, complete_schema
from collector.errors import Fault
from collector.schema import Schema, git, resources
from collector.schema.diff import Comparison, SchemaChange, compare
from collector.schema.load import parse

_SHOWN = 6


class _Review(NamedTuple):
    """Two documents to compare. ``old`` is ``None`` for a schema that is new."""

    file: str
    old: Schema | None
    new: Schema | None
    faults: list[Fault]
    comparison: Comparison | None

    def allowed(self, strict: bool) -> bool:
        if self.faults:
            return False
        found = self.comparison
        return found is None or (found.allowed and not (strict and found.unexplained))

    def as_json(self, strict: bool) -> dict[str, Any]:
        found = self.comparison
        return {
            "file": self.file,
            "old": self.old.id if self.old else None,
            "new": self.new.id if self.new else None,
            "changes": [_row(change) for change in found.changes] if found else [],
            "widening": found is not None and found.widening,
            "allowed": self.allowed(strict),
            "unexplained": list(found.unexplained) if found else [],
            "faults": [fault._asdict() for fault in self.faults],
        }


def diff(
    schemas: Annotated[
        list[str],
        typer.Argument(
            metavar="OLD NEW",
            help="Two schemas: names of shipped ones, paths, or `REV:path` in a git repository.",
            autocompletion=complete_schema,
            show_default=False,
        ),
    ],
    since: Annotated[
        str | None,
        typer.Option(
            metavar="REV",
            help="Compare each given file, or all in the given directories, with itself at this"
            " revision instead. A schema that did not exist then is new.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Also fail if a field or purpose widens and its `reason` is unchanged."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare two schemas: does each change widen, narrow, or neither? Exit 1 if NEW widens without
    a higher version.

    A change widens if it may let more through, keep it longer, use it for more or guard it less;
    docs/schema-review.md lists all changes. If a schema does not load, its faults are printed.
    """
    if since is None and len(schemas) != 2:
        message = "give two schemas, OLD and NEW, or give files and --since"
        raise typer.BadParameter(message, param_hint="OLD NEW")
    if since is None:
        reviews = [_pair(*schemas)]
    else:
        reviews = [_since(since, file) for file in _files(schemas)]
    if as_json:
        listed = [review.as_json(strict) for review in reviews]
        print_json(listed[0] if since is None else listed)
    else:
        for review in reviews:
            _print(review, strict)
    raise typer.Exit(0 if all(review.allowed(strict) for review in reviews) else 1)


def _pair(old: str, new: str) -> _Review:
    before, faults = git.load_reference(old)
    after, more = git.load_reference(new)
    return _reviewed(new, before, after, [*faults, *more])


def _since(rev: str, file: str) -> _Review:
    """Compare a file with itself at a revision of the repository that it lies in."""
    path = Path(file)
    shown = f"{rev}:{file}"
    after, faults = parse(path)
    before, more = None, list[Fault]()
    try:
        before, more = git.parse(rev, f"./{path.name}", path.parent, shown)
    except git.NotThereError:
        before = _renamed(rev, after, path.parent)
    except git.RevisionError as error:
        more = [error.fault(shown)]
    return _reviewed(file, before, after, [*more, *faults])


def _renamed(rev: str, new: Schema | None, folder: Path) -> Schema | None:
    """Find the earlier file of a renamed one: the schema of the same name, in the same folder."""
    try:
        return git.schema_by_name(rev, new.name, folder) if new is not None else None
    except git.RevisionError:
        return None


def _reviewed(file: str, old: Schema | None, new: Schema | None, faults: list[Fault]) -> _Review:
    comparison = compare(old, new) if old and new and not faults else None
    return _Review(file, old, new, faults, comparison)


def _files(references: list[str]) -> list[str]:
    """List the files, and the schema files in the directories, each once."""
    files: list[str] = []
    for reference in references:
        path = Path(reference)
        if path.is_dir():
            inside = (entry for entry in path.iterdir() if entry.suffix in (".yaml", ".yml"))
            found = sorted(map(str, inside))
            files += found
            if not found:
                err.print(f"{reference}: this directory has no schema files", markup=False)
        else:
            files.append(reference)
    return [each for each in dict.fromkeys(files) if not resources.is_approved_copy(each)]


def _row(change: SchemaChange) -> dict[str, Any]:
    keys = ("at", "what", "verdict", "old", "new", "reason")
    return {key: getattr(change, key) for key in keys}


def _print(review: _Review, strict: bool) -> None:
    print_faults(review.faults)
    found = review.comparison
    if found is None:
        if not review.faults and review.new:
            out.print(f"{review.file}: a new schema, {review.new.id}", markup=False)
        return
    if not found.changes:
        out.print(f"{review.file}: no difference from {found.old.id}", markup=False)
        return
    title = f"{review.file}: {found.old.id} → {found.new.id}"
    out.print(title, markup=False, style="bold")
    wide().print(_table(found))
    level = "error" if strict else "warning"
    for part in found.unexplained:
        message = f"{level}: {part} widens, but its `reason` is unchanged; say why more is needed"
        err.print(message, markup=False)
    if not found.allowed:
        message = f"{review.file} widens: raise its version above {found.old.version}, or narrow it"
        err.print(message, markup=False, style="red")


def _table(found: Comparison) -> Table:
    """Lay out the changes; with a widening, the reason of the field or purpose."""
    rows = [
        (
            each.verdict,
            each.at,
            each.what,
            _step(each),
            (each.reason or "") * (each.verdict == "widening"),
        )
        for each in found.changes
    ]
    return changes_table(("where", "what", "old → new", "because"), rows, whole=1)


def _step(change: SchemaChange) -> str:
    """Write the step from old to new; ``+`` and ``-`` where the other side is empty."""
    old, new = _words(change.old), _words(change.new)
    if old and new:
        return f"{old} → {new}"
    return f"+ {new}" if new else f"- {old}" if old else ""


def _words(value: Any) -> str:
    """Write a value of a document for a table."""
    if value is None:
        return ""
    if isinstance(value, dict):
        value = [f"{key}: {inner}" for key, inner in value.items()]
    if isinstance(value, list):
        more = f" and {len(value) - _SHOWN} more" if len(value) > _SHOWN else ""
        return ", ".join(map(_words, value[:_SHOWN])) + more
    return str(value).lower() if isinstance(value, bool) else str(value)
