"""What only Python can hold: subclasses, enum members, objects that lie or that listen."""

from __future__ import annotations

import sys
from collections import Counter, UserDict
from datetime import date
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from ipaddress import IPv4Address
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from collector import Filter
from collector.errors import InputError
from collector.filter.admission import Bounds
from tests.filter.schema_cases import EVERY_FIELD, NOW, outcome, schema_case
from tests.filter.smuggled import Written

CONFERENCING = schema_case("conferencing").filter
ADDRESS = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7"}\n'


class Touched(BaseException):
    """A method of a foreign object was called. No ``Exception``, so that no handler swallows it."""


def touch(*_: Any, **__: Any) -> Any:
    raise Touched


_HOOKS = """
    __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __hash__ __bool__ __len__ __iter__ __contains__
    __repr__ __str__ __format__ __int__ __float__ __index__ __getitem__ __getattr__ __call__
    __bytes__ __buffer__ __instancecheck__ __subclasscheck__ encode decode get items keys startswith
""".split()

HostileMeta = type("HostileMeta", (type,), dict.fromkeys(_HOOKS, touch))


def hostile(base: type, *arguments: Any) -> Any:
    """An instance of a subclass that notices when anything but its base's code is run."""
    body = dict.fromkeys(_HOOKS, touch) | {"__class__": property(touch)}
    return base.__new__(type(f"Hostile{base.__name__}", (base,), body), *arguments)


class Word(StrEnum):
    ADDRESS = "203.0.113.7"
    PHONE = "phone"


class Level(IntEnum):
    SEVEN = 7


class Choice(Enum):
    PHONE = "phone"


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


FOREIGN = (
    *(Text("203.0.113.7"), Text("phone"), Whole(7), type("Real", (float,), {})(0.5)),
    *(type("Object", (dict,), {})(phone="phone"), type("List", (list,), {})(["phone"])),
    *(Word.ADDRESS, Word.PHONE, Level.SEVEN, Choice.PHONE, b"203.0.113.7", b"phone"),
    *(bytearray(b"phone"), memoryview(b"phone"), Decimal("0.5"), Fraction(1, 2), UUID(int=7)),
    *(IPv4Address("203.0.113.7"), NOW, NOW.date(), MappingProxyType({"phone": "phone"})),
    *({"phone"}, ("phone",), range(7), 0.5 + 0j, ValueError("phone"), NotImplemented, Text),
    *(object(), hostile(str, "203.0.113.7"), hostile(str, "phone"), hostile(int, 7)),
    *(hostile(float, 0.5), hostile(dict), hostile(list), hostile(bytes, b"phone")),
    *(hostile(object), HostileMeta("Hostile", (), {})),
    type.__call__(HostileMeta("Hostile", (), {})),
)


@pytest.mark.parametrize(("schema", "name"), EVERY_FIELD)
def test_foreign_values(schema: str, name: str) -> None:
    """In a mapping only exact built-in types count: no subclass, enum member, bytes or other object
    is a value, and no method of one is ever called."""
    made_case = schema_case(schema)
    for field_path in made_case.field_paths(name):
        expected = made_case.expected(field_path, Written(b"", (), object))
        for number, value in enumerate(FOREIGN):
            for event in made_case.documents(field_path.event(value)):
                assert outcome(made_case.filter.admit(event)) == expected, number


class Key:
    """A key that says it equals any text of the same hash, and notices when it is asked."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        raise Touched


class Like:
    """What ``msgspec.convert`` would ask for its members."""

    def __getattr__(self, name: str) -> Any:
        raise Touched

    def __getitem__(self, key: str) -> Any:
        raise Touched


class Name(StrEnum):
    ADDRESS = "ip"


class TextKey(str):
    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        raise Touched


def test_foreign_keys() -> None:
    """In a mapping only exact texts are keys, at every level; no other key is asked anything."""
    every_kind = schema_case("every-kind").filter
    listed = schema_case("participants-qos").filter
    nothing = {"received": 1, "admitted": 0, "rejected": {"nothing_admitted": 1}}
    kinds: tuple[Any, ...] = (Key, TextKey, Text)
    for key in kinds:
        event = {key("ip"): "203.0.113.7", key("chat"): "canary", key("os"): {"version": "1.2"}}
        assert outcome(every_kind.admit(event)) == (b"", nothing)
        assert outcome(every_kind.admit({"os": {key("version"): "1.2"}})) == (b"", nothing)
        mixed = {key("ip"): "canary", "cpu": {key("count"): "canary", "load": 0.5}, 7: "canary"}
        assert every_kind.admit(mixed).encode() == b'{"schema":"every-kind/1.0.0","cpu.load":0.5}\n'
        assert listed.admit({key("participants"): [{}]}).tally.rejected == Counter(not_an_object=1)
        record = {key("ip_address"): "203.0.113.7", key("audio"): 1}
        assert outcome(listed.admit({"participants": [record]})) == (b"", nothing)
    assert outcome(every_kind.admit({Name.ADDRESS: "203.0.113.7"})) == (b"", nothing)
    for key in (7, None, b"ip", ("ip",), "\ud800", Text("os"), Key("os")):
        odd: dict[Any, Any] = {key: "canary"}
        for around in (odd, {"device": {"model": odd}}, {"unlisted": odd}):
            assert CONFERENCING.admit({**around, "ip": "203.0.113.7"}).encode() == ADDRESS


def test_objects_that_are_no_mappings() -> None:
    filter_, listed = schema_case("conferencing").filter, schema_case("participants-qos").filter
    good = {"ip": "203.0.113.7", "type": "linux", "ip_address": "203.0.113.7"}
    subclass = type("Object", (dict,), {})
    one = {"received": 1, "admitted": 0, "rejected": {"not_an_object": 1}}
    none = {"received": 1, "admitted": 0, "rejected": {"nothing_admitted": 1}}
    makers: tuple[Any, ...] = (
        subclass,
        MappingProxyType,
        lambda event: list(event.items()),
        lambda _: hostile(dict),
    )
    for made in makers:
        assert outcome(filter_.admit(made(good))) == (b"", one)
        assert outcome(filter_.admit({"os": made(good)})) == (b"", none)
        assert outcome(listed.admit({"participants": [made(good)]})) == (b"", one)
    for inner in (UserDict(type="linux"), Like(), hostile(object)):
        assert CONFERENCING.admit({"os": inner, "ip": "203.0.113.7"}).encode() == ADDRESS
    elements = [good, None, "canary", 7, hostile(object), subclass(good)]
    tally = listed.admit({"participants": tuple(elements)}).tally
    assert (tally.admitted, tally.rejected) == (1, Counter(not_an_object=5))
    for faulty in (
        type("List", (list,), {})([good]),
        {"0": good},
        hostile(list),
        iter([good]),
        "canary",
    ):
        assert outcome(listed.admit({"participants": faulty})) == (b"", one)


def test_payloads() -> None:
    """JSON comes as bytes, a text or a view of either; a subclass is read without its own code, and
    what is no text is counted, never raised."""
    filter_ = schema_case("conferencing").filter
    text = '{"ip": "203.0.113.7", "chat": "é"}'
    plain = text.encode()
    expected = filter_.admit(plain).encode()
    strided = memoryview(b"".join(bytes([byte, 0]) for byte in plain))[::2]
    padded = memoryview(plain + b" " * (-len(plain) % 4)).cast("I")
    good = (text, bytearray(plain), memoryview(plain), strided, padded, Text(text))
    for payload in (*good, hostile(str, text), hostile(bytes, plain)):
        for admit in (filter_.admit, filter_.admit_lines):
            assert admit(payload).encode() == expected != b""
    released = memoryview(plain)
    released.release()
    for faulty in (released, "\ud800", hostile(str, "\ud800"), memoryview(b""), b"", ""):
        assert filter_.admit(faulty).tally.rejected == Counter(malformed=1)
    for foreign in (
        *(None, 7, 0.5, [], (), {1}, [plain], Path("x"), hostile(object), hostile(int, 7), date),
    ):
        assert filter_.admit(foreign).tally.rejected == Counter(not_an_object=1)  # type: ignore[arg-type]
        assert filter_.admit_lines(foreign).tally.rejected == Counter(malformed=1)  # type: ignore[arg-type]


def test_what_kinds_raise_is_not_taken_for_a_faulty_key() -> None:
    """An error of the caller's own ``keys``, of whatever class, comes out."""
    schema = schema_case("every-kind").schema
    calls = iter([bytes(32)])

    def keys(_reference: str, _period: int) -> bytes:
        for key in calls:
            return key
        raise ValueError("the caller's")

    tested = Filter(schema, as_of=NOW, keys=keys)
    for event in ({"device.id": "anything"}, b'{"device.id": "anything"}'):
        with pytest.raises(ValueError, match="the caller's"):
            tested.admit(event)


def test_nothing_of_the_event_is_kept() -> None:
    event: Any = {"os": {"type": "linux"}, "chat": [object()], "unlisted": [object()]}
    parts = (event, event["os"], event["chat"], event["unlisted"], event["chat"][0])
    before = list(map(sys.getrefcount, parts))
    first, second = CONFERENCING.admit(event), CONFERENCING.admit(event)
    assert list(map(sys.getrefcount, parts)) == before
    assert first.encode() == second.encode()
    assert first.tally == second.tally
    assert first.tally.content == Counter(chat=1)


def test_the_record_of_a_single_event_is_bounded() -> None:
    event = b'{"ip_address": "203.0.113.7", "os": {"type": "linux"}, "chat": ["never decoded"]}'
    (admission,) = CONFERENCING.admit_by_grant("json", event, bounds=Bounds(1, 1000))
    assert admission.tally.admitted == 1
    with pytest.raises(InputError, match="E416"):
        CONFERENCING.admit_by_grant("json", event, bounds=Bounds(1, 10))
