"""The findings of checks against claims, and the verdicts that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from collector.claims.document import Check, Claim
from collector.errors import Cause, DeliveryError

Verdict = Literal["holds", "amended", "broken", "unproven", "missing"]
"""``amended`` is shown as "holds with additions": we collect more than the sentence says, but
another sentence says so, and each added field has an approval."""


class ClaimFinding(NamedTuple):
    """A finding against a claim: ``message`` is the reason in plain words, and ``advice`` says what
    a reader can do about it, if anything.

    ``rule`` is the code of the broken rule, if the finding is about a rule. ``is_open`` is true if
    the check shows nothing either way, for example because there was nothing to check. ``amends``
    is true for a further sentence to be published. ``is_note`` is true for a note beside the
    verdict, which does not change it.
    """

    message: str
    rule: str | None = None
    is_open: bool = False
    amends: bool = False
    is_note: bool = False
    schema: str = ""
    """The schema that the finding is about; empty if it is about all, or there is only one."""
    advice: str = ""


ACCESS = "Check that it is there, undamaged and readable, then run this again."
"""Advice for a location that could not be read."""
_UNREAD: Mapping[Cause, tuple[str, str]] = {
    "unreachable": (
        "its server did not answer",
        "Check that the server runs and can be reached from here, then run this again.",
    ),
    "denied": (
        "its server denied access",
        "Grant Collector's login the right to list and read it, then run this again.",
    ),
    "missing": (
        "its server does not have it",
        "Create it, or correct its name in the configuration, then run this again.",
    ),
    "certificate": (
        "its server's certificate is not valid",
        "Renew the certificate, or correct the trusted CA, then run this again.",
    ),
    "refused": (
        "its server refused the request",
        "See the server's log for the reason, then run this again.",
    ),
    "busy": ("something else was using it", "Run this again later."),
    "changed": ("it is damaged, or was changed by another program", ACCESS),
}
"""Why a sink could not be read, and what to do about it, by the cause of the error."""

Against = tuple[Check, ClaimFinding]
"""A finding, and the check that found it."""

NO_RECORDER = "No recorder has run here, so nothing of a meeting is kept."
"""The note that says why claims about recordings hold."""

Found = Mapping[Check, tuple[ClaimFinding, ...] | None]
"""The findings of each check. A check that did not run has ``None`` or is absent."""


def unread(sink: str, error: DeliveryError) -> ClaimFinding:
    """Return the finding for a sink that could not be read. It is open."""
    why, advice = _UNREAD.get(error.cause, ("", ACCESS))
    answer = f" ({error.answer})" if error.answer else ""
    reason = f"The sink `{sink}` could not be read{answer}{why and f': {why}'}."
    return ClaimFinding(reason, is_open=True, advice=advice)


def verdict(claim: Claim, found: Found, schema: str | None = None) -> Verdict:
    """Return the verdict on a claim, or on the claim for one of several schemas. A broken rule
    breaks the claims that name the rule. Other claims that need its check become unproven, as with
    open findings."""
    if claim.missing is not None:
        return "missing"
    outcomes = [found.get(name) for name in claim.checks]
    findings = [each for outcome in outcomes for each in outcome or () if not each.is_note]
    if schema is not None:
        findings = [each for each in findings if each.schema in ("", schema)]
    against = [each for each in findings if not each.amends]
    breaches = (each for each in against if not each.is_open)
    if any(each.rule is None or each.rule in claim.rules for each in breaches):
        return "broken"
    if against or None in outcomes:
        return "unproven"
    return "amended" if findings else "holds"


def additions(claim: Claim, found: Found) -> tuple[str, ...]:
    """Return what we collect besides the sentence of an ``amended`` claim, and to whom each
    approval is attributed. For a claim without the check ``review``, return the sentences alone."""
    names: tuple[Check, ...] = ("review",) if "review" in claim.checks else claim.checks
    findings = (each for name in names for each in found.get(name) or ())
    return tuple(dict.fromkeys(each.message for each in findings if each.amends))
