"""The public claims: each sentence, and what carries it. They are data, ``schemas/claims.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from collector.errors import CODES, SchemaError
from collector.schema import shelf
from collector.schema.load import validate_part
from collector.schema.source import read
from collector.schema.terms import Name, Text, fault, unique

__all__ = ["CHECKS", "COUNTERS", "Check", "Claim", "Counter", "load_claims"]

Check = Literal["policy", "flows", "canaries", "delivery", "consent", "retention", "ledger"]
CHECKS: tuple[Check, ...] = get_args(Check)
"""What ``collector.proof.verification`` runs, in this order."""

Counter = Literal["received", "admitted", "rejected", "dropped", "content", "bytes"]
COUNTERS: tuple[Counter, ...] = get_args(Counter)
"""What the ledger counts."""


def _rules(codes: tuple[str, ...]) -> tuple[str, ...]:
    if not all(code in CODES and code.startswith("E3") for code in codes):
        raise fault("E141", "a rule is the code of a policy, such as E301; see docs/errors.md")
    return unique(codes, "E113", "rule")


def _tests(names: tuple[str, ...]) -> tuple[str, ...]:
    return unique(names, "E113", "test")


class Claim(BaseModel):
    """A sentence. What carries it is ``rules``, ``checks`` and ``tests``; ``counters`` witness it
    while it runs. One that nothing carries yet says in ``missing`` why."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)

    text: Text
    rules: Annotated[tuple[str, ...], AfterValidator(_rules)] = ()
    checks: tuple[Check, ...] = ()
    tests: Annotated[tuple[str, ...], AfterValidator(_tests)] = ()
    counters: tuple[Counter, ...] = ()
    missing: Text | None = None

    @model_validator(mode="after")
    def _carried_or_missing(self) -> Claim:
        parts = (self.rules, self.checks, self.tests, self.counters)
        if any(parts) if self.missing else not all(parts):
            message = "write `rules`, `checks`, `tests` and `counters`, or `missing` alone"
            raise fault("E106", message)
        return self


class _Names(BaseModel):
    """The document's keys, without what stands under them."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)

    claims: dict[Name, object]


def load_claims(path: Path | None = None) -> dict[str, Claim]:
    """The claims of a file by their ids, in its order; of the shipped one by default.

    Raises ``SchemaError``, whose ``faults`` are all that is wrong with the document.
    """
    path = path or shelf.claims()
    source = read(path, str(path))
    claims: dict[str, Claim] = {}
    if source.value is not None and validate_part(_Names, source.value, (), source) is not None:
        for name, value in source.value["claims"].items():
            claim = validate_part(Claim, value, ("claims", name), source)
            if claim is not None:
                claims[name] = claim
    if source.faults:
        raise SchemaError(sorted(source.faults, key=lambda each: (each.line, each.column)))
    return claims
