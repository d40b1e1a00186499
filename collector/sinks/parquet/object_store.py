"""Objects: files of a directory on this machine, or objects of a bucket behind obstore.

An object is created only if its key is free. It is replaced as a whole, and only if it is still the
object that was read. So a request that a server carries out late cannot restore an earlier state.
Our errors leave out the library's text, which may hold credentials or what a server echoes.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast
from weakref import finalize

from collector.arrow.process import Ranges
from collector.buckets import open_store
from collector.errors import (
    Cause,
    DeliveryError,
    Unreachable,
    cause_of_status,
)
from collector.files import failing_as, has_attributes, make_directories, sync, walk
from collector.sinks.record_files import locked_directory
from collector.sinks.relay import proxy

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_TIMEOUT = timedelta(minutes=5)
"""The timeout of one request: 128 MB at 3.4 Mbit/s."""
_MOST_PART_BYTES = 16 << 20
"""The most bytes of a part of an object. Our row groups have fewer."""
_ANSWER_BYTES = 1 << 20
"""The most bytes that a server may send besides an object, including retries."""
_PAGE_BYTES = 4 << 20
"""The bytes of a page of names: up to 5,000 from Azure, each with up to 1 KiB of data."""
_TRIED = 2
"""How often an object may be sent, counting retries for the rest of it."""
_MESSAGES: dict[Cause, str] = {
    "unreachable": "the bucket's server does not answer",
    "denied": "the bucket's server refuses the credentials, or they lack a right",
    "missing": "there is no such bucket",
    "changed": "an object of the bucket was changed or removed meanwhile",
    "busy": "the bucket's server has too many requests",
    "full": "the bucket's server has no room",
    "refused": "the bucket's server answers with an error, or with more than it may",
}
_STATUS = re.compile(r"\bstatus(?: code)?:? ([1-5][0-9]{2})\b").search
"""Finds the status in an error of obstore, which states it before it quotes the server."""
_DISK = "the files of the lake cannot be read or written; is the disk full?"


class Objects(ABC):
    """The operations that a sink needs. Methods raise ``DeliveryError`` (E503, or E514 for a
    server), and ``FileNotFoundError`` if their docstring says so."""

    keeps_versions: bool = False
    """Whether a server has said that it keeps earlier versions of objects."""
    scratch: Path
    """The path of a file that becomes an object."""

    def foreign(self, is_directory: Callable[[str], bool], is_key: Callable[[str], bool]) -> int:
        """Count the entries that ``all_keys`` leaves out, without directories that ``is_directory``
        accepts, or that have a file whose key ``is_key`` accepts."""
        return 0

    def check(self) -> None:
        """Ask for the first key, which shows whether the bucket exists and the login works."""
        next(self.all_keys(), None)

    @abstractmethod
    def all_keys(self) -> Iterator[str]:
        """Yield the keys of all objects, including those that are not ours."""

    @abstractmethod
    def open(self, key: str) -> tuple[BinaryIO, Any]:
        """Open an object to read parts of it. Return it with its version, which ``replace`` needs.
        Raises ``FileNotFoundError``."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing the scratch file or changing an object during the
        block, if ``create`` and ``replace`` cannot notice that. Raises ``DeliveryError`` E503."""
        yield

    @abstractmethod
    def create(self, key: str, path: Path) -> bool:
        """Make a file the object of a key, if the key is free; return whether it was. Afterwards
        the file is gone, or may be overwritten."""

    @abstractmethod
    def replace(self, key: str, path: Path, version: Any) -> bool:
        """Replace an object by a file. Return ``False`` if the object is no longer the version that
        was read."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove an object, if it exists."""


class DirectoryObjects(Objects):
    """A directory of this machine. ``scratch`` is a hidden file in it."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self._root = root
        self.scratch = scratch

    def __repr__(self) -> str:
        return "<DirectoryObjects>"

    def all_keys(self) -> Iterator[str]:
        """Yield the paths of all files except hidden ones."""
        for path, kind in self._entries():
            if kind != "directory" and not _is_hidden(path.as_posix()):
                yield path.as_posix()

    def foreign(self, is_directory: Callable[[str], bool], is_key: Callable[[str], bool]) -> int:
        """Count hidden files, foreign directories, and entries with an attribute that a user has
        set. Wait for a process that writes the scratch file under the lock. Raises as ``locked``.
        """
        if os.path.lexists(self.scratch):
            with self.locked():
                pass
        entries = {path.as_posix(): kind for path, kind in self._entries()}
        keys = (
            Path(name) for name, kind in entries.items() if kind != "directory" and is_key(name)
        )
        above = {parent.as_posix() for key in keys for parent in key.parents}

        def is_foreign(name: str, kind: str) -> bool:
            if kind == "directory":
                return not (is_directory(name) or name in above)
            return _is_hidden(name)

        marked = (has_attributes(self._root / name) for name in ("", *entries))
        return sum(marked) + sum(is_foreign(*each) for each in entries.items())

    def _entries(self) -> Iterator[tuple[Path, str]]:
        """Yield the path and the kind of each entry. Follow each link to a directory once, as
        readers of the lake do."""
        with _disk():
            for entry in walk(self._root, follow=True):
                yield entry.readable.relative_to(self._root), entry.kind

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the directory, because sinks of other sidecars may use it."""
        with ExitStack() as stack:
            with _disk():
                self._make_directories(self._root)
                stack.enter_context(locked_directory(self._root))
            yield

    def open(self, key: str) -> tuple[BinaryIO, Any]:
        """Open the file. Only a process that has locked the directory changes it."""
        with _disk():
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # it may be a pipe
            return cast("BinaryIO", os.fdopen(os.open(self._root / key, flags), "rb")), None

    def create(self, key: str, path: Path) -> bool:
        """Link the file, so that readers see only a whole file."""
        target = self._root / key
        with _disk():
            self._make_directories(target.parent)
            try:
                os.link(path, target)
            except FileExistsError:
                return False
            path.unlink()
            sync(target.parent)
        return True

    def replace(self, key: str, path: Path, version: Any) -> bool:
        """Rename the file."""
        with _disk():
            path.rename(self._root / key)
            sync((self._root / key).parent)
        return True

    def remove(self, key: str) -> None:
        """Remove the file, and the directory of its day if that is empty then."""
        with self.locked(), _disk():
            target = self._root / key
            target.unlink(missing_ok=True)
            with suppress(OSError):
                target.parent.rmdir()
                sync(target.parent.parent)
                return
            sync(target.parent)

    def _make_directories(self, path: Path) -> None:
        """Create a directory, and missing parents up to the root but not above it."""
        for each in make_directories(path, self._root):
            sync(each.parent)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or "/." in name


class BucketObjects(Objects):
    """A bucket behind obstore. ``options`` are obstore's. For options that are not set, it reads
    the environment as the provider's tools do.

    Raises ``ConfigError``: E201 without obstore, E122 for a URL or options that cannot be used.
    """

    def __init__(self, url: str, options: Mapping[str, str], scratch: Path) -> None:
        self._relay, url_of_proxy = proxy()  # obstore would read an endless refusal
        finalize(self, self._relay.close)
        needs = ("a bucket", "parquet")
        self._store: ObjectStore = open_store(
            url, options, needs, timeout=_TIMEOUT, proxy=url_of_proxy
        )
        self.scratch = scratch

    def __repr__(self) -> str:
        return "<BucketObjects>"

    def all_keys(self) -> Iterator[str]:
        """Yield the keys below the prefix of the URL."""
        pages = iter(self._store.list())
        while page := self._asked(lambda: next(pages, None), absent=False, size=_PAGE_BYTES):
            yield from (str(found["path"]) for found in page)

    def open(self, key: str) -> tuple[BinaryIO, Any]:
        """Open the object. Each read requests a part, which must be of the same version."""
        meta = self._asked(lambda: self._store.head(key))
        version = _version(meta)
        self._note(version)

        def read(start: int, end: int) -> bytes:
            if end - start > _MOST_PART_BYTES:  # only a foreign object may ask for so much
                raise _unreachable("refused")

            def ask() -> tuple[Any, bytes]:
                found = self._store.get(key, options={"range": (start, end)})
                return _version(found.meta), bytes(found.bytes())

            seen, part = self._asked(ask, absent=False, size=end - start, lost="changed")
            self._note(seen)
            if seen.get("e_tag") != version.get("e_tag"):
                raise _unreachable("changed")
            return bytes(part)

        return cast("BinaryIO", Ranges(read, meta["size"])), version

    def create(self, key: str, path: Path) -> bool:
        """Put the file, unless the key has an object."""
        from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415 - heavy

        return self._put(key, path, "create", AlreadyExistsError)

    def replace(self, key: str, path: Path, version: Any) -> bool:
        """Put the file, if the object is still the one that was read."""
        from obstore.exceptions import NotFoundError, PreconditionError  # noqa: PLC0415 - heavy

        is_another = (NotFoundError, PreconditionError, FileNotFoundError)
        return self._put(key, path, version, is_another)

    def _put(self, key: str, path: Path, mode: Any, is_otherwise: Any) -> bool:
        def put() -> Any:
            try:
                return self._store.put(key, path, mode=mode)
            except is_otherwise:
                return None

        result = self._asked(put, absent=False)
        if result is not None:
            self._note(result)
        return result is not None

    def remove(self, key: str) -> None:
        """Remove the object."""
        with suppress(FileNotFoundError):
            self._asked(lambda: self._store.delete(key))

    def _asked(
        self,
        ask: Callable[[], Any],
        *,
        absent: bool = True,
        size: int = 0,
        lost: Cause = "missing",
    ) -> Any:
        """Return the server's answer. ``size`` is how many bytes it may send beyond a small answer.
        Errors of obstore become ``Unreachable`` without their text. For something missing, the
        cause is ``lost``; if an object may be ``absent``, ``FileNotFoundError`` is raised
        instead."""
        is_absent, failure = False, _unreachable("unreachable")
        with self._relay.exchange(_ANSWER_BYTES + _TRIED * size) as exchange:
            try:
                return ask()
            except FileNotFoundError as error:
                is_absent, failure = absent, _of_status(error, lost)
            except Exception as error:  # noqa: BLE001 - not all of obstore's errors have its root
                failure = _of_status(error, lost)
        if exchange.is_cut:
            failure, is_absent = _unreachable("refused"), False
        if is_absent:
            raise FileNotFoundError
        raise failure

    def _note(self, result: Mapping[str, Any]) -> None:
        if result.get("version") is not None:
            self.keeps_versions = True


def _unreachable(cause: Cause, answer: str = "") -> Unreachable:
    return Unreachable(_MESSAGES.get(cause, _MESSAGES["refused"]), cause, answer)


def _of_status(error: Exception, lost: Cause) -> Unreachable:
    """Judge an error of obstore by the status in its text, and by nothing else in it. Without a
    status, the server gave no answer."""
    found = _STATUS(str(error))
    answer = f"HTTP {found[1]}" if found else ""
    if isinstance(error, FileNotFoundError) or answer == "HTTP 404":
        return _unreachable(lost, answer)
    return _unreachable(cause_of_status(int(found[1])) if found else "unreachable", answer)


def _version(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data that identify a version of an object."""
    stated = {name: meta.get(name) for name in ("e_tag", "version")}
    return {name: text for name, text in stated.items() if text is not None}


def _disk() -> AbstractContextManager[None]:
    """Turn errors of the disk into ``DeliveryError`` E503, except for a missing file."""
    return failing_as(DeliveryError("E503", _DISK), but=FileNotFoundError)


def written(path: Path) -> IO[bytes]:
    """Create a file for writing, readable by its owner only; remove an earlier file first."""
    with suppress(FileNotFoundError):
        path.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "wb")
