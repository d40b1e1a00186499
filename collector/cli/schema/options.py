"""What the commands of ``collector schema`` have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from collector.cli.console import complete_schema

__all__ = ["DEFAULT", "Schemas"]

DEFAULT = ["conferencing"]

Schemas = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SCHEMA]...",
        help="Names of shipped schemas, or paths of schema files. Default: `conferencing`.",
        autocompletion=complete_schema,
        show_default=False,
    ),
]
