"""What a check found against a claim, and the verdict that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from collector.claims.document import Check, Claim
from collector.errors import Cause, DeliveryError

Verdict = Literal["holds", "amended", "broken", "unproven", "missing"]
"""``amended``, which is shown as "holds with additions": more is collected than the sentence says,
another sentence says so, and each field of it has an approval."""


class ClaimFinding(NamedTuple):
    """A finding against a claim: ``message`` is the reason in plain words, and ``advice`` says what
    a reader can do about it, if anything.

    ``rule`` is the code of the broken rule, if it is one. ``is_open`` is true if nothing is shown
    either way, for example because there was nothing to check. ``amends`` is true for a sentence to
    be published too, ``is_note`` for what is to be read beside the verdict and changes none.
    """

    message: str
    rule: str | None = None
    is_open: bool = False
    amends: bool = False
    is_note: bool = False
    schema: str = ""
    """The schema that it is about, where there are several and it is about one."""
    advice: str = ""


ACCESS = "Check that it is there, undamaged and readable, then run this again."
"""What a reader can do about what could not be read."""
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
"""The findings of each check; ``None``, or nothing, for one that did not run."""


def unread(sink: str, error: DeliveryError) -> ClaimFinding:
    """Return the finding for a sink that could not be read: it shows nothing."""
    why, advice = _UNREAD.get(error.cause, ("", ACCESS))
    answer = f" ({error.answer})" if error.answer else ""
    reason = f"The sink `{sink}` could not be read{answer}{why and f': {why}'}."
    return ClaimFinding(reason, is_open=True, advice=advice)


def verdict(claim: Claim, found: Found, schema: str | None = None) -> Verdict:
    """Return the verdict on a claim, or on it for one schema of several. A broken rule breaks the
    claims that name it, and leaves others that need its check unproven, as open findings do."""
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
    """Return what is collected besides an ``amended`` claim, with whom the approval is attributed
    to; the sentences alone for a claim that does not ask whether somebody has approved it."""
    names: tuple[Check, ...] = ("review",) if "review" in claim.checks else claim.checks
    findings = (each for name in names for each in found.get(name) or ())
    return tuple(dict.fromkeys(each.message for each in findings if each.amends))
