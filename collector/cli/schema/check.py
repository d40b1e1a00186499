"""``collector schema check|test``: is it well formed, and does it do what its author says."""

from __future__ import annotations

import typer

from collector.cli.console import AsJson, err, out, print_json
from collector.cli.schema.options import DEFAULT, Schemas
from collector.errors import Fault, SchemaError
from collector.filter.trial import Outcome, run_samples, run_tests
from collector.schema import shelf
from collector.schema.capacity import record_bits
from collector.schema.load import parse

__all__ = ["check", "test_schemas"]


def check(schemas: Schemas = None, as_json: AsJson = False) -> None:
    """Check schema files and report every fault of all of them in one pass. Exit 78 on a fault.

    Each fault is `file:line:column: field: message [code]`; docs/errors.md explains the codes.
    """
    faults: list[Fault] = []
    for reference in schemas or DEFAULT:
        schema, found = parse(reference)
        faults += found
        if schema is not None and not as_json:
            out.print(f"{reference}: ok, {schema.id}, {record_bits(schema):.0f} bits at most")
    if as_json:
        print_json([fault._asdict() for fault in faults])
        raise typer.Exit(78 if faults else 0)
    if faults:
        raise SchemaError(faults)


def test_schemas(schemas: Schemas = None, as_json: AsJson = False) -> None:
    """Run the tests inside schemas and the samples beside them. Exit 1 if one fails.

    Samples lie in `NAME.samples/`: `*.pass.json` must be admitted with nothing dropped,
    `*.fail.json` must be rejected or lose a field.
    """
    outcomes: list[Outcome] = []
    faults: list[Fault] = []
    for reference in schemas or DEFAULT:
        schema, found = parse(reference)
        faults += found
        path = shelf.schema(reference)
        if schema is not None and path is not None:
            outcomes += [*run_tests(schema), *run_samples(schema, shelf.samples(path))]
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


def _print_outcomes(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        if not outcome.passed:
            err.print(f"{outcome.schema}: {outcome.name}: failed", markup=False, style="red")
            for fault in outcome.faults:
                err.print(f"  {fault}", markup=False)
    passed = sum(outcome.passed for outcome in outcomes)
    out.print(f"{passed} passed, {len(outcomes) - passed} failed")
