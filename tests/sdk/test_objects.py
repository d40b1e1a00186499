"""Objects as events: only what the schema names is read of them, and none of their code runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, computed_field, field_serializer

from collector import Collector
from collector.filter import Filter
from collector.schema import load_schema
from collector.sdk.objects import ObjectReader
from tests.support.rows import for_each

_FILTER = Filter(load_schema("conferencing"))
_OBJECTS = ObjectReader(_FILTER)


class Kind(StrEnum):
    """A form of a device."""

    PHONE = "phone"


class System(Enum):
    """A system."""

    LINUX = "linux"


@dataclass
class Device:
    """A dataclass in an event."""

    type: Any = None
    manufacturer: str | None = None
    serial: str = "canary"


class Os(BaseModel):
    """A model in an event."""

    type: System | str
    version: str | None = None


class Join(BaseModel):
    """An event."""

    model_config = ConfigDict(extra="allow")

    ip_address: IPv4Address | IPv6Address | str
    device: Device | None = None
    os: Os | None = None
    chat: list[str] = Field(default_factory=list)
    user_name: str = "canary"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def transcript(self) -> str:
        raise RuntimeError("canary")

    @field_serializer("chat")
    def _serialised(self, value: list[str]) -> list[str]:
        raise RuntimeError("canary")


@dataclass(slots=True)
class Slotted:
    """A dataclass without a ``__dict__``."""

    ip: str
    os: dict[str, Any] = field(default_factory=dict)


def _record(event: object) -> dict[str, Any]:
    (record,) = _FILTER.admit(_OBJECTS.plain(event)).records
    return {key: value for key, value in record.items() if key != "schema"}


def test_a_model() -> None:
    """Models in models, dataclasses in models, enumerations, addresses; aliases of the schema."""
    event = Join(
        ip_address=ip_address("2001:db8::7"),
        device=Device(Kind.PHONE, "Dell Inc."),
        os=Os(type=System.LINUX, version="6.1"),
        chat=["not kept"],
    )
    assert _record(event) == {
        "client.address": "2001:db8::7",
        "device.type": "phone",
        "device.manufacturer": "Dell Inc.",
        "os.type": "linux",
        "os.version": "6.1",
    }
    assert _FILTER.admit(_OBJECTS.plain(event)).tally.content == {"chat": 1}


def test_a_dataclass() -> None:
    assert _record(Slotted("::1", {"type": "linux", "name": "canary" * 99})) == {
        "client.address": "::1",
        "os.type": "linux",
    }
    assert _record(Slotted("::1")) == {"client.address": "::1"}


def test_only_what_is_named_is_read() -> None:
    """The filter gets neither values nor names of other members."""
    event = Join(ip_address="::1", device=Device("phone"), more="canary", chat=["canary"])
    plain = _OBJECTS.plain(event)
    assert plain == {"ip_address": "::1", "device": {"type": "phone"}, "chat": True}
    assert "canary" not in repr(plain)


def test_names_outside() -> None:
    """Aliases of a model count, and so do its extra members."""

    class Event(BaseModel):
        model_config = ConfigDict(extra="allow", populate_by_name=True)
        address: str = Field(alias="ip_address")
        kind: str = Field(serialization_alias="device_type")

    event = Event.model_validate({"ip_address": "::1", "kind": "phone", "os": {"type": "linux"}})
    assert _record(event) == {
        "client.address": "::1",
        "device.type": "phone",
        "os.type": "linux",
    }


def test_what_is_no_plain_value_is_of_the_wrong_type() -> None:
    """The filter counts it."""
    tally = _FILTER.admit(_OBJECTS.plain(Slotted("::1", {"type": Path("linux")}))).tally
    assert tally.dropped == {"os.type": {"wrong_type": 1}}
    tally = _FILTER.admit(_OBJECTS.plain(Slotted(Path("x")))).tally  # type: ignore[arg-type]
    assert tally.dropped == {"client.address": {"wrong_type": 1}}


def test_a_class_is_no_event() -> None:
    for event in (Join, Device, 5, object(), [1]):
        assert _OBJECTS.plain(event) is event


@for_each("as_tuple", [False, True])
def test_lists_of_records(as_tuple: bool) -> None:
    schema = load_schema("participants-qos")
    filter_ = Filter(schema)
    way = filter_.plan.records[0].paths[0]

    @dataclass
    class Participant:
        ip_address: str
        device: str = "Windows"
        user_name: str = "canary"

    people: Any = [Participant("203.0.113.7"), Participant("203.0.113.8")]
    document: Any = make_dataclass("Document", [str(way[0])])
    made = document(tuple(people) if as_tuple else people)
    plain = ObjectReader(filter_).plain(made)
    assert "canary" not in repr(plain)
    assert plain.keys() == {way[0]}
    found = filter_.admit(plain).records
    assert [record["client.address"] for record in found] == ["203.0.113.7", "203.0.113.8"]


@given(
    st.builds(
        Join,
        ip_address=st.one_of(st.ip_addresses(), st.text()),
        device=st.none() | st.builds(Device, st.none() | st.sampled_from(Kind) | st.text()),
        os=st.none() | st.builds(Os, type=st.sampled_from(System) | st.text()),
        chat=st.lists(st.text()),
    )
)
def test_a_model_means_what_its_json_means(event: Join) -> None:
    """It has the same record as a dictionary of the same values."""
    device = event.device and {"type": event.device.type, "serial": event.device.serial}
    if device and isinstance(device["type"], Kind):
        device["type"] = device["type"].value
    system = event.os and {
        "type": event.os.type.value if isinstance(event.os.type, System) else event.os.type
    }
    address = event.ip_address if isinstance(event.ip_address, str) else str(event.ip_address)
    same = {"ip_address": address, "device": device, "os": system, "chat": event.chat}
    mine, other = _FILTER.admit(_OBJECTS.plain(event)), _FILTER.admit(same)
    assert (mine.encode(), mine.tally) == (other.encode(), other.tally)


def test_times_are_texts() -> None:
    """They are written as in JSON."""
    moment = datetime(2026, 11, 24, 10, 20, tzinfo=UTC)
    plain = _OBJECTS.plain(Slotted("::1", {"version": moment}))
    assert plain["os"]["version"] == moment.isoformat()


def _foreign(name: str) -> Any:
    """Make a value that ends the program that looks at it, in one way or another."""

    def exits(_: object) -> Any:
        raise SystemExit("canary")

    class _Exits:
        """Says of itself what it is, and ends the program that asks."""

        __class__: Any = property(exits)

    class _ExitsAlways:
        def __getattribute__(self, name: str) -> Any:
            raise SystemExit("canary")

    class _HashExits(type):
        def __hash__(cls) -> int:
            raise SystemExit("canary")

        def __eq__(cls, other: object) -> bool:
            raise SystemExit("canary")

    class _LookupExits(type):
        def __getattribute__(cls, name: str) -> Any:
            raise SystemExit("canary")

    class _Hashed(metaclass=_HashExits):
        pass

    class _LookedUp(metaclass=_LookupExits):
        pass

    made: dict[str, Callable[[], Any]] = {
        "class": _Exits,
        "always": _ExitsAlways,
        "hash": _Hashed,
        "look-up": lambda: type.__call__(_LookedUp),
        "a type": lambda: _Exits,
    }
    return made[name]()


class _Kind(Enum):
    LINUX = "linux"

    def __getattribute__(self, name: str) -> Any:
        if name in ("value", "__class__"):
            raise SystemExit("canary")
        return super().__getattribute__(name)


@dataclass
class _Event:
    ip_address: Any = None
    os: Any = None
    chat: Any = None

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit("canary")


@for_each("name", ["class", "always", "hash", "look-up", "a type"])
def test_no_code_of_an_event_ends_the_program(tmp_path: Path, name: str) -> None:
    foreign = _foreign(name)
    events = [
        foreign,
        [foreign],
        {"ip_address": foreign, "os": {"type": foreign}},
        _Event(foreign, {"type": foreign}, foreign),
        _Event("203.0.113.7", foreign),
        _Event("203.0.113.7", {"type": _Kind.LINUX}),
    ]
    with Collector("conferencing", f"sqlite:///{tmp_path / 'store.db'}") as telemetry:
        for event in events:
            telemetry.emit(event)
        for argument in ("peer", "user_agent", "consent"):
            telemetry.emit({"os": {"type": "linux"}}, **{argument: foreign})
        account = telemetry.tally()
    assert account.received == len(events) + 3
    assert account.admitted >= 2
    assert account.rejected["not_an_object"] >= 1
