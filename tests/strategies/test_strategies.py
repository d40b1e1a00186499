"""The strategies draw what they promise: a law is worth no more than what it is tried on."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, date, datetime
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from collector import Filter, Schema, load_schema
from collector.consent import refused
from collector.schema.kinds import KINDS
from collector.testing._events import paths_of, place
from collector.testing._texts import write
from collector.testing.laws import fixed_key
from tests.filter.reference import Refused, levels, parse
from tests.filter.test_event_consent import made
from tests.strategies import events, lines, payloads, schemas

pytestmark = pytest.mark.long

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CONFERENCING = load_schema("conferencing")
PARTICIPANTS = load_schema("participants-qos")
_T = TypeVar("_T")


class _Enough(Exception):
    """No more examples are needed."""


def draw(strategy: st.SearchStrategy[_T], take: Callable[[_T], bool]) -> None:
    """Draw until ``take`` says that it needs no more, or 20,000 times: examples differ with what
    else is loaded, and what is rare may come late."""

    @settings(
        max_examples=20_000,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(strategy)
    def collect(example: _T) -> None:
        if take(example):
            raise _Enough

    with suppress(_Enough):
        collect()


def whole(value: Any) -> Iterable[Any]:
    """A value and all values in it."""
    yield value
    if isinstance(value, dict | list | tuple | set):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from whole(inner)


@pytest.mark.parametrize("schema", [CONFERENCING, PARTICIPANTS], ids=lambda schema: schema.name)
def test_events_fill_every_field_well_and_badly(schema: Schema) -> None:
    """Each field is admitted, refused for its type and refused for its value; content is there."""
    tested = Filter(schema, as_of=date(2026, 6, 1))
    kept: Counter[str] = Counter()
    dropped: Counter[tuple[str, str]] = Counter()
    content: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    both, others = ("wrong_type", "invalid_value"), {"nothing_admitted"}
    others |= {"not_an_object"} if schema.records is not None else set()

    def take(event: dict[Any, Any]) -> bool:
        admission = tested.admit(event)
        kept.update(key for record in admission.records for key in record)
        for name, reasons in admission.tally.dropped.items():
            dropped.update((name, reason) for reason in reasons)
        content.update(admission.tally.content.elements())
        rejected.update(admission.tally.rejected.elements())
        return (
            len(kept) > len(schema.fields)
            and len(dropped) >= len(both) * len(schema.fields)
            and len(content) >= 5
            and others <= set(rejected)
        )

    draw(events(schema, plain=False, now=NOW), take)
    assert set(kept) == {"schema", *schema.fields}
    assert set(dropped) == {(name, reason) for name in schema.fields for reason in both}
    assert len(content) == 5
    assert set(rejected) >= {"nothing_admitted"}
    assert ("not_an_object" in rejected) == (schema.records is not None)


def test_events_hold_what_only_python_can_say() -> None:
    missing = {"bytes", "tuple", "set", "_Str", "_Int", "_Dict", "_Choice", "complex", "object"}
    missing |= {f"{kind} as key" for kind in "str int float NoneType bytes tuple _Str".split()}
    missing |= {"NaN"}

    def take(event: dict[Any, Any]) -> bool:
        values = list(whole(event))
        missing.difference_update(type(value).__name__ for value in values)
        missing.difference_update(f"{type(key).__name__} as key" for key in event)
        missing.difference_update("NaN" for v in values if isinstance(v, float) and v != v)
        return not missing

    drawn = events(CONFERENCING, plain=False, now=NOW) | events(PARTICIPANTS, plain=False, now=NOW)
    draw(drawn, take)
    assert not missing


def test_events_use_every_path() -> None:
    """Nested, flat, and every source."""
    paths = {path for name in CONFERENCING.fields for path in paths_of(CONFERENCING, name)}

    def take(event: dict[str, Any]) -> bool:
        for path in list(paths):
            value: Any = event
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                paths.discard(path)
        return not paths

    draw(events(CONFERENCING, plain=True, now=NOW), take)
    assert not paths


def verdict(text: bytes) -> str | None:
    try:
        parse(text)
    except Refused as refused:
        return refused.reason
    return None


def repeats(text: bytes) -> bool:
    found: list[bool] = []

    def note(pairs: list[tuple[str, object]]) -> None:
        found.append(len({key for key, _ in pairs}) < len(pairs))

    if verdict(text) is None and max(map(len, re.findall(rb"\d+", text)), default=0) < 4000:
        json.loads(text.decode(), object_pairs_hook=note)
    return any(found)


_FEATURES: dict[str, Callable[[bytes], object]] = {
    "repeated keys": repeats,
    "escaped keys": lambda text: re.search(rb'"[a-z_]*\\u00[0-9A-F]{2}[^"]*"\s*:', text),
    "lone surrogates": lambda text: b"\\ud800" in text,
    "pairs of surrogates": lambda text: b"\\ud83d\\ude00" in text,
    "numbers beyond doubles": lambda text: b"1e999" in text,
    "negative zero": lambda text: re.search(rb"-0[^.0-9]", text),
    "400 digits": lambda text: b"9" * 400 in text,
    "numbers that are none": lambda text: re.search(rb"NaN|Infinity|0x1|[+]1|[^0-9.]01", text),
    "byte order marks": lambda text: text.startswith(b"\xef\xbb\xbf"),
    "invalid UTF-8": lambda text: "\ufffd" in text.decode(errors="replace"),
    "white space": lambda text: re.match(rb"[ \t\r]+\{", text),
    "deep objects": lambda text: b'{"a":' * 1001 in text,
    "deep lists": lambda text: b"[" * 1001 in text,
    "arrays": lambda text: re.search(rb"(?:^|\n)\s*\[", text),
    "empty": lambda text: not text.strip(),
    "several texts": lambda text: re.search(rb"\}\s*\{", text),
    "broken": lambda text: verdict(text) == "malformed",
    "read": lambda text: verdict(text) is None,
}


@pytest.mark.parametrize("strategy", [payloads, lines])
def test_texts_have_every_feature(strategy: Callable[..., st.SearchStrategy[bytes]]) -> None:
    """All that is promised comes up; and none leaves a doubt about its depth: at most 100 levels,
    or more than 1,000."""
    missing = dict(_FEATURES)

    def take(text: bytes) -> bool:
        for feature in [feature for feature, has in missing.items() if has(text)]:
            del missing[feature]
        for line in text.split(b"\n") if strategy is lines else [text]:
            depth = levels(line.decode(errors="replace"))
            assert depth <= 100 or depth > 1000
        return not missing

    draw(strategy(CONFERENCING, now=NOW), take)
    assert not missing


@given(events(CONFERENCING, plain=True, now=NOW), st.integers(0, 2**16))
def test_a_text_means_its_value_however_it_is_written(event: dict[str, Any], seed: int) -> None:
    """The cosmetic seed changes nothing, and seed 0 is the compact form."""
    assert json.loads(write(event, seed)) == event
    assert len(write(event, 0)) <= len(write(event, seed))


def _reads(schema: Schema) -> dict[str, set[str]]:
    return {name: {*field.paths(name), name} for name, field in schema.fields.items()}


def _every_path(schema: Schema) -> list[str]:
    return [path for paths in _reads(schema).values() for path in paths]


def _says(key: str) -> Callable[[Schema], bool]:
    return lambda schema: any(getattr(field, key) for field in schema.fields.values())


_SORTS: dict[str, Callable[[Schema], object]] = {
    "records": lambda schema: any(way[-1] != "*" and way != "." for way in schema.ways),
    "records of objects": lambda schema: any(way.endswith(".*") for way in schema.ways),
    "records of lists": lambda schema: any(way.startswith("[") for way in schema.ways),
    "records or events": lambda schema: "." in schema.ways,
    "nested records": lambda schema: any("[]." in way for way in schema.ways),
    "elements": lambda schema: any(path.startswith("[") for path in _every_path(schema)),
    "inner elements": lambda schema: any("[" in path[1:] for path in _every_path(schema)),
    "quoted": lambda schema: any('"' in path for path in _every_path(schema)),
    "shared": lambda schema: max(Counter(_every_path(schema)).values()) > 1,
    "prefix": lambda schema: any(
        path.startswith(f"{other}.") for other, path in product(_every_path(schema), repeat=2)
    ),
    "another's name": lambda schema: any(
        schema.fields.keys() & (paths - {name}) for name, paths in _reads(schema).items()
    ),
    "conditions": lambda schema: any(
        not isinstance(s, str) for f in schema.fields.values() for s in f.sources or ()
    ),
    "derived": _says("derive"),
    "required": _says("required"),
    "expires": _says("expires"),
    "content": lambda schema: schema.content,
    "optional": lambda schema: schema.optional,
    "consent": lambda schema: schema.consent is not None,
    "consent in lists": lambda schema: (schema.consent or "").startswith("["),
}


def test_schemas_are_of_every_sort() -> None:
    """All kinds and options, twice; paths that are shared, nested, or another's name."""
    missing = Counter(dict.fromkeys([*_SORTS, *KINDS], 2))

    def take(schema: Schema) -> bool:
        Filter(schema, as_of=date(2026, 6, 1), keys=fixed_key)
        missing.subtract(field.kind for field in schema.fields.values())
        missing.subtract(sort for sort, is_of in _SORTS.items() if is_of(schema))
        return not +missing

    draw(schemas(), take)
    assert not +missing


def test_events_say_what_people_choose(tmp_path: Path) -> None:
    """Nothing, that all is granted, that some or all is refused, in either form and at either
    path; and what nobody can read."""
    schema = made(tmp_path, "told.here")
    optional, found = schema.optional, Counter[str]()
    least = ["nested", "flat", "NoneType", "dict", "list", "unreadable"]
    least += [f"{number} refused" for number in range(3)]

    def take(event: dict[Any, Any]) -> bool:
        nested = event.get("told")
        inner = nested.get("here") if type(nested) is dict else None
        said = event.get("told.here") if inner is None else inner
        found["nested"] += inner is not None
        found["flat"] += inner is None and said is not None
        found[type(said).__name__] += 1
        found[f"{len(refused(optional, said))} refused"] += said is not None
        found["unreadable"] += type(said) is dict and not all(
            type(flag) is bool for name, flag in said.items() if name in optional
        )
        return min(found[what] for what in least) >= 3

    draw(events(schema, plain=True, now=NOW), take)
    assert min(found[what] for what in least) >= 3, found


def test_events_lead_into_lists_and_to_user_agents() -> None:
    """Positional events, objects of records, and user agents: each gives records of its own."""
    schema = load_schema("webrtc")
    tested = Filter(schema, as_of=date(2026, 6, 1))
    found: Counter[str] = Counter()

    def take(event: Any) -> bool:
        records = tested.admit_lines(write(event, 0)).records
        said = any("os.type" in record for record in records)
        if type(event) is dict:
            found["said in an object"] += said
        else:
            found["said in a list"] += said
            found["an address in a list"] += any("client.address" in r for r in records)
            found["several records of a list"] += len(records) > 1
        return len(+found) == 4

    draw(place(schema, NOW), take)
    assert len(found) == 4
    assert min(found.values()) > 0, found
