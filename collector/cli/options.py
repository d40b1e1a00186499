"""Options that several commands have, and the files that they name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from collector.errors import ConfigError, UsageError, file_name
from collector.files import write_private
from collector.schema import resources

_OTHER_FORMATS = frozenset(
    """
    .7z .arrow .avro .bson .bz2 .cbor .csv .db .duckdb .feather .gz .htm .html .msgpack .orc .pb
    .parquet .pdf .pq .proto .sqlite .sqlite3 .tar .tgz .toml .tsv .xls .xlsx .xml .xz .yaml .yml
    .zip .zst
    """.split()
)


def complete_schema(incomplete: str) -> list[str]:
    """List names of shipped schemas, for shell completion."""
    return [name for name in resources.names() if name.startswith(incomplete)]


SchemaName = Annotated[
    str,
    typer.Option(
        "--schema",
        "-s",
        metavar="SCHEMA",
        help="A shipped schema's name (`collector schema list`), or the path of a schema file.",
        autocompletion=complete_schema,
    ),
]
DEFAULT_SCHEMAS = ["conferencing"]
Schemas = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SCHEMA",
        help="Names of shipped schemas, or paths of schema files. Default: `conferencing`.",
        autocompletion=complete_schema,
        show_default=False,
    ),
]


def schema_files(references: list[str] | None) -> list[str]:
    """Return the schemas that are named, or the default ones, without the approved copies that lie
    beside them and that a shell's ``*.yaml`` names too."""
    if not references:
        return DEFAULT_SCHEMAS
    return [each for each in references if not resources.is_approved_copy(each)]


def read_file(path: Path, most: int) -> bytes:
    """Return so many bytes of a file that an option names. Raises ``UsageError`` E101."""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
    raise UsageError("E101", f"{file_name(path)} cannot be read: {why}")


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The configuration, a YAML file; see docs/configuration.md.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="The data directory. Default: that of the configuration."
    ),
]


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Yes = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Do not ask. Without a terminal, the command never asks."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be deleted, and change nothing.")
]
Checkpoints = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoint", metavar="FILE", help="A checkpoint that you kept elsewhere; repeatable."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to this file instead of stdout."),
]


def confirm(question: str, yes: bool) -> None:
    """Ask on a terminal before something is deleted. Raises ``typer.Abort`` unless it is wanted."""
    if not yes and sys.stdin.isatty():
        typer.confirm(question, abort=True, err=True)


def write_file(path: Path, data: bytes) -> None:
    """Write a small file of ours; raises ``ConfigError`` E203."""
    try:
        path.write_bytes(data)
    except OSError as error:
        fault = unwritable(path, error)
    else:
        return
    raise fault


def write_new(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a new file of its owner's alone (0600). Raises ``ConfigError`` E203, also where it is
    there."""
    try:
        write_private(path, pieces)
    except FileExistsError:
        fault = ConfigError("E203", f"{file_name(path)} already exists; name another file")
    except OSError as error:
        fault = unwritable(path, error)
    else:
        return
    raise fault


def replace_file(path: Path, data: bytes) -> None:
    """Write a file anew such that it is never seen half written. Raises ``ConfigError`` E203."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            beside.chmod(path.stat().st_mode & 0o777)
        beside.replace(path)
    except OSError as error:
        fault = unwritable(path, error)
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    else:
        return
    raise fault


def unwritable(path: Path, error: OSError) -> ConfigError:
    """Return the error for an output that cannot be written, E203."""
    why = os.strerror(error.errno or 0).lower()
    return ConfigError("E203", f"{file_name(path)} cannot be written: {why}")


def refuse_other_format(path: Path, suffix: str) -> None:
    """Raise ``ConfigError`` E122 for a name of another format than that of ``suffix``."""
    if path.suffix.lower() not in _OTHER_FORMATS - {suffix}:
        return
    plain = path
    while plain.suffix.lower() in _OTHER_FORMATS:
        plain = plain.with_suffix("")
    form = "lines of JSON" if suffix == ".ndjson" else "JSON"
    plain = plain if plain.suffix else plain.with_suffix(suffix)
    raise ConfigError(
        "E122",
        f"{file_name(path)} would hold {form}, but its name says otherwise; call it"
        f" `{file_name(plain.name)}`",
    )
