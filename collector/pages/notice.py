"""The privacy notice: schema and configuration in sentences (Art. 13 GDPR; Art. 21 of Indonesia's
Law 27 of 2022, UU PDP). A fact that neither of them states is named as not stated."""

from __future__ import annotations

from collections.abc import Iterator

from collector.claims.document import load_claims
from collector.config.model import About
from collector.config.sink_settings import SinkSettings
from collector.pages.paper_document import Block, BulletList, DataTable, Heading, Sentence
from collector.pages.phrases import PhraseBook
from collector.retention.upkeep import HOURS, aside_for
from collector.routing import Flows, is_abroad, is_unprotected
from collector.schema.model import Basis, Purpose, Schema
from collector.schema.names.scope import conditions, scope
from collector.schema.review import Review

_CONTENT = ("no-content",)
_NO_SALE = ("no-third-party-ads", "no-sale")
_PORTABLE: tuple[Basis, ...] = ("consent", "contract")
_NEEDED: tuple[Basis, ...] = ("contract", "legal_obligation")
_OBJECTABLE: tuple[Basis, ...] = ("legitimate_interests", "public_interest")


def notice(flows: Flows, about: About, book: PhraseBook, reviewed: Review) -> list[Block]:
    """Write the notice on the schema and the sinks of ``flows``, with what is ``reviewed``."""
    schema = flows.schema
    return [
        Heading(1, book.say("title", title=book.text(schema.title))),
        *_controller(about, book),
        *_data(schema, book, reviewed),
        *_purposes(schema, book),
        Heading(2, book.say("never")),
        *_claimed(_CONTENT, book),
        Heading(2, book.say("recipients")),
        BulletList(
            [_recipient(flows, name, sink, about, book) for name, sink in flows.sinks.items()]
        ),
        *_claimed(_NO_SALE, book),
        *_retention(schema, book),
        *_rights(schema, about, book),
        Sentence(book.say("made_of", schema=schema.id, digest=schema.digest[:16])),
    ]


def _controller(about: About, book: PhraseBook) -> Iterator[Block]:
    yield Heading(2, book.say("who"))
    if about.controller is None:
        yield Sentence(book.say("controller_unnamed"))
    else:
        yield Sentence(book.say("controller", name=about.controller))
    contact = "contact" if about.contact else "contact_unknown"
    lines = [
        book.say(contact, contact=about.contact),
        book.say("officer", contact=about.officer) if about.officer else "",
        book.say("seat", country=about.country) if about.country else "",
    ]
    yield BulletList([line for line in lines if line])


def _data(schema: Schema, book: PhraseBook, reviewed: Review) -> Iterator[Block]:
    columns = ("data", "precision", "reason", "purposes", "retention")
    yield Heading(2, book.say("what"))
    yield DataTable(
        [book.say(f"column_{column}") for column in columns],
        [
            [
                book.data([name]),
                book.precision(field),
                book.text(field.reason),
                book.purposes(field.purposes),
                book.span(field.retention),
            ]
            for name, field in schema.fields.items()
        ],
    )
    yield from _conditions(schema, book)
    for text in scope(schema).sentences:
        yield Sentence(book.text(text))
    for addition in reviewed.additions:
        data, day = book.data(addition.fields), addition.date.isoformat()
        yield Sentence(book.say("reviewed", data=data, by=addition.by, date=day))
    if reviewed.unapproved:
        names = [each.name for each in reviewed.unapproved]
        yield Sentence(book.say("not_reviewed", data=book.data(names)))
    yield Sentence(book.say("what_alone"))


def _conditions(schema: Schema, book: PhraseBook) -> Iterator[Block]:
    """State what must stand in a record, and beside a value, for anything to be kept."""
    of_records, of_fields = conditions(schema)
    if of_records:
        yield Sentence(book.say("records_where", conditions=book.any_of(of_records)))
    for name, alternatives in of_fields.items():
        yield Sentence(
            book.say("value_where", data=book.data([name]), conditions=book.any_of(alternatives))
        )


def _used(schema: Schema) -> dict[str, Purpose]:
    """Return the purposes that at least one field is for."""
    used = {purpose for field in schema.fields.values() for purpose in field.purposes}
    return {name: each for name, each in schema.purposes.items() if name in used}


def _purposes(schema: Schema, book: PhraseBook) -> Iterator[Block]:
    used = _used(schema)
    columns = ("purpose", "reason", "use", "basis", "refuse")
    yield Heading(2, book.say("why"))
    yield DataTable(
        [book.say(f"column_{column}") for column in columns],
        [
            [
                book.purposes([name]),
                book.text(purpose.reason),
                book.use(purpose.use),
                book.basis(purpose.basis),
                book.say("yes" if purpose.optional else "no"),
            ]
            for name, purpose in used.items()
        ],
    )
    for basis in _NEEDED:
        names = [n for n, each in used.items() if each.basis == basis and not each.optional]
        if names:
            yield Sentence(book.say(f"needed_{basis}", purposes=book.purposes(names)))


def _claimed(names: tuple[str, ...], book: PhraseBook) -> Iterator[Block]:
    """Quote public claims word for word."""
    claims = load_claims()
    yield Sentence(" ".join(book.text(claims[name].text) for name in names))


def _recipient(flows: Flows, name: str, sink: SinkSettings, about: About, book: PhraseBook) -> str:
    key = {"first": "ours", "processor": "processor", "third": "third"}[sink.party]
    recipient = sink.recipient or book.say("somebody")
    data = book.data(flows.to(name))
    country = about.place(sink)
    if country is None:
        place = book.say("place_unknown")
    else:
        place = book.say("place_abroad" if is_abroad(sink, about) else "place", country=country)
    sentences = [book.say(key, recipient=recipient, sink=name, data=data), place]
    if sink.safeguard is not None:
        sentences.append(book.say("safeguard", safeguard=sink.safeguard))
    elif is_unprotected(sink, about):
        sentences.append(book.say("safeguard_unknown"))
    return " ".join(sentences)


def _retention(schema: Schema, book: PhraseBook) -> Iterator[Block]:
    aside = aside_for([schema])
    yield Heading(2, book.say("long"))
    yield BulletList(
        [
            book.say("long_data"),
            book.say("long_aside", span=book.span(aside)),
            book.say("long_counts", span=book.span(HOURS)),
        ]
    )


def _rights(schema: Schema, about: About, book: PhraseBook) -> Iterator[Block]:
    """List the rights; some depend on the legal basis, some on what may be refused. The right to
    object is presented separately, as Art. 21(4) GDPR demands."""
    purposes = _used(schema)
    objectable = [n for n, each in purposes.items() if each.basis in _OBJECTABLE]
    groups = {
        "portability": [n for n, each in purposes.items() if each.basis in _PORTABLE],
        "withdrawal": [n for n, each in purposes.items() if each.basis == "consent"],
        "refusal": [n for n, each in purposes.items() if each.optional],
    }
    yield Heading(2, book.say("rights"))
    yield BulletList(
        [
            *(book.say(f"right_{right}") for right in ("access", "correction", "erasure")),
            *(
                book.say(f"right_{right}", purposes=book.purposes(names))
                for right, names in groups.items()
                if names
            ),
            *([book.say("right_signal")] if groups["refusal"] else []),
            *(book.say(f"right_{right}") for right in ("decision", "compensation", "complaint")),
        ]
    )
    if objectable:
        yield Heading(3, book.say("objection"))
        yield Sentence(book.say("right_objection", purposes=book.purposes(objectable)))
    yield Heading(3, book.say("how"))
    contact = "how_contact" if about.contact else "contact_unknown"
    yield Sentence(book.say(contact, contact=about.contact))
    found_by = [
        name for name, field in schema.fields.items() if field.identifies and not field.pseudonymous
    ]
    if found_by:
        yield Sentence(book.say("finding", data=book.data(found_by)))
