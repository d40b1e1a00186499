"""Lints of words: reasons that say nothing, and names of people where names of things belong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.token import TokenField
from collector.schema.lints.personal import looks_personal
from collector.schema.model import Schema
from collector.schema.source import Loc

__all__ = ["personal_value", "repeated_reason", "weak_reason"]

_REPEATED = 3
_SAY_NOTHING = frozenset(
    """
    a an and any are as at be because being by can collect collected collecting collection could
    data do etc field fields for from general generally get has have help helps important in
    information internal is it its just kept like may misc more must necessary need needed needs
    nice of on one or our other purpose purposes reason reasons required requirement requirements
    should so some something stats statistics stuff tbd telemetry that the them these they thing
    things this those to todo us use used useful uses using value values various want wanted we will
    with would
    analyse analysis analytics analyze business insight insights log logging logs metric metrics
    monitor monitoring operations report reporting reports service services tracking
    """.split()
)
"""Words that fit any field, and so tell nothing about one."""
_SPELLED_OUT = {"os": {"operating", "system"}, "address": {"ip", "addresses"}}


def _reasons(schema: Schema) -> Iterator[tuple[Loc, str, str]]:
    """Every reason with its place and the name of what it is given for."""
    for name, purpose in schema.purposes.items():
        yield ("purposes", name, "reason"), name, purpose.reason
    for name, field in schema.fields.items():
        yield ("fields", name, "reason"), name, field.reason


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def weak_reason(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Less than two words remain once the name and what fits any field are taken away. Reasons
    beyond ASCII are in languages whose empty words we do not know."""
    for loc, name, reason in _reasons(schema):
        named = set(_words(name))
        for part in named & set(_SPELLED_OUT):
            named |= _SPELLED_OUT[part]
        said = set(_words(reason)) - named - _SAY_NOTHING
        if reason.isascii() and len(said) < 2:
            yield loc, "this fits anything; say what is decided or done with it"


def repeated_reason(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """One sentence for many fields was not written about any of them."""
    places: dict[tuple[str, ...], list[Loc]] = {}
    for name, field in schema.fields.items():
        loc = ("fields", name, "reason")
        places.setdefault(tuple(_words(field.reason)), []).append(loc)
    for same in places.values():
        if len(same) >= _REPEATED:
            yield (
                same[0],
                f"{len(same)} fields give this reason; say for each what it is needed for",
            )


def personal_value(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """A closed list is meant for things; whoever is named in one is named in records too."""
    message = "this looks like a person's name, address or number; list what things are called"
    for name, field in schema.fields.items():
        if isinstance(field, EnumField):
            for index, value in enumerate(field.values):
                if looks_personal(value):
                    yield ("fields", name, "values", index), message
            for alias in field.aliases:
                if looks_personal(alias):
                    yield ("fields", name, "aliases", alias), message
        elif isinstance(field, TokenField):
            count = sum(map(looks_personal, field.entries))
            if count:
                what = f"{count} entries look like names, addresses or numbers of people"
                yield ("fields", name, "catalogue"), f"{what}; list what things are called"
