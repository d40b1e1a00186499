"""The form of a message: a batch of records, or a part of one, on its way through a broker.

A message of version 1 is, in this order:

- ``CLTM`` and two bytes: the version, and 1 if a MAC follows, else 0;
- the MAC, 32 bytes: HMAC-SHA256 of everything else here under the configured key;
- the length of the header in two bytes, the most significant first; the header, a JSON object;
- the records, as NDJSON, to the end.

``docs/sinks.md`` documents it. Anything that can write to the broker can make a message. So nothing
is parsed before the MAC is verified, and every size is checked before the data is read.
"""

from __future__ import annotations

import hmac
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import msgspec

from collector.config.values import resolved
from collector.contracts import Batch, Granted, layout_of
from collector.errors import ConfigError, MessageError, Unacceptable

_MAGIC, _VERSION = b"CLTM", 1
_PREFIX = struct.Struct(">4sBB")
_LENGTH = struct.Struct(">H")
_MAC_BYTES = 32
_MOST_HEADER = 1 << 13
_MOST_PARTS = 1 << 14
_ID_BYTES = 16
_LEAST_KEY = 32
MOST_PART_BYTES = 1 << 19
"""The most bytes of a message's records: half of what a NATS server accepts by default."""
MOST_BYTES = MOST_PART_BYTES + _PREFIX.size + _MAC_BYTES + _LENGTH.size + _MOST_HEADER
"""The most bytes of a message: the records and what precedes them. A batch with a larger single
record cannot be sent."""
_FAILURES = (msgspec.MsgspecError, RecursionError, ValueError)

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Purpose = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_MINUTE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:00Z", re.ASCII).fullmatch
_HEX = re.compile(r"[0-9a-f]+", re.ASCII).fullmatch


class _Header(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The members of a header; ``purposes`` are the granted ones, ``null`` means all."""

    schema: _Text
    digest: Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
    received: Annotated[str, msgspec.Meta(min_length=20, max_length=20)]
    purposes: Annotated[tuple[_Purpose, ...], msgspec.Meta(max_length=64)] | None
    batch: Annotated[str, msgspec.Meta(min_length=32, max_length=32)]
    part: Annotated[int, msgspec.Meta(ge=1, le=_MOST_PARTS)]
    parts: Annotated[int, msgspec.Meta(ge=1, le=_MOST_PARTS)]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Header).decode


class Outgoing(NamedTuple):
    """A message to send, and the id by which a broker may recognise it."""

    id: str
    data: bytes
    batch: str = ""
    """The id of its batch, the same for all parts."""

    def __repr__(self) -> str:
        return "<Outgoing>"


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """A message that was read but not yet compared with a schema.

    ``id`` is the id of the batch or, if that has several ``parts``, an id of the part and its
    records.
    """

    id: bytes
    schema: str
    digest: str
    received: str
    granted: Granted
    part: int
    parts: int
    payload: bytes


def mac_key(reference: str | None) -> bytes | None:
    """Return the MAC key that a reference names; ``None`` without a reference. Raises
    ``ConfigError`` E202 if there is no text of at least 32 characters."""
    if reference is None:
        return None
    key = resolved(reference).encode()
    if len(key) < _LEAST_KEY:
        raise ConfigError(
            "E202", f"a key of messages has at least {_LEAST_KEY} characters, made at random"
        )
    return key


def outgoing(
    batch: Batch, granted: Granted, most: int, key: bytes | None = None
) -> Iterator[Outgoing]:
    """Yield the messages of a batch, each of at most ``most`` bytes: one, or one for each part. A
    batch without records has none. Raises ``Unacceptable`` if one record is too large for a
    message."""
    if not batch.payload:
        return
    room = min(most - _overhead(batch, granted, key), MOST_PART_BYTES)
    pieces = list(_pieces(batch, room))
    if len(pieces) > _MOST_PARTS or max(map(len, pieces)) > room:
        raise Unacceptable(batch.id)
    for part, payload in enumerate(pieces, 1):
        id_ = _part_id(batch.id, part, len(pieces), payload)
        data = _packed(_header(batch, granted, part, len(pieces)), payload, key)
        yield Outgoing(id_.hex(), data, batch.id.hex())


def _pieces(batch: Batch, room: int) -> Iterator[bytes]:
    """Split the records of a batch after sorting them by their bytes. So the order of arrival is
    not visible, and a part has the same records when it is sent again. Raises ``Unacceptable`` if
    there is no room for any."""
    if room < 1:
        raise Unacceptable(batch.id)
    piece, size = list[bytes](), 0
    for record in sorted(batch.payload.removesuffix(b"\n").split(b"\n")):
        if piece and size + len(record) + 1 > room:
            yield b"\n".join([*piece, b""])
            piece, size = [], 0
        piece.append(record)
        size += len(record) + 1
    yield b"\n".join([*piece, b""])


def read_message(data: bytes, keys: Sequence[bytes] = ()) -> Message:
    """Read a message. With ``keys`` it must have a MAC under one of them. Without keys, it may have
    a MAC, which is not verified.

    Raises ``MessageError`` for anything else.
    """
    if len(data) > MOST_BYTES:
        raise MessageError("too_large")
    if len(data) < _PREFIX.size:
        raise MessageError("foreign")
    magic, version, has_mac = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise MessageError("foreign")
    if version != _VERSION or has_mac > 1:
        raise MessageError("version")
    begin = _PREFIX.size + _MAC_BYTES * has_mac
    if keys and not (has_mac and _is_authentic(data, keys)):
        raise MessageError("unauthenticated")
    if len(data) < begin + _LENGTH.size:
        raise MessageError("malformed")
    (length,) = _LENGTH.unpack_from(data, begin)
    begin += _LENGTH.size
    if length > _MOST_HEADER or begin + length >= len(data):
        raise MessageError("malformed")
    if len(data) - begin - length > MOST_PART_BYTES:
        raise MessageError("too_large")
    return _message(data[begin : begin + length], data[begin + length :])


def _message(text: bytes, payload: bytes) -> Message:
    header = None
    with suppress(*_FAILURES):
        header = _decode(text)
    if header is None or not _is_sound(header):
        raise MessageError("malformed")
    id_ = _part_id(bytes.fromhex(header.batch), header.part, header.parts, payload)
    return Message(
        id_,
        header.schema,
        header.digest,
        header.received,
        header.purposes,
        header.part,
        header.parts,
        payload,
    )


def _is_sound(header: _Header) -> bool:
    """Return whether a header is valid beyond its types."""
    is_hex = _HEX(header.batch) and _HEX(header.digest)
    return bool(is_hex and _MINUTE(header.received)) and header.part <= header.parts


def _is_authentic(data: bytes, keys: Sequence[bytes]) -> bool:
    """Return whether the MAC of a message is under one of the keys. It always tries all keys."""
    claimed = data[_PREFIX.size : _PREFIX.size + _MAC_BYTES]
    rest = memoryview(data)[_PREFIX.size + _MAC_BYTES :]
    found = [hmac.compare_digest(_mac(key, data[: _PREFIX.size], rest), claimed) for key in keys]
    return any(found)


def _mac(key: bytes, prefix: bytes, rest: bytes | memoryview) -> bytes:
    total = hmac.new(key, prefix, "sha256")
    total.update(rest)
    return total.digest()


def _header(batch: Batch, granted: Granted, part: int, parts: int) -> bytes:
    layout = layout_of(batch)
    id_ = batch.id.hex()
    return _encode(_Header(layout.schema, layout.digest, batch.received, granted, id_, part, parts))


def _packed(header: bytes, payload: bytes, key: bytes | None) -> bytes:
    prefix = _PREFIX.pack(_MAGIC, _VERSION, key is not None)
    rest = b"".join((_LENGTH.pack(len(header)), header, payload))
    return b"".join((prefix, b"" if key is None else _mac(key, prefix, rest), rest))


def _overhead(batch: Batch, granted: Granted, key: bytes | None) -> int:
    """Return the most bytes that precede the records in a message of the batch."""
    longest = _header(batch, granted, _MOST_PARTS, _MOST_PARTS)
    return _PREFIX.size + (0 if key is None else _MAC_BYTES) + _LENGTH.size + len(longest)


def _part_id(batch: bytes, part: int, parts: int, payload: bytes) -> bytes:
    """Return the id of a message. The id of a part depends on its records too: if some records of
    the batch are erased before it is sent again, the part of that number may have others. SHA-256
    takes half the time of BLAKE2, because processors have instructions for it."""
    if parts == 1:
        return batch
    return hmac.digest(batch + part.to_bytes(_ID_BYTES), payload, "sha256")[:_ID_BYTES]
