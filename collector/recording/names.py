"""The closed vocabularies and the grammar of names that recordings use.

The name of a meeting, a member (the pseudonym) or a track has at most 64 letters, digits, ``_`` and
``-``. A recording has 128 random bits in hexadecimal; a chunk has a number. None of these can be a
path. The key of a chunk's object is a path made of the random names of recording and track.
"""

from __future__ import annotations

import re
import secrets
from typing import Literal, get_args

Kind = Literal["audio", "video", "screen", "chat", "captions"]
"""What a track holds."""
KINDS: frozenset[Kind] = frozenset(get_args(Kind))

Role = Literal["platform", "host", "participant", "media", "viewer", "auditor"]
"""The caller's role, from the platform's token."""
ROLES: frozenset[Role] = frozenset(get_args(Role))

Storage = Literal["local", "cloud"]
"""How a recording is kept: for the host's own key, or in the service."""
Medium = Literal["audio", "picture"]
"""The form of a notice."""
Language = Literal["en", "id"]
"""The languages that notices are in."""

MIXED = "mixed"
"""The owner of a track that holds several members' content; no member can have that pseudonym."""

OBJECTS = "recordings"
"""The directory of all objects."""

MAX_CHUNK_NUMBER = 2**31 - 1
MAX_CHUNK_BYTES = 4 << 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII).fullmatch
_RECORDING = re.compile(r"[0-9a-f]{32}", re.ASCII).fullmatch
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII).fullmatch


def is_name(text: str) -> bool:
    """Return whether a meeting or a track can have that name."""
    return _NAME(text) is not None


def is_pseudonym(text: str) -> bool:
    """Return whether a member can have that pseudonym."""
    return text != MIXED and is_name(text)


def is_recording(text: str) -> bool:
    """Return whether a text has the form of a recording's id."""
    return _RECORDING(text) is not None


def new_recording() -> str:
    """Make the id of a new recording: 128 random bits as 32 hexadecimal digits."""
    return secrets.token_hex(16)


def chunk_number(text: str) -> int | None:
    """Read a chunk's number, 0 to 2³¹-1 without leading zeros, or return ``None``."""
    number = int(text) if _NUMBER(text) else MAX_CHUNK_NUMBER + 1
    return number if number <= MAX_CHUNK_NUMBER else None


def prefix(recording: str, object_: str = "") -> str:
    """Return the prefix of the keys of a recording's objects, or of one track's."""
    return f"{OBJECTS}/{recording}/{object_ + '/' if object_ else ''}"


def chunk_key(recording: str, object_: str, number: int) -> str:
    """Return the key of a chunk's object, and the path of its file."""
    return f"{prefix(recording, object_)}{number}.age"


def read_key(key: str) -> tuple[str, int]:
    """Return track and number of a chunk's key; number -1 for any other key."""
    object_, _, name = key.rpartition("/")
    number = chunk_number(name.removesuffix(".age"))
    is_chunk = number is not None and name.endswith(".age")
    return object_.rpartition("/")[2], number if is_chunk and number is not None else -1
