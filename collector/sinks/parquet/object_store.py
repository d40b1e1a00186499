"""Objects: a directory of this machine, or a bucket behind obstore.

An object is created only where none of its key is, and is replaced as a whole, only if it is still
the one that was read: a request that a server carries out late cannot bring an earlier state back.
Errors are without the text of the library's: that may hold credentials, or what a server echoes.
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
"""Of one request: 128 MB at 3.4 Mbit/s."""
_MOST_PART_BYTES = 16 << 20
"""Of a part of an object: a row group of ours has less."""
_ANSWER_BYTES = 1 << 20
"""The most that a server may say besides an object, with all that is tried again."""
_PAGE_BYTES = 4 << 20
"""The same with a page of names: 5,000 of Azure's, of up to 1 KiB with all that is said of each."""
_TRIED = 2
"""How often an object can come, when what is left of it is asked for again."""
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
"""How obstore tells the status of an answer, before it quotes what the server says."""
_DISK = "the files of the lake cannot be read or written; is the disk full?"


class Objects(ABC):
    """What a sink needs of a place of objects. Methods raise ``DeliveryError`` (E503, or E514 for a
    server), and ``FileNotFoundError`` where it is said."""

    keeps_versions: bool = False
    """Whether a server has said that it keeps earlier versions of objects."""
    scratch: Path
    """The path of a file that becomes an object."""

    def foreign(self, is_directory: Callable[[str], bool], is_key: Callable[[str], bool]) -> int:
        """Count what there is that ``all_keys`` leaves out, but for directories that
        ``is_directory`` knows, or that have a file whose key ``is_key`` knows."""
        return 0

    def check(self) -> None:
        """Ask for the first key. That shows whether there is such a bucket and such a login."""
        next(self.all_keys(), None)

    @abstractmethod
    def all_keys(self) -> Iterator[str]:
        """Yield the keys of all objects, also of those that are not ours."""

    @abstractmethod
    def open(self, key: str) -> tuple[BinaryIO, Any]:
        """Open an object, to read parts of it; return it with what ``replace`` needs to know it
        again. Raises ``FileNotFoundError``."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other process write the scratch file, or change an object, during the block, where
        ``create`` and ``replace`` cannot tell that by themselves. Raises ``DeliveryError`` E503."""
        yield

    @abstractmethod
    def create(self, key: str, path: Path) -> bool:
        """Let a file be the object of that key; return whether there was none. The file is gone
        then, or can be written over."""

    @abstractmethod
    def replace(self, key: str, path: Path, version: Any) -> bool:
        """Let a file take the place of an object; return ``False`` if that is not the one that was
        read any more."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""


class DirectoryObjects(Objects):
    """A directory of this machine. ``scratch`` is a hidden file in it."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self._root = root
        self.scratch = scratch

    def __repr__(self) -> str:
        return "<DirectoryObjects>"

    def all_keys(self) -> Iterator[str]:
        """Yield the paths of all files but hidden ones."""
        for path, kind in self._entries():
            if kind != "directory" and not _is_hidden(path.as_posix()):
                yield path.as_posix()

    def foreign(self, is_directory: Callable[[str], bool], is_key: Callable[[str], bool]) -> int:
        """Count hidden files, directories, and whatever has an attribute that a user has set. A
        file that a process is writing under the lock is waited for. Raises as ``locked``."""
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
        """Yield the paths of what there is, and of which kind each is. Links to directories are
        followed, each once, as readers of the lake do."""
        with _disk():
            for entry in walk(self._root, follow=True):
                yield entry.readable.relative_to(self._root), entry.kind

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the directory: sinks of other sidecars may have it."""
        with ExitStack() as stack:
            with _disk():
                self._make_directories(self._root)
                stack.enter_context(locked_directory(self._root))
            yield

    def open(self, key: str) -> tuple[BinaryIO, Any]:
        """Open the file; it is changed by who has locked the directory."""
        with _disk():
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # it may be a pipe
            return cast("BinaryIO", os.fdopen(os.open(self._root / key, flags), "rb")), None

    def create(self, key: str, path: Path) -> bool:
        """Link the file, which no reader sees before it is whole."""
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
        """Remove the file, and the directory of its day if it was the last."""
        with self.locked(), _disk():
            target = self._root / key
            target.unlink(missing_ok=True)
            with suppress(OSError):
                target.parent.rmdir()
                sync(target.parent.parent)
                return
            sync(target.parent)

    def _make_directories(self, path: Path) -> None:
        """Make a directory below the root and those above it up to the root, but none above."""
        for each in make_directories(path, self._root):
            sync(each.parent)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or "/." in name


class BucketObjects(Objects):
    """A bucket behind obstore. ``options`` are those of obstore; where nothing is set, it reads the
    environment as the provider's tools do.

    Raises ``ConfigError``: E201 without obstore, E122 for a URL or options that cannot be used.
    """

    def __init__(self, url: str, options: Mapping[str, str], scratch: Path) -> None:
        self._relay, url_of_proxy = proxy()  # as obstore reads a refusal to its end
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
        """Open the object; a part is asked for when it is read, of the same version."""
        meta = self._asked(lambda: self._store.head(key))
        version = _version(meta)
        self._note(version)

        def read(start: int, end: int) -> bytes:
            if end - start > _MOST_PART_BYTES:  # as an object may ask for that is none of ours
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
        """Put the file, unless an object is there."""
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
        """Return what the server answers; ``size`` are the bytes that it may say, if they are many.
        Whatever obstore raises becomes ``Unreachable`` without its text, where something is not
        there with the cause ``lost``; where an object may be ``absent``, that stays
        ``FileNotFoundError``."""
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
    """Judge an error of obstore's by the status that it tells, and by nothing else of its text. One
    that tells none is of a server that gave no answer."""
    found = _STATUS(str(error))
    status = found[1] if found else ""
    if isinstance(error, FileNotFoundError) or status == "404":
        return _unreachable(lost, f"HTTP {status}")
    return _unreachable(cause_of_status(int(status)) if status else "unreachable", f"HTTP {status}")


def _version(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return by what an object is known again."""
    stated = {name: meta.get(name) for name in ("e_tag", "version")}
    return {name: text for name, text in stated.items() if text is not None}


def _disk() -> AbstractContextManager[None]:
    """Turn errors of the disk into ``DeliveryError`` E503, except for a file that is not there."""
    return failing_as(DeliveryError("E503", _DISK), but=FileNotFoundError)


def written(path: Path) -> IO[bytes]:
    """Open a file to be written, for its owner alone, whatever was there."""
    with suppress(FileNotFoundError):
        path.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "wb")
