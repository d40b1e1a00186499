"""orjson and a projection by hand: parse the whole event, pick the fields, write a flat record."""

from __future__ import annotations

import orjson

from benchmarks.contenders.base import SCHEMA, Contender, Record, each_line, joined, parsed

__all__ = ["OrjsonProjection", "contender"]


class OrjsonProjection:
    """No value is looked at, only whether it is there."""

    name = "orjson_projection"
    title = "orjson + projection by hand"
    checks_values = False

    def prepare(self, lines: list[bytes]) -> None:
        self._payload = joined(lines)

    # Written out, because a loop over a table of names, or a dict that the absent fields are taken
    # out of again, is slower.
    def run(self) -> bytes:  # noqa: C901
        loads, dumps, newline = orjson.loads, orjson.dumps, orjson.OPT_APPEND_NEWLINE
        out: list[bytes] = []
        for line in each_line(self._payload):
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

    def check(self, output: bytes) -> list[Record]:
        return parsed(output)


def contender() -> Contender:
    """A contender that is not prepared yet."""
    return OrjsonProjection()
