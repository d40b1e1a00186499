"""The key that signs entries: Ed25519, in the data directory, readable by its owner only.

A process that can read the key can sign. The signature of a checkpoint or an export that was stored
elsewhere proves that such a process made it, and that nobody has changed it since.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from collector.files import sync
from collector.ledger.auditor import SignatureCheck, is_valid

KEY_NAME = "ledger.key"
"""The name of the key's file in a data directory: PEM, PKCS #8, not encrypted."""
_NEXT_NAME = "ledger.key.new"
_PEM = re.compile(
    rb"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI[A-Za-z0-9+/]{43}\n"
    rb"-----END PRIVATE KEY-----\n"
).fullmatch
"""Matches the file of a key. Such files differ only in the 32 bytes of the key."""


def can_sign() -> bool:
    """Return whether the extra for signing is installed."""
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401, PLC0415
    except ImportError:
        return False
    return True


class Key:
    """A private key, read from PEM. Raises ``ValueError`` for anything else."""

    def __init__(self, pem: bytes) -> None:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
            Ed25519PrivateKey,
        )

        found = None
        with suppress(Exception):  # the parser's error might show the key
            found = serialization.load_pem_private_key(pem, None)
        if not isinstance(found, Ed25519PrivateKey):
            raise ValueError("there is no Ed25519 key in the file")
        self._key = found
        self.public: str = found.public_key().public_bytes_raw().hex()

    def __repr__(self) -> str:
        return "<Key of the ledger>"

    def sign(self, text: bytes) -> bytes:
        """Return the signature of a text, 64 bytes."""
        return self._key.sign(text)


def load_key(directory: Path, current: str | None) -> Key | None:
    """Load the key of a data directory; create it if there is none. ``current`` is the public key
    that the ledger names last. Call this within the transaction that read ``current``.

    Returns ``None`` if the extra for signing is not installed, or the file cannot be used.
    """
    if not can_sign():
        return None
    try:
        if current is not None and _read(directory / _NEXT_NAME) == current:
            _replace(directory)
        if not (directory / KEY_NAME).exists():
            _create(directory / KEY_NAME)
        return Key(_private(directory / KEY_NAME))
    except (OSError, ValueError):  # the sidecar logs `unsigned`, and `ledger verify` reports it
        return None


def is_key(path: Path) -> bool:
    """Return whether a file is a key and nothing else. Raises ``OSError``."""
    with path.open("rb") as file:
        return _PEM(file.read(4096)) is not None


def create_next_key(directory: Path) -> Key:
    """Create the next key beside the current one. Once the ledger names the next key, ``load_key``
    replaces the current key by it. Raises ``OSError``."""
    path = directory / _NEXT_NAME
    path.unlink(missing_ok=True)
    _create(path)
    return Key(_private(path))


def signature_check() -> SignatureCheck | None:
    """Return the check of signatures; ``None`` if the extra for signing is not installed."""
    return is_valid if can_sign() else None


def _replace(directory: Path) -> None:
    """Replace the key by the next one, unless another process has just done so."""
    with suppress(FileNotFoundError):
        (directory / _NEXT_NAME).replace(directory / KEY_NAME)
        sync(directory)


def _read(path: Path) -> str | None:
    """Return the public half of the key in a file; ``None`` if it has no key."""
    try:
        return Key(_private(path)).public
    except (OSError, ValueError):
        return None


def _private(path: Path) -> bytes:
    """Return the contents of a file, and make it readable by its owner only."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fchmod(handle, 0o600)
        return os.read(handle, 4096)
    finally:
        os.close(handle)


def _create(path: Path) -> None:
    """Create a key in a new file, atomically."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PrivateKey,
    )

    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        owner = path.parent.stat()
        with suppress(PermissionError):  # as root, give it to the owner of the directory
            os.fchown(handle, owner.st_uid, owner.st_gid)
        os.write(handle, pem)
        os.fsync(handle)
    finally:
        os.close(handle)
    part.rename(path)
    sync(path.parent)
