"""The JSON bodies of the recorder's HTTP API, in and out.

They are decoded strictly: a member that is not listed, occurs twice or has another type makes a
body malformed. ``openapi.json`` has the schemas of these types.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from collector.recording.jwks import StrictDecoder
from collector.recording.names import Kind
from collector.recording.refusals import Refused
from collector.recording.states import StateName, Terms
from collector.units import parse_span

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
_SPAN_UNITS = "smhdwy"
_MOST_SECONDS = 1 << 53
_Name = Annotated[str, Meta(pattern=_NAME, max_length=64)]
_Body = TypeVar("_Body", bound=msgspec.Struct)
_Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]


class NoticeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How members get a notice: the medium that is shown first, and the language."""

    medium: Literal["audio", "picture"]
    language: Literal["en", "id"]


class RequestBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a host asks for. ``retention`` counts from the close, in seconds or as a text such as
    ``30d``. ``recipient`` is an age recipient, for local storage only."""

    meeting: _Name
    storage: Literal["local", "cloud"]
    kinds: Annotated[list[Kind], Meta(min_length=1, max_length=5)]
    retention: (
        Annotated[int, Meta(ge=1, le=_MOST_SECONDS)]
        | Annotated[str, Meta(pattern="^[1-9][0-9]{0,5}[smhdwy]$")]
    )
    notice: NoticeBody
    recipient: Annotated[str, Meta(max_length=100)] | None = None


class ChoiceBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A participant's choice, with the SHA-256 of the notice that the participant fetched."""

    choice: Literal["stay", "leave"]
    notice: _Digest


class HandoverBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pseudonym of the heir; the host's own pseudonym takes a handover back."""

    to: _Name


class NoticeLinks(msgspec.Struct, frozen=True):
    """The notice of a recording: the digest of the chosen medium, and the paths of both files."""

    digest: str
    wav: str
    png: str


class Created(msgspec.Struct, frozen=True):
    """A new recording."""

    id: str
    notice: NoticeLinks


class StateBody(msgspec.Struct, frozen=True):
    """The state of a recording; ``indicator`` tells whether content is taken now."""

    state: StateName
    indicator: bool
    reason: str | None = None


class NextBody(msgspec.Struct, frozen=True):
    """The number of the chunk that the recorder expects next."""

    next: int


class RefusalBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """A refusal: one of the closed codes, and what to do next; ``next`` with the code ``next``."""

    code: str
    message: str
    next: int | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """A refusal."""

    error: RefusalBody


def decoded(body: bytes, kind: type[_Body]) -> _Body:
    """Decode a body. Raises ``Refused``: ``malformed`` for anything but a JSON object of this type,
    ``terms`` if members of a host's request are faulty."""
    try:
        StrictDecoder().decode(body.decode("utf-8"))
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        code = "terms" if kind is RequestBody else "malformed"
    except (ValueError, RecursionError):
        code = "malformed"
    raise Refused(code)


def encoded(body: msgspec.Struct) -> bytes:
    """Encode a body."""
    return msgspec.json.encode(body)


def terms_of(body: RequestBody) -> Terms:
    """Return the terms that a host asks for. Raises ``Refused``: ``terms``."""
    span = body.retention
    seconds = span if isinstance(span, int) else parse_span(span, _SPAN_UNITS)
    if seconds is None or len(set(body.kinds)) < len(body.kinds):
        raise Refused("terms")
    return Terms(
        meeting=body.meeting,
        storage=body.storage,
        recipient=body.recipient,
        kinds=frozenset(body.kinds),
        retention=float(seconds),
        medium=body.notice.medium,
        language=body.notice.language,
    )
