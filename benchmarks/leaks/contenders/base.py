"""What contenders have in common. Standard library only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from ipaddress import ip_address
from typing import Any, NamedTuple

Event = tuple[str, str]
"""The name of a shape, and a document as JSON."""
Spec = dict[str, dict[str, dict[str, Any]]]
"""By shape and field: ``paths`` (of keys, within a record), and ``values`` or ``pattern``."""


class Contender(NamedTuple):
    """``run`` takes all events and returns an output for each. ``configuration`` is printed.
    ``timed`` does the same without remembering texts, where ``run`` does."""

    run: Callable[[list[Event]], list[str]]
    configuration: str
    version: str
    timed: Callable[[list[Event]], list[str]] | None = None


def each(function: Callable[[str, str], str]) -> Callable[[list[Event]], list[str]]:
    """Return ``run`` of a function that takes a shape and a text."""
    return lambda events: [function(shape, text) for shape, text in events]


def by_shape(function: Callable[[str, list[str]], list[str]]) -> Callable[[list[Event]], list[str]]:
    """Return ``run`` of a function that takes a shape and all texts of it at once."""

    def run(events: list[Event]) -> list[str]:
        texts: dict[str, list[str]] = {}
        for shape, text in events:
            texts.setdefault(shape, []).append(text)
        outputs = {shape: iter(function(shape, given)) for shape, given in texts.items()}
        return [next(outputs[shape]) for shape, _ in events]

    return run


def plain(value: Any) -> Any:
    """Return a JSON value with the attributes of OTLP as mappings, as programs that are given them
    see them."""
    if isinstance(value, dict):
        if isinstance(value.get("attributes"), list):
            rest = {name: plain(inner) for name, inner in value.items() if name != "attributes"}
            return rest | {"attributes": _mapping(value["attributes"])}
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def _mapping(pairs: list[Any]) -> dict[str, Any]:
    return {pair["key"]: _scalar(pair["value"]) for pair in pairs}


def _scalar(value: Any) -> Any:
    """Return the value of an ``AnyValue``."""
    kind, inner = next(iter(value.items()))
    if kind == "arrayValue":
        return [_scalar(each) for each in inner["values"]]
    if kind == "kvlistValue":
        return _mapping(inner["values"])
    return int(inner) if kind == "intValue" else inner


def attributes(item: Any) -> dict[str, Any]:
    """Return the attributes of an OTLP item that are texts, as a mapping."""
    found = {}
    for one in item.get("attributes", ()):
        found[one["key"]] = one["value"].get("stringValue")
    return found


_ITEMS = {
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics", "gauge", "dataPoints"),
}


def rows(shape: str, document: Any) -> Iterator[Any]:
    """Yield the records of a document, as somebody writes it who knows its shape."""
    if shape == "meeting":
        yield document
    elif shape == "webrtc":
        yield from document[2].values()
    elif shape == "vendor":
        yield from document["participants"]
    else:
        yield from map(attributes, _below(document, _ITEMS[shape]))


def _below(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """Yield what lies at a path through objects and lists."""
    if isinstance(value, list):
        for one in value:
            yield from _below(one, path)
    elif path:
        yield from _below(value[path[0]], path[1:])
    else:
        yield value


def at(record: Any, path: list[str]) -> Any:
    """Return what lies at a path, if there is anything."""
    for key in path:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def allowed(value: Any, field: dict[str, Any]) -> bool:
    """Return whether a value is one that the field may have."""
    if not isinstance(value, str):
        return False
    if "values" in field:
        return value in field["values"]
    if "pattern" in field:
        return re.fullmatch(field["pattern"], value) is not None
    with suppress(ValueError):
        address = ip_address(value)
        return not (address.is_multicast or address.is_link_local or "%" in value)
    return False


def walked(value: Any, change: Callable[[str], str], *, names: bool, numbers: bool) -> Any:
    """Return a JSON value with each text changed; names of members and numbers too if asked for."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [walked(one, change, names=names, numbers=numbers) for one in value]
    if isinstance(value, dict):
        return {
            change(key) if names else key: walked(one, change, names=names, numbers=numbers)
            for key, one in value.items()
        }
    if numbers and isinstance(value, int | float) and not isinstance(value, bool):
        text = json.dumps(value)
        changed = change(text)
        return value if changed == text else changed
    return value


def every_text(
    change: Callable[[str], str], configuration: str, version: str, *, strongest: bool
) -> Contender:
    """Make a contender that changes texts, each text of a document by itself; the strongest changes
    names of members and numbers, too."""

    def of(change: Callable[[str], str]) -> Callable[[list[Event]], list[str]]:
        def one(_shape: str, text: str) -> str:
            document = walked(json.loads(text), change, names=strongest, numbers=strongest)
            return json.dumps(document, ensure_ascii=False)

        return each(one)

    shown = configuration + ("; names of members and numbers, too" if strongest else "")
    return Contender(of(cache(change)), shown, version, of(change))


def lines(records: Iterable[Any], *, sort: bool) -> str:
    """Return records as NDJSON, without those that are empty; sorted, their order says nothing."""
    found = [f"{json.dumps(each, ensure_ascii=False)}\n" for each in records if each]
    return "".join(sorted(found) if sort else found)
