"""The model of a schema document, and the width of its records in bits.

The width is the binary logarithm of the number of different records, presence of fields included.
It does not cover when records are sent, in which order, and how many.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from math import log2
from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    JsonValue,
    Tag,
)
from pydantic import Field as Option

from collector.contracts import Category, Layout
from collector.documents import LISTED, Hint, Part, fault
from collector.schema.conditions import PLAIN, is_member_name
from collector.schema.kinds import Field, FieldBase
from collector.schema.policy import content_names
from collector.schema.scalars import (
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

LANGUAGE = 1
"""The version of the schema language; documents name it under ``language``."""

Basis = Literal[
    "consent",
    "contract",
    "legal_obligation",
    "vital_interests",
    "public_interest",
    "legitimate_interests",
]
"""The legal bases of Art. 6(1) GDPR."""


class Purpose(Part):
    """Why fields are used: a fideslang ``data_use``, its legal basis, and whether a person may
    refuse it."""

    use: str = Option(
        description="What the data is used for: one of the allowed data uses of fideslang."
    )
    basis: Basis = Option(description="The legal basis (Art. 6(1) GDPR).")
    reason: Reason = Option(description="Why the data is needed, in words.")
    optional: bool = Option(False, description="Whether a person may refuse it.")


_Record = dict[str, JsonValue]


def _one_or_many(value: object) -> str:
    return "many" if isinstance(value, list) else "one"


class Trial(Part):
    """A test inside the document: an event, exactly what is kept from it, and what must never
    appear.

    ``keeps`` maps fields to values, or is a list of mappings if the event yields several records;
    an empty mapping says that nothing is kept.
    """

    name: Text = Option(description="A name of its own.")
    event: JsonValue = Option(description="An event: any JSON value.")
    keeps: (
        Annotated[
            Annotated[_Record, Tag("one")] | Annotated[list[_Record], Tag("many")],
            Discriminator(_one_or_many),
        ]
        | None
    ) = Option(
        None,
        description="Exactly the record that comes out, without `schema`; `{}` for none, and a list"
        " for several.",
    )
    never_contains: tuple[Annotated[str, Hint(minLength=1)], ...] = Option(
        (), description="Texts that must not be in the records."
    )


def _content_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(map(is_member_name, names)):
        message = "a content name must have 1 to 64 printable characters, and no quote or backslash"
        raise fault("E107", message)
    return unique(names, "E107", "content name")


def _not_emptied(listed: object) -> object:
    if listed is None or listed in ([], {}):
        message = "an empty list removes no built-in name; add names, or delete the key"
        raise fault("E308", message)
    return tuple(listed) if isinstance(listed, list) else listed


_NotEmptied = BeforeValidator(_not_emptied)
_ContentName = Annotated[str, Hint(minLength=1, maxLength=64, pattern=f"^{PLAIN}+$")]
_Names = Annotated[tuple[_ContentName, ...], AfterValidator(_content_names), _NotEmptied, LISTED]
Content = Annotated[Mapping[Category, _Names], _NotEmptied, Hint(minProperties=1)]


def _unique_records(records: tuple[RecordsPath, ...]) -> tuple[RecordsPath, ...]:
    unique(tuple(map(path_of, records)), "E107", "path")
    return records


def _listed(value: object) -> object:
    if isinstance(value, str | dict):
        return (value,)
    if isinstance(value, list | tuple):
        return tuple(value)
    raise fault("E107", "this must be a path, such as `participants`, or a list of paths")


Records = Annotated[
    tuple[RecordsPath, ...],
    AfterValidator(_unique_records),
    BeforeValidator(
        _listed, json_schema_input_type=RecordsPath | Annotated[tuple[RecordsPath, ...], LISTED]
    ),
]
"""One path or several: the first one present in an event leads to its records; a condition may
select some."""


def _some_fields(fields: dict[str, Any]) -> dict[str, Any]:
    if not fields:
        raise fault("E106", "list at least one field")
    return fields


def _not_blank(texts: dict[str, str]) -> dict[str, str]:
    if not texts:
        raise fault("E107", "nothing is listed here; add a sentence, or delete the key")
    return texts


def _known_language(language: int) -> int:
    if language != LANGUAGE:
        raise fault(
            "E107",
            f"this Collector reads language {LANGUAGE}; install a version that reads the document's"
            f" language, or write `language: {LANGUAGE}`",
        )
    return language


_PURPOSES = "Why fields are used: the name of each purpose → the purpose."
_FIELDS = (
    "What is collected, under OpenTelemetry's names, in the order of a record's keys. Nothing else"
    " is collected."
)
_TESTS = "Events and what must come out of them; `collector schema test` runs them."


class DocumentHead(Part):
    """The document without purposes, fields and tests, which are checked one by one."""

    language: Annotated[int, Hint(const=LANGUAGE), AfterValidator(_known_language)] = Option(
        LANGUAGE,
        description="The version of the schema language in which the document is written.",
    )
    name: DocumentName = Option(
        alias="schema",
        description="The schema's name. Records carry `name/version`.",
        examples=["call-quality"],
    )
    version: Version = Option(
        description="MAJOR.MINOR.PATCH. It must rise when the schema lets more through.",
        examples=["1.0.0"],
    )
    title: Text = Option(description="What is collected, in a few words for people.")
    owner: Text = Option(description="Who is responsible for it.", examples=["media-team"])
    content: Content = Option(
        default_factory=dict,
        description="More names under which content is sent here, by category, in addition to the"
        " built-in names. Content is counted and never decoded.",
        examples=[{"chat": ["backchannel"]}],
    )
    records: Records | None = Option(
        None,
        description="Where the event holds a list of records: one path, or several of which the"
        " first that is there decides. `.*` at the end means each object below it, `.` the event"
        " itself; `[]` leads on into each element of a list. `*` alone means that what arrives is a"
        " map, and each object in it an event. With a condition, other records are counted as"
        " `not_selected`.",
        examples=[
            "participants",
            "participants[].user_qos",
            {"path": "reports", "when": {"type": ["inbound-rtp"]}},
        ],
    )
    user_agent: Paths = Option(
        (),
        description="Where the user-agent string is in an event, for fields with `derive:"
        " user_agent`.",
        examples=[["headers.user-agent"]],
    )
    consent: Path | None = Option(
        None,
        description="Where an event has a person's choices: a mapping of purposes to true or false,"
        " or a list of refused purposes. The choices are never kept.",
        examples=["preferences"],
    )
    max_bits: Annotated[int, Option(ge=1, le=65536)] | None = Option(
        None,
        description="How many bits a record may hold at most. `collector schema capacity` shows"
        " how many it holds now.",
        examples=[128],
    )
    also_collected: Annotated[
        dict[Name, Text], AfterValidator(_not_blank), Hint(minProperties=1)
    ] = Option(
        default_factory=dict,
        description="Sentences for the public about what is collected besides the address, the"
        " device and the operating system: name → sentence. A field names its sentence under"
        " `also`.",
        examples=[{"quality": "We also measure how well calls run."}],
    )
    purposes: dict[Name, Any] = Option(description=_PURPOSES)
    fields: Annotated[dict[FieldName, Any], AfterValidator(_some_fields)] = Option(
        description=_FIELDS
    )
    tests: list[Any] = Option(default_factory=list, description=_TESTS)


class Schema(DocumentHead):
    """A whole schema document. Made by ``load_schema``; its parts are in document order."""

    model_config: ClassVar[ConfigDict] = ConfigDict(ignored_types=(cached_property,))

    purposes: dict[Name, Purpose] = Option(description=_PURPOSES)
    fields: Annotated[dict[FieldName, Field], Hint(minProperties=1)] = Option(description=_FIELDS)
    tests: list[Trial] = Option(default_factory=list, description=_TESTS)

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
        """Return the fields whose purposes a person may all refuse."""
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
        """Write everything that decides on records as JSON: without tests and references to keys,
        with the entries of the catalogues."""
        plain = self.model_dump(mode="json", by_alias=True, exclude={"tests", "fields"})
        plain["fields"] = {name: field.document() for name, field in self.fields.items()}
        return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)

    @cached_property
    def layout(self) -> Layout:
        """Return the form of its records, for sinks and spool."""
        columns = tuple((name, field.column) for name, field in self.fields.items())
        return Layout(self.id, self.digest, self.name, columns)


def field_bits(field: FieldBase) -> float:
    """Compute the bits of a field from its values, and from its absence unless it is required."""
    return log2(field.size() + (not field.required))


def letter_bits(schema: Schema) -> dict[str, float]:
    """Compute the bits that freely chosen letters carry, for each field that has any."""
    found = {name: field.letter_bits() for name, field in schema.fields.items()}
    return {name: bits for name, bits in found.items() if bits}


def record_bits(schema: Schema) -> float:
    """Compute the bits of one record."""
    return sum(field_bits(field) for field in schema.fields.values())
