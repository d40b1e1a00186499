"""pydantic models: fields that are texts; or fields that are checked, and records sorted."""

from __future__ import annotations

from functools import reduce
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from benchmarks.leaks.contenders.base import Contender, Spec, allowed, at, each, lines, rows


def _known(field: dict[str, Any]) -> Any:
    """Return the type of a field that is checked with pydantic's means."""
    if "values" in field:
        return Literal[tuple(field["values"])]
    if "pattern" in field:
        return Annotated[str, Field(pattern=f"^(?:{field['pattern']})$")]

    def check(value: str) -> str:
        if not allowed(value, field):
            raise ValueError
        return value

    return Annotated[str, AfterValidator(check)]


def _tolerant(kind: Any) -> Any:
    """Return a type for which a value that is not of it counts as absent."""

    def absent(value: Any, handler: Any) -> Any:
        try:
            return handler(value)
        except pydantic.ValidationError:
            return None

    return Annotated[kind | None, pydantic.WrapValidator(absent)]


def make(variant: str, spec: Spec) -> Contender:
    """Make it. The checked model is strict, and a wrong value costs its field alone."""
    checks = variant == "strongest"
    models: dict[str, type[BaseModel]] = {}
    for shape, fields in spec.items():
        members: dict[str, Any] = {
            name.replace(".", "_"): (
                (_tolerant(_known(field)) if checks else str | None),
                Field(default=None, serialization_alias=name),
            )
            for name, field in fields.items()
        }
        config = ConfigDict(strict=checks, regex_engine="python-re")
        models[shape] = create_model(f"Record_{shape}", __config__=config, **members)

    def record(shape: str, row: Any) -> dict[str, Any]:
        found = {
            name.replace(".", "_"): reduce(
                lambda a, b: b if a is None else a, [at(row, path) for path in field["paths"]]
            )
            for name, field in spec[shape].items()
        }
        made = models[shape].model_validate(found)
        return made.model_dump(by_alias=True, exclude_none=True)

    def one(shape: str, text: str) -> str:
        try:
            document = pydantic.TypeAdapter(Any).validate_json(text)
            found = [record(shape, row) for row in rows(shape, document)]
            return lines(found, sort=checks)
        except (pydantic.ValidationError, AttributeError, KeyError, TypeError, IndexError):
            return ""

    kind = "`str | None` each"
    if checks:
        kind = "Literal, pattern and a validator for each field; records are sorted"
    return Contender(each(one), f"one model a shape; {kind}", pydantic.VERSION)
