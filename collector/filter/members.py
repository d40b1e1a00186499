"""Types of objects whose members are named by a schema, and decoders of such objects."""

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
    """Make the type of an object. ``members`` gives the type of each name and, if the member
    may be absent, its default. A name may be any text that JSON need not escape.

    The attributes of the members are ``m0``, ``m1`` and so on. ``others`` are further attributes,
    which follow them; ``others`` and ``options`` are passed to ``msgspec.defstruct``.
    """
    named = [(f"m{at}", *about) for at, about in enumerate(members.values())]
    rename = {f"m{at}": name for at, name in enumerate(members)}
    return msgspec.defstruct(
        title, [*named, *others], rename=rename, frozen=True, gc=False, **options
    )


def members_decoder(
    types: Mapping[str, Any], default: Any = None, *, is_list: bool = False
) -> Callable[[Any], Members]:
    """Return a decoder that reads the members with these names and types from an object, or the
    first elements of a list, in this order. It skips all others as bytes, and raises ``FAILURES``.
    """
    members = {name: (kind, default) for name, kind in types.items()}
    kind = named_members("Members", members, array_like=is_list)
    decode = msgspec.json.Decoder(kind).decode
    return lambda text: astuple(decode(text))
