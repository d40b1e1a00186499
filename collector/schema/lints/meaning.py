"""Lints of meaning: purposes and their legal basis, reasons, categories, and names of people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from collector.documents import Loc
from collector.schema.catalogue_lint import looks_personal
from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.token import TokenField
from collector.schema.model import Basis, Schema
from collector.schema.names.scope import scope

_NO_CHOICE: tuple[Basis, ...] = ("contract", "legal_obligation", "vital_interests")
"""Bases that leave a person no choice (the right of Art. 21 GDPR is about the others)."""


def unused_purpose(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find purposes for which nothing is collected."""
    used = {purpose for field in schema.fields.values() for purpose in field.purposes}
    for name in schema.purposes:
        if name not in used:
            yield ("purposes", name), "no field is for this purpose; leave it out"


def consent_not_optional(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find consent that cannot be refused, which is none (Art. 7(4) GDPR)."""
    for name, purpose in schema.purposes.items():
        if purpose.basis == "consent" and not purpose.optional:
            message = "who consents may also refuse; write `optional: true`, or name another basis"
            yield ("purposes", name, "basis"), message


def basis_forbids_choice(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find optional purposes that a contract or a law demands."""
    for name, purpose in schema.purposes.items():
        if purpose.optional and purpose.basis in _NO_CHOICE:
            message = "what may be refused rests on consent, or on interests one can object to"
            yield ("purposes", name, "optional"), f"{message}; name that basis, or leave this out"


def required_but_refusable(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find required fields that a person may refuse: a refusal rejects the whole event."""
    for name, field in schema.fields.items():
        if field.required and all(schema.purposes[key].optional for key in field.purposes):
            message = "who refuses its purposes has every event rejected; leave `required` out"
            yield ("fields", name, "required"), message


def address_category(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find addresses of another category, which notice and record of processing would repeat."""
    for name, field in schema.fields.items():
        if field.kind == "ip" and field.category != "user.device.ip_address":
            message = "an address is of the category `user.device.ip_address`; write that"
            yield ("fields", name, "category"), message


def outside_sentence(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find fields that neither the public sentence on what is collected describes, nor one of the
    schema's own."""
    for name in scope(schema).without_sentence:
        message = (
            f"`{name}` is not an address, device or operating system field, so `needed-only` does"
            " not cover it; say under `also_collected` what is collected, for the public"
        )
        yield ("fields", name), message


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
    """Yield every reason with its place and the name of its purpose or field."""
    for name, purpose in schema.purposes.items():
        yield ("purposes", name, "reason"), name, purpose.reason
    for name, field in schema.fields.items():
        yield ("fields", name, "reason"), name, field.reason


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def weak_reason(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find reasons of fewer than two words besides the name and words that fit any field. Reasons
    beyond ASCII are in languages whose empty words are not known here."""
    for loc, name, reason in _reasons(schema):
        named = set(_words(name))
        for part in named & set(_SPELLED_OUT):
            named |= _SPELLED_OUT[part]
        telling = set(_words(reason)) - named - _SAY_NOTHING
        if reason.isascii() and len(telling) < 2:
            yield loc, "this fits anything; say what is decided or done with it"


def repeated_reason(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find one reason for many fields, which was not written about any of them."""
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
    """Find people in closed lists: a person named in one is named in records too."""
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
