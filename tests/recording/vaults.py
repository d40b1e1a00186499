"""Vaults for tests: opened in a directory, with content that is made by number."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from collector.ledger.signing import Key, load_key
from collector.recording.names import Kind
from collector.recording.vault import Vault

RECORDING = "0123456789abcdef" * 2


def key(directory: Path) -> Key:
    """Return the signing key of a directory."""
    found = load_key(directory, None)
    assert found is not None
    return found


@contextmanager
def opened(directory: Path, **options: Any) -> Iterator[Vault]:
    """Open a vault, recover it, and close it at the end."""
    directory.mkdir(exist_ok=True)
    vault = Vault(directory, signer=key(directory), **options)
    try:
        vault.recover()
        yield vault
    finally:
        vault.close()


def create(vault: Vault, recording: str = RECORDING, recipient: str | None = None) -> None:
    """Begin a recording: for the host's key if there is a recipient."""
    storage = "local" if recipient else "cloud"
    vault.create(recording, {"kinds": "audio video"}, storage=storage, recipient=recipient)  # type: ignore[arg-type]


def manifest(vault: Vault, recording: str = RECORDING) -> bytes:
    """Return the whole manifest of a recording."""
    return b"".join(vault.manifest_lines(recording))


def content(track: str, number: int, size: int = 2000) -> bytes:
    """Return the content of a chunk, always the same for a track and a number."""
    return random.Random(f"{track} {number}").randbytes(size + 7 * number)


def add(
    vault: Vault,
    track: str = "cam",
    numbers: range = range(3),
    *,
    recording: str = RECORDING,
    kind: Kind = "video",
    owner: str = "owner",
    size: int = 2000,
) -> None:
    """Add chunks to a track."""
    for number in numbers:
        data = content(track, number, size)
        vault.add(recording, track, number, data, owner_mark=owner, kind=kind)
