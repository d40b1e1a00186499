"""What is left of a faulty part of a document, so that policy is checked there all the same.

A remnant holds what its author wrote as far as it has the right type, and harmless stand-ins for
the rest; nothing in it is validated. It exists only beside a reported fault and never leaves the
loader.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from collector.contracts import CATEGORIES
from collector.schema.kinds import FieldBase
from collector.schema.model import Head, Purpose

__all__ = ["Field", "of_field", "of_head", "of_purpose", "options"]

_T = TypeVar("_T")
_ALLOWED_USE = "essential.service.operations"
_ALLOWED_CATEGORY = "system"
_STAND_INS = {
    "category": _ALLOWED_CATEGORY,
    "purposes": ["any"],
    "retention": "1d",
    "reason": "any",
}


class Field(FieldBase):
    """A field of no known kind, or too faulty to be counted; options are not looked at."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    kind: str

    def size(self) -> int:
        return 1


def options(value: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """The options that belong to a kind alone, with stand-ins for what every field has."""
    common = {info.alias or name for name, info in FieldBase.model_fields.items()}
    own = {key: value[key] for key in value if key in model.model_fields and key not in common}
    return own | _STAND_INS


def of_field(value: Any) -> FieldBase:
    """Its kind, paths, category and purposes; required, so that it adds nothing to the width."""
    part = value if isinstance(value, dict) else {}
    left: dict[str, Any] = {
        "kind": str(part.get("kind")),
        "sources": _texts(part.get("from")),
        "category": _text(part.get("category"), _ALLOWED_CATEGORY),
        "purposes": _texts(part.get("purposes")),
        "required": True,
        "derive": "user_agent" if part.get("derive") == "user_agent" else None,
        "source": "peer" if part.get("source") == "peer" else None,
    }
    return Field.model_construct(**left)


def of_purpose(value: Any) -> Purpose:
    """What it is for."""
    use = value.get("use") if isinstance(value, dict) else None
    left: dict[str, Any] = {"use": _text(use, _ALLOWED_USE)}
    return Purpose.model_construct(**left)


def of_head(document: dict[str, Any]) -> Head:
    """The added content names, the path of the records and the greatest width."""
    content, records, bits = (document.get(key) for key in ("content", "records", "max_bits"))
    added = content if isinstance(content, dict) else {}
    left: dict[str, Any] = {
        "content": {key: _texts(added[key]) for key in CATEGORIES if key in added},
        "records": _texts(_listed(records)) or None,
        "user_agent": _texts(document.get("user_agent")),
        "consent": _text(document.get("consent"), None),
        "max_bits": bits if type(bits) is int and bits > 0 else None,
    }
    return Head.model_construct(**left)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _text(value: Any, otherwise: _T) -> str | _T:
    return value if isinstance(value, str) else otherwise


def _texts(value: Any) -> tuple[str, ...]:
    """A list of texts, with an empty one in each place where there is none."""
    return tuple(_text(item, "") for item in value) if isinstance(value, list) else ()
