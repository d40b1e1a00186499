"""Test a schema: run its own tests and the samples beside it through the filter.

Reports consist of names of the schema, test names and counts, never of values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from collector.filter.admission import Admission
from collector.filter.run import Filter
from collector.schema.model import Schema, Trial


class CaseResult(NamedTuple):
    """The result of one test or sample; ``faults`` is empty if it passed."""

    schema: str
    name: str
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the outcome is the expected one."""
        return not self.faults


def _filter(schema: Schema) -> Filter:
    """Make the filter. Pseudonyms use a key of zeros, so that a test needs no secret."""
    return Filter(schema, keys=lambda _reference, _period: bytes(32))


def run_tests(schema: Schema) -> Iterator[CaseResult]:
    """Run each test of the document as JSON and as a mapping; both must agree."""
    filter_ = _filter(schema)
    for test in schema.tests:
        admission = filter_.admit(orjson.dumps(test.event))
        faults = [*_record_faults(test, admission), *_leaks(test, admission)]
        if type(test.event) is dict and filter_.admit(test.event).encode() != admission.encode():
            faults.append("as a mapping, the event gives other records than as JSON")
        yield CaseResult(schema.name, test.name, tuple(faults))


def _record_faults(test: Trial, admission: Admission) -> Iterator[str]:
    if test.keeps is None:
        return
    expected: list[dict[str, Any]] = test.keeps if isinstance(test.keeps, list) else [test.keeps]
    expected = [keeps for keeps in expected if keeps]
    found = [dict(list(record.items())[1:]) for record in admission.records]
    if len(found) != len(expected):
        yield f"expected {len(expected)} records, but the filter made {len(found)}"
    for number, (keeps, record) in enumerate(zip(expected, found, strict=False), 1):
        for name in dict.fromkeys([*keeps, *record]):
            if name not in record:
                yield f"record {number} lacks `{name}`"
            elif name not in keeps:
                yield f"record {number} has `{name}`, which `keeps` does not list"
            elif orjson.dumps(record[name]) != orjson.dumps(keeps[name]):
                yield f"record {number} has another value of `{name}`"


def _leaks(test: Trial, admission: Admission) -> Iterator[str]:
    output = admission.encode()
    for number, text in enumerate(test.never_contains, 1):
        plain, escaped = text.encode(), orjson.dumps(text)[1:-1]
        if plain in output or escaped in output:
            yield f"text {number} of `never_contains` is in the records"


def run_samples(schema: Schema, samples: Iterable[Path]) -> Iterator[CaseResult]:
    """Run each sample file: ``*.pass.json`` is admitted whole, ``*.fail.json`` is not."""
    filter_ = _filter(schema)
    for path in samples:
        yield CaseResult(schema.name, path.name, tuple(_sample_faults(filter_, path)))


def _sample_faults(filter_: Filter, path: Path) -> Iterator[str]:
    kind = path.suffixes[-2:-1]
    if kind not in ([".pass"], [".fail"]):
        yield "a sample is called <case>.pass.json or <case>.fail.json"
        return
    try:
        data = path.read_bytes()
    except OSError:
        data = b""
    tally = filter_.admit(data).tally
    if kind == [".fail"]:
        if not (tally.rejected or tally.dropped):
            yield "nothing was rejected or dropped"
        return
    if not tally.admitted:
        yield "nothing was admitted"
    for reason, times in tally.rejected.items():
        yield f"{times} rejected: {reason}"
    for name, reasons in tally.dropped.items():
        for drop, times in reasons.items():
            yield f"`{name}` dropped {times} times: {drop}"
