"""Types of objects whose members have names of a schema, and decoders of such objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec.structs import astuple

FAILURES = (msgspec.MsgspecError, RecursionError, ValueError)
"""All exceptions that msgspec raises for a payload (``UnicodeDecodeError`` is a ``ValueError``)."""
Members = tuple[Any, ...]
"""Values of the members that a decoder knows, in its order."""


def named_members(
    title: str, members: Mapping[str, tuple[Any, ...]], *others: tuple[Any, ...], **options: Any
) -> type[msgspec.Struct]:
    """Make the type of an object from its members: the name of each, which need not be one of
    Python, with its type and, unless it must be there, its default.

    Their attributes are ``m0``, ``m1`` and so on. ``others``, which follow, are attributes as
    ``msgspec.defstruct`` takes them, and so are ``options``.
    """
    named = [(f"m{at}", *about) for at, about in enumerate(members.values())]
    rename = {f"m{at}": name for at, name in enumerate(members)}
    return msgspec.defstruct(
        title, [*named, *others], rename=rename, frozen=True, gc=False, **options
    )


def members_decoder(
    types: Mapping[str, Any], default: Any = None, *, is_list: bool = False
) -> Callable[[Any], Members]:
    """Return the decoder of an object's members of these names and types, or of a list's first
    elements, in this order; all others are skipped as bytes. It raises what msgspec raises."""
    members = {name: (kind, default) for name, kind in types.items()}
    kind = named_members("Members", members, array_like=is_list)
    decode = msgspec.json.Decoder(kind).decode
    return lambda text: astuple(decode(text))
