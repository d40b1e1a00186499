"""The key that signs entries: Ed25519, in the data directory, for its owner only.

Whoever can read it can sign. What it proves is that what was kept elsewhere, a checkpoint or an
export, came from somebody who could, and was not changed since.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from collector.directory import sync

__all__ = ["KEY_NAME", "Holds", "Key", "can_sign", "checker", "successor", "the_key"]

KEY_NAME = "ledger.key"
"""What the key's file is called inside a data directory: PEM, PKCS #8, not encrypted."""
_NEXT_NAME = "ledger.key.new"


def can_sign() -> bool:
    """Whether what signing needs is installed."""
    with suppress(ImportError):
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401, PLC0415

        return True
    return False


class Key:
    """A private key, out of a PEM file's text. Raises ``ValueError`` for anything else."""

    def __init__(self, pem: bytes) -> None:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
            Ed25519PrivateKey,
        )

        found = None
        with suppress(Exception):  # an error of a parser might show what it has parsed
            found = serialization.load_pem_private_key(pem, None)
        if not isinstance(found, Ed25519PrivateKey):
            raise ValueError("there is no Ed25519 key in the file")
        self._key = found
        self.public: str = found.public_key().public_bytes_raw().hex()

    def __repr__(self) -> str:
        return "<Key of the ledger>"

    def sign(self, text: bytes) -> bytes:
        """The signature of a text, 64 bytes."""
        return self._key.sign(text)


def the_key(directory: Path, current: str | None) -> Key | None:
    """The key of a data directory, made if there is none. ``current`` is the public key that the
    ledger names last; call it within the transaction that read it.

    ``None`` where it cannot be had: what signing needs is not installed, or the file is of no use.
    """
    if not can_sign():
        return None
    with suppress(OSError, ValueError):
        if current is not None and _read(directory / _NEXT_NAME) == current:
            _adopt(directory)
        if not (directory / KEY_NAME).exists():
            _make(directory / KEY_NAME)
        return Key(_private(directory / KEY_NAME))
    return None


def successor(directory: Path) -> Key:
    """A new key beside the one in use; ``the_key`` puts it in its place once the ledger names it.
    Raises ``OSError``."""
    path = directory / _NEXT_NAME
    path.unlink(missing_ok=True)
    _make(path)
    return Key(_private(path))


Holds = Callable[[str, bytes, bytes], bool]
"""Whether a signature is good: public key, text, signature."""


def checker() -> Holds | None:
    """How a signature is checked; ``None`` if what that needs is not installed."""
    return _holds if can_sign() else None


def _holds(public: str, text: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PublicKey,
    )

    with suppress(InvalidSignature, ValueError):
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, text)
        return True
    return False


def _adopt(directory: Path) -> None:
    """The new key is the key from now on, unless somebody else has just seen to it."""
    with suppress(FileNotFoundError):
        (directory / _NEXT_NAME).replace(directory / KEY_NAME)
        sync(directory)


def _read(path: Path) -> str | None:
    """The public half of the key in a file, if there is one."""
    with suppress(OSError, ValueError):
        return Key(_private(path)).public
    return None


def _private(path: Path) -> bytes:
    """What is in a file, which is its owner's only from now on."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fchmod(handle, 0o600)
        return os.read(handle, 4096)
    finally:
        os.close(handle)


def _make(path: Path) -> None:
    """A new key in a new file, whole or not there."""
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
        with suppress(PermissionError):  # as root, for whom the directory belongs to
            os.fchown(handle, owner.st_uid, owner.st_gid)
        os.write(handle, pem)
        os.fsync(handle)
    finally:
        os.close(handle)
    part.rename(path)
    sync(path.parent)
