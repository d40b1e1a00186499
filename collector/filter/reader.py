"""Readers of events: the decoders and the judge of one plan, for objects and for lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import msgspec

from collector.filter.decode.json import TextDecoder
from collector.filter.decode.mapping import is_list, mapping_decoder
from collector.filter.judge import Code, Judge, Surround, Variant
from collector.filter.plan import Column, Keys, Plan
from collector.filter.shape import NULL, Shape, shape_of
from collector.filter.text import is_list as is_list_text

_Step = tuple[str, Shape, Callable[[Any], Any]]
"""The attribute of an object, its shape, and the decoder of such objects in mappings."""
_Way = tuple[list[_Step], str]
"""The objects on the way to a member, and its attribute in the last one."""


class Reader:
    """Reads events whose root is an object (``str``) or a list (``int``). ``listed`` is the type of
    the records in an event, if they are decoded with it."""

    def __init__(
        self, plan: Plan, record: type[msgspec.Struct], root: type, listed: Any = None
    ) -> None:
        self._plan = plan
        self._record = record
        self._root = root
        self.shape: Shape = shape_of(plan, root, listed)
        self.texts: TextDecoder = TextDecoder(self.shape)
        self._judges: dict[tuple[Variant, int | None], Any] = {}
        self._ways: dict[Keys, _Way] = {}

    def __repr__(self) -> str:
        return f"<Reader of {self._plan.schema_id}>"

    @cached_property
    def of_object(self) -> Callable[[Any], Any]:
        """The decoder of Python objects."""
        return mapping_decoder(self.shape)

    def judge(self, variant: Variant, selection: int | None = None) -> Judge:
        """Return the judge of events that must meet a selection."""
        key = variant, selection
        if key not in self._judges:
            self._judges[key] = self.code(variant, selection).function(self._record)
        judge: Judge = self._judges[key]
        return judge

    def code(self, variant: Variant, selection: int | None = None) -> Code:
        """Write the judge of events that must meet a selection."""
        return Code(self._plan, self.shape, self._plan.selecting(selection), variant)

    def with_columns(self, columns: Iterable[Column]) -> Judge:
        """Return a judge of events whose columns accept other values."""
        plan = replace(self._plan, columns=tuple(columns))
        judge: Judge = Code(plan, self.shape, (), "events").function(self._record)
        return judge

    @property
    def surround(self) -> Surround:
        """The function that makes a context of a document."""
        return self.judge("context")  # type: ignore[return-value]

    def value(self, event: Any, paths: Iterable[Keys]) -> Any:
        """Return the first value that is present at the paths of records, undecoded."""
        for path in paths:
            if type(path[0]) is self._root:
                steps, attribute = self._ways.get(path) or self._way(path)
                found = event
                for step, shape, decode in steps:
                    found = getattr(found, step)
                    if is_list(found) if shape.is_list else type(found) is dict:
                        found = decode(found)
                    elif type(found) is not shape.kind:
                        break
                else:
                    found = getattr(found, attribute)
                    if found is not None and (type(found) is not msgspec.Raw or found != NULL):
                        return found
        return None

    def _way(self, path: Keys) -> _Way:
        """Return the attributes on the way to a member."""
        shape: Shape | None = self.shape
        steps: list[_Step] = []
        for key, following in pairwise(path):
            assert shape is not None  # noqa: S101 - for the type
            node, use = shape.members[key], "list" if type(following) is int else "object"
            shape = node.list if use == "list" else node.object
            assert shape is not None  # noqa: S101 - for the type
            steps.append((node.slots[use], shape, mapping_decoder(shape)))
        assert shape is not None  # noqa: S101 - for the type
        self._ways[path] = steps, shape.members[path[-1]].slots["raw"]
        return self._ways[path]


Found = tuple[Reader, Any]
"""An event, with its reader."""


class Readers:
    """The readers of one plan: for objects, and for lists if lists may be events."""

    def __init__(self, plan: Plan, record: type[msgspec.Struct]) -> None:
        self.objects: Reader = Reader(plan, record, str)
        self.lists: Reader | None = Reader(plan, record, int) if plan.reads_lists else None

    def of_text(self, payload: Any) -> Reader:
        """Return the reader for a text."""
        return self.lists if self.lists is not None and is_list_text(payload) else self.objects

    def of_value(self, value: Any) -> Reader | None:
        """Return the reader for a Python object; ``None`` if it cannot be an event."""
        if type(value) is dict:
            return self.objects
        return self.lists if is_list(value) else None
