"""orjson and a projection by hand: parse the whole event, pick the fields, write a flat record."""

from __future__ import annotations

import orjson

from benchmarks.contenders.aliases import DEVICE_TYPES, OS_TYPES
from benchmarks.contenders.base import (
    QOS_SCHEMA,
    SCHEMA,
    Contender,
    Outcome,
    each_line,
    joined,
    parsed,
)


class OrjsonProjection:
    """No value is looked at, only whether it is there."""

    name = "orjson_projection"
    title = "orjson + projection by hand"
    checks_values = False
    does_not = "check, alias, count, skip bad lines"
    schemas = ("conferencing", "participants-qos")

    def prepare(self, lines: list[bytes], schema: str) -> None:
        self._payload = joined(lines)
        self._job = _events if schema == "conferencing" else _participants

    def run(self) -> bytes:
        return self._job(self._payload)

    def check(self, output: bytes) -> Outcome:
        return Outcome(parsed(output))


# Written out, because a loop over a table of names, or a dict that the absent fields are taken
# out of again, is slower.
def _events(payload: bytes) -> bytes:  # noqa: C901
    loads, dumps, newline = orjson.loads, orjson.dumps, orjson.OPT_APPEND_NEWLINE
    out: list[bytes] = []
    for line in each_line(payload):
        event = loads(line)
        device = event.get("device", {})
        model = device.get("model", {})
        system = event.get("os", {})
        record = {"schema": SCHEMA}
        if (value := event.get("client", {}).get("address")) is not None:
            record["client.address"] = value
        if (value := device.get("type")) is not None:
            record["device.type"] = value
        if (value := device.get("manufacturer")) is not None:
            record["device.manufacturer"] = value
        if (value := model.get("identifier")) is not None:
            record["device.model.identifier"] = value
        if (value := model.get("name")) is not None:
            record["device.model.name"] = value
        if (value := system.get("type")) is not None:
            record["os.type"] = value
        if (value := system.get("name")) is not None:
            record["os.name"] = value
        if (value := system.get("version")) is not None:
            record["os.version"] = value
        if (value := system.get("build_id")) is not None:
            record["os.build_id"] = value
        out.append(dumps(record, option=newline))
    return b"".join(out)


def _participants(payload: bytes) -> bytes:
    loads, dumps, newline = orjson.loads, orjson.dumps, orjson.OPT_APPEND_NEWLINE
    types, systems = DEVICE_TYPES.get, OS_TYPES.get
    out: list[bytes] = []
    for line in each_line(payload):
        for participant in loads(line)["participants"]:
            record = {"schema": QOS_SCHEMA}
            if (value := participant.get("ip_address")) is not None:
                record["client.address"] = value
            device = participant.get("device")
            if (value := types(device)) is not None:
                record["device.type"] = value
            if (value := systems(device)) is not None:
                record["os.type"] = value
            out.append(dumps(record, option=newline))
    return b"".join(out)


def contender() -> Contender:
    """Return a contender that is not prepared yet."""
    return OrjsonProjection()
