"""The interface of a kind: what every field has, and what each kind must define.

A kind is a closed set of canonical values. It defines which JSON types it reads, how a value
becomes canonical (or is refused: ``None``), and exactly how many canonical values there are.
Everything else that a kind needs is here too, so that a new kind is one file and one line in
``KINDS``: the JSON Schema of its values, phrases of the privacy notice, and coarser variants.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator
from pydantic import Field as Option

from collector.contracts import Scalar
from collector.documents import Part
from collector.schema.scalars import (
    NAMES,
    Day,
    Duration,
    Name,
    Path,
    Reason,
    Source,
    Sources,
    condition_of,
    path_of,
    unique,
)
from collector.schema.verdict import Shift

Canonical = Callable[[Any], Scalar | None]
"""From a value of one of the kind's JSON types to its canonical form; ``None`` refuses it."""

ColumnCheck = Callable[[Collection[Any]], bool]
"""Tells whether all values of a column are canonical; ``None`` is absence. The values have the type
of the kind's canonical values."""

Phrases = Mapping[str, Mapping[str, str]]
"""Key → language → phrase, with ``str.format`` fields."""


def utc_now() -> datetime:
    """Read the clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a kind needs in addition to the value: the time, and keyed hashing for pseudonyms.

    ``key`` takes a key reference and the rotation period's number and returns 32 secret bytes.
    """

    now: Callable[[], datetime]
    key: Callable[[str, int], bytes]


def _no_key(_reference: str, _period: int) -> bytes:
    raise NotImplementedError


WITHOUT_KEYS: Circumstances = Circumstances(utc_now, _no_key)
"""For kinds that hash nothing: the system's clock, and no keys."""


def _purposes(names: tuple[str, ...]) -> tuple[str, ...]:
    return unique(names, "E107", "purpose")


class FieldBase(Part):
    """A field: the options that all kinds share, and the methods that each kind defines."""

    description: ClassVar[str]
    """One sentence about the kind, shown by editors."""
    constraints: ClassVar[Mapping[str, Any]] = {}
    """JSON Schema keywords about several options together."""
    phrases: ClassVar[Phrases]
    """How the privacy notice states the precision of the values, in each of its languages."""
    wire: ClassVar[frozenset[type]] = frozenset({str})
    """The JSON types that the kind reads, whatever a field's options, as exact Python types."""
    column: ClassVar[str] = "TEXT"
    """The SQLite type of the canonical value."""
    repeats: ClassVar[bool] = False
    """Whether few texts make up most of the traffic, so that caching them pays off."""
    remembers: ClassVar[bool] = False
    """Whether values that were canonical once need no second check: canonical form does not depend
    on the time, and a check takes longer than a look-up among some thousand values."""
    is_closed: ClassVar[bool] = False
    """Whether the kind has a fixed form or list of texts, whatever its options, so that nobody can
    write free text in it: a time, a version, a hash."""
    pseudonymous: ClassVar[bool] = False
    """Whether values are keyed hashes, the only form in which identifiers are allowed."""

    sources: Sources | None = Option(
        None,
        alias="from",
        description="Where the value may be found in an event, in this order. The first path that"
        " is present decides. The field's own name is always tried, last if not listed, unless a"
        " path has a condition.",
        examples=[
            ["client.address", "ip_address"],
            [{"path": "address", "when": {"type": ["local-candidate"]}}],
        ],
    )
    category: str = Option(description="What it is: a data category of fideslang.")
    purposes: Annotated[tuple[str, ...], AfterValidator(_purposes), NAMES] = Option(
        description="Which purposes of this document it is for."
    )
    retention: Duration = Option(
        description="How long it is kept: a whole number of h, d, w or y, at most 100 years.",
        examples=["30d"],
    )
    reason: Reason = Option(description="Why it is needed: what is decided or done with it.")
    expires: Day | None = Option(
        None,
        description="From this day on it is not collected: YYYY-MM-DD.",
        examples=["2027-06-30"],
    )
    required: bool = Option(False, description="Whether an event without it is rejected.")
    derive: Literal["user_agent"] | None = Option(
        None, description="Fill it from the user-agent string where the event has no value."
    )
    source: Literal["peer"] | None = Option(
        None,
        description="`peer`: fill `client.address` from the sender's address where the only event"
        " of a request has no value.",
    )
    also: Name | None = Option(
        None,
        description="The sentence under `also_collected` that describes it. Required for every"
        " field other than address, device and operating system.",
        examples=["quality"],
    )
    kind: str = Option(description="How its value is recognised: a closed set of values.")

    def places(self, name: str) -> tuple[Source, ...]:
        """Return the sources that are read, in order; the field's own name is last if unlisted.

        So a record, which carries canonical names, passes through its own filter unchanged. If any
        source has a condition, the name is not a source, because a value there would need no
        condition.
        """
        listed = self.sources or ()
        is_conditional = any(map(condition_of, listed))
        return listed if name in listed or is_conditional else (*listed, name)

    def paths(self, name: str) -> tuple[Path, ...]:
        """Return the paths of the sources, in order, each once."""
        return tuple(dict.fromkeys(map(path_of, self.places(name))))

    def reads(self) -> frozenset[type]:
        """Return the JSON types that the field reads: those of its kind, and those that its options
        add.

        Canonical values have the kind's own types.
        """
        return self.wire

    def may_be_value(self, raw: Any) -> bool:
        """Return whether the bytes of a JSON text (with quotes and escapes) may be a value. Any
        other text is refused without being decoded, because it may be content. Called if the field
        reads more than its kind."""
        return True

    def document(self) -> dict[str, Any]:
        """Return the options that a schema's digest covers, as JSON values."""
        return self.model_dump(mode="json", by_alias=True)

    def canonical(self, circumstances: Circumstances) -> Canonical:
        """Return the function that makes values canonical."""
        raise NotImplementedError

    def stored(self, circumstances: Circumstances) -> Canonical:
        """Return the function that accepts canonical values only, and leaves them unchanged."""
        canonical = self.canonical(circumstances)

        def stored(value: Any) -> Scalar | None:
            result = canonical(value)
            return result if result == value else None

        return stored

    def stored_between(self, first: datetime, last: datetime) -> Canonical:
        """Return the function that accepts values that were canonical at a moment between two."""
        at_first, at_last = (
            self.stored(Circumstances(lambda now=now: now, _no_key))  # type: ignore[misc]
            for now in (first, last)
        )

        def stored(value: Any) -> Scalar | None:
            result = at_first(value)
            return at_last(value) if result is None else result

        return stored

    def column_check(self, first: datetime, last: datetime) -> ColumnCheck:
        """Return the function that checks a whole column, equivalent to ``stored_between``.

        A kind may override it with a faster way than checking each different value.
        """
        stored = self.stored_between(first, last)
        return lambda values: all(stored(value) is not None for value in set(values) - {None})

    def sought(self, circumstances: Circumstances) -> Canonical:
        """Return the function that makes a value canonical for a person's request. It also accepts
        values that only an earlier version of the schema may have kept."""
        return self.canonical(circumstances)

    def recognised(self) -> Canonical:
        """Return the function that accepts canonical values, at whatever time they were stored."""
        return self.stored(WITHOUT_KEYS)

    def size(self) -> int:
        """Count the canonical values."""
        raise NotImplementedError

    def shifts(self, new: Self) -> Iterator[Shift]:
        """Yield one shift for each option of the kind that differs in a newer field.

        At least one is widening unless this field also accepts every value that the newer one
        accepts, and each new canonical form depends only on the present one.
        """
        raise NotImplementedError

    def value_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the canonical values."""
        raise NotImplementedError

    @classmethod
    def may_be_text(cls) -> bool:
        """Return whether a field of the kind may hold texts, depending on its options."""
        return cls.column == "TEXT" and not cls.is_closed

    def is_text(self) -> bool:
        """Return whether the values are texts, and too many for an author to list one by one."""
        return self.may_be_text()

    def can_spell(self) -> bool:
        """Return whether a sender can choose letters of the values freely, and so spell words."""
        return self.is_text()

    def letter_bits(self) -> float:
        """Compute the bits that freely chosen letters of a value carry: those of a pattern, or of a
        list that has an alphabet."""
        return 0.0

    def example(self, now: datetime) -> Scalar:
        """Return an example of a value that the field admits at this time."""
        raise NotImplementedError

    def phrase(self) -> tuple[str, Mapping[str, Any]]:
        """Return the key of the phrase about the precision, and its parts.

        A part that is a ``timedelta`` is written out in the notice's language.
        """
        return "values", {}

    @property
    def identifies(self) -> bool:
        """Whether one value belongs to one person or device."""
        return False

    def coarser(self) -> Iterator[tuple[str, Self]]:
        """Yield fields with fewer values: the changed option as YAML, and the field."""
        yield from ()

    def coarsened(self, value: Any) -> Scalar | None:
        """Return this field's form of a finer field's canonical value, whatever the time.

        ``None`` if this field does not accept the value, or cannot know.
        """
        return self.canonical(WITHOUT_KEYS)(value) if type(value) in self.wire else None

    def overlaps(self, other: FieldBase) -> bool:
        """Return whether both fields could admit the same value from one place."""
        return type(self) is type(other)
