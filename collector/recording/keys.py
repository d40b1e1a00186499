"""The keys of recordings: ``keys.db``, with every secret wrapped under ``master.key``.

Each recording has a secret, by which repeated chunks are recognised, and each track of a cloud
recording has an age identity. Secrets and identities are wrapped with ChaCha20-Poly1305, bound to
recording and track, and are never in a bucket or a manifest. The database also has each track's
name and its owner's mark, which are deleted with the track's key. A mark of the name under the
recording's secret stays, so that chunks of a destroyed track are refused.

Destroyed keys are overwritten in the file; then the log is truncated and the file is rewritten. A
backup of ``keys.db`` still opens destroyed tracks for anybody who has the master key of that time.
So ``rotate`` wraps everything under a new master key and destroys the old one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collector.errors import ConfigError
from collector.files import sync, write_private
from collector.recording.database import Database
from collector.recording.refusals import Refused

if TYPE_CHECKING:
    from pyrage.x25519 import Identity, Recipient

STATEMENTS = tuple(
    """
CREATE TABLE master (one INTEGER PRIMARY KEY CHECK (one = 1), fingerprint TEXT NOT NULL) STRICT

CREATE TABLE recordings (recording TEXT PRIMARY KEY, secret BLOB NOT NULL) STRICT, WITHOUT ROWID

CREATE TABLE tracks (
    recording TEXT NOT NULL, mark BLOB NOT NULL, object TEXT NOT NULL, name TEXT, kind TEXT,
    owner_mark TEXT, recipient TEXT, identity BLOB, PRIMARY KEY (recording, mark)
) STRICT, WITHOUT ROWID

CREATE UNIQUE INDEX tracks_by_object ON tracks (recording, object)
""".split("\n\n")
)
"""The statements that create a new database."""
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_CHECKSUM_LETTERS = 6
"""Letters of the checksum (Bech32, BIP 173), after the 52 letters of a point."""
_COLUMNS = "object, name, kind, owner_mark, recipient"
_MASTER, _NEXT = "master.key", "master.key.new"
_MASTER_BYTES = 32
_NONCE_BYTES = 12
_OWN = ""
"""Takes the place of the object when a recording's own secret is wrapped."""


@dataclass(frozen=True, slots=True)
class TrackKey:
    """A track: its random name and the name that its sender gave; ``is_destroyed`` if only a mark
    is left."""

    object: str
    name: str = ""
    kind: str = ""
    owner_mark: str = ""
    recipient: str = ""

    @property
    def is_destroyed(self) -> bool:
        """Return whether its key was destroyed."""
        return not self.recipient


class Keys:
    """The keys of a directory. Raises ``ConfigError`` E203 if they cannot be opened.

    A reader does not finish an interrupted rotation.
    """

    def __init__(self, directory: Path, *, is_reader: bool = False) -> None:
        self._directory, self._is_reader = directory, is_reader
        self.database: Database = Database(directory / "keys.db", STATEMENTS)
        with ExitStack() as opened:
            opened.callback(self.database.close)
            self._master = self._load_master()
            opened.pop_all()

    def __repr__(self) -> str:
        return "<Keys of recordings>"

    # -- recordings and tracks --------------------------------------------------------------------

    def add_recording(self, recording: str) -> None:
        """Make the secret of a recording if it has none."""
        with self.database.transaction() as db:
            wrapped = self._wrap(secrets.token_bytes(32), recording, _OWN)
            db.execute("INSERT OR IGNORE INTO recordings VALUES (?, ?)", (recording, wrapped))

    def secret(self, recording: str) -> bytes:
        """Return the secret of a recording, 32 bytes. Raises ``Refused`` ``erased`` if there is
        none."""
        statement = "SELECT secret FROM recordings WHERE recording = ?"
        if (found := self._open(statement, recording, _OWN, recording)) is None:
            raise Refused("erased")
        return found

    def has(self, recording: str) -> bool:
        """Return whether the file has anything about a recording."""
        statement = "SELECT 1 FROM recordings WHERE recording = ?"
        return bool(self.database.rows(statement, recording))

    def find(self, recording: str, name: str, secret: bytes | None = None) -> TrackKey | None:
        """Return the track with that name, even if it was destroyed. ``secret`` is the recording's,
        if the caller has it."""
        mark = _mark(self.secret(recording) if secret is None else secret, name)
        rows = self.database.rows(
            f"SELECT {_COLUMNS} FROM tracks WHERE recording = ? AND mark = ?",  # noqa: S608
            *(recording, mark),
        )
        return _track(rows[0]) if rows else None

    def tracks(self, recording: str) -> list[TrackKey]:
        """Return the tracks of a recording that were not destroyed, by name."""
        rows = self.database.rows(
            f"SELECT {_COLUMNS} FROM tracks WHERE recording = ? AND name IS NOT NULL"  # noqa: S608
            " ORDER BY name",
            recording,
        )
        return [_track(row) for row in rows]

    def add_track(
        self, recording: str, name: str, kind: str, owner_mark: str, recipient: str | None
    ) -> TrackKey:
        """Make a track, with an identity of its own unless there is a ``recipient``."""
        from pyrage.x25519 import Identity  # noqa: PLC0415 - heavy

        object_, identity = secrets.token_hex(16), None
        with self.database.transaction() as db:
            mark = _mark(self.secret(recording), name)
            if recipient is None:
                made = Identity.generate()
                recipient = str(made.to_public())
                identity = self._wrap(str(made).encode(), recording, object_)
            row = (recording, mark, object_, name, kind, owner_mark, recipient, identity)
            db.execute("INSERT INTO tracks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        return TrackKey(object_, name, kind, owner_mark, recipient)

    def identity(self, recording: str, object_: str) -> Identity | None:
        """Return the identity that opens a track; ``None`` if it was destroyed or never existed."""
        statement = "SELECT identity FROM tracks WHERE recording = ? AND object = ?"
        found = self._open(statement, recording, object_, recording, object_)
        return None if found is None else read_identity(found.decode())

    def _open(self, statement: str, recording: str, object_: str, *values: str) -> bytes | None:
        """Return what a query finds, unwrapped, or ``None``. If a reader's master key does not open
        the row, a rotation has replaced the key, and the reader loads the new one."""
        with self.database.lock:  # so that the master key is the one that wrapped the row
            for is_last in (not self._is_reader, True):
                rows = self.database.rows(statement, *values)
                if not rows or rows[0][0] is None:
                    return None
                try:
                    return self._unwrap(rows[0][0], recording, object_)
                except Refused:
                    if is_last:
                        raise
                self._master = self._load_master()
        return None

    def destroy(self, recording: str, objects: Collection[str] | None = None) -> bool:
        """Destroy the keys of tracks, or everything about a recording. Return whether the file was
        rewritten; if not, call ``compact`` later. Raises ``Refused`` if not all keys can be
        destroyed now."""
        with self.database.transaction() as db:
            if objects is None:
                db.execute("DELETE FROM tracks WHERE recording = ?", (recording,))
                db.execute("DELETE FROM recordings WHERE recording = ?", (recording,))
            for object_ in objects or ():
                db.execute(
                    "UPDATE tracks SET name = NULL, kind = NULL, owner_mark = NULL,"
                    " recipient = NULL, identity = NULL WHERE recording = ? AND object = ?",
                    (recording, object_),
                )
        if not self.database.cut_log():
            raise Refused("unavailable")
        # Copies of deleted rows may lie in free pages. A full disk must not keep objects alive.
        return self.database.compact()

    def compact(self) -> None:
        """Rewrite the file without the destroyed keys. Raises ``Refused``."""
        if not (self.database.cut_log() and self.database.compact()):
            raise Refused("unavailable")

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    # -- the master key ---------------------------------------------------------------------------

    def rotate(self) -> None:
        """Wrap all keys under a new master key, and destroy the old one. If the process ends
        meanwhile, the next start finishes the rotation. Call ``compact`` afterwards. Raises
        ``Refused`` and ``OSError``; if the new key was committed by then, it is in use."""
        with self.database.lock:  # a second rotation would destroy the first one's key
            if self._read(_MASTER) != self._master:  # an earlier rotation could not put it there
                self._replace_master(self._master)
            following = secrets.token_bytes(_MASTER_BYTES)
            self._write(_NEXT, following)
            self._wrap_all(following)
            self._replace_master(following)

    def _wrap_all(self, following: bytes) -> None:
        """Wrap every secret under another master key, and use that key from then on."""
        old = self._master
        try:
            with self.database.transaction() as db:
                self._wrap_rows(db, following)
        except BaseException:
            self._master = old
            with suppress(Refused):  # a failed COMMIT may be on disk all the same
                if self._named() == _fingerprint(following):
                    self._master = following
            raise

    def _wrap_rows(self, db: Any, following: bytes) -> None:
        recordings = db.execute("SELECT recording, secret FROM recordings").fetchall()
        tracks = db.execute(
            "SELECT recording, object, identity FROM tracks WHERE identity IS NOT NULL"
        ).fetchall()
        opened = [(r, _OWN, self._unwrap(blob, r, _OWN)) for r, blob in recordings]
        opened += [(r, o, self._unwrap(blob, r, o)) for r, o, blob in tracks]
        self._master = following
        for recording, object_, secret in opened:
            wrapped = self._wrap(secret, recording, object_)
            if object_ == _OWN:
                statement, place = "recordings SET secret = ? WHERE recording = ?", (recording,)
            else:
                statement = "tracks SET identity = ? WHERE recording = ? AND object = ?"
                place = (recording, object_)  # type: ignore[assignment]
            db.execute(f"UPDATE {statement}", (wrapped, *place))
        db.execute("REPLACE INTO master VALUES (1, ?)", (_fingerprint(following),))

    def _load_master(self) -> bytes:
        """Return the master key that ``keys.db`` names, and finish an interrupted rotation."""
        # The next key's file first: a rotation may move it to its place meanwhile.
        named, following, current = self._named(), *map(self._read, (_NEXT, _MASTER))
        if named is None:
            current = current or secrets.token_bytes(_MASTER_BYTES)
            self._write(_MASTER, current)
            with self.database.transaction() as db:
                db.execute("REPLACE INTO master VALUES (1, ?)", (_fingerprint(current),))
            return current
        if following is not None and _fingerprint(following) == named:
            if not self._is_reader:
                self._replace_master(following)
            return following
        if not self._is_reader:
            (self._directory / _NEXT).unlink(missing_ok=True)
        if current is None or _fingerprint(current) != named:
            if self._is_reader and self._named() != named:
                return self._load_master()
            message = "master.key is missing or does not belong to keys.db: restore both, or start"
            message += " with an empty directory"
            raise ConfigError("E203", message)
        return current

    def _replace_master(self, following: bytes) -> None:
        """Overwrite the old master key, and put the new one in its place."""
        if self._read(_NEXT) != following:
            self._write(_NEXT, following)
        with suppress(FileNotFoundError), (self._directory / _MASTER).open("r+b") as file:
            file.write(bytes(2 * _MASTER_BYTES + 1))
            file.flush()
            os.fsync(file.fileno())
        (self._directory / _NEXT).replace(self._directory / _MASTER)
        sync(self._directory)

    def _read(self, name: str) -> bytes | None:
        with suppress(OSError, ValueError):
            handle = os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(handle, "rb") as file:
                found = bytes.fromhex(file.read(200).decode())
                return found if len(found) == _MASTER_BYTES else None
        return None

    def _write(self, name: str, key: bytes) -> None:
        path = self._directory / name
        path.unlink(missing_ok=True)
        write_private(path, [f"{key.hex()}\n".encode()])
        sync(self._directory)

    # -- wrapping ---------------------------------------------------------------------------------

    def _wrap(self, secret: bytes, recording: str, object_: str) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + ChaCha20Poly1305(self._master).encrypt(
            nonce, secret, _place(recording, object_)
        )

    def _unwrap(self, wrapped: bytes, recording: str, object_: str) -> bytes:
        """Raises ``Refused`` ``unavailable`` for a secret that this master key did not wrap for
        that place."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

        nonce, sealed = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        try:
            return ChaCha20Poly1305(self._master).decrypt(nonce, sealed, _place(recording, object_))
        except InvalidTag:
            raise Refused("unavailable") from None

    def _named(self) -> str | None:
        """Return the fingerprint of the master key that wrapped the rows of this file."""
        rows = self.database.rows("SELECT fingerprint FROM master")
        return rows[0][0] if rows else None


def read_recipient(text: str) -> Recipient:
    """Read an age recipient (``age1…``, X25519). Raises ``ValueError`` for anything else."""
    from pyrage import RecipientError  # noqa: PLC0415 - heavy
    from pyrage.x25519 import Recipient  # noqa: PLC0415

    try:
        return Recipient.from_str(text)
    except RecipientError:
        raise ValueError("the recipient is not an X25519 recipient of age") from None


def makes_secret(recipient: Recipient) -> bool:
    """Return whether X25519 with a recipient gives a secret. For the few points of low order the
    result is always zero (RFC 7748, 6.1), and age panics."""
    from cryptography.hazmat.primitives.asymmetric import x25519  # noqa: PLC0415 - heavy

    number = 0
    for letter in str(recipient)[len("age1") : -_CHECKSUM_LETTERS]:
        number = number << 5 | _BECH32.index(letter)
    point = x25519.X25519PublicKey.from_public_bytes((number >> 4).to_bytes(32, "big"))
    try:
        x25519.X25519PrivateKey.generate().exchange(point)
    except ValueError:
        return False
    return True


def read_identity(text: str) -> Identity:
    """Read an age identity from the text of an identity file, with or without comments. Raises
    ``ValueError`` for anything else, and never quotes it."""
    from pyrage import IdentityError  # noqa: PLC0415 - heavy
    from pyrage.x25519 import Identity  # noqa: PLC0415

    lines = [line.strip() for line in text.splitlines()]
    with suppress(IdentityError, StopIteration):
        return Identity.from_str(next(line for line in lines if line and line[0] != "#"))
    raise ValueError("there is no age identity (AGE-SECRET-KEY-1…) in the file")


def _mark(secret: bytes, name: str) -> bytes:
    return hmac.digest(secret, b"track " + name.encode(), "sha256")


def _place(recording: str, object_: str) -> bytes:
    return f"collector recording key 1\n{recording}\n{object_}".encode()


def _fingerprint(master: bytes) -> str:
    return hashlib.sha256(b"collector recording master key\n" + master).hexdigest()


def _track(row: tuple[Any, ...]) -> TrackKey:
    return TrackKey(*(value or "" for value in row))
