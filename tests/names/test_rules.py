"""The tables of words: what is an error as a text, what loads, and how much of real names."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from collector.schema.names import Category, refusal, suggestions, words
from collector.schema.names.scope import POSITIVE
from tests.names.corpora import FORMS, corpus, faults, parsed, refused
from tests.support.rows import for_each

_TELLING = 0.95
_INNOCENT = 0.05
_OFFERED = ("number", "list of values", "version", "pseudonym")
_WORDS = Path(__file__).parents[2] / "collector" / "schema" / "names" / "words.txt"


def _sections() -> dict[str, list[str]]:
    """Read the tables, apart from the package."""
    found: dict[str, list[str]] = {}
    for line in _WORDS.read_text().splitlines():
        if line.startswith("["):
            found[line.strip("[]")] = listed = []
        elif found:
            listed += line.split()
    return found


_SECTIONS = _sections()
_CASES = [(word, category) for category in get_args(Category) for word in _SECTIONS[category]]


@for_each("name", ["telling", "held_telling"])
@pytest.mark.timeout(120)
def test_telling_names_are_errors_as_texts(name: str) -> None:
    entries = corpus(name)
    assert len(entries) > 200
    errors = sum(bool(faults(entry.name, "text")) for entry in entries)
    assert errors >= _TELLING * len(entries)


@for_each("name", ["innocent", "held_innocent"])
@for_each("form", _OFFERED)
@pytest.mark.timeout(120)
def test_innocent_names_load(name: str, form: str) -> None:
    """In each form that the page offers in place of a text."""
    entries = corpus(name)
    assert len(entries) > 200
    assert len(refused([entry.name for entry in entries], form)) <= _INNOCENT * len(entries)


@for_each("form", sorted(FORMS.keys() - {"text", "digits", "pseudonym"}))
def test_words_only_advise_about_other_kinds(form: str) -> None:
    """No word is an error for a number, a list of values, a version, a time or a flag."""
    assert refused([f"a.{word}.b" for word, _ in _CASES], form) == set()
    for word, category in _CASES:
        assert suggestions(f"a.{word}.b")[0] == (word, category)


def test_every_word_is_an_error_in_every_position() -> None:
    """In a name or a path, across dots, in any case, for texts and for pseudonyms."""
    for word, category in _CASES:
        code = {"content": "E305", "identifier": "E306"}.get(category, "E310")
        for spelled in (word, word.upper(), word.title()):
            for name in (spelled, f"os.{spelled}.type", f"codec_{spelled}", f"device-{spelled}.x"):
                for can_spell in (True, False):
                    assert refusal(name, can_spell=can_spell) == (code, word, category), name
                hashed = refusal(name, can_spell=False, is_pseudonym=True)
                assert hashed == (None if category == "identifier" else (code, word, category))


def test_plurals_are_errors_too() -> None:
    known = {*_SECTIONS["thing"], *_SECTIONS["property"]}
    for word, category in _CASES:
        if f"{word}s" not in known:
            assert suggestions(f"os.{word}s")[0].category == category, word
    assert [each.word for each in suggestions("identities.taxes.bios")] == ["identities", "taxes"]


@for_each(
    "path",
    [
        *("SSNs", "a.userIDs", "baseURLs", "DOBs", "CHATtext", "HIVstatus", "chaTS", "ECGs"),
        *("diagnoses", "quizzes", "wives", "people", "women", "alumnus"),
    ],
)
def test_telling_words_in_other_cases_and_plurals(path: str) -> None:
    """Acronyms in the plural or before small letters, and plurals that end otherwise."""
    assert faults(path, "digits"), path


def test_no_text_is_derived_from_a_telling_path() -> None:
    """What reads like a user agent there may be a text of somebody's own."""
    derived = {"os.name": {**FORMS["text"], "derive": "user_agent"}}
    for path, code in (
        *(("patient.disease", "E310"), ("employee.userAgent", "E310"), ("log.text", "E305")),
        *(('a."体温"', "E312"), ("headers.User-Agent", ""), ("browser.ua", "")),
    ):
        _, found = parsed(derived, user_agent=[path])
        assert [fault.code for fault in found] == [code] * bool(code), path
        closed = {"os.name": {"kind": "token", "catalogue": "os-names", "derive": "user_agent"}}
        assert parsed(closed, user_agent=["patient.disease"])[1] == []


def test_the_tables() -> None:
    """Each word stands once, in lower case, and no telling word is a known one."""
    assert list(_SECTIONS) == [*get_args(Category), "thing", "property"]
    listed = [word for each in _SECTIONS.values() for word in each]
    assert sorted(listed) == sorted(set(listed))
    assert all(words(word) == (word,) for word in listed)


@for_each(
    ("name", "parts"),
    [
        ("chatText", "chat text"),
        ("SSIDList", "ssid list"),
        ("iOS.type2", "i os type 2"),
        ("userIDs.OSs", "user ids oss"),
        ("monitors[0].width", "monitors 0 width"),
        ("ipv4_address", "ipv 4 address"),
        ("sec-ch-ua", "sec ch ua"),
        ("a.体温.b", "a 体温 b"),
        ("größe", "gr öß e"),
    ],
)
def test_words(name: str, parts: str) -> None:
    assert " ".join(words(name)) == parts


@for_each(
    "name",
    [
        *("chattext", "m.e.s.s.a.g.e", "ch4t", "nachricht", "pesan", "device.blurb"),
        *("version", "level.state", "", "a.体温", "сhat", "os.ᴄʜᴀᴛ", "💬", "device.💬", "2"),
    ],
)
def test_a_text_that_can_spell_has_known_words(name: str) -> None:
    found = refusal(name, can_spell=True)
    assert found is not None
    assert found.code == "E312"


@for_each(
    "name",
    ["codec.implementation", "browser.engine.build", "deviceChipset", "gpu.driver.version", "cpus"],
)
def test_what_a_text_may_be_about(name: str) -> None:
    """Things, and their properties."""
    assert refusal(name, can_spell=True) is None


def test_fields_within_the_sentence_are_not_judged() -> None:
    for name in POSITIVE:
        if "token" in POSITIVE[name].kinds:
            listed = [name, *POSITIVE[name].paths]
            assert parsed({name: {**FORMS["text"], "from": listed}})[1] == []
            (fault,) = parsed({name: {**FORMS["text"], "from": [f"chat.{name}"]}})[1]
            assert fault.code == "E305"
