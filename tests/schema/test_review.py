"""The approved copy: what it approves, how it is read and written, and what it never approves.

``COLLECTOR_REVIEWS`` is how many random schemas are tried (`make reviews` tries 5,000).
"""

from __future__ import annotations

import os
from copy import deepcopy
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from collector.claims.document import CHECKS, SERVING_CHECKS, load_claims
from collector.claims.verification import Found, review_findings, scope_findings, verdict
from collector.errors import SchemaError
from collector.schema import Schema, load_schema
from collector.schema.diff import compare
from collector.schema.kinds import KINDS
from collector.schema.load import parse_source
from collector.schema.names.scope import scope
from collector.schema.review import ApprovedCopy, approve, read_copy, review
from collector.schema.source import Source
from collector.testing import events
from collector.testing.documents import PURPOSES, documents
from tests.schema.make import HEAD
from tests.schema.test_diff_laws import (
    DATES,
    MUTATIONS,
    NOW,
    Document,
    _holds,
    _some_field,
    granted,
)

TODAY = date(2026, 11, 30)
STATED = {"by": "A. Example", "date": "2026-11-29", "see": "https://git.example/pull/812"}
ANSWERS = {"Why is it needed?": "Calls break off", "What is the least that would do?": ""}
_TRIED = int(os.environ.get("COLLECTOR_REVIEWS", "150"))
_CLAIMS = {name: load_claims()[name] for name in ("needed-only", "no-content", "no-monitoring")}
SAID = "also_collected: {quality: We also measure how well calls run.}\n"
_REST = "also: quality, category: user.telemetry, purposes: [ops], reason: Which networks fail"
_JITTER = "kind: integer, minimum: 0, maximum: 1000, step: 10, unit: ms, from: [jitter]"


def schema_of(folder: Path, *fields: str, more: str = SAID) -> Schema:
    """Write and load a schema of these fields."""
    path = folder / "calls.yaml"
    listed = "".join(f"  {field}\n" for field in fields)
    path.write_text(HEAD.replace("sample", "calls") + more + "fields:\n" + listed)
    return load_schema(path)


def jitter(options: str = _JITTER, retention: str = "30d", rest: str = _REST) -> str:
    """A field outside the closed list."""
    return f"network.jitter: {{{options}, {rest}, retention: {retention}}}"


def approved(schema: Schema, folder: Path, **stated: str) -> ApprovedCopy:
    """Approve every field outside the closed list, as the command does."""
    path = folder / f"{schema.name}.reviewed.yaml"
    for name in scope(schema).outside:
        path.write_text(approve(read_copy(path), schema, name, STATED | stated, ANSWERS))
    return read_copy(path)


def verdicts(schema: Schema, copy: ApprovedCopy, today: date = TODAY) -> dict[str, str]:
    """Return the verdicts on the three claims, as far as fields decide on them."""
    nothing: Found = dict.fromkeys((*CHECKS, *SERVING_CHECKS), ())
    found = {
        **nothing,
        "scope": tuple(scope_findings(schema)),
        "review": tuple(review_findings(review(schema, copy, today))),
    }
    return {name: verdict(claim, found) for name, claim in _CLAIMS.items()}


# -- what is approved ------------------------------------------------------------------------------


def other_use(draw: st.DrawFn, document: Document) -> None:
    """Another use of a purpose, or another sentence."""
    purpose = document["purposes"][draw(st.sampled_from(PURPOSES))]
    uses = ("essential.service.operations", "essential.service.security")
    purpose["use"] = draw(st.sampled_from(uses))
    document["also_collected"]["more"] = draw(st.sampled_from(["We count.", "We  count.", "More."]))


def other_kind(draw: st.DrawFn, document: Document) -> None:
    """Options of any kind, drawn anew."""
    field = _some_field(draw, document)
    kind = draw(st.sampled_from(sorted(KINDS)))
    common = ("from", "category", "purposes", "retention", "reason", "also")
    kept = {key: field[key] for key in common if key in field}
    drawn = KINDS[kind].draw_options(Random(draw(st.integers(0, 1 << 30))))
    field.clear()
    field.update({"kind": kind, **drawn, **kept})


def _loaded(document: Document) -> Schema:
    schema, faults = parse_source(Source("generated.yaml", value=document))
    if schema is None:
        raise SchemaError(faults)
    return schema


@st.composite
def reviewed(draw: st.DrawFn) -> tuple[Schema, Schema]:
    """A schema that is approved, and what became of it."""
    document = draw(documents())
    document["also_collected"] = {"more": "We count."}
    for field in document["fields"].values():
        if draw(st.sampled_from([True, True, True, False])):
            field["also"] = "more"
    changed = deepcopy(document)
    every = (*MUTATIONS, other_use, other_kind, other_kind)
    for mutation in draw(st.lists(st.sampled_from(every), max_size=3)):
        mutation(draw, changed)
    try:
        return _loaded(document), _loaded(changed)
    except SchemaError:
        assume(False)
        raise


def _alone(schema: Schema, names: set[str]) -> Schema:
    """The fields outside, without what an approval is not about."""
    fields = {name: field for name, field in schema.fields.items() if name in names}
    bare: dict[str, Any] = {"fields": fields, "consent": None, "tests": [], "content": {}}
    return Schema.model_construct(
        **{key: getattr(schema, key) for key in Schema.model_fields} | bare
    )


@given(st.data(), reviewed())
@settings(max_examples=_TRIED)
@pytest.mark.timeout(3600)
def test_only_what_is_approved_or_narrower_is_amended(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, pair: tuple[Schema, Schema]
) -> None:
    """With a field outside no claim says that it holds; where it is amended, no event gives a value
    of these fields that the approved schema does not give; what only narrows keeps its approval."""
    folder = tmp_path_factory.mktemp("copies")
    old, new = pair
    copy = approved(old, folder)
    assert not copy.faults
    assert set(verdicts(old, copy).values()) <= {"amended", "broken", "holds"}
    found, outside = verdicts(new, copy), set(scope(new).outside)
    event(f"{sorted(set(found.values()))}")
    if not outside:
        assert set(found.values()) == {"holds"}
        return
    assert "holds" not in found.values()
    missing = read_copy(folder / "none.reviewed.yaml")
    assert "amended" not in verdicts(new, missing).values()
    assert (found["needed-only"] == "broken") == bool(scope(new).without_sentence)
    assert found["no-content"] == found["no-monitoring"] != "broken"
    assert set(verdicts(new, approved(old, folder, until="2026-11-29")).values()) & {
        "unproven",
        "broken",
    } == set(verdicts(new, missing).values())
    compared = compare(_alone(old, set(scope(old).outside)), _alone(new, outside))
    if found["no-content"] == "amended":
        assert outside <= set(scope(old).outside)
        both = compare(_alone(old, outside), _alone(new, outside))
        each = st.one_of(*(events(schema, plain=True, now=NOW) for schema in (both.old, both.new)))
        some = data.draw(st.lists(each, min_size=1, max_size=6))
        _holds(both, data.draw(granted), data.draw(DATES), some)
    elif outside <= set(scope(old).outside):
        assert compared.widening


@pytest.mark.parametrize("kind", KINDS)
def test_an_approval_says_all_that_its_kind_may(kind: str, tmp_path: Path) -> None:
    """What is written is read again as the same field, whatever its options."""
    random = Random(7)
    seen = set()
    for number in range(30):
        options = KINDS[kind].draw_options(random)
        value: Document = {
            "schema": "calls",
            "version": "1.0.0",
            "title": "Calls",
            "owner": "tests",
            "also_collected": {"more": "We count: \"calls\" & 'more' # here."},
            "records": [{"path": "a.b", "when": {"kind": ["x", 1, True]}}, "."],
            "purposes": {
                "ops": {
                    "use": "essential.service.operations",
                    "basis": "consent",
                    "optional": True,
                    "reason": "Run the service",
                }
            },
            "fields": {
                "os.load": {
                    "kind": kind,
                    **options,
                    "from": [{"path": "c", "when": {"d": "e"}}, '"x.y"[2]'],
                    "also": "more",
                    "expires": "2030-01-01",
                    "required": number % 2 == 0,
                    "category": "system",
                    "purposes": ["ops"],
                    "retention": "36h",
                    "reason": "Because of it",
                }
            },
        }
        schema = _loaded(value)
        copy = approved(schema, tmp_path)
        assert not copy.faults
        found = review(schema, copy, TODAY)
        assert found.verdict == "amended", found.fields
        approval, field = copy.entries["os.load"]
        assert (approval.by, approval.optional) == ("A. Example", True)
        assert (
            field.document() | {"reason": 0}
            == schema.fields["os.load"].document()
            | {
                "reason": 0,
                "also": None,
            }
            or field.also is None
        )
        seen.add(copy.digest)
    assert seen
