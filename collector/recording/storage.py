"""Sealed chunks as files and as objects: the local directory, the bucket, and uploads.

A sealed chunk is first a file. It stays there where there is no bucket, and for recordings that are
stored locally; else it is queued, uploaded by a thread, and removed when the bucket has it. Objects
are created and never replaced: an equal object that is there already is taken for the chunk's own,
any other is an error, and the file stays.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from collector.backoff import Backoff
from collector.buckets import open_store
from collector.files import make_directories, make_directory, need_room, sync, walk
from collector.recording.names import MAX_CHUNK_BYTES, OBJECTS

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
"""Before an upload or a removal that failed is tried again; each is twice as long as the last."""
_UNANSWERED_SECONDS = 900.0
"""How long the bucket may still carry out a request without an answer: S3 refuses what was signed
more than 15 minutes ago (its error RequestTimeTooSkewed)."""
_TIMEOUT = timedelta(seconds=60)
"""Of one request: 4 MiB at about 0.6 Mbit/s."""
_MOST_BYTES = MAX_CHUNK_BYTES + (64 << 10)
"""Of a sealed chunk: age adds a header and 16 bytes to each 64 KiB."""
_AT_ONCE = 4
"""Uploads at the same time; each holds one chunk in memory."""
_CLIENT_OPTIONS = ("allow_http", "allow_invalid_certificates", "proxy_url", "timeout")
_STOP_SECONDS = 5.0


class ChunkFiles:
    """Files of sealed chunks below a directory, private, and on disk when ``write`` returns.

    ``suspects`` are recordings that may have files without a line, or uploaded ones: any at first,
    then those of which something failed.
    """

    def __init__(self, directory: Path) -> None:
        self._root = directory
        self._make_directory(self._root / OBJECTS)
        self.suspects: set[str] = set(self.recordings())

    def write(self, key: str, sealed: bytes, spare: int, run: Callable[..., Any]) -> None:
        """Write a file, whatever was there: without a line in the manifest it counts for nothing.
        ``run`` lets a thread sync the directory meanwhile. Raises ``OSError``, also when fewer than
        ``spare`` bytes of the disk would be left."""
        path = self._root / key
        need_room(self._root, len(sealed) + spare)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            handle = os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._make_directory(path.parent)
            handle = os.open(path, flags, 0o600)
        except FileExistsError:
            path.unlink()  # not written over: it may be an object as well
            handle = os.open(path, flags, 0o600)
        try:
            is_listed = run(sync, path.parent)
            _write_all(handle, sealed)
            os.fsync(handle)
            _release(handle)
            is_listed.result()
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)

    def path(self, key: str) -> Path:
        """Return the path of a file."""
        return self._root / key

    def read(self, key: str) -> bytes | None:
        """Return a file's bytes, or ``None`` if it is not here. Raises ``OSError``."""
        with suppress(FileNotFoundError), (self._root / key).open("rb", buffering=0) as file:
            found = file.read()
            _release(file.fileno())
            return found
        return None

    def expect(self, key: str) -> None:
        """Let the system read a file ahead, if it is here."""
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError), (self._root / key).open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)

    def remove(self, key: str) -> None:
        """Remove a file, or all below a prefix; durable when this returns. Raises ``OSError``."""
        path = self._root / key
        with suppress(FileNotFoundError):
            if key.endswith("/"):
                _remove_tree(path)
            else:
                path.unlink()
                sync(path.parent)

    def keys(self, beginning: str) -> Iterator[str]:
        """Yield the keys of files, and of links, below a prefix. Raises ``OSError``."""
        for entry in walk(self._root / beginning):
            key = entry.readable.relative_to(self._root).as_posix()
            if entry.kind != "directory":
                yield key

    def recordings(self) -> list[str]:
        """Return the recordings that have a directory."""
        return sorted(path.name for path in (self._root / OBJECTS).iterdir())

    def _make_directory(self, path: Path) -> None:
        """Make a directory, and that above it, durably."""
        make_directories(path, path.parent)
        for each in (path.parent, path):  # also those of a process that ended before it synced
            sync(each.parent)


def _release(handle: int) -> None:
    """Take a file out of the page cache: a chunk is read once, if at all. Pages that are used again
    cost a fifth of the time of new ones where a hypervisor lends the memory."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


def _write_all(handle: int, sealed: bytes) -> None:
    rest = memoryview(sealed)
    while rest:
        rest = rest[os.write(handle, rest) :]


class Bucket:
    """A bucket or directory behind obstore. Its errors are ``OSError`` here, without their text:
    that may hold credentials or content. A request that fails is repeated ``retries`` times.

    Raises ``ConfigError``: E201 without obstore, E122 for a URL or options that cannot be used, and
    as ``make_directory``.
    """

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        place = urlsplit(url)
        self._directory = Path(url2pathname(place.path)) if place.scheme == "file" else None
        self.is_remote: bool = self._directory is None
        if self._directory is not None:
            make_directory(self._directory)
        self._store: ObjectStore = open_store(
            url,
            options,
            ("recording", "recording"),
            timeout=_TIMEOUT,
            of_client=_CLIENT_OPTIONS,
        )

    def get(self, key: str) -> bytes | None:
        """Return an object, or ``None`` if the bucket says that it is not there; nothing of one
        that is too large to be ours. Raises ``OSError`` when it says neither."""
        import obstore  # noqa: PLC0415 - heavy

        try:
            found = obstore.get(self._store, key)
            return bytes(found.bytes()) if found.meta["size"] <= _MOST_BYTES else b""
        except FileNotFoundError:
            return None
        except Exception:  # noqa: BLE001 - obstore has no root of its errors
            raise OSError(_FAILED) from None

    def link(self, key: str, file: Path) -> bool:
        """Create an object that is the file itself, durably, and return whether that was done: the
        bucket must be a directory on the disk of the file, without an object of that key."""
        if self._directory is None:
            return False
        path = self._directory / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, path)
            self._sync_directories(path)
        except OSError:
            return False
        return True

    async def put(self, key: str, sealed: bytes, digest: str) -> None:
        """Create an object. Raises ``OSError``, also if another one is there."""
        import obstore  # noqa: PLC0415 - heavy
        from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415

        try:
            await obstore.put_async(self._store, key, sealed, mode="create")
        except AlreadyExistsError:
            there = await asyncio.to_thread(self.get, key) or b""
            if hashlib.sha256(there).hexdigest() != digest:
                raise OSError("another object is in the place of a chunk") from None
        except Exception:  # noqa: BLE001
            raise OSError(_FAILED) from None
        if self._directory is not None:
            await asyncio.to_thread(self._sync_file, self._directory / key)

    def _sync_file(self, path: Path) -> None:
        """Sync a file that obstore wrote, and the directories down to it: obstore does not."""
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        self._sync_directories(path)

    def _sync_directories(self, path: Path) -> None:
        for parent in path.parents:
            sync(parent)
            if parent == self._directory:
                return

    def keys(self, beginning: str) -> Iterator[str]:
        """Yield the keys of the objects below a prefix. Raises ``OSError``."""
        import obstore  # noqa: PLC0415 - heavy

        try:
            for page in obstore.list(self._store, beginning):
                yield from (str(found["path"]) for found in page)
        except Exception:  # noqa: BLE001
            raise OSError(_FAILED) from None

    async def remove(self, beginning: str) -> None:
        """Remove every object below a prefix, and look whether they are gone. Raises ``OSError``,
        also if one is there still."""
        if self._directory is not None:
            await asyncio.to_thread(_remove_tree, self._directory / beginning)
            return
        import obstore  # noqa: PLC0415 - heavy

        try:
            async for page in obstore.list(self._store, beginning):
                await obstore.delete_async(self._store, [found["path"] for found in page])
            left = [page async for page in obstore.list(self._store, beginning) if page]
        except Exception:  # noqa: BLE001
            raise OSError(_FAILED) from None
        if left:
            raise OSError("the bucket has objects that it said it deleted")


def _remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it, also parts of objects, which obstore does not list
    and which an upload leaves that was killed. The thread of uploads may remove files meanwhile."""
    with suppress(FileNotFoundError):
        while path.exists():
            with suppress(FileNotFoundError):  # before Python 3.13 for a file too: all others stay
                shutil.rmtree(path)
        sync(path.parent)


_FAILED = "the bucket did not answer, or refused"


class Queued(NamedTuple):
    """A chunk that waits for its upload; ``sequence`` orders the queue."""

    sequence: int
    key: str
    sha256: str


class Queue(Protocol):
    """The queue of uploads and removals, on disk."""

    def waiting(self, after: int, limit: int) -> list[Queued]:
        """Return the next uploads, in order. Raises ``Refused``."""

    def is_waiting(self, sequence: int) -> bool:
        """Return whether an upload is in the queue still. Raises ``Refused``."""

    def uploaded(self, sequence: int) -> None:
        """Take an upload from the queue. Raises ``Refused``."""

    def removals(self) -> list[str]:
        """Return prefixes below which every object has to go. Raises ``Refused``."""

    def removed(self, beginning: str, *, is_again: bool = False) -> None:
        """Take a removal from the queue, or note that it is done, and is to be made again. Raises
        ``Refused``."""


def _backoff() -> Backoff:
    return Backoff(_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)


@dataclass
class _Removal:
    """A removal from the bucket: when it is tried (``monotonic``), the pauses after failures, and
    whether it was done once."""

    backoff: Backoff
    due: float = 0.0
    is_again: bool = False


class Uploads:
    """Upload and remove what a queue holds, in a thread of its own, until ``close``.

    Each removal has pauses of its own: one that the bucket refuses holds up no upload.

    Removals begin when no upload is on its way, so that an object cannot come after its removal.
    The bucket may still carry out an upload that had no answer: a removal is made again when that
    cannot be any more, and is in the queue until then.
    """

    def __init__(self, bucket: Bucket, files: ChunkFiles, queue: Queue) -> None:
        self._bucket, self._files, self._queue = bucket, files, queue
        self._unanswered = _UNANSWERED_SECONDS if bucket.is_remote else 0.0
        self.errors: int = 0
        self.is_failing: bool = False
        self._after = 0
        self._removals = dict[str, _Removal]()
        self._is_started = Event()
        self._thread = Thread(target=asyncio.run, args=(self._main(),), daemon=True, name="uploads")
        self._thread.start()
        self._is_started.wait()

    def wake(self) -> None:
        """Look at the queue, which has more."""
        with suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self._has_work.set)

    def close(self) -> None:
        """Stop; uploads that are on their way are made again next time."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(_STOP_SECONDS)

    async def _main(self) -> None:
        self._loop, self._has_work = asyncio.get_running_loop(), asyncio.Event()
        self._task = asyncio.create_task(self._work())
        self._is_started.set()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _work(self) -> None:
        backoff = _backoff()
        while True:
            self._has_work.clear()
            try:
                number, failed = await self._upload_next()
                number += await self._remove_due()
            except Exception:  # noqa: BLE001 - the thread must not end while chunks wait
                number, failed = 1, 1
            self.errors += failed
            self.is_failing = failed > 0
            if failed:
                await asyncio.sleep(backoff.pause())
            else:
                backoff.reset()
                if not number:
                    due = min((each.due for each in self._removals.values()), default=None)
                    with suppress(TimeoutError):
                        left = None if due is None else max(0.0, due - monotonic())
                        await asyncio.wait_for(self._has_work.wait(), left)

    async def _upload_next(self) -> tuple[int, int]:
        """Try the next uploads; return how many, and how many of them failed."""
        found = self._queue.waiting(self._after, _AT_ONCE)
        if not found and self._after:
            self._after, found = 0, self._queue.waiting(0, _AT_ONCE)
        if found:
            self._after = found[-1].sequence
        work = [self._upload(each) for each in found]
        done = await asyncio.gather(*work, return_exceptions=True)
        failed = [each for each, error in zip(found, done, strict=True) if error is not None]
        self._files.suspects.update(each.key.split("/")[1] for each in failed)
        return len(done), len(failed)

    async def _remove_due(self) -> int:
        """Try the removals whose time has come; return how many."""
        known = self._removals
        self._removals = {
            each: known.get(each) or _Removal(_backoff()) for each in self._queue.removals()
        }
        due = [each for each in self._removals.items() if monotonic() >= each[1].due]
        for beginning, removal in due:
            try:
                await self._remove(beginning, removal)
            except Exception:  # noqa: BLE001 - the others have to go on
                self.errors += 1
                removal.due = monotonic() + removal.backoff.pause()
        return len(due)

    async def _upload(self, chunk: Queued) -> None:
        file = self._files.path(chunk.key)
        if not await asyncio.to_thread(self._bucket.link, chunk.key, file):
            sealed = await asyncio.to_thread(self._files.read, chunk.key)
            if sealed is None:
                if not await asyncio.to_thread(self._queue.is_waiting, chunk.sequence):
                    return  # it was destroyed meanwhile
                raise OSError("the file of a queued chunk is missing")
            await self._bucket.put(chunk.key, sealed, chunk.sha256)
        await asyncio.to_thread(self._queue.uploaded, chunk.sequence)
        await asyncio.to_thread(self._files.remove, chunk.key)

    async def _remove(self, beginning: str, removal: _Removal) -> None:
        await self._bucket.remove(beginning)
        is_last = removal.is_again or not self._unanswered
        await asyncio.to_thread(self._queue.removed, beginning, is_again=not is_last)
        if not is_last:
            due = monotonic() + self._unanswered
            self._removals[beginning] = _Removal(_backoff(), due, is_again=True)
