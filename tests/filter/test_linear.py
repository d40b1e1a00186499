"""The filter's time is linear in the bytes of a body, however the records lie in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from time import process_time
from typing import Any

import orjson
import pytest

from collector.errors import InputError
from collector.filter import Filter
from collector.filter.admission import Bounds
from collector.filter.records import MAX_ITEMS
from tests.conftest import IS_WHOLE
from tests.filter.schema_cases import counts
from tests.support.make_schemas import sample

_TIMES, _MOST = 4, 8
"""So many times the elements may take so many times the CPU; 16 times, if time were quadratic."""
_CONSENT = """\
  planning:
    {use: analytics.reporting.system.performance, basis: consent, optional: true, reason: To plan}
consent: choices
"""
_LINUX = b'{"os.type":"linux"}'
_REFUSING = b'{"choices":["planning"],"os.type":"linux"}'


def made(records: Any, *, consent: bool) -> Filter:
    """A filter of one field."""
    more = f"{_CONSENT if consent else ''}records: {json.dumps(records)}"
    return Filter(sample("  os.type: {kind: enum, values: [linux], REST}", more))


def elements(element: bytes, number: int) -> bytes:
    return b",".join([element] * number)


def padded(number: int, element: bytes) -> bytes:
    """Elements within one that is large for other reasons too."""
    pad = b"x" * (50 * number)
    return b'{"a":[{"x":"%b","b":[%b]}]}' % (pad, elements(element, number))


_SHAPES: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "empty": ("a[].b[].c", lambda n: b'{"a":[{"b":[%b]}]}' % elements(b'{"c":[]}', n)),
    "records": ("a[].b[].c", lambda n: padded(n, b'{"c":[%b]}' % _LINUX)),
    "members": ("a[].b[].c.*", lambda n: padded(n, b'{"c":{"x":%b}}' % _LINUX)),
    "choices": (
        "a[].b[].c",
        lambda n: padded(n // 2, b'{"c":[%b]},{"choices":["planning"],"c":[{}]}' % _REFUSING),
    ),
    "two levels": ("a[].b", lambda n: b'{"a":[%b]}' % elements(b'{"b":[%b]}' % _LINUX, n)),
    "beside": (
        "a[].b",
        lambda n: b'{"x":"%b","a":[%b]}' % (b"x" * (300 * n), elements(b'{"b":[{}]}', n)),
    ),
    "documents": ("a", lambda n: b"[%b]" % elements(b'{"a":[%b]}' % _LINUX, n)),
}


def ratio(filter_: Filter, few: Any, many: Any) -> float:
    """The CPU time of one event over that of another: the least of each, measured by turns."""
    taken: list[list[float]] = [[], []]
    for _ in range(3):
        for times, event in zip(taken, (few, many), strict=True):
            start = process_time()
            filter_.admit(event)
            times.append(process_time() - start)
    least, most = map(min, taken)
    return most / least


_CASES = [(shape, bool(at % 2)) for at, shape in enumerate(_SHAPES)]
_OTHER_CASES = [(shape, not consent) for shape, consent in _CASES]


@pytest.mark.parametrize(("shape", "consent"), _CASES + _OTHER_CASES * IS_WHOLE)
def test_time_is_linear(shape: str, consent: bool) -> None:
    records, write = _SHAPES[shape]
    filter_ = made(records, consent=consent)
    texts = [write(number) for number in (400, 400 * _TIMES)]
    forms: list[list[Any]] = [texts]
    if shape != "documents":
        forms.append([orjson.loads(text) for text in texts])
    for few, many in forms:
        assert ratio(filter_, few, many) <= _MOST


def test_wide_elements_are_read_once() -> None:
    """A dictionary of many members, around many lists."""
    filter_ = made("a[].b[].c", consent=True)

    def wide(number: int) -> dict[str, Any]:
        others = {str(at): at for at in range(10 * number)}
        lists = [{"c": [{"os.type": "linux"}]} for _ in range(number)]
        return {"a": [{**others, "b": lists}]}

    assert ratio(filter_, wide(300), wide(300 * _TIMES)) <= _MOST


def test_documents_that_are_too_much_are_counted_in_linear_time() -> None:
    """Each of them is refused for its number of elements."""
    filter_ = made("a", consent=False)
    full = b'{"a":[%b]}' % elements(b"{}", MAX_ITEMS)

    def over(number: int) -> bytes:
        return b"[%b,%b]" % (full, elements(b'{"a":[{}]}', number))

    assert counts(filter_.admit(over(2))) == {
        "admitted": 0,
        "nothing_admitted": MAX_ITEMS,
        "too_large": 2,
    }
    assert ratio(filter_, over(8_000), over(8_000 * _TIMES)) <= _MOST


@pytest.mark.parametrize("form", ["json", "ndjson"])
@pytest.mark.parametrize("last", [b"[]", b"[{}]"])
def test_elements_of_all_levels_count(form: Any, last: bytes) -> None:
    """Together, over all documents of a call; records too."""
    filter_ = made("a[].b[].c", consent=False)
    document = b'{"a":[{"b":[%b]}]}' % elements(b'{"c":%b}' % last, 10)
    text = b"\n".join([document] * 3) if form == "ndjson" else b"[%b]" % elements(document, 3)
    found = 30 * (last != b"[]")
    (admission,) = filter_.admit_by_grant(form, text, bounds=Bounds(33 + found, 1 << 20))
    assert admission.tally.received == found
    with pytest.raises(InputError, match="E416"):
        filter_.admit_by_grant(form, text, bounds=Bounds(32 + found, 1 << 20))
