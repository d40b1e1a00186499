"""What every field of a schema has, and what every kind must answer.

A kind is a closed set of canonical values. It says which JSON types it reads, how a value becomes
canonical (or is refused: ``None``), and exactly how many canonical values there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic import Field as Option

from collector.contracts import Scalar
from collector.schema.terms import Day, Duration, Path, Paths, Reason, unique
from collector.schema.verdict import Shift

__all__ = ["Canonical", "Circumstances", "FieldBase", "utc_now"]

Canonical = Callable[[Any], Scalar | None]
"""From a value of one of the kind's JSON types to its canonical form; ``None`` refuses it."""


def utc_now() -> datetime:
    """The time of the clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a kind may need besides the value: the time, and keyed hashing for pseudonyms.

    ``key`` takes a key reference and the rotation period's number and returns 32 secret bytes.
    """

    now: Callable[[], datetime]
    key: Callable[[str, int], bytes]


def _purposes(names: tuple[str, ...]) -> tuple[str, ...]:
    return unique(names, "E133", "purpose")


class FieldBase(BaseModel):
    """The part of a field that does not depend on its kind."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)

    wire: ClassVar[frozenset[type]] = frozenset({str})
    """The JSON types that the kind reads, as exact Python types."""
    column: ClassVar[str] = "TEXT"
    """The SQLite type of the canonical value."""
    repeats: ClassVar[bool] = False
    """Whether few texts make up most of the traffic, so that remembering them pays."""

    sources: Paths | None = Option(default=None, alias="from")
    category: str
    purposes: Annotated[tuple[str, ...], AfterValidator(_purposes)]
    retention: Duration
    reason: Reason
    expires: Day | None = None
    required: bool = False
    derive: Literal["user_agent"] | None = None
    source: Literal["peer"] | None = None

    def paths(self, name: str) -> tuple[Path, ...]:
        """Where the field is looked for, in order; its own name is always read, last if unlisted.

        So a record, which carries canonical names, passes through its own filter unchanged.
        """
        listed = self.sources or ()
        return listed if name in listed else (*listed, name)

    def canonical(self, circumstances: Circumstances) -> Canonical:
        """The function that makes values canonical."""
        raise NotImplementedError

    def stored(self, circumstances: Circumstances) -> Canonical:
        """The function that takes canonical values only, and leaves them as they are."""
        canonical = self.canonical(circumstances)

        def stored(value: Any) -> Scalar | None:
            result = canonical(value)
            return result if result == value else None

        return stored

    def size(self) -> int:
        """How many canonical values there are."""
        raise NotImplementedError

    def shifts(self, new: Self) -> Iterator[Shift]:
        """The options of the kind that differ in a newer field, one shift for each.

        None of them is widening only if each value that the newer field accepts is accepted here
        too, and what it makes of it depends on nothing but what is made of it here.
        """
        raise NotImplementedError
