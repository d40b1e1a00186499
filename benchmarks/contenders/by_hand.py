"""A projection by hand: orjson parses the whole event; pysimdjson indexes it and makes objects of
what is needed only. No value is looked at, only whether it is there."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent
from typing import Any

import orjson

from benchmarks.contenders import FIELDS, QOS_SCHEMA, SCHEMA, Contender, Job, devices, each_line

_OBJECTS = {"client": "client", "device": "device", "device.model": "model", "os": "system"}
_DUMPS, _NEWLINE = orjson.dumps, orjson.OPT_APPEND_NEWLINE
_WITH_ORJSON = """\
event = parse(line)
client, device, system = event.get("client", {}), event.get("device", {}), event.get("os", {})
"""
# On medium events, in µs: `as_dict` of the three objects 3.0, `get` of each member 4.1, and
# `at_pointer` of each field 5.0. A document must be let go of before the parser takes the next.
_WITH_SIMDJSON = """\
event = parse(line)
client = {} if (lazy := event.get("client")) is None else lazy.as_dict()
device = {} if (lazy := event.get("device")) is None else lazy.as_dict()
system = {} if (lazy := event.get("os")) is None else lazy.as_dict()
event = lazy = None
"""


def _written(read: str, parse: Callable[[bytes], Any]) -> Callable[[Any], bytes]:
    """Return a projection that is written out, because a loop over a table of names, a call, or a
    dict that the absent fields are taken out of again, is slower."""
    body = f"{read}model = device.get('model', {{}})\nrecord = {{'schema': {SCHEMA!r}}}\n"
    for name in FIELDS:
        above, _, leaf = name.rpartition(".")
        body += f"if (value := {_OBJECTS[above]}.get({leaf!r})) is not None:\n"
        body += f"    record[{name!r}] = value\n"
    body += "out.append(dumps(record, option=newline))\n"
    head = "def job(lines, parse=parse, dumps=dumps, newline=newline):"
    text = f"{head}\n out = []\n for line in lines:\n"
    names: dict[str, Any] = {"parse": parse, "dumps": _DUMPS, "newline": _NEWLINE}
    exec(f"{text}{indent(body, '  ')} return b''.join(out)", names)
    made: Callable[[Any], bytes] = names["job"]
    return made


def _orjson(lines: list[bytes], schema: str) -> Job:
    events = each_line(lines)
    if schema == "conferencing":
        projected = _written(_WITH_ORJSON, orjson.loads)
        return lambda: projected(events())
    loads, dumps, newline = orjson.loads, _DUMPS, _NEWLINE
    types, systems = devices("device.type").get, devices("os.type").get

    def participants() -> bytes:
        out: list[bytes] = []
        for line in events():
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

    return participants


def _simdjson(lines: list[bytes], _schema: str) -> Job:
    """One parser, as its documentation advises, and lazy access."""
    import simdjson  # noqa: PLC0415 - it may not be installed

    events, projected = each_line(lines), _written(_WITH_SIMDJSON, simdjson.Parser().parse)
    return lambda: projected(events())


_DOES_NOT = "check, alias, count, skip bad lines"
ORJSON_PROJECTION = Contender(
    "orjson_projection",
    "orjson + projection by hand",
    _DOES_NOT,
    _orjson,
    ("conferencing", "participants-qos"),
)
SIMDJSON_PROJECTION = Contender(
    "simdjson_projection", "pysimdjson + projection by hand", _DOES_NOT, _simdjson
)
