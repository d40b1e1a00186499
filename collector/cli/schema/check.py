"""``collector schema check|test``: is it well formed, and does it do what its author says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from collector.cli.console import err, out, print_faults, print_json, reach_table, share
from collector.cli.hints import read_sample, refuse_unreadable
from collector.cli.options import AsJson, Schemas, schema_files
from collector.documents import Loc, read
from collector.errors import Fault
from collector.filter.explain import unmatched
from collector.filter.schema_test import CaseResult, run_samples, run_tests
from collector.samples import Reach, Sample, reach
from collector.schema import Schema, resources
from collector.schema.lints import Finding, Severity, lint
from collector.schema.load import parse
from collector.schema.model import record_bits
from collector.schema.scalars import path_of, written_source

NEVER_MATCHED, REACHED, COLLAPSED = "never-matched", "reached", "collapsed"


def check(
    schemas: Schemas = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for warnings too.")] = False,
    sample: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="SAMPLE",
            help="A file of events: report the share of events that have each field, paths that"
            " never match, and numbers that lose their differences.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check schema files: report every fault and every likely mistake of all of them at once.

    A fault is `file:line:column: field: message [code]` (docs/errors.md): the schema does not load,
    exit 78. A likely mistake is `file:line:column: severity: field: message [lint]`
    (docs/schema-review.md): the schema loads; exit 1 if the severity is `error`.
    """
    faults: list[Fault] = []
    findings: list[Finding] = []
    events = None if sample is None else _events(sample)
    for reference in schema_files(schemas):
        schema, found = parse(reference)
        faults += found
        path = resources.schema(reference)
        if schema is not None and path is not None:
            findings += lint(schema, path)
            if not as_json:
                bits = record_bits(schema)
                out.print(f"{reference}: ok, {schema.id}, {bits:.0f} bits at most", markup=False)
            if events is not None:
                findings += _tried(schema, path, events, as_json)
    if as_json:
        listed = [fault._asdict() | {"severity": "error"} for fault in faults]
        print_json(listed + [finding.as_dict() for finding in findings])
    else:
        print_faults(faults)
        for finding in findings:
            err.print(str(finding), markup=False, style=_STYLES[finding.severity])
    raise typer.Exit(_exit_code(faults, findings, strict))


def _events(path: Path) -> Sample:
    """Read a sample. Raises ``InputError`` E101 and E422."""
    found = read_sample(path)
    refuse_unreadable(path, found)
    return found


def _tried(schema: Schema, path: Path, events: Sample, as_json: bool) -> Iterator[Finding]:
    """Try a schema on a sample: print what it reaches, and yield what there is to note."""
    found = reach(schema, events)
    if not as_json:
        _print_reach(schema, found)
    yield from _against(schema, path, events, found, as_json)


def _print_reach(schema: Schema, found: Reach) -> None:
    tally = found.tally
    unread = tally.received - found.events
    others = f"; {unread:,} more are unreadable or not selected" if unread else ""
    out.print(f"{tally.admitted:,} of {found.events:,} events become records{others}")
    out.print(reach_table(schema.fields, found))


def _against(
    schema: Schema, path: Path, events: Sample, found: Reach, reached: bool
) -> Iterator[Finding]:
    """Yield notes on paths that never match and on numbers that collapse, and with ``reached`` on
    the share of the events that each field is in. They name nothing but what the schema lists."""
    source, number = read(path), found.events
    near = unmatched(each for each in events.explained(schema) if each.paths)

    def note(loc: Loc, code: str, message: str) -> Finding:
        return Finding("note", source.fault(loc, code, message))

    for index, way in enumerate(map(written_source, schema.records or ())):
        if way in near:
            message = f"`records` selected none of {found.tally.received:,} events; {near[way]}"
            yield note(("records", index), NEVER_MATCHED, message)
    for name, field in schema.fields.items():
        listed = list(map(path_of, field.sources or ()))
        for each in field.paths(name):
            if each in near:
                loc = ("from", listed.index(each)) if each in listed else ()
                where = f"; {near[each]}" if near[each] else ""
                message = f"`{each}` never matched in {number:,} events{where}"
                yield note(("fields", name, *loc), NEVER_MATCHED, message)
        if reached:
            message = f"is in {share(found.share(name))} of {number:,} events"
            yield note(("fields", name), REACHED, message)
    for name, part, value in found.collapses:
        message = f"{share(part)} of `{name}` become {value}; use a smaller `step`"
        yield note(("fields", name, "step"), COLLAPSED, message)


_STYLES: dict[Severity, str] = {"error": "red", "warning": "yellow", "note": "dim"}


def _exit_code(faults: list[Fault], findings: list[Finding], strict: bool) -> int:
    failing: set[Severity] = {"error", "warning"} if strict else {"error"}
    if faults:
        return 78
    return int(any(finding.severity in failing for finding in findings))


def test_schemas(schemas: Schemas = None, as_json: AsJson = False) -> None:
    """Run the tests in schemas, and the samples beside them. Exit 1 if one fails.

    Samples are in `NAME.samples/`: an event in `*.pass.json` must be admitted with nothing dropped,
    one in `*.fail.json` must be rejected or lose a field.
    """
    outcomes: list[CaseResult] = []
    faults: list[Fault] = []
    for reference in schema_files(schemas):
        schema, found = parse(reference)
        faults += found
        path = resources.schema(reference)
        if schema is not None and path is not None:
            outcomes += [*run_tests(schema), *run_samples(schema, resources.samples(path))]
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if as_json:
        print_json(
            {
                "passed": len(outcomes) - len(failed),
                "failed": [outcome._asdict() for outcome in failed],
                "faults": [fault._asdict() for fault in faults],
            }
        )
    else:
        print_faults(faults)
        _print_outcomes(outcomes)
    raise typer.Exit(1 if failed or faults else 0)


def _print_outcomes(outcomes: list[CaseResult]) -> None:
    for outcome in outcomes:
        if not outcome.passed:
            err.print(f"{outcome.schema}: {outcome.name}: failed", markup=False, style="red")
            for fault in outcome.faults:
                err.print(f"  {fault}", markup=False)
    passed = sum(outcome.passed for outcome in outcomes)
    out.print(f"{passed} passed, {len(outcomes) - passed} failed")
