"""Verdicts: what is malformed, and that each text has its own verdict wherever it stands."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from collector import Filter, load_schema
from collector.contracts import Tally
from tests.filter.schema_cases import NOW, counts, schema_case
from tests.support.make_schemas import sample

CONFERENCING = Filter(load_schema("conferencing"), as_of=NOW)
ADDRESS = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7"}\n'

FAULTY = {
    "malformed": (
        *(b'{"ip":"203.0.113.7","chat":"\xff"}', b'{"ip":"203.0.113.7","chat":"\xed\xa0\x80"}'),
        b'{"ip":"203.0.113.7","chat":"\xc0\xaf"}',
        *(b'{"ip":"203.0.113.7","chat":"\xf4\x90\x80\x80"}', b'{"ip":"203.0.113.7","\xe2\x82":1}'),
        *(b'{"ip":"203.0.113.7"}\xe2\x82', b'{"ip":"203.0.113.7","chat":"\\ud800"}'),
        *(b'{"ip":"203.0.113.7","\\udfff":1}', b'{"ip":"203.0.113.7","chat":"\\ud800\\u0041"}'),
        *(b'{"ip":"203.0.113.7","chat":NaN}', b'{"ip":"203.0.113.7","chat":[-Infinity]}'),
        *(b'{"ip":"203.0.113.7","chat":"\x00"}', b'{"ip":"203.0.113.7"}\x00'),
        *(b'\x00{"ip":"203.0.113.7"}', b'{"ip":"203.0.113.7",\x00"chat":1}'),
        *(b'{"ip":"203.0.113.7","chat":"\x1f"}', b'{"ip":"203.0.113.7"}{}'),
        *(b'{"ip":"203.0.113.7"', b'{"ip":"203.0.113.7",}', b"\xff\xfe{\x00}\x00"),
        *(b'\xef\xbb\xbf{"ip":"203.0.113.7"}', b'\x0b{"ip":"203.0.113.7"}'),
        *(b'\xc2\xa0{"ip":"203.0.113.7"}', b'\xe2\x80\xa8{"ip":"203.0.113.7"}'),
        *(b"{'ip':'203.0.113.7'}", b"[{}", b"NaN", b'"\\ud800"', b"\x1a"),
    ),
    "not_an_object": (b"[]", b'[{"ip":"203.0.113.7"}]', b"null", b"0", b'"203.0.113.7"', b"true"),
    "nothing_admitted": (b"{}", b' {"chat":"\\u0000"} ', b'{"ip":null}', b'{"\\u0000":0}'),
    "admitted": (ADDRESS[:-1], b'\t{"\\u0069p":"203.0.113.7"}\r', b'{"ip":0,"ip":"203.0.113.7"}'),
}


@pytest.mark.parametrize("filling", [b"", b'{"chat":"%b"}\n' % ("é" * 40_000).encode()])
def test_exact_counts(filling: bytes) -> None:
    """Every line has its own verdict: the same alone, among others, and far down in a payload."""
    lines = [line for listed in FAULTY.values() for line in listed]
    rest = {verdict: len(listed) for verdict, listed in FAULTY.items()}
    for verdict, listed in FAULTY.items():
        for line in listed:
            found = {"admitted": 0} | counts(CONFERENCING.admit_lines(filling + line, first=False))
            found["nothing_admitted"] = found.get("nothing_admitted", 0) - len(filling[:1])
            assert +Counter(found) == Counter([verdict]), line
    repeated = filling * 40 + (b"\n".join(lines) + b"\n") * 200
    found = counts(CONFERENCING.admit_lines(ADDRESS + repeated))
    expected = Counter({verdict: 200 * number for verdict, number in rest.items()})
    assert found == expected + Counter(admitted=1, nothing_admitted=40 * len(filling[:1]))


def test_byte_order_mark() -> None:
    """It is skipped at the very start, once, and is malformed anywhere else."""
    mark = b"\xef\xbb\xbf"
    event = ADDRESS[:-1]
    for admit in (CONFERENCING.admit, CONFERENCING.admit_lines):
        assert counts(admit(mark + event)) == {"admitted": 1}
        assert counts(admit("\ufeff" + event.decode())) == {"admitted": 1}
        for faulty in (mark + mark + event, b" " + mark + event, event + mark, b"\xef\xbb" + event):
            assert counts(admit(faulty)) == {"admitted": 0, "malformed": 1}
    assert counts(CONFERENCING.admit(mark + b"[" + event + b"]")) == {"admitted": 1}
    assert counts(CONFERENCING.admit(mark)) == {"admitted": 0, "malformed": 1}
    assert counts(CONFERENCING.admit_lines(mark)) == {"admitted": 0}
    lines = mark + ADDRESS + mark + ADDRESS + mark + b"\n" + ADDRESS
    assert counts(CONFERENCING.admit_lines(lines)) == {"admitted": 2, "malformed": 2}
    assert counts(CONFERENCING.admit_lines(lines, first=False)) == {"admitted": 1, "malformed": 3}


def test_utf8_at_every_boundary() -> None:
    """A character that lies across two pieces of a text is whole; half of one never is."""
    for unit in ("é", "€", "🎂"):
        encoded = unit.encode()
        for at in range(65_536 - 40, 65_536 + 8):
            start = b'{"ip":"203.0.113.7","chat":"%b' % (b"x" * at)
            for admit in (CONFERENCING.admit, CONFERENCING.admit_lines):
                assert counts(admit(start + encoded + b'"}')) == {"admitted": 1}
                half = start + encoded[:-1] + b'"}'
                assert counts(admit(half)) == {"admitted": 0, "malformed": 1}


_FIELDS = """
  device.type: {kind: enum, values: [phone], required: REQUIRED, REST}
  os.name: {kind: enum, values: [linux], category: system, purposes: [planning], retention: 1d,
    reason: For a test}
  os.type: {kind: enum, values: [linux], REST}
"""
_PLANNING = (
    "  planning: {use: functional.service.improve, basis: consent, optional: true, reason: Ask}\n"
)
_VALID = {"device.type": "phone", "os.name": "linux", "os.type": "linux"}


def _tallies(tested: Filter, event: dict[str, Any]) -> dict[str, Tally]:
    """The tally of one event on every path."""
    text = json.dumps(event).encode()
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in event.items()]
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"attributes": attributes}]}]}]}
    record = json.dumps({"schema": "sample/1.0.0", **event}).encode()
    return {
        "texts": tested.admit(text).tally,
        "mappings": tested.admit(event).tally,
        "by members": tested.admit(json.dumps({**event, "device": []})).tally,
        "other keys": tested.admit({**event, 7: None}).tally,  # type: ignore[dict-item]
        "OTLP": tested.admit_otlp("logs", json.dumps(logs), protobuf=False).tally,
        "records": tested.admit_records(record)[0].tally,
    }


@pytest.mark.parametrize("required", ["true", "false"])
def test_every_path_gives_the_verdict_of_the_plan(required: str) -> None:
    met, schema = set(), sample(_FIELDS.replace("REQUIRED", required), purposes=_PLANNING)
    filters = [(chosen, Filter(schema, purposes=chosen)) for chosen in (None, ["ops"])]
    for (purposes, tested), given in product(filters, product((None, True, False), repeat=3)):
        event = {
            name: _VALID[name] if is_valid else "canary"
            for name, is_valid in zip(_VALID, given, strict=True)
            if is_valid is not None
        }
        has_phone, has_name, has_type = (is_valid is True for is_valid in given)
        is_refused = purposes is not None and "os.name" in event
        verdict = None
        if required == "true" and not has_phone:
            verdict = "missing_required"
        elif not (has_phone or has_type or (has_name and purposes is None)):
            verdict = "consent_withheld" if is_refused else "nothing_admitted"
        met.add(verdict)
        for name, tally in _tallies(tested, event).items():
            assert tally.rejected == ({} if verdict is None else {verdict: 1}), (name, event)
    others = {"consent_withheld", "nothing_admitted"} if required == "false" else set()
    assert met == {None, *others, *(["missing_required"] if required == "true" else [])}


@pytest.mark.parametrize("text", [b"", b" ", b"\r\n\t ", b"\xef\xbb\xbf"])
def test_a_blank_document_is_malformed(text: bytes) -> None:
    """A blank line is none, but a document has to be one."""
    filter_ = schema_case("conferencing").filter
    assert counts(filter_.admit(text)) == {"admitted": 0, "malformed": 1}
    assert filter_.admit_lines(text).tally.received == 0


def test_a_filter_follows_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [datetime(2026, 6, 1, 23, 59, tzinfo=UTC)]
    monkeypatch.setattr(Filter, "_now", lambda _: now[0])
    schema = load_schema("conferencing")
    expiring = schema.fields["os.type"].model_copy(update={"expires": date(2026, 6, 2)})
    fields = {**schema.fields, "os.type": expiring}
    tested = Filter(schema.model_copy(update={"fields": fields}))
    event = {"os.type": "linux", "device.type": "phone"}
    assert tested.admit(event).records[0].keys() == {"schema", *event}
    now[0] += timedelta(minutes=1)
    for given in (event, b'{"os.type": "linux", "device.type": "phone"}'):
        admission = tested.admit(given)
        assert admission.records[0].keys() == {"schema", "device.type"}
        assert admission.tally.dropped == {"os.type": {"expired": 1}}
