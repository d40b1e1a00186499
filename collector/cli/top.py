"""``collector top``: what a running sidecar does, in rates."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from math import ceil
from pathlib import Path
from time import monotonic, sleep
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live

from collector.cli.console import new_table, out, print_json
from collector.cli.data_dir import settings
from collector.cli.options import AsJson, ConfigFile, Data
from collector.server import control_client
from collector.server.rates import Sample, summary

_MOST_FIELDS = 20
"""So many fields are shown, those that were dropped most often."""
_LIVE = 10
"""Redraws in a second, so that a changed size of the window is seen soon."""


def top(
    config: ConfigFile = None,
    data: Data = None,
    interval: Annotated[
        float, typer.Option("--interval", "-n", min=0.5, max=3600, help="Seconds between looks.")
    ] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print the counts since the start, and end.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Watch a sidecar: events by outcome and reason, fields that are dropped, sinks and what waits.

    Rates are of the last interval; with `--once`, counts since the sidecar started. With `--json`,
    one document on a line for each interval. Ctrl-C ends it. Exit 1 if no sidecar runs.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the terminal is as it was before
    samples = _samples(settings(config, data).data or Path(), interval)
    first = next(samples)
    if once:
        _print(summary(None, first), as_json)
        return
    try:
        if as_json or not out.is_terminal:
            for facts in _changes(first, samples):
                _print(facts, as_json)
        else:
            screen = _screen(summary(None, first))
            with Live(screen, console=out, screen=True, refresh_per_second=_LIVE) as live:
                for facts in _changes(first, samples):
                    live.update(_screen(facts), refresh=True)
    except KeyboardInterrupt:
        raise typer.Exit from None


def _samples(data: Path, interval: float) -> Iterator[Sample]:
    """Yield the status of a sidecar after each interval. Raises ``DeliveryError`` E519 if none runs
    or does not answer."""
    while True:
        answer = control_client.status(data)
        if answer is None:
            raise control_client.no_sidecar(data)
        yield Sample(monotonic(), answer)
        sleep(interval)


def _changes(before: Sample, samples: Iterator[Sample]) -> Iterator[dict[str, Any]]:
    for sample in samples:
        yield summary(before, sample)
        before = sample


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        out.print(_screen(facts))


def _screen(facts: Mapping[str, Any]) -> RenderableType:
    """Lay out a summary as tables."""
    spool, workers = facts["spool"], facts["workers"]
    unit = "/s" if facts["rates"] else ""
    state = "[green]ready[/]" if facts["ready"] else "[bold red]not ready[/]"
    troubles = "".join(f", {name}: {state}" for name, state in facts["checks"].items())
    held = f"{spool['batches']:,} batches with {spool['records']:,} records"
    lines = [
        f"{state}{troubles}",
        f"workers: {workers['ready']} receive, {workers['replaced']} were replaced",
        f"spool: {held}, {spool['mib']:,} of {spool['limit_mib']:,} MiB",
    ]
    events = facts["events"]
    return Group(
        *lines, "", _events(events, unit), "", *_fields(events, unit), _sinks(facts["sinks"], unit)
    )


def _events(events: Mapping[str, Any], unit: str) -> RenderableType:
    headings = ("schema", f"received{unit}", f"admitted{unit}", "share", "rejected", "content")
    table = new_table(*headings, numbers=headings[1:4])
    for schema, each in events.items():
        table.add_row(
            schema,
            _count(each["received"]),
            _count(each["admitted"]),
            _share(each["admitted"], each["received"]),
            _by_name(each["rejected"]),
            _by_name(each.get("content", {})),
        )
    return table


def _fields(events: Mapping[str, Any], unit: str) -> Iterator[RenderableType]:
    """Yield a table of the fields that are dropped, if there are any, and a blank line."""
    found = [
        (sum(drops.values()), schema, name, drops, each["received"])
        for schema, each in events.items()
        for name, drops in each.get("dropped", {}).items()
    ]
    found = sorted((each for each in found if each[0]), key=lambda each: (-each[0], each[1:3]))
    if not found:
        return
    headings = ("schema", "field", f"dropped{unit}", "share", "reasons")
    table = new_table(*headings, numbers=headings[2:4])
    for times, schema, name, drops, received in found[:_MOST_FIELDS]:
        share = _share(times, received)
        table.add_row(schema, name, _count(times), share, _by_name(drops))
    yield from (table, "")


def _sinks(sinks: Mapping[str, Any], unit: str) -> RenderableType:
    """Lay out the sinks. The table fits into 80 columns, because counts that are zero for every
    sink have no column."""
    counts = [f"delivered{unit}", f"failures{unit}", "waiting", "share", "oldest", "lag"]
    rare = {"skipped": "skipped", "set aside": "set_aside"}
    rare = {heading: key for heading, key in rare.items() if any(s[key] for s in sinks.values())}
    counts += rare
    table = new_table("sink", "state", *counts, numbers=counts, whole=("sink", *counts))
    for name, each in sinks.items():
        waiting, answer = each["waiting"], f" ({each['answer']})" if each["answer"] else ""
        table.add_row(
            name,
            f"[red]late: {each['cause']}{answer}[/]" if each["late"] else "up to date",
            _count(each["delivered"]),
            _count(sum(each["failures"].values())),
            f"{waiting['records']:,}",
            f"{ceil(100 * each['share'])} %",
            f"{waiting['oldest_seconds']:,.0f} s",
            f"{waiting['lag_seconds']:,.0f} s",
            *(f"{each[key]:,}" for key in rare.values()),
        )
    return table


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


def _share(part: float, whole: float) -> str:
    """Write a share in whole percents. Only exactly nothing is 0 %, and only all of it is 100 %."""
    if not whole:
        return ""
    share = min(part / whole, 1.0)
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def _by_name(counts: Mapping[str, float]) -> str:
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {_count(times)}" for name, times in most_first if times)
