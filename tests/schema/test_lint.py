"""Lints: each is given by its example in lints.md, and not by the mended one."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given

from collector.errors import CODES
from collector.schema import Schema, load_schema, resources
from collector.schema.catalogue import looks_personal
from collector.schema.lints import LINTS, Finding, lint
from tests.strategies import schemas
from tests.support.latency import within
from tests.support.rows import for_each

_OUTSIDE = "outside-sentence"
_TODAY = datetime(2026, 11, 24, tzinfo=UTC)
_TEXT = Path(__file__).with_name("lints.md").read_text("utf-8")
_PAGE = (Path(__file__).parents[2] / "docs" / "schema-review.md").read_text("utf-8")
_SECTIONS = {
    name: (severity, body)
    for name, severity, body in re.findall(
        r"^### `([\w-]+)` \((\w+)\)\n(.*?)(?=^##|\Z)", _TEXT, re.MULTILINE | re.DOTALL
    )
}
_BASE = """\
schema: sample
version: 1.0.0
title: A sample
owner: privacy
tests:
  - name: chat is never kept
    event: {os: {type: linux}, chat: [canary]}
    never_contains: [canary]
purposes:
  ops: {use: essential.service.operations, basis: contract, reason: Keep the call up}
fields:
  os.type: {kind: enum, values: [linux], category: user.device, purposes: [ops], retention: 30d,
    reason: Media capture differs between systems}
"""


def _inserted(example: str) -> str:
    """A whole document with the example in its place: among the fields, or instead of a key."""
    if example.startswith("  "):
        return _BASE + example
    text = _BASE
    for key in re.findall(r"^(\w+):", example, re.MULTILINE):
        text = re.sub(rf"^{key}:.*\n(?:  .*\n)*", "", text, flags=re.MULTILINE)
    return text + example


def _lint(text: str, directory: Path, name: str = "") -> list[Finding]:
    """Lint a document; fields outside the public sentence are passed over, unless asked for."""
    path = directory / "sample.yaml"
    path.write_text(text, "utf-8")
    with patch("collector.schema.lints.utc_now", lambda: _TODAY):
        found = lint(load_schema(path), path)
    return [each for each in found if each.fault.code in (name, *LINTS.keys() - {_OUTSIDE})]


def test_the_document_and_the_table_agree() -> None:
    """Each lint has one section with its severity and a row of the page, and no other has."""
    assert {name: severity for name, (severity, _) in _SECTIONS.items()} == {
        name: severity for name, (severity, _) in LINTS.items()
    }
    assert len(re.findall(r"^### `", _TEXT, re.MULTILINE)) == len(LINTS) >= 20
    checks = _PAGE.partition("\n## Checks\n")[2].partition("\n### ")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", checks, re.MULTILINE)) == LINTS.keys()
    named = checks.partition("| name |")[0].split("are notes")[0]
    listed = set(re.findall(r"`([\w-]+)`", named.rpartition("```\n")[2]))
    assert listed == {name for name, (severity, _) in LINTS.items() if severity != "warning"}


def test_names_are_stable_words() -> None:
    """A name is kebab-case, is no fault's code, and is called like the function that finds it."""
    for name, (_, find) in LINTS.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+", name)
        assert name not in CODES
        assert find.__name__ == name.replace("-", "_")


def test_a_plain_document_has_none(tmp_path: Path) -> None:
    """The document around the examples is clean."""
    assert _lint(_BASE, tmp_path) == []


@for_each("name", LINTS)
def test_examples_of_the_document(name: str, tmp_path: Path) -> None:
    """The first example gives its lint and no other, the mended one none at all."""
    severity, body = _SECTIONS[name]
    faulty, mended = re.findall(r"```yaml\n(.*?)```", body, re.DOTALL)
    text = _inserted(faulty)
    found = _lint(text, tmp_path, name)
    assert {(finding.fault.code, finding.severity) for finding in found} == {(name, severity)}
    for finding in found:
        _is_well_said(finding, text)
    assert _lint(_inserted(mended), tmp_path, name) == []


def _is_well_said(finding: Finding, text: str) -> None:
    """It is on one line, at a place of the document that it names."""
    fault = finding.fault
    assert re.fullmatch(
        rf"\S+sample\.yaml:\d+:\d+: {finding.severity}: .*\[{fault.code}\]", str(finding)
    )
    line = text.splitlines()[fault.line - 1]
    named = line[fault.column - 1 :].partition(":")[0]
    is_item = fault.field.rpartition(".")[2].isdigit()
    assert fault.field.endswith(named) or is_item or not fault.field, (line, fault)
    assert finding.as_dict() == {**fault._asdict(), "severity": finding.severity}


def test_findings_are_in_order_of_lines(tmp_path: Path) -> None:
    text = _BASE.replace("basis: contract", "basis: consent").replace("30d", "3y")
    text = text.replace("[linux]", "[linux, Maria]").replace(
        "[canary]\npurposes", "[absent]\npurposes"
    )
    found = _lint(text, tmp_path)
    places = [(finding.fault.line, finding.fault.column) for finding in found]
    assert len(found) == 4
    assert places == sorted(places)


@for_each("name", resources.names())
def test_shipped_schemas_are_clean(name: str) -> None:
    """What we ship is an example to others: no error and no warning."""
    path = resources.shipped() / f"{name}.yaml"
    found = lint(load_schema(name), path)
    assert [str(finding) for finding in found if finding.severity != "note"] == []


@given(schemas())
def test_any_schema_can_be_linted(schema: Schema) -> None:
    """A lint never fails, and the same document gives the same findings."""
    nowhere = Path("nowhere.yaml")
    found = lint(schema, nowhere)
    assert found == lint(schema, nowhere)
    assert {finding.fault.code for finding in found} <= set(LINTS)
    assert "no-tests" in {finding.fault.code for finding in found}


_FIELD = (
    "  device.x: {{kind: {kind}, category: system, purposes: [ops], retention: 30d,"
    " reason: Offer audio only{more}}}\n"
)


def _codes(kind: str, directory: Path, more: str = "") -> list[str]:
    text = _BASE + _FIELD.format(kind=kind, more=more)
    return [finding.fault.code for finding in _lint(text, directory)]


@for_each(
    ("reason", "is_weak"),
    [
        ("needed", True),
        ("For analytics", True),
        ("This is needed to get the operating system", True),
        ("OS type", True),
        ("Required for business reasons and reporting", True),
        ("Choose codecs", False),
        ("Which systems to test on", False),
        ("Für die Auswahl", False),
        ("キャプチャの方式を選ぶため", False),
    ],
)
def test_weak_reasons(reason: str, is_weak: bool, tmp_path: Path) -> None:
    """Two words of its own are enough; other scripts are not judged."""
    text = _BASE.replace("Media capture differs between systems", reason)
    assert ("weak-reason" in [f.fault.code for f in _lint(text, tmp_path)]) == is_weak


@for_each(
    ("retention", "options", "expected"),
    [
        ("90d", "ipv4: 32, ipv6: 48", False),
        ("100d", "ipv4: 25, ipv6: 48", True),
        ("100d", "ipv4: 24, ipv6: 65", True),
        ("100d", "ipv4: 24, ipv6: 64", False),
    ],
)
def test_addresses_that_are_networks(
    retention: str, options: str, expected: bool, tmp_path: Path
) -> None:
    """A network may be kept longer than an address."""
    text = _BASE + (
        f"  client.address: {{kind: ip, truncate: {{{options}}}, category: user.device.ip_address,"
        f" purposes: [ops], retention: {retention}, reason: Offer audio only}}\nmax_bits: 80\n"
    )
    codes = [finding.fault.code for finding in _lint(text, tmp_path)]
    assert codes == ["address-kept-long"] * expected


@for_each(
    ("expires", "codes"),
    [
        ("2026-11-24", ["expired-field"]),
        ("2026-11-25", ["expires-soon"]),
        ("2026-12-24", ["expires-soon"]),
        ("2026-12-25", []),
    ],
)
def test_expiry_by_the_day(expires: str, codes: list[str], tmp_path: Path) -> None:
    """On its day a field is not collected any more; 30 days before one is told."""
    assert _codes("boolean", tmp_path, f", expires: {expires}") == codes


@for_each(
    ("pattern", "codes"),
    [("[01]{40}", []), ("[01]{40}|a", ["wide-token"]), ("[01]{41}", ["wide-token"])],
)
def test_wide_tokens_by_the_bit(pattern: str, codes: list[str], tmp_path: Path) -> None:
    """Forty bits are allowed, more are not."""
    assert _codes(f"token, pattern: '{pattern}'", tmp_path) == codes


@for_each(
    ("one", "other", "expected"),
    [
        ("enum, values: [a, b]", "enum, values: [c, b]", True),
        ("enum, values: [a, b]", "enum, values: [c, d]", False),
        ("token, pattern: 'a|b'", "token, pattern: 'a|b'", True),
        ("token, pattern: 'a|b'", "token, pattern: 'c|d'", False),
        ("token, catalogue: os-names", "token, catalogue: os-names", True),
        ("token, catalogue: os-names", "token, catalogue: other", False),
        ("token, catalogue: os-names", "token, pattern: 'a|b'", False),
        ("boolean", "boolean", True),
        ("boolean", "version, parts: 1", False),
    ],
)
def test_two_fields_of_one_path(one: str, other: str, expected: bool, tmp_path: Path) -> None:
    """What each takes from it decides."""
    (tmp_path / "other.txt").write_text("# source: us\nno system\n")
    text = _BASE + "".join(
        f"  {name}: {{kind: {kind}, from: [os.x], category: system, purposes: [ops],"
        " retention: 30d, reason: Offer audio only}\n"
        for name, kind in (("os.one", one), ("os.two", other))
    )
    assert [f.fault.code for f in _lint(text, tmp_path)] == ["same-source"] * expected


@for_each(
    ("paths", "codes"), [("[ua, headers.ua]", []), ("[headers, headers.ua]", ["shadowed-source"])]
)
def test_paths_of_the_user_agent(paths: str, codes: list[str], tmp_path: Path) -> None:
    """They are tried in order like those of a field."""
    text = _BASE.replace("values: [linux]", "values: [linux], derive: user_agent")
    found = _lint(f"{text}user_agent: {paths}\n", tmp_path)
    assert [finding.fault.code for finding in found] == codes


def test_entries_of_a_catalogue_are_looked_at(tmp_path: Path) -> None:
    """A list of people's devices is found out, without quoting one."""
    (tmp_path / "ours.txt").write_text("# source: us\nPixel 8\nMaria's iPhone\nLAPTOP-MARIA\n")
    text = _BASE + _FIELD.format(kind="token, catalogue: ours", more="")
    (finding,) = _lint(text, tmp_path)
    assert finding.fault.code == "personal-value"
    assert "2 entries" in finding.fault.message
    assert "Maria" not in str(finding)


@for_each(
    "text",
    [
        *("Ana's iPhone", "Kids’s tablet", "MARIA-PC"),
        *("iPhone von Ute", "iPad de Renée", "MacBook d'Odile", "PC van Daan", "Galaxy of Zoë"),
        *("Mr Brown", "Dr. Lee", "Frau Weber", "Smith, Bob", "john.smith", "maria@example.org"),
        *("+44 20 7946 0018", "(020) 7946-0018", "0170 1234567"),
    ],
)
def test_what_looks_personal(text: str) -> None:
    """Names, addresses and numbers, as people's devices are called."""
    assert looks_personal(text)


@pytest.mark.timed
@pytest.mark.parametrize(
    "text", ["(" * 63 + "x", "1(" * 31 + "x", "+" + "1 " * 31 + "x", "a'" * 32]
)
def test_looking_is_fast(text: str) -> None:
    with within(1):
        for _ in range(100):
            looks_personal(text)


def test_shipped_names_do_not_look_personal() -> None:
    """No product, system or alias that we ship is taken for a person."""
    lists = [path.read_text("utf-8") for path in resources.shipped().glob("catalogues/*.txt")]
    entries = [line for text in lists for line in text.splitlines() if not line.startswith("#")]
    assert len(entries) > 1000
    assert [entry for entry in entries if looks_personal(entry)] == []
    for entry in ("Zoom Rooms", "H.323/SIP", "10.0.19045", "2001:db8::1", "Chrome OS", "a", ""):
        assert not looks_personal(entry)
