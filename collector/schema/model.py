"""The schema document: what is collected, under which name, for which purpose, for how long.

The document is data and is never changed after loading. ``digest`` names exactly what it lets
through; the key reference of a pseudonym is outside it, because it says where, not what.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sized
from datetime import timedelta
from functools import cached_property
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
from collector.schema.kinds import Field
from collector.schema.kinds.token import TokenField
from collector.schema.policy import content_names
from collector.schema.terms import (
    FieldName,
    Name,
    Path,
    Paths,
    Reason,
    RecordsPath,
    Text,
    Version,
    fault,
    unique,
)

__all__ = ["EMPTIED", "Basis", "Content", "Purpose", "Schema", "Trial"]

Basis = Literal[
    "consent",
    "contract",
    "legal_obligation",
    "vital_interests",
    "public_interest",
    "legitimate_interests",
]
"""The legal bases of Art. 6(1) GDPR."""

EMPTIED = "an emptied list shortens nothing; leave it out, or add names to it"
_S = TypeVar("_S", bound=Sized)


class _Part(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)


class Purpose(_Part):
    """Why fields are used: a fideslang ``data_use``, its legal basis, and whether a person may
    refuse it."""

    use: str
    basis: Basis
    reason: Reason
    optional: bool = False


_Kept = dict[str, JsonValue]


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
            Annotated[_Kept, Tag("one")] | Annotated[list[_Kept], Tag("many")],
            Discriminator(_one_or_many),
        ]
        | None
    ) = None
    never_contains: tuple[str, ...] = ()


def _content_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(name.isprintable() and 1 <= len(name) <= 64 for name in names):
        raise fault("E135", "a content name must be 1 to 64 printable characters")
    return unique(_not_emptied(names), "E135", "content name")


def _not_emptied(listed: _S) -> _S:
    if not listed:
        raise fault("E308", EMPTIED)
    return listed


_Names = Annotated[tuple[str, ...], AfterValidator(_content_names)]
Content = Annotated[Mapping[Category, _Names], AfterValidator(_not_emptied)]


def _unique_records(paths: tuple[str, ...]) -> tuple[str, ...]:
    return unique(paths, "E129", "path")


def _listed(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


Records = Annotated[
    tuple[RecordsPath, ...],
    AfterValidator(_unique_records),
    BeforeValidator(_listed, json_schema_input_type=RecordsPath | tuple[RecordsPath, ...]),
]
"""One path or several: the first that is there in an event leads to its records."""


def _some_fields(fields: dict[str, Any]) -> dict[str, Any]:
    if not fields:
        raise fault("E131", "list at least one field")
    return fields


class Head(_Part):
    """The document without its purposes, fields and tests, which are checked one by one."""

    name: Annotated[Name, Option(alias="schema")]
    version: Version
    title: Text
    owner: Text
    content: Content = {}
    records: Records | None = None
    user_agent: Paths = ()
    consent: Path | None = None
    max_bits: Annotated[int, Option(ge=1, le=65536)] | None = None
    purposes: dict[Name, Any]
    fields: Annotated[dict[FieldName, Any], AfterValidator(_some_fields)]
    tests: list[Any] = []


class Schema(Head):
    """A whole schema document. Made by ``load_schema``; its parts are in document order."""

    model_config: ClassVar[ConfigDict] = ConfigDict(ignored_types=(cached_property,))

    purposes: dict[Name, Purpose]
    fields: dict[FieldName, Field]
    tests: list[Trial] = []

    @property
    def id(self) -> str:
        """``name/version``, as records carry it."""
        return f"{self.name}/{self.version}"

    @property
    def user_agent_paths(self) -> tuple[Path, ...]:
        """Where the user-agent string may be found, in order; OpenTelemetry's name for it is
        always read, last if unlisted. Empty if no field is derived from it."""
        if not any(field.derive for field in self.fields.values()):
            return ()
        name = "user_agent.original"
        return self.user_agent if name in self.user_agent else (*self.user_agent, name)

    @property
    def optional(self) -> tuple[str, ...]:
        """The purposes that a person may refuse, in the document's order."""
        return tuple(name for name, purpose in self.purposes.items() if purpose.optional)

    @property
    def refusable(self) -> tuple[str, ...]:
        """The fields that are for nothing but what a person may refuse."""
        refuses = frozenset(self.optional).issuperset
        return tuple(name for name, field in self.fields.items() if refuses(field.purposes))

    @property
    def retentions(self) -> dict[str, timedelta]:
        """For how long each field may be kept."""
        return {name: field.retention for name, field in self.fields.items()}

    @cached_property
    def content_names(self) -> Mapping[str, Category]:
        """All names under which content is recognised, with their categories."""
        return content_names(self.content)

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of what the schema lets through."""
        return hashlib.sha256(self.document).hexdigest()

    @property
    def document(self) -> bytes:
        """What the schema lets through, as JSON: all of it but tests and references to keys, with
        the entries of its catalogues."""
        plain = self.model_dump(mode="json", by_alias=True, exclude={"tests"})
        if self.consent is None:
            del plain["consent"]
        for name, field in self.fields.items():
            plain["fields"][name].pop("key", None)
            if field.source is None:
                del plain["fields"][name]["source"]
            if isinstance(field, TokenField) and field.entries:
                plain["fields"][name]["entries"] = sorted(field.entries)
        return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)

    @cached_property
    def layout(self) -> Layout:
        """The form of its records, for those who keep them."""
        columns = tuple((name, field.column) for name, field in self.fields.items())
        return Layout(self.id, self.digest, self.name, columns)
