"""Lint: findings that look like mistakes in a schema that loads.

A fault stops a schema from loading; a lint is about one that loads. Each lint has a stable name and
a severity: an *error* cannot be intended, a *warning* should be fixed, a *note* is worth a thought.

A lint is a small generator over a schema and a day, and yields ``(place, message)``. A message says
what to do, and quotes only numbers and names of the document. ``LINTS`` is the table of them, which
``docs/schema-review.md`` describes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from itertools import combinations
from math import log2
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import orjson

from collector.documents import Loc, read
from collector.errors import Fault
from collector.schema.catalogue import looks_personal
from collector.schema.kinds import FieldBase
from collector.schema.kinds.base import utc_now
from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.ip import IpField
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.kinds.time import TimeField
from collector.schema.kinds.token import TokenField
from collector.schema.model import Basis, Schema, record_bits
from collector.schema.names.scope import scope
from collector.schema.pattern import MAX_BITS
from collector.schema.scalars import Source, condition_of, keys, levels, path_of

Severity = Literal["error", "warning", "note"]
Found = Iterator[tuple[Loc, str]]
_Find = Callable[[Schema, date], Found]
_F = TypeVar("_F", bound=FieldBase)

LINTS: dict[str, tuple[Severity, _Find]] = {}
"""Name → severity, and the function that finds it."""


class Finding(NamedTuple):
    """A lint's message about a place; ``fault.code`` is the lint's name."""

    severity: Severity
    fault: Fault

    def __str__(self) -> str:
        """Format it like a compiler: ``file:line:col: severity: field: message [lint-name]``."""
        file, line, column, field, message, name = self.fault
        about = f"{field}: " if field else ""
        return f"{file}:{line}:{column}: {self.severity}: {about}{message} [{name}]"

    def as_dict(self) -> dict[str, Any]:
        """Return the keys of a fault in JSON, plus the severity."""
        return {**self.fault._asdict(), "severity": self.severity}


def lint(schema: Schema, path: Path) -> list[Finding]:
    """Find what looks like a mistake in a loaded schema, in the order of its lines.

    ``path`` is the file it was loaded from, which is read again for the places. The present day in
    UTC decides what has expired.
    """
    day = utc_now().date()
    found = [
        (severity, *each, name)
        for name, (severity, find) in LINTS.items()
        for each in find(schema, day)
    ]
    if not found:
        return []
    source = read(path)
    findings = [
        Finding(severity, source.fault(loc, name, text)) for severity, loc, text, name in found
    ]
    return sorted(findings, key=lambda finding: (finding.fault.line, finding.fault.column))


def _lint(severity: Severity) -> Callable[[_Find], _Find]:
    """Register a lint under the name of its function."""

    def register(find: _Find) -> _Find:
        LINTS[find.__name__.replace("_", "-")] = severity, find
        return find

    return register


def _fields(schema: Schema, of: type[_F]) -> Iterator[tuple[str, _F]]:
    return ((name, each) for name, each in schema.fields.items() if isinstance(each, of))


# -- reasons and names -----------------------------------------------------------------------------

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
"""Words that fit any field, and so say nothing about a particular one."""
_SPELLED_OUT = {"os": {"operating", "system"}, "address": {"ip", "addresses"}}


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


@_lint("warning")
def weak_reason(schema: Schema, _: date) -> Found:
    """Find reasons with fewer than two words besides the name and words that fit any field. Reasons
    with letters beyond ASCII are skipped, because the filler words of their languages are not known
    here."""
    for part in ("purposes", "fields"):
        for name, each in getattr(schema, part).items():
            named = set(_words(name))
            known = named.union(*(_SPELLED_OUT[word] for word in named & _SPELLED_OUT.keys()))
            telling = set(_words(each.reason)) - known - _SAY_NOTHING
            if each.reason.isascii() and len(telling) < 2:
                message = "this reason fits any field; say what is decided or done with this one"
                yield (part, name, "reason"), message


@_lint("warning")
def repeated_reason(schema: Schema, _: date) -> Found:
    """Find the same reason for many fields: it was not written about any of them."""
    places: dict[tuple[str, ...], list[str]] = {}
    for name, field in schema.fields.items():
        places.setdefault(tuple(_words(field.reason)), []).append(name)
    for same in places.values():
        if len(same) >= _REPEATED:
            message = f"{len(same)} fields give this reason; say what each of them is needed for"
            yield ("fields", same[0], "reason"), message


@_lint("warning")
def personal_value(schema: Schema, _: date) -> Found:
    """Find people in closed lists: a name in a list is a name in records."""
    message = "this looks like a person's name, address or number; list what things are called"
    for name, field in _fields(schema, EnumField):
        places: list[tuple[Loc, str]] = [
            *((("values", index), text) for index, text in enumerate(field.values)),
            *((("aliases", alias), alias) for alias in field.aliases),
        ]
        for loc, text in places:
            if looks_personal(text):
                yield ("fields", name, *loc), message
    for name, token in _fields(schema, TokenField):
        if count := sum(map(looks_personal, token.entries)):
            what = f"{count} entries look like people's names, addresses or numbers"
            yield ("fields", name, "catalogue"), f"{what}; list what things are called"


# -- purposes --------------------------------------------------------------------------------------

_NO_CHOICE: tuple[Basis, ...] = ("contract", "legal_obligation", "vital_interests")
"""Legal bases that leave a person no choice (Art. 21 GDPR is about the others)."""


@_lint("warning")
def unused_purpose(schema: Schema, _: date) -> Found:
    """Find purposes for which nothing is collected."""
    used = {purpose for field in schema.fields.values() for purpose in field.purposes}
    for name in schema.purposes:
        if name not in used:
            yield ("purposes", name), "no field names this purpose; delete it"


@_lint("warning")
def consent_not_optional(schema: Schema, _: date) -> Found:
    """Find consent that cannot be refused, which is not consent (Art. 7(4) GDPR)."""
    for name, purpose in schema.purposes.items():
        if purpose.basis == "consent" and not purpose.optional:
            message = "people may refuse consent; write `optional: true`, or name another basis"
            yield ("purposes", name, "basis"), message


@_lint("warning")
def basis_forbids_choice(schema: Schema, _: date) -> Found:
    """Find optional purposes whose legal basis leaves no choice."""
    for name, purpose in schema.purposes.items():
        if purpose.optional and purpose.basis in _NO_CHOICE:
            message = f"nobody can refuse what rests on `{purpose.basis}`"
            yield (
                ("purposes", name, "optional"),
                f"{message}; name the basis that allows a choice, or delete `optional`",
            )


@_lint("warning")
def required_but_refusable(schema: Schema, _: date) -> Found:
    """Find required fields that a person may refuse: a refusal rejects the whole event."""
    for name, field in schema.fields.items():
        if field.required and all(schema.purposes[key].optional for key in field.purposes):
            message = (
                "a person who refuses its purposes has every event rejected; delete `required`"
            )
            yield ("fields", name, "required"), message


# -- what the public is told -----------------------------------------------------------------------


@_lint("warning")
def address_category(schema: Schema, _: date) -> Found:
    """Find addresses with another category, which notice and record of processing would repeat."""
    for name, field in _fields(schema, IpField):
        if field.category != "user.device.ip_address":
            message = "the category of an address is `user.device.ip_address`; write that"
            yield ("fields", name, "category"), message


@_lint("warning")
def outside_sentence(schema: Schema, _: date) -> Found:
    """Find fields that neither the public sentence on collected data describes, nor a sentence of
    the schema."""
    for name in scope(schema).without_sentence:
        message = (
            f"`{name}` with its paths is not on the list of address, device and operating system"
            " fields, so `needed-only` does not cover it; describe it for the public under"
            " `also_collected`"
        )
        yield ("fields", name), message


# -- limits ----------------------------------------------------------------------------------------

_YEAR, _QUARTER, _MONTH, _SOON = (timedelta(days=days) for days in (366, 92, 31, 30))
_NETWORK_V4, _NETWORK_V6 = 24, 64
"""A network of many hosts; a longer prefix names a household or a machine."""
_WIDE_TOKEN = 40
"""Bits. A telephone number has 33, a UUID 122."""
_WIDE_RECORD = 64


@_lint("warning")
def long_retention(schema: Schema, _: date) -> Found:
    """Find fields whose records are stored for over a year: they are seldom read, and always a
    risk."""
    for name, field in schema.fields.items():
        if field.retention > _YEAR:
            message = "kept for more than a year; shorten it, and keep sums instead of records"
            yield ("fields", name, "retention"), message


@_lint("warning")
def address_kept_long(schema: Schema, _: date) -> Found:
    """Find whole addresses stored for longer than access providers keep assignments."""
    for name, field in _fields(schema, IpField):
        is_whole = field.truncate.ipv4 > _NETWORK_V4 or field.truncate.ipv6 > _NETWORK_V6
        if is_whole and field.retention > _QUARTER:
            message = "whole addresses are kept for more than 90 days; shorten the retention, or"
            yield (
                ("fields", name, "retention"),
                f"{message} write `truncate: {{ipv4: 24, ipv6: 48}}`",
            )


@_lint("warning")
def slow_rotation(schema: Schema, _: date) -> Found:
    """Find keys that outlive the values, or live for over a month, and so make a pseudonym an
    identifier."""
    for name, field in _fields(schema, PseudonymField):
        if field.rotate > min(field.retention, _MONTH):
            message = "the key lives longer than the records, or than 31 days; rotate it sooner"
            yield ("fields", name, "rotate"), message


@_lint("note")
def open_time(schema: Schema, _: date) -> Found:
    """Find times without a window: eight thousand years of seconds can carry other data."""
    for name, field in _fields(schema, TimeField):
        if field.within is None:
            yield ("fields", name), "any moment is accepted; add `within`, for example ±7d"


@_lint("error")
def always_rejects(schema: Schema, today: date) -> Found:
    """Find required fields that have expired: every event lacks them and is rejected."""
    for name, field in schema.fields.items():
        if field.required and field.expires is not None and field.expires <= today:
            message = "a required field has expired, so every event is rejected; delete the field"
            yield ("fields", name, "expires"), message


@_lint("warning")
def expired_field(schema: Schema, today: date) -> Found:
    """Find fields that are no longer collected, and no longer need an entry."""
    for name, field in schema.fields.items():
        if field.expires is not None and field.expires <= today and not field.required:
            message = "the field is no longer collected; delete it, or set a later date"
            yield ("fields", name, "expires"), message


@_lint("note")
def expires_soon(schema: Schema, today: date) -> Found:
    """Find fields that expire within a month, early enough to decide."""
    for name, field in schema.fields.items():
        if field.expires is not None and today < field.expires <= today + _SOON:
            days = (field.expires - today).days
            message = f"the field expires in {days} days; delete it then, or set a later date"
            yield ("fields", name, "expires"), message


@_lint("warning")
def wide_token(schema: Schema, _: date) -> Found:
    """Find patterns that could hold a telephone number and more."""
    for name, field in _fields(schema, TokenField):
        if field.language is not None and (bits := log2(field.size())) > _WIDE_TOKEN:
            message = f"the pattern has {bits:.0f} bits; narrow it to what the source really"
            yield ("fields", name, "pattern"), f"{message} sends, or use a catalogue"


@_lint("warning")
def no_max_bits(schema: Schema, _: date) -> Found:
    """Find wide schemas without a limit: their records can grow unnoticed with every change."""
    if schema.max_bits is None and (bits := record_bits(schema)) > _WIDE_RECORD:
        yield (), f"a record holds up to {bits:.0f} bits; set `max_bits` to how many you mean"


@_lint("note")
def loose_max_bits(schema: Schema, _: date) -> Found:
    """Find limits with room for one more pattern of any width, which limit nothing."""
    if schema.max_bits is not None and schema.max_bits - record_bits(schema) > MAX_BITS:
        bits = record_bits(schema)
        yield ("max_bits",), f"a record holds {bits:.0f} bits at most; set a number nearer to it"


@_lint("note")
def loose_max_length(schema: Schema, _: date) -> Found:
    """Find length limits that no text reaches, and that mislead readers."""
    for name, field in _fields(schema, TokenField):
        longest = field.longest()
        if "max_length" in field.model_fields_set and longest < field.max_length:
            message = f"the longest text has {longest} characters; write that number"
            yield ("fields", name, "max_length"), message


# -- events ----------------------------------------------------------------------------------------


@_lint("warning")
def shadowed_source(schema: Schema, _: date) -> Found:
    """Find paths below an earlier one: if ``a.b`` is present, so is ``a``, which has already
    decided."""
    message = "an earlier path leads to what this one is inside, and decides; put this one first"
    for name, field in schema.fields.items():
        for index in _shadowed(field.sources or ()):
            yield ("fields", name, "from", index), message
    for index in _shadowed(schema.user_agent):
        yield ("user_agent", index), message


def _shadowed(sources: tuple[Source, ...]) -> Iterator[int]:
    deciding: list[tuple[str | int, ...]] = []
    for index, source in enumerate(sources):
        found = keys(path_of(source))
        if any(found[: len(start)] == start != found for start in deciding):
            yield index
        if not condition_of(source):
            deciding.append(found)


@_lint("warning")
def shadowed_records(schema: Schema, _: date) -> Found:
    """Find paths after ``.``: the event itself is always there."""
    for index in range(len(schema.ways)):
        if "." in schema.ways[:index]:
            message = "`.` is always there, so no path after it is tried; put `.` last"
            yield ("records", index), message


@_lint("warning")
def same_source(schema: Schema, _: date) -> Found:
    """Find two fields that store the same values from the same place."""
    for (first, one), (second, other) in combinations(schema.fields.items(), 2):
        common = set(one.places(first)) & set(other.places(second))
        if common and one.overlaps(other):
            message = f"`{first}` takes the same values from the same path; delete one of the two"
            yield ("fields", second), message


@_lint("warning")
def numeric_segment(schema: Schema, _: date) -> Found:
    """Find numbers as names: they are members of an object, not elements of a list."""
    written: list[tuple[Loc, str]] = [
        (("fields", name, "from", index), path_of(source))
        for name, field in schema.fields.items()
        for index, source in enumerate(field.sources or ())
    ]
    written += [(("user_agent", index), path) for index, path in enumerate(schema.user_agent)]
    written += [(("records", at), ".".join(levels(way))) for at, way in enumerate(schema.ways)]
    for loc, path in written:
        unquoted = re.sub(r'(^|\.)"[^"]+"', r"\1_", path)
        number = next((k for k in keys(unquoted) if isinstance(k, str) and k.isdigit()), None)
        if number is not None:
            message = f"`{number}` is the name of a member; write `[{number}]` for an element"
            yield loc, f'{message} of a list, or `"{number}"` if you mean the name'


@_lint("note")
def idle_alias(schema: Schema, _: date) -> Found:
    """Find aliases of a value for itself, or for a spelling that ``fold_case`` accepts."""
    for name, field in _fields(schema, EnumField):
        for alias, value in field.aliases.items():
            folded = field.fold_case and alias.isascii() and alias.lower() == value.lower()
            if alias == value or folded:
                message = "the value is accepted without this alias; delete it"
                yield ("fields", name, "aliases", alias), message


# -- tests -----------------------------------------------------------------------------------------


@_lint("warning")
def no_tests(schema: Schema, _: date) -> Found:
    """Find schemas without tests."""
    if not schema.tests:
        yield (), "there are no `tests`; add one with an event and what it `keeps`"


@_lint("warning")
def no_never_contains(schema: Schema, _: date) -> Found:
    """Find schemas whose tests name no text that must not come out."""
    if schema.tests and not any(test.never_contains for test in schema.tests):
        message = "no test says what must not come out; put a text into an event and name it"
        yield ("tests",), f"{message} in `never_contains`"


@_lint("warning")
def unguarded_content(schema: Schema, _: date) -> Found:
    """Find test events with content that no ``never_contains`` looks for."""
    for index, test in enumerate(schema.tests):
        planted = not schema.content_names.keys().isdisjoint(_keys(test.event))
        if planted and not test.never_contains:
            message = "its event has content; name a text of it in `never_contains`"
            yield ("tests", index), message


def _keys(value: Any) -> Iterator[str]:
    """Yield every key of a JSON value, at any depth (the loader limits it)."""
    if isinstance(value, dict):
        yield from value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in inner:
        yield from _keys(part)


@_lint("warning")
def idle_never_contains(schema: Schema, _: date) -> Found:
    """Find ``never_contains`` texts that are not in the event, and so cannot come out."""
    for index, test in enumerate(schema.tests):
        event = orjson.dumps(test.event).decode()
        for place, text in enumerate(test.never_contains):
            if text not in event and orjson.dumps(text).decode()[1:-1] not in event:
                message = "this text is not in the event, so the test cannot fail; put it there"
                yield ("tests", index, "never_contains", place), message
