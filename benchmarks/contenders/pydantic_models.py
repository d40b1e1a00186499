"""pydantic: nested models that check what the schema checks, then a flat record.

Catalogues and patterns are the schema's own. One difference remains: a value that is refused costs
the event here, and only its field in the collector; no corpus holds events with some valid values
and some that are refused.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Literal

import orjson
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from benchmarks.contenders import SCHEMA, Contender, Job, each_line
from collector import load_schema
from collector.schema.kinds.token import TokenField

_FIELDS = load_schema("conferencing").fields
_VERSION = r"^[0-9]{1,2}(\.[0-9]{1,2}(\.[0-9]{1,5}(\.[0-9]{1,5})?)?)?$"
"""The schema's version: at most 99.99.99999, and a last part that is cut off."""


def _address(text: str) -> str:
    address = ip_address(text)
    if address.is_multicast or address.is_link_local:
        raise ValueError("not a unicast address")
    return str(address)


def _coarse(text: str) -> str:
    return text if text.count(".") < 3 else text.rpartition(".")[0]


def _token(name: str) -> TokenField:
    field = _FIELDS[name]
    if not isinstance(field, TokenField):
        raise TypeError(f"{name} is not a token")
    return field


def _member_of(name: str) -> AfterValidator:
    entries = _token(name).entries

    def member(text: str) -> str:
        if text not in entries:
            raise ValueError("not in the catalogue")
        return text

    return AfterValidator(member)


def _pattern_of(name: str) -> str:
    return f"^(?:{_token(name).pattern})$"


class _Client(BaseModel):
    address: Annotated[str, AfterValidator(_address)] | None = None


class _Model(BaseModel):
    identifier: Annotated[str, Field(pattern=_pattern_of("device.model.identifier"))] | None = None
    name: Annotated[str, _member_of("device.model.name")] | None = None


class _Device(BaseModel):
    type: Literal["desktop", "laptop", "phone", "tablet", "room_system", "browser"] | None = None
    manufacturer: Annotated[str, _member_of("device.manufacturer")] | None = None
    model: _Model = _Model()


class _System(BaseModel):
    type: Literal["windows", "linux", "darwin", "ios", "android", "chromeos"] | None = None
    name: Annotated[str, _member_of("os.name")] | None = None
    version: Annotated[str, Field(pattern=_VERSION), AfterValidator(_coarse)] | None = None
    build_id: Annotated[str, Field(pattern=_pattern_of("os.build_id"))] | None = None


class _Event(BaseModel):
    client: _Client = _Client()
    device: _Device = _Device()
    os: _System = _System()


def _flat(event: _Event) -> dict[str, str]:
    device, model, system = event.device, event.device.model, event.os
    record = {
        "schema": SCHEMA,
        "client.address": event.client.address,
        "device.type": device.type,
        "device.manufacturer": device.manufacturer,
        "device.model.identifier": model.identifier,
        "device.model.name": model.name,
        "os.type": system.type,
        "os.name": system.name,
        "os.version": system.version,
        "os.build_id": system.build_id,
    }
    return {name: value for name, value in record.items() if value is not None}


def _make(lines: list[bytes], _schema: str) -> Job:
    validate, dumps, newline = _Event.model_validate_json, orjson.dumps, orjson.OPT_APPEND_NEWLINE
    events = each_line(lines)

    def job() -> bytes:
        out: list[bytes] = []
        for line in events():
            try:
                out.append(dumps(_flat(validate(line)), option=newline))
            except ValidationError:
                continue
        return b"".join(out)

    return job


PYDANTIC_MODELS = Contender(
    "pydantic_models",
    "pydantic models",
    "alias, count; a bad value costs the event",
    _make,
    checks_values=True,
)
