"""Fluent Bit: its tail input with a JSON parser, the allowlist of record_modifier, a file of JSON.

Its allowlist knows keys of the top level only: below them everything stays, locale and port too. So
the records are compared after what the schema does not name has been taken out of them.
"""

from __future__ import annotations

import shutil
import subprocess

import orjson

from benchmarks.contenders import FIELDS, SCHEMA, Record
from benchmarks.data import flat
from benchmarks.processes import Process, Source

OBSTACLE = "fluent-bit is not installed (its path may be given by --fluent-bit)"
"""Why it is skipped."""

_USUAL = "/opt/fluent-bit/bin/fluent-bit"
_PARSER = "[PARSER]\n    Name json\n    Format json\n"


def find(path: str | None = None) -> str | None:
    """Return the executable: the one that is asked for, or one in a usual place."""
    if path is not None:
        return shutil.which(path)
    return shutil.which("fluent-bit") or shutil.which(_USUAL)


def version(executable: str) -> str:
    """As it tells it, in one line."""
    done = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True)
    return next(iter(done.stdout.splitlines()), "unknown")


def process(executable: str, source: Source) -> Process:
    """The command that filters a file into ``fluent-bit.ndjson`` beside it, and then ends."""
    parsers = source.beside("parsers.conf")
    parsers.write_text(_PARSER, encoding="utf-8")
    target = source.beside("fluent-bit.ndjson")
    reads = {
        "path": str(source.path),
        "read_from_head": "true",
        "exit_on_eof": "true",
        "parser": "json",
    }
    writes = {"path": str(target.parent), "file": target.name, "format": "plain"}
    members = dict.fromkeys(name.partition(".")[0] for name in FIELDS)
    command = (
        *(executable, "--quiet", "--parser", str(parsers)),
        *("--input", "tail", *_properties(reads)),
        *("--filter", "record_modifier", "--match", "*"),
        *(part for key in members for part in ("--prop", f"allowlist_key={key}")),
        *("--output", "file", "--match", "*", *_properties(writes)),
    )
    return Process("fluent-bit", command, source.beside("fluent-bit.printed"), target)


def _properties(values: dict[str, str]) -> list[str]:
    return [part for name, value in values.items() for part in ("--prop", f"{name}={value}")]


def record(line: bytes) -> Record:
    """Return the flat record that a line of its output holds."""
    found = flat(orjson.loads(line))
    kept = {name: found.get(name) for name in FIELDS}
    return {"schema": SCHEMA} | {name: value for name, value in kept.items() if value is not None}
