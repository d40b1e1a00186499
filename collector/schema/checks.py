"""What a schema document must fulfil beyond the form of its parts.

Each check is a small generator over a document whose parts are well formed, and yields
``(place, code, message)``; ``CHECKS`` is the table of them. Policy (E3xx) is checked here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from difflib import get_close_matches

from collector.schema import policy
from collector.schema.capacity import record_bits
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.model import Schema
from collector.schema.source import Loc
from collector.schema.terms import keys

__all__ = ["CHECKS", "MOST_OPTIONAL", "Finding", "nearest"]

MOST_OPTIONAL = 6
"""The most purposes that may be refused one by one where events say which."""

Finding = tuple[Loc, str, str]

_USES = f"; allowed are {', '.join(policy.USES)}"
_ROOTS = f"; allowed are {', '.join(policy.FIELD_CATEGORIES)} and below"


def nearest(word: str, known: list[str]) -> str:
    """A "did you mean", or nothing."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean `{close[0]}`?" if close else ""


def _claim(key: str) -> str:
    return f"the claim `{policy.broken_claim(key)}` would not hold"


def uses(schema: Schema) -> Iterator[Finding]:
    """A purpose is one of the allowed leaves; what would break a public claim has no name here."""
    known = policy.taxonomy()["data_uses"]
    allowed = [use for use in known if policy.use_is_allowed(use)]
    for name, purpose in schema.purposes.items():
        loc = ("purposes", name, "use")
        if purpose.use not in known:
            hint = nearest(purpose.use, allowed)
            yield loc, "E302", f"not a use of the fideslang taxonomy{hint or _USES}"
        elif not policy.use_is_allowed(purpose.use):
            yield loc, "E301", f"data is not collected for this, or {_claim(purpose.use)}{_USES}"


def categories(schema: Schema) -> Iterator[Finding]:
    """A field is about a device, its telemetry or the system, never about a person's content."""
    known = policy.taxonomy()["data_categories"]
    for name, field in schema.fields.items():
        loc = ("fields", name, "category")
        if field.category not in known:
            allowed = [key for key in known if policy.category_is_allowed(key)]
            hint = nearest(field.category, allowed)
            yield loc, "E304", f"not a category of the fideslang taxonomy{hint or _ROOTS}"
        elif not policy.category_is_allowed(field.category):
            yield loc, "E303", f"this is not collected, or {_claim(field.category)}{_ROOTS}"


def purposes_are_defined(schema: Schema) -> Iterator[Finding]:
    """A field names purposes of this document."""
    for name, field in schema.fields.items():
        for index, purpose in enumerate(field.purposes):
            if purpose and purpose not in schema.purposes:
                hint = nearest(purpose, list(schema.purposes))
                yield (
                    ("fields", name, "purposes", index),
                    "E132",
                    f"not under `purposes`{hint or '; write it there'}",
                )


def _sources(schema: Schema) -> Iterator[tuple[Loc, str, str]]:
    """Every path of every field, with its place: first the name, then the listed paths."""
    for name, field in schema.fields.items():
        yield ("fields", name), name, name
        for index, path in enumerate(field.sources or ()):
            if path != name:
                yield ("fields", name, "from", index), name, path


def _records(schema: Schema) -> Iterator[tuple[Loc, str]]:
    """Every path of ``records``, with its place; a document may write a single one as a text."""
    paths = schema.records or ()
    for index, path in enumerate(paths):
        yield (("records", index) if len(paths) > 1 else ("records",)), path


def _user_agent(schema: Schema) -> Iterator[tuple[Loc, str]]:
    for index, path in enumerate(schema.user_agent):
        yield ("user_agent", index), path


def _consent(schema: Schema) -> Iterator[tuple[Loc, str]]:
    if schema.consent:
        yield ("consent",), schema.consent


def content_is_not_read(schema: Schema) -> Iterator[Finding]:
    """No path leads through a member that carries meeting content, however it is spelled."""
    message = "this is meeting content, never read, or `no-content` would not hold; leave it out"
    names = schema.content_names
    for loc, _, path in _sources(schema):
        if policy.reads_content(path, names):
            yield loc, "E305", message
    for loc, path in (*_records(schema), *_user_agent(schema), *_consent(schema)):
        if policy.reads_content(path, names):
            yield loc, "E305", message


def identifiers_are_pseudonyms(schema: Schema) -> Iterator[Finding]:
    """What identifies a device or a person for long is allowed only as a pseudonym."""
    message = "an identifier: use `kind: pseudonym`, or leave it out"
    others = {name: field for name, field in schema.fields.items() if field.kind != "pseudonym"}
    for loc, name, path in _sources(schema):
        if name in others and policy.is_identifier(path):
            yield loc, "E306", message
    for name, field in others.items():
        if policy.category_is_allowed(field.category) and policy.is_identifier(field.category):
            yield ("fields", name, "category"), "E306", message


def keys_rotate_together(schema: Schema) -> Iterator[Finding]:
    """Fields that share a key share its period: a key is destroyed when its period ends."""
    rotations: dict[str, timedelta] = {}
    for name, field in schema.fields.items():
        if not isinstance(field, PseudonymField):
            continue
        if rotations.setdefault(field.key, field.rotate) != field.rotate:
            message = "another field rotates this key at another pace; give each its own key"
            yield ("fields", name, "rotate"), "E125", message


def records_path_is_free(schema: Schema) -> Iterator[Finding]:
    """The list of records is not also read as a field, nor a part of it."""
    message = "the list of records lies here; a path must start at the record"
    read = [(loc, path) for loc, _, path in _sources(schema)]
    for loc, path in (*read, *_user_agent(schema)):
        if any(_clash(path, records) for records in schema.records or ()):
            yield loc, "E130", message


def _clash(path: str, records: str) -> bool:
    """Members beside the objects of ``records: way.*`` may be read, those of a list may not."""
    way = records.removesuffix(".*")
    below = way == records and path.startswith(f"{way}.")
    return path == way or below or way.startswith(f"{path}.")


def choices_are_only_choices(schema: Schema) -> Iterator[Finding]:
    """There is something to choose, not more than there may be filters, and nothing of what is
    chosen is also read as a field, or holds one."""
    for loc, path in _consent(schema):
        number = len(schema.optional)
        if not number:
            message = "no purpose may be refused; write `optional: true` on one, or leave it out"
            yield loc, "E144", message
        if number > MOST_OPTIONAL:
            message = f"only {MOST_OPTIONAL} purposes may be optional where events carry choices"
            yield loc, "E144", f"{message}: each combination is a filter of its own"
        read = [*_user_agent(schema), *_records(schema)]
        read += [(place, source) for place, _, source in _sources(schema)]
        if _is_in_a_list(path) and not any(_is_in_a_list(source) for _, source in read):
            message = "no event is a list, as nothing else is looked for in one; name a member"
            yield loc, "E144", message
        for other, source in read:
            way = source.removesuffix(".*")
            if path == way or path.startswith(f"{way}.") or way.startswith(f"{path}."):
                yield other, "E144", "a person's choices lie here, never kept; leave it out"


def _is_in_a_list(path: str) -> bool:
    return type(keys(path)[0]) is int


def derivation(schema: Schema) -> Iterator[Finding]:
    """Only what a user-agent string can say is derived from it, and as a text."""
    for name, field in schema.fields.items():
        if field.derive and (name not in policy.DERIVABLE or str not in field.wire):
            known = ", ".join(policy.DERIVABLE)
            yield (
                ("fields", name, "derive"),
                "E142",
                f"a user-agent string does not say this; it can say {known}, as texts",
            )
    if schema.user_agent and not schema.user_agent_paths:
        message = "no field is derived from it; write `derive: user_agent` on one, or leave it out"
        yield ("user_agent",), "E142", message


def filled_from_the_peer(schema: Schema) -> Iterator[Finding]:
    """The sender's address is the client's address and nothing else, and a text."""
    for name, field in schema.fields.items():
        if field.source and (name != policy.PEER or str not in field.wire):
            message = f"the peer is an address: it can fill only `{policy.PEER}`, as a text"
            yield ("fields", name, "source"), "E143", message


def added_content_has_one_category(schema: Schema) -> Iterator[Finding]:
    """A name means one category."""
    built_in = policy.content_names({})
    added: dict[str, str] = {}
    for category, names in schema.content.items():
        for index, name in enumerate(names):
            if built_in.get(name, category) != category or added.get(name, category) != category:
                yield (
                    ("content", category, index),
                    "E135",
                    "the name already has another category; leave one out",
                )
            added[name] = category


def capacity(schema: Schema) -> Iterator[Finding]:
    """A record is not wider than its author meant it to be."""
    if schema.max_bits is not None and (bits := record_bits(schema)) > schema.max_bits:
        yield (
            ("max_bits",),
            "E307",
            f"a record holds up to {bits:.1f} bits; leave fields out or make them coarser",
        )


def tests_have_names(schema: Schema) -> Iterator[Finding]:
    """Tests can be told apart, and speak of fields of this document."""
    names = Counter(test.name for test in schema.tests)
    for index, test in enumerate(schema.tests):
        if names[test.name] > 1:
            yield ("tests", index, "name"), "E137", "give each test a name of its own"
        for kept in test.keeps if isinstance(test.keeps, list) else [test.keeps or {}]:
            for field in kept:
                if field not in schema.fields:
                    hint = nearest(field, list(schema.fields))
                    yield (
                        ("tests", index, "keeps"),
                        "E136",
                        f"it keeps an undefined field{hint or '; leave it out'}",
                    )
        if test.keeps is None and not test.never_contains:
            yield ("tests", index), "E136", "say what it `keeps`, or what it `never_contains`"
        if any(not text for text in test.never_contains):
            yield (
                ("tests", index, "never_contains"),
                "E136",
                "an empty text is contained everywhere; leave it out",
            )


CHECKS: tuple[Callable[[Schema], Iterator[Finding]], ...] = (
    uses,
    categories,
    purposes_are_defined,
    content_is_not_read,
    identifiers_are_pseudonyms,
    keys_rotate_together,
    records_path_is_free,
    choices_are_only_choices,
    derivation,
    filled_from_the_peer,
    added_content_has_one_category,
    capacity,
    tests_have_names,
)
