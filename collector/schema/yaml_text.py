"""YAML 1.2 text into plain values, with the line and column of every key and value.

Only the plain data of JSON comes through: anchors, aliases, merge keys and tags are refused (an
alias can make a small file enormous), so are numbers and texts that JSON cannot carry, and a key
written twice is a fault, not a quiet overwrite. Size, depth and number of nodes are limited.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isfinite
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)
from ruamel.yaml.reader import ReaderError

from collector.errors import Fault
from collector.schema.source import Loc, Source

_MAX_DEPTH = 64
_MAX_NODES = 20_000
_UNPARSED = "it cannot be parsed here; check indentation, quotes and brackets"

# The YAML 1.2 core schema (section 10.3.2), whatever version a %YAML directive asks for.
_NULL = frozenset(["", "~", "null", "Null", "NULL"])
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DECIMAL = re.compile(r"[-+]?[0-9]+").fullmatch
_BASED = re.compile(r"0(?:o[0-7]+|x[0-9a-fA-F]+)").fullmatch
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?").fullmatch
_HALF_A_PAIR = re.compile("[\ud800-\udfff]").search
_HIDDEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e01ef]"
)
"""Control characters but tab and line feed, and characters that reverse or hide text: a terminal or
a reader of a review would see something else than what is written."""
_HIDDEN_MESSAGE = "a control character, or one that reverses or hides text, is here; take it out"
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)").fullmatch


def text_source(text: str, source: Source) -> Source:
    """Fill a source from YAML text."""
    try:
        events = _events(text, source)
        if not source.faults:
            nodes = list(_nodes(iter(events)))
            source.value = _plain(nodes[0], (), source) if nodes else {}
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        source.faults.append(Fault(source.file, line, column, "", _UNPARSED, "E102"))
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        problem = "a control character stands here; take it out"
        source.faults.append(Fault(source.file, line, column, "", problem, "E102"))
    except (YAMLError, RecursionError, ValueError):
        source.report((), "E102", "it cannot be parsed; is this a schema document?")
    return source


def _events(text: str, source: Source) -> list[Event]:
    """Parse the text into events. More than JSON has, more than one document, and more than the
    limits allow are faults: such a text is not composed."""
    events: list[Event] = []
    depth = nodes = documents = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        events.append(event)
        depth += isinstance(event, CollectionStartEvent)
        depth -= isinstance(event, CollectionEndEvent)
        nodes += isinstance(event, NodeEvent)
        documents += isinstance(event, DocumentStartEvent)
        if isinstance(event, NodeEvent) and (event.anchor or _is_tagged(event)):
            _refuse(
                event,
                "E102",
                "anchors, aliases and tags are not allowed; write the value out",
                source,
            )
        if isinstance(event, ScalarEvent) and event.value == "<<" and event.implicit[0]:
            _refuse(event, "E102", "merge keys are not allowed; write the keys out", source)
        if isinstance(event, DocumentStartEvent) and documents == 2:
            _refuse(event, "E102", _UNPARSED, source)
        if depth > _MAX_DEPTH or nodes > _MAX_NODES:
            message = f"keep it within {_MAX_DEPTH} levels and {_MAX_NODES} values"
            _refuse(event, "E102", message, source)
            break
    return events


def _refuse(event: Event, code: str, message: str, source: Source) -> None:
    source.faults.append(Fault(source.file, *_place(event), "", message, code))


def _place(event: Event) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _is_tagged(event: NodeEvent) -> bool:
    return str(getattr(event, "ctag", "")) not in ("", "None")


class _Node(NamedTuple):
    """A value as it is written: the event that begins it, and what lies within it."""

    start: Event
    parts: list[_Node]


def _nodes(events: Iterator[Event]) -> Iterator[_Node]:
    """Yield the nodes up to the end of a collection, or of the document."""
    for event in events:
        if isinstance(event, CollectionEndEvent):
            return
        if isinstance(event, NodeEvent):
            inner = isinstance(event, CollectionStartEvent)
            yield _Node(event, list(_nodes(events)) if inner else [])


def _plain(node: _Node, loc: Loc, source: Source) -> Any:
    place = source.places.setdefault(loc, _place(node.start))
    is_blank = isinstance(node.start, ScalarEvent) and node.start.start_mark == node.start.end_mark
    source.values[loc] = place if is_blank else _place(node.start)
    if isinstance(node.start, ScalarEvent):
        return _scalar(node.start, loc, source)
    if isinstance(node.start, MappingStartEvent):
        return dict(_members(node, loc, source))
    return [_plain(item, (*loc, index), source) for index, item in enumerate(node.parts)]


def _members(node: _Node, loc: Loc, source: Source) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for (start, _), value in zip(node.parts[::2], node.parts[1::2], strict=True):
        place, key = _place(start), getattr(start, "value", None)
        if not isinstance(key, str) or _HALF_A_PAIR(key):
            where = source.fault(loc, "E107", "a key is plain text; write it out")
            source.faults.append(where._replace(line=place[0], column=place[1]))
            continue
        inner = (*loc, key)
        source.places[inner] = place
        if _HIDDEN.search(key) or not key.isprintable():
            source.report(inner, "E107", _HIDDEN_MESSAGE)
            continue
        if key in seen:
            source.report(inner, "E122", "this key is already written above; leave one out")
            continue
        seen.add(key)
        yield key, _plain(value, inner, source)


def _scalar(event: ScalarEvent, loc: Loc, source: Source) -> Any:
    """Return a scalar by the core schema; dates stay the text they are written as."""
    text = str(event.value)
    if _HALF_A_PAIR(text):
        source.refuse(loc, "E107", "half a surrogate pair is not text; write the character itself")
        return ""
    if _HIDDEN.search(text):
        source.refuse(loc, "E107", _HIDDEN_MESSAGE)
        return _HIDDEN.sub("", text)
    if event.style:
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if not (_DECIMAL(text) or _BASED(text) or _FLOAT(text) or _NOT_FINITE(text)):
        return text
    number = _number(text)
    if number is None:
        source.refuse(loc, "E107", "a number must be finite and within 64 bits")
        return 0
    return number


def _number(text: str) -> int | float | None:
    """A number as JSON can carry it: a whole one of 64 bits or a finite double."""
    if not (_DECIMAL(text) or _BASED(text)):
        number = float("nan") if _NOT_FINITE(text) else float(text)
        return number if isfinite(number) else None
    if len(text) > 64:
        return None
    whole = int(text) if _DECIMAL(text) else int(text, 0)
    return whole if -(1 << 63) <= whole < 1 << 64 else None
