"""The privacy notice: what schema and configuration say, and only that."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.config.model import About
from collector.proof.flows import Flows
from collector.proof.notice import notice
from collector.proof.paper import Block, Items, Sentence, Table, as_html, as_markdown
from collector.proof.words import LANGUAGES, Language, words
from collector.schema import shelf
from tests.proof.papers import ABOUT, configured, matrix

_FIELDS = """
  client.address: {kind: ip, truncate: {ipv4: 24, ipv6: 48}, REST
  a: {kind: pseudonym, key: "env:KEY", rotate: 7d, REST
  b: {kind: integer, minimum: 0, maximum: 100, step: 10, REST
  c: {kind: boolean, REST
  d: {kind: time, precision: minute, REST
  e: {kind: number, minimum: 0, maximum: 1, step: 0.5, REST
"""


@pytest.fixture
def flows(tmp_path: Path) -> Flows:
    """The flows of a store of ours and a file of somebody else's."""
    return matrix(configured(tmp_path))


def lines(blocks: list[Block]) -> list[str]:
    """All sentences and items."""
    found: list[str] = []
    for block in blocks:
        if isinstance(block, Sentence):
            found.append(block.text)
        elif isinstance(block, Items):
            found += block.texts
    return found


def test_each_field_has_a_row(flows: Flows) -> None:
    """With everything that the schema says of it."""
    table = next(block for block in notice(flows, About(), words("en")) if isinstance(block, Table))
    assert len(table.rows) == len(flows.schema.fields)
    assert list(table.rows[0]) == [
        "IP address",
        "the whole address",
        "The network address is needed to route media",
        "service operations, security",
        "30 days",
    ]


def test_recipients(flows: Flows, tmp_path: Path) -> None:
    """Each sink: whose it is, what it gets, and where that is."""
    told = lines(notice(flows, About(**ABOUT), words("en")))
    ours = (
        "We keep it ourselves (store): IP address, type of device, kind of operating system,"
        " version of the operating system. It goes to this country: DE."
    )
    assert ours in told
    theirs = next(line for line in told if line.startswith("Stats & Co <b> works for us"))
    assert theirs.endswith("It goes to another country: ID.")
    assert "IP address" not in theirs
    assert "Example GmbH decides what is collected here, and what for." in told
    assert "Contact: privacy@example.org" in told


def test_a_third_party(tmp_path: Path) -> None:
    """One that receives by law."""
    schema = tmp_path / "law.yaml"
    schema.write_text(
        "schema: law\nversion: 1.0.0\ntitle: What a law wants\nowner: a\npurposes:\n"
        "  law: {use: essential.legal_obligation, basis: legal_obligation,"
        " reason: A law wants it}\n"
        "fields:\n  os.type: {kind: enum, values: [linux], category: system, purposes: [law],"
        " retention: 1d, reason: A law wants it}\n"
    )
    sink = {"path": "a", "party": "third", "recipient": "An authority", "purposes": ["law"]}
    config = configured(tmp_path, sinks={"ndjson": sink, "store": False})
    told = lines(notice(matrix(config, schema), config.about, words("en")))
    assert (
        "An authority receives, because a law demands it: kind of operating system."
        " To which country it goes is not stated."
    ) in told
    assert "What was damaged and set aside is deleted after 1 day at the latest." in told
    assert not [line for line in told if "object" in line or "consent" in line or "refuse" in line]
    assert not [line for line in told if line.startswith("Nothing that is kept has your name")]


def test_rights_follow_the_legal_basis(flows: Flows) -> None:
    """Objection, withdrawal, refusal and portability name the purposes that they are about."""
    told = lines(notice(flows, About(), words("en")))
    assert "You may object to what is used for: security." in told
    at = told.index("You may refuse what is used for: capacity planning.")
    assert told[at + 1].startswith("Your browser refuses it for you if it signals Global Priv")
    assert any(line.startswith("You consent to what is used for: capacity plan") for line in told)
    assert told[-1].startswith("Made from conferencing/1.0.0, digest ")
    assert "Who decides what is collected here is not stated." in told


def test_how_exactly(tmp_path: Path) -> None:
    """Each kind says how much of a value is kept."""
    rest = "category: user.device, purposes: [ops], retention: 2d, reason: It has to be}"
    schema = tmp_path / "sample.yaml"
    schema.write_text(
        "schema: sample\nversion: 1.0.0\ntitle: A sample\nowner: a\npurposes:\n"
        "  ops: {use: essential.service.operations, basis: contract, reason: It has to be}\n"
        f"fields:{_FIELDS.replace('REST', rest)}"
    )
    found = matrix(configured(tmp_path, sinks={}), schema)
    table = next(each for each in notice(found, About(), words("en")) if isinstance(each, Table))
    assert [row[1] for row in table.rows] == [
        "the network alone: 24 bits of an IPv4 address, 48 bits of an IPv6 address",
        "a pseudonym, whose key is destroyed after 7 days",
        "a number, in steps of 10",
        "yes or no",
        "a time, to the minute",
        "a number, in steps of 0.5",
    ]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("schema", shelf.names())
def test_every_shipped_schema(schema: str, language: Language, tmp_path: Path) -> None:
    """Nothing of a phrase is left open, and both forms can be written."""
    config = configured(tmp_path, sinks={})
    blocks = notice(matrix(config, schema), config.about, words(language))
    for text in (as_markdown(blocks), as_html(blocks, language)):
        assert "Example GmbH" in text
        assert "None" not in text
    if language != "en":
        assert "used for" not in as_markdown(blocks)
