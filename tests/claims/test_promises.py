"""Promises: every claim has a verdict, a reason and, where it does not hold, something to do."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from collector.claims.document import (
    CHECKS,
    RECORDING_CHECKS,
    SERVING_CHECKS,
    Check,
    Claim,
    load_claims,
)
from collector.claims.findings import NO_RECORDER, ClaimFinding, Found, verdict
from collector.claims.promises import (
    CHECKED,
    LIMITS,
    ORDER,
    by_importance,
    is_kept,
    promises,
    summary,
)

_EVERY: tuple[Check, ...] = (*CHECKS, *SERVING_CHECKS, *RECORDING_CHECKS)
_FINDINGS = st.builds(
    ClaimFinding,
    st.sampled_from(["One thing is so.", "Another thing is so."]),
    st.sampled_from([None, "E305", "E309"]),
    is_open=st.booleans(),
    amends=st.booleans(),
    is_note=st.booleans(),
    advice=st.just("Do this."),
)
_FOUND = st.fixed_dictionaries(
    {check: st.none() | st.lists(_FINDINGS, max_size=2).map(tuple) for check in _EVERY}
)


def test_every_check_is_explained() -> None:
    """What it looks at, and what it cannot show."""
    assert set(CHECKED) == set(LIMITS) == set(_EVERY)


def test_no_finding_is_hidden() -> None:
    """The first is stated, and all others are counted: those that break the claim too, and those
    that would leave it unproven. A claim that was not checked counts the faults that kept it."""
    claim = load_claims()["no-sale"]
    check, rule = claim.checks[0], claim.rules[0]
    found: Found = dict.fromkeys(_EVERY, ())
    broken = [ClaimFinding(f"Fault {n}.", rule, advice=f"Mend {n}.") for n in range(3)]
    unproven = [ClaimFinding(f"Unseen {n}.", is_open=True, advice="Look.") for n in range(2)]
    (made,) = promises({"no-sale": claim}, {**found, check: (*unproven, *broken)})
    assert (made.verdict, made.advice) == ("broken", "Mend 0.")
    assert re.findall("Fault 0|[0-9]+ more", made.reason) == ["Fault 0", "2 more", "2 more"]
    other = next(each for each in _EVERY if each not in claim.checks)
    (made,) = promises({"no-sale": claim}, {**found, check: None, other: tuple(broken)})
    assert (made.verdict, made.advice) == ("unproven", "Mend 0.")
    assert re.findall("Fault 0|[0-9]+ more", made.reason) == ["Fault 0", "2 more"]


@given(_FOUND)
def test_every_promise_is_explained(found: Found) -> None:
    """Its verdict is that of the claim; whatever was found, there is a reason, and where it does
    not hold there is advice; what needs attention comes first."""
    claims = load_claims()
    made = promises(claims, found)
    assert [each.verdict for each in made] == [verdict(c, found) for c in claims.values()]
    assert all(each.reason and each.checked and each.limits for each in made)
    assert all(each.advice for each in made if each.verdict in ("broken", "unproven"))
    places = [ORDER.index(each.verdict) for each in by_importance(made)]
    assert places == sorted(places)
    assert is_kept(made) == all(each.verdict in ("holds", "amended") for each in made)


def test_why_a_recording_claim_holds() -> None:
    note = (ClaimFinding(NO_RECORDER, is_note=True),)
    found: Found = {**dict.fromkeys(_EVERY, ()), **dict.fromkeys(RECORDING_CHECKS, note)}
    told = {each.id: each.reason for each in promises(load_claims(), found)}
    assert {told[name] for name in ("notice", "access-control")} == {NO_RECORDER}
    assert NO_RECORDER not in told["no-sale"]


def test_what_has_no_check_is_not_available() -> None:
    """It says why, and fails nothing."""
    (made,) = promises({"later": Claim(text="Later.", missing="It is not built.")}, {})
    assert (made.verdict, "It is not built." in made.reason) == ("missing", True)
    assert is_kept([made])
    assert summary([made, made]) == "2 not available"
