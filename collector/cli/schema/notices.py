"""``collector schema notice|ropa``: the privacy notice and the record of processing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from collector.cli.console import err, print_json
from collector.cli.options import ConfigFile, complete_schema
from collector.cli.stdout import write
from collector.config import Config, load
from collector.pages.model import Page, build
from collector.pages.notice import Form
from collector.pages.notice import notice as made
from collector.pages.phrases import Language
from collector.pages.ropa import as_csv, as_json
from collector.routing.schemas import configured, reviewed
from collector.schema import load_schema
from collector.schema.review import read_copy, review

_Schema = Annotated[
    str | None,
    typer.Argument(
        metavar="SCHEMA",
        help="The name of a schema in the configuration or of a shipped one, or the path of a"
        " schema file. Default: the schema that the configuration names.",
        autocompletion=complete_schema,
        show_default=False,
    ),
]


def notice(
    schema: _Schema = None,
    config: ConfigFile = None,
    form: Annotated[Form, typer.Option("--format", help="How it is written.")] = "markdown",
    language: Annotated[Language, typer.Option("--language", help="English or Indonesian.")] = "en",
) -> None:
    """Write the privacy notice: what is collected, why, for how long, who receives it, and what
    rights people have. docs/claims.md says where each sentence comes from."""
    page = _read(schema, config)
    write(made(page, form, language).encode())
    _warn(page)


def ropa(
    schema: _Schema = None,
    config: ConfigFile = None,
    form: Annotated[
        Literal["csv", "json"], typer.Option("--format", help="How it is written.")
    ] = "csv",
) -> None:
    """Write the record of processing activities (Art. 30 GDPR) in terms of the W3C's Data Privacy
    Vocabulary. Each purpose is one activity, in a table or in JSON-LD."""
    page = _read(schema, config)
    if form == "json":
        print_json(as_json(page))
    else:
        write(as_csv(page).encode())
    _warn(page)


def _read(reference: str | None, config: ConfigFile) -> Page:
    """Build the page of the schema that is meant."""
    settings, now = load(config), datetime.now(UTC)
    if reference is None or settings.schemas:
        schemas = configured(settings)
        names = [schema.name for schema in schemas]
        if reference is None and len(names) > 1:
            message = f"the configuration has several schemas; name one: {', '.join(names)}"
            raise typer.BadParameter(message, param_hint="SCHEMA")
        if reference is None or reference in names:
            found = reviewed(settings, schemas)
            every = build(settings, schemas, (), checked=None, now=now, reviews=found)
            return every.only(reference or names[0])
    return _of_another(reference, settings, now)


def _of_another(reference: str, settings: Config, now: datetime) -> Page:
    """Build the page of a schema that the configuration does not name."""
    schema = load_schema(reference)
    found = {schema.name: review(schema, read_copy(settings.approved_copy(reference)))}
    return build(settings, [schema], (), checked=None, now=now, reviews=found)


def _warn(page: Page) -> None:
    """Warn of facts that the configuration does not state."""
    about = {"about.controller": page.organisation, "about.contact": page.contact}
    open_ = [name for name, value in about.items() if value is None]
    open_ += [f"sinks.{each.name}.country" for each in page.destinations if each.country is None]
    open_ += [f"sinks.{each.name}.safeguard" for each in page.destinations if each.unprotected]
    if open_:
        err.print(f"missing in the configuration: {', '.join(open_)}", markup=False)
