"""Events that are Python dictionaries already: their members, unchanged, in the structs of a shape.

Only exact built-in types count, in values and in keys: a subclass could misreport itself, and
``True`` is not ``1``. No method of a foreign class is ever called. ``msgspec.convert`` takes the
members out of a dictionary: it compares only keys that are exact texts, in C, and calls no method
of a value. It would also accept types that only resemble a dictionary, so the type of each object
is checked before. A dictionary with other keys is read member by member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from collector.filter.decode.json import FAILURES
from collector.filter.shape import Shape

_TEXT_ONLY = frozenset([id(str)])


def is_list(value: Any) -> bool:
    """Return whether a value is what JSON has lists for."""
    return type(value) is list or type(value) is tuple


def mapping_decoder(shape: Shape) -> Callable[[Any], Any]:
    """Return the function that puts an event into the struct of a shape, a dictionary or a list as
    the shape is; it converts the objects of the event one by one."""
    if not shape.is_typed:
        return partial(_fill, shape)
    names: dict[str, Any] = {"convert": msgspec.convert, "FAILURES": FAILURES}
    names["fill"] = partial(_fill, shape)
    lines = [f"e = convert(event, {_bound(names, shape.loose)})", *_inner(shape, "e", names)]
    bound = "".join(f", {name}={name}" for name in names)
    text = "".join(f"        {line}\n" for line in [*lines, "return e"])
    failing = (
        "    except FAILURES:\n        pass\n    return fill(event)\n"  # a key is no plain text
    )
    text = f"def decode(event{bound}):\n    try:\n{text}{failing}"
    exec(compile(text, "<filter>", "exec"), names)  # noqa: S102 - our own text
    decode: Callable[[Any], Any] = names["decode"]
    return decode


def _bound(names: dict[str, Any], value: Any) -> str:
    name = f"q{len(names)}"
    names[name] = value
    return name


def _inner(shape: Shape, variable: str, names: dict[str, Any], indent: str = "") -> Iterator[str]:
    for node in shape.members.values():
        for attribute, inner in node.shapes:
            name = f"{variable}_{attribute}"
            kinds = ("list", "tuple") if inner.is_list else ("dict",)
            yield f"{indent}{name} = {variable}.{attribute}"
            yield f"{indent}if {' or '.join(f'type({name}) is {kind}' for kind in kinds)}:"
            converted = f"convert({name}, {_bound(names, inner.loose)})"
            yield f"{indent}    {name} = {variable}.{attribute} = {converted}"
            yield from _inner(inner, name, names, f"{indent}    ")


def _fill(shape: Shape, event: Any) -> Any:
    """Fill the struct of an object or a list member by member."""
    members = _plain(event) if type(event) is dict else dict(enumerate(event[: shape.length]))
    values: dict[str, Any] = {}
    for key, node in shape.members.items():
        value, slots = members.get(key), node.slots
        if value is None:
            continue
        if type(value) is dict and node.object is not None:
            values[slots["object"]] = _fill(node.object, value)
        elif is_list(value) and node.list is not None:
            values[slots["list"]] = _fill(node.list, value)
        if "value" in slots and slots["value"] not in values:
            values[slots["value"]] = value
        if "raw" in slots:
            values[slots["raw"]] = value
    return shape.kind(**values)


def object_members(event: dict[Any, Any]) -> list[dict[Any, Any]]:
    """Return the members that are objects."""
    return [value for value in _plain(event).values() if type(value) is dict]


def _plain(event: dict[Any, Any]) -> dict[Any, Any]:
    """Return the members whose keys are exact texts; comparing another key would call its class."""
    if _TEXT_ONLY.issuperset(map(id, map(type, event))):
        return event
    return {key: value for key, value in list(event.items()) if type(key) is str}
