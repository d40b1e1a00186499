"""The claims as a document: whole, well formed, and true of code and tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from collector.claims.document import (
    CHECKS,
    COUNTERS,
    RECORDING_CHECKS,
    RECORDING_COUNTERS,
    REFUSALS,
    SERVING_CHECKS,
    load_claims,
)
from collector.errors import CODES, SchemaError
from collector.schema.policy import (
    CLAIMS,
    broken_claim,
    category_is_allowed,
    taxonomy,
    use_is_allowed,
)
from tests.support.rows import for_each

_ROOT = Path(__file__).parents[2]
_SENTENCES = [
    *("needed-only", "no-content", "unless-recorded", "notice", "stay-or-leave", "local-or-cloud"),
    *("access-control", "no-monitoring", "no-third-party-ads", "no-sale", "cookie-preference"),
]
_WHOLE = "{text: A text, rules: [E301], checks: [policy], tests: [a], counters: [received]}"


def test_each_sentence_is_there() -> None:
    """In the order in which they are said; each is carried by something, or says why not."""
    claims = load_claims()
    assert list(claims) == _SENTENCES
    assert {name for name, claim in claims.items() if claim.checks} >= set(CLAIMS.values())


def test_the_tests_exist() -> None:
    """Each named test is a function of that file."""
    for claim in load_claims().values():
        for test in claim.tests:
            file, _, name = test.partition("::")
            tree = ast.parse((_ROOT / file).read_text("utf-8"))
            assert name.startswith("test_")
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def _source(test: str) -> str:
    """A test, and the tables of ours that it goes through."""
    file, _, name = test.partition("::")
    body = ast.parse((_ROOT / file).read_text("utf-8")).body
    (function,) = (node for node in body if getattr(node, "name", "") == name)
    used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    modules = [
        _ROOT.joinpath(*node.module.split(".")).with_suffix(".py")
        for node in body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tests.")
        if used & {alias.name for alias in node.names}
    ]
    tables = [module.read_text("utf-8") for module in modules if module.is_file()]  # no packages
    return "\n".join([ast.unparse(function), *tables])


def test_each_rule_is_tried_by_a_test_of_its_claims() -> None:
    """A claim names a test that has documents which break the rule."""
    for name, claim in load_claims().items():
        sources = "".join(map(_source, claim.tests))
        assert [rule for rule in claim.rules if rule not in sources] == [], name


def test_every_rule_carries_something() -> None:
    """Each policy, each check and each count is named by a claim."""
    claims = load_claims().values()
    rules = {rule for claim in claims for rule in claim.rules}
    assert rules == {*(code for code in CODES if code.startswith("E3")), *REFUSALS}
    checks = {check for claim in claims for check in claim.checks}
    assert checks == {*CHECKS, *SERVING_CHECKS, *RECORDING_CHECKS}
    counters = {counter for claim in claims for counter in claim.counters}
    assert counters == {*COUNTERS, *RECORDING_COUNTERS}


def test_what_the_loader_says_is_what_the_claims_say() -> None:
    """A forbidden use or category is refused with the claim that it would break; that claim names
    the rule which refuses it."""
    claims = load_claims()
    for use in taxonomy()["data_uses"]:
        assert use_is_allowed(use) or "E301" in claims[broken_claim(use)].rules
    for category in taxonomy()["data_categories"]:
        assert category_is_allowed(category) or "E303" in claims[broken_claim(category)].rules


@for_each(
    ("text", "code", "field"),
    [
        ("", "E106", ""),
        ("claims: [a]", "E107", "claims"),
        ("claim: {}", "E105", "claim"),
        (f"claims: {{A B: {_WHOLE}}}", "E107", "claims.A B"),
        ("claims: {a: b}", "E107", "claims.a"),
        ("claims: {a: {missing: Not there yet}}", "E106", "claims.a"),
        ("claims: {a: {text: A text}}", "E106", "claims.a"),
        (f"claims: {{a: {_WHOLE[:-1]}, missing: Not yet}}}}", "E106", "claims.a"),
        (f"claims: {{a: {_WHOLE[:-1]}, other: 1}}}}", "E105", "claims.a.other"),
        (f"claims: {{a: {_WHOLE.replace('E301', 'E999')}}}", "E107", "claims.a.rules"),
        (f"claims: {{a: {_WHOLE.replace('E301', 'E101')}}}", "E107", "claims.a.rules"),
        (f"claims: {{a: {_WHOLE.replace('E301', 'E301, E301')}}}", "E107", "claims.a.rules"),
        (f"claims: {{a: {_WHOLE.replace('policy', 'hope')}}}", "E107", "claims.a.checks.0"),
        (f"claims: {{a: {_WHOLE.replace('received', 'sent')}}}", "E107", "claims.a.counters.0"),
        ("claims: {a: 1, a: 2}", "E122", "claims.a"),
    ],
)
def test_faults(text: str, code: str, field: str, tmp_path: Path) -> None:
    """Each fault has a code and the place of what is wrong."""
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    with pytest.raises(SchemaError) as caught:
        load_claims(path)
    assert (code, field) in [(fault.code, fault.field) for fault in caught.value.faults]
    assert all(fault.line for fault in caught.value.faults)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is said."""
    with pytest.raises(SchemaError, match="E101"):
        load_claims(tmp_path / "claims.yaml")
