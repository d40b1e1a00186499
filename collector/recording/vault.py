"""The vault: chunks of recordings, sealed, on local disk or in a bucket, with a signed manifest.

A chunk is sealed in memory (age), written to a file and synced, and exists once its line of the
manifest is committed; then ``add`` returns, and the upload follows. Content is never on disk, and
neither is anything by which it could be guessed: a repetition is recognised by a tag under a secret
of the recording, not by a digest.

An erasure is noted, then takes keys, the entry in the journal, files, objects; ``recover`` goes on
with one that was interrupted. Nothing can be read of it from the note on.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock
from typing import Literal

from collector.errors import ConfigError
from collector.ledger.signing import Key
from collector.recording import manifest
from collector.recording.chunks import (
    Erasures,
    NextChunk,
    Sealer,
    TrackReader,
    Unsealed,
    VaultParts,
    compute_tag,
)
from collector.recording.index import Recording, VaultIndex
from collector.recording.keys import Keys, makes_secret, read_recipient
from collector.recording.manifest import NOTHING, Begin, ManifestTip
from collector.recording.names import MAX_CHUNK_BYTES, MAX_CHUNK_NUMBER, Kind, is_name, is_recording
from collector.recording.refusals import Refused
from collector.recording.storage import Bucket, ChunkFiles, Uploads
from collector.recording.verification import find_faults
from collector.spool.lock import Lock as DirectoryLock

Storage = Literal["local", "cloud"]

_SEALED_MORE = 2048
"""More bytes than age adds to 4 MiB: its header, and 16 bytes for each 64 KiB."""
_LARGEST_BUFFER = 2 * MAX_CHUNK_BYTES
_LOCKS, _HASHERS = 64, 4


@dataclass(frozen=True, slots=True)
class Added:
    """``next`` is the number of the track's next chunk; ``is_new`` is false for a repetition."""

    next: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Track:
    """A track that is there: its owner's mark, its number of chunks, and bytes of content."""

    name: str
    kind: str
    owner_mark: str
    chunks: int
    size: int


@dataclass(frozen=True, slots=True)
class VaultState:
    """The upload queue: bytes and files, whether the bucket fails now, and errors since start."""

    queued_bytes: int
    queued_files: int
    is_failing: bool
    errors: int


class Vault:
    """The recordings of a directory; ``recover`` has to follow before it is used.

    ``bucket`` is a URL of obstore with its ``options``; without one, files stay in the directory.
    ``queue_bytes`` bounds what waits for its upload.
    ``trusted`` are public keys that signed earlier manifests. ``on_erased(recording, is_whole)`` is
    called when keys were destroyed and before anything else goes; again, if the process ends before
    that is noted. ``is_reader`` opens a directory that another process may use: it uploads and
    recovers nothing.

    Raises ``InUse`` if another process holds the directory, and ``ConfigError`` (E201, E203, E122)
    if it or the bucket's URL cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        *,
        signer: Key,
        bucket: str | None = None,
        options: Mapping[str, str] | None = None,
        queue_bytes: int = 1 << 30,
        trusted: Collection[str] = (),
        on_erased: Callable[[str, bool], None] = lambda recording, is_whole: None,
        is_reader: bool = False,
    ) -> None:
        # glibc keeps blocks up to the largest that was freed: no page of a buffer faults anew.
        bytes(_LARGEST_BUFFER)
        self.signer: Key = signer
        self._trusted = {signer.public, *trusted}
        self._queue_bytes, self._reserved = queue_bytes, 0
        self._locks, self._budget_lock = [RLock() for _ in range(_LOCKS)], Lock()
        self._next: dict[str, dict[str, NextChunk]] = {}  # after a chunk, until anything else
        self._bucket = None if bucket is None else Bucket(bucket, options or {})
        with ExitStack() as opened:
            if (lock := None if is_reader else DirectoryLock(directory)) is not None:
                opened.callback(lock.release)
            try:
                self._index = VaultIndex(directory / "vault.db")
                opened.callback(self._index.close)
                self._keys = Keys(directory, is_reader=is_reader)
                opened.callback(self._keys.close)
                self._files = ChunkFiles(directory / "objects")
            except OSError:
                message = "the recorder's directory cannot be made or written"
                raise ConfigError("E203", message) from None
            opened.pop_all()
        self._lock = lock
        self.parts: VaultParts = VaultParts(self._index, self._keys, self._files, self._bucket)
        self._erasures = Erasures(self.parts, on_erased)
        self._pool = ThreadPoolExecutor(_HASHERS, "seal")
        self._sealer = Sealer(self.parts, self._pool)
        self._reader = TrackReader(self.parts, self._pool)
        self._uploads: Uploads | None = None
        if self._bucket is not None and not is_reader:
            self._uploads = Uploads(self._bucket, self._files, self._index)

    # -- recordings -------------------------------------------------------------------------------

    def create(
        self,
        recording: str,
        terms_line: Mapping[str, str],
        *,
        storage: Storage,
        recipient: str | None,
    ) -> None:
        """Begin a recording, once: doing it again changes nothing. ``terms_line`` becomes part of
        the manifest, so it must hold no pseudonym.

        Raises ``Refused``: ``terms`` if ``local`` has no age recipient or ``cloud`` has one,
        ``malformed``, ``full``, ``unavailable``.
        """
        if not is_recording(recording):
            raise Refused("malformed")
        if (storage == "local") != (recipient is not None):
            raise Refused("terms")
        try:
            to = None if recipient is None else read_recipient(recipient)
        except ValueError:
            raise Refused("terms") from None
        if to is not None and not makes_secret(to):
            raise Refused("terms")
        with self._locked(recording):
            if (found := self._index.find(recording)) is not None and found.state == "erased":
                raise Refused("erased")
            self._keys.add_recording(recording)
            begin = Begin(1, NOTHING, recording, storage, dict(terms_line))
            self._index.create(begin, None if to is None else str(to))

    def finish(self, recording: str) -> None:
        """Write the end mark, once, and sign it. Raises ``Refused``."""
        with self._locked(recording):
            self._next.pop(recording, None)
            if self._living(recording).state == "open":
                self._index.finish(recording, self._signature)

    def recordings(self) -> list[str]:
        """Return the recordings that have content."""
        return self._index.recordings()

    def terms(self, recording: str) -> dict[str, str]:
        """Return what the manifest's first line states of a recording, and the host's recipient for
        local storage. Raises ``Refused``: ``not_found``, ``erased``."""
        recipient = self._living(recording).recipient
        first = manifest.read_line(next(self._index.lines(recording, 1), b""))
        more = {} if recipient is None else {"recipient": recipient}
        return more | (first.terms if isinstance(first, Begin) else {})

    def tracks(self, recording: str) -> list[Track]:
        """Return the tracks that are there, by name. Raises ``Refused``: ``not_found``,
        ``erased``."""
        self._living(recording)
        found = []
        for key in self._keys.tracks(recording):
            if last := self._index.last(recording, key.object):
                numbers = (last.line.number + 1, last.next_start)
                found.append(Track(key.name, key.kind, key.owner_mark, *numbers))
        return found

    def manifest_lines(self, recording: str) -> Iterator[bytes]:
        """Yield the manifest, line by line; the last line is the signature, and names the tracks
        that are there. Raises ``Refused`` at the call: ``not_found``, ``erased``."""
        with self._locked(recording):
            found, signature = self._living(recording), self._sign(recording, are_named=True)
        lines = self._index.lines(recording, found.lines)
        return (line + b"\n" for part in (lines, [signature]) for line in part)

    def checkpoint(self, recording: str) -> bytes:
        """Return a signed line to keep elsewhere: number and hash of the manifest's last line.
        Raises ``Refused``: ``not_found``, ``erased``."""
        with self._locked(recording):
            return self._sign(recording) + b"\n"

    def verify(self, recording: str, checkpoint: bytes | None = None) -> list[str]:
        """Check manifest, signatures, keys and every object; return what is wrong, in words that
        name no member. ``checkpoint`` is one, or a manifest, that was kept elsewhere. Takes time:
        all is read once. Raises ``Refused`` ``unavailable`` if the bucket does not answer."""
        try:
            return find_faults(self.parts, recording, trusted=self._trusted, checkpoint=checkpoint)
        except OSError:
            raise Refused("unavailable") from None

    def _sign(self, recording: str, *, are_named: bool = False) -> bytes:
        """Sign the tip; without names it is kept, so that lines below it are missed later."""
        found = self._living(recording)
        tracks = self._keys.tracks(recording) if are_named else []
        names = {key.object: key.name for key in tracks if self._index.last(recording, key.object)}
        is_ended = found.state == "finished"
        signature = self._signature(ManifestTip(recording, found.lines, found.hash, is_ended, {}))
        if signature != self._index.signature(recording):
            self._index.keep_signature(recording, signature)
        if not are_named:
            return signature
        return self._signature(ManifestTip(recording, found.lines, found.hash, is_ended, names))

    def _signature(self, tip: ManifestTip) -> bytes:
        return manifest.encode(manifest.sign(tip, self.signer))

    # -- chunks -----------------------------------------------------------------------------------

    def add(
        self,
        recording: str,
        track: str,
        number: int,
        data: bytes,
        *,
        owner_mark: str,
        kind: Kind,
    ) -> Added:
        """Keep a chunk: it is on disk, sealed, when this returns. A repetition changes nothing.

        Raises ``Refused``: ``malformed``, ``too_large``, ``not_found``, ``closed`` (it was
        finished), ``erased``, ``left`` (the track was destroyed), ``owner``, ``kind``, ``next``,
        ``conflict``, ``full`` (queue or disk), ``unavailable``.
        """
        if not is_name(track) or not 0 <= number <= MAX_CHUNK_NUMBER or not data:
            raise Refused("malformed")
        if len(data) > MAX_CHUNK_BYTES:
            raise Refused("too_large")
        with self._locked(recording):
            place = self._next.get(recording, {}).pop(track, None) or self._find(recording, track)
            found, key = place.recording, place.key
            place.check(number, owner_mark, kind)
            tag = compute_tag(place.secret, track, number, data)
            if self._is_there(place, number, tag):
                return Added(place.number, is_new=False)
            is_queued = self._uploads is not None and found.storage == "cloud"
            with self._room(len(data) + _SEALED_MORE if is_queued else 0):
                if key is None:
                    names = (recording, track, kind, owner_mark)
                    key = self._keys.add_track(*names, found.recipient)
                chunk = Unsealed(number, data, place.start, tag)
                self._sealer.add(recording, key, chunk, is_queued=is_queued)
            following = NextChunk(found, place.secret, key, number + 1, place.start + len(data))
            self._next.setdefault(recording, {})[track] = following
        if self._uploads is not None:
            self._uploads.wake()
        return Added(number + 1, is_new=True)

    def _find(self, recording: str, track: str) -> NextChunk:
        """Look up where the next chunk of a track goes."""
        found, secret = self._living(recording), self._keys.secret(recording)
        key = self._keys.find(recording, track, secret)
        last = self._index.last(recording, key.object) if key is not None else None
        if last is None:
            return NextChunk(found, secret, key)
        return NextChunk(found, secret, key, last.line.number + 1, last.next_start)

    def _is_there(self, place: NextChunk, number: int, tag: bytes) -> bool:
        """Return whether a chunk is there already. Raises ``Refused`` ``conflict`` for another of
        its number."""
        if place.key is None or number >= place.number:
            return False
        there = self._index.chunk(place.recording.recording, place.key.object, number)
        if there is None or not hmac.compare_digest(there.tag, tag):
            raise Refused("conflict")
        return True

    def read(
        self, recording: str, track: str, start: int = 0, end: int | None = None
    ) -> Iterator[bytes]:
        """Yield the content of a cloud recording's track, from byte ``start`` to before ``end``, a
        chunk at a time; each is compared with the manifest first.

        Raises ``Refused``, at the call: ``not_found`` (also of a track), ``erased``, ``left``
        (destroyed), ``forbidden`` (stored locally: only the host can open it); meanwhile: ``left``
        or ``unavailable``. Raises ``InputError`` E422 for a chunk that is missing or was changed.
        """
        found, object_ = self._living(recording), self._track(recording, track)
        if found.storage == "local":
            raise Refused("forbidden")
        return self._reader.read(recording, object_, max(start, 0), end)

    def ciphertext(self, recording: str, track: str, number: int) -> bytes:
        """Return the age file of a chunk, as the manifest states it. Raises ``Refused`` as
        ``read`` does, and ``InputError`` E422."""
        self._living(recording)
        return self._reader.ciphertext(recording, self._track(recording, track), number)

    # -- erasing ----------------------------------------------------------------------------------

    def destroy(self, recording: str, tracks: Collection[str]) -> None:
        """Destroy tracks; those that are not there are passed over. Keys and files are gone when
        this returns, objects of a bucket as soon as it answers.

        Raises ``Refused`` if a step cannot be done now: ``recover`` goes on with it, and nothing
        can be read meanwhile.
        """
        with self._locked(recording):
            self._next.pop(recording, None)
            self._living(recording)
            found = [self._keys.find(recording, track) for track in tracks]
            objects = [key.object for key in found if key is not None and not key.is_destroyed]
            pending = {erasure.object for erasure in self._index.erasures(recording)}
            new = [each for each in dict.fromkeys(objects) if each not in pending]
            written = [each for each in new if self._index.last(recording, each)]
            if written:
                self._index.mark_destroyed(recording, written)
                self._sign(recording)
            if unwritten := set(new) - set(written):
                self._keys.destroy(recording, unwritten)
            self._resume(recording)

    def erase(self, recording: str) -> None:
        """Erase a recording; doing it again changes nothing. Raises ``Refused`` as ``destroy``
        does."""
        with self._locked(recording):
            self._next.pop(recording, None)
            found = self._index.find(recording)
            if found is None:
                raise Refused("not_found")
            if found.state != "erased":
                self._index.mark_erased(recording)
            self._resume(recording)

    def recover(self) -> None:
        """Go on with erasures that were interrupted, and remove files that no manifest names, of
        all recordings the first time, then where something failed. Call it after the start, and now
        and then. Raises ``Refused`` if something cannot be done."""
        self._keys.recover()
        for recording in dict.fromkeys(each.recording for each in self._index.erasures()):
            with self._locked(recording):
                self._resume(recording)
        for recording in list(self._files.suspects):
            with self._locked(recording):
                self._erasures.remove_strays(recording)

    def _resume(self, recording: str) -> None:
        try:
            self._erasures.resume(recording)
        except OSError:
            raise Refused("unavailable") from None
        if self._uploads is not None:
            self._uploads.wake()

    # -- keys, state, end -------------------------------------------------------------------------

    def rotate(self) -> None:
        """Wrap every key under a new master key, and destroy the old one; content is not touched.
        Raises ``Refused`` if that cannot be done now."""
        try:
            self._keys.rotate()
        except OSError:
            raise Refused("unavailable") from None

    def state(self) -> VaultState:
        """Return the state of the upload queue."""
        uploads = self._uploads
        return VaultState(
            *self._index.queued(),
            is_failing=uploads is not None and uploads.is_failing,
            errors=uploads.errors if uploads is not None else 0,
        )

    def close(self) -> None:
        """Stop the uploads, close the files, release the directory."""
        if self._uploads is not None:
            self._uploads.close()
        self._pool.shutdown()
        self._keys.close()
        self._index.close()
        if self._lock is not None:
            self._lock.release()

    # -- parts ------------------------------------------------------------------------------------

    def _locked(self, recording: str) -> RLock:
        """Return the lock under which a recording changes."""
        return self._locks[hash(recording) % _LOCKS]

    def _living(self, recording: str) -> Recording:
        found = self._index.find(recording)
        if found is None:
            raise Refused("not_found")
        if found.state == "erased":
            raise Refused("erased")
        return found

    def _track(self, recording: str, track: str) -> str:
        """Return the random name of a track that is there."""
        key = self._keys.find(recording, track)
        if key is None:
            raise Refused("not_found")
        if key.is_destroyed or not self._index.is_living(recording, key.object):
            raise Refused("left")
        return key.object

    @contextmanager
    def _room(self, size: int) -> Iterator[None]:
        """Reserve so many bytes of the queue. Raises ``Refused`` ``full``."""
        with self._budget_lock:
            if size and self._index.queued()[0] + self._reserved + size > self._queue_bytes:
                raise Refused("full")
            self._reserved += size
        try:
            yield
        finally:
            with self._budget_lock:
                self._reserved -= size
