"""The kinds: one file each, and one line each in ``KINDS``."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated

from pydantic import Field as Option

from collector.schema.kinds.base import Canonical, Circumstances, ColumnCheck, FieldBase
from collector.schema.kinds.boolean import BooleanField
from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.ip import IpField
from collector.schema.kinds.numeric import IntegerField, NumberField
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.kinds.time import TimeField
from collector.schema.kinds.token import TokenField
from collector.schema.kinds.version import VersionField

__all__ = ["KINDS", "Canonical", "Circumstances", "ColumnCheck", "Field", "FieldBase"]

KINDS: dict[str, type[FieldBase]] = {
    "ip": IpField,
    "enum": EnumField,
    "version": VersionField,
    "token": TokenField,
    "integer": IntegerField,
    "number": NumberField,
    "boolean": BooleanField,
    "time": TimeField,
    "pseudonym": PseudonymField,
}
"""All kinds by their names in schema documents, in the order of messages."""

if TYPE_CHECKING:
    Field = FieldBase
else:
    Field = Annotated[reduce(or_, KINDS.values()), Option(discriminator="kind")]
"""A field of any kind; ``kind`` says which."""
