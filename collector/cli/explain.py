"""``collector explain``: show which fields of an event are kept or dropped, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from collector.cli.console import (
    new_table,
    out,
    print_hint,
    print_json,
    reach_table,
    waits_for_typing,
)
from collector.cli.data_dir import settings
from collector.cli.hints import hint, read_sample, sample_form
from collector.cli.options import AsJson, ConfigFile, Data, SchemaName
from collector.errors import UsageError
from collector.filter.explain import Explanation, unmatched
from collector.keyring import Keyring
from collector.samples import Reach, reach
from collector.schema import Schema, load_schema
from collector.server import control_client
from collector.units import parse_duration

_LIVE_SECONDS = 30.0
_MOST_SECONDS = 60.0


def _seconds(text: Any) -> float:
    found = text if isinstance(text, float) else parse_duration(text)
    if found is None or not 0 < found <= _MOST_SECONDS:
        raise UsageError("E107", "`--for` is a duration of at most a minute, for example `30s`")
    return float(found)


def explain_events(  # noqa: PLR0917 - typer reads the options off the parameters
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file of events; `-`, or no file, is stdin.")
    ] = Path("-"),
    schema: SchemaName = "conferencing",
    form: Annotated[
        Literal["ndjson", "json"] | None,
        typer.Option("--input", help="The form of the input, whatever the name of the file."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many events to explain at most.")] = 10,
    live: Annotated[
        bool, typer.Option("--live", help="Ask a running sidecar about the events that it gets.")
    ] = False,
    seconds: Annotated[
        float,
        typer.Option("--for", parser=_seconds, metavar="DURATION", help="How long `--live` looks."),
    ] = _LIVE_SECONDS,
    config: ConfigFile = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Explain what the filter makes of events, field by field.

    Shows the schema's fields, the values that are kept, content by category, and the number of
    other members; never the names of unlisted members, nor refused values. If there are more events
    than `--limit`, a summary of all comes first.

    `--live` asks the sidecar of `--data` instead, for a minute at most: why events are rejected and
    fields dropped, in names of the schema, reasons, JSON types and counts. No value is shown, and
    the ledger has an entry about it.

        echo '{"ip": "203.0.113.7", "chat": ["hi"]}' | collector explain
        collector explain --live --for 30s
    """
    if live:
        if file != Path("-"):
            raise UsageError("E107", "`--live` asks a sidecar; leave the file out")
        _explain_live(settings(config, data).data or Path(), seconds, as_json)
        return
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
    """Print a summary of all events, before a few of them are explained."""
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


def _explain_live(data: Path, seconds: float, as_json: bool) -> None:
    """Ask a sidecar. Raises ``DeliveryError`` E519 if none runs."""
    answer = control_client.ask(data, control_client.ExplainLive(seconds))
    if answer is None:
        raise control_client.no_sidecar(data)
    if as_json:
        print_json(answer)
        return
    for name, each in answer["schemas"].items():
        reasons = "".join(f", {times:,} {reason}" for reason, times in each["rejected"].items())
        out.print(
            f"[bold]{name}[/]: {each['received']:,} events, {each['admitted']:,} admitted{reasons}"
        )
        if each["looked_at"]:
            out.print(_live_table(each))
            out.print(f"of {each['looked_at']:,} events that were looked at")
            if any(one["outcome"] == "near" for some in each["fields"].values() for one in some):
                out.print(_NEAR, markup=False)


def _live_table(facts: Mapping[str, Any]) -> Table:
    """Lay out the outcomes of fields, those that are never kept first."""
    table = new_table(
        "field", "outcome", "JSON type", "events", "share", numbers=("events", "share")
    )
    for name, outcomes in sorted(facts["fields"].items(), key=lambda item: _kept(item[1])):
        for each in outcomes:
            style = _COLOURS.get(each["outcome"], "yellow")
            share = f"{each['events'] / facts['looked_at']:.0%}"
            events = f"{each['events']:,}"
            outcome = f"[{style}]{each['outcome']}[/]"
            table.add_row(name, outcome, each["type"] or "", events, share)
    return table


def _kept(outcomes: Sequence[Mapping[str, Any]]) -> int:
    return sum(each["events"] for each in outcomes if each["outcome"] == "kept")


_NEAR = (
    "near: the path has no value, but the events have another spelling of it or a part of it;"
    " `collector explain FILE` says which"
)
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
