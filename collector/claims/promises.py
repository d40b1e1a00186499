"""A claim as a person reads it: the sentence, whether it holds, why, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from collector.claims.verification import Verdict


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
