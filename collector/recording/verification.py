"""Checks of recordings against their signed manifests: in the vault, and of files handed out.

In the vault, lines, signatures, keys and every object are compared. That shows that every line and
object is the one that was signed, and that none is missing or extra. Only a checkpoint that was
stored elsewhere shows that a vault as a whole was put back to an earlier state. A finding names
lines, chunks and random names of tracks, but no member.

The service cannot open a recording that was stored for the host's own key. It hands out the files
as ``TRACK/NUMBER.age`` beside ``manifest.jsonl``, under the tracks' own names or the random ones of
the manifest. ``assemble`` compares every file with the manifest and opens it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

from collector.errors import InputError, UsageError
from collector.files import write_private
from collector.recording.keys import TrackKey, read_identity
from collector.recording.manifest import (
    Chain,
    Chunk,
    check_manifest,
    check_signature,
    read_signature,
)
from collector.recording.names import MAX_CHUNK_BYTES, chunk_key, is_name, prefix, read_key
from collector.recording.refusals import Refused
from collector.recording.store import Stored
from collector.recording.vault import Vault, sha256

if TYPE_CHECKING:
    from pyrage.x25519 import Identity


_ATTEMPTS, _PAUSE = 5, 0.1
"""How often, and after how many seconds, to look again for a file whose line is being written, or
for an object whose file was just uploaded."""


def verify(vault: Vault, recording: str, checkpoint: bytes | None = None) -> list[str]:
    """Check manifest, signatures, keys and every object of a recording; return what is wrong, in
    words that name no member. ``checkpoint`` is a checkpoint or a manifest that was kept elsewhere.
    This takes time, because everything is read once. Raises ``Refused`` ``unavailable`` if the
    store or the bucket does not answer."""
    try:
        return _Verification(vault, recording).run(checkpoint)
    except OSError:
        raise Refused("unavailable") from None


class _Verification:
    def __init__(self, vault: Vault, recording: str) -> None:
        self._vault, self._recording = vault, recording
        self._store, self._keys = vault.store, vault.keys
        self._ends: dict[str, int] = {}  # where each track's next content begins
        self._kinds: dict[str, str] = {}

    def run(self, checkpoint: bytes | None) -> list[str]:
        """Return what is wrong."""
        there = list(self._stored_keys())  # before the lines: a chunk's file comes first
        found, faults, expected = self._store.find(self._recording), list[str](), []
        signatures = {"the checkpoint": checkpoint}
        if found is not None and found.state != "erased":
            signatures["the signature"] = self._store.signature(self._recording)
        for what, text in signatures.items():
            if text is None:
                continue
            line = read_signature(text.strip().split(b"\n")[-1])  # the last one of a manifest
            faults += check_signature(line, self._recording, self._vault.trusted, what)
            expected += [(line.tip, what)] if line else []
        if found is None:
            return [*faults, "the recording is not in the vault", *self._extra(there)]
        if found.state == "erased":
            return faults + self._leftovers(there)
        if found.state == "finished" and signatures["the signature"] is None:
            faults.append("the signature is missing")
        chain = Chain(self._recording, expected)
        self._follow(chain, found)
        faults += chain.findings
        faults += self._check_tracks(chain, found)
        return [*faults, *self._extra(there)]

    def _follow(self, chain: Chain, found: Stored) -> None:
        """Check every line, and the object of every chunk."""
        for chunk in chain.follow(self._store.lines(self._recording, found.lines)):
            self._kinds[chunk.track] = chunk.kind
            for message in self._check_object(chunk):
                chain.report(f"line {chunk.line}: {message}")
        if (chain.lines, chain.hash) != (found.lines, found.hash):
            chain.report(f"the manifest has {found.lines} lines, and {chain.lines} were found")
        if chain.is_ended != (found.state == "finished"):
            chain.report("the end mark contradicts the state of the recording")

    def _check_object(self, line: Chunk) -> Iterator[str]:
        """Yield what is wrong with an object, unless its track was destroyed."""
        name = f"chunk {line.number} of track {line.track}"
        stored = self._store.chunk(self._recording, line.track, line.number)
        start = self._ends.get(line.track, 0)
        self._ends[line.track] = start + line.content
        if stored is not None and stored.line != line:
            yield f"{name} is in the store with another line"
        elif stored is not None and stored.start != start:
            yield f"{name} is in the store at another place of its track"
        sealed = self._sealed(line)
        if not self._is_living(line.track):
            return
        if stored is None:
            yield f"{name} is not in the store"
        if sealed is None:
            yield f"{name} is missing"
        elif len(sealed) != line.size or sha256(sealed) != line.sha256:
            yield f"{name} was changed"

    def _sealed(self, line: Chunk) -> bytes | None:
        key = chunk_key(self._recording, line.track, line.number)
        for attempt in range(_ATTEMPTS):
            if not self._is_living(line.track):
                return None
            sealed = self._vault.sealed(key)
            if sealed is not None or self._vault.bucket is None:
                return sealed
            sleep(_PAUSE * attempt)
        return None

    def _is_living(self, track: str) -> bool:
        return self._store.is_living(self._recording, track)

    def _check_tracks(self, chain: Chain, found: Stored) -> Iterator[str]:
        """Yield tracks without a key, keys without a track, and keys of destroyed tracks."""
        named = {key.object: key for key in self._keys.tracks(self._recording)}
        for track in chain.living:
            if not self._is_living(track):
                continue  # destroyed since the lines were read
            if track not in named:
                yield f"the key of track {track} is missing"
            elif not self._opens(named[track], found):
                yield f"the key of track {track} does not open it"
            elif not self._is_its_own(named[track]):
                yield f"the name or the kind of track {track} was changed"
        for track in named:
            if chain.is_destroyed(track) and not self._pending(track):
                yield f"the key of the destroyed track {track} is there"

    def _is_its_own(self, key: TrackKey) -> bool:
        """Return whether the track's name matches its mark under the recording's secret, and its
        kind matches the manifest."""
        return self._keys.find(self._recording, key.name) == key and (
            key.kind == self._kinds[key.object]
        )

    def _opens(self, key: TrackKey, found: Stored) -> bool:
        """Return whether a track is sealed for the key that is here, or for the host's."""
        if found.storage == "local":
            return key.recipient == found.recipient
        try:
            identity = self._keys.identity(self._recording, key.object)
        except (Refused, ValueError):
            return False
        return identity is not None and str(identity.to_public()) == key.recipient

    def _pending(self, track: str) -> bool:
        tasks = self._store.tasks(self._recording, "erase", "delete", "again")
        return any(each.object in ("", track) for each in tasks)

    def _stored_keys(self) -> Iterator[str]:
        """Yield the keys of all files and objects of the recording."""
        yield from self._vault.files.keys(prefix(self._recording))
        if self._vault.bucket is not None:
            yield from self._vault.bucket.keys(prefix(self._recording))

    def _extra(self, there: Iterable[str]) -> Iterator[str]:
        """Yield objects that no line of the manifest names, and objects of destroyed tracks."""
        strays = {key for key in there if not self._is_named(key)}
        for attempt in range(_ATTEMPTS):
            if strays and attempt:
                sleep(_PAUSE * attempt)
                strays &= {key for key in self._stored_keys() if not self._is_named(key)}
        yield from (f"an object that the manifest does not name: {key}" for key in sorted(strays))

    def _is_named(self, key: str) -> bool:
        track, number = read_key(key)
        if key != chunk_key(self._recording, track, number):
            return False
        is_there = self._store.chunk(self._recording, track, number) is not None
        return is_there or self._pending(track)

    def _leftovers(self, there: Collection[str]) -> list[str]:
        """Return what remains of an erased recording. A removal that will be repeated is not a
        fault, but an object that arrives late is."""
        if self._store.tasks(self._recording, "erase", "delete"):
            return ["the erasure is not complete: the bucket still holds objects of the recording"]
        found = [f"an object of the erased recording is there: {key}" for key in there]
        if self._keys.tracks(self._recording) or self._keys.has(self._recording):
            found.append("a key of the erased recording is there")
        if next(self._store.lines(self._recording, 1), None) is not None:
            found.append("the manifest of the erased recording is there")
        return found


MANIFEST_NAME = "manifest.jsonl"
_MOST_MANIFEST_BYTES = 256 << 20
_MOST_SEALED_BYTES = MAX_CHUNK_BYTES + 4096


def assemble(source: Path, out: Path, identity: Path) -> dict[str, int]:
    """Write every track of the manifest to ``out``, as a private file that never replaces another
    one. Return the bytes of each by file name (``TRACK.KIND``).

    ``identity`` is an age identity file. Raises ``InputError``: E101 if something cannot be read,
    E203 if something cannot be written, and E422 for a manifest or a file that differs from what
    was signed. A track that fails is removed.
    """
    try:
        text = _read(source / MANIFEST_NAME, _MOST_MANIFEST_BYTES)
        opener = read_identity(_read(identity, 1 << 16).decode("ascii", "replace"))
    except ValueError as error:
        raise UsageError("E101", str(error)) from None
    faults, chunks, names = check_manifest(text)
    if faults:
        raise InputError("E422", f"the manifest does not hold: {faults[0]}")
    if not all(is_name(name) for name in names.values()) or len(set(names.values())) < len(names):
        raise InputError("E422", "the manifest names tracks in a form that none has")
    written = dict[str, int]()
    for track, name in names.items():
        of_track = [chunk for chunk in chunks if chunk.track == track]
        target = out / f"{name}.{of_track[0].kind}"
        folder = source / (name if (source / name).is_dir() else track)
        written[target.name] = _write(target, folder, of_track, opener)
    return written


def _write(target: Path, folder: Path, chunks: list[Chunk], opener: Identity) -> int:
    sizes = list[int]()

    def pieces() -> Iterator[bytes]:
        for chunk in chunks:
            piece = _open(folder / f"{chunk.number}.age", chunk, opener)
            sizes.append(len(piece))
            yield piece

    try:
        write_private(target, pieces())
    except OSError:
        message = f"{target.name} cannot be written: is it there, or the disk full?"
        raise UsageError("E203", message) from None
    return sum(sizes)


def _open(path: Path, chunk: Chunk, opener: Identity) -> bytes:
    import pyrage  # noqa: PLC0415 - heavy

    sealed = _read(path, _MOST_SEALED_BYTES)
    if sha256(sealed) != chunk.sha256:
        raise InputError("E422", f"chunk {chunk.number} is not the one that the manifest states")
    try:
        return bytes(pyrage.decrypt(sealed, [opener]))
    except pyrage.DecryptError:
        raise InputError("E422", f"the identity does not open chunk {chunk.number}") from None


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            found = file.read(most + 1)
    except OSError:
        raise UsageError("E101", f"{path.name} cannot be read; check the directory") from None
    if len(found) > most:
        raise UsageError("E101", f"{path.name} is larger than any such file")
    return found
