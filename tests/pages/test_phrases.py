"""The words of the notice: the same in each language, and whole for what is shipped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from itertools import chain
from random import Random
from string import Formatter

from collector.claims.document import CHECKS, RECORDING_CHECKS, SERVING_CHECKS, load_claims
from collector.claims.findings import ClaimFinding
from collector.claims.promises import CHECKED, LIMITS, promises
from collector.pages.phrases import LANGUAGES, LETTERS, Language, nearest_above, phrase_book
from collector.schema import load_schema, resources
from collector.schema.kinds import KINDS
from collector.schema.policy import taxonomy, use_is_allowed
from tests.strategies import draw_options
from tests.support.make_schemas import field
from tests.support.rows import for_each

_OTHERS = [language for language in LANGUAGES if language != "en"]
_SHIPPED = [load_schema(name) for name in resources.names()]


def _parts(phrase: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(phrase) if name is not None}


@for_each("language", _OTHERS)
def test_languages_say_the_same(language: Language) -> None:
    """The same phrases with the same parts, the same labels."""
    english, other = phrase_book("en"), phrase_book(language)
    for group in ("phrases", "page"):
        ours, theirs = getattr(english, group), getattr(other, group)
        assert list(theirs) == list(ours)
        for key, phrase in theirs.items():
            assert _parts(phrase) == _parts(ours[key]), key
    for group in ("fields", "uses", "bases"):
        assert list(getattr(other, group)) == list(getattr(english, group))


@for_each("language", LANGUAGES)
def test_every_label_is_there(language: Language) -> None:
    found = phrase_book(language)
    assert set(found.bases) == set(LETTERS)
    assert set(found.fields) == {name for schema in _SHIPPED for name in schema.fields}
    uses = filter(use_is_allowed, taxonomy()["data_uses"])
    assert all(nearest_above(use, found.uses) for use in uses)
    assert all(map(use_is_allowed, set(found.uses) - {"essential.service"}))


@for_each("language", _OTHERS)
def test_what_is_shipped_is_translated(language: Language) -> None:
    """Every text of shipped schemas, of claims and of checks."""
    expected = {claim.text for claim in load_claims().values()}
    for schema in _SHIPPED:
        expected |= {schema.title, *(field.reason for field in schema.fields.values())}
        for name, purpose in schema.purposes.items():
            expected |= {purpose.reason, name.replace("_", " ")}
    expected |= {*CHECKED.values(), *_sentences(LIMITS.values())}
    assert expected <= set(phrase_book(language).texts)


def _sentences(texts: Iterable[str]) -> set[str]:
    return {each for text in texts for each in re.split(r"(?<=\.) ", text)}


@for_each("language", _OTHERS)
def test_what_checks_say_is_translated(language: Language) -> None:
    claims, book = load_claims(), phrase_book(language)
    more = ClaimFinding("Also collected: more", amends=True)
    none = dict.fromkeys((*CHECKS, *SERVING_CHECKS, *RECORDING_CHECKS), ())
    every = promises(claims, none), promises(claims, none | {"review": (more,)})
    for promise in chain(*every):
        for text in (promise.reason, promise.checked, promise.limits):
            assert book.told(text) != text


def test_names_in_what_checks_say_stay_as_they_are() -> None:
    """They stand between backquotes, and nothing else passes for one."""
    book = phrase_book("id")
    said = book.told(
        "Schema `web`: Nobody has approved `a.b`: it is new."
        " Run `collector claims --details` to see 6 more findings."
    )
    assert "`web`" in said
    assert "`a.b`" in said
    assert "Nobody" not in said
    assert "more" not in said
    for text in ("Nobody has approved `a` or `b`: it is new.", "Nobody has approved a: it is new."):
        assert book.told(text) == text


def test_what_is_not_known_stays_as_it_is() -> None:
    """A sentence that no text and no pattern has, beside others or alone."""
    book = phrase_book("id")
    for text in ("The kernel is trusted. Something else.", "What is this, and that.", "", "a"):
        assert book.told(text) == text


@for_each("kind", KINDS)
def test_every_kind_has_its_phrases(kind: str) -> None:
    """Each phrase of a kind is there in each language, with the same parts."""
    for key, by_language in KINDS[kind].phrases.items():
        assert set(by_language) == set(LANGUAGES), key
        assert len({frozenset(_parts(phrase)) for phrase in by_language.values()}) == 1, key


@for_each("kind", KINDS)
def test_every_field_has_a_phrase(kind: str) -> None:
    random, used = Random(0), set()
    for _ in range(50):
        drawn = field(kind, **draw_options(kind, random))
        used.add(drawn.phrase()[0])
        for language in LANGUAGES:
            assert phrase_book(language).precision(drawn)
    assert used <= set(KINDS[kind].phrases)


@for_each(
    ("span", "said"),
    [
        (timedelta(days=30), "30 days"),
        (timedelta(days=1), "1 day"),
        (timedelta(hours=36), "36 hours"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(minutes=90), "90 minutes"),
    ],
)
def test_spans(span: timedelta, said: str) -> None:
    """In the largest unit that leaves nothing."""
    assert phrase_book("en").span(span) == said


def test_what_has_no_label_is_said_by_its_name() -> None:
    """Fields, uses and texts without a phrase."""
    found = phrase_book("id")
    assert found.data(["client.address", "window.width"]) == "alamat IP, window.width"
    assert found.text("Something else") == "Something else"
    assert found.use("essential.service.operations.support") == "menjalankan layanan"
    assert found.use("other.use") == "other.use"
