"""The chunks of recordings: sealed on disk, opened for readers, and erased.

A chunk is encrypted in memory, written to a file, and committed in the manifest; what is read, from
disk or bucket, is compared with the manifest and opened. An erasure takes keys first, then the
entry in the journal, then files and objects, whatever interrupts it: each step is repeatable, and
noted when it is done. What is in a bucket is removed by the thread of uploads.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field

from collector.errors import InputError
from collector.files import NO_ROOM, need_room
from collector.recording.index import PendingErasure, Recording, VaultIndex
from collector.recording.keys import Keys, TrackKey, read_recipient
from collector.recording.manifest import Chunk
from collector.recording.names import MAX_CHUNK_BYTES, chunk_key, prefix, read_key
from collector.recording.refusals import Refused
from collector.recording.storage import Bucket, ChunkFiles

_SPARE_BYTES = 64 << 20
"""What is left of the disk, so that manifests and erasures can be written."""


@dataclass(frozen=True, slots=True)
class VaultParts:
    """The parts of a vault: its index, its keys, its files, and its bucket if it has one."""

    index: VaultIndex
    keys: Keys
    files: ChunkFiles
    bucket: Bucket | None

    def has_room(self) -> bool:
        """Return whether the disk takes a chunk of the largest size."""
        with suppress(OSError):
            need_room(self.files.path(""), MAX_CHUNK_BYTES + _SPARE_BYTES)
            return True
        return False

    def sealed(self, key: str) -> bytes | None:
        """Return an age file from disk or bucket, or ``None`` if neither has it. Raises
        ``OSError`` if they do not answer."""
        sealed = self.files.read(key)
        if sealed is None and self.bucket is not None:
            sealed = self.bucket.get(key)
        return sealed


@dataclass(frozen=True, slots=True, repr=False)
class Unsealed:
    """A chunk in memory: its number, its content, where that begins in the track, and its tag."""

    number: int
    data: bytes
    start: int
    tag: bytes


@dataclass(frozen=True, slots=True)
class NextChunk:
    """Where the next chunk of a track goes: the recording and its secret, the track's key (``None``
    before its first chunk), the chunk's number, and where its content begins in the track."""

    recording: Recording
    secret: bytes = field(repr=False)
    key: TrackKey | None
    number: int = 0
    start: int = 0

    def check(self, number: int, owner_mark: str, kind: str) -> None:
        """Raise ``Refused`` unless a chunk of the track may have that number: this one's, or that
        of a chunk that is there."""
        if self.key is not None and self.key.is_destroyed:
            raise Refused("left")
        if self.key is not None and (self.key.owner_mark, self.key.kind) != (owner_mark, kind):
            raise Refused("kind" if self.key.owner_mark == owner_mark else "owner")
        if self.recording.state == "finished" and number >= self.number:
            raise Refused("closed")
        if number > self.number:
            raise Refused("next", next=self.number)


def compute_tag(secret: bytes, track: str, number: int, data: bytes) -> bytes:
    """Return the tag by which a repetition of a chunk is recognised, 16 bytes: Poly1305, with a key
    for this track and number (HMAC-SHA-256 under the recording's secret), as it must be used for
    one message only. No tag leaves the index, so that none can be forged by comparing others."""
    from cryptography.hazmat.primitives.poly1305 import Poly1305  # noqa: PLC0415 - heavy

    return Poly1305.generate_tag(
        hmac.digest(secret, f"tag {track} {number}".encode(), "sha256"), data
    )


class Sealer:
    """Seal chunks into files and lines. The caller locks the recording."""

    def __init__(self, parts: VaultParts, pool: Executor) -> None:
        self._index, self._files, self._pool = parts.index, parts.files, pool

    def add(self, recording: str, key: TrackKey, chunk: Unsealed, *, is_queued: bool) -> None:
        """Seal a chunk, write and sync it, and commit its line. Raises ``Refused``: ``full``,
        ``unavailable``."""
        try:
            self._add(recording, key, chunk, is_queued)
        except BaseException:
            self._files.suspects.add(recording)
            raise

    def _add(self, recording: str, key: TrackKey, chunk: Unsealed, is_queued: bool) -> None:
        import pyrage  # noqa: PLC0415 - heavy

        sealed = pyrage.encrypt(chunk.data, [read_recipient(key.recipient)])
        digest = self._pool.submit(sha256, sealed)
        try:
            name = chunk_key(recording, key.object, chunk.number)
            self._files.write(name, sealed, _SPARE_BYTES, self._pool.submit)
        except OSError as error:
            is_full = error.errno in (*NO_ROOM, errno.EFBIG)
            raise Refused("full" if is_full else "unavailable") from None
        rest = (key.object, chunk.number, key.kind, len(sealed), len(chunk.data), digest.result())
        try:
            self._index.add(
                recording,
                lambda line, previous: Chunk(line, previous, *rest),  # type: ignore[arg-type]
                start=chunk.start,
                tag=chunk.tag,
                is_queued=is_queued,
            )
        except Refused:  # several such files, of several tracks, would be a finding
            with suppress(OSError, Refused):
                if self._index.chunk(recording, key.object, chunk.number) is None:
                    self._files.remove(name)
            raise


_DAMAGED = "a chunk is missing or is not the one that the manifest states: verify the recording"


def sha256(sealed: bytes) -> str:
    """Return the digest of an age file in hexadecimal."""
    return hashlib.sha256(sealed).hexdigest()


class TrackReader:
    """Read tracks by their random names. Methods raise ``Refused`` ``left`` if the track was
    destroyed meanwhile, ``unavailable`` if disk or bucket do not answer, and ``InputError`` E422
    for a chunk that is missing or was changed."""

    def __init__(self, parts: VaultParts, pool: Executor) -> None:
        self._index, self._keys, self._parts, self._pool = parts.index, parts.keys, parts, pool

    def read(self, recording: str, object_: str, start: int, end: int | None) -> Iterator[bytes]:
        """Yield content from byte ``start`` to before ``end``, a chunk at a time."""
        chunk = self._index.at(recording, object_, start)
        while chunk is not None and (end is None or chunk.start < end):
            content = self._open(recording, chunk.line)
            low = max(start - chunk.start, 0)
            high = len(content) if end is None else min(end - chunk.start, len(content))
            if low < high:
                yield content if (low, high) == (0, len(content)) else content[low:high]
            del content  # before the next one is there
            chunk = self._index.chunk(recording, object_, chunk.line.number + 1)
        if chunk is None:
            self._check_living(recording, object_)

    def ciphertext(self, recording: str, object_: str, number: int) -> bytes:
        """Return the age file of a chunk. Raises ``Refused`` ``not_found`` if there is none."""
        chunk = self._index.chunk(recording, object_, number)
        if chunk is None:
            self._check_living(recording, object_)
            raise Refused("not_found")
        sealed = self._sealed(recording, chunk.line)
        if sha256(sealed) != chunk.line.sha256:
            raise InputError("E422", _DAMAGED)
        return sealed

    def _open(self, recording: str, line: Chunk) -> bytes:
        """Return the content of a chunk."""
        import pyrage  # noqa: PLC0415 - heavy

        sealed = self._sealed(recording, line)
        identity = self._keys.identity(recording, line.track)  # destroyed while the bucket answers?
        if identity is None:
            raise Refused("left")
        self._parts.files.expect(chunk_key(recording, line.track, line.number + 1))
        digest = self._pool.submit(sha256, sealed)
        try:
            content: bytes | None = pyrage.decrypt(sealed, [identity])
        except pyrage.DecryptError:
            content = None
        if content is None or digest.result() != line.sha256:
            raise InputError("E422", _DAMAGED)
        return content

    def _sealed(self, recording: str, line: Chunk) -> bytes:
        """Return a chunk's age file, from disk or bucket."""
        name = chunk_key(recording, line.track, line.number)
        try:
            sealed = self._parts.sealed(name)
        except OSError:
            raise Refused("unavailable") from None
        if sealed is None:
            self._check_living(recording, line.track)
            raise InputError("E422", _DAMAGED)
        return sealed

    def _check_living(self, recording: str, object_: str) -> None:
        if not self._index.is_living(recording, object_):
            raise Refused("left")


class Erasures:
    """Carry out what the index notes as to be erased. The caller locks the recording."""

    def __init__(self, parts: VaultParts, on_erased: Callable[[str, bool], None]) -> None:
        self._index, self._keys, self._files = parts.index, parts.keys, parts.files
        self._on_erased = on_erased
        self._has_bucket = parts.bucket is not None

    def resume(self, recording: str) -> None:
        """Carry out the erasures of a recording, from the step on that each has reached.

        Raises ``OSError``, ``Refused``, and what ``on_erased`` raises.
        """
        erasures = self._index.erasures(recording)
        if new := [each.object for each in erasures if each.step == "keys"]:
            # At once: the file of keys is written anew after it.
            self._keys.destroy(recording, None if "" in new else new)
        for erasure in erasures:
            self._erase(erasure)
        if erasures:
            self._index.cut_log()

    def _erase(self, erasure: PendingErasure) -> None:
        is_whole, step = not erasure.object, erasure.step
        if step == "keys":
            self._index.advance(erasure, step := "journal")
        if step == "journal":
            self._on_erased(erasure.recording, is_whole)
            self._index.advance(erasure, step := "objects")
        if step == "objects":
            self._files.remove(prefix(erasure.recording, erasure.object))
            self._index.advance(erasure, "bucket" if self._has_bucket else None)

    def remove_strays(self, recording: str) -> None:
        """Remove files whose upload has ended, and the one whose line a crash left uncommitted.

        More than one, or another than the next of its track, is left for ``verify`` to report:
        lines were lost then. Raises ``Refused``.
        """
        self._files.suspects.discard(recording)
        try:
            self._remove_strays(recording)
        except (OSError, Refused) as error:
            self._files.suspects.add(recording)  # it is tried again
            if isinstance(error, Refused):
                raise

    def _remove_strays(self, recording: str) -> None:
        strays, uploaded = list[str](), list[str]()
        for name in self._files.keys(prefix(recording)):
            object_, number = read_key(name)
            if self._index.chunk(recording, object_, number) is None:
                last = self._index.last(recording, object_)
                is_next = number == (last.line.number + 1 if last else 0)
                strays += [name] if is_next else [name, ""]
            elif self._index.is_uploaded(recording, object_, number):
                uploaded.append(name)
        for name in [*uploaded, *(strays if len(strays) == 1 else ())]:
            self._files.remove(name)
