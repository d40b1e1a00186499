"""Load the public claims, each a sentence with what supports it, from ``schemas/claims.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from collector.documents import LISTED, Hint, Part, editor_schema, fault, read, validate
from collector.errors import CODES, SchemaError
from collector.schema import resources
from collector.schema.scalars import Name, Text, unique

_TelemetryCheck = Literal[
    "policy",
    "scope",
    "review",
    "flows",
    "canaries",
    "delivery",
    "stored",
    "consent",
    "retention",
    "ledger",
]
_ServingCheck = Literal["sandbox"]
_RecordingCheck = Literal["grant", "notice", "choice", "storage", "access"]
Check = Literal[_TelemetryCheck, _ServingCheck, _RecordingCheck]
CHECKS: tuple[Check, ...] = get_args(_TelemetryCheck)
"""The checks that ``collector.claims.verification`` runs, in this order."""
SERVING_CHECKS: tuple[Check, ...] = get_args(_ServingCheck)
"""The checks that ``collector.server.sandbox_check`` runs."""
RECORDING_CHECKS: tuple[Check, ...] = get_args(_RecordingCheck)
"""The checks that ``collector.recording.claims`` runs."""

_TelemetryCounter = Literal["received", "admitted", "rejected", "dropped", "content", "bytes"]
_RecordingCounter = Literal["recordings", "choices", "accesses"]
Counter = Literal[_TelemetryCounter, _RecordingCounter]
COUNTERS: tuple[Counter, ...] = get_args(_TelemetryCounter)
"""The counts of the ledger."""
RECORDING_COUNTERS: tuple[Counter, ...] = get_args(_RecordingCounter)
"""The counts of the recorder's ledger."""

REFUSALS = (
    *("announced", "paused", "closed", "kind", "notice", "pending", "left", "owner", "terms"),
    *("erased", "open", "forbidden", "not_found", "expired", "replayed"),
)
"""The refusals of the recorder that carry a claim: codes of ``collector.recording.refusals``."""

_TAKEN = "a shipped claim has this name; use another one"


def _rules(codes: tuple[str, ...]) -> tuple[str, ...]:
    if not all((code in CODES and code.startswith("E3")) or code in REFUSALS for code in codes):
        message = "a rule is the code of a policy, such as E301, or of a refusal of the recorder"
        raise fault("E107", f"{message}, such as pending; see docs/claims.md")
    return unique(codes, "E107", "rule")


def _tests(names: tuple[str, ...]) -> tuple[str, ...]:
    return unique(names, "E107", "test")


_RULES = Hint(
    items={"enum": [*(code for code in CODES if code.startswith("E3")), *REFUSALS]},
    **LISTED.keywords,
)


class Claim(Part):
    """A sentence with what supports it: ``rules``, ``checks`` and ``tests``, and ``counters`` while
    Collector runs. ``missing`` is the reason why nothing supports it yet."""

    text: Text = Field(description="The sentence, as the public reads it.")
    rules: Annotated[tuple[str, ...], AfterValidator(_rules), _RULES] = Field(
        (), description="Codes of policies and of the recorder's refusals that carry it."
    )
    checks: tuple[Check, ...] = Field((), description="What `collector claims` looks at for it.")
    tests: Annotated[tuple[str, ...], AfterValidator(_tests), LISTED] = Field(
        (), description="Tests that try to break it."
    )
    counters: tuple[Counter, ...] = Field(
        (), description="Counts of the ledger that are shown beside it."
    )
    missing: Text | None = Field(
        None, description="Why nothing supports it yet; then it has nothing but its text."
    )

    @model_validator(mode="after")
    def _supported_or_missing(self) -> Claim:
        parts = (self.rules, self.checks, self.tests, self.counters)
        if any(parts) if self.missing else not all(parts):
            message = "write `rules`, `checks`, `tests` and `counters`, or `missing` alone"
            raise fault("E106", message)
        return self


class _Names(Part):
    """The document's keys, without their values."""

    claims: dict[Name, Any]


class _Claims(_Names):
    """Public sentences, each with what supports it."""

    claims: dict[Name, Claim] = Field(description="The claims, by their ids.")


def document_schema() -> dict[str, Any]:
    """Build the JSON Schema (2020-12) of a document of claims, for editors, as plain data."""
    found = editor_schema(_Claims, "Claims of Collector")
    support = ["rules", "checks", "tests", "counters"]
    never = {"not": {"anyOf": [{"required": [key]} for key in support]}}
    found["$defs"]["Claim"]["oneOf"] = [{"required": support}, {"required": ["missing"], **never}]
    return found


def load_all_claims(path: Path | None) -> dict[str, Claim]:
    """Load the shipped claims and the claims of an organisation's own file, if there is one.

    Raises ``SchemaError``, also if the file reuses the id of a shipped claim, because no file may
    change a shipped claim.
    """
    return load_claims() if path is None else load_claims() | load_claims(path, is_own=True)


def load_claims(path: Path | None = None, *, is_own: bool = False) -> dict[str, Claim]:
    """Load the claims of a file by their ids, in its order; by default those of the shipped file.

    Raises ``SchemaError``, whose ``faults`` are all faults of the document. With ``is_own``, the id
    of a shipped claim is a fault too.
    """
    path = path or resources.claims()
    source = read(path)
    taken = load_claims().keys() if is_own else ()
    claims: dict[str, Claim] = {}
    if source.value is not None or not source.faults:
        validate(_Names, source.value, (), source)
        listed = source.value.get("claims") if isinstance(source.value, dict) else None
        for name, value in listed.items() if isinstance(listed, dict) else ():
            if name in taken:
                source.report(("claims", name), "E107", _TAKEN)
            claim = validate(Claim, value, ("claims", name), source)
            if claim is not None:
                claims[name] = claim
    if source.faults:
        raise SchemaError(source.all_faults())
    return claims
