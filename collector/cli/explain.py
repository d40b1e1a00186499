"""``collector explain``: show which fields of an event are kept or dropped, and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from collector.cli.console import (
    new_table,
    out,
    print_hint,
    print_json,
    reach_table,
    waits_for_typing,
)
from collector.cli.hints import hint, read_sample, sample_form
from collector.cli.options import AsJson, SchemaName
from collector.filter.explain import Explanation, unmatched
from collector.keyring import Keyring
from collector.samples import Reach, reach
from collector.schema import Schema, load_schema


def explain_events(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file of events; `-`, or no file, is stdin.")
    ] = Path("-"),
    schema: SchemaName = "conferencing",
    form: Annotated[
        Literal["ndjson", "json"] | None,
        typer.Option("--input", help="The form of the input, whatever the name of the file."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many events to explain at most.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Explain what the filter makes of events, field by field.

    Shows the schema's fields, the values that are kept, content by category, and the number of
    other members; never the names of unlisted members, nor refused values. If there are more events
    than `--limit`, a summary of all comes first.

        echo '{"ip": "203.0.113.7", "chat": ["hi"]}' | collector explain
    """
    loaded = load_schema(schema)
    waits_for_typing(file)
    sample = read_sample(file, form)
    keys = Keyring()
    found, explained = reach(loaded, sample, keys), sample.explained(loaded, limit, keys)
    if as_json:
        for number, each in enumerate(explained, 1):
            print_json(_as_dict(number, each))
    else:
        if found.tally.received > len(explained):
            _print_summary(loaded, found, len(explained))
        for number, each in enumerate(explained, 1):
            _print(number, each)
        _print_unmatched(unmatched(explained))
    told = hint(file, sample_form(sample), found.tally, loaded)
    if told is not None:
        print_hint(told)


def _print_summary(schema: Schema, found: Reach, shown: int) -> None:
    """Print what becomes of all events, before a few of them are explained."""
    tally = found.tally
    reasons = "".join(f", {times:,} {reason}" for reason, times in tally.rejected.items())
    out.print(f"[bold]{tally.received:,} events[/]: {tally.admitted:,} admitted{reasons}")
    out.print(reach_table(schema.fields, found))
    out.print(f"\nthe first {shown:,} (raise `--limit` for more):\n", markup=False)


def _print_unmatched(paths: Mapping[str, str]) -> None:
    """Print which paths of the schema led to no value, and what was near."""
    table = new_table("path that never matched", "similar", whole=("path that never matched",))
    for path, near in paths.items():
        if near:
            table.add_row(escape(path), escape(near))
    if table.row_count:
        out.print(table)
    others = ", ".join(path for path, near in paths.items() if not near)
    if others:
        out.print(
            f"never matched, and nothing similar found: {others}", markup=False, soft_wrap=False
        )


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
        out.print("the rest of it was not looked at\n")
        return
    content = ", ".join(explanation.content) or "none"
    out.print(f"content (counted, never decoded): {content}")
    out.print(f"other members (skipped): {explanation.unlisted}\n")
