"""A person's choices among attributes: a list of keys and values, purpose → true or false.

Anything else at their place, an array too, cannot be read there, and so refuses all that can be.
"""

from __future__ import annotations

from typing import Any

from collector.consent import refused
from collector.filter.compile import Plan
from collector.filter.otlp.attributes import Name, Signature, below

__all__ = ["Hearing"]

_ESCAPE = b"\\u"


class Hearing:
    """Reads the choices in signatures that were made of its ``names``, and of no others."""

    def __init__(self, plan: Plan, optional: tuple[str, ...]) -> None:
        self.names: dict[str, Name] = {}
        self._paths = [tuple(map(str, path)) for path in plan.choices if type(path[0]) is str]
        self._optional = optional
        for first, *others in self._paths:
            name = self.names.setdefault(first, Name())
            for key in others:
                name = name.below.setdefault(key, Name())
            name.below.update({purpose: Name(is_read=True) for purpose in optional})
        self.wanted: frozenset[str] = frozenset(self.names)

    def may_find(self, body: bytes | memoryview) -> bool:
        """Whether there may be choices in a body, to see that quickly: a text may spell them with
        escapes."""
        text = bytes(body)
        return any(name.encode() in text for name in self.names) or _ESCAPE in text

    def of(self, *signatures: Signature) -> frozenset[str] | None:
        """What is refused in an item, its scope and its resource together; ``None`` if none of
        them says anything."""
        said = [heard for signature in signatures for heard in self._of(signature)]
        return frozenset().union(*said) if said else None

    def _of(self, signature: Signature) -> list[frozenset[str]]:
        found = dict(signature)
        for first, *keys in self._paths:
            value = below(found.get(first), tuple(keys))
            if value is not None:
                return [refused(self._optional, _plain(value))]
        return []


def _plain(value: Any) -> Any:
    """A value of a signature as plain data; what is no list of keys and values says no."""
    if type(value) is str or value[0] is not dict:
        return False
    return {name: _flag(one) for name, one in value[1]}


def _flag(value: Any) -> Any:
    return value[1] if type(value) is tuple and value[0] is bool else None
