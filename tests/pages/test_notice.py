"""The privacy notice: what schema and configuration say, and only that."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.config.model import About
from collector.pages.notice import notice
from collector.pages.paper_document import (
    Block,
    BulletList,
    DataTable,
    Heading,
    Sentence,
    as_html,
    as_markdown,
)
from collector.pages.phrases import LANGUAGES, Language, phrase_book
from collector.routing import Flows
from collector.schema import resources
from collector.schema.review import approve, read_copy, review
from tests.pages.sample_config import ABOUT, configured, matrix, unreviewed
from tests.schema.test_review import STATED, jitter, schema_of

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
    """The flows of our store and of a processor's file."""
    return matrix(configured(tmp_path))


def lines(blocks: list[Block]) -> list[str]:
    """All sentences and items."""
    found: list[str] = []
    for block in blocks:
        if isinstance(block, Sentence):
            found.append(block.text)
        elif isinstance(block, BulletList):
            found += block.texts
    return found


def test_each_field_has_a_row(flows: Flows) -> None:
    """With everything that the schema says of it."""
    table = next(
        block
        for block in notice(flows, About(), phrase_book("en"), unreviewed(flows))
        if isinstance(block, DataTable)
    )
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
    told = lines(notice(flows, About(**ABOUT), phrase_book("en"), unreviewed(flows)))
    ours = (
        "We keep it ourselves (store): IP address, type of device, kind of operating system,"
        " version of the operating system. It goes to this country: DE."
    )
    assert ours in told
    theirs = next(line for line in told if line.startswith("Stats & Co <b> works for us"))
    assert theirs.endswith(
        "It goes to another country: ID. What protects it there: standard clauses."
    )
    assert "IP address" not in theirs
    assert "Example GmbH decides what is collected here, and what for." in told
    assert "Contact: privacy@example.org" in told


@pytest.mark.parametrize(
    ("home", "there", "ends"),
    [
        ("DE", "ID", "It goes to another country: ID. What protects it there is not stated."),
        ("ID", "DE", "It goes to another country: DE. What protects it there is not stated."),
        ("DE", "FR", "It goes to another country: FR."),
        ("ID", "ID", "It goes to this country: ID."),
        (None, "ID", "It goes to this country: ID."),
        ("DE", None, "To which country it goes is not stated."),
    ],
)
def test_transfers(tmp_path: Path, home: str | None, there: str | None, ends: str) -> None:
    """A law demands a safeguard for records in another country, outside of the EEA at least; the
    notice says where none is stated."""
    sink = {"path": "a", "party": "processor", "recipient": "A", "purposes": ["security"]}
    sinks = {"ndjson": sink | ({"country": there} if there else {}), "store": False}
    config = configured(tmp_path, sinks=sinks, about={"country": home} if home else {})
    told = lines(
        notice(matrix(config), config.about, phrase_book("en"), unreviewed(matrix(config)))
    )
    (theirs,) = (line for line in told if line.startswith("A works for us"))
    assert theirs == f"A works for us under a contract, and receives: IP address. {ends}"


def test_what_has_to_be_provided(tmp_path: Path) -> None:
    """What a contract needs and what a law demands; not what may be refused, nor what nothing is
    collected for, which is no purpose of anything."""
    schema = tmp_path / "needs.yaml"
    use = "use: essential.service.operations, reason: It has to be"
    schema.write_text(
        "schema: needs\nversion: 1.0.0\ntitle: Needs\nowner: a\npurposes:\n"
        f"  talk: {{{use}, basis: contract}}\n"
        f"  taxes: {{{use}, basis: legal_obligation}}\n"
        f"  comfort: {{{use}, basis: contract, optional: true}}\n"
        f"  nothing: {{{use}, basis: contract}}\n"
        "fields:\n  os.type: {kind: enum, values: [linux], category: system,"
        " purposes: [talk, taxes, comfort], retention: 1d, reason: It has to be}\n"
    )
    blocks = notice(
        matrix(configured(tmp_path, sinks={}), schema),
        About(),
        phrase_book("en"),
        unreviewed(matrix(configured(tmp_path, sinks={}), schema)),
    )
    told = lines(blocks)
    assert "Without what is used for talk, the contract with you cannot be performed." in told
    assert "The law obliges us to collect what is used for: taxes." in told
    assert "nothing" not in [
        row[0] for each in blocks if isinstance(each, DataTable) for row in each.rows
    ]


def test_what_is_left_open_is_said(flows: Flows) -> None:
    """Who it is and how to reach them: nothing is made up, and nothing left out in silence."""
    told = lines(notice(flows, About(), phrase_book("en"), unreviewed(flows)))
    assert told[:2] == [
        "Who decides what is collected here is not stated.",
        "How they can be reached is not stated.",
    ]
    assert told.count("How they can be reached is not stated.") == 2
    told = lines(notice(flows, About(**ABOUT), phrase_book("en"), unreviewed(flows)))
    assert "Write to: privacy@example.org" in told
    assert not [line for line in told if "not stated" in line]


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
    told = lines(
        notice(
            matrix(config, schema),
            config.about,
            phrase_book("en"),
            unreviewed(matrix(config, schema)),
        )
    )
    assert (
        "An authority receives, because a law demands it: kind of operating system."
        " To which country it goes is not stated."
    ) in told
    assert "What was damaged and set aside is deleted after 1 day at the latest." in told
    assert not [line for line in told if "object at any" in line or "consent" in line]
    assert not [line for line in told if "refuse" in line]
    assert not [line for line in told if line.startswith("Nothing that is kept has your name")]


def test_rights_follow_the_legal_basis(flows: Flows) -> None:
    """Objection, withdrawal, refusal and portability name the purposes that they are about; that
    one may object has a heading of its own."""
    blocks = notice(flows, About(), phrase_book("en"), unreviewed(flows))
    at = blocks.index(Sentence("You may object at any time to what is used for: security."))
    assert blocks[at - 1] == Heading(3, "Your right to object")
    told = lines(blocks)
    at = told.index(
        "You may refuse what is used for: capacity planning. From then on it is not even read."
    )
    assert told[at + 1].startswith("Your browser refuses it for you if it signals Global Priv")
    assert any(line.startswith("You consent to what is used for: capacity plan") for line in told)
    assert told[-1].startswith("Made from conferencing/1.0.0, digest ")


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
    table = next(
        each
        for each in notice(found, About(), phrase_book("en"), unreviewed(found))
        if isinstance(each, DataTable)
    )
    assert [row[1] for row in table.rows] == [
        "the network alone: 24 bits of an IPv4 address, 48 bits of an IPv6 address",
        "a pseudonym, whose key is destroyed after 7 days",
        "a number, in steps of 10",
        "yes or no",
        "a time, to the minute",
        "a number, in steps of 0.5",
    ]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("schema", resources.names())
def test_every_shipped_schema(schema: str, language: Language, tmp_path: Path) -> None:
    """Nothing of a phrase is left open, and both forms can be written."""
    config = configured(tmp_path, sinks={})
    blocks = notice(
        matrix(config, schema),
        config.about,
        phrase_book(language),
        unreviewed(matrix(config, schema)),
    )
    for text in (as_markdown(blocks), as_html(blocks, language)):
        assert "Example GmbH" in text
        assert "None" not in text
    if language != "en":
        assert "used for" not in as_markdown(blocks)


_SELECTIVE = """
schema: selective
version: 1.0.0
title: What is selected
owner: a
records:
  - {path: reports, when: {type: inbound, live: [true, false]}}
  - {path: ., when: {event: [stats, 2]}}
purposes:
  ops: {use: essential.service.operations, basis: contract, reason: It has to be}
fields:
  client.address:
    kind: ip
    scope: global
    from: [{path: address, when: {type: [local, host]}}, {path: ip, when: {type: [host, local]}}]
    REST
  os.version:
    kind: version
    from: [{path: v, when: {os: linux}}, {path: w, when: {os: macos}}]
    REST
  os.type:
    kind: enum
    values: [linux]
    from: [{path: t, when: {type: host}}, os]
    REST
"""
_REST = "category: system\n    purposes: [ops]\n    retention: 1d\n    reason: It has to be"


def test_conditions(tmp_path: Path) -> None:
    """What must stand beside a value, and what a record must say, for anything to be kept."""
    schema = tmp_path / "selective.yaml"
    schema.write_text(_SELECTIVE.replace("REST", _REST))
    found = matrix(configured(tmp_path, sinks={}), schema)
    blocks = notice(found, About(), phrase_book("en"), unreviewed(found))
    told = [line for line in lines(blocks) if "only where" in line]
    anything, beside = "Anything is kept only where", "kept only where, beside it,"
    inbound, stats, host = 'type is "inbound"', '"stats" or 2', '"host" or "local"'
    linux, macos = '"linux"', '"macos"'
    assert told == [
        f"{anything} live is false or true, and {inbound}; or where event is {stats}.",
        f"IP address: {beside} type is {host}.",
        f"version of the operating system: {beside} os is {linux}; or where os is {macos}.",
    ]
    table = next(each for each in blocks if isinstance(each, DataTable))
    assert table.rows[0][1] == "the whole address, if it is one of the internet"
    indonesian = [
        line
        for line in lines(notice(found, About(), phrase_book("id"), unreviewed(found)))
        if " type " in line
    ]
    assert len(indonesian) == 2
    assert not [line for line in indonesian if " or " in line or "where" in line]


def test_no_conditions(flows: Flows) -> None:
    """Where there are none, none are said."""
    assert not [
        line
        for line in lines(notice(flows, About(), phrase_book("en"), unreviewed(flows)))
        if "only where" in line
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_whose_judgement_it_is(language: Language, tmp_path: Path) -> None:
    """A notice says who approved what else is collected, or that nobody has."""
    schema = schema_of(tmp_path, jitter(), jitter().replace("jitter", "loss"))
    found = matrix(configured(tmp_path, sinks={}), tmp_path / "calls.yaml")
    path = tmp_path / "calls.reviewed.yaml"
    path.write_text(approve(read_copy(path), schema, "network.jitter", STATED, {}))
    told = lines(notice(found, About(), phrase_book(language), review(schema, read_copy(path))))
    (approved,) = (line for line in told if "A. Example" in line)
    assert "network.jitter" in approved
    assert "2026-11-29" in approved
    nobody = {"en": "Nobody has reviewed", "id": "belum ditinjau"}[language]
    (other,) = (line for line in told if nobody in line)
    assert "network.loss" in other
    assert "network.jitter" not in other


def test_nothing_to_review(flows: Flows) -> None:
    """A schema within the public sentence says nothing of reviews."""
    told = lines(notice(flows, About(), phrase_book("en"), unreviewed(flows)))
    assert not [line for line in told if "eviewed" in line or "attributed" in line]
