"""What the public sentence speaks of, and what a schema says beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.schema import Schema, load_schema, resources
from collector.schema.diff import compare
from collector.schema.names.scope import (
    POSITIVE,
    common_words,
    homonyms,
    scope,
    spelling_fields,
)
from tests.schema.make import PLAIN, one

_QUALITY = "We also measure how well calls run."
_COUNT = "kind: integer, minimum: 0, maximum: 100, step: 10"
_SAID = f'also_collected: {{quality: "{_QUALITY}"}}\n'
_DIGESTS = {
    "conferencing/1.0.0": "2194a433d10cbcd238cf3ea6bf1f710feaae55fb7522f56ed92693a4078e2a24",
    "conferencing-strict/1.0.0": "2040ccbba139dab07a25c38135b62274613d05eba2c122277ce253a21bd0e4c8",
    "participants-qos/1.0.0": "ed5f1434b045ab09eba26fb31115c4b3573c4c77bc330b3646fba67b858bc536",
    "web/1.0.0": "a67a4f321dd8e8887991047ea076ae5d25a6e8397a0a974a46fd25cfc07e1a97",
    "webrtc/2.0.0": "5f2fd36d876d84c01c2fdd2b7bbe5095e128949d2b50204dc02f96cd3049d9c3",
}
"""Of each shipped schema."""


def _schema(text: str, directory: Path) -> Schema:
    path = directory / "sample.yaml"
    path.write_text(text)
    return load_schema(path)


@pytest.mark.parametrize("name", resources.names())
def test_shipped_schemas(name: str) -> None:
    """They keep their digests, name a sentence for what is beyond that of the claim, and can spell
    nothing."""
    schema = load_schema(name)
    assert schema.digest == _DIGESTS[schema.id]
    assert scope(schema).without_sentence == ()
    assert bool(scope(schema).outside) == (name in ("participants-qos", "web", "webrtc"))
    assert list(spelling_fields(schema)) == []


def test_a_field_outside_without_a_sentence(tmp_path: Path) -> None:
    """It loads, and the public was not told."""
    found = scope(_schema(one(_COUNT, "audio.jitter"), tmp_path))
    assert (found.verdict, found.without_sentence) == ("broken", ("audio.jitter",))


def test_a_field_outside_with_a_sentence(tmp_path: Path) -> None:
    """The sentence is to be published with that of the claim."""
    found = scope(_schema(one(f"{_COUNT}, also: quality", "audio.jitter") + _SAID, tmp_path))
    assert (found.verdict, found.sentences) == ("amended", (_QUALITY,))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("client.address", "kind: ip, from: [somewhere.else]"),
        ("client.address", "kind: pseudonym, key: 'env:KEY', rotate: 1d"),
        ("os.name", "kind: boolean"),
    ],
)
def test_a_name_alone_is_not_inside(name: str, options: str, tmp_path: Path) -> None:
    """Kind and paths decide as well."""
    assert scope(_schema(one(options, name), tmp_path)).without_sentence == (name,)


def test_sentences_and_homonyms_are_part_of_the_digest(tmp_path: Path) -> None:
    """Each of them may be what the public was told; adding one is widening."""
    plain = _schema(one(f"{_COUNT}", "audio.jitter"), tmp_path)
    said = _schema(one(f"{_COUNT}, also: quality", "audio.jitter") + _SAID, tmp_path)
    changed = _schema(
        one(f"{_COUNT}, also: quality", "audio.jitter") + _SAID.replace("well", "badly"), tmp_path
    )
    meant = _schema(one(_COUNT, "audio.jitter") + "homonyms: {jitter: a delay}\n", tmp_path)
    assert len({schema.digest for schema in (plain, said, changed, meant)}) == 4
    for old, new, what in (
        (plain, said, {"sentence added", "another sentence"}),
        (said, changed, {"sentence changed"}),
        (plain, meant, {"homonym added"}),
    ):
        found = compare(old, new)
        assert {change.what for change in found.changes} == what
        assert found.widening
    removed = {change.what for change in compare(meant, plain).changes}
    assert removed == {"homonym removed"}


def test_homonyms_name_the_claims_that_their_word_protects(tmp_path: Path) -> None:
    """A reader of the verdict must see what was excused."""
    text = one("kind: enum, values: [a]", "host.guest") + "homonyms: {guest: virtual machine}\n"
    (found,) = homonyms(_schema(text, tmp_path))
    assert (found.word, found.meaning) == ("guest", "virtual machine")
    assert "needed-only" in found.claims


def test_the_positive_list() -> None:
    """Each of its fields is inside under its own name."""
    assert len(POSITIVE) > 30
    for name, kinds in POSITIVE.items():
        assert kinds <= {"ip", "enum", "token", "version", "integer", "number", "boolean"}, name


def test_a_pattern_that_says_words(tmp_path: Path) -> None:
    """One word is enough, in any of three spellings."""
    assert len(common_words()) == 200
    assert all(len(word) >= 4 and word.isalpha() for word in common_words())
    for pattern in ("hello|x1", "Hello", "H[E3]LLO", "(he|be)llo"):
        schema = _schema(one(f"kind: token, pattern: '{pattern}'"), tmp_path)
        assert list(spelling_fields(schema)) == ["os.name"], pattern
    assert not list(spelling_fields(_schema(PLAIN, tmp_path)))


@pytest.mark.parametrize("around", ["-{}", "{}[0-9]?-", "[.]{{0,2}}{}", "a1 {} b", "({})[0-9]"])
def test_a_pattern_with_words_between_other_characters(around: str, tmp_path: Path) -> None:
    """What stands around the words hides none of them."""
    pattern = around.format("(that|With|HAVE)")
    schema = _schema(one(f"kind: token, pattern: '{pattern}'"), tmp_path)
    assert list(spelling_fields(schema)) == ["os.name"]


@pytest.mark.parametrize("pattern", ["Windows 1[01] (Home|Pro)", "x(that|with|have)", "SM-[A-Z]"])
def test_a_pattern_with_few_words_or_none(pattern: str, tmp_path: Path) -> None:
    """Editions of systems, and letters that go on, are no words that are said."""
    schema = _schema(one(f"kind: token, pattern: '{pattern}'"), tmp_path)
    assert list(spelling_fields(schema)) == []


@pytest.mark.parametrize("written", ["{}", "-{}", "{}1", " {}!".strip()])
def test_a_list_of_words(written: str, tmp_path: Path) -> None:
    """A long list of the words that are said most often, whatever else it has."""
    words = [written.format(word) for word in common_words()]
    entries = [*words, *(f"Model {number}" for number in range(3000))]
    (tmp_path / "mine.txt").write_text("\n".join(["# source: made up", *entries]))
    schema = _schema(one("kind: token, catalogue: mine"), tmp_path)
    assert list(spelling_fields(schema)) == ["os.name"]
    schema = _schema(one(f"kind: enum, values: {words}"), tmp_path)
    assert list(spelling_fields(schema)) == ["os.name"]


@pytest.mark.parametrize(
    ("path", "is_inside"),
    [
        *((path, False) for path in ("phone.client.name", "gps.client.name", "sender.client.name")),
        *(
            (path, False)
            for path in ("client.number", "clientNumbers", "payload.client_info.number")
        ),
        *((path, False) for path in ("client.name", "uidevice.name", "device.number", "ip.number")),
        *((path, True) for path in ("os.build.number", "cpu.logical_number", "model_number")),
        *((path, True) for path in ("client_os.name", "client.model.name", "participants.os.name")),
        *((path, True) for path in ("payload.os.name", "client.os.name")),
    ],
)
def test_a_path_about_a_person_or_a_place_is_not_inside(
    path: str, is_inside: bool, tmp_path: Path
) -> None:
    """Words of a device at its end do not make it one of the device."""
    schema = _schema(one(f"kind: enum, values: [a], from: [{path}]"), tmp_path)
    assert (scope(schema).verdict == "holds") == is_inside
