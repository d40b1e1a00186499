"""Access by the platform's tokens: Ed25519 JWTs that are bound to a meeting, a role and a person.

A token is a compact JWS with the header members ``alg`` (``Ed25519``; ``EdDSA`` too where that is
configured) and ``kid``, and the claims

- ``role`` (``ROLES``), ``meeting``, ``sub`` (the pseudonym), ``jti`` (1 to 128 ASCII characters),
- ``exp``, at most five minutes after ``iat``, and after now; ``iat`` and ``nbf`` if they are there,
- ``aud``, if it is there, with ``collector`` in it.

Keys come only from the configured key set: ``jku``, ``jwk``, ``x5u`` and ``x5c`` are not read. A
token that is not validly signed for the meeting is ``not_found``, whatever is wrong with it. All
such tokens take the same path through this module, with a signature check. Only a token that was
once valid is ``expired``.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import sqlite3
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import orjson
from joserfc import jwt
from joserfc.errors import UnsupportedAlgorithmError
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry

from collector.errors import ConfigError
from collector.files import write_private
from collector.recording.jwks import KeySource, StrictDecoder
from collector.recording.names import ROLES, Role, is_name, is_pseudonym
from collector.recording.refusals import Refused

AUDIENCE = "collector"
"""What ``aud`` must contain if a token has it (RFC 7519, 4.1.3)."""
LEEWAY = 30.0
"""How many seconds the platform's clock may differ from this machine's."""
MAX_LIFETIME = 300.0
"""Seconds from ``iat``, or now, to ``exp``."""
MAX_TOKEN_BYTES = 4096
NO_MEETING = ""
"""The meeting of a recording that does not exist: no token is for it."""
_ALGORITHM = "Ed25519"  # RFC 9864
_JTI = re.compile(r"[!-~]{1,128}", re.ASCII).fullmatch
_LATEST = 1 << 53


@dataclass(frozen=True, slots=True, repr=False)
class Caller:
    """The claims of a valid token; ``exp`` is in seconds since 1970."""

    role: Role
    subject: str
    meeting: str
    jti: str
    exp: float


class _Registry(JWSRegistry):
    """The accepted algorithm names: each stands for Ed25519, with keys of that curve only."""

    def __init__(self, *accepted: str) -> None:
        super().__init__(algorithms=[_ALGORITHM], strict_check_header=False)
        self._accepted = accepted

    def get_alg(self, name: str) -> Any:
        """Return the algorithm of a header's ``alg``."""
        if name not in self._accepted:
            raise UnsupportedAlgorithmError
        return super().get_alg(_ALGORITHM)


class Verifier:
    """Verifies tokens with the keys of a source. ``eddsa`` also accepts the older name of the
    algorithm, ``EdDSA`` (RFC 8037), for Ed25519 keys."""

    def __init__(self, source: KeySource, *, eddsa: bool = False) -> None:
        self._source = source
        self._registry = _Registry(_ALGORITHM, *(["EdDSA"] if eddsa else []))
        self._unknown = OKPKey.generate_key("Ed25519")

    def __repr__(self) -> str:
        return "<Verifier>"

    def state(self) -> Literal["ok", "late", "failing"]:
        """Return whether the platform's keys are available; ``late`` if only older ones are."""
        return self._source.state()

    def verify(self, token: bytes, meeting: str | None, now: float) -> Caller:
        """Return the caller that a token names; ``now`` is in seconds since 1970.

        ``meeting`` is the meeting of the recording that the request names, or ``NO_MEETING`` if
        there is no such recording. It is ``None`` if the request itself names a meeting; then
        whoever calls this method compares it. The call may wait 2 s for new keys, so make it from a
        worker thread.

        Raises ``Refused``: ``not_found``, ``expired``, and ``unavailable`` while there are no keys.
        """
        caller = self._caller(token, now)
        if caller is None or (meeting is not None and caller.meeting != meeting):
            raise Refused("not_found")
        if now >= caller.exp + LEEWAY:
            raise Refused("expired")
        return caller

    def _caller(self, token: bytes, now: float) -> Caller | None:
        """Return the caller of a validly signed token, expired or not; ``None`` for any other."""
        try:
            if len(token) > MAX_TOKEN_BYTES:
                return None
            key = self._source.find(_kid(token)) or self._unknown
            registry = self._registry
            found = jwt.decode(token, key, registry=registry, decoder_cls=StrictDecoder)
            return _caller(found.claims, now)
        except Refused:
            raise
        except Exception:  # noqa: BLE001 - its message may quote the token
            return None


def _kid(token: bytes) -> str:
    """Return the ``kid`` of a token's header. Raises ``ValueError`` if an extension is critical,
    the payload is not encoded, or the token is not a plain JWT."""
    first = token.partition(b".")[0]
    text = base64.b64decode(first + b"=" * (-len(first) % 4), b"-_", validate=True)
    header = StrictDecoder().decode(text.decode("utf-8"))
    is_plain = str(header.get("typ", "JWT")).upper() == "JWT"
    if not is_plain or not header.keys().isdisjoint(("crit", "b64", "enc", "zip")):
        raise ValueError("another kind of token")
    kid = header["kid"]
    return kid if isinstance(kid, str) else ""


def _caller(claims: Mapping[str, Any], now: float) -> Caller | None:
    """Return the caller that the claims name, expired or not; ``None`` for invalid claims."""
    texts = [claims[name] for name in ("role", "sub", "meeting", "jti")]
    role, subject, meeting, jti = texts
    audience = claims.get("aud", AUDIENCE)
    is_addressed = AUDIENCE in (audience if isinstance(audience, list) else [audience])
    if not is_addressed or not all(isinstance(text, str) for text in texts):
        return None
    is_named = role in ROLES and is_pseudonym(subject) and is_name(meeting) and _JTI(jti)
    expires = _seconds(claims["exp"])
    issued, begins = (_seconds(claims[each]) if each in claims else None for each in ("iat", "nbf"))
    is_begun = max(issued or 0, begins or 0) <= now + LEEWAY
    is_short = expires <= now + LEEWAY + MAX_LIFETIME and (
        issued is None or 0 < expires - issued <= MAX_LIFETIME
    )
    if not is_named or not is_begun or not is_short:
        return None
    return Caller(cast("Role", role), subject, meeting, jti, expires)


def _seconds(value: object) -> float:
    """Read a point in time (RFC 7519, NumericDate). Raises ``ValueError`` and ``OverflowError``."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(cast("float", value)):
        raise ValueError("no finite number")
    seconds = float(cast("float", value))
    if not 0 <= seconds < _LATEST:
        raise ValueError("no time")
    return seconds


# -- each token once ------------------------------------------------------------------------------


class StoredAnswer(NamedTuple):
    """The answer to a request."""

    status: int
    body: bytes

    def __repr__(self) -> str:
        return "<StoredAnswer>"


def request_digest(method: str, path: str, body: bytes) -> bytes:
    """Return the SHA-256 of method, path and body, which identifies a request."""
    digest = hashlib.sha256()
    for part in (method.encode(), path.encode("utf-8", "replace"), body):
        digest.update(b"%d\n%b" % (len(part), part))
    return digest.digest()


class Replays:
    """The tokens that were used for a change, with the answers, until the tokens expire.

    All methods run in the caller's transaction on ``db``, so either both the change and the answer
    are on disk or neither is. Tokens are kept as the SHA-256 of their ``jti``.
    """

    TABLE = (
        "CREATE TABLE IF NOT EXISTS replays (jti BLOB PRIMARY KEY, request BLOB NOT NULL,"
        " status INTEGER NOT NULL, body BLOB NOT NULL, until REAL NOT NULL) STRICT, WITHOUT ROWID"
    )

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.execute(self.TABLE)

    def __repr__(self) -> str:
        return "<Replays>"

    def find(self, caller: Caller, request: bytes) -> StoredAnswer | None:
        """Return the earlier answer to a request (by its digest) with this token; ``None`` if the
        token is unused. Raises ``Refused``, ``replayed``, if the token was used for another
        request."""
        query = "SELECT request, status, body FROM replays WHERE jti = ?"
        row = self._db.execute(query, (_hashed(caller),)).fetchone()
        if row is None:
            return None
        if row[0] != request:
            raise Refused("replayed")
        return StoredAnswer(row[1], row[2])

    def add(self, caller: Caller, request: bytes, answer: StoredAnswer) -> None:
        """Keep the answer to a request. Do not keep an answer that asks for another attempt (429,
        503, 507), because the same token must still work for it."""
        row = (_hashed(caller), request, answer.status, answer.body, caller.exp + LEEWAY)
        self._db.execute("INSERT OR REPLACE INTO replays VALUES (?, ?, ?, ?, ?)", row)

    def forget(self, now: float) -> None:
        """Delete expired tokens and their answers."""
        self._db.execute("DELETE FROM replays WHERE until <= ?", (now,))


def _hashed(caller: Caller) -> bytes:
    return hashlib.sha256(caller.jti.encode()).digest()


# -- for trying out -------------------------------------------------------------------------------


def issue(
    key: Path, *, meeting: str, role: Role, subject: str, seconds: float = MAX_LIFETIME
) -> str:
    """Return a token for trials, signed with the private Ed25519 key in a PEM file.

    Raises ``ConfigError`` E203 for any other file, and ``ValueError`` for claims that no token can
    have.
    """
    private, now = _private(key), int(time.time())
    claims: dict[str, Any] = {
        "role": role,
        "sub": subject,
        "meeting": meeting,
        "jti": uuid.uuid4().hex,
    }
    claims |= {"iat": now, "exp": now + int(seconds), "aud": AUDIENCE}
    if _caller(claims, now) is None:
        raise ValueError("no token can have such a meeting, role, subject or lifetime")
    header = {"alg": _ALGORITHM, "kid": private.thumbprint()}
    return jwt.encode(header, claims, private, algorithms=[_ALGORITHM])


def key_set(key: Path) -> bytes:
    """Return, for ``recorder.keys``, a JSON key set with the public half of a private key.

    Raises ``ConfigError`` E203.
    """
    private = _private(key)
    public = private.as_dict(private=False)
    member = {name: public[name] for name in ("kty", "crv", "x")}
    return orjson.dumps({"keys": [{**member, "kid": private.thumbprint(), "use": "sig"}]})


def create_key(path: Path) -> None:
    """Create a private key in a new file (0600). Raises ``ConfigError`` E203."""
    try:
        write_private(path, [OKPKey.generate_key("Ed25519").as_pem(private=True)])
    except OSError:
        message = "the key cannot be written: is there a file already?"
        raise ConfigError("E203", message) from None


def _private(path: Path) -> OKPKey:
    found = None
    with suppress(Exception), path.open("rb") as file:  # a parser's error might show the key
        found = OKPKey.import_key(file.read(4096))
    if found is None or found.curve_name != "Ed25519" or not found.is_private:
        raise ConfigError("E203", "the file holds no private Ed25519 key in PEM form")
    return found
