"""YAML 1.2 text into plain values, with the line and column of every key and value.

Only the plain data of JSON comes through: anchors, aliases, merge keys and tags are refused (an
alias can make a small file enormous), so are numbers and texts that JSON cannot carry, and a key
written twice is a fault, not a quiet overwrite. Size, depth and number of nodes are limited.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import NodeEvent, ScalarEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from collector.errors import Fault

__all__ = ["Loc", "Source", "bytes_source", "read", "text_source"]

_MAX_BYTES = 256 << 10
_MAX_DEPTH = 64
_MAX_NODES = 20_000
_MAX_SHOWN = 80

# The YAML 1.2 core schema (section 10.3.2), whatever version a %YAML directive asks for.
_NULL = frozenset(["", "~", "null", "Null", "NULL"])
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DECIMAL = re.compile(r"[-+]?[0-9]+").fullmatch
_BASED = re.compile(r"0(?:o[0-7]+|x[0-9a-fA-F]+)").fullmatch
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?").fullmatch
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)").fullmatch

Loc = tuple[str | int, ...]
"""Where something is in the document: keys and list indices from the top."""


@dataclass(slots=True)
class Source:
    """A schema document as plain values (``None`` if it could not be read), with positions."""

    file: str
    directory: Path | None = None
    value: Any = None
    places: dict[Loc, tuple[int, int]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    unread: set[Loc] = field(default_factory=set)

    def fault(self, loc: Loc, code: str, message: str) -> Fault:
        """A fault at a place, or at the nearest enclosing place that is known."""
        known = loc
        while known and known not in self.places:
            known = known[:-1]
        line, column = self.places.get(known, (1, 1))
        return Fault(self.file, line, column, ".".join(map(_shown, loc)), message, code)

    def report(self, loc: Loc, code: str, message: str) -> None:
        """Keep a fault, unless what stands there could not be read in the first place."""
        if loc not in self.unread:
            self.faults.append(self.fault(loc, code, message))

    def refuse(self, loc: Loc, code: str, message: str) -> None:
        """Keep the one fault of a value that cannot be read."""
        self.report(loc, code, message)
        self.unread.add(loc)


def _shown(part: str | int) -> str:
    """A key as a message may show it: on one line, without control characters."""
    text = str(part)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def read(path: Path, file: str) -> Source:
    """Read a schema file. ``file`` is how faults call it."""
    source = Source(file)
    try:
        source.directory = path.resolve().parent
        with path.open("rb") as handle:
            data = handle.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        source.report((), "E101", "the file is not found; check the path")
        return source
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL in the path
        source.report((), "E101", "the file cannot be read; check the path and its permissions")
        return source
    return bytes_source(data, source)


def bytes_source(data: bytes, source: Source) -> Source:
    """Fill a source from what a file holds."""
    if len(data) > _MAX_BYTES:
        source.report((), "E101", f"the file is too large; keep it within {_MAX_BYTES} bytes")
        return source
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        source.report((), "E101", "the file is not UTF-8 text; save it as UTF-8")
        return source
    return text_source(text, source)


def text_source(text: str, source: Source) -> Source:
    """Fill a source from YAML text."""
    try:
        if _only_plain(text, source):
            node = YAML(typ="safe", pure=True).compose(text)
            source.value = _plain(node, (), source) if node is not None else {}
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = "it cannot be parsed here; check indentation, quotes and brackets"
        source.faults.append(Fault(source.file, line, column, "", problem, "E102"))
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        problem = "a control character stands here; take it out"
        source.faults.append(Fault(source.file, line, column, "", problem, "E102"))
    except (YAMLError, RecursionError, ValueError):
        source.report((), "E102", "it cannot be parsed; is this a schema document?")
    return source


def _only_plain(text: str, source: Source) -> bool:
    """Whether the text has none of the YAML that goes beyond JSON, judged before composing it."""
    depth = nodes = 0
    before = len(source.faults)
    for event in YAML(typ="safe", pure=True).parse(text):
        place = (event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, NodeEvent) and (event.anchor or _is_tagged(event)):
            message = "write the value out instead"
            source.faults.append(Fault(source.file, *place, "", message, "E104"))
        if isinstance(event, ScalarEvent) and event.value == "<<" and event.implicit[0]:
            message = "merge keys are not allowed; write the keys out"
            source.faults.append(Fault(source.file, *place, "", message, "E104"))
        depth += type(event).__name__.endswith("StartEvent")
        depth -= type(event).__name__.endswith("EndEvent")
        nodes += isinstance(event, NodeEvent)
        if depth > _MAX_DEPTH or nodes > _MAX_NODES:
            message = f"keep it within {_MAX_DEPTH} levels and {_MAX_NODES} values"
            source.faults.append(Fault(source.file, *place, "", message, "E102"))
            break
    return len(source.faults) == before


def _is_tagged(event: NodeEvent) -> bool:
    return str(getattr(event, "ctag", "")) not in ("", "None")


def _plain(node: Node, loc: Loc, source: Source) -> Any:
    source.places.setdefault(loc, (node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, MappingNode):
        return dict(_members(node, loc, source))
    if isinstance(node, SequenceNode):
        return [_plain(item, (*loc, index), source) for index, item in enumerate(node.value)]
    return _scalar(node, loc, source)


def _members(node: MappingNode, loc: Loc, source: Source) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        key = key_node.value
        if not isinstance(key_node, ScalarNode) or not isinstance(key, str) or _is_broken(key):
            where = source.fault(loc, "E107", "a key is plain text; write it out")
            source.faults.append(where._replace(line=place[0], column=place[1]))
            continue
        inner = (*loc, key)
        source.places[inner] = place
        if key in seen:
            source.report(inner, "E103", "this key is already written above; leave one out")
            continue
        seen.add(key)
        yield key, _plain(value_node, inner, source)


def _scalar(node: Node, loc: Loc, source: Source) -> Any:
    """A scalar by the core schema; dates stay the text they are written as."""
    text = str(node.value)
    if _is_broken(text):
        source.refuse(loc, "E107", "half a surrogate pair is not text; write the character itself")
        return ""
    if not isinstance(node, ScalarNode) or node.style:
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if not (_DECIMAL(text) or _BASED(text) or _FLOAT(text) or _NOT_FINITE(text)):
        return text
    number = _number(text)
    if number is None:
        source.refuse(loc, "E112", "a number must be finite and within 64 bits")
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


def _is_broken(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)
