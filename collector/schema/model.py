"""The model of a schema document, and the greatest width of its records in bits.

The width is the binary logarithm of the number of different records, presence of fields included.
When records are sent, in which order and how many is outside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sized
from datetime import timedelta
from functools import cached_property
from math import log2
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    JsonValue,
    Tag,
)
from pydantic import Field as Option

from collector.contracts import Category, Layout
from collector.schema.conditions import fault
from collector.schema.kinds import Field, FieldBase
from collector.schema.policy import content_names
from collector.schema.scalars import (
    BUILDS_LATER,
    DocumentName,
    FieldName,
    Name,
    Path,
    Paths,
    Reason,
    RecordsPath,
    Text,
    Version,
    path_of,
    unique,
)

Basis = Literal[
    "consent",
    "contract",
    "legal_obligation",
    "vital_interests",
    "public_interest",
    "legitimate_interests",
]
"""The legal bases of Art. 6(1) GDPR."""

EMPTIED = "an empty list does not shorten the built-in one; leave it out, or add names to it"
_S = TypeVar("_S", bound=Sized)


class _Part(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, strict=True, defer_build=BUILDS_LATER
    )


class Purpose(_Part):
    """Why fields are used: a fideslang ``data_use``, its legal basis, and whether a person may
    refuse it."""

    use: str
    basis: Basis
    reason: Reason
    optional: bool = False


_Record = dict[str, JsonValue]


def _one_or_many(value: object) -> str:
    return "many" if isinstance(value, list) else "one"


class Trial(_Part):
    """A test inside the document: an event, exactly what is kept of it, what must never appear.

    ``keeps`` is a mapping of field to value, or a list of them where one event gives several
    records; an empty mapping says that nothing is kept.
    """

    name: Text
    event: JsonValue
    keeps: (
        Annotated[
            Annotated[_Record, Tag("one")] | Annotated[list[_Record], Tag("many")],
            Discriminator(_one_or_many),
        ]
        | None
    ) = None
    never_contains: tuple[str, ...] = ()


def _content_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(name.isprintable() and 1 <= len(name) <= 64 for name in names):
        raise fault("E107", "a content name must be 1 to 64 printable characters")
    return unique(_not_emptied(names), "E107", "content name")


def _not_emptied(listed: _S) -> _S:
    if not listed:
        raise fault("E308", EMPTIED)
    return listed


_Names = Annotated[tuple[str, ...], AfterValidator(_content_names)]
Content = Annotated[Mapping[Category, _Names], AfterValidator(_not_emptied)]


def _unique_records(records: tuple[RecordsPath, ...]) -> tuple[RecordsPath, ...]:
    unique(tuple(map(path_of, records)), "E107", "path")
    return records


def _listed(value: object) -> object:
    if isinstance(value, str | dict):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


Records = Annotated[
    tuple[RecordsPath, ...],
    AfterValidator(_unique_records),
    BeforeValidator(_listed, json_schema_input_type=RecordsPath | tuple[RecordsPath, ...]),
]
"""One path or several: the first that is there in an event leads to its records, some of which a
condition may select."""


def _some_fields(fields: dict[str, Any]) -> dict[str, Any]:
    if not fields:
        raise fault("E106", "list at least one field")
    return fields


def _not_blank(texts: dict[str, str]) -> dict[str, str]:
    if not texts:
        raise fault("E107", "nothing is written here; fill it in, or leave it out")
    return texts


class DocumentHead(_Part):
    """The document without its purposes, fields and tests, which are checked one by one."""

    name: Annotated[DocumentName, Option(alias="schema")]
    version: Version
    title: Text
    owner: Text
    content: Content = {}
    records: Records | None = None
    user_agent: Paths = ()
    consent: Path | None = None
    max_bits: Annotated[int, Option(ge=1, le=65536)] | None = None
    also_collected: Annotated[dict[Name, Text], AfterValidator(_not_blank)] = {}
    purposes: dict[Name, Any]
    fields: Annotated[dict[FieldName, Any], AfterValidator(_some_fields)]
    tests: list[Any] = []


class Schema(DocumentHead):
    """A whole schema document. Made by ``load_schema``; its parts are in document order."""

    model_config: ClassVar[ConfigDict] = ConfigDict(ignored_types=(cached_property,))

    purposes: dict[Name, Purpose]
    fields: dict[FieldName, Field]
    tests: list[Trial] = []

    @property
    def id(self) -> str:
        """Return ``name/version``, as records carry it."""
        return f"{self.name}/{self.version}"

    @property
    def ways(self) -> tuple[str, ...]:
        """Return the paths of ``records``, in order, without their conditions."""
        return tuple(map(path_of, self.records or ()))

    @property
    def user_agent_paths(self) -> tuple[Path, ...]:
        """Return the paths of the user-agent string, in order; OpenTelemetry's name for it is
        always read, last if unlisted. Empty if no field is derived from it."""
        if not any(field.derive for field in self.fields.values()):
            return ()
        name = "user_agent.original"
        return self.user_agent if name in self.user_agent else (*self.user_agent, name)

    @property
    def optional(self) -> tuple[str, ...]:
        """Return the purposes that a person may refuse, in the document's order."""
        return tuple(name for name, purpose in self.purposes.items() if purpose.optional)

    @property
    def refusable(self) -> tuple[str, ...]:
        """Return the fields all of whose purposes a person may refuse."""
        refuses = frozenset(self.optional).issuperset
        return tuple(name for name, field in self.fields.items() if refuses(field.purposes))

    @property
    def retentions(self) -> dict[str, timedelta]:
        """Return the retention of each field."""
        return {name: field.retention for name, field in self.fields.items()}

    @cached_property
    def content_names(self) -> Mapping[str, Category]:
        """Map every name under which content is recognised to its category."""
        return content_names(self.content)

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of ``document``, in hex."""
        return hashlib.sha256(self.document).hexdigest()

    @property
    def document(self) -> bytes:
        """Write all that decides on records as JSON: no tests and references to keys, with
        the entries of its catalogues."""
        plain = self.model_dump(mode="json", by_alias=True, exclude={"tests", "fields"})
        plain["fields"] = {name: field.document() for name, field in self.fields.items()}
        return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)

    @cached_property
    def layout(self) -> Layout:
        """Return the form of its records, for sinks and spool."""
        columns = tuple((name, field.column) for name, field in self.fields.items())
        return Layout(self.id, self.digest, self.name, columns)


def field_bits(field: FieldBase) -> float:
    """Compute the bits of a field: its values, and its absence unless it is required."""
    return log2(field.size() + (not field.required))


def letter_bits(schema: Schema) -> dict[str, float]:
    """Compute the bits that letters of free choice carry, by field, where there are any."""
    found = {name: field.letter_bits() for name, field in schema.fields.items()}
    return {name: bits for name, bits in found.items() if bits}


def record_bits(schema: Schema) -> float:
    """Compute the bits of one record."""
    return sum(field_bits(field) for field in schema.fields.values())
