"""The privacy notice: what schema and configuration say, and only that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from collector.pages.model import Page
from collector.pages.notice import Form, notice
from collector.pages.phrases import LANGUAGES, Language
from collector.schema import resources
from collector.schema.review import approve, read_copy, review
from tests.pages.sample_config import configured, page_of
from tests.schema.test_review import STATED, jitter, schema_of
from tests.support.rows import for_each

_FIELDS = """
  client.address: {kind: ip, truncate: {ipv4: 24, ipv6: 48}, REST
  a: {kind: pseudonym, key: "env:KEY", rotate: 7d, REST
  b: {kind: integer, minimum: 0, maximum: 100, step: 10, REST
  c: {kind: boolean, REST
  d: {kind: time, precision: minute, REST
  e: {kind: number, minimum: 0, maximum: 1, step: 0.5, REST
"""


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """The page of our store and of a processor's file."""
    return page_of(configured(tmp_path))


def unescaped(text: str) -> str:
    """A text of Markdown without its escapes."""
    return re.sub(r"\\(.)", r"\1", text)


def lines(page: Page, language: Language = "en") -> list[str]:
    """All sentences, items and headings of a notice."""
    written = notice(page, "markdown", language).splitlines()
    return [unescaped(line.removeprefix("- ")) for line in written if line[:1] not in ("", "|")]


def rows(page: Page) -> list[list[str]]:
    """The rows of its tables."""
    written = [line for line in notice(page).splitlines() if line.startswith("| ")]
    return [[unescaped(cell) for cell in line[2:-2].split(" | ")] for line in written]


def test_each_field_has_a_row(page: Page) -> None:
    fields, purposes = len(page.schemas[0].fields), len(page.schemas[0].purposes)
    assert len(rows(page)) == 2 + fields + 2 + purposes
    assert rows(page)[2] == [
        "IP address",
        "the whole address",
        "The network address is needed to route media",
        "service operations, security",
        "30 days",
    ]


def test_recipients(page: Page) -> None:
    """Each sink: whose it is, what it gets, and where that is."""
    told = lines(page)
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


@for_each(
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
    told = lines(page_of(config))
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
    found = page_of(configured(tmp_path, sinks={}), schema)
    told = lines(found)
    assert "Without what is used for talk, the contract with you cannot be performed." in told
    assert "The law obliges us to collect what is used for: taxes." in told
    assert "nothing" not in [row[0] for row in rows(found)]


def test_what_is_left_open_is_said(page: Page, tmp_path: Path) -> None:
    """Who it is and how to reach them: nothing is made up, and nothing left out in silence."""
    told = lines(page_of(configured(tmp_path, sinks={}, about={})))
    assert "Who decides what is collected here is not stated." in told
    assert told.count("How they can be reached is not stated.") == 2
    told = lines(page)
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
    told = lines(page_of(config, schema))
    assert (
        "An authority receives, because a law demands it: kind of operating system."
        " To which country it goes is not stated."
    ) in told
    assert "What was damaged and set aside is deleted after 1 day at the latest." in told
    assert not [line for line in told if "object at any" in line or "consent" in line]
    assert not [line for line in told if "refuse" in line]
    assert not [line for line in told if line.startswith("Nothing that is kept has your name")]


def test_rights_follow_the_legal_basis(page: Page) -> None:
    """Objection, withdrawal, refusal and portability name the purposes that they are about; that
    one may object has a heading of its own."""
    told = lines(page)
    at = told.index("You may object at any time to what is used for: security.")
    assert told[at - 1] == "### Your right to object"
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
    found = page_of(configured(tmp_path, sinks={}), schema)
    assert [row[1] for row in rows(found)[2:8]] == [
        "the network alone: 24 bits of an IPv4 address, 48 bits of an IPv6 address",
        "a pseudonym, whose key is destroyed after 7 days",
        "a number, in steps of 10",
        "yes or no",
        "a time, to the minute",
        "a number, in steps of 0.5",
    ]


@for_each("language", LANGUAGES)
@for_each("schema", resources.names())
def test_every_shipped_schema(schema: str, language: Language, tmp_path: Path) -> None:
    """Nothing of a phrase is left open, and both forms can be written."""
    config = configured(tmp_path, sinks={})
    page = page_of(config, schema)
    for form in get_args(Form):
        text = notice(page, form, language)
        assert "Example GmbH" in text
        assert "None" not in text
    if language != "en":
        assert "used for" not in notice(page, "markdown", language)


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
    found = page_of(configured(tmp_path, sinks={}), schema)
    told = [line for line in lines(found) if "only where" in line]
    anything, beside = "Anything is kept only where", "kept only where, beside it,"
    inbound, stats, host = 'type is "inbound"', '"stats" or 2', '"host" or "local"'
    linux, macos = '"linux"', '"macos"'
    assert told == [
        f"{anything} live is false or true, and {inbound}; or where event is {stats}.",
        f"IP address: {beside} type is {host}.",
        f"version of the operating system: {beside} os is {linux}; or where os is {macos}.",
    ]
    assert rows(found)[2][1] == "the whole address, if it is one of the internet"
    indonesian = [line for line in lines(found, "id") if " type " in line]
    assert len(indonesian) == 2
    assert not [line for line in indonesian if " or " in line or "where" in line]


def test_no_conditions(page: Page) -> None:
    assert not [line for line in lines(page) if "only where" in line]


@for_each("language", LANGUAGES)
def test_whose_judgement_it_is(language: Language, tmp_path: Path) -> None:
    """A notice says who approved what else is collected, or that nobody has."""
    schema = schema_of(tmp_path, jitter(), jitter().replace("jitter", "loss"))
    path = tmp_path / "calls.reviewed.yaml"
    path.write_text(approve(read_copy(path), schema, "network.jitter", STATED, {}))
    reviewed = review(schema, read_copy(path))
    config = configured(tmp_path, sinks={})
    told = lines(page_of(config, tmp_path / "calls.yaml", reviewed=reviewed), language)
    (approved,) = (line for line in told if "A. Example" in line)
    assert "network.jitter" in approved
    assert "2026-11-29" in approved
    nobody = {"en": "Nobody has reviewed", "id": "belum ditinjau"}[language]
    (other,) = (line for line in told if nobody in line)
    assert "network.loss" in other
    assert "network.jitter" not in other


def test_nothing_to_review(page: Page) -> None:
    """A schema within the public sentence says nothing of reviews."""
    told = lines(page)
    assert not [line for line in told if "eviewed" in line or "attributed" in line]
