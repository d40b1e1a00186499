"""What the schema ``participants-qos`` makes of a value of ``device``, for contenders with a table
of their own."""

from __future__ import annotations

from collector import load_schema
from collector.schema.kinds.enum import EnumField


def _table(name: str) -> dict[str, str]:
    field = load_schema("participants-qos").fields[name]
    if not isinstance(field, EnumField):
        raise TypeError(f"{name} is not an enum")
    return {value: value for value in field.values} | dict(field.aliases)


DEVICE_TYPES = _table("device.type")
"""What the device is."""

OS_TYPES = _table("os.type")
"""What runs on it."""
