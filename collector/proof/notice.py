"""The privacy notice: what schema and configuration say, in sentences (Art. 13 GDPR; Art. 21 of
Indonesia's Law 27 of 2022, UU PDP). What they do not say is said to be left open."""

from __future__ import annotations

from collections.abc import Iterator

from collector.backlog import HOURS, aside_for
from collector.config.model import About
from collector.config.sinks import Sink
from collector.proof.abroad import is_abroad, is_unprotected
from collector.proof.claims import load_claims
from collector.proof.flows import Flows
from collector.proof.paper import Block, Heading, Items, Sentence, Table
from collector.proof.words import Words
from collector.schema.kinds.ip import IpField, Truncation
from collector.schema.model import Basis, Purpose, Schema

__all__ = ["notice"]

_CONTENT = ("no-content",)
_GIVEN_AWAY = ("no-third-party-ads", "no-sale")
_PORTABLE: tuple[Basis, ...] = ("consent", "contract")
_NEEDED: tuple[Basis, ...] = ("contract", "legal_obligation")
_OBJECTABLE: tuple[Basis, ...] = ("legitimate_interests", "public_interest")


def notice(flows: Flows, about: About, words: Words) -> list[Block]:
    """The notice on the schema and the sinks of ``flows``."""
    schema = flows.schema
    return [
        Heading(1, words.say("title", title=words.text(schema.title))),
        *_who(about, words),
        *_what(schema, words),
        *_why(schema, words),
        Heading(2, words.say("never")),
        *_claimed(_CONTENT, words),
        Heading(2, words.say("recipients")),
        Items([_recipient(flows, name, sink, about, words) for name, sink in flows.sinks.items()]),
        *_claimed(_GIVEN_AWAY, words),
        *_how_long(schema, words),
        *_rights(schema, about, words),
        Sentence(words.say("made_of", schema=schema.id, digest=schema.digest[:16])),
    ]


def _who(about: About, words: Words) -> Iterator[Block]:
    yield Heading(2, words.say("who"))
    if about.controller is None:
        yield Sentence(words.say("controller_unnamed"))
    else:
        yield Sentence(words.say("controller", name=about.controller))
    contact = "contact" if about.contact else "contact_unknown"
    lines = [
        words.say(contact, contact=about.contact),
        words.say("officer", contact=about.officer) if about.officer else "",
        words.say("seat", country=about.country) if about.country else "",
    ]
    yield Items([line for line in lines if line])


def _what(schema: Schema, words: Words) -> Iterator[Block]:
    columns = ("data", "precision", "reason", "purposes", "retention")
    yield Heading(2, words.say("what"))
    yield Table(
        [words.say(f"column_{column}") for column in columns],
        [
            [
                words.data([name]),
                words.precision(field),
                words.text(field.reason),
                words.purposes(field.purposes),
                words.span(field.retention),
            ]
            for name, field in schema.fields.items()
        ],
    )
    yield Sentence(words.say("what_alone"))


def _used(schema: Schema) -> dict[str, Purpose]:
    """The purposes that a field is for."""
    used = {purpose for field in schema.fields.values() for purpose in field.purposes}
    return {name: each for name, each in schema.purposes.items() if name in used}


def _why(schema: Schema, words: Words) -> Iterator[Block]:
    used = _used(schema)
    columns = ("purpose", "reason", "use", "basis", "refuse")
    yield Heading(2, words.say("why"))
    yield Table(
        [words.say(f"column_{column}") for column in columns],
        [
            [
                words.purposes([name]),
                words.text(purpose.reason),
                words.use(purpose.use),
                words.basis(purpose.basis),
                words.say("yes" if purpose.optional else "no"),
            ]
            for name, purpose in used.items()
        ],
    )
    for basis in _NEEDED:
        names = [n for n, each in used.items() if each.basis == basis and not each.optional]
        if names:
            yield Sentence(words.say(f"needed_{basis}", purposes=words.purposes(names)))


def _claimed(names: tuple[str, ...], words: Words) -> Iterator[Block]:
    """Public claims, as they are made everywhere."""
    claims = load_claims()
    yield Sentence(" ".join(words.text(claims[name].text) for name in names))


def _recipient(flows: Flows, name: str, sink: Sink, about: About, words: Words) -> str:
    key = {"first": "ours", "processor": "processor", "third": "third"}[sink.party]
    who = sink.recipient or words.say("somebody")
    data = words.data(flows.to(name))
    country = about.place(sink)
    if country is None:
        place = words.say("place_unknown")
    else:
        place = words.say("place_abroad" if is_abroad(sink, about) else "place", country=country)
    told = [words.say(key, recipient=who, sink=name, data=data), place]
    if sink.safeguard is not None:
        told.append(words.say("safeguard", safeguard=sink.safeguard))
    elif is_unprotected(sink, about):
        told.append(words.say("safeguard_unknown"))
    return " ".join(told)


def _how_long(schema: Schema, words: Words) -> Iterator[Block]:
    aside = aside_for(schema)
    yield Heading(2, words.say("long"))
    yield Items(
        [
            words.say("long_data"),
            words.say("long_aside", span=words.span(aside)),
            words.say("long_counts", span=words.span(HOURS)),
        ]
    )


def _rights(schema: Schema, about: About, words: Words) -> Iterator[Block]:
    """The rights that there are; some depend on the legal basis, some on what may be refused. That
    one may object stands apart from all others, as Art. 21(4) GDPR has it."""
    purposes = _used(schema)
    objectable = [n for n, each in purposes.items() if each.basis in _OBJECTABLE]
    groups = {
        "portability": [n for n, each in purposes.items() if each.basis in _PORTABLE],
        "withdrawal": [n for n, each in purposes.items() if each.basis == "consent"],
        "refusal": [n for n, each in purposes.items() if each.optional],
    }
    yield Heading(2, words.say("rights"))
    yield Items(
        [
            *(words.say(f"right_{right}") for right in ("access", "correction", "erasure")),
            *(
                words.say(f"right_{right}", purposes=words.purposes(names))
                for right, names in groups.items()
                if names
            ),
            *([words.say("right_signal")] if groups["refusal"] else []),
            *(words.say(f"right_{right}") for right in ("decision", "compensation", "complaint")),
        ]
    )
    if objectable:
        yield Heading(3, words.say("objection"))
        yield Sentence(words.say("right_objection", purposes=words.purposes(objectable)))
    yield Heading(3, words.say("how"))
    contact = "how_contact" if about.contact else "contact_unknown"
    yield Sentence(words.say(contact, contact=about.contact))
    found_by = [
        name
        for name, field in schema.fields.items()
        if isinstance(field, IpField) and field.truncate == Truncation()
    ]
    if found_by:
        yield Sentence(words.say("finding", data=words.data(found_by)))
