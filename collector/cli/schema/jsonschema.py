"""``collector schema jsonschema``: what an editor completes by, or what records look like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

from collector.cli.console import write_file
from collector.cli.schema.options import DEFAULT, Schemas
from collector.cli.stdout import write
from collector.schema import load_schemas

__all__ = ["jsonschema"]


def jsonschema(
    schemas: Schemas = None,
    records: Annotated[
        bool, typer.Option("--records", help="Of the records of these schemas instead.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to a file.")
    ] = None,
) -> None:
    """Print a JSON Schema (2020-12) of schema documents, for editors: see docs/editors.md.

    With `--records` it is one of the records of the named schemas, each field with exactly its
    values. Named schemas are loaded first, and their faults reported.
    """
    from collector.schema.jsonschema import document_schema  # noqa: PLC0415 - rarely needed
    from collector.schema.recordschema import record_schema  # noqa: PLC0415

    loaded = load_schemas(schemas or (DEFAULT if records else []))
    document = record_schema(loaded) if records else document_schema()
    data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if output is None:
        write(data)
    else:
        write_file(output, data)
