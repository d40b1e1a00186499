"""Vaults for tests: opened in a directory, with content that is made by number."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from collector.recording.names import Kind, Storage
from collector.recording.store import Store, Task
from collector.recording.tasks import Tasks
from collector.recording.vault import VAULT_NAME, Vault, load_signer

RECORDING = "0123456789abcdef" * 2


@contextmanager
def opened(directory: Path, **options: Any) -> Iterator[Vault]:
    """Open a vault in a recorder's directory, with the loop over its tasks, and close it."""
    with closing(Store(directory)) as store:
        vault = Vault(directory / VAULT_NAME, store, signer=load_signer(directory), **options)
        with closing(vault), closing(vault.tasks()) as _LOOPS[vault]:
            run(vault)
            yield vault
        del _LOOPS[vault]


_LOOPS: dict[Vault, Tasks] = {}


def loop(vault: Vault) -> Tasks:
    """Return the loop over the tasks of a vault."""
    return _LOOPS[vault]


def run(vault: Vault) -> None:
    """Do the tasks that are due."""
    loop(vault).run()
    loop(vault).wake()


def pending(vault: Vault, recording: str = "") -> list[Task]:
    """Return what is still to be erased."""
    return vault.store.tasks(recording or RECORDING, "erase", "delete", "again")


def queued(vault: Vault) -> int:
    """Return how many files wait for the bucket."""
    return vault.store.queued()[1]


def create(vault: Vault, recording: str = RECORDING, recipient: str | None = None) -> None:
    """Begin a recording: for the host's key if there is a recipient."""
    storage: Storage = "local" if recipient else "cloud"
    line = {"kinds": "audio video"}
    vault.prepare(recording, recipient)
    vault.store.commit(lambda db: vault.begin(db, recording, line, storage, recipient))


def finish(vault: Vault, recording: str = RECORDING) -> None:
    """Finish a recording."""
    vault.store.commit(lambda db: vault.finish(db, recording))
    run(vault)


def destroy(vault: Vault, *tracks: str, recording: str = RECORDING) -> None:
    """Destroy tracks, as far as that can be done now."""
    objects = vault.objects(recording, tracks)
    vault.store.commit(lambda db: vault.destroy(db, recording, objects))
    loop(vault).carry_out(recording, "erase")


def erase(vault: Vault, recording: str = RECORDING) -> None:
    """Erase a recording, as far as that can be done now."""
    vault.store.commit(lambda db: vault.erase(db, recording))
    loop(vault).carry_out(recording, "erase")


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
        loop(vault).wake()
