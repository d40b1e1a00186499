"""Options that commands share, without what prints on a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collector.errors import ConfigError
from collector.schema import resources

__all__ = [
    "DEFAULT_SCHEMAS",
    "AsJson",
    "Checkpoints",
    "Output",
    "SchemaName",
    "Schemas",
    "complete_schema",
    "write_file",
]


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
        metavar="[SCHEMA]...",
        help="Names of shipped schemas, or paths of schema files. Default: `conferencing`.",
        autocompletion=complete_schema,
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Checkpoints = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoint", metavar="FILE", help="A checkpoint that was kept elsewhere; repeatable."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write it to a file, not to stdout."),
]


def write_file(path: Path, data: bytes) -> None:
    """Write a small file of ours; raises ``ConfigError`` E203."""
    try:
        path.write_bytes(data)
    except OSError:
        pass
    else:
        return
    raise ConfigError("E203", "the file given as an option cannot be written")
