"""Lint: findings that look like mistakes in a schema that loads.

A fault stops a schema from loading; a lint is said about one that loads. Each has a stable name and
a severity: an *error* cannot be meant, a *warning* should be mended, a *note* is worth a thought.
``LINTS`` is the one table of them; ``docs/schema-review.md`` is checked
against it by a test.

Each is a small generator over a well-formed schema and a day, and yields ``(place, message)``. A
message says what to do, and quotes nothing but numbers and names of the document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple

from collector.documents import Loc, read
from collector.errors import Fault
from collector.schema.kinds.base import utc_now
from collector.schema.lints import events, limits, meaning
from collector.schema.model import Schema

__all__ = ["LINTS", "Finding", "Severity", "lint"]

Severity = Literal["error", "warning", "note"]
_Find = Callable[[Schema, date], Iterator[tuple[Loc, str]]]

LINTS: dict[str, tuple[Severity, _Find]] = {
    "always-rejects": ("error", limits.always_rejects),
    "weak-reason": ("warning", meaning.weak_reason),
    "repeated-reason": ("warning", meaning.repeated_reason),
    "personal-value": ("warning", meaning.personal_value),
    "long-retention": ("warning", limits.long_retention),
    "address-kept-long": ("warning", limits.address_kept_long),
    "slow-rotation": ("warning", limits.slow_rotation),
    "expired-field": ("warning", limits.expired_field),
    "wide-token": ("warning", limits.wide_token),
    "no-max-bits": ("warning", limits.no_max_bits),
    "unused-purpose": ("warning", meaning.unused_purpose),
    "consent-not-optional": ("warning", meaning.consent_not_optional),
    "basis-forbids-choice": ("warning", meaning.basis_forbids_choice),
    "required-but-refusable": ("warning", meaning.required_but_refusable),
    "address-category": ("warning", meaning.address_category),
    "outside-sentence": ("warning", meaning.outside_sentence),
    "shadowed-source": ("warning", events.shadowed_source),
    "shadowed-records": ("warning", events.shadowed_records),
    "same-source": ("warning", events.same_source),
    "numeric-segment": ("warning", events.numeric_segment),
    "no-tests": ("warning", events.no_tests),
    "no-never-contains": ("warning", events.no_never_contains),
    "unguarded-content": ("warning", events.unguarded_content),
    "idle-never-contains": ("warning", events.idle_never_contains),
    "expires-soon": ("note", limits.expires_soon),
    "open-time": ("note", limits.open_time),
    "loose-max-bits": ("note", limits.loose_max_bits),
    "loose-max-length": ("note", limits.loose_max_length),
    "idle-alias": ("note", events.idle_alias),
}
"""Name → severity, and the function that finds it."""


class Finding(NamedTuple):
    """A lint's message about a place; ``fault.code`` is the lint's name."""

    severity: Severity
    fault: Fault

    def __str__(self) -> str:
        """Write it as compilers do: ``file:line:col: severity: field: message [lint-name]``."""
        file, line, column, field, message, name = self.fault
        about = f"{field}: " if field else ""
        return f"{file}:{line}:{column}: {self.severity}: {about}{message} [{name}]"

    def as_dict(self) -> dict[str, Any]:
        """Return the keys of a fault in JSON, with the severity."""
        return {**self.fault._asdict(), "severity": self.severity}


def lint(schema: Schema, path: Path) -> list[Finding]:
    """Find what looks like a mistake in a loaded schema, in the order of its lines.

    ``path`` is the file it was loaded from, which is read again for the places. The present day in
    UTC decides what has expired.
    """
    day = utc_now().date()
    found = [
        (name, severity, *finding)
        for name, (severity, find) in LINTS.items()
        for finding in find(schema, day)
    ]
    if not found:
        return []
    source = read(path)
    findings = [
        Finding(severity, source.fault(loc, name, message))
        for name, severity, loc, message in found
    ]
    return sorted(findings, key=lambda finding: (finding.fault.line, finding.fault.column))
