"""Leaks: where a value could go besides the record, and that it does not go there.

Canaries are planted in every slot of good and broken payloads, and looked for in everything that a
program, a logger or an error reporter could get hold of afterwards.
"""

from __future__ import annotations

import io
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from collector import (
    Admission,
    ConfigError,
    Filter,
    InputError,
    Keyring,
    SchemaError,
    Tally,
    load_schema,
)
from collector.filter.admission import AdmissionBuilder
from collector.filter.explain import explain
from collector.filter.records import TEXTS
from tests.conftest import IS_WHOLE
from tests.filter.schema_cases import NOW, schema_case
from tests.filter.traces import (
    CANARY,
    DIGITS,
    exceptions,
    is_ours,
    mentions,
    reachable,
    told_by,
    watched,
)

SCHEMAS = ("conferencing", "conferencing-strict", "participants-qos", "every-kind")
GOOD = '"ip":"203.0.113.7","ip_address":"203.0.113.7"'
HOLES = [
    *('"%s"', '["%s"]', '{"%s":"%s"}', '[[{"a":"%s"},"%s"]]', DIGITS, f"-{DIGITS}.5"),
    *(f"0.{DIGITS}e-3", f"{DIGITS}e999", DIGITS * 400),
]
SLOTS = (
    '"%(name)s":%(value)s',
    '"%(name)s":{"%(name)s":%(value)s}',
    *(
        f'"{name}":%(value)s'
        for name in ("ip", "ip_address", "device", "os", "client", "os.version")
    ),
    *(f'"{name}":%(value)s' for name in ("cpu", "joined", "net", "participants", "device.id")),
    *(f'"{name}":%(value)s' for name in ("chat", "audio", "video", "transcript", "attachments")),
    '"os":{"version":%(value)s,"type":%(value)s,"build_id":%(value)s,"name":%(value)s}',
    '"device":{"type":%(value)s,"model":{"name":%(value)s,"identifier":%(value)s}}',
    '"cpu":{"count":%(value)s,"load":%(value)s,"throttled":%(value)s}',
    '"device.type":[],"chat":%(value)s,"os":{"type":0,"%(name)s":%(value)s}',
)
BREAKS: dict[str, Callable[[str], bytes]] = {
    "whole": lambda text: text.encode(),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "listed": lambda text: f"[{text},{text}]".encode(),
    "records": lambda text: f'{{{GOOD},"participants":[{text},{{}},"{CANARY}"]}}'.encode(),
    "records twice": lambda text: (
        f'[{{"participants":[{text}]}},{{"participants":{text}}}]'.encode()
    ),
    "cut": lambda text: text[:-2].encode(),
    "cut in the canary": lambda text: text[: text.rfind("-")].encode(),
    "trailing": lambda text: f"{text}{CANARY}".encode(),
    "leading": lambda text: f"{CANARY}{text}".encode(),
    "alone": lambda _: f'"{CANARY}"'.encode(),
    "bad escape": lambda text: text.replace("-", "\\x", 1).encode(),
    "bad byte": lambda text: text.encode().replace(b"-", b"\xff", 1),
    "half a character": lambda text: text.encode() + b"\xe2\x82",
    "surrogate": lambda text: text.replace("-", "\\ud800", 1).encode(),
    "control": lambda text: text.replace("-", "\x00", 1).encode(),
    "missing colon": lambda text: text.replace(":", " ", 1).encode(),
    "twice": lambda text: (text + text).encode(),
    "too deep": lambda text: (f'{{"{CANARY}":' * 2000 + text).encode(),
    "many": lambda text: f"[{','.join([text] * 3)},{','.join(['0'] * 50_000)}]".encode(),
    "utf-16": lambda text: text.encode("utf-16"),
}


def texts() -> Iterator[str]:
    """A good event with a canary in one slot, in each shape."""
    for slot in SLOTS:
        for hole in HOLES if "value" in slot else HOLES[:1]:
            value = hole.replace("%s", CANARY)
            yield f"{{{GOOD},{slot % {'name': CANARY, 'value': value}}}}"


def shown_by(admission: Admission) -> str:
    """All that an admission shows."""
    tally = admission.tally
    shown = [repr(admission), repr(tally), repr(Tally() + tally), json.dumps(tally.as_dict())]
    return "\n".join([*shown, admission.encode().decode("latin-1"), repr(admission.records)])


@pytest.mark.parametrize("kind", [Admission, Tally])
def test_there_is_one_text_of_each(kind: type) -> None:
    for name in ("__str__", "__format__"):
        assert getattr(kind, name) is getattr(object, name)


def as_mapping(payload: bytes) -> Any:
    """The payload as a mapping, if Python reads it as one."""
    try:
        return json.loads(payload.decode(), parse_int=float)
    except (ValueError, RecursionError):
        return None


@pytest.mark.parametrize("broken", BREAKS)
def test_nothing_leaks(broken: str, capfd: pytest.CaptureFixture[str]) -> None:
    """No output, error, log line, representation or object of the filter holds a canary, wherever
    in a payload it was and whatever was wrong with it. Each text is given in one of three types,
    and in the others where something else is wrong with it; and each under one of the schemas."""
    some = list(texts()) if broken not in ("too deep", "many") else list(texts())[::9]
    payloads = [BREAKS[broken](text) for text in some]
    assert all(mentions(payload) for payload in payloads if broken not in _SPLIT)
    for at, schema in enumerate(SCHEMAS):
        first = [*BREAKS].index(broken) + at
        _look(
            schema_case(schema).filter,
            payloads if IS_WHOLE else payloads[at :: len(SCHEMAS)],
            first,
            capfd,
        )


def _look(
    filter_: Filter, payloads: list[bytes], first: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with watched(capfd):
        for number, payload in enumerate(payloads, first):
            given: bytes | memoryview | str = payload
            if number % 3:
                text = payload.decode("utf-8", "surrogateescape")
                given = memoryview(payload) if number % 3 == 1 else text
            for admit in (filter_.admit, filter_.admit_lines):
                assert not mentions(shown_by(admit(given)))
            event = as_mapping(payload)
            assert not mentions(shown_by(filter_.admit(event)))
            del event
    assert not any(map(mentions, reachable(filter_)))


_SPLIT = ("cut", "bad escape", "bad byte", "surrogate", "control", "cut in the canary", "utf-16")
"""Breaks that may go through the middle of the only canary."""


def hides_its_cause() -> None:
    try:
        json.loads(CANARY)
    except ValueError:
        raise InputError("E101", "clean") from None


def test_the_search_finds() -> None:
    """The search itself finds a canary in each of the places where it looks."""
    filter_ = Filter(load_schema("conferencing"))
    assert not any(map(mentions, reachable(filter_)))
    held: Any = filter_
    held.router.readers.objects.shape.leak = {"leak": [CANARY]}
    assert any(map(mentions, reachable(filter_)))
    assert any(map(mentions, reachable(lambda leak=CANARY: leak)))
    assert any(
        mentions(text) for text in told_by(UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, ""))
    )
    with pytest.raises(InputError) as caught:
        hides_its_cause()
    assert any(map(mentions, told_by(caught.value)))
    assert caught.value in exceptions()
    assert mentions(DIGITS.encode())


def test_representations(capfd: pytest.CaptureFixture[str]) -> None:
    """No object on the way shows an event, a record or a remembered value."""
    filter_ = schema_case("conferencing").filter
    version = "17.4.1.31337"
    assert filter_.admit({"os": {"version": version}, "ip": "203.0.113.77"}).tally.admitted == 1
    router = filter_.router
    builder = router.builder()
    router.add_document(b'{"ip":"203.0.113.77","os":{"version":"17.4.1.31337"}}', builder)
    text = b'{"ip":"203.0.113.77"}'
    found = router.read(text, TEXTS, builder)
    assert found is not None
    outer = router.enter(text, TEXTS, router.outermost(builder))
    shown = [
        *(filter_, filter_.plan, filter_.schema, router, builder, outer, builder.finish(0, False)),
        *(found[1], found[0].of_object({"ip": "203.0.113.77"})),
        *(column.memo for column in filter_.plan.columns),
        *(column.accept for column in filter_.plan.columns),
    ]
    for one in shown:
        for said in (repr(one), str(one), f"{one}"):
            assert "203.0.113.77" not in said
            assert "31337" not in said
    assert isinstance(builder, AdmissionBuilder)
    assert capfd.readouterr() == ("", "")


class KeysFailed(Exception):
    """What a caller's own ``keys`` raises."""


@pytest.mark.parametrize("raised", [KeysFailed, ConfigError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("sibling", ["", '"os.version":[],'])
def test_raised_on_the_way(raised: type[BaseException], sibling: str) -> None:
    schema, calls = schema_case("every-kind").schema, iter([bytes(32)])

    def keys(_reference: str, _period: int) -> bytes:
        for key in calls:
            return key
        raise raised("E202", "no key") if raised is ConfigError else raised()

    filter_ = Filter(schema, as_of=NOW, keys=keys)
    text = f'{{"device.id":"{CANARY}",{sibling}"{CANARY}":"{CANARY}","cpu":{{"load":{DIGITS}}}}}'
    given: tuple[Any, ...] = (text, text.encode(), memoryview(text.encode()), json.loads(text))
    for admit in (filter_.admit, filter_.admit_lines):
        for payload in given:
            if admit == filter_.admit_lines and isinstance(payload, dict):
                continue
            with pytest.raises(raised) as caught:
                admit(payload)
            frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
            assert sum(map(is_ours, frames)) > 2, "it came from inside"
            assert not any(map(mentions, told_by(caught.value)))
    for lines in (False, True):
        with pytest.raises(raised) as caught:
            explain(filter_.router, given[1], lines)
        assert not any(map(mentions, told_by(caught.value)))
    assert not any(map(mentions, reachable(filter_)))


def _interrupted(call: Callable[[], object], after: int) -> BaseException | None:
    """What a call raises that is interrupted after so many lines of the filter; ``None`` if it has
    fewer."""
    left, before = iter(range(after)), sys.gettrace()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        is_begun = frame.f_code.co_name not in ("admit", "cleared", "clear")
        if event == "line" and is_begun and is_ours(frame) and next(left, None) is None:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt as error:
        return error
    finally:
        sys.settrace(before)
    return None


def test_interrupted_anywhere() -> None:
    filter_ = schema_case("conferencing").filter
    text = f'{{"os":["{CANARY}"],"device":{{"type":"{CANARY}"}},"{CANARY}":1}}'.encode()
    calls: list[Callable[[], object]] = [
        lambda: filter_.admit(text),
        lambda: filter_.admit_lines(text + b"\n" + text[:-1]),
    ]

    def failing() -> None:
        kept = "kept"
        raise ValueError(kept)

    for call in calls:
        errors: list[BaseException] = []
        try:
            failing()
        except ValueError as mine:
            before = mine
            while (error := _interrupted(call, len(errors))) is not None:
                errors.append(error)
        assert len(errors) > 10
        assert not any(mentions(told) for error in errors for told in told_by(error))
        assert all(error.__context__ is before for error in errors)
        *_, (frame, _) = traceback.walk_tb(before.__traceback__)
        assert frame.f_locals == {"kept": "kept"}


@pytest.mark.parametrize(
    "payload",
    ["", CANARY, f'{{"{CANARY}":', f'{{"ip":["{CANARY}"]}}', "[" * 9999],
    ids=["nothing", "text", "cut", "wrong type", "too deep"],
)
def test_an_exception_in_flight(payload: str) -> None:
    """A caller that is handling an exception of its own gets nothing of ours attached to it."""
    filter_ = schema_case("conferencing").filter
    mine = ValueError("mine")
    try:
        raise mine
    except ValueError:
        for given in (payload, payload.encode(), payload.encode() + b"\xff", {CANARY: payload}):
            filter_.admit(given)
            filter_.admit_lines(given)  # type: ignore[arg-type]
        assert sys.exc_info()[1] is mine
    assert (mine.__context__, mine.__cause__, getattr(mine, "__notes__", None)) == (
        None,
        None,
        None,
    )
    assert [frame.f_code.co_name for frame, _ in traceback.walk_tb(mine.__traceback__)] == [
        "test_an_exception_in_flight"
    ]
    assert not any(map(mentions, told_by(mine)))


def test_misuse(tmp_path: Path) -> None:
    """An error of the programmer or operator tells nothing of the events before it."""
    filter_ = schema_case("conferencing").filter
    schema = load_schema("conferencing")
    faulty = tmp_path / "faulty.yaml"
    faulty.write_text("schema: [\n", encoding="utf-8")
    wrong: list[tuple[type[Exception], Callable[[], object]]] = [
        (ConfigError, lambda: Filter(schema, purposes=["advertising"])),
        (ConfigError, lambda: Filter(schema_case("every-kind").schema)),
        (ConfigError, lambda: Filter(schema_case("every-kind").schema, keys=Keyring())),
        (SchemaError, lambda: load_schema("no-such-schema")),
        (SchemaError, lambda: load_schema(faulty)),
        (SchemaError, lambda: load_schema(tmp_path / "missing.yaml")),
        (TypeError, lambda: filter_.admit(event=CANARY, lines=True)),  # type: ignore[call-arg]
        (TypeError, lambda: filter_.admit({}, CANARY)),  # type: ignore[call-arg]
    ]
    event = {"ip": CANARY, CANARY: [CANARY]}
    for kind, call in wrong:
        filter_.admit(event)
        filter_.admit(f'{{"ip":"{CANARY}",'.encode())
        with pytest.raises(kind) as caught:
            call()
        assert not any(map(mentions, told_by(caught.value)))


def test_an_event_taken_for_a_schema(tmp_path: Path) -> None:
    """Given an event file in place of a schema, the faults name its keys and no value of it."""
    path = tmp_path / "event.yaml"
    event = {
        "ip": CANARY,
        "chat": [{"text": CANARY, "at": int(DIGITS)}],
        "schema": CANARY,
        "version": DIGITS,
        "title": {"nested": CANARY},
        "owner": [CANARY],
        "purposes": {"ops": {"use": CANARY, "basis": CANARY, "reason": CANARY, "optional": CANARY}},
        "fields": {
            "os.type": {"kind": CANARY},
            "os.name": CANARY,
            "device.type": {"kind": "enum", "values": [CANARY, CANARY], "category": CANARY},
            "os.version": {"kind": "version", "parts": int(DIGITS), "maximum": [CANARY]},
            "os.build_id": {"kind": "token", "pattern": f".*{CANARY}", "purposes": [CANARY]},
            "client.address": {"kind": "ip", "from": [f"..{CANARY}"], "retention": CANARY},
        },
        "tests": [CANARY, {"name": CANARY, "event": CANARY, "keeps": CANARY}],
        "max_bits": CANARY,
    }
    for text in (json.dumps(event), json.dumps([event]), json.dumps(event)[:-9], CANARY):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SchemaError) as caught:
            load_schema(path)
        error = caught.value
        assert not mentions(str(error))
        assert not mentions(repr(error))
        assert not any(mentions(str(part)) for fault in error.faults for part in fault)
        assert (error.__context__, error.__cause__) == (None, None)


def test_explanations(capfd: pytest.CaptureFixture[str]) -> None:
    """An explanation shows admitted values and names of the schema, and nothing else."""
    for name in SCHEMAS:
        router = schema_case(name).filter.router
        for broken, make in BREAKS.items():
            if broken in ("too deep", "many"):
                continue
            for text in list(texts())[::11]:
                with io.StringIO() as out:
                    for lines in (False, True):
                        print(list(explain(router, make(text), lines)), file=out)
                    assert not mentions(out.getvalue()), broken
    assert capfd.readouterr() == ("", "")
