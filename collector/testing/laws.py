"""``assert_noninterference``: the law that makes an allowlist worth its name, for any schema.

Two well-formed events that agree on the admitted values give byte-identical records, and counts
that differ at most in what was dropped and in content; and no line of a batch changes what another
line gives. Of a person's choices the outcome alone matters, and refusing more never adds a byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import reduce
from operator import add
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.contracts import Tally
from collector.filter import Admission, Filter
from collector.schema import Schema
from collector.schema.kinds import Circumstances
from collector.testing.texts import lines, seeds, write
from collector.testing.twins import twins
from collector.testing.values import clock

__all__ = ["agree", "assert_noninterference", "fixed_key", "narrows", "stand_alone"]


def assert_noninterference(
    schema: Schema,
    *,
    purposes: Collection[str] | None = None,
    keys: Callable[[str, int], bytes] | None = None,
    examples: int | None = None,
) -> None:
    """Test a schema against the law; raises ``AssertionError`` with the smallest counterexample.

    ``purposes`` are the granted ones (``None``: all), ``keys`` resolves key references of
    pseudonyms (``None``: a fixed key), ``examples`` is how many cases of each part of the law are
    tried (``None``: as many as Hypothesis is set to, 100 by default).
    """
    now, keys = clock(), keys or fixed_key
    tested = Filter(schema, purposes=purposes, as_of=now, keys=keys)
    usual = settings(
        max_examples=examples or settings().max_examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )

    @usual
    @given(twins(schema, Circumstances(lambda: now, keys)), seeds(), seeds())
    def only_admitted_values_matter(pair: tuple[Any, Any], seed: int, other: int) -> None:
        agree(tested, pair, (seed, other))

    @usual
    @given(lines(schema, now=now))
    def each_line_stands_alone(payload: bytes) -> None:
        stand_alone(tested, payload)

    @usual
    @given(lines(schema, now=now), st.sets(st.sampled_from([*schema.purposes])))
    def refusing_never_adds(payload: bytes, refused: set[str]) -> None:
        narrows(tested, tested.without(refused), payload)

    only_admitted_values_matter()
    each_line_stands_alone()
    if schema.optional:
        refusing_never_adds()


def fixed_key(reference: str, period: int) -> bytes:
    return b"a key for tests, not for use ..."


def agree(
    tested: Filter,
    pair: tuple[Any, Any],
    written: tuple[int, int],
) -> None:
    """Events that agree on the admitted values, as mappings and as texts, give the same."""
    texts = [write([event], seed) for event, seed in zip(pair, written, strict=True)]
    mapped = [tested.admit(event) for event in pair if type(event) is dict]
    admissions = [*mapped, *map(tested.admit, texts)]
    ordered = not any(way.endswith(".*") for way in tested.schema.records or ())
    first, *others = (_outcome(admission, ordered) for admission in admissions)
    for other in others:
        assert other == first, "what a schema does not admit has changed a record"  # noqa: S101


def _outcome(admission: Admission, ordered: bool) -> tuple[list[bytes], tuple[object, ...]]:
    """The records, and the counts that must not depend on what is not admitted. Members of an
    object have no order, so records that are members have none either."""
    tally, records = admission.tally, admission.encode().splitlines()
    rejected = sorted(tally.rejected.items())
    return records if ordered else sorted(records), (
        tally.received,
        tally.admitted,
        rejected,
        tally.bytes_out,
    )


def stand_alone(tested: Filter, payload: bytes) -> None:
    """A batch gives what its lines give one by one, in records and in counts."""
    whole = tested.admit_lines(payload)
    parts = re.findall(rb"[^\n]*\n|[^\n]+", payload)
    alone = [tested.admit_lines(part, first=not at) for at, part in enumerate(parts)]
    records = b"".join(admission.encode() for admission in alone)
    assert whole.encode() == records, "a line has changed what another line gives"  # noqa: S101
    total = reduce(add, (admission.tally for admission in alone), Tally())
    assert whole.tally == total, "the counts of a batch are not those of its lines"  # noqa: S101


def narrows(wider: Filter, narrower: Filter, payload: bytes) -> None:
    """Where more is refused there are the same records, in their order, with the same values or
    without them, and none besides."""
    wide, narrow = wider.admit_lines(payload), narrower.admit_lines(payload)
    before = iter(_items(wide))
    is_less = all(any(less <= more for more in before) for less in _items(narrow))
    assert is_less, "who refuses has added to a record"  # noqa: S101
    counted = narrow.tally.received == wide.tally.received
    assert counted, "who refuses has changed how many events there were"  # noqa: S101


def _items(admission: Admission) -> list[set[tuple[str, str]]]:
    return [{(key, repr(value)) for key, value in each.items()} for each in admission.records]
