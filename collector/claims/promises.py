"""A claim as a person reads it: the sentence, whether it holds, why, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from collector.claims.document import Claim
from collector.claims.verification import Found, Verdict, additions, verdict


@dataclass(frozen=True)
class Promise:
    """A claim with its verdict. ``reason`` and ``advice`` are plain sentences, and empty where
    there is nothing to say; ``checked`` says what was looked at, ``limits`` what the check cannot
    show, ``additions`` what is collected besides, with whom the approval is attributed to."""

    id: str
    sentence: str
    verdict: Verdict
    reason: str = ""
    advice: str = ""
    checked: str = ""
    limits: str = ""
    additions: tuple[str, ...] = ()


def promises(every: Mapping[str, Claim], found: Found) -> tuple[Promise, ...]:
    """Return each claim with its verdict, and the findings that decide it as the reason."""
    return tuple(_promise(name, claim, found) for name, claim in every.items())


def _promise(name: str, claim: Claim, found: Found) -> Promise:
    reached = verdict(claim, found)
    findings = [each for check in claim.checks for each in found.get(check) or ()]
    against = [each.message for each in findings if not each.amends]
    return Promise(
        name,
        claim.text,
        reached,
        reason=claim.missing or " ".join(dict.fromkeys(against)),
        additions=additions(claim, found) if reached == "amended" else (),
    )
