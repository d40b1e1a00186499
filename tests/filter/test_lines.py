"""Lines that are decoded some at a time: each has the verdict that it has alone."""

from __future__ import annotations

import json
from itertools import product

import pytest

from collector import Filter, load_schema
from collector.filter.text import BOM, MAX_LINE
from tests.filter.schema_cases import schema_case
from tests.filter.test_laws import made

LINUX = b'{"os":{"type":"linux"}}'
PARTS = (LINUX, b"{}", b"{} {}", b'{"os":', b'{"type":"linux"}}', b"[{}", b"{}]", b"", b" ", b"\r")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \n"])
def test_values_are_those_of_lines(end: bytes) -> None:
    filter_ = made(load_schema("conferencing"))
    alone = {part: filter_.admit_lines(part + end) for part in PARTS}
    for parts in product(PARTS, repeat=3):
        together = filter_.admit_lines(end.join(parts))
        assert together.encode() == b"".join(alone[part].encode() for part in parts)
        for reason in ("malformed", "nothing_admitted"):
            each = sum(alone[part].tally.rejected[reason] for part in parts)
            assert together.tally.rejected[reason] == each


def test_a_faulty_line_costs_itself() -> None:
    """In the middle of many, at the end of a slice, as long as one, or longer."""
    filter_ = Filter(load_schema("conferencing"))
    faulty = [b"{", b'{"os":[]}', b'{"ip":1e999}', b'{"x":"\xff"}', b"7"]
    for size in (20_000, 40_000, 70_000):
        long = b"x" * size
        faulty += [b'{"x":"%b"' % long, b'%b,"x":"%b\xff"}' % (LINUX[:-1], long)]
    for fault in faulty:
        for before in (0, 1, 700, 1500):
            payload = (LINUX + b"\n") * before + fault + b"\n" + (LINUX + b"\n") * 900
            tally = filter_.admit_lines(payload).tally
            assert (tally.received, tally.admitted) == (before + 901, before + 900)


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("schema", ["conferencing", "participants-qos"])
def test_the_longest_line(schema: str, end: bytes) -> None:
    """Its end does not count, whether lines are read alone or together."""
    filter_ = Filter(load_schema(schema))
    for text in (LINUX, b""):
        longest = text.rjust(MAX_LINE) + end
        assert "too_large" not in filter_.admit_lines(longest).tally.rejected
        assert filter_.admit_lines(b" " + longest).tally.rejected == {"too_large": 1}


def test_a_number_that_is_too_long_costs_its_field() -> None:
    filter_ = Filter(load_schema("conferencing"))
    for odd in (b"9" * 5000, b"1e999", b"-1e999"):
        line = b'{"ip":%b,"device":[],"os":{"type":"linux"}}' % odd
        tally = filter_.admit_lines(line).tally
        assert json.loads(filter_.admit_lines(line).encode())["os.type"] == "linux"
        assert tally.dropped == {"client.address": {"wrong_type": 1}}


def test_a_number_beyond_all_types_is_invalid() -> None:
    """It is there, and no value of its field."""
    filter_ = schema_case("every-kind").filter
    for name, number in (("count", b"9" * 5000), ("load", b"1e999"), ("load", b"-1e999")):
        tally = filter_.admit_lines(b'{"cpu":{"%b":%b}}' % (name.encode(), number)).tally
        assert tally.dropped == {f"cpu.{name}": {"invalid_value": 1}}


def test_a_byte_order_mark_is_read_over_once() -> None:
    """At the beginning of a body, not of its later parts."""
    filter_ = Filter(load_schema("conferencing"))
    marked = BOM + LINUX
    for admission in (filter_.admit_lines(marked), *filter_.admit_by_grant("ndjson", marked)):
        assert admission.tally.admitted == 1
    later = [
        filter_.admit_lines(marked, first=False),
        *filter_.admit_by_grant("ndjson", marked, first=False),
    ]
    assert [each.tally.rejected for each in later] == [{"malformed": 1}] * 2
