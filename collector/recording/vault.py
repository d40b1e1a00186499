"""The vault: chunks of recordings, sealed, on local disk or in a bucket, with a signed manifest.

A chunk is sealed in memory (age), written to a file and synced, and exists once its line of the
manifest is committed; then ``add`` returns, and the upload follows. Content is never on disk, nor
is anything from which it could be guessed: a repetition is recognised by a tag under a secret of
the recording, not by a digest. Whatever is read from disk or bucket is compared with the manifest.

Methods that take a connection run inside a commit of the store: they write what follows from a step
of the grant, and add its tasks. The methods named after a task do it. From that commit on, content
to be erased cannot be read. The caller locks a recording that changes.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from threading import Lock
from typing import Literal

from collector.errors import ConfigError, InputError
from collector.files import NO_ROOM, make_directory, need_room
from collector.ledger.signing import Key, load_key
from collector.recording import manifest
from collector.recording.keys import Keys, TrackKey, makes_secret, read_recipient
from collector.recording.manifest import NOTHING, Begin, Chunk, Destroyed, End, ManifestTip
from collector.recording.names import (
    MAX_CHUNK_BYTES,
    MAX_CHUNK_NUMBER,
    Kind,
    chunk_key,
    is_name,
    prefix,
    read_key,
)
from collector.recording.refusals import Refused
from collector.recording.storage import Bucket, ChunkFiles
from collector.recording.store import Store, Stored, Task, What
from collector.recording.tasks import Local, Remote, Tasks

VAULT_NAME = "vault"
"""The name of the directory of keys and files, inside the recorder's directory."""
_SEALED_MORE = 2048
"""At least the bytes that age adds to 4 MiB: its header, and 16 bytes for each 64 KiB."""
_LARGEST_BUFFER = 2 * MAX_CHUNK_BYTES
_SPARE_BYTES = 64 << 20
"""How much of the disk stays free, so that manifests and erasures can be written."""
_UNANSWERED_SECONDS = 900.0
"""How long the bucket may still carry out an unanswered request: S3 refuses requests that were
signed more than 15 minutes ago (RequestTimeTooSkewed)."""
_HASHERS = 4
_DAMAGED = "a chunk is missing or is not the one that the manifest states: verify the recording"


@dataclass(frozen=True, slots=True)
class Added:
    """``next`` is the number of the track's next chunk; ``is_new`` is false for a repetition."""

    next: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Track:
    """A remaining track: its owner's mark, its number of chunks, and its bytes of content."""

    name: str
    kind: str
    owner_mark: str
    chunks: int
    size: int


@dataclass(frozen=True, slots=True)
class _NextChunk:
    """Where the next chunk of a track goes: the recording and its secret, the track's key (``None``
    before its first chunk), the chunk's number, and where its content begins in the track."""

    recording: Stored
    secret: bytes = field(repr=False)
    key: TrackKey | None
    number: int = 0
    start: int = 0

    def check(self, number: int, owner_mark: str, kind: str) -> None:
        """Raise ``Refused`` unless a chunk may have that number: the next one, or the number of a
        stored chunk."""
        if self.key is not None and self.key.is_destroyed:
            raise Refused("left")
        if self.key is not None and (self.key.owner_mark, self.key.kind) != (owner_mark, kind):
            raise Refused("kind" if self.key.owner_mark == owner_mark else "owner")
        if self.recording.state == "finished" and number >= self.number:
            raise Refused("closed")
        if number > self.number:
            raise Refused("next", next=self.number)


class Vault:
    """The content of recordings: keys and files in a directory, lines in a store.

    ``bucket`` is a URL of obstore with its ``options``; without one, files stay in the directory.
    At most ``queue_bytes`` wait for upload. ``signer`` signs manifests. ``clock`` returns seconds
    since the epoch. ``is_reader`` opens a directory that another process may use, and changes
    nothing.

    Raises ``ConfigError`` (E201, E203, E122) if it or the bucket's URL cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        store: Store,
        *,
        signer: Key,
        bucket: str | None = None,
        options: Mapping[str, str] | None = None,
        queue_bytes: int = 1 << 30,
        clock: Callable[[], float] = time.time,
        is_reader: bool = False,
    ) -> None:
        # glibc keeps freed blocks up to the largest one, so buffers cause no new page faults.
        bytes(_LARGEST_BUFFER)
        self.signer: Key = signer
        self.trusted: frozenset[str] = frozenset({signer.public, *store.signers()})
        """The public keys that may have signed a manifest."""
        self.store: Store = store
        self._clock = clock
        self._queue_bytes, self._reserved, self._budget_lock = queue_bytes, 0, Lock()
        self._next: dict[str, dict[str, _NextChunk]] = {}  # after a chunk, until any other change
        self.bucket: Bucket | None = None if bucket is None else Bucket(bucket, options or {})
        make_directory(directory)
        self.keys: Keys = Keys(directory, is_reader=is_reader)
        try:
            self.files: ChunkFiles = ChunkFiles(directory / "objects")
        except OSError:
            self.keys.close()
            message = "the recorder's directory cannot be made or written"
            raise ConfigError("E203", message) from None
        self._pool = ThreadPoolExecutor(_HASHERS, "seal")

    def close(self) -> None:
        """Close the keys. The store is the caller's."""
        self._pool.shutdown()
        self.keys.close()

    # -- recordings -------------------------------------------------------------------------------

    def prepare(self, recording: str, recipient: str | None) -> None:
        """Make the secret of a new recording, before it begins. Raises ``Refused``: ``terms`` for a
        recipient that age cannot encrypt to."""
        if recipient is not None:
            try:
                to = read_recipient(recipient)
            except ValueError:
                raise Refused("terms") from None
            if not makes_secret(to):
                raise Refused("terms")
        self.keys.add_recording(recording)

    def begin(
        self,
        db: Connection,
        recording: str,
        terms_line: Mapping[str, str],
        storage: Literal["local", "cloud"],
        recipient: str | None,
    ) -> None:
        """Begin a manifest. ``terms_line`` becomes part of it, so it must hold no pseudonym."""
        begin = Begin(1, NOTHING, recording, storage, dict(terms_line))
        self.store.begin(db, begin, recipient)

    def finish(self, db: Connection, recording: str) -> None:
        """Append the end mark, sign it, and add the task that removes files without a line."""
        self._next.pop(recording, None)
        self.store.append_line(db, recording, End)
        statement = "UPDATE manifests SET state = 'finished' WHERE recording = ?"
        db.execute(statement, (recording,))
        self._sign(db, recording)
        self.store.add_task(db, "sweep", recording)

    def destroy(self, db: Connection, recording: str, objects: Collection[str]) -> None:
        """State in the manifest that tracks (by their random names) are destroyed, and add the
        tasks that destroy their keys and files."""
        self._next.pop(recording, None)
        for object_ in objects:
            where = "recording = ? AND object = ?"
            place = (recording, object_)
            if db.execute(f"SELECT 1 FROM lines WHERE {where} LIMIT 1", place).fetchone():  # noqa: S608
                make: Callable[[int, str], Destroyed] = lambda n, p, o=object_: Destroyed(n, p, o)  # type: ignore[misc]  # noqa: E731
                self.store.append_line(db, recording, make)
                db.execute(f"UPDATE lines SET tag = NULL WHERE {where}", place)  # noqa: S608
            self.store.drop_tasks(db, "upload", *place)
            self.store.add_task(db, "erase", *place)
        self._sign(db, recording)

    def erase(self, db: Connection, recording: str) -> None:
        """Forget the manifest of a recording. Replace its tasks with tasks that destroy its keys,
        files and objects."""
        self._next.pop(recording, None)
        db.execute("DELETE FROM lines WHERE recording = ?", (recording,))
        statement = (
            "UPDATE manifests SET state = 'erased', recipient = NULL, lines = 0, hash = '',"
            " signature = NULL WHERE recording = ?"
        )
        db.execute(statement, (recording,))
        db.execute("DELETE FROM tasks WHERE recording = ?", (recording,))
        self.store.add_task(db, "erase", recording)

    def objects(self, recording: str, tracks: Collection[str]) -> list[str]:
        """Return the random names of the tracks that remain."""
        found = (self.keys.find(recording, track) for track in tracks)
        return [key.object for key in found if key is not None and not key.is_destroyed]

    def tracks(self, recording: str) -> list[Track]:
        """Return the remaining tracks, by name. Raises ``Refused``: ``not_found``, ``erased``."""
        self._living(recording)
        found = []
        for key in self.keys.tracks(recording):
            if last := self.store.last(recording, key.object):
                numbers = (last.line.number + 1, last.next_start)
                found.append(Track(key.name, key.kind, key.owner_mark, *numbers))
        return found

    def manifest_lines(self, recording: str) -> Iterator[bytes]:
        """Yield the manifest, line by line; the last line is the signature, and names the remaining
        tracks. Raises ``Refused`` at the call: ``not_found``, ``erased``."""
        found = self._living(recording)
        keys = self.keys.tracks(recording)
        names = {key.object: key.name for key in keys if self.store.last(recording, key.object)}
        self.checkpoint(recording)
        tip = ManifestTip(recording, found.lines, found.hash, found.state == "finished", names)
        lines = self.store.lines(recording, found.lines)
        return (line + b"\n" for part in (lines, [self._signature(tip)]) for line in part)

    def checkpoint(self, recording: str) -> bytes:
        """Return a signed line to keep elsewhere: number and hash of the manifest's last line. It
        is stored here too, so that a later check notices if those lines are missing. Raises
        ``Refused``: ``not_found``, ``erased``."""
        found = self._living(recording)
        tip = ManifestTip(recording, found.lines, found.hash, found.state == "finished", {})
        if (signature := self._signature(tip)) != self.store.signature(recording):
            self.store.commit(lambda db: self._sign(db, recording))
        return signature + b"\n"

    def _sign(self, db: Connection, recording: str) -> None:
        """Sign the tip of a manifest."""
        query = "SELECT lines, hash, state FROM manifests WHERE recording = ?"
        lines, hash_, state = db.execute(query, (recording,)).fetchone()
        if lines:
            tip = ManifestTip(recording, lines, hash_, state == "finished", {})
            statement = "UPDATE manifests SET signature = ? WHERE recording = ?"
            db.execute(statement, (self._signature(tip), recording))

    def _signature(self, tip: ManifestTip) -> bytes:
        return manifest.encode(manifest.sign(tip, self.signer))

    def _living(self, recording: str) -> Stored:
        found = self.store.find(recording)
        if found is None:
            raise Refused("not_found")
        if found.state == "erased":
            raise Refused("erased")
        return found

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
        place = self._next.get(recording, {}).pop(track, None) or self._find(recording, track)
        found, key = place.recording, place.key
        place.check(number, owner_mark, kind)
        tag = compute_tag(place.secret, track, number, data)
        if self._is_there(place, number, tag):
            return Added(place.number, is_new=False)
        is_queued = self.bucket is not None and found.storage == "cloud"
        with self._room(len(data) + _SEALED_MORE if is_queued else 0):
            if key is None:
                key = self.keys.add_track(recording, track, kind, owner_mark, found.recipient)
            self._seal(recording, key, number, data, place.start, tag, is_queued=is_queued)
        following = _NextChunk(found, place.secret, key, number + 1, place.start + len(data))
        self._next.setdefault(recording, {})[track] = following
        return Added(number + 1, is_new=True)

    def _find(self, recording: str, track: str) -> _NextChunk:
        """Look up where the next chunk of a track goes."""
        found, secret = self._living(recording), self.keys.secret(recording)
        key = self.keys.find(recording, track, secret)
        last = self.store.last(recording, key.object) if key is not None else None
        if last is None:
            return _NextChunk(found, secret, key)
        return _NextChunk(found, secret, key, last.line.number + 1, last.next_start)

    def _is_there(self, place: _NextChunk, number: int, tag: bytes) -> bool:
        """Return whether a chunk is stored already. Raises ``Refused`` ``conflict`` if a different
        chunk has its number."""
        if place.key is None or number >= place.number:
            return False
        there = self.store.chunk(place.recording.recording, place.key.object, number)
        if there is None or not hmac.compare_digest(there.tag, tag):
            raise Refused("conflict")
        return True

    def _seal(  # noqa: PLR0917 - what is to be committed
        self,
        recording: str,
        key: TrackKey,
        number: int,
        data: bytes,
        start: int,
        tag: bytes,
        *,
        is_queued: bool,
    ) -> None:
        """Seal a chunk, write and sync it, and commit its line."""
        import pyrage  # noqa: PLC0415 - heavy

        sealed = pyrage.encrypt(data, [read_recipient(key.recipient)])
        digest = self._pool.submit(sha256, sealed)
        name = chunk_key(recording, key.object, number)
        try:
            self.files.write(name, sealed, _SPARE_BYTES, self._pool.submit)
        except OSError as error:
            is_full = error.errno in (*NO_ROOM, errno.EFBIG)
            raise Refused("full" if is_full else "unavailable") from None
        rest = (key.object, number, key.kind, len(sealed), len(data), digest.result())

        def work(db: Connection) -> None:
            make: Callable[[int, str], Chunk] = lambda line, previous: Chunk(line, previous, *rest)  # type: ignore[arg-type]  # noqa: E731
            self.store.append_line(db, recording, make, start, tag)
            if is_queued:
                place = (recording, key.object, number)
                self.store.add_task(db, "upload", *place, size=len(sealed))

        try:
            self.store.commit(work)
        except Refused:  # several such files of several tracks would be a finding
            with suppress(OSError, Refused):
                if self.store.chunk(recording, key.object, number) is None:
                    self.files.remove(name)
            raise

    @contextmanager
    def _room(self, size: int) -> Iterator[None]:
        """Reserve ``size`` bytes of the queue. Raises ``Refused`` ``full``."""
        with self._budget_lock:
            if size and self.store.queued()[0] + self._reserved + size > self._queue_bytes:
                raise Refused("full")
            self._reserved += size
        try:
            yield
        finally:
            with self._budget_lock:
                self._reserved -= size

    def has_room(self) -> bool:
        """Return whether the disk has room for a chunk of the largest size."""
        with suppress(OSError):
            need_room(self.files.path(""), MAX_CHUNK_BYTES + _SPARE_BYTES)
            return True
        return False

    # -- reading ----------------------------------------------------------------------------------

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
        return self._read(recording, object_, max(start, 0), end)

    def _read(self, recording: str, object_: str, start: int, end: int | None) -> Iterator[bytes]:
        chunk = self.store.at(recording, object_, start)
        while chunk is not None and (end is None or chunk.start < end):
            content = self._open(recording, chunk.line)
            low = max(start - chunk.start, 0)
            high = len(content) if end is None else min(end - chunk.start, len(content))
            if low < high:
                yield content if (low, high) == (0, len(content)) else content[low:high]
            del content  # free it before the next one is read
            chunk = self.store.chunk(recording, object_, chunk.line.number + 1)
        if chunk is None:
            self._check_living(recording, object_)

    def ciphertext(self, recording: str, track: str, number: int) -> bytes:
        """Return the age file of a chunk, checked against the manifest. Raises ``Refused`` as
        ``read`` does, and ``InputError`` E422."""
        self._living(recording)
        object_ = self._track(recording, track)
        chunk = self.store.chunk(recording, object_, number)
        if chunk is None:
            self._check_living(recording, object_)
            raise Refused("not_found")
        sealed = self._sealed_of(recording, chunk.line)
        if sha256(sealed) != chunk.line.sha256:
            raise InputError("E422", _DAMAGED)
        return sealed

    def sealed(self, key: str) -> bytes | None:
        """Return an age file from disk or bucket, or ``None`` if neither has it. Raises
        ``OSError`` if they do not answer."""
        sealed = self.files.read(key)
        if sealed is None and self.bucket is not None:
            sealed = self.bucket.get(key)
        return sealed

    def _open(self, recording: str, line: Chunk) -> bytes:
        """Return the content of a chunk."""
        import pyrage  # noqa: PLC0415 - heavy

        sealed = self._sealed_of(recording, line)
        identity = self.keys.identity(recording, line.track)  # destroyed while the bucket answers?
        if identity is None:
            raise Refused("left")
        self.files.expect(chunk_key(recording, line.track, line.number + 1))
        digest = self._pool.submit(sha256, sealed)
        try:
            content: bytes | None = pyrage.decrypt(sealed, [identity])
        except pyrage.DecryptError:
            content = None
        if content is None or digest.result() != line.sha256:
            raise InputError("E422", _DAMAGED)
        return content

    def _sealed_of(self, recording: str, line: Chunk) -> bytes:
        """Return a chunk's age file, from disk or bucket."""
        try:
            sealed = self.sealed(chunk_key(recording, line.track, line.number))
        except OSError:
            raise Refused("unavailable") from None
        if sealed is None:
            self._check_living(recording, line.track)
            raise InputError("E422", _DAMAGED)
        return sealed

    def _track(self, recording: str, track: str) -> str:
        """Return the random name of a remaining track."""
        key = self.keys.find(recording, track)
        if key is None:
            raise Refused("not_found")
        if key.is_destroyed:
            raise Refused("left")
        self._check_living(recording, key.object)
        return key.object

    def _check_living(self, recording: str, object_: str) -> None:
        if not self.store.is_living(recording, object_):
            raise Refused("left")

    # -- tasks ------------------------------------------------------------------------------------

    def tasks(self, more: Mapping[What, Local] | None = None) -> Tasks:
        """Return the loop over the tasks of the vault, and over ``more``."""
        local: dict[What, Local] = {
            "sweep": self.sweep,
            "compact": self.compact_keys,
            "erase": self.erase_keys,
        }
        if self.bucket is None:
            local["delete"] = self.delete_files
            return Tasks(self.store, {**local, **(more or {})}, clock=self._clock)
        delete = partial(self.delete_objects, self.bucket)
        upload = partial(self.upload, self.bucket)
        remote: dict[What, Remote] = {"upload": upload, "delete": delete, "again": delete}
        return Tasks(self.store, {**local, **(more or {})}, remote, clock=self._clock)

    def erase_keys(self, recording: str, tasks: list[Task]) -> None:
        """Destroy the keys of tracks or of the whole recording, note that in the ledger, and then
        remove their files. The objects in the bucket are deleted later."""
        objects = [each.object for each in tasks]
        is_clean = self.keys.destroy(recording, None if "" in objects else objects)

        def work(db: Connection) -> None:
            for each in self.store.end_tasks(db, *tasks):
                what = "withdraw" if each.object else "erase"
                self.store.append(db, self.store.note("recording", what, recording=recording))
                self.store.add_task(db, "delete", recording, each.object)
            if not is_clean:
                self.store.add_task(db, "compact")

        self.store.commit(work)
        self.store.database.cut_log()
        if self.bucket is None:
            self.delete_files(recording, self.store.tasks(recording, "delete"))
        else:
            for each in objects:
                self.files.remove(prefix(recording, each))

    def delete_files(self, recording: str, tasks: list[Task]) -> None:
        """Without a bucket, remove the files of tracks or of the whole recording."""
        for each in tasks:
            self.files.remove(prefix(recording, each.object))
        self.store.commit(lambda db: self.store.end_tasks(db, *tasks))

    def sweep(self, recording: str, tasks: list[Task]) -> None:
        """Remove the file whose line a crash left uncommitted. If there are several, or one that is
        not the next of its track, lines were lost: leave them for ``verify`` to report."""
        strays = list[str]()
        for name in self.files.keys(prefix(recording)):
            object_, number = read_key(name)
            if self.store.chunk(recording, object_, number) is None:
                last = self.store.last(recording, object_)
                is_next = number == (last.line.number + 1 if last else 0)
                strays += [name] if is_next else [name, ""]
        if len(strays) == 1:
            self.files.remove(strays[0])
        self.store.commit(lambda db: self.store.end_tasks(db, *tasks))

    def compact_keys(self, _recording: str, tasks: list[Task]) -> None:
        """Rewrite the file of keys without the destroyed ones."""
        self.keys.compact()
        self.store.commit(lambda db: self.store.end_tasks(db, *tasks))

    async def upload(self, bucket: Bucket, task: Task) -> None:
        """Upload a chunk, and remove its file when the bucket has it."""
        _, _, recording, object_, number = task
        name = chunk_key(recording, object_, number)
        found = await asyncio.to_thread(self.store.chunk, recording, object_, number)
        if found is not None:  # otherwise it was destroyed meanwhile
            await self._put(bucket, name, found.line.sha256, task)
            await asyncio.to_thread(self.files.remove, name)
        await asyncio.to_thread(self.store.commit, lambda db: self.store.end_tasks(db, task))

    async def _put(self, bucket: Bucket, name: str, digest: str, task: Task) -> None:
        if await asyncio.to_thread(bucket.link, name, self.files.path(name)):
            return
        sealed = await asyncio.to_thread(self.files.read, name)
        if sealed is not None:
            await bucket.put(name, sealed, digest)
            return
        # The file was removed before a crash, or the chunk was destroyed meanwhile.
        there = await asyncio.to_thread(bucket.get, name) or b""
        if sha256(there) != digest and self.store.is_living(task.recording, task.object):
            raise OSError("the file of a chunk that is to be uploaded is missing")

    async def delete_objects(self, bucket: Bucket, task: Task) -> None:
        """Remove the files and objects of a track, or of the whole recording, and check that they
        are gone. The bucket may still carry out an unanswered upload, so they are removed again
        once that is impossible."""
        beginning = prefix(task.recording, task.object)
        await asyncio.to_thread(self.files.remove, beginning)
        await bucket.remove(beginning)
        is_last = task.what == "again" or not bucket.is_remote or not _UNANSWERED_SECONDS

        def work(db: Connection) -> None:
            self.store.end_tasks(db, task)
            if not is_last:
                due = self._clock() + _UNANSWERED_SECONDS
                self.store.add_task(db, "again", task.recording, task.object, due=due)

        await asyncio.to_thread(self.store.commit, work)


@contextmanager
def opened_to_read(
    directory: Path, *, bucket: str | None = None, options: Mapping[str, str] | None = None
) -> Iterator[Vault]:
    """Open the vault of a recorder's directory, which another process may use, and change nothing.

    Raises ``ConfigError`` as ``Vault`` does, and E203 if the ledger's key is missing.
    """
    signer = load_signer(directory)
    with closing(Store(directory, is_reader=True)) as store:
        folder, chosen = directory / VAULT_NAME, {"bucket": bucket, "options": options}
        with closing(Vault(folder, store, signer=signer, is_reader=True, **chosen)) as vault:  # type: ignore[arg-type]
            yield vault


def load_signer(directory: Path) -> Key:
    """Return the key of the ledger, which signs manifests too. Raises ``ConfigError`` E203."""
    signer = load_key(directory, None)
    if signer is None:
        raise ConfigError("E203", "the key of the recorder's ledger cannot be used")
    return signer


def compute_tag(secret: bytes, track: str, number: int, data: bytes) -> bytes:
    """Return the tag that identifies a repetition of a chunk (16 bytes): Poly1305 with a key for
    this track and number (HMAC-SHA-256 under the recording's secret), because a key must serve for
    one message only. No tag leaves the store, so nobody can compare tags to forge one."""
    from cryptography.hazmat.primitives.poly1305 import Poly1305  # noqa: PLC0415 - heavy

    return Poly1305.generate_tag(
        hmac.digest(secret, f"tag {track} {number}".encode(), "sha256"), data
    )


def sha256(sealed: bytes) -> str:
    """Return the digest of an age file in hexadecimal."""
    return hashlib.sha256(sealed).hexdigest()
