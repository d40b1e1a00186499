"""Who is timed: the filter, bare msgspec and orjson with a projection, for any list of fields.

The same three as in ``benchmarks.contenders``, but made from field names, because along a curve
the schema changes too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from io import BytesIO
from typing import Any

import msgspec
import orjson

from benchmarks.growth.cases import Case
from collector import Filter

Job = Callable[[], bytes]
"""Does the whole work of a case once, on a single thread; the output is NDJSON."""


def _ours(case: Case) -> Job:
    payload = case.payload()
    admit = Filter(case.schema).admit_lines if case.form == "lines" else Filter(case.schema).admit
    return lambda: admit(payload).encode()


def _bare(case: Case) -> Job:
    """Only the canonical fields, nested as they are, without any check: the floor."""
    event = _struct(_tree(case.schema.fields))
    wanted = {
        "lines": event,
        "list": list[event],  # type: ignore[valid-type]
        "records": msgspec.defstruct("Document", [("participants", list[event])]),  # type: ignore[valid-type]
    }
    decode = msgspec.json.Decoder(wanted[case.form]).decode
    encode = msgspec.json.Encoder().encode_lines
    payload = case.payload()
    return {
        "lines": lambda: encode([decode(line) for line in BytesIO(payload)]),
        "list": lambda: encode(decode(payload)),
        "records": lambda: encode(decode(payload).participants),
    }[case.form]


def _orjson(case: Case) -> Job:
    """Parse everything, pick by a function written out for the fields, write flat records."""
    loads, dumps, pick = orjson.loads, orjson.dumps, _picker(case)
    payload, newline = case.payload(), orjson.OPT_APPEND_NEWLINE
    events: Callable[[], Any] = {
        "lines": lambda: map(loads, BytesIO(payload)),
        "list": lambda: loads(payload),
        "records": lambda: loads(payload)["participants"],
    }[case.form]
    return lambda: b"".join([dumps(pick(event), option=newline) for event in events()])


JOBS: Mapping[str, Callable[[Case], Job]] = {
    "ours": _ours,
    "bare": _bare,
    "orjson_projection": _orjson,
}
"""By the contender's name; each makes a job of a case."""

TITLES: Mapping[str, str] = {
    "ours": "collector",
    "bare": "bare msgspec (floor)",
    "orjson_projection": "orjson + projection",
}


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested objects under their dotted names, to compare records."""
    leaves: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            leaves |= flat(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def _tree(fields: Iterable[str]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for field in fields:
        *parents, leaf = field.split(".")
        reduce(lambda node, name: node.setdefault(name, {}), parents, root)[leaf] = None
    return root


def _struct(tree: Mapping[str, Any]) -> Any:
    members = [
        (f"m{number}", (_struct(below) if below else str) | None, None)
        for number, below in enumerate(tree.values())
    ]
    rename = {f"m{number}": name for number, name in enumerate(tree)}
    return msgspec.defstruct("Event", members, rename=rename, gc=False, omit_defaults=True)


def _picker(case: Case) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """As one would write it by hand: each object once, then each field if it is there."""
    objects = {"": "event"}
    text = ["def pick(event):", f" record = {{'schema': {case.schema.id!r}}}"]
    for field in case.schema.fields:
        parents, _, leaf = field.rpartition(".")
        for end in [at for at, letter in enumerate(f"{parents}.") if letter == "."]:
            path = parents[:end]
            if path not in objects:
                above, _, name = path.rpartition(".")
                objects[path] = f"o{len(objects)}"
                text.append(f" {objects[path]} = {objects[above]}.get({name!r}, {{}})")
        text.append(f" if (value := {objects[parents]}.get({leaf!r})) is not None:")
        text.append(f"  record[{field!r}] = value")
    names: dict[str, Any] = {}
    exec("\n".join([*text, " return record"]), names)
    pick: Callable[[dict[str, Any]], dict[str, Any]] = names["pick"]
    return pick
