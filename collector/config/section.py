"""What all sections of settings have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """Settings that belong together. ``repr`` shows no values: some of them are secrets."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_by_name=True
    )

    def __repr__(self) -> str:
        return f"<settings of {type(self).__name__.lower()}>"

    __str__ = __repr__

    def __rich_repr__(self) -> Any:
        yield from ()
