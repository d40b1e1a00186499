"""``enum``: one of a list of values; ``aliases`` are a source's names for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, model_validator
from pydantic import Field as Option

from collector.documents import LISTED, fault, pattern
from collector.schema.kinds.base import Canonical, Circumstances, FieldBase, Phrases
from collector.schema.names import CLOSED, alphabet_bits
from collector.schema.scalars import PRINTABLE, unique
from collector.schema.verdict import Shift, differing


def _value(text: str) -> str:
    if not 1 <= len(text) <= 64 or not text.isprintable() or text != text.strip():
        raise fault(
            "E107", "a value must have 1 to 64 printable characters, without blanks around it"
        )
    return text


def _values(values: tuple[str, ...]) -> tuple[str, ...]:
    return unique(values, "E107", "value")


_Value = Annotated[
    str,
    AfterValidator(_value),
    pattern(rf"(?!\s){PRINTABLE}+(?<!\s)", "printable, without blanks around it", maxLength=64),
]


class EnumField(FieldBase):
    """A value from a closed list."""

    description = "One of a list of values."
    phrases: ClassVar[Phrases] = {
        "values": {"en": "one of {size} values", "id": "salah satu dari {size} nilai"}
    }
    repeats = True
    remembers = True
    is_closed = True

    kind: Literal["enum"]
    values: Annotated[tuple[_Value, ...], AfterValidator(_values), LISTED] = Option(
        description="The values, each once.", examples=[["desktop", "phone"]]
    )
    aliases: Mapping[_Value, str] = Option(
        default_factory=dict,
        description="What sources call them: exact source value → value.",
        examples=[{"iPhone": "phone"}],
    )
    fold_case: bool = Option(False, description="Whether ASCII letters match in any case.")

    @model_validator(mode="after")
    def _aliases_lead_to_values(self) -> EnumField:
        values = set(self.values)
        for alias, value in self.aliases.items():
            if value not in values:
                message = "the alias does not lead to one of `values`"
                raise fault("E122", message, "aliases", alias)
            if alias in values and alias != value:
                message = "this alias is itself one of `values`; delete it"
                raise fault("E122", message, "aliases", alias)
        self._folded()
        return self

    def _folded(self) -> dict[str, str]:
        known = {value: value for value in self.values} | dict(self.aliases)
        if not self.fold_case:
            return known
        folded: dict[str, str] = {}
        for text, value in known.items():
            if folded.setdefault(_fold(text), value) != value:
                message = "two names differ only in case but mean different values; delete one"
                raise fault("E122", message, *["aliases"] * bool(self.aliases))
        return folded

    def canonical(self, circumstances: Circumstances) -> Canonical:
        return self._meaning()

    def _meaning(self) -> Callable[[str], str | None]:
        known = self._folded()
        if not self.fold_case:
            return known.get
        return lambda text: known.get(_fold(text))

    def size(self) -> int:
        return len(self.values)

    def shifts(self, new: Self) -> Iterator[Shift]:
        if set(self.values) != set(new.values):
            gone, added = differing(self.values, new.values)
            yield Shift("values", "more values" if added else "fewer values", gone, added)
        elif self.values != new.values:
            yield Shift("values", "written differently")
        old_names, new_names = (
            [f"{alias}: {value}" for alias, value in field.aliases.items()] for field in (self, new)
        )
        if set(old_names) != set(new_names):
            yield Shift("aliases", self._renaming(new), *differing(old_names, new_names))
        if self.fold_case != new.fold_case:
            yield Shift("fold_case", "more spellings" if new.fold_case else "fewer spellings")

    def _renaming(self, new: Self) -> str:
        """Compare the meanings of source values under both lists of aliases."""
        old_meaning, new_meaning = self._meaning(), new._meaning()
        if any(old_meaning(text) is None for text in new.aliases):
            return "more spellings"
        successors: dict[str | None, str | None] = {}
        for text in (*new.values, *new.aliases):
            value = new_meaning(text)
            if successors.setdefault(old_meaning(text), value) != value:
                return "other values"
        if any(new_meaning(text) is None for text in self.aliases):
            return "fewer spellings"
        same = all(old == value for old, value in successors.items())
        return "written differently" if same else "coarser values"

    def example(self, now: datetime) -> str:
        return self.values[0]

    def value_schema(self) -> dict[str, Any]:
        return {"enum": list(self.values)}

    def is_text(self) -> bool:
        """Return whether the list is long, or has an alphabet: a list that can spell counts as
        text."""
        return len(self.values) > CLOSED or self.letter_bits() > 0

    def letter_bits(self) -> float:
        return alphabet_bits(self.values)

    def phrase(self) -> tuple[str, Mapping[str, Any]]:
        return "values", {"size": self.size()}

    def overlaps(self, other: FieldBase) -> bool:
        """Enums that share a source but no value take different words from it, on purpose."""
        if not isinstance(other, EnumField):
            return False
        return not set(self.values).isdisjoint(other.values)


def _fold(text: str) -> str:
    """Fold ASCII case only: Unicode folding would admit look-alikes, like the Kelvin sign."""
    return text.lower() if text.isascii() else text
