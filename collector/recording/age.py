"""Seal and open age files of one X25519 recipient (age-encryption.org/v1, c2sp.org/age). No I/O.

The format is composed of primitives of ``cryptography``, which take half of pyrage's time or less,
and hold the interpreter's lock for 64 KiB at a time instead of the whole file. A file with another
header (a recipient of another type, or more than one stanza) is opened by pyrage.
"""

from __future__ import annotations

import hmac
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyrage.x25519 import Identity

__all__ = ["read_point", "seal", "unseal"]

_PIECE = 64 << 10
_TAG, _NONCE, _FILE_KEY, _KEY = 16, 16, 16, 32
_ZERO = bytes(12)
"""The nonce of the wrapped file key: its key is used once."""
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_POINT_LETTERS, _CHECKSUM_LETTERS = 52, 6
_HEADER = re.compile(
    rb"(age-encryption\.org/v1\n-> X25519 ([A-Za-z0-9+/]{43})\n([A-Za-z0-9+/]{43})\n---)"
    rb" ([A-Za-z0-9+/]{43})\n"
)


def read_point(text: str) -> bytes:
    """Return the 32 bytes of a recipient or an identity that pyrage has read: Bech32 (BIP 173), 52
    letters before the checksum."""
    number = 0
    for letter in text.lower()[-_POINT_LETTERS - _CHECKSUM_LETTERS : -_CHECKSUM_LETTERS]:
        number = number << 5 | _BECH32.index(letter)
    return (number >> 4).to_bytes(_KEY, "big")


def seal(content: bytes, recipient: str) -> bytearray:
    """Return an age file that only the identity of a recipient (``age1…``) opens. Raises
    ``ValueError`` for a recipient of low order."""
    file_key, nonce = os.urandom(_FILE_KEY), os.urandom(_NONCE)
    header = _wrap(file_key, read_point(recipient))
    mac = _encode(_header_mac(file_key, header))
    start = b"".join((header, b" ", mac, b"\n", nonce))
    tags = _TAG * len(_places(len(content), _PIECE))
    sealed = bytearray(len(start) + len(content) + tags)
    sealed[: len(start)] = start
    with memoryview(sealed)[len(start) :] as payload:
        _seal_pieces(content, payload, _derive(file_key, nonce, b"payload"))
    return sealed


def unseal(sealed: bytes, identity: Identity) -> bytes:
    """Return the content of an age file. Raises ``ValueError`` if the identity does not open it, or
    if it was changed; the message holds nothing of it."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - heavy

    found = _HEADER.match(sealed)
    if found is None:
        return _unseal_other(sealed, identity)
    header, share, body, mac = found.groups()
    try:
        file_key = _unwrap(_decode(share), _decode(body), read_point(str(identity)))
        if not hmac.compare_digest(_header_mac(file_key, header), _decode(mac)):
            raise ValueError(_CLOSED)
        nonce = sealed[found.end() : found.end() + _NONCE]
        payload = memoryview(sealed)[found.end() + _NONCE :]
        return b"".join(_open_pieces(payload, _derive(file_key, nonce, b"payload")))
    except (InvalidTag, ValueError):
        raise ValueError(_CLOSED) from None


def _unseal_other(sealed: bytes, identity: Identity) -> bytes:
    import pyrage  # noqa: PLC0415 - heavy

    try:
        return bytes(pyrage.decrypt(sealed, [identity]))
    except pyrage.DecryptError:
        raise ValueError(_CLOSED) from None


_CLOSED = "the identity does not open the age file"


# -- the header ------------------------------------------------------------------------------------


def _wrap(file_key: bytes, recipient: bytes) -> bytes:
    """Return the header up to its MAC, with the file key wrapped for a recipient."""
    from cryptography.hazmat.primitives.asymmetric import x25519  # noqa: PLC0415 - heavy
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

    ephemeral = x25519.X25519PrivateKey.generate()
    share = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(x25519.X25519PublicKey.from_public_bytes(recipient))
    key = _derive(shared, share + recipient, b"age-encryption.org/v1/X25519")
    body = ChaCha20Poly1305(key).encrypt(_ZERO, file_key, None)
    lines = (b"age-encryption.org/v1", b"-> X25519 " + _encode(share), _encode(body), b"---")
    return b"\n".join(lines)


def _unwrap(share: bytes, body: bytes, identity: bytes) -> bytes:
    """Return the file key."""
    from cryptography.hazmat.primitives.asymmetric import x25519  # noqa: PLC0415 - heavy
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

    own = x25519.X25519PrivateKey.from_private_bytes(identity)
    shared = own.exchange(x25519.X25519PublicKey.from_public_bytes(share))
    recipient = own.public_key().public_bytes_raw()
    key = _derive(shared, share + recipient, b"age-encryption.org/v1/X25519")
    return ChaCha20Poly1305(key).decrypt(_ZERO, body, None)


def _header_mac(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_derive(file_key, b"", b"header"), header, "sha256")


def _derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """Return 32 bytes of HKDF-SHA-256."""
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - heavy
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    return HKDF(SHA256(), _KEY, salt, info).derive(secret)


def _encode(data: bytes) -> bytes:
    return b64encode(data).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    """Raises ``ValueError`` for another encoding of the same bytes."""
    data = b64decode(text + b"=")
    if _encode(data) != text:
        raise ValueError(_CLOSED)
    return data


# -- the payload: pieces of 64 KiB, with their places in their nonces, and the last one marked -----


def _seal_pieces(content: bytes, payload: memoryview, key: bytes) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

    cipher, view, at = ChaCha20Poly1305(key), memoryview(content), 0
    for nonce, start in _places(len(content), _PIECE):
        piece = view[start : start + _PIECE]
        at += cipher.encrypt_into(nonce, piece, None, payload[at : at + len(piece) + _TAG])


def _open_pieces(payload: memoryview, key: bytes) -> Iterator[bytes]:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

    cipher, size = ChaCha20Poly1305(key), _PIECE + _TAG
    if len(payload) > size and len(payload) % size == _TAG:
        raise ValueError("the last piece must have content")
    for nonce, start in _places(len(payload), size):
        yield cipher.decrypt(nonce, payload[start : start + size], None)


def _places(length: int, size: int) -> list[tuple[bytes, int]]:
    """Return the nonce of each piece, and where it begins."""
    last = max(length - 1, 0) // size
    numbers = range(last + 1)
    return [(each.to_bytes(11, "big") + bytes([each == last]), each * size) for each in numbers]
