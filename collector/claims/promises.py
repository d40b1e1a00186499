"""A claim as a person reads it: the sentence, whether it holds, why, and what to do.

``promises`` is the one function that turns claims and findings into that form, for the command,
the page and the file of verdicts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from collector.claims.document import Check, Claim
from collector.claims.findings import ClaimFinding, Found, Verdict, additions, verdict


@dataclass(frozen=True)
class Promise:
    """A claim with its verdict. ``reason`` and ``advice`` are plain sentences, or empty.
    ``checked`` says what the checks looked at, and ``limits`` what they cannot show. ``additions``
    says what else we collect, and to whom each approval is attributed."""

    id: str
    sentence: str
    verdict: Verdict
    reason: str = ""
    advice: str = ""
    checked: str = ""
    limits: str = ""
    additions: tuple[str, ...] = ()


ORDER: tuple[Verdict, ...] = ("broken", "unproven", "amended", "holds", "missing")
"""The order of verdicts by importance to a reader."""
_WORDS: Mapping[Verdict, tuple[str, str]] = {
    "holds": ("holds", "hold"),
    "amended": ("with additions", "with additions"),
    "unproven": ("unproven", "unproven"),
    "broken": ("broken", "broken"),
    "missing": ("not available", "not available"),
}
_SUMMARY: tuple[Verdict, ...] = ("holds", "amended", "unproven", "broken", "missing")

CHECKED: Mapping[Check, str] = {
    "stored": "what is stored",
    "canaries": "a test run with planted meeting content",
    "delivery": "what each destination got in a test run",
    "consent": "a test run for people who refuse",
    "sandbox": "what the receiving process can do",
    "flows": "the list of destinations",
    "scope": "the list of fields",
    "review": "the approvals of fields",
    "policy": "the rules of the schema",
    "retention": "how long records stay",
    "ledger": "the ledger",
    "grant": "starting, pausing and stopping a test recording",
    "notice": "the notices that members got in a test recording",
    "choice": "staying and leaving in a test recording",
    "storage": "where a test recording lay and when it was deleted",
    "access": "who could open a test recording",
}
"""What each check looks at, as the object of a sentence. The most telling checks come first."""

_SYNTHETIC = "The test run uses invented meetings, and real clients may send other shapes."
_RECORDER = "A test recording shows how this version behaves, not how every client of yours does."
LIMITS: Mapping[Check, str] = {
    "policy": "The rules read names and types. They cannot know what a client puts into a field.",
    "scope": "The list of fields cannot show what a client puts into a field.",
    "review": "An approval is a name in a file. Nothing proves that this person read the field.",
    "flows": "The destinations are those of this configuration. It cannot show what a recipient"
    " does with records afterwards.",
    "canaries": _SYNTHETIC,
    "delivery": _SYNTHETIC,
    "stored": "It cannot show what other programs on the machine do, or what is in backups.",
    "consent": _SYNTHETIC,
    "retention": "Backups and copies that others made are not looked at.",
    "ledger": "The ledger counts what reached Collector. It cannot know what did not.",
    "sandbox": "The kernel is trusted.",
    "grant": _RECORDER,
    "notice": _RECORDER,
    "choice": _RECORDER,
    "storage": _RECORDER,
    "access": "Whoever was given a valid token, or the host's key, can open a recording.",
}
"""What each check cannot show."""

_ADDED = "More is collected than this sentence says. Publish the sentences below with it"
_APPROVED = "; each has an approval"


def promises(claims: Mapping[str, Claim], found: Found) -> tuple[Promise, ...]:
    """Return each claim with its verdict, reason and advice, in the order of the claims."""
    return tuple(_promise(name, claim, found) for name, claim in claims.items())


def by_importance(every: Iterable[Promise]) -> list[Promise]:
    """Sort promises by importance to a reader: broken and unproven ones come first."""
    return sorted(every, key=lambda each: ORDER.index(each.verdict))


def is_kept(every: Iterable[Promise]) -> bool:
    """Return whether no promise is broken or unproven."""
    return all(each.verdict not in ("broken", "unproven") for each in every)


def summary(every: Iterable[Promise]) -> str:
    """Count the verdicts in words: ``9 hold, 1 with additions, 1 unproven``."""
    times = Counter(each.verdict for each in every)
    words = (f"{times[v]} {_WORDS[v][times[v] > 1]}" for v in _SUMMARY if times[v])
    return ", ".join(words) or "no promises"


def _promise(name: str, claim: Claim, found: Found) -> Promise:
    reached = verdict(claim, found)
    reason, advice = explained(claim, found, reached)
    return Promise(
        name,
        claim.text,
        reached,
        reason,
        advice,
        _looked_at(claim),
        " ".join(dict.fromkeys(LIMITS[each] for each in claim.checks)),
        additions(claim, found) if reached == "amended" else (),
    )


def _looked_at(claim: Claim) -> str:
    words = listed(CHECKED[each] for each in claim.checks) if claim.checks else ""
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def deciding(claim: Claim, found: Found, reached: Verdict) -> list[ClaimFinding]:
    """Return the findings that make a claim broken or unproven, each message once."""
    findings = [each for name in claim.checks for each in found.get(name) or ()]
    against = [each for each in findings if not each.is_note and not each.amends]
    if reached == "broken":
        own = (None, *claim.rules)
        against = [each for each in against if not each.is_open and each.rule in own]
    elif reached != "unproven":
        return []
    return list({each.message: each for each in reversed(against)}.values())[::-1]


def explained(
    claim: Claim, found: Found, reached: Verdict, *, are_listed: bool = False
) -> tuple[str, str]:
    """Return why a claim has its verdict, and what to do. State only the first finding, and count
    the others. ``are_listed`` means that the caller lists the deciding findings itself."""
    if reached == "missing":
        return f"Nothing supports this sentence yet: {claim.missing}", ""
    if against := deciding(claim, found, reached):
        unlisted = len(deciding(claim, found, "unproven")) - len(against)
        others = "" if are_listed else _others_listed(len(against) - 1)
        return against[0].message + others + _unlisted(unlisted), against[0].advice
    if reached == "unproven":
        return _not_run(found)
    every = ((each, name) for name in claim.checks for each in found.get(name) or ())
    notes = {each.message: name for each, name in every if each.is_note}
    seen = [each for each in CHECKED if each in claim.checks and each not in notes.values()]
    if reached == "amended":
        said = f"{_ADDED}{_APPROVED if 'review' in claim.checks else ''}."
    else:
        said = f"Nothing was found against it in {_few(seen)}." if seen else ""
    return " ".join(filter(None, (said, *notes))), ""


_FEW = 3


def _few(checks: list[Check]) -> str:
    """Name what the first checks looked at, and count the others."""
    words = [CHECKED[each] for each in checks]
    if len(words) > _FEW + 1:
        words[_FEW:] = [f"{len(words) - _FEW} other checks"]
    return listed(words)


def _others_listed(number: int) -> str:
    """Say how many findings `collector claims` lists below the first."""
    words = "is 1 more finding" if number == 1 else f"are {number} more findings"
    return f" There {words}, which `collector claims` lists." if number else ""


def _unlisted(number: int) -> str:
    """Say how many findings `collector claims` does not list."""
    words = f"{number} more finding{'' if number == 1 else 's'}"
    return f" Run `collector claims --details` to see {words}." if number else ""


def _not_run(found: Found) -> tuple[str, str]:
    """Say which other finding kept checks from running, and how many more there are."""
    every = (each for one in found.values() for each in one or ())
    faults = {each.message: each for each in every if each.rule is not None and not each.is_open}
    if not faults:
        return "Some of its checks did not run.", "Run `collector claims` again."
    first, others = next(iter(faults.values())), len(faults) - 1
    reason = f"It could not be checked, because of a fault. {first.message}"
    return reason + _unlisted(others), first.advice


def listed(words: Iterable[str]) -> str:
    """Join words as a list in a sentence."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
