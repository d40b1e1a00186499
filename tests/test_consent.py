"""From the choices of a person to the granted purposes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.consent import granted, is_refusal, refused, refused_by_application
from collector.contracts import Batch, Granted
from collector.errors import ConfigError
from collector.filter import Filter
from collector.filter.stored import project
from collector.routing import entitled
from collector.schema import Schema, load_schema
from tests.filter.test_event_consent import made
from tests.filter.test_laws import NOW
from tests.filter.test_laws import made as made_filter
from tests.strategies import lines, schemas
from tests.strategies.documents import PURPOSES
from tests.support.raising import raises

_OPTIONAL = ("planning", "crashes")
_EVENT = {
    "client.address": "203.0.113.7",
    "os.name": "Linux",
    "os.version": "22",
    "view.dark": True,
}


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    """One purpose is not optional, two are."""
    return made(tmp_path_factory.mktemp("consent"))


@pytest.mark.parametrize(
    ("values", "is_one"),
    [
        ([], False),
        ([b"1"], True),
        (["1"], True),
        ([b"0"], False),
        ([b"0", b"1"], True),
        ([b"1, 1"], False),
        ([b"true"], False),
        ([b""], False),
    ],
)
def test_a_signal(values: Any, is_one: bool) -> None:
    assert is_refusal(values) is is_one


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (None, set()),
        (True, set()),
        (False, {*_OPTIONAL}),
        ({}, set()),
        ({"planning": False, "security": False, "x": 1}, {"planning"}),
        (["crashes", "security", "x"], {"crashes"}),
        (("crashes",), {"crashes"}),
        ({"crashes"}, {"crashes"}),
        (frozenset(["crashes"]), {"crashes"}),
        ({"planning": 0}, {*_OPTIONAL}),
        ([1], {*_OPTIONAL}),
        ("planning", {*_OPTIONAL}),
        (0, {*_OPTIONAL}),
        (object(), {*_OPTIONAL}),
    ],
)
def test_what_is_refused(said: Any, found: set[str]) -> None:
    """Unreadable choices refuse all that can be; those of other purposes change nothing."""
    assert refused(_OPTIONAL, said) == found


def test_what_is_granted(schema: Schema) -> None:
    """In the schema's order; all of them is no set at all."""
    assert granted(schema, []) is None
    assert granted(schema, ["security", "x"]) is None
    assert granted(schema, ["planning"]) == ("security", "crashes")
    assert granted(schema, [], ("crashes", "security")) == ("security", "crashes")
    assert granted(schema, ["crashes"], ("crashes", "security")) == ("security",)
    assert granted(schema, [], ("crashes", "planning", "security")) is None
    assert granted(schema, _OPTIONAL, ()) == ()


def test_an_application_may_not_slip(schema: Schema) -> None:
    """A purpose that it refuses is in the schema, and can be refused."""
    assert refused_by_application(schema, {"planning": False, "security": True}) == {"planning"}
    every: Any = {"security": True, "planning": False, "crashes": False}
    assert refused_by_application(schema, every) == set(_OPTIONAL)
    assert refused_by_application(schema, _OPTIONAL) == set(_OPTIONAL)
    slips: tuple[tuple[Any, str], ...] = (
        ({"planing": False}, "E132"),
        (["security"], "E132"),
        ({"security": False}, "E132"),
        ({"planning": None}, "E107"),
        ({"unheard": True}, "E132"),
        ("planning", "E107"),
        (3, "E107"),
    )
    for consent, code in slips:
        with raises(code, ConfigError) as caught:
            refused_by_application(schema, consent)
        assert not any(name in str(caught.value) for name in ("planing", "unheard"))
        assert code == "E107" or "planning, crashes" in str(caught.value)
    for nothing in (None, True, list[str](), dict[str, bool]()):
        assert refused_by_application(schema, nothing) == frozenset()
    assert refused_by_application(schema, False) == set(_OPTIONAL)


_PURPOSES = st.lists(st.sampled_from(["security", *_OPTIONAL]), unique=True)
_REFUSED = st.sets(st.sampled_from(_OPTIONAL))


@given(
    st.dictionaries(st.sampled_from([*_EVENT]), _PURPOSES.filter(bool), min_size=1),
    st.none() | _PURPOSES,
    _REFUSED,
    _REFUSED,
    _REFUSED,
    st.booleans(),
)
def test_nothing_beyond_the_meeting_reaches_a_sink(
    schema: Schema,
    fields: dict[str, list[str]],
    sink: list[str] | None,
    signal: set[str],
    choices: set[str],
    more: set[str],
    is_mapping: bool,
) -> None:
    """Any schema, sink, signal and choices: what is delivered of an event are the fields with a
    purpose that the schema, the person and the sink have in common, with their very values; and
    who refuses more has nothing added, down to the byte."""
    parts = {
        name: schema.fields[name].model_copy(update={"purposes": tuple(purposes)})
        for name, purposes in fields.items()
    }
    some = schema.model_copy(update={"fields": parts})
    event: Any = {**_EVENT, "choices": sorted(choices)}

    def delivered(refused_here: set[str]) -> tuple[dict[str, Any], Granted, bytes]:
        given_ = event if is_mapping else orjson.dumps(event)
        (part,) = Filter(some).without(refused_here).admit_by_grant("json", given_)
        names = entitled(some, sink, part.granted)
        batch = Batch(
            b"i" * 16,
            "2026-11-24T10:20:00Z",
            layout=some.layout,
            payload=part.encode(),
            granted=part.granted,
        )
        payload = project(batch, names).payload
        record = orjson.loads(payload) if payload else {}
        return {k: v for k, v in record.items() if k != "schema"}, part.granted, payload

    record, said, payload = delivered(signal)
    left = {"security", *_OPTIONAL} - signal - choices
    assert set(["security", *_OPTIONAL] if said is None else said) == left
    meeting = left & set(left if sink is None else sink)
    assert record == {name: _EVENT[name] for name in fields if meeting & {*fields[name]}}
    less, _, fewer = delivered(signal | more)
    assert less.items() <= record.items()
    assert len(fewer) <= len(payload)


@given(
    st.data(),
    schemas(),
    st.none() | st.sets(st.sampled_from(PURPOSES)),
    st.sets(st.sampled_from(PURPOSES)),
)
def test_no_sink_gets_more_than_the_meeting(
    data: st.DataObject, schema: Schema, sink: set[str] | None, refused_here: set[str]
) -> None:
    """Any schema, sink, signal and lines with choices in them: a field is delivered only for a
    purpose of its own that is granted and a sink's; and less is, not more, under a signal."""
    payload = data.draw(lines(schema, now=NOW))
    without = made_filter(schema).without(refused_here)
    for tested in (made_filter(schema), without):
        for part in tested.admit_by_grant("ndjson", payload):
            granted_here = set(schema.purposes if part.granted is None else part.granted)
            if tested is without:
                assert granted_here.isdisjoint(refused_here & set(schema.optional))
            meeting = granted_here & (set(PURPOSES) if sink is None else sink)
            batch = Batch(
                b"i" * 16,
                "2026-11-24T10:20:00Z",
                layout=schema.layout,
                payload=part.encode(),
                granted=part.granted,
            )
            delivered = project(batch, entitled(schema, sink, part.granted)).payload
            for line in delivered.splitlines():
                for name in orjson.loads(line).keys() - {"schema"}:
                    assert meeting & set(schema.fields[name].purposes)
    assert without.admit_lines(payload).tally.bytes_out <= (
        made_filter(schema).admit_lines(payload).tally.bytes_out
    )


def test_keys_that_cannot_be_had_are_found_for_what_is_granted(tmp_path: Path) -> None:
    """A filter that is left with less asks for no key of a refused field."""
    made(tmp_path)
    path = tmp_path / "keyed.yaml"
    path.write_text(
        (tmp_path / "made.yaml").read_text()
        + "  device.id: {kind: pseudonym, key: 'env:NOT_THERE', rotate: 1d, category: user.device,"
        " purposes: [planning], retention: 1d, reason: For a test}\n"
    )
    with pytest.raises(ConfigError):
        Filter(load_schema(path))
    assert Filter(load_schema(path), purposes=["security"]).admit(_EVENT).tally.admitted == 1
