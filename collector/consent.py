"""What a person refuses, and what is granted then: purposes, in the order of the schema.

There are three ways to refuse: a signal of the request (Global Privacy Control, Do Not Track), an
application's word, and the choices that an event carries. What is refused in one of them is
refused. Only optional purposes can be; that others are named changes nothing.

Nothing here sees an event: the filter reads choices, by types that name nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from collector.contracts import Granted
from collector.errors import ConfigError
from collector.schema.model import Schema

__all__ = ["SIGNALS", "Consent", "chosen", "granted", "is_refusal", "refused"]

SIGNALS = ("sec-gpc", "dnt")
"""The headers by which a person refuses every optional purpose: https://www.w3.org/TR/gpc/ and
https://www.w3.org/TR/tracking-dnt/. Only the value ``1`` means anything."""

Consent = bool | Mapping[str, bool] | Collection[str]
"""An application's word for a person: purposes with ``False`` where they are refused, or the names
of refused ones; ``False`` refuses all that can be, ``True`` none."""


def is_refusal(values: Iterable[str | bytes]) -> bool:
    """Whether one of the values of a signal's header says that every optional purpose is refused;
    of several that disagree, the one that refuses counts."""
    return any(value in ("1", b"1") for value in values)


def refused(optional: Collection[str], said: object) -> frozenset[str]:
    """The purposes that somebody refuses who has said this: ``{"<purpose>": bool}``, or the names
    of refused ones, or ``False`` for all. What cannot be read so refuses all of them.

    Only exact built-in types are looked into: any other object could be of any class.
    """
    if said is None or said is True:
        return frozenset()
    kind = type(said)
    if kind is dict:
        return _denied(optional, list(said.items()))  # type: ignore[attr-defined]
    if kind is list or kind is tuple or kind is set or kind is frozenset:
        names = list(said)  # type: ignore[call-overload]
        if all(type(name) is str for name in names):
            return frozenset(optional).intersection(names)
    return frozenset(optional)


def _denied(optional: Collection[str], said: list[tuple[object, object]]) -> frozenset[str]:
    found = set()
    for name, value in said:
        if type(name) is str and name in optional:
            if type(value) is not bool:
                return frozenset(optional)
            if not value:
                found.add(name)
    return frozenset(found)


def chosen(schema: Schema, consent: Consent | None) -> frozenset[str]:
    """The purposes that an application refuses, by name.

    Raises ``ConfigError`` E205 for a purpose that the schema has not, or that cannot be refused,
    and for what is neither purposes nor a yes or no: a slip would let through what was refused.
    """
    if consent is None or consent is True or consent is False:
        return refused(schema.optional, consent)
    if type(consent) is dict:
        if not set(consent) <= set(schema.purposes):
            raise ConfigError("E205", "a purpose of `consent` is not defined in the schema")
        if any(type(value) is not bool for value in consent.values()):
            raise ConfigError("E205", "consent is `True` or `False` for each purpose")
        names = [name for name, value in consent.items() if not value]
    elif type(consent) in (list, tuple, set, frozenset):
        names = list(consent)
    else:
        raise ConfigError("E205", "consent is a dict, a list of refused purposes, or a bool")
    if not set(names) <= set(schema.optional):
        can = ", ".join(schema.optional) or "none"
        raise ConfigError("E205", f"a purpose of `consent` cannot be refused; these can: {can}")
    return frozenset(names)


def granted(schema: Schema, without: Collection[str], within: Granted = None) -> Granted:
    """What is granted when purposes are refused, out of those that are granted at most; ``None`` is
    all of the schema's."""
    named = schema.purposes if within is None else within
    kept = tuple(
        name
        for name, purpose in schema.purposes.items()
        if name in named and not (purpose.optional and name in without)
    )
    return None if len(kept) == len(schema.purposes) else kept
