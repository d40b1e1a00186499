"""``collector schema notice|ropa``: documents made of a schema and a configuration."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from collector.cli.console import err, print_json
from collector.cli.options import complete_schema
from collector.cli.serve import ConfigFile
from collector.cli.stdout import write
from collector.config import Config, load
from collector.pages.notice import notice as made
from collector.pages.paper_document import as_html, as_markdown
from collector.pages.phrases import Language, phrase_book
from collector.pages.ropa import as_csv, as_json
from collector.routing import Flows, all_flows, flows, is_unprotected
from collector.routing.schemas import configured
from collector.schema import load_schema
from collector.schema.review import Review, read_copy, review

_Schema = Annotated[
    str | None,
    typer.Argument(
        metavar="[SCHEMA]",
        help="A schema of the configuration, by its name, or a shipped schema's name, or the path"
        " of a schema file. Default: the one that the configuration names.",
        autocompletion=complete_schema,
        show_default=False,
    ),
]


def notice(
    schema: _Schema = None,
    config: ConfigFile = None,
    form: Annotated[
        Literal["markdown", "html"], typer.Option("--format", help="How it is written.")
    ] = "markdown",
    language: Annotated[Language, typer.Option("--language", help="English or Indonesian.")] = "en",
) -> None:
    """Write the privacy notice: what is collected, why, for how long, who receives it, and what
    people's rights are. docs/papers.md says where each sentence is from."""
    settings, matrix, found = _read(schema, config)
    blocks = made(matrix, settings.about, phrase_book(language), found)
    text = as_html(blocks, language) if form == "html" else as_markdown(blocks)
    write(text.encode())
    _warn(settings, matrix)


def ropa(
    schema: _Schema = None,
    config: ConfigFile = None,
    form: Annotated[
        Literal["csv", "json"], typer.Option("--format", help="How it is written.")
    ] = "csv",
) -> None:
    """Write the record of processing activities (Art. 30 GDPR), in terms of the W3C's Data Privacy
    Vocabulary: one activity for each purpose, as a table or as JSON-LD."""
    settings, matrix, found = _read(schema, config)
    if form == "json":
        print_json(as_json(matrix, settings, found))
    else:
        write(as_csv(matrix, settings, found).encode())
    _warn(settings, matrix)


def _read(schema: str | None, config: ConfigFile) -> tuple[Config, Flows, Review]:
    settings = load(config)
    matrix, reference = _matrix(schema, settings)
    copy = read_copy(settings.approved_copy(reference))
    return settings, matrix, review(matrix.schema, copy)


def _matrix(schema: str | None, settings: Config) -> tuple[Flows, str]:
    """Return the flows of the schema that is meant, and the reference to it."""
    if schema is not None and not settings.schemas:
        return flows(settings, load_schema(schema)), schema
    matrices = all_flows(settings, configured(settings))
    references = dict(
        zip((each.schema.name for each in matrices), settings.references, strict=True)
    )
    by_name = {matrix.schema.name: matrix for matrix in matrices}
    if schema is None and len(matrices) > 1:
        message = f"the configuration has several schemas; name one: {', '.join(by_name)}"
        raise typer.BadParameter(message, param_hint="SCHEMA")
    if schema is not None and schema not in by_name:
        return flows(settings, load_schema(schema)), schema
    name = matrices[0].schema.name if schema is None else schema
    return by_name[name], references[name]


def _warn(settings: Config, matrix: Flows) -> None:
    """Warn of facts that the configuration does not state."""
    about = {"about.controller": settings.about.controller, "about.contact": settings.about.contact}
    open_ = [name for name, value in about.items() if value is None]
    sinks = matrix.sinks.items()
    open_ += [f"sinks.{name}.country" for name, sink in sinks if settings.about.place(sink) is None]
    unprotected = [name for name, sink in sinks if is_unprotected(sink, settings.about)]
    open_ += [f"sinks.{name}.safeguard" for name in unprotected]
    if open_:
        err.print(f"not stated in the configuration: {', '.join(open_)}", markup=False)
