"""The purposes that a person refuses, and the granted rest, in the schema's order.

There are three ways to refuse: a signal of the request (Global Privacy Control, Do Not Track), the
``consent`` that an application passes, and the choices that an event carries. A purpose refused in
one of them is refused. Only optional purposes can be refused; the names of others change nothing.

Nothing here sees an event: the filter reads choices, by types that name nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from collector.contracts import Granted
from collector.errors import ConfigError
from collector.schema.model import Schema

SIGNALS = ("sec-gpc", "dnt")
"""The headers by which a person refuses every optional purpose: https://www.w3.org/TR/gpc/ and
https://www.w3.org/TR/tracking-dnt/. Only the value ``1`` means anything."""

Consent = bool | Mapping[str, bool] | Collection[str]
"""The consent that an application passes for a person: purposes with ``False`` where they are
refused, or the names of the refused purposes. ``False`` refuses every optional purpose, ``True``
none."""


def is_refusal(values: Iterable[str | bytes]) -> bool:
    """Tell whether the values of a signal's header refuse every optional purpose.

    If several values disagree, the refusal counts.
    """
    return any(value in ("1", b"1") for value in values)


def refused(optional: Collection[str], choices: object) -> frozenset[str]:
    """Return the purposes that choices refuse.

    Choices are ``{"<purpose>": bool}``, the names of refused purposes, or ``False`` for all.
    Choices of any other form refuse all. Only exact built-in types are read: any other object could
    be of any class.
    """
    if choices is None or choices is True:
        return frozenset()
    kind = type(choices)
    if kind is dict:
        return _refused_members(optional, list(choices.items()))  # type: ignore[attr-defined]
    if kind is list or kind is tuple or kind is set or kind is frozenset:
        names = list(choices)  # type: ignore[call-overload]
        if all(type(name) is str for name in names):
            return frozenset(optional).intersection(names)
    return frozenset(optional)


def _refused_members(
    optional: Collection[str], choices: list[tuple[object, object]]
) -> frozenset[str]:
    found = set()
    for name, value in choices:
        if type(name) is str and name in optional:
            if type(value) is not bool:
                return frozenset(optional)
            if not value:
                found.add(name)
    return frozenset(found)


def refused_by_application(schema: Schema, consent: Consent | None) -> frozenset[str]:
    """Return the purposes that an application refuses.

    Raises ``ConfigError``: E132 for a purpose that the schema does not define, or that cannot be
    refused, and E107 for a value of any other form: a slip would admit what a person has refused.
    """
    if consent is None or consent is True or consent is False:
        return refused(schema.optional, consent)
    if type(consent) is dict:
        if not set(consent) <= set(schema.purposes):
            known = ", ".join(schema.purposes)
            raise ConfigError(
                "E132", f"the schema does not define a purpose of `consent`; it has {known}"
            )
        if any(type(value) is not bool for value in consent.values()):
            raise ConfigError("E107", "consent is `True` or `False` for each purpose")
        names = [name for name, value in consent.items() if not value]
    elif type(consent) in (list, tuple, set, frozenset):
        names = list(consent)
    else:
        raise ConfigError("E107", "consent is a dict, a list of refused purposes, or a bool")
    if not set(names) <= set(schema.optional):
        can = ", ".join(schema.optional) or "none"
        raise ConfigError("E132", f"a purpose of `consent` cannot be refused; these can: {can}")
    return frozenset(names)


def granted(schema: Schema, refused_purposes: Collection[str], within: Granted = None) -> Granted:
    """Return the purposes in ``within`` that are not refused.

    ``None`` stands for all purposes of the schema.
    """
    available = schema.purposes if within is None else within
    purposes = tuple(
        name
        for name, purpose in schema.purposes.items()
        if name in available and not (purpose.optional and name in refused_purposes)
    )
    return None if len(purposes) == len(schema.purposes) else purposes
