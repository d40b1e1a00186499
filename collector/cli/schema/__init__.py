"""``collector schema``: write schemas, check them, test them and review them."""

from __future__ import annotations

import typer

from collector.cli.console import group
from collector.cli.schema.catalogue import app as catalogue
from collector.cli.schema.check import check, test_schemas
from collector.cli.schema.diff import diff
from collector.cli.schema.look import capacity, list_schemas, show
from collector.cli.schema.new import jsonschema, new
from collector.cli.schema.notices import notice, ropa
from collector.cli.schema.review import review

__all__ = ["app"]

app: typer.Typer = group("Write schemas, check them, test them and review them.")
app.command("list")(list_schemas)
app.command("show")(show)
app.command("check")(check)
app.command("test")(test_schemas)
app.command("diff")(diff)
app.command("review")(review)
app.command("capacity")(capacity)
app.command("jsonschema")(jsonschema)
app.command("new")(new)
app.command("notice")(notice)
app.command("ropa")(ropa)
app.add_typer(catalogue, name="catalogue")
