"""``collector explain``: show what would be stored and dropped of an event, and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer
from rich.markup import escape

from collector.cli.console import new_table, out, print_hint, print_json, waits_for_typing
from collector.cli.hints import hint
from collector.cli.inputs import document, form_of, opened
from collector.cli.options import AsJson, SchemaName
from collector.contracts import Rejection, Tally
from collector.filter import Filter
from collector.filter.explain import Explanation, explain, unmatched
from collector.filter.text import BOM, MAX_DOCUMENT
from collector.keyring import Keyring
from collector.schema import load_schema


def explain_events(
    file: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="A file of events; `-`, or none, is stdin.")
    ] = Path("-"),
    schema: SchemaName = "conferencing",
    form: Annotated[
        Literal["ndjson", "json"] | None,
        typer.Option("--input", help="The form of the input, whatever the file is called."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Explain at most so many events.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Explain what the filter makes of events, field by field.

    Shows names of the schema, values that are admitted, content categories, and how many other
    members there are. Names of unlisted members and refused values are never shown.

        echo '{"ip": "203.0.113.7", "chat": ["hi"]}' | collector explain
    """
    chosen = Filter(load_schema(schema), keys=Keyring())
    waits_for_typing(file)
    with opened(file) as read:
        text, size = document(read, MAX_DOCUMENT)
    form = form or ("ndjson" if file == Path("-") else form_of(file))
    data, tally = bytes(text).removeprefix(BOM), Tally(bytes_in=size)
    explained: list[Explanation] = []
    for number, explanation in enumerate(explain(chosen.router, data, form == "ndjson", limit), 1):
        tally.received += 1
        if explanation.record is None:
            tally.rejected[cast("Rejection", explanation.verdict)] += 1
        else:
            tally.admitted += 1
        explained.append(explanation)
        if as_json:
            print_json(_as_dict(number, explanation))
        else:
            _print(number, explanation)
    if not as_json:
        _print_unmatched(unmatched(explained))
    found = hint(file, form, tally, chosen.schema)
    if found is not None:
        print_hint(found)


def _print_unmatched(paths: Mapping[str, str]) -> None:
    """Print which paths of the schema led to no value, and what was near."""
    table = new_table("path that never matched", "near", whole=("path that never matched",))
    for path, near in paths.items():
        if near:
            table.add_row(escape(path), escape(near))
    if table.row_count:
        out.print(table)
    others = ", ".join(path for path, near in paths.items() if not near)
    if others:
        out.print(f"never matched, with nothing near: {others}", markup=False, soft_wrap=False)


def _as_dict(number: int, explanation: Explanation) -> dict[str, Any]:
    fields = {
        name: {
            "outcome": finding.outcome,
            **({"from": finding.source} if finding.source is not None else {}),
            **({"value": finding.value} if finding.value is not None else {}),
        }
        for name, finding in explanation.fields.items()
    }
    return {
        "event": number,
        "verdict": explanation.verdict,
        "record": explanation.record,
        "fields": fields,
        "content": explanation.content,
        "unlisted": explanation.unlisted,
        "unmatched": unmatched([explanation]),
    }


_COLOURS = {"kept": "green", "absent": "dim"}


def _print(number: int, explanation: Explanation) -> None:
    admitted = explanation.verdict == "admitted"
    colour = "green" if admitted else "red"
    out.print(f"[bold]event {number}[/]: [{colour}]{explanation.verdict}[/]")
    if explanation.fields:
        table = new_table("field", "outcome", "from", "value")
        for name, finding in explanation.fields.items():
            style = _COLOURS.get(finding.outcome, "yellow")
            value = "" if finding.value is None else str(finding.value)
            table.add_row(name, f"[{style}]{finding.outcome}[/]", finding.source or "", value)
        out.print(table)
    if explanation.content is None:
        out.print("nothing else of it was looked at\n")
        return
    content = ", ".join(explanation.content) or "none"
    out.print(f"content (counted, never decoded): {content}")
    out.print(f"other members (skipped): {explanation.unlisted}\n")
