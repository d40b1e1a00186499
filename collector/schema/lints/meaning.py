"""Lints of meaning: purposes, their legal basis, and what fields are for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from collector.schema.model import Basis, Schema
from collector.schema.source import Loc

__all__ = [
    "address_category",
    "basis_forbids_choice",
    "consent_not_optional",
    "required_but_refusable",
    "unused_purpose",
]

_NO_CHOICE: tuple[Basis, ...] = ("contract", "legal_obligation", "vital_interests")
"""Bases under which nobody is asked and nobody can object (Art. 21 GDPR is about the others)."""


def unused_purpose(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """A purpose that is announced, and for which nothing is collected."""
    used = {purpose for field in schema.fields.values() for purpose in field.purposes}
    for name in schema.purposes:
        if name not in used:
            yield ("purposes", name), "no field is for this purpose; leave it out"


def consent_not_optional(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Consent that cannot be refused is none (Art. 7(4) GDPR)."""
    for name, purpose in schema.purposes.items():
        if purpose.basis == "consent" and not purpose.optional:
            message = "who consents may also refuse; write `optional: true`, or name another basis"
            yield ("purposes", name, "basis"), message


def basis_forbids_choice(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """What a contract or a law demands is not a choice."""
    for name, purpose in schema.purposes.items():
        if purpose.optional and purpose.basis in _NO_CHOICE:
            message = "what may be refused rests on consent, or on interests one can object to"
            yield ("purposes", name, "optional"), f"{message}; name that basis, or leave this out"


def required_but_refusable(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Who refuses loses the whole event, also what rests on other purposes."""
    for name, field in schema.fields.items():
        if field.required and all(schema.purposes[key].optional for key in field.purposes):
            message = "who refuses its purposes has every event rejected; leave `required` out"
            yield ("fields", name, "required"), message


def address_category(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """An address is an address, in the notice and in the record of processing too."""
    for name, field in schema.fields.items():
        if field.kind == "ip" and field.category != "user.device.ip_address":
            message = "an address is of the category `user.device.ip_address`; write that"
            yield ("fields", name, "category"), message
