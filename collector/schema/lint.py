"""Lint: what is allowed in a schema, and yet looks like a mistake.

A fault stops a schema from loading; a lint is said about one that loads. Each has a stable name and
a severity: an *error* cannot be meant, a *warning* should be mended, a *note* is worth a thought.
``LINTS`` is the one table of them; ``docs/lint.md`` is checked against it by a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple

from collector.errors import Fault
from collector.schema.kinds.base import utc_now
from collector.schema.lints import meaning, reach, spans, trials, width, words
from collector.schema.model import Schema
from collector.schema.source import Loc, read

__all__ = ["LINTS", "Finding", "Severity", "lint"]

Severity = Literal["error", "warning", "note"]
_Find = Callable[[Schema, date], Iterator[tuple[Loc, str]]]

LINTS: dict[str, tuple[Severity, _Find]] = {
    "always-rejects": ("error", spans.always_rejects),
    "weak-reason": ("warning", words.weak_reason),
    "repeated-reason": ("warning", words.repeated_reason),
    "personal-value": ("warning", words.personal_value),
    "long-retention": ("warning", spans.long_retention),
    "address-kept-long": ("warning", spans.address_kept_long),
    "slow-rotation": ("warning", spans.slow_rotation),
    "expired-field": ("warning", spans.expired_field),
    "wide-token": ("warning", width.wide_token),
    "no-max-bits": ("warning", width.no_max_bits),
    "unused-purpose": ("warning", meaning.unused_purpose),
    "consent-not-optional": ("warning", meaning.consent_not_optional),
    "basis-forbids-choice": ("warning", meaning.basis_forbids_choice),
    "required-but-refusable": ("warning", meaning.required_but_refusable),
    "address-category": ("warning", meaning.address_category),
    "shadowed-source": ("warning", reach.shadowed_source),
    "shadowed-records": ("warning", reach.shadowed_records),
    "same-source": ("warning", reach.same_source),
    "no-tests": ("warning", trials.no_tests),
    "no-never-contains": ("warning", trials.no_never_contains),
    "unguarded-content": ("warning", trials.unguarded_content),
    "idle-never-contains": ("warning", trials.idle_never_contains),
    "expires-soon": ("note", spans.expires_soon),
    "open-time": ("note", spans.open_time),
    "loose-max-bits": ("note", width.loose_max_bits),
    "loose-max-length": ("note", width.loose_max_length),
    "idle-alias": ("note", reach.idle_alias),
}
"""Name → severity and what finds it."""


class Finding(NamedTuple):
    """What a lint says about a place; ``fault.code`` is the lint's name."""

    severity: Severity
    fault: Fault

    def __str__(self) -> str:
        """As compilers write it: ``file:line:col: severity: field: message [lint-name]``."""
        file, line, column, field, message, name = self.fault
        about = f"{field}: " if field else ""
        return f"{file}:{line}:{column}: {self.severity}: {about}{message} [{name}]"

    def as_dict(self) -> dict[str, Any]:
        """As a fault is written in JSON, with the severity."""
        return {**self.fault._asdict(), "severity": self.severity}


def lint(schema: Schema, path: Path, today: date | None = None) -> list[Finding]:
    """What looks like a mistake in a loaded schema, in the order of its lines.

    ``path`` is the file it was loaded from, which is read again for the places; ``today`` (default:
    the present day in UTC) decides what has expired.
    """
    day = today or utc_now().date()
    found = [
        (name, severity, *finding)
        for name, (severity, find) in LINTS.items()
        for finding in find(schema, day)
    ]
    if not found:
        return []
    source = read(path, str(path))
    findings = [
        Finding(severity, source.fault(loc, name, message))
        for name, severity, loc, message in found
    ]
    return sorted(findings, key=lambda finding: (finding.fault.line, finding.fault.column))
