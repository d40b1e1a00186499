"""Read files at a revision of a git repository: a schema with its catalogues of that revision, or
any document of ours.

A schema and the catalogues beside it are written to a temporary directory and loaded from it, so
that nothing in the working tree counts. Links are followed only inside the revision.
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from shutil import which
from typing import NamedTuple

from collector.documents import Document, read_bytes
from collector.errors import ConfigError, Fault
from collector.schema import load
from collector.schema.model import Schema

_PATH = re.compile(r"\.{0,2}[/\\]|[A-Za-z]:[/\\]")
_CATALOGUE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\.txt")
_SECONDS = 30
_SET_BY_HOOKS = frozenset(["GIT_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_WORK_TREE"])
"""Variables that git sets for its hooks, relative to their start directory."""


class RevisionError(Exception):
    """A file of a revision cannot be read; the text says why, and what to do."""

    def fault(self, shown: str) -> Fault:
        """Return the error as a fault of a file of this name."""
        return Fault(shown, 1, 1, "", str(self), "E101")


class NotThereError(RevisionError):
    """The revision exists, but has no such file."""


class _Place(NamedTuple):
    """A file of a tree, both as git calls them."""

    tree: str
    path: str


def split(reference: str) -> tuple[str, str] | None:
    """Return the revision and path of ``REV:path``; ``None`` for a name or a path.

    Anything with a colon is a revision, unless it begins like a path (``./``, ``/``, ``C:/``). So
    no file in the working tree can pass for a revision.
    """
    revision, colon, path = reference.partition(":")
    return (revision, path) if colon and not _PATH.match(reference) else None


def read(revision: str, path: str, where: Path, shown: str) -> Document:
    """Read any YAML document as plain values, with its faults; E101 if it cannot be read.

    Arguments are those of ``parse``. Raises ``ConfigError`` E201 if git is missing.
    """
    try:
        place = _place(revision, path, where)
        return read_bytes(_with(place, (), where)[place.path], Document(shown))
    except RevisionError as error:
        return Document(shown, faults=[error.fault(shown)])


def load_reference(reference: str) -> tuple[Schema | None, list[Fault]]:
    """Load the schema of ``REV:path``, seen from the working directory, or of a name or a path; or
    return every fault of the document, E101 if it cannot be read.

    Raises ``ConfigError`` E201 where git is missing.
    """
    parts = split(reference)
    if parts is None:
        return load.parse(reference)
    try:
        return parse(*parts, Path(), reference)
    except RevisionError as error:
        return None, [error.fault(reference)]


def parse(revision: str, path: str, where: Path, shown: str) -> tuple[Schema | None, list[Fault]]:
    """Load the schema, or return every fault of the document. Faults call the file ``shown``.

    ``path`` starts at the top of the repository; with ``./`` or ``../``, at the folder ``where``.
    Raises ``RevisionError``, ``NotThereError``, and ``ConfigError`` E201 where git is missing.
    """
    place = _place(revision, path, where)
    folder = posixpath.dirname(place.path)
    catalogues = _catalogues(place.tree, folder, where)
    contents = _with(place, catalogues, where)
    with tempfile.TemporaryDirectory(prefix="collector-") as directory:
        for name in catalogues:
            copy = Path(directory, posixpath.relpath(name, folder or "."))
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(contents.get(name, b""))
        file = Path(directory, "schema.yaml")
        file.write_bytes(contents[place.path])
        schema, faults = load.parse(file)
    return schema, [fault._replace(file=shown) for fault in faults]


def schema_by_name(revision: str, name: str, where: Path) -> Schema | None:
    """Load the schema of that name from a folder at a revision, whatever its file is called; of
    several, the one with the highest version.

    Raises as ``parse`` does.
    """
    place = _place(revision, "./any.yaml", where)
    files = [
        path
        for path in _listed(place.tree, posixpath.dirname(place.path), where)
        if path.endswith((".yaml", ".yml")) and path.isprintable()
    ]
    called = re.compile(rf"""\bschema["']?\s*:\s*["']?{re.escape(name)}\b""".encode())
    contents = _contents(place.tree, files, where)
    likely = [path for path in files if called.search(contents.get(path, b""))]
    schemas = [parse(place.tree, path, where, path)[0] for path in likely]
    return max(
        (schema for schema in schemas if schema is not None and schema.name == name),
        key=lambda schema: [int(number) for number in schema.version.split(".")],
        default=None,
    )


def revisions(file: Path, most: int) -> list[tuple[str, str]]:
    """Return the last commits that changed a file, the newest first, each with its day (ISO 8601);
    none without a git repository, or without git."""
    if which("git") is None:
        return []
    chosen = ("--format=%H %cs", f"--max-count={most}", "--", f"./{file.name}")
    listed = _git(file.parent, "log", *chosen) or b""
    lines = (line.split(" ") for line in listed.decode("ascii", "replace").splitlines())
    return [(line[0], line[1]) for line in lines if len(line) == 2]


def _git(where: Path, *arguments: str, stdin: bytes = b"") -> bytes | None:
    """Run git in a directory, and return its output; ``None`` if it fails."""
    git = which("git")
    if git is None:
        raise ConfigError("E201", "reading a revision needs git; install it, or give a path")
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and no argument that begins with a dash
            [git, "-C", str(where), *arguments],
            input=stdin,
            capture_output=True,
            env={key: value for key, value in os.environ.items() if key not in _SET_BY_HOOKS},
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout if done.returncode == 0 else None


def _place(revision: str, path: str, where: Path) -> _Place:
    if not revision or revision.startswith("-") or not path or not path.isprintable():
        raise RevisionError("write REV:PATH: a revision of the git repository, and a file in it")
    prefix = _git(where, "rev-parse", "--show-prefix")
    if prefix is None:
        raise RevisionError("this is no git repository, or git refuses it; try `git status`")
    tree = _git(where, "rev-parse", "--verify", "--quiet", f"{revision}^{{tree}}")
    if tree is None and revision == "HEAD" and _git(where, "symbolic-ref", "--quiet", "HEAD"):
        raise NotThereError("the repository has no commit yet; make one first")
    if tree is None:
        raise RevisionError(
            "the repository has no such revision; check it, or fetch it (a shallow clone has few)"
        )
    if path.startswith(("./", "../")):
        path = posixpath.join(prefix.decode(errors="surrogateescape").rstrip("\n"), path)
    path = posixpath.normpath(path)
    if path.startswith(("/", "../")) or path in (".", ".."):
        raise RevisionError("the path leads out of the repository")
    return _Place(tree.decode().strip(), path)


def _with(place: _Place, others: Iterable[str], where: Path) -> dict[str, bytes]:
    """Read the contents of a file, and of the others that exist."""
    contents = _contents(place.tree, [place.path, *others], where)
    if place.path not in contents:
        raise NotThereError("this revision has no such file; check the path")
    return contents


def _catalogues(tree: str, folder: str, where: Path) -> list[str]:
    """List the catalogues beside a file and in ``catalogues`` beside it."""
    below = posixpath.join(folder, "catalogues")
    names = [*_listed(tree, folder, where), *_listed(tree, below, where)]
    return [name for name in names if _CATALOGUE.fullmatch(posixpath.basename(name))]


def _listed(tree: str, folder: str, where: Path) -> list[str]:
    """List a folder of a tree, from the top; empty if there is no such folder."""
    inside = [f"{folder}/"] if folder else []
    listed = _git(where, "ls-tree", "-z", "--name-only", "--full-tree", tree, "--", *inside)
    return (listed or b"").decode(errors="replace").split("\0")[:-1]


def _contents(tree: str, paths: list[str], where: Path) -> dict[str, bytes]:
    """Read the contents of the paths that are files."""
    asked = "".join(f"{tree}:{path}\n" for path in paths).encode(errors="surrogateescape")
    answer = _git(where, "cat-file", "--batch", "--follow-symlinks", stdin=asked) or b""
    contents: dict[str, bytes] = {}
    at = 0
    for path in paths:
        end = answer.find(b"\n", at)
        words = answer[at:end].split()
        at = end + 1
        if words[-1:] == [b"missing"]:
            continue
        size = int(words[-1]) if words and words[-1].isdigit() else 0
        if len(words) == 3 and words[1] == b"blob":
            contents[path] = answer[at : at + size]
        at += size + 1
    return contents
