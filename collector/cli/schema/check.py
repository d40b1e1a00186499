"""``collector schema check|test``: is it well formed, and does it do what its author says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from collector.cli.console import err, out, print_json
from collector.cli.options import AsJson, Schemas, schema_files
from collector.cli.sample import sampled
from collector.documents import read
from collector.errors import Fault
from collector.filter.explain import unmatched
from collector.filter.schema_test import CaseResult, run_samples, run_tests
from collector.schema import Schema, resources
from collector.schema.lints import Finding, Severity, lint
from collector.schema.load import parse
from collector.schema.model import record_bits
from collector.schema.scalars import path_of, written_source

NEVER_MATCHED = "never-matched"


def check(
    schemas: Schemas = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 for warnings, not only for errors.")
    ] = False,
    sample: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="SAMPLE",
            help="A file of events: report listed paths that match in none of them.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check schema files: every fault of all of them, and what looks like a mistake, in one pass.

    A fault is `file:line:column: field: message [code]` (docs/errors.md); a schema that has one
    does not load, exit 78. A likely mistake in a schema that loads is
    `file:line:column: severity: field: message [lint]` (docs/lint.md); an error is exit 1.
    """
    faults: list[Fault] = []
    findings: list[Finding] = []
    for reference in schema_files(schemas):
        schema, found = parse(reference)
        faults += found
        path = resources.schema(reference)
        if schema is not None and path is not None:
            findings += lint(schema, path)
            if sample is not None:
                findings += _unmatched(schema, path, sample)
            if not as_json:
                bits = record_bits(schema)
                out.print(f"{reference}: ok, {schema.id}, {bits:.0f} bits at most", markup=False)
    if as_json:
        listed = [fault._asdict() | {"severity": "error"} for fault in faults]
        print_json(listed + [finding.as_dict() for finding in findings])
    else:
        for fault in faults:
            err.print(str(fault), markup=False)
        for finding in findings:
            err.print(str(finding), markup=False, style=_STYLES[finding.severity])
    raise typer.Exit(_exit_code(faults, findings, strict))


def _unmatched(schema: Schema, path: Path, sample: Path) -> Iterator[Finding]:
    """Yield a note for each listed path that leads to no value in a sample; of the events it names
    nothing but what the schema lists."""
    explanations = sampled(schema, sample)
    source, number = read(path), len(explanations)
    near = unmatched(explanations)
    for index, way in enumerate(map(written_source, schema.records or ())):
        if way in near:
            message = f"`records` selected none in {number:,} events; {near[way]}"
            yield Finding("note", source.fault(("records", index), NEVER_MATCHED, message))
    for name, field in schema.fields.items():
        listed = list(map(path_of, field.sources or ()))
        for each in field.paths(name):
            if each in near:
                loc = ("from", listed.index(each)) if each in listed else ()
                where = f"; {near[each]}" if near[each] else ""
                message = f"`{each}` never matched in {number:,} events{where}"
                yield Finding("note", source.fault(("fields", name, *loc), NEVER_MATCHED, message))


_STYLES: dict[Severity, str] = {"error": "red", "warning": "yellow", "note": "dim"}


def _exit_code(faults: list[Fault], findings: list[Finding], strict: bool) -> int:
    failing: set[Severity] = {"error", "warning"} if strict else {"error"}
    if faults:
        return 78
    return int(any(finding.severity in failing for finding in findings))


def test_schemas(schemas: Schemas = None, as_json: AsJson = False) -> None:
    """Run the tests inside schemas and the samples beside them. Exit 1 if one fails.

    Samples lie in `NAME.samples/`: `*.pass.json` must be admitted with nothing dropped,
    `*.fail.json` must be rejected or lose a field.
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
        for fault in faults:
            err.print(str(fault), markup=False)
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
