"""Sealed chunks as files in the recorder's directory, and as objects in a bucket.

Objects are created and never replaced. An equal object that exists counts as the chunk's own; a
different one is an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from collector.buckets import open_store
from collector.files import make_directories, make_directory, need_room, sync, walk
from collector.recording.names import MAX_CHUNK_BYTES, OBJECTS

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_FAILED = "the bucket did not answer, or refused"
_TIMEOUT = timedelta(seconds=60)
"""The time for one request: 4 MiB at about 0.6 Mbit/s."""
_MOST_BYTES = MAX_CHUNK_BYTES + (64 << 10)
"""The most bytes of a sealed chunk: age adds a header, and 16 bytes for each 64 KiB."""
_CLIENT_OPTIONS = ("allow_http", "allow_invalid_certificates", "proxy_url", "timeout")


class ChunkFiles:
    """Files of sealed chunks below a directory. They are private, and on disk when ``write``
    returns."""

    def __init__(self, directory: Path) -> None:
        self._root = directory
        self._make_directory(self._root / OBJECTS)

    def write(self, key: str, sealed: bytes, spare: int, run: Callable[..., Any]) -> None:
        """Write a file and replace an existing one, which had no line in the manifest and so does
        not count. ``run`` lets a thread sync the directory meanwhile. Raises ``OSError``, also if
        fewer than ``spare`` bytes of the disk would be left."""
        path = self._root / key
        need_room(self._root, len(sealed) + spare)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            handle = os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._make_directory(path.parent)
            handle = os.open(path, flags, 0o600)
        except FileExistsError:
            path.unlink()  # not overwritten: a link may make it an object as well
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
        """Return a file's bytes, or ``None`` if there is no such file. Raises ``OSError``."""
        with suppress(FileNotFoundError), (self._root / key).open("rb", buffering=0) as file:
            found = file.read()
            _release(file.fileno())
            return found
        return None

    def expect(self, key: str) -> None:
        """Let the system read a file ahead, if it exists."""
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError), (self._root / key).open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)

    def remove(self, key: str) -> None:
        """Remove a file, or all files below a prefix; durable when this returns. Raises
        ``OSError``."""
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

    def _make_directory(self, path: Path) -> None:
        """Make a directory and its parent, durably."""
        make_directories(path, path.parent)
        for each in (path.parent, path):  # also those that a process made but did not sync
            sync(each.parent)


def _release(handle: int) -> None:
    """Take a file out of the page cache: a chunk is read at most once. On a virtual machine, reused
    pages cost a fifth of the time of new ones."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


def _write_all(handle: int, sealed: bytes) -> None:
    rest = memoryview(sealed)
    while rest:
        rest = rest[os.write(handle, rest) :]


class Bucket:
    """A bucket or directory behind obstore. It raises obstore's errors as ``OSError`` without their
    text, which may hold credentials or content. A failed request is repeated ``retries`` times.

    Raises ``ConfigError``: E201 without obstore, E122 for a URL or options that cannot be used, and
    what ``make_directory`` raises.
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
        """Return an object. Returns ``None`` if the bucket says that there is none, and no bytes if
        the object is too large to be ours. Raises ``OSError`` if the bucket does not answer."""
        import obstore  # noqa: PLC0415 - heavy

        try:
            found = obstore.get(self._store, key)
            return bytes(found.bytes()) if found.meta["size"] <= _MOST_BYTES else b""
        except FileNotFoundError:
            return None
        except Exception:  # noqa: BLE001 - obstore's errors have no common base
            raise OSError(_FAILED) from None

    def link(self, key: str, file: Path) -> bool:
        """Create an object durably as a link to the file. Return whether that succeeded: the bucket
        must be a directory on the file's disk and have no object with that key."""
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
        """Create an object. Raises ``OSError``, also if a different one exists."""
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
        """Remove every object below a prefix, and check that they are gone. Raises ``OSError``,
        also if one still exists."""
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
    """Remove a directory and everything in it, including partial objects that a killed upload left
    and obstore does not list. Meanwhile the thread of uploads may remove files."""
    with suppress(FileNotFoundError):
        while path.exists():
            with suppress(FileNotFoundError):  # before 3.13 a missing file keeps all others
                shutil.rmtree(path)
        sync(path.parent)
