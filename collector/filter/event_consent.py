"""Read the choices in an event before anything else in it.

The types name only the path to the choices and the purposes that can be refused. Most texts hold no
choices, and decoding each of them in vain would take a third of the filter's time. So a text is
first searched for the names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from collector.consent import refused
from collector.filter.members import FAILURES, named_members
from collector.filter.plan import Plan, RecordPath
from collector.filter.reader import Readers
from collector.filter.records import Form
from collector.filter.text import name_search

MAX_BYTES = 1 << 12
"""The most bytes that choices may take; longer choices are not read, and refuse every purpose."""

_NOTHING: frozenset[str] = frozenset()
_FLAGS = {b"true": True, b"false": False}


class EventConsent:
    """Reads which of the ``optional`` purposes the choices in events of one plan refuse."""

    def __init__(self, plan: Plan, optional: tuple[str, ...]) -> None:
        way = RecordPath(plan.choices, members=False)
        only = replace(
            plan, columns=(), content=(), records=(way,), choices=(), user_agent=(), selections=()
        )
        self.optional: tuple[str, ...] = optional
        self._paths = plan.choices
        self._readers = Readers(only, msgspec.Struct)
        self._decode = _decoder(optional)
        texts = ([key for key in path if type(key) is str] for path in plan.choices)
        self._is_in = name_search(max(keys, key=len, default="") for keys in texts)

    def __repr__(self) -> str:
        return f"<EventConsent of {len(self.optional)} purposes>"

    def may_occur_in(self, text: bytes | memoryview) -> bool:
        """Return whether UTF-8 text may hold choices: a quick test that never misses any."""
        return self._is_in(bytes(text))

    def refused_in(self, event: Any, form: Form) -> frozenset[str]:
        """Return the refused purposes in an event.

        Unreadable events have no choices. But the allowed depth of a text depends on the call, so a
        text that is too deep here refuses all purposes.
        """
        found = form.read(self._readers, event)
        if not isinstance(found, tuple):
            return refused(self.optional, False) if found == "too_deep" else _NOTHING
        reader, members = found
        choices = reader.value(members, self._paths)
        if choices is None:
            return _NOTHING
        if type(choices) is msgspec.Raw:
            return refused(self.optional, self._decoded(choices))
        # a bare ``true`` would consent to everything, so it is not a choice
        is_readable = type(choices) in (dict, list, tuple)
        return refused(self.optional, choices if is_readable else False)

    def _decoded(self, choices: msgspec.Raw) -> Any:
        """Decode choices in a text; false if they are too long, or cannot be read."""
        if len(memoryview(choices)) > MAX_BYTES:
            return False
        try:
            return self._decode(choices)
        except FAILURES:
            return False


def _decoder(optional: tuple[str, ...]) -> Callable[[Any], Any]:
    """Make a decoder of an object's members under these names, or of a list of texts.

    All other members are skipped as bytes. Of equal names the last counts.
    """
    kind = named_members("Choices", dict.fromkeys(optional, (msgspec.Raw, None)))
    decode = msgspec.json.Decoder(kind | list[str]).decode

    def read(raw: Any) -> Any:
        choices = decode(raw)
        if type(choices) is list:
            return choices
        members = zip(optional, msgspec.structs.astuple(choices), strict=True)
        return {name: _FLAGS.get(bytes(each)) for name, each in members if each is not None}

    return read
