"""``collector schema review``: a person decides on each field that the public sentence about
address, device and operating system does not cover.

The command asks on a terminal, field by field, and writes each decision to the approved copy. No
option approves: an approval that nobody has given would be worth nothing.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from random import Random
from typing import Annotated, Any, NamedTuple

import typer

from collector.cli.console import err, out, print_json, printable
from collector.cli.options import AsJson, ConfigFile, complete_schema, replace_file, schema_files
from collector.config import Config, load
from collector.documents import is_visible
from collector.errors import CollectorError, SchemaError
from collector.routing import Flows, flows
from collector.schema import Schema, load_schemas
from collector.schema.kinds import Circumstances, FieldBase
from collector.schema.kinds.base import utc_now
from collector.schema.model import field_bits
from collector.schema.names.scope import suggested
from collector.schema.review import (
    ApprovedCopy,
    FieldReview,
    Review,
    approve,
    approved_entry,
    is_form,
    read_copy,
)
from collector.schema.review import review as compared
from collector.testing._drawn import draw_value

QUESTIONS = (
    "Why is it needed?",
    "What is the least that would do?",
    "Can the person refuse?",
    "What could go wrong?",
)
_EXAMPLES = 6
_DRAWN = 200
_MOST_ANSWER = 500
_Stated = dict[str, str]


class _Subject(NamedTuple):
    """A schema to review, with where its approved copy lies and how one names it."""

    reference: str
    schema: Schema
    found: Review


def review(
    schemas: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SCHEMA",
            help="Names of shipped schemas, or paths of schema files. Default: the schemas of the"
            " configuration.",
            autocompletion=complete_schema,
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Ask nothing: list every field that is not approved, and exit 1 if there is one.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Review the fields that the public sentences do not cover, and approve them one by one.

    For each field that is new, or wider than approved, the command shows what its values look like,
    how many bits they have, who receives them and what the name suggests. It asks four questions,
    and writes the approval to `SCHEMA.reviewed.yaml` beside the schema; for a shipped schema,
    beside the configuration file. A field that became narrower stays approved.

    It needs a person at a terminal. For CI, use `--check`. docs/schema-review.md is the guide for
    reviewers.
    """
    settings = load(config)
    references = schema_files(schemas) if schemas else list(settings.references)
    subjects = [
        _Subject(name, schema, compared(schema, read_copy(settings.approved_copy(name))))
        for name, schema in zip(references, load_schemas(references), strict=True)
    ]
    if check:
        _check(subjects, as_json=as_json)
    elif as_json:
        raise typer.BadParameter("--json needs --check", param_hint="--json")
    elif not (sys.stdin.isatty() and sys.stdout.isatty()):
        message = "a review needs a person at a terminal; use --check to list what is not approved"
        raise typer.BadParameter(message, param_hint="SCHEMA")
    if check:
        left = [each.reference for each in subjects if each.found.unapproved]
    else:
        left = [each.reference for each in subjects if not _reviewed(each, settings)]
    raise typer.Exit(1 if left else 0)


# -- --check ---------------------------------------------------------------------------------------


def _check(subjects: Sequence[_Subject], *, as_json: bool) -> None:
    if as_json:
        print_json([_as_dict(each) for each in subjects])
        return
    for subject in subjects:
        found = subject.found
        for fault in found.copy.faults:
            err.print(str(fault), markup=False, style="red")
        for each in found.unapproved:
            message = f"{subject.reference}: {each.name}: {each.why}"
            err.print(message, markup=False, style="red")
        if not found.unapproved:
            words = ", ".join(map(str, found.additions)) or "no field needs a review"
            out.print(f"{subject.reference}: {words}", markup=False)


def _as_dict(subject: _Subject) -> dict[str, Any]:
    found = subject.found
    return {
        "schema": subject.schema.id,
        "file": str(found.copy.path),
        "digest": found.copy.digest,
        "approved": not found.unapproved,
        "fields": [
            {
                "field": each.name,
                "approved": each.is_approved,
                "why": each.why or None,
                "sentence": each.sentence,
                "attributed_to": None if each.approval is None else each.approval.by,
                "date": None if each.approval is None else each.approval.date.isoformat(),
                "see": None if each.approval is None else each.approval.see,
            }
            for each in found.fields
        ],
        "faults": [fault._asdict() for fault in found.copy.faults],
    }


# -- the dialogue ----------------------------------------------------------------------------------


def _reviewed(subject: _Subject, settings: Config) -> bool:
    """Ask about each field that is not approved; return whether all are in the end. Raises
    ``SchemaError`` for a faulty copy."""
    found, schema = subject.found, subject.schema
    if found.copy.faults:
        raise SchemaError(found.copy.faults)
    if found.copy.schema not in (None, schema.name):
        message = f"{found.copy.path} belongs to another schema; move it away first"
        raise typer.BadParameter(message, param_hint="SCHEMA")
    waiting = sorted(found.unapproved, key=lambda each: (not _is_first(each), bool(each.changes)))
    fields = "1 field" if len(waiting) == 1 else f"{len(waiting)} fields"
    out.print(f"{schema.id}: {fields} to review", markup=False, style="bold")
    matrix, stated = _matrix(settings, schema), _Stated()
    for number, each in enumerate(waiting, 1):
        out.print(f"\n{number} of {len(waiting)}: {each.name}", markup=False, style="bold")
        if each.sentence is None:
            message = (
                "the field names no sentence for the public; write one under `also_collected` first"
            )
            out.print(f"  {message}", markup=False, style="yellow")
            continue
        _show(schema, each, matrix)
        _decide(schema, each, found.copy, stated)
    left = compared(schema, read_copy(found.copy.path)).unapproved
    words = ", ".join(each.name for each in left)
    out.print(f"\nnot approved: {words}" if words else "\nall fields are approved", markup=False)
    if left:
        out.print(
            f"  to continue: collector schema review {shlex.quote(subject.reference)}", markup=False
        )
    return not left


def _is_first(each: FieldReview) -> bool:
    """Return whether a field is new, or wider than approved, and not only out of date."""
    return each.approval is None or bool(each.changes)


def _show(schema: Schema, each: FieldReview, matrix: Flows | None) -> None:
    field = schema.fields[each.name]
    for label, texts in (
        ("why here", [each.why]),
        ("was", [f"{c.at}: {c.old} → {c.new}" for c in each.changes if c.option]),
        ("is", list(_definition(schema, each.name))),
        ("sentence", [each.sentence or ""]),
        ("looks like", [", ".join(_examples(field))]),
        ("bits", [f"{field_bits(field):.1f} in each record"]),
        ("goes to", list(_recipients(matrix, each.name))),
        ("suggests", _suggestions(schema, each.name)),
        ("its reason", [field.reason]),
    ):
        for text in texts:
            out.print(f"  {label:10}  {printable(text)}", markup=False)
            label = ""  # noqa: PLW2901 - once for all lines


def _suggestions(schema: Schema, name: str) -> list[str]:
    """Write what the words of a field may be about. Nothing is decided by it."""
    found = suggested(schema, name)
    return [f"`{each.word}`: {each.category}" for each in found] or ["nothing known"]


def _definition(schema: Schema, name: str) -> Iterator[str]:
    """Yield the options that would be approved. Entries of catalogues are left out: there may be
    thousands."""
    for key, value in approved_entry(schema, name, {}).items():
        if key == "entries":
            yield f"entries: {len(value.splitlines())} of the catalogue"
        elif key != "sentence":
            yield f"{key}: {value}"


def _examples(field: FieldBase) -> list[str]:
    """Return some random canonical values. Pseudonyms are made with a key for the example."""
    random, now = Random(field.kind), utc_now()  # noqa: S311 - examples

    def key(reference: str, period: int) -> bytes:
        return hashlib.sha256(f"{reference} {period}".encode()).digest()

    canonical = field.canonical(Circumstances(lambda: now, key))
    drawn = (draw_value(field, random, now) for _ in range(_DRAWN))
    found = (canonical(value) for value in drawn if type(value) in field.reads())
    values = dict.fromkeys(str(value) for value in found if value is not None)
    return list(values)[:_EXAMPLES]


def _matrix(settings: Config, schema: Schema) -> Flows | None:
    """Return the flows of a schema by the configuration, if they fit together."""
    with suppress(CollectorError):
        return flows(settings, schema)
    return None


def _recipients(matrix: Flows | None, name: str) -> Iterator[str]:
    """Yield each sink that receives a field."""
    if matrix is None:
        yield "unknown: the configuration does not fit this schema"
        return
    reached = {sink: matrix.to(sink).get(name) for sink in matrix.sinks}
    for sink, purposes in reached.items():
        if purposes:
            chosen = matrix.sinks[sink]
            who = [chosen.party, chosen.recipient, chosen.country]
            words = ", ".join(part for part in who if part)
            yield f"{sink} ({words}) for {', '.join(purposes)}"
    if not any(reached.values()):
        yield "no sink"


def _decide(schema: Schema, each: FieldReview, copy: ApprovedCopy, stated: _Stated) -> None:
    """Ask the four questions and for a decision, and write the approval, if it is one."""
    answers = {question: _asked(question) for question in QUESTIONS}
    if (
        _asked(f"Approve {each.name} as it is? Type yes to approve, anything else to skip it")
        != "yes"
    ):
        out.print("  skipped: not approved", markup=False)
        return
    stated["by"] = _form("by", "Who approves it? A name and a role", stated.get("by"))
    stated["see"] = _form("see", "A link to the discussion", stated.get("see"))
    until = _form("until", "Until which day (YYYY-MM-DD)? Leave it empty for no end", "")
    facts = {"by": stated["by"], "date": utc_now().date().isoformat(), "see": stated["see"]}
    facts |= {"until": until} if until else {}
    text = approve(read_copy(copy.path), schema, each.name, facts, answers)
    replace_file(copy.path, text.encode())
    out.print(f"  written to {printable(str(copy.path))}", markup=False, style="green")


def _asked(question: str) -> str:
    """Ask until there is an answer of one line. Raises ``typer.Abort`` at the end of the input."""
    while True:
        text: str = typer.prompt(f"  {question}", prompt_suffix=" ")
        if text.strip() and is_visible(text) and len(text) <= _MOST_ANSWER:
            return text.strip()
        out.print(
            f"  answer on one line of at most {_MOST_ANSWER} visible characters", markup=False
        )


def _form(key: str, question: str, default: str | None) -> str:
    """Ask until the answer has the form that the approved copy needs."""
    while True:
        shown = bool(default)
        text: str = typer.prompt(f"  {question}", default=default, show_default=shown)
        if not text.strip() and default == "":
            return ""
        if is_form(key, text.strip()) and not (key == "until" and _is_past(text.strip())):
            return text.strip()
        out.print("  this does not have the right form; try again", markup=False)


def _is_past(day: str) -> bool:
    return date.fromisoformat(day) < utc_now().date()
