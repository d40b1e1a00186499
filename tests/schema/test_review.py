"""The approved copy: what it approves, how it is read and written, and what it never approves.

``COLLECTOR_REVIEWS`` is how many random schemas are tried (`make nightly` tries 5,000).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from copy import deepcopy
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from collector.claims.document import CHECKS, SERVING_CHECKS, load_claims
from collector.claims.findings import Found, verdict
from collector.claims.verification import review_findings, scope_findings
from collector.documents import Document as Parsed
from collector.documents import is_visible
from collector.errors import SchemaError
from collector.schema import Schema, load_schema
from collector.schema.diff import compare
from collector.schema.kinds import KINDS
from collector.schema.load import parse_source
from collector.schema.names.scope import scope
from collector.schema.review import (
    ApprovedCopy,
    approve,
    approved_entry,
    read_copy,
    review,
    written_copy,
)
from collector.schema.scalars import ConditionalPath, ConditionalRecords
from tests.schema.test_diff_laws import (
    DATES,
    MUTATIONS,
    NOW,
    Document,
    _holds,
    _some_field,
    granted,
)
from tests.strategies import draw_options, events
from tests.strategies.documents import PURPOSES, documents
from tests.support.make_schemas import HEAD
from tests.support.rows import for_each

TODAY = date(2026, 11, 30)
STATED = {"by": "A. Example", "date": "2026-11-29", "see": "https://git.example/pull/812"}
ANSWERS = {"Why is it needed?": "Calls break off", "What is the least that would do?": ""}
_TRIED = int(os.environ.get("COLLECTOR_REVIEWS", "10"))
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


def written(schema: Schema, folder: Path) -> ApprovedCopy:
    """Do the same in one step, which takes a fraction of the time."""
    path = folder / f"{schema.name}.reviewed.yaml"
    entries = {n: approved_entry(schema, n, STATED) for n in sorted(scope(schema).outside)}
    path.write_text(written_copy(schema.name, entries) if entries else "fields: {}")
    return read_copy(path)


def is_approved(schema: Schema, copy: ApprovedCopy) -> bool:
    (found,) = review(schema, copy, TODAY).fields
    return found.is_approved


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
    drawn = draw_options(kind, Random(draw(st.integers(0, 1 << 30))))
    field.clear()
    field.update({"kind": kind, **drawn, **kept})


def _loaded(document: Document) -> Schema:
    schema, faults = parse_source(Parsed("generated.yaml", value=document))
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


def _told(schema: Schema, names: set[str]) -> set[object]:
    """What conditions look at, for each of these fields."""
    places: list[tuple[str, str | ConditionalPath | ConditionalRecords]] = [
        ("", each) for each in schema.records or ()
    ]
    for name in names & {*schema.fields}:
        places += [(name, each) for each in schema.fields[name].places(name)]
    conditional = [(name, each) for name, each in places if not isinstance(each, str)]
    return {(name, each.path, member) for name, each in conditional for member, _ in each.when}


def _alone(schema: Schema, names: set[str]) -> Schema:
    """The fields outside, without what an approval is not about."""
    fields = {name: field for name, field in schema.fields.items() if name in names}
    bare: dict[str, Any] = {"fields": fields, "consent": None, "tests": [], "content": {}}
    return Schema.model_construct(
        **{key: getattr(schema, key) for key in Schema.model_fields} | bare
    )


@given(st.data(), reviewed())
@settings(max_examples=_TRIED)
def test_only_what_is_approved_or_narrower_is_amended(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, pair: tuple[Schema, Schema]
) -> None:
    """Under an amended claim, no event gives a value of these fields that the approved schema does
    not give."""
    folder = tmp_path_factory.mktemp("copies")
    old, new = pair
    copy = written(old, folder)
    assert not copy.faults
    assert set(verdicts(old, copy).values()) <= {"amended", "broken", "holds"}
    found, outside = verdicts(new, copy), set(scope(new).outside)
    event(f"{sorted(set(found.values()))}")
    if not outside:
        assert set(found.values()) == {"holds"}
        return
    assert "holds" not in found.values()
    assert not (_told(new, outside) - _told(old, outside) and "amended" in found.values())
    missing = read_copy(folder / "none.reviewed.yaml")
    assert "amended" not in verdicts(new, missing).values()
    assert (found["needed-only"] == "broken") == bool(scope(new).without_sentence)
    assert found["no-content"] == found["no-monitoring"] != "broken"
    ended = folder / "ended.reviewed.yaml"
    text = copy.path.read_text()
    ended.write_text(text.replace("    by: ", '    until: "2026-11-29"\n    by: '))
    assert verdicts(new, read_copy(ended)) == verdicts(new, missing)
    compared = compare(_alone(old, set(scope(old).outside)), _alone(new, outside))
    if found["no-content"] == "amended":
        assert outside <= set(scope(old).outside)
        both = compare(_alone(old, outside), _alone(new, outside))
        each = st.one_of(*(events(schema, plain=True, now=NOW) for schema in (both.old, both.new)))
        some = data.draw(st.lists(each, min_size=1, max_size=6))
        _holds(both, data.draw(granted), data.draw(DATES), some)
    elif outside <= set(scope(old).outside):
        tells = _told(new, outside) - _told(old, outside)
        assert compared.widening or tells or old.consent != new.consent


@for_each("kind", KINDS)
def test_an_approval_says_all_that_its_kind_may(kind: str, tmp_path: Path) -> None:
    """The written approval is read again as the same field, whatever its options."""
    random = Random(7)
    for number in range(2 + _TRIED // 100):
        options = draw_options(kind, random)
        value: Document = {
            **YAML(typ="safe").load(HEAD.replace("sample", "calls")),
            "also_collected": {"more": "We count: \"calls\" & 'more' # here."},
            "records": [{"path": "a.b", "when": {"kind": ["x", 1, True]}}, "."],
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
        value["purposes"]["ops"] |= {"basis": "consent", "optional": True}
        schema = _loaded(value)
        copy = approved(schema, tmp_path)
        assert not copy.faults
        found = review(schema, copy, TODAY)
        assert found.fields
        assert not found.unapproved
        approval, _ = copy.entries["os.load"]
        assert (approval.by, approval.optional) == ("A. Example", True)
        narrower = {"expires": date(2029, 1, 1), "required": True, "reason": "No."}
        assert is_approved(_with(schema, retention=timedelta(hours=1), **narrower), copy)
        for wider in _wider(schema):
            assert not is_approved(wider, copy), wider


def _with(schema: Schema, **options: Any) -> Schema:
    field = schema.fields["os.load"].model_copy(update=options)
    return schema.model_copy(update={"fields": {"os.load": field}})


def _wider(schema: Schema) -> Iterator[Schema]:
    """One step wider in each option that all kinds share, and in what stands around the field."""
    yield _with(schema, retention=timedelta(hours=37))
    yield _with(schema, expires=None)
    yield _with(schema, category="user.telemetry")
    yield _with(schema, sources=("d",))
    yield _with(schema, sources=(*(schema.fields["os.load"].sources or ()), "d"))
    yield _with(schema, source="peer")
    yield _with(schema, derive="user_agent")
    if schema.fields["os.load"].required:
        yield _with(schema, required=False)
    yield schema.model_copy(update={"records": ("chat",)})
    yield schema.model_copy(update={"records": None})
    yield schema.model_copy(update={"also_collected": {"more": "We count nothing."}})
    for change in ({"optional": False}, {"use": "essential.service.security"}):
        purpose = schema.purposes["ops"].model_copy(update=change)
        yield schema.model_copy(update={"purposes": {"ops": purpose}})
    second = {**schema.purposes, "more": schema.purposes["ops"]}
    wider = _with(schema, purposes=("ops", "more"))
    yield wider.model_copy(update={"purposes": second})


def test_an_approval_ends(tmp_path: Path) -> None:
    """It counts on its last day, and no longer."""
    schema = schema_of(tmp_path, jitter())
    copy = approved(schema, tmp_path, until="2026-11-30")
    assert set(verdicts(schema, copy, TODAY).values()) == {"amended"}
    assert set(verdicts(schema, copy, TODAY + timedelta(1)).values()) == {"unproven"}
    (field,) = review(schema, copy, TODAY + timedelta(1)).fields
    assert "2026-11-30" in field.why


def test_a_derived_field_is_approved_with_its_user_agent(tmp_path: Path) -> None:
    field = f"os.type: {{kind: enum, values: [linux], derive: user_agent, {_REST}, retention: 1d}}"
    copy = approved(schema_of(tmp_path, field, more=SAID + "user_agent: [ua]\n"), tmp_path)
    for place, stays in (("ua", True), ("other.ua", False)):
        schema = schema_of(tmp_path, field, more=f"{SAID}user_agent: [{place}]\n")
        assert is_approved(schema, copy) is stays


@for_each(
    ("approved_as", "is_now", "stays"),
    [
        ("jitter", "{path: jitter, when: {illness: [flu]}}", False),
        ("{path: jitter, when: {a: [x, y]}}", "{path: jitter, when: {a: [x]}}", True),
        ("{path: jitter, when: {a: [x]}}", "{path: jitter, when: {a: [x], b: [y]}}", False),
    ],
)
def test_a_condition_tells_what_it_looks_at(
    approved_as: str, is_now: str, stays: bool, tmp_path: Path
) -> None:
    before = jitter(_JITTER.replace("[jitter]", f"[{approved_as}]"))
    copy = approved(schema_of(tmp_path, before), tmp_path)
    now = schema_of(tmp_path, jitter(_JITTER.replace("[jitter]", f"[{is_now}]")))
    assert is_approved(now, copy) is stays


def test_a_condition_of_records_tells_what_it_looks_at(tmp_path: Path) -> None:
    copy = approved(schema_of(tmp_path, jitter()), tmp_path)
    more = SAID + "records: {path: ., when: {illness: flu}}\n"
    (field,) = review(schema_of(tmp_path, jitter(), more=more), copy, TODAY).fields
    assert field.why == "wider than approved: records: only selected records"


def test_choices_of_events_are_part_of_what_may_be_refused(tmp_path: Path) -> None:
    folder, path = tmp_path, tmp_path / "calls.yaml"

    def schema(consent: str) -> Schema:
        refusable = text.replace("basis: contract", "basis: contract, optional: true")
        path.write_text(refusable + consent)
        return load_schema(path)

    schema_of(folder, jitter())
    text = path.read_text()
    copy = approved(schema("consent: choices\n"), folder)
    for consent, stays in (("consent: choices\n", True), ("consent: other\n", False), ("", False)):
        assert is_approved(schema(consent), copy) is stays, consent
    path.with_name("calls.reviewed.yaml").unlink()
    copy = approved(schema(""), folder)
    assert is_approved(schema("consent: choices\n"), copy)


def test_catalogues_are_approved_entry_by_entry(tmp_path: Path) -> None:
    """A catalogue keeps its name while its entries change."""
    catalogue = tmp_path / "codecs.txt"
    field = f"audio.codec: {{kind: token, catalogue: codecs, {_REST}, retention: 1d}}"
    catalogue.write_text("# source: tests\nopus\n#1 codec\nvp8 lite\n")
    copy = approved(schema_of(tmp_path, field), tmp_path)
    for entries, stays in (("opus\n", True), ("opus\nsmoking\n", False)):
        catalogue.write_text("# source: tests\n" + entries)
        assert is_approved(schema_of(tmp_path, field), copy) is stays


# -- what is never approved ------------------------------------------------------------------------

_ENTRY = (
    "{kind: integer, minimum: 0, maximum: 1000, step: 10, unit: ms, from: [jitter],"
    " category: user.telemetry, purposes: [ops], retention: 30d,"
    ' by: "A. Example, data protection", date: 2026-11-30, see: "https://git.example/pull/812"}'
)
_WHOLE = f"fields:\n  network.jitter: {_ENTRY}\n"


def _edited(old: str, new: str) -> str:
    assert old in _WHOLE
    return _WHOLE.replace(old, new)


FAULTY = {
    "an unknown key": _edited("unit: ms", "unit: ms, trusted: true"),
    "an unknown key of the document": _WHOLE + "approved: all\n",
    "a reason": _edited("unit: ms", "unit: ms, reason: because"),
    "an option of another kind": _edited("unit: ms", "values: [a]"),
    "another kind": _edited("kind: integer", "kind: any"),
    "no kind": _edited("kind: integer, ", ""),
    "a kind that is a list": _edited("kind: integer", "kind: [integer]"),
    "nobody": _edited('by: "A. Example, data protection", ', ""),
    "a blank name": _edited('"A. Example, data protection"', '" "'),
    "a name of two lines": _edited("A. Example, data", "A.\\nno-content holds"),
    "a name that hides text": _edited("A. Example", "A.\u202eExample"),
    "a name that is long": _edited("A. Example", "A" * 300),
    "no day": _edited("date: 2026-11-30, ", ""),
    "a day that is none": _edited("date: 2026-11-30", "date: 2026-02-30"),
    "no link": _edited(', see: "https://git.example/pull/812"', ""),
    "a link of another sort": _edited("https:", "javascript:"),
    "an end that is none": _edited("date: 2026-11-30", "date: 2026-11-30, until: never"),
    "an anchor": _edited("network.jitter: ", "network.jitter: &all "),
    "an alias": _WHOLE + "  network.loss: *all\n",
    "a merge key": _WHOLE + "  network.loss:\n    <<: {kind: boolean}\n",
    "a tag": _edited("minimum: 0", "minimum: !!python/object:os.system 0"),
    "a key twice": _edited("maximum: 1000", "maximum: 10, maximum: 1000"),
    "a field twice": _WHOLE + f"  network.jitter: {_ENTRY}\n",
    "fields twice": _WHOLE + _WHOLE,
    "a name that looks alike": _WHOLE + f"  netw\u043erk.jitter: {_ENTRY}\n",
    "a name in upper case": _WHOLE + f"  Network.Jitter: {_ENTRY}\n",
    "a pattern": _WHOLE + f"  network.*: {_ENTRY}\n",
    "no mapping": "- network.jitter\n",
    "no fields": "schema: calls\n",
    "fields that are a list": "fields: [network.jitter]\n",
    "an entry that is true": "fields: {network.jitter: true}\n",
    "an entry that is blank": "fields:\n  network.jitter:\n",
    "nothing": "",
    "two documents": _WHOLE + "---\n" + _WHOLE,
    "no YAML": _WHOLE + "\t}{",
    "a control character": _WHOLE + "# \x07\n",
    "much": _WHOLE + "# canary\n" * 150_000,
    "many values": _WHOLE + "  a: [" + "1, " * 30_000 + "]\n",
    "many levels": _WHOLE + "  a: " + "[" * 200 + "]" * 200 + "\n",
    "a range that does not fit": _edited("maximum: 1000", "maximum: -1000"),
    "a catalogue without entries": "fields:\n  audio.codec: "
    + _ENTRY.replace(
        "kind: integer, minimum: 0, maximum: 1000, step: 10, unit: ms",
        "kind: token, catalogue: os-names",
    )
    + "\n",
    "entries without a catalogue": _edited("unit: ms", "unit: ms, entries: a"),
}
"""Copies that somebody has edited by hand, each with one fault."""


def test_the_form_that_is_documented(tmp_path: Path) -> None:
    """What an entry does not state has the value of a schema."""
    schema = schema_of(tmp_path, jitter())
    path = tmp_path / "calls.reviewed.yaml"
    path.write_text(_WHOLE)
    assert set(verdicts(schema, read_copy(path)).values()) == {"amended"}


@for_each("name", FAULTY)
def test_a_copy_with_a_fault_approves_nothing(name: str, tmp_path: Path) -> None:
    """It does not even approve the field whose entry is sound."""
    schema, path = schema_of(tmp_path, jitter()), tmp_path / "calls.reviewed.yaml"
    path.write_text(FAULTY[name])
    copy = read_copy(path)
    assert copy.faults
    assert not copy.entries
    assert set(verdicts(schema, copy).values()) == {"unproven"}
    assert "canary" not in str(copy.faults)
    with pytest.raises(SchemaError):
        approve(copy, schema, "network.jitter", STATED, {})
    assert path.read_text() == FAULTY[name]


def test_a_copy_of_another_schema(tmp_path: Path) -> None:
    schema, path = schema_of(tmp_path, jitter()), tmp_path / "calls.reviewed.yaml"
    path.write_text("schema: other\n" + _WHOLE)
    assert set(verdicts(schema, read_copy(path)).values()) == {"unproven"}
    for part, older in (("retention: 30d", "retention: 29d"), ("maximum: 1000", "maximum: 990")):
        path.write_text("schema: calls\n" + _edited(part, older))
        assert set(verdicts(schema, read_copy(path)).values()) == {"unproven"}, part
    path.write_text(_WHOLE + f"  network.loss: {_ENTRY}\n")  # of a field that is gone
    assert set(verdicts(schema, read_copy(path)).values()) == {"amended"}


def test_a_copy_that_is_no_regular_file(tmp_path: Path) -> None:
    """A link may lead to what somebody else writes, and a pipe may never end."""
    schema, path = schema_of(tmp_path, jitter()), tmp_path / "calls.reviewed.yaml"
    other = tmp_path / "other.yaml"
    other.write_text(_WHOLE)
    for make in (
        partial(path.symlink_to, other),
        partial(path.symlink_to, path),
        partial(os.mkfifo, path),
        path.mkdir,
    ):
        make()
        copy = read_copy(path)
        assert [fault.code for fault in copy.faults] == ["E101"]
        assert copy.state == "unreadable"
        assert set(verdicts(schema, copy).values()) == {"unproven"}
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    assert read_copy(path).state == "none"
    assert read_copy(tmp_path / "a\0b").faults


# -- writing ---------------------------------------------------------------------------------------


def test_other_entries_stay(tmp_path: Path) -> None:
    schema = schema_of(tmp_path, jitter(), *(jitter().replace("jitter", n) for n in ("b", "loss")))
    path = tmp_path / "calls.reviewed.yaml"
    loss = _ENTRY.replace("from: [jitter]", "from: [loss]")
    path.write_text(f"fields: {{network.loss: {loss}, network.jitter: {_ENTRY}}}\n")
    before = read_copy(path).entries
    for name in ("network.b", "network.jitter", "network.jitter"):
        path.write_text(approve(read_copy(path), schema, name, STATED, ANSWERS))
    after = read_copy(path).entries
    assert list(after) == ["network.b", "network.jitter", "network.loss"]
    assert after["network.loss"] == before["network.loss"]
    said = {question: answer for question, answer in ANSWERS.items() if answer}
    assert after["network.jitter"][0].answers == said
    assert set(verdicts(schema, read_copy(path)).values()) == {"amended"}


@pytest.mark.parametrize("answer", ["a\U000e0100", "\u202eb", "x" * (1 << 20)])
def test_what_would_be_faulty_is_not_approved(tmp_path: Path, answer: str) -> None:
    schema, copy = schema_of(tmp_path, jitter()), read_copy(tmp_path / "calls.reviewed.yaml")
    with pytest.raises(SchemaError, match="hides text" if len(answer) < 9 else "too large") as told:
        approve(copy, schema, "network.jitter", STATED, {"What could go wrong?": answer})
    assert answer not in str(told.value)


@given(
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8),
    st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=30).filter(is_visible),
)
def test_whatever_is_approved_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, order: list[str], answer: str
) -> None:
    folder = tmp_path_factory.mktemp("copies")
    schema = schema_of(folder, *(jitter().replace("jitter", name) for name in "abcdef"))
    path = folder / "calls.reviewed.yaml"
    for name in order:
        answers = {"What could go wrong?": answer}
        path.write_text(approve(read_copy(path), schema, f"network.{name}", STATED, answers))
    entries = read_copy(path).entries
    assert list(entries) == [f"network.{name}" for name in sorted(set(order))]
    assert all(answer in each.answers.values() or not answer for each, _ in entries.values())
    unapproved = {each.name for each in review(schema, read_copy(path), TODAY).unapproved}
    assert unapproved == {f"network.{name}" for name in "abcdef" if name not in order}
