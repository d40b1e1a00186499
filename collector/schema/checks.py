"""Checks of a schema document as a whole, once its parts are well formed.

Each check is a small generator that yields ``(place, code, message)``; ``CHECKS`` is the table of
them. Policy (E3xx) is checked here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

from collector.documents import Loc, nearest
from collector.schema import policy
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.model import Schema, letter_bits, record_bits
from collector.schema.names import LETTER_BITS, LETTER_BITS_SCHEMA, NameFault, refusal, words
from collector.schema.names.scope import WAYS, is_within
from collector.schema.scalars import beside, condition_of, keys, levels, lies_in, path_of, spoken

MOST_OPTIONAL = 6
"""The most purposes that can be refused one by one if events carry choices."""

TO_WRITE = "FILL IN"
"""The placeholder in a proposed document that its author has to replace."""

Finding = tuple[Loc, str, str]
Check = Callable[[Schema], Iterator[Finding]]

_USES = f"; allowed are {', '.join(policy.USES)}"
_ROOTS = f"; allowed are {', '.join(policy.FIELD_CATEGORIES)} and below"


def _claim(key: str) -> str:
    return f"it would break the claim `{policy.broken_claim(key)}`"


def nothing_is_left_to_write(schema: Schema) -> Iterator[Finding]:
    """Check that the author has replaced the placeholders of a proposed document."""
    parts: list[tuple[Loc, object]] = [((), schema)]
    parts += [(("purposes", name), each) for name, each in schema.purposes.items()]
    parts += [(("fields", name), each) for name, each in schema.fields.items()]
    texts: list[tuple[Loc, object]] = [
        ((*loc, key), getattr(part, key, None))  # a placeholder lacks some
        for loc, part in parts
        for key in ("title", "owner", "reason")
    ]
    texts += [(("also_collected", name), text) for name, text in schema.also_collected.items()]
    for loc, text in texts:
        if isinstance(text, str) and TO_WRITE in text:
            way_out = ", or delete the field" if loc[0] == "fields" else ""
            yield loc, "E106", f"`{TO_WRITE}` is still here; replace it with your words{way_out}"


def uses(schema: Schema) -> Iterator[Finding]:
    """Check that a purpose has an allowed use; none of these breaks a public claim."""
    known = policy.taxonomy()["data_uses"]
    allowed = [use for use in known if policy.use_is_allowed(use)]
    for name, purpose in schema.purposes.items():
        loc = ("purposes", name, "use")
        if purpose.use not in known:
            hint = nearest(purpose.use, allowed)
            yield loc, "E302", f"fideslang has no such use{hint or _USES}"
        elif not policy.use_is_allowed(purpose.use):
            yield loc, "E301", f"this use is not allowed: {_claim(purpose.use)}{_USES}"


def categories(schema: Schema) -> Iterator[Finding]:
    """Check that a field is about a device, its telemetry or the system, never about content."""
    known = policy.taxonomy()["data_categories"]
    for name, field in schema.fields.items():
        loc = ("fields", name, "category")
        if field.category not in known:
            allowed = [key for key in known if policy.category_is_allowed(key)]
            hint = nearest(field.category, allowed)
            yield loc, "E302", f"fideslang has no such category{hint or _ROOTS}"
        elif not policy.category_is_allowed(field.category):
            yield (
                loc,
                "E303",
                f"this category is not allowed: {_claim(field.category)}{_ROOTS}",
            )


def purposes_are_defined(schema: Schema) -> Iterator[Finding]:
    """Check that a field names purposes of this document."""
    for name, field in schema.fields.items():
        for index, purpose in enumerate(field.purposes):
            if purpose and purpose not in schema.purposes:
                hint = nearest(purpose, schema.purposes)
                yield (
                    ("fields", name, "purposes", index),
                    "E132",
                    f"`purposes` does not define this purpose{hint or '; add it there'}",
                )


def _sources(schema: Schema) -> Iterator[tuple[Loc, str, str]]:
    """Yield every path of every field, with its place: first the name, then the listed paths."""
    for name, field in schema.fields.items():
        yield ("fields", name), name, name
        for index, source in enumerate(field.sources or ()):
            inside = () if isinstance(source, str) else ("path",)
            if path_of(source) != name:
                yield ("fields", name, "from", index, *inside), name, path_of(source)


def _compared(schema: Schema) -> Iterator[tuple[Loc, str]]:
    """Yield the path of every member that a condition compares, with its place."""
    for index, way in enumerate(schema.records or ()):
        for member, _ in condition_of(way):
            yield ("records", index, "when", member), beside("", member)
    for name, field in schema.fields.items():
        for index, source in enumerate(field.sources or ()):
            for member, _ in condition_of(source):
                loc = ("fields", name, "from", index, "when", member)
                yield loc, beside(path_of(source), member)


def _records(schema: Schema) -> Iterator[tuple[Loc, str]]:
    for index, way in enumerate(schema.records or ()):
        inside = () if isinstance(way, str) else ("path",)
        yield ("records", index, *inside), path_of(way)


def _user_agent(schema: Schema) -> Iterator[tuple[Loc, str]]:
    for index, path in enumerate(schema.user_agent):
        yield ("user_agent", index), path


def _consent(schema: Schema) -> Iterator[tuple[Loc, str]]:
    if schema.consent:
        yield ("consent",), schema.consent


_CLAIMS = {
    "content": "no-content",
    "health": "no-monitoring",
    "belief": "no-monitoring",
    "behaviour": "no-monitoring",
}
"""The claim that a category of words protects; other categories protect ``needed-only``."""
_MESSAGES = {
    "E305": "`{word}` names what is said or shown, and this text could contain it, which would"
    " break the claim `{claim}`; count it (`kind: integer`), list its few values (`kind: enum`), or"
    " delete the field",
    "E306": "`{word}` identifies a device, a person or a meeting; use `kind: pseudonym`, list its"
    " few values (`kind: enum`), or delete the field",
    "E310": "`{word}` is about a person ({category}), and this text could contain it, which would"
    " break the claim `{claim}`; delete the field, or list its few values (`kind: enum`)",
    "E312": "this text can spell words, so every word of its name must be known, and `{word}` is"
    " not; name the field after the device, system or medium that it describes, or list its values"
    " (`kind: enum`)",
}
_NEVER_READ = (
    "`{word}` is a name of content, which is counted and never read: reading it would break the"
    " claim `no-content`; give the path of a number inside it, or delete this path"
)


def names_fit_values(schema: Schema) -> Iterator[Finding]:
    """Check that no name or path of a text suggests content or people, and that no path leads to
    counted content."""
    for loc, name, written in _sources(schema):
        path, field = spoken(written), schema.fields[name]
        if word := _never_read(schema, path):
            yield loc, "E305", _NEVER_READ.format(word=word)
            continue
        can_spell = field.can_spell()
        if not (field.is_text() or can_spell or field.pseudonymous):
            continue
        if is_within(name, field.kind, [written]):
            found = map(partial(_told, can_spell), _other_ways(schema))
        else:
            found = map(partial(_refusal, can_spell, field.pseudonymous), _full(schema, path))
        if (fault := next(filter(None, found), None)) is not None:
            yield loc, fault.code, _message_of(fault)
    for loc, written in (*_records(schema), *_user_agent(schema), *_consent(schema)):
        if word := policy.name_on(spoken(written), schema.content_names):
            yield loc, "E305", _NEVER_READ.format(word=word)
    yield from _derived_texts(schema)
    for name, field in schema.fields.items():
        is_one = policy.category_is_allowed(field.category) and policy.is_identifier(field.category)
        if is_one and not field.pseudonymous:
            message = (
                "this is a category of identifiers; use `kind: pseudonym`, or delete the field"
            )
            yield ("fields", name, "category"), "E306", message


def _derived_texts(schema: Schema) -> Iterator[Finding]:
    """Check that no text is derived from a path that suggests content or people."""
    derived = [field for field in schema.fields.values() if field.derive]
    if any(field.is_text() for field in derived):
        can_spell = any(field.can_spell() for field in derived)
        for loc, written in _user_agent(schema):
            if fault := _told(can_spell, _AGENT.sub("browser", spoken(written))):
                yield loc, fault.code, _message_of(fault)


_AGENT = re.compile(r"user[-_. ]?agent", re.IGNORECASE)
"""The name of the string itself; its first word would suggest a person."""


def compared_members_fit(schema: Schema) -> Iterator[Finding]:
    """Check that no condition compares counted content."""
    for loc, written in _compared(schema):
        if word := _never_read(schema, spoken(written)):
            yield loc, "E305", _NEVER_READ.format(word=word)


def _refusal(can_spell: bool, is_pseudonym: bool, path: str) -> NameFault | None:
    return refusal(path, can_spell=can_spell, is_pseudonym=is_pseudonym)


def _told(can_spell: bool, path: str) -> NameFault | None:
    """Judge the path to a value with a known name: by telling words, and by letters beyond
    ASCII."""
    return refusal(path, can_spell=can_spell and not path.isascii())


def _other_ways(schema: Schema) -> Iterator[str]:
    """Yield the words of the paths to records that are not in ``WAYS``."""
    for way in schema.ways:
        yield ".".join(word for word in words(spoken(way)) if word not in WAYS)


def _full(schema: Schema, path: str) -> Iterator[str]:
    """Yield the full paths, from the event, of a record's path."""
    for way in schema.ways or (".",):
        yield spoken(f"{way.removesuffix('.*')}.{path}") if way != "." else path


_LEADING = re.compile(r"^(?:\[[0-9]+\])+\.?")


def _never_read(schema: Schema, path: str) -> str:
    """Return the content name that a path reads: the counted member at its end (or whose element it
    reads), or a name added by the schema anywhere on the path. Empty if there is none."""
    member = _LEADING.sub("", path).partition("[")[0]
    if member in schema.content_names:
        return member
    return policy.name_on(path, [name for names in schema.content.values() for name in names])


def _message_of(found: NameFault) -> str:
    claim = _CLAIMS.get(found.category, "needed-only")
    return _MESSAGES[found.code].format(word=found.word, category=found.category, claim=claim)


def patterns_spell_little(schema: Schema) -> Iterator[Finding]:
    """Check that no pattern has room for words, and that all patterns together have little."""
    bits = letter_bits(schema)
    for name, found in bits.items():
        if found > LETTER_BITS:
            options = ("pattern", "catalogue", "values")
            option = next(key for key in options if getattr(schema.fields[name], key, None))
            message = (
                f"the letters of this {option} have {found:.1f} bits, and {LETTER_BITS} are"
                " allowed: it could spell words, which would break the claim `no-content`; list"
                " whole words, or allow letters only where the source has them"
            )
            yield ("fields", name, option), "E311", message
    if (total := sum(bits.values())) > LETTER_BITS_SCHEMA:
        message = (
            f"the letters of all patterns and lists have {total:.1f} bits together, and"
            f" {LETTER_BITS_SCHEMA} are allowed; make them narrower, or list whole words"
        )
        yield ("fields",), "E311", message


def sentences_are_written(schema: Schema) -> Iterator[Finding]:
    """Check that a field names a sentence of this document."""
    for name, field in schema.fields.items():
        if field.also is not None and field.also not in schema.also_collected:
            hint = nearest(field.also, schema.also_collected)
            message = f"`also_collected` has no such sentence{hint or '; add it there'}"
            yield ("fields", name, "also"), "E132", message


def keys_rotate_together(schema: Schema) -> Iterator[Finding]:
    """Check that fields with the same key have the same rotation period, because the key is
    destroyed at its end."""
    rotations: dict[str, timedelta] = {}
    for name, field in schema.fields.items():
        if not isinstance(field, PseudonymField):
            continue
        if rotations.setdefault(field.key, field.rotate) != field.rotate:
            message = (
                "another field rotates this key after another period; give each field its own key"
            )
            yield ("fields", name, "rotate"), "E122", message


def records_path_is_free(schema: Schema) -> Iterator[Finding]:
    """Check that no field reads the list of records, or a part of it."""
    read = [(loc, path) for loc, _, path in _sources(schema)]
    for loc, path in (*read, *_user_agent(schema), *_compared(schema)):
        for records in schema.ways:
            if _clash(path, records):
                yield loc, "E122", _OBJECTS if _is_of_objects(path, records) else _LIST
                break


_LIST = "the list of records is here; a path must start at the record"
_OBJECTS = (
    "the records are members of this object; give the path of a member, or write a second schema"
    " for what else is here"
)


def a_map_of_events_stands_alone(schema: Schema) -> Iterator[Finding]:
    """Check that ``*`` (every event is in a map) is the only path to records."""
    for index, way in enumerate(schema.ways):
        if way == "*" and len(schema.ways) > 1:
            message = "`*` says that every event is in a map; delete the other paths"
            yield ("records", index), "E122", message


def _is_of_objects(path: str, records: str) -> bool:
    """Return whether a path ends at the object whose members are the records."""
    return records.endswith(".*") and keys(path) == keys(levels(records)[0].removesuffix(".*"))


def _clash(path: str, records: str) -> bool:
    """Return whether a path conflicts with the path to records. Members beside the objects of
    ``records: way.*`` do not."""
    for level in levels(records):
        way = level.removesuffix(".*")
        if lies_in(way, path) or (way == level and lies_in(path, way)):
            return True
    return False


def choices_are_only_choices(schema: Schema) -> Iterator[Finding]:
    """Check that some purpose can be refused, that there are not too many sets of choices, and that
    no field reads a person's choices."""
    for loc, path in _consent(schema):
        number = len(schema.optional)
        if not number:
            message = (
                "nobody can refuse a purpose; write `optional: true` on one, or delete `consent`"
            )
            yield loc, "E122", message
        if number > MOST_OPTIONAL:
            message = f"with `consent`, at most {MOST_OPTIONAL} purposes may be optional"
            yield loc, "E122", f"{message}, because each combination is a filter of its own"
        read = [*_user_agent(schema), *_records(schema), *_compared(schema)]
        read += [(place, source) for place, _, source in _sources(schema)]
        if _is_in_a_list(path) and not any(_is_in_a_list(source) for _, source in read):
            message = (
                "this path begins in a list, but no other path does; give the path of a member"
            )
            yield loc, "E122", message
        for other, source in read:
            ways = [way.removesuffix(".*") for way in levels(source)]
            if any(lies_in(path, way) or lies_in(way, path) for way in ways):
                message = "a person's choices are here, which are never kept; delete this path"
                yield other, "E122", message


def _is_in_a_list(path: str) -> bool:
    return type(keys(levels(path)[0])[0]) is int


def derivation(schema: Schema) -> Iterator[Finding]:
    """Check that only texts that a user-agent string can yield are derived from it."""
    for name, field in schema.fields.items():
        if field.derive and (name not in policy.DERIVABLE or str not in field.wire):
            known = ", ".join(policy.DERIVABLE)
            yield (
                ("fields", name, "derive"),
                "E122",
                f"a user-agent string does not contain this; it can fill {known}, as texts",
            )
    if schema.user_agent and not schema.user_agent_paths:
        message = "no field uses it; write `derive: user_agent` on a field, or delete `user_agent`"
        yield ("user_agent",), "E122", message


def filled_from_the_peer(schema: Schema) -> Iterator[Finding]:
    """Check that the sender's address fills only the client's address, as a text."""
    for name, field in schema.fields.items():
        if field.source and (name != policy.PEER or str not in field.wire):
            message = f"the peer is an address; it can fill only `{policy.PEER}`, as a text"
            yield ("fields", name, "source"), "E122", message


def added_content_has_one_category(schema: Schema) -> Iterator[Finding]:
    """Check that a content name has one category."""
    built_in = policy.content_names({})
    added: dict[str, str] = {}
    for category, names in schema.content.items():
        for index, name in enumerate(names):
            if built_in.get(name, category) != category or added.get(name, category) != category:
                yield (
                    ("content", category, index),
                    "E122",
                    "this name is in two categories; delete it from one",
                )
            added[name] = category


def capacity(schema: Schema) -> Iterator[Finding]:
    """Check that a record is not wider than its author allows."""
    if schema.max_bits is not None and (bits := record_bits(schema)) > schema.max_bits:
        message = (
            f"a record holds up to {bits:.1f} bits, but `max_bits` is {schema.max_bits}; delete"
            " fields, make them coarser, or raise `max_bits`"
        )
        yield ("max_bits",), "E307", message


def tests_have_names(schema: Schema) -> Iterator[Finding]:
    """Check that tests have different names, and name fields of this document."""
    names = Counter(test.name for test in schema.tests)
    for index, test in enumerate(schema.tests):
        if names[test.name] > 1:
            yield ("tests", index, "name"), "E122", "another test has this name; give each its own"
        keeps = test.keeps if isinstance(test.keeps, list) else [test.keeps or {}]
        for number, record in enumerate(keeps):
            place = (number,) if keeps is test.keeps else ()
            for field in record:
                if field not in schema.fields:
                    hint = nearest(field, schema.fields)
                    yield (
                        ("tests", index, "keeps", *place, field),
                        "E132",
                        f"`fields` does not define this field{hint or '; delete it'}",
                    )
        if test.keeps is None and not test.never_contains:
            yield ("tests", index), "E106", "a test needs `keeps` or `never_contains`"
        if any(not text for text in test.never_contains):
            yield (
                ("tests", index, "never_contains"),
                "E107",
                "every record contains an empty text; delete it",
            )


CHECKS: tuple[Check, ...] = (
    nothing_is_left_to_write,
    uses,
    categories,
    purposes_are_defined,
    names_fit_values,
    compared_members_fit,
    patterns_spell_little,
    sentences_are_written,
    keys_rotate_together,
    records_path_is_free,
    a_map_of_events_stands_alone,
    choices_are_only_choices,
    derivation,
    filled_from_the_peer,
    added_content_has_one_category,
    capacity,
    tests_have_names,
)
