"""Memory and time: what is skipped is skipped as bytes, whatever its size or shape.

``tracemalloc`` sees what Python and the decoder allocate; payloads are built before it starts, so
a peak is what the filter itself adds to a payload that is there already.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from collector import Filter, load_schema
from collector.filter.records import MAX_ITEMS
from collector.filter.text import MAX_DOCUMENT, MAX_LINE, is_deep
from tests.filter.schema_cases import NOW, counts
from tests.support.latency import within

pytestmark = [pytest.mark.long, pytest.mark.timed]

MEGABYTE = 10**6
SPARE = 1000
"""Bytes left for what stands around a member that fills the rest."""

CONFERENCING = Filter(load_schema("conferencing"), as_of=NOW)
PARTICIPANTS = Filter(load_schema("participants-qos"), as_of=NOW)
ADDRESS = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7"}\n'


def filled(start: bytes, unit: bytes, end: bytes, size: int) -> bytes:
    """A JSON value of at most so many bytes that repeats one part."""
    return start + unit * ((size - len(start) - len(end)) // len(unit)) + end


def listed(item: bytes, size: int) -> bytes:
    return filled(b"[", item + b",", item + b"]", size)


MEMBERS: dict[str, Callable[[int], bytes]] = {
    "one text": lambda size: filled(b'"', b"x", b'"', size),
    "escapes": lambda size: filled(b'"', b'\\n\\"\\u00e9\\\\', b'"', size),
    "two-byte text": lambda size: filled(b'"', "é".encode(), b'"', size),
    "four-byte text, off every boundary": lambda size: filled(b'"xyz', "🎂".encode(), b'"', size),
    "one number": lambda size: filled(b"1", b"7", b"7", size),
    "small objects": lambda size: listed(b'{"a":1}', size),
    "100 levels": lambda size: listed(b'{"a":[' * 49 + b"]}" * 49, size),
    "500 levels": lambda size: listed(b"[" * 500 + b"]" * 500, size),
    "equal names": lambda size: filled(b"{", b'"chat":[],', b'"chat":0}', size),
}
MANY = {"small objects", "100 levels", "equal names"}
AROUND = {
    "content": b'{"ip":"203.0.113.7","chat":%b}',
    "unlisted, inside": b'{"device":{"unlisted":%b},"ip":"203.0.113.7"}',
    "content, by members": b'{"os":{"type":[]},"chat":%b,"unlisted":"","ip":"203.0.113.7"}',
    "listed, wrong type": b'{"ip":"203.0.113.7","os":{"type":[%b]}}',
}


SLOW = b'"os":{"type":[]},'
"""A member of the wrong type, which makes the decoder go member by member."""


@contextmanager
def memory(megabytes: float) -> Iterator[None]:
    """What is done inside adds at most so much to the peak."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes * MEGABYTE


@pytest.fixture(params=[False, True], ids=["", "deep parser"])
def parser(request: pytest.FixtureRequest) -> Iterator[None]:
    """The parser as it is, and one that nests deeper than allowed, as later Pythons have it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000 if request.param else before)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.parametrize("member", MEMBERS)
def test_skipped_members(member: str) -> None:
    """64 MB of what is not listed cost less than 1 MB, decoded at once and by members; so do
    8 MB of elements that are small and many, as tracing them takes long."""
    part = 8 if member in MANY else 1
    content = MEMBERS[member]((MAX_DOCUMENT - SPARE) // part)
    for place, template in AROUND.items():
        payload = template % content
        with memory(megabytes=1):
            admission = CONFERENCING.admit(memoryview(payload))
        tally = admission.tally
        assert admission.encode() == ADDRESS, place
        assert (tally.received, tally.rejected, tally.bytes_in) == (1, {}, len(payload))
        assert tally.content == Counter(chat="content" in place)
        wrong = "by members" in place or "wrong" in place
        assert tally.dropped == ({"os.type": Counter(wrong_type=1)} if wrong else {})


def test_skipped_members_of_lines() -> None:
    """The same holds for lines, the longest and many, with and without other than ASCII."""
    for unit in (b"x", "é".encode()):
        long = b'{"ip":"203.0.113.7",%%b"chat":%b}\n' % filled(b'"', unit, b'"', MAX_LINE - SPARE)
        short = b'{"ip":"203.0.113.7","chat":%b}\n' % filled(b'"', unit, b'"', 100_000)
        payload = long % b"" + long % SLOW + short * 300
        with memory(megabytes=1):
            admission = CONFERENCING.admit_lines(payload)
        assert admission.encode() == ADDRESS * 302
        assert admission.tally.content == Counter(chat=302)


def test_skipped_members_of_lists() -> None:
    """The same holds inside a list of events and inside a list of records."""
    text = filled(b'"', "é".encode(), b'"', MAX_DOCUMENT // 2 - SPARE)
    event = b'{"%b":"203.0.113.7",%b"chat":%b}'
    both = event % (b"ip", b"", text) + b"," + event % (b"ip", SLOW, text)
    payload = b"[%b]" % both
    with memory(megabytes=1):
        admission = CONFERENCING.admit(payload)
    assert admission.encode() == ADDRESS * 2
    both = both.replace(b'"ip"', b'"ip_address"').replace(b'"os":{"type":[]}', b'"device":[]')
    payload = b'{"participants":[%b]}' % both
    with memory(megabytes=1):
        admission = PARTICIPANTS.admit(payload)
    assert counts(admission) == {"admitted": 2}
    assert admission.tally.content == Counter(chat=2)


def test_what_has_to_be_copied() -> None:
    """A ``str`` is encoded, and a name with escapes and a listed text are decoded before they are
    refused: each costs up to half more than its own size."""
    text = "x" * 60_000_000
    for payload in (
        f'{{"ip":"203.0.113.7","chat":"{text}"}}',
        b'{"ip":"203.0.113.7","\\n%b":1}' % text.encode(),
        b'{"ip":"203.0.113.7","os":{"type":"%b"}}' % text.encode(),
    ):
        with memory(megabytes=100):
            admission = CONFERENCING.admit(payload)
        assert admission.encode() == ADDRESS


def test_many_names() -> None:
    """A million unlisted names are skipped, each."""
    names = b",".join(b'"unlisted-%d":%d' % (n, n) for n in range(10**6))
    nested = b'{"ip":"203.0.113.7","os":{%b,"type":"linux"},%b,"x":{%b}}' % (
        names,
        SLOW[:-1],
        names,
    )
    for payload in (b'{%b,"ip":"203.0.113.7"}' % names, nested):
        with memory(megabytes=1):
            admission = CONFERENCING.admit(payload)
        assert admission.encode() == ADDRESS


ELEMENTS = (b"{}", b"[]", b"1", b'"],[,"', b'{"ip":"203.0.113.7","a":[1,2]}')


@pytest.mark.parametrize("number", [MAX_ITEMS + 1, 100_000])
def test_too_many_elements(number: int) -> None:
    """A list of more than 50,000 events is refused whole, and each of them is counted."""
    for element in ELEMENTS:
        payload = b"[" + b" , ".join([element] * number) + b" ]"
        document = b'{"participants":%b}' % payload
        with memory(megabytes=1):
            found = CONFERENCING.admit(payload), PARTICIPANTS.admit(document)
        assert list(map(counts, found)) == [{"admitted": 0, "too_large": number}] * 2
        assert counts(CONFERENCING.admit(payload[:-1])) == {"admitted": 0, "malformed": 1}


def test_a_million_elements() -> None:
    """The same in time, also where there are 64 MB of them."""
    for number in (10**6, (MAX_DOCUMENT - SPARE) // 3):
        payload = b"[%b{}]" % (b"{}," * (number - 1))
        with within(20):
            assert counts(CONFERENCING.admit(payload)) == {"admitted": 0, "too_large": number}
    payload = b'{"participants":[%b{}]}' % (b"{}," * (10**6 - 1))
    assert counts(PARTICIPANTS.admit(payload)) == {"admitted": 0, "too_large": 10**6}


def test_just_enough_elements() -> None:
    """50,000 events are few enough; commas inside them do not count."""
    event = b'{"ip":"203.0.113.7","a":[1,2,3],"b":",,,"}'
    payload = b"[%b%b]" % ((event + b",") * (MAX_ITEMS - 1), event)
    with memory(megabytes=32):
        admission = CONFERENCING.admit(payload)
    assert counts(admission) == {"admitted": MAX_ITEMS}


def test_many_lists_of_records() -> None:
    """The records of one document count together, however many lists they are spread over."""
    full = b'{"participants":[%b{}]}' % (b"{}," * (MAX_ITEMS - 2))
    one, none = b'{"participants":[{"ip_address":"203.0.113.7"}]}', b'{"participants":[]}'
    payload = b"[%b,%b,%b,%b%b]" % (full, one, none, (full + b",") * 10, one)
    with memory(megabytes=16):
        admission = PARTICIPANTS.admit(payload)
    assert counts(admission) == {
        "admitted": 1,
        "nothing_admitted": MAX_ITEMS - 1,
        "too_large": 10 * (MAX_ITEMS - 1) + 1,
    }
    assert counts(PARTICIPANTS.admit_lines(b"%b\n%b\n%b" % (full, full, one))) == {
        "admitted": 1,
        "nothing_admitted": 2 * (MAX_ITEMS - 1),
    }


def test_too_large() -> None:
    """A document of up to 64 MiB and a line of up to 16 MiB are read; a byte more is too large."""
    for admit, most in ((CONFERENCING.admit, MAX_DOCUMENT), (CONFERENCING.admit_lines, MAX_LINE)):
        start = b'{"ip":"203.0.113.7","chat":"'
        text = b"x" * (most - len(start) - 2)
        for more, verdict in ((b"", {"admitted": 1}), (b"x", {"admitted": 0, "too_large": 1})):
            payload = b'%b%b%b"}' % (start, text, more)
            with memory(megabytes=1):
                admission = admit(payload)
            assert counts(admission) == verdict
    long = b"%b%b\n" % (b" " * MAX_LINE, ADDRESS)
    admission = CONFERENCING.admit_lines(ADDRESS + long + ADDRESS + b"\xff" * MAX_LINE + b"\xff\n")
    assert counts(admission) == {"admitted": 2, "too_large": 2}


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b'{"ip":', b'{"chat":['])
def test_brackets(opening: bytes, parser: None) -> None:
    """A text of nothing but beginnings is too deep or too large, and never crashes the parser."""
    for admit, most in ((CONFERENCING.admit, MAX_DOCUMENT), (CONFERENCING.admit_lines, MAX_LINE)):
        for size, verdict in ((most - SPARE, "too_deep"), (100_000_000, "too_large")):
            payload = filled(b"", opening, b"", size)
            with memory(megabytes=1), within(5):
                admission = admit(payload)
            assert counts(admission) == {"admitted": 0, verdict: 1}


@pytest.mark.parametrize("unit", [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"]":"]",":":', b"}]")])
def test_depth(unit: tuple[bytes, bytes], parser: None) -> None:
    """100 levels always pass, whatever else is in the text; 1001 never do."""
    opening, closing = unit
    per_unit = opening.count(b"[") + opening.count(b"{")
    start = b'{"ip":"203.0.113.7","a":[%b' % (b'{"b":["]"]},' * 20_000)

    def nested(levels: int) -> bytes:
        times, rest = divmod(levels - 2, per_unit)
        inner = b"[" * rest + opening * times + b"0" + closing * times + b"]" * rest
        return start + inner + b"]}"

    for admit in (CONFERENCING.admit, CONFERENCING.admit_lines):
        assert counts(admit(nested(100))) == {"admitted": 1}
        assert counts(admit(nested(1001))) == {"admitted": 0, "too_deep": 1}
        assert counts(admit(nested(100_000))) == {"admitted": 0, "too_deep": 1}
    if sys.getrecursionlimit() > 10_000:
        assert counts(CONFERENCING.admit(nested(1000))) == {"admitted": 1}


@pytest.mark.parametrize("member", ["small objects", "escapes", "500 levels", "two-byte text"])
def test_depth_of_large_texts(member: str) -> None:
    """Looking at the depth costs little memory and linear time."""
    payload = AROUND["content"] % MEMBERS[member](MAX_DOCUMENT - SPARE)
    with within(10):
        assert not is_deep(payload)
    short = AROUND["content"] % MEMBERS[member](4 * MEGABYTE)
    with memory(megabytes=1):
        assert not is_deep(short)
    assert is_deep(short[:-1] + b',"x":' + b"[" * 1001)


def test_nearly_too_deep() -> None:
    """An event is refused as too deep or read whole: none of its fields is lost on the way."""
    whole = b'{"schema":"conferencing/1.0.0","os.type":"linux"}\n'
    for levels in range(700, sys.getrecursionlimit() + 10):
        deep = b"[" * levels + b"]" * levels
        for more in (b"", b',"ip":[]'):
            admission = CONFERENCING.admit(b'{"os":{"type":"linux","x":%b}%b}' % (deep, more))
            if admission.tally.admitted:
                assert admission.encode() == whole
            else:
                assert counts(admission) == {"admitted": 0, "too_deep": 1}


def test_open_strings() -> None:
    """Time is linear: escaped quotes, each of which could begin a string, do not multiply it."""
    text = b'"%b"' % (b'\\"' * 16_000)
    payload = b"[%b0]" % (b"0," * MAX_ITEMS + (text + b",") * 60)
    with within(5):
        admission = CONFERENCING.admit(payload)
    assert counts(admission) == {"admitted": 0, "too_large": MAX_ITEMS + 61}


def test_blank_lines() -> None:
    """Blank lines are no events, however many and however long they are."""
    for line in (b"\n", b"\r\n", b" \t\n"):
        with within(10):
            admission = CONFERENCING.admit_lines(line * 200_000 + ADDRESS + line * 200_000)
        assert counts(admission) == {"admitted": 1}
    for size in (70_000, 2_000_000, MAX_LINE):
        for blank in (b" ", b"\t", b"\r"):
            admission = CONFERENCING.admit_lines(blank * size + b"\n" + ADDRESS + blank * size)
            assert counts(admission) == {"admitted": 1}
    assert counts(CONFERENCING.admit(b" " * MAX_DOCUMENT)) == {"admitted": 0, "malformed": 1}
