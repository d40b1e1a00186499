"""Ordinary events take the fast way: these tests take the slow one, which gives the same, away."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import msgspec
import pytest

from collector import Filter, load_schema
from collector.errors import InputError
from collector.filter.admission import AdmissionBuilder, Bounds
from collector.filter.decode import json as json_decoder
from collector.filter.decode import mapping as mapping_decoder
from collector.filter.reader import Reader
from collector.filter.router import EventRouter
from collector.filter.sdk_records import SdkRecordFilter
from collector.filter.text import SLICE
from collector.testing.laws import fixed_key
from tests.filter.test_paths import _OPTIONAL
from tests.filter.test_sdk_records import NOW
from tests.support.make_schemas import sample

OS = "  os.type: {kind: enum, values: [linux, windows], from: [o], REST}\n"
LINUX = {"o": "linux"}


def never(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("the slow way")


@pytest.mark.parametrize("more", ["", "consent: choices"])
def test_a_single_event(more: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tested = Filter(sample(OS, more, _OPTIONAL))
    web = Filter(load_schema("web"), keys=fixed_key)
    monkeypatch.setattr(Filter, "_admissions", never)
    for event in (LINUX, json.dumps(LINUX).encode()):
        assert tested.admit(event).tally.admitted == 1
        assert tested.admit(event, peer="192.0.2.1").tally.admitted == 1
        assert tested.admit_by_grant("json", event)[0].tally.admitted == 1
    assert web.admit({"os.type": "linux"}).tally.admitted == 1
    assert tested.admit(b'{"o":1}').tally.rejected == {"nothing_admitted": 1}


def test_a_filter_without_choices_looks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventRouter, "router_for", never)
    tested = Filter(sample(OS, "records: list"))
    assert tested.router.consent is None
    assert tested.admit({"list": [LINUX]}).tally.admitted == 1


_ORDINARY = [b'{"o":"linux"}', b"{}", b'{"o":"linux","a":{"b":[1]}}', b'{"o":"linux"}']
_LINES = {
    "short": b"\n".join(_ORDINARY),
    "ended": b"\n".join([*_ORDINARY, b""]),
    "CRLF": b"\r\n".join([*_ORDINARY, b""]),
    "beyond ASCII": '{"o":"linux","a":"é"}\n{"o":"linux"}\n'.encode(),
    "long": b'{"o":"linux","a":"%s"}\n' % (b"a" * (SLICE - 100)),
    "many": b'{"o":"linux"}\n' * 20_000,
}


@pytest.mark.parametrize("name", _LINES)
@pytest.mark.parametrize("more", ["", "consent: choices"])
def test_lines(name: str, more: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several are decoded at once."""
    monkeypatch.setattr(EventRouter, "add_events", never)
    found = Filter(sample(OS, more, _OPTIONAL)).admit_lines(_LINES[name]).tally
    assert found.received == len(_LINES[name].splitlines())
    assert found.admitted >= max(1, found.received - 1)


@pytest.mark.parametrize(
    "text", [b"\n".join(_ORDINARY), b'\n\n{"o":"linux"}\n\n{}\n\n', b"{}\n1\n"]
)
def test_blank_lines_and_others(text: bytes) -> None:
    """They need the slow way, which counts what is there."""
    found = Filter(sample(OS)).admit_lines(text).tally
    assert found.received == len([line for line in text.splitlines() if line])
    assert found.admitted == text.count(b"linux")


@pytest.mark.parametrize("event", [LINUX, LINUX | {"chat": "hi"}])
@pytest.mark.parametrize("around", [{}, {"chat": "hi"}])
def test_records_in_a_document(event: Any, around: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are decoded with it, and their judge is made before the first event."""
    tested = Filter(sample(OS, "records: list"))
    objects, code = tested.router.readers.objects, Reader.code
    document = json.dumps({**around, "list": [event, event]}).encode()

    def other(reader: Reader, *arguments: Any) -> Any:
        return never() if reader is objects else code(reader, *arguments)

    monkeypatch.setattr(Reader, "code", other)
    monkeypatch.setattr(EventRouter, "read", never)
    found = tested.admit(document).tally
    assert (found.admitted, found.content["chat"]) == (2, 2 * ("chat" in around | event))


_BELOW = """
  os.type: {kind: enum, values: [linux], from: [a.b, 'c[1]', 'c[0].d', o], REST}
  os.name: {kind: enum, values: [linux], from: [o.p, 'q[0]', q], REST}
"""


@pytest.mark.parametrize(
    "event", [{"a": {"b": "linux"}}, {"c": [1, "linux"]}, {"c": [{"d": "linux"}]}, {"o": "linux"}]
)
def test_members_of_the_expected_types(event: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries decode whole events, nested ones too."""
    for module in (json_decoder, mapping_decoder):
        monkeypatch.setattr(module, "_fill", never)
    tested = Filter(sample(_BELOW))
    assert tested.admit(event).tally.admitted == 1
    assert tested.admit(json.dumps(event).encode()).tally.admitted == 1
    kind = tested.router.readers.objects.shape.kind
    assert msgspec.json.decode(json.dumps(event), type=kind) is not None


def test_types_of_shapes() -> None:
    """A member that is an object and records is decoded apart."""
    for name in ("conferencing", "web", "participants-qos"):
        tested = Filter(load_schema(name), keys=fixed_key)
        assert tested.router.readers.objects.shape.is_typed
    apart = Filter(sample(OS, "records: [list.a, list]"))
    assert not apart.router.readers.objects.shape.is_typed
    assert Filter(sample(OS, "records: list")).router.readers.objects.shape.is_typed


def test_records_of_an_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    tested = Filter(sample(OS), as_of=NOW)
    monkeypatch.setattr(SdkRecordFilter, "_take_lines", never)
    line = '{"schema":"sample/1.0.0","os.type":"linux"%s,"received":"2026-06-01T12:%d:00Z"}\n'
    for minute in (29, 30):
        for counts in (["", ""], ["", ',"count":2', ',"count":524288'], [',"count":4'] * 3):
            text = "".join(line % (count, minute) for count in counts).encode()
            (batch,) = tested.admit_records(text)
            assert batch.payload.count(b"\n") == len(counts)
            assert batch.received == f"2026-06-01T12:{minute}:00Z"


@pytest.mark.parametrize("member", ['"os.type":"linux"', '"os.name":"linux"'])
def test_a_record_of_an_sdk_without_a_required_field(member: str) -> None:
    both = f"{OS}  os.name: {{kind: enum, values: [linux], REST}}\n"
    tested = Filter(sample(both.replace("REST", "required: true, REST", 1)), as_of=NOW)
    line = f'{{"schema":"sample/1.0.0",{member},"received":"2026-06-01T12:30:00Z"}}\n'
    (batch,) = tested.admit_records(line.encode())
    assert batch.tally.rejected == ({} if "type" in member else {"missing_required": 1})


def test_an_event_refuses_a_purpose_and_has_a_sender() -> None:
    """Two plans share one event, which stays a single one."""
    fields = f"{OS}  client.address: {{kind: ip, source: peer, REST}}\n"
    tested = Filter(sample(fields, "consent: choices", _OPTIONAL))
    event = {**LINUX, "choices": ["choice"]}
    for form in (event, json.dumps(event).encode()):
        (record,) = tested.admit(form, peer="192.0.2.1").records
        assert record["client.address"] == "192.0.2.1"


def test_what_is_no_event_has_no_size() -> None:
    found: Any = 5
    assert Filter(sample(OS)).admit(found).tally.bytes_in == 0


def test_a_dictionary_is_json() -> None:
    tested = Filter(sample(OS, "records: list"))
    assert tested.admit_by_grant("ndjson", {"list": [LINUX]})[0].tally.admitted == 1


def test_narrower_routers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    router = Filter(sample(OS, "consent: choices", _OPTIONAL)).router
    refused = frozenset(["choice"])
    found = router.without(refused)
    monkeypatch.setattr(router, "_narrow", never)
    assert router.without(refused) is found


def test_one_limit_for_a_document_and_for_each_line(monkeypatch: pytest.MonkeyPatch) -> None:
    tested = Filter(sample(OS, "records: list"))
    monkeypatch.setattr("collector.filter.router.MAX_ITEMS", 3)
    two = json.dumps({"list": [LINUX] * 2}).encode()
    assert tested.admit_lines(b"\n".join([two] * 3)).tally.admitted == 6
    found = tested.admit(b"[%s,%s]" % (two, two)).tally
    assert (found.admitted, found.rejected) == (2, {"too_large": 2})


def test_a_nested_path_before_a_plain_one() -> None:
    tested = Filter(sample(OS, "records: ['a[].b', list]"))
    event = {"a": [{"b": [LINUX], **LINUX}], "list": [LINUX] * 3}
    for form in (event, json.dumps(event).encode()):
        assert tested.admit(form).tally.admitted == 1


def test_elements_too_deep_to_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their records are counted, and those of the next element admitted."""
    tested = Filter(sample(OS, "records: ['a[].b[]']"))
    entered, enter = list[Any](), EventRouter.enter

    def deep(router: EventRouter, element: Any, *others: Any) -> Any:
        entered.append(element)
        return enter(router, element, *others) if len(entered) > 1 else None

    monkeypatch.setattr(EventRouter, "enter", deep)
    found = tested.admit({"a": [{"b": [LINUX] * 2}, {"b": [LINUX]}]}).tally
    assert (found.admitted, found.rejected) == (1, {"too_deep": 2})


def test_the_code_of_a_judge() -> None:
    """Each name in it is explained."""
    for more, called in (
        ("", "def judge(events, records, notes, rejected,"),
        ("records: l", ", around,"),
    ):
        code = Filter(sample(OS, more)).router.code
        assert "# c0: os.type\n" in code
        assert "# e.m0: o\n" in code
        assert called in code


def test_elements_are_counted_before_they_are_read() -> None:
    builder = AdmissionBuilder(Filter(sample(OS)).plan, bounds=Bounds(2, 100))
    builder.expect_elements(2)
    with pytest.raises(InputError):
        builder.expect_elements(1)
