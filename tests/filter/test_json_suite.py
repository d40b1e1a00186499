"""The parsing corpus of nst/JSONTestSuite, alone and in every place of an event that is skipped.

A verdict is always the whole outcome: the bytes that come out and every count. What does not depend
on the file but on its verdict alone cannot hold a byte of the file.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from collector import Admission, Filter, load_schema
from collector.contracts import REJECTIONS
from tests.conftest import required
from tests.filter.schema_cases import NOW
from tests.support.latency import within

pytestmark = pytest.mark.timed

SECONDS = 2.0
"""No file may take longer, in any place."""

BOM = b"\xef\xbb\xbf"
RECORD = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7","os.type":"linux"}\n'
PLACES = {
    "unlisted member": b'{"ip":"203.0.113.7","unlisted":%s,"os":{"type":"linux"}}',
    "unlisted member, first": b'{"unlisted":%s,"ip":"203.0.113.7","os":{"type":"linux"}}',
    "unlisted member, twice": b'{"u":%s,"ip":"203.0.113.7","u":%s,"os":{"type":"linux"}}',
    "unlisted member, inside": b'{"ip":"203.0.113.7","os":{"unlisted":%s,"type":"linux"}}',
    "content": b'{"ip":"203.0.113.7","chat":%s,"os":{"type":"linux"}}',
    "content, deep inside": b'{"ip":"203.0.113.7","chat":[{"x":%s}],"os":{"type":"linux"}}',
    "overwritten": b'{"ip":%s,"ip":"203.0.113.7","os":{"type":"linux"}}',
    "overwritten object": b'{"ip":"203.0.113.7","os":%s,"os":{"type":"linux"}}',
}
BY_MEMBERS = b'"device":{"type":["canary"]},'
"""A member of the wrong type, which makes the decoder go member by member."""

FILES = {"n": 188, "y": 95, "i": 35}
"""How many files of each verdict there are, so that none is missed."""

Verdict = tuple[bytes, dict[str, object], str]


class Case(NamedTuple):
    """A text of the corpus. ``n``: must be refused, ``y``: must be accepted, ``i``: either."""

    name: str
    text: bytes

    @property
    def value(self) -> Any:
        """What the text of a ``y`` means."""
        return json.loads(self.text)


@pytest.fixture(scope="module")
def suite(corpora: Path) -> dict[str, list[Case]]:
    folder = corpora / "json-test-suite"
    if not folder.is_dir():
        required("the corpus json-test-suite")
    found = {
        kind: [Case(path.name, path.read_bytes()) for path in sorted(folder.glob(f"{kind}_*.json"))]
        for kind in FILES
    }
    assert {kind: len(cases) for kind, cases in found.items()} == FILES
    return found


@pytest.fixture(scope="module")
def filter_() -> Filter:
    return Filter(load_schema("conferencing"), as_of=NOW)


@pytest.fixture(autouse=True)
def silence(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is written or logged, whatever the input."""
    caplog.set_level(0)
    yield
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def verdict(admit: Callable[[bytes], Admission], payload: bytes) -> Verdict:
    """All that comes out: records, counts, and what the admission says of itself."""
    with within(SECONDS):
        admission = admit(payload)
    tally = admission.tally.as_dict()
    assert tally.pop("bytes_in", 0) == len(payload)
    assert tally.pop("bytes_out", 0) == len(admission.encode())
    return admission.encode(), tally, repr(admission)


def verdicts(filter_: Filter, payload: bytes) -> Verdict:
    """The one verdict on a text that is no list: as a document, and as a line if it is one."""
    found = verdict(filter_.admit, payload)
    if is_a_line(payload.removeprefix(BOM)):
        assert verdict(filter_.admit_lines, payload) == found
    return found


def is_a_line(text: bytes) -> bool:
    """Whether it is one line, and not a blank one."""
    return b"\n" not in text and bool(text.strip(b" \t\r"))


def counted(
    received: int, admitted: int, others: Mapping[str, object], record: bytes = RECORD
) -> Verdict:
    tally = {"received": received, "admitted": admitted, "rejected": {}, **others}
    return record * admitted, tally, f"<Admission of {admitted} out of {received}>"


def refused(*reasons: str, admitted: int = 0) -> Verdict:
    rejected = {reason: reasons.count(reason) for reason in REJECTIONS if reason in reasons}
    return counted(len(reasons) + admitted, admitted, {"rejected": rejected})


def accepted(place: str, by_members: bool, is_null: bool) -> Verdict:
    more: dict[str, object] = {}
    if by_members:
        more["dropped"] = {"device.type": {"wrong_type": 1}}
    if "content" in place and not (is_null and place == "content"):
        more["content"] = {"chat": 1}
    return counted(1, 1, more)


def places(text: bytes) -> Iterator[tuple[str, bool, bytes]]:
    """The text in every place of an event where it is not looked at."""
    for place, template in PLACES.items():
        for by_members in (False, True):
            around = b"{" + BY_MEMBERS + template[1:] if by_members else template
            yield place, by_members, around.replace(b"%s", text)


def test_refused_texts(suite: dict[str, list[Case]], filter_: Filter) -> None:
    """What is no JSON is refused, alone and wherever it stands in an otherwise good event."""
    for case in suite["n"]:
        is_deep = case.text.count(b"[") > 1000
        reason = "too_deep" if is_deep else "malformed"
        assert verdicts(filter_, case.text) == refused(reason), case.name
        for place, _, payload in places(case.text):
            assert verdicts(filter_, payload) == refused(reason), (case.name, place)


def test_accepted_texts(suite: dict[str, list[Case]], filter_: Filter) -> None:
    """What is JSON costs nothing where it is not looked at: the same record, nothing dropped."""
    for case in suite["y"]:
        for place, by_members, payload in places(case.text):
            expected = accepted(place, by_members, case.value is None)
            assert verdicts(filter_, payload) == expected, (case.name, place)


def test_accepted_texts_alone(suite: dict[str, list[Case]], filter_: Filter) -> None:
    """A list is many events in a document and no event on a line; a scalar is none in either."""
    for case in suite["y"]:
        value = case.value
        events = value if isinstance(value, list) else [value]
        reasons = [
            "nothing_admitted" if isinstance(event, dict) else "not_an_object" for event in events
        ]
        assert verdict(filter_.admit, case.text) == refused(*reasons), case.name
        if b"\n" not in case.text:
            line = "not_an_object" if isinstance(value, list) else reasons[0]
            assert verdict(filter_.admit_lines, case.text) == refused(line), case.name


def test_undecided_texts(suite: dict[str, list[Case]], filter_: Filter) -> None:
    """What a parser may take or leave is taken or left as a whole, and counted once."""
    for case in suite["i"]:
        reasons = ("malformed", "too_deep", "not_an_object", "nothing_admitted")
        alone = verdict(filter_.admit, case.text)
        assert alone in [refused(reason) for reason in reasons], case.name
        found = set()
        for place, by_members, payload in places(case.text):
            one = verdicts(filter_, payload)
            assert one in (refused("malformed"), accepted(place, by_members, False)), case.name
            found.add(one == refused("malformed"))
        assert len(found) == 1, f"{case.name}: a verdict must not depend on the place"


def test_texts_as_names(suite: dict[str, list[Case]], filter_: Filter) -> None:
    """The same holds for texts that name an unlisted member."""
    done = Counter[str]()
    for case in (*suite["n"], *suite["y"]):
        name = re.fullmatch(rb'\[("(?:[^"\\]|\\.)*")\]\s*', case.text, re.DOTALL)
        if name is None:
            continue
        good = case.name.startswith("y")
        done[case.name[0]] += 1
        for template in PLACES.values():
            around = b"{" + name[1] + b":1," + template[1:].replace(b"%s", b"0")
            (record, tally, _) = verdicts(filter_, around)
            assert (record, tally["rejected"]) == (
                (RECORD, {}) if good else (b"", {"malformed": 1})
            ), case.name
    assert done["n"] > 10 < done["y"]


def test_texts_as_values(suite: dict[str, list[Case]], filter_: Filter) -> None:
    """In the place of a listed value a text costs at most that field."""
    payload = b'{"os":{"type":"linux"},"ip":%s}'
    record = b'{"schema":"conferencing/1.0.0","os.type":"linux"}\n'
    drops = [
        {},
        *({"dropped": {"client.address": {r: 1}}} for r in ("wrong_type", "invalid_value")),
    ]
    good = [counted(1, 1, drop, record) for drop in drops]
    for case in (*suite["y"], *suite["i"], *suite["n"]):
        found = verdicts(filter_, payload.replace(b"%s", case.text))
        bad = [refused("malformed"), refused("too_deep")]
        kind = case.name[0]
        assert found in {"y": good, "n": bad, "i": good + bad}[kind], case.name


def test_texts_among_others(suite: dict[str, list[Case]], filter_: Filter) -> None:
    """A bad line costs itself; a bad element of a list costs the document, which is one text."""
    event = PLACES["content"].replace(b"%s", b"null")
    for case in (*suite["n"], *suite["y"]):
        listed = verdict(filter_.admit, b"[%b,%b,%b]" % (event, case.text, event))
        reason = "nothing_admitted" if case.text.lstrip().startswith(b"{") else "not_an_object"
        if case.name.startswith("y"):
            assert listed == refused(reason, admitted=2), case.name
        else:
            assert listed in (refused("malformed"), refused("too_deep")), case.name
        if is_a_line(case.text):
            alone = filter_.admit_lines(case.text, first=False).tally.rejected
            line = verdict(filter_.admit_lines, b"%b\n%b\n%b" % (event, case.text, event))
            assert line == refused(*alone.elements(), admitted=2), case.name


def test_texts_as_records(suite: dict[str, list[Case]]) -> None:
    """The same in a list of records, and around it."""
    filter_ = Filter(load_schema("participants-qos"), as_of=NOW)
    record = b'{"schema":"participants-qos/1.0.0","client.address":"203.0.113.7"}\n'
    good = counted(1, 1, {}, record)
    for case in (*suite["n"], *suite["y"]):
        for template in (
            b'{"participants":[{"ip_address":"203.0.113.7","unlisted":%s}]}',
            b'{"unlisted":%s,"participants":[{"ip_address":"203.0.113.7"}]}',
            b'{"participants":%s,"participants":[{"ip_address":"203.0.113.7"}]}',
        ):
            found = verdicts(filter_, template.replace(b"%s", case.text))
            bad = (refused("malformed"), refused("too_deep"))
            assert found == good if case.name[0] == "y" else found in bad, case.name
