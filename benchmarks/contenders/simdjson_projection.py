"""pysimdjson and a projection by hand: index the event, make objects of what is needed only."""

from __future__ import annotations

from typing import Any

import orjson
import simdjson

from benchmarks.contenders.base import SCHEMA, Contender, Outcome, Record, each_line, joined, parsed


class SimdjsonProjection:
    """One parser, as its documentation advises, and lazy access; no value is looked at."""

    name = "simdjson_projection"
    title = "pysimdjson + projection by hand"
    checks_values = False
    does_not = "check, alias, count, skip bad lines"
    schemas = ("conferencing",)

    def prepare(self, lines: list[bytes], schema: str) -> None:
        self._payload = joined(lines)
        self._parser = simdjson.Parser()

    # On medium events, in µs: `as_dict` of the three objects 3.0, `get` of each member 4.1,
    # `at_pointer` of each field 5.0.
    def run(self) -> bytes:  # noqa: C901
        parse, dumps, newline = self._parser.parse, orjson.dumps, orjson.OPT_APPEND_NEWLINE
        nothing: dict[str, Any] = {}
        out: list[bytes] = []
        for line in each_line(self._payload):
            event = parse(line)
            # A document must be let go of before the parser takes the next.
            lazy = event.get("client")
            client = nothing if lazy is None else lazy.as_dict()
            lazy = event.get("device")
            device = nothing if lazy is None else lazy.as_dict()
            lazy = event.get("os")
            system = nothing if lazy is None else lazy.as_dict()
            event = lazy = None
            model = device.get("model", nothing)
            record: Record = {"schema": SCHEMA}
            if (value := client.get("address")) is not None:
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

    def check(self, output: bytes) -> Outcome:
        return Outcome(parsed(output))


def contender() -> Contender:
    """Return a contender that is not prepared yet."""
    return SimdjsonProjection()
