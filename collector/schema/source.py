"""YAML 1.2 text into plain values, with the line and column of every key and value.

Only the plain data of JSON comes through: anchors, aliases, merge keys and tags are refused (an
alias can make a small file enormous), and a key written twice is a fault, not a quiet overwrite.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import NodeEvent, ScalarEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from collector.errors import Fault

__all__ = ["Loc", "Source", "read", "text_source"]

_MAX_BYTES = 1 << 20
_MAX_DEPTH = 64
_STANDARD = "tag:yaml.org,2002:"

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

    def fault(self, loc: Loc, code: str, message: str) -> Fault:
        """A fault at a place, or at the nearest enclosing place that is known."""
        known = loc
        while known and known not in self.places:
            known = known[:-1]
        line, column = self.places.get(known, (1, 1))
        return Fault(self.file, line, column, ".".join(map(str, loc)), message, code)

    def report(self, loc: Loc, code: str, message: str) -> None:
        self.faults.append(self.fault(loc, code, message))


def read(path: Path, file: str) -> Source:
    """Read a schema file. ``file`` is how faults call it."""
    source = Source(file, path.resolve().parent)
    try:
        with path.open("rb") as handle:
            data = handle.read(_MAX_BYTES + 1)
    except OSError as error:
        why = "not found" if isinstance(error, FileNotFoundError) else "cannot be read"
        source.report((), "E101", f"the file is {why}" if why == "not found" else f"the file {why}")
        return source
    if len(data) > _MAX_BYTES:
        source.report((), "E101", f"the file is larger than {_MAX_BYTES} bytes")
        return source
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        source.report((), "E101", "the file is not UTF-8 text")
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
    except (YAMLError, RecursionError, ValueError):
        source.report((), "E102", "it cannot be parsed; is this a schema document?")
    return source


def _only_plain(text: str, source: Source) -> bool:
    """Whether the text has none of the YAML that goes beyond JSON, judged before composing it."""
    depth = 0
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
        if depth > _MAX_DEPTH:
            source.faults.append(Fault(source.file, *place, "", "it is nested too deeply", "E102"))
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
    return _scalar(node)


def _members(node: MappingNode, loc: Loc, source: Source) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if not isinstance(key_node, ScalarNode):
            source.faults.append(
                Fault(source.file, *place, ".".join(map(str, loc)), "a key is plain text", "E107")
            )
            continue
        key = str(key_node.value)
        inner = (*loc, key)
        source.places[inner] = place
        if key in seen:
            source.report(inner, "E103", "this key is already written above")
            continue
        seen.add(key)
        yield key, _plain(value_node, inner, source)


def _scalar(node: Node) -> Any:
    """A scalar by the YAML 1.2 core schema; dates stay the text they are written as."""
    tag = str(node.tag).removeprefix(_STANDARD)
    text = str(node.value)
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() == "true"
    if tag == "int":
        digits = text.replace("_", "")
        return int(digits, 0) if digits.lstrip("+-")[:2].lower() in ("0x", "0o") else int(digits)
    if tag == "float":
        number = float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
        return number if isfinite(number) else text
    return text
