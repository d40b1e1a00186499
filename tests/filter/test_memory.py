"""Memory and time: what is skipped is skipped as bytes, whatever its size or shape.

``tracemalloc`` sees what Python and the decoder allocate; payloads are built before it starts, so
a peak is what the filter itself adds to a payload that is there already.
"""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from collector import Filter, Tally, load_schema
from collector.filter.events import MAX_DOCUMENT, MAX_ITEMS, MAX_LINE
from tests.filter.yards import NOW

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
    "white space": lambda size: filled(b"[", b" \n\t\r", b"]", size).replace(b"\n", b" "),
    "small objects": lambda size: listed(b'{"a":1}', size),
    "empty lists": lambda size: listed(b"[]", size),
    "100 levels": lambda size: listed(b'{"a":[' * 49 + b"]}" * 49, size),
    "900 levels": lambda size: listed(b"[" * 890 + b"]" * 890, size),
    "equal names": lambda size: filled(b"{", b'"chat":[],', b'"chat":0}', size),
}
AROUND = {
    "content": b'{"ip":"203.0.113.7","chat":%b}',
    "unlisted": b'{"unlisted":%b,"ip":"203.0.113.7"}',
    "unlisted, inside": b'{"device":{"unlisted":%b},"ip":"203.0.113.7"}',
    "content, tolerant": b'{"os":{"type":[]},"chat":%b,"ip":"203.0.113.7"}',
    "unlisted, tolerant": b'{"ip":"203.0.113.7","os":{"type":[],"unlisted":%b}}',
    "listed, wrong type": b'{"ip":"203.0.113.7","os":{"type":[%b]}}',
}


@contextmanager
def limits(megabytes: float, seconds: float = 10) -> Iterator[None]:
    """What is done inside adds at most so much to the peak, and ends in time."""
    gc.collect()
    tracemalloc.start()
    started = time.perf_counter()
    try:
        yield
        took, peak = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes * MEGABYTE
    assert took < seconds


def plain(tally: Tally) -> dict[str, Any]:
    found = tally.as_dict()
    return {key: found[key] for key in found if not key.startswith("bytes_")}


@pytest.fixture
def deep_parser() -> Iterator[None]:
    """A parser that nests deeper than we allow, as later Pythons have it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.parametrize("member", MEMBERS)
def test_skipped_members(member: str) -> None:
    """64 MB of what is not listed cost less than 1 MB, on the fast and on the tolerant path."""
    content = MEMBERS[member](MAX_DOCUMENT - SPARE)
    for place, template in AROUND.items():
        payload = template % content
        with limits(megabytes=1):
            admission = CONFERENCING.admit(memoryview(payload))
        tally = admission.tally
        assert admission.encode() == ADDRESS, place
        assert (tally.received, tally.rejected, tally.bytes_in) == (1, {}, len(payload))
        assert tally.content == Counter(chat="content" in place)
        wrong = "tolerant" in place or "wrong" in place
        assert tally.dropped == ({"os.type": Counter(wrong_type=1)} if wrong else {})
