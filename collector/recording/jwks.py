"""The platform's public keys: a JSON Web Key Set, from a file or an https address.

Only Ed25519 keys with a ``kid`` are used; keys of other types, or not meant for verifying, are
ignored. A document with a faulty Ed25519 key, a private key, or two keys with the same ``kid`` is
refused as a whole, and the previous keys stay. A token never decides where keys come from.

A refresh runs in its own thread and starts at most every 30 s, however many tokens name an unknown
key. Redirects are not followed, and proxies of the environment are not used.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from joserfc.jwk import OKPKey

from collector.errors import ConfigError
from collector.http_client import Endpoint, HttpClient, tls
from collector.recording.refusals import Refused

MAX_BYTES = 64 << 10
"""The most bytes of a key set; the platform's has a few hundred."""
MAX_KEYS = 50
_REFRESH_SECONDS = 30.0
"""The least time between two refreshes."""
_FRESH_SECONDS = 300.0
"""Older keys are refreshed when one of them is used, so that a withdrawn key stops working."""
_STALE_SECONDS = 3600.0
"""Older keys, which no refresh has renewed, are no longer used."""
_WAIT_SECONDS = 2.0
"""How long a token with an unknown key waits for the running refresh."""
_MAX_WAITING = 2
"""How many tokens may wait at a time; further ones with unknown keys do not wait, so they occupy no
thread."""
_FETCH_SECONDS = 5.0
_OK = 200
_COORDINATE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII).fullmatch
_KID = re.compile(r"[!-~]{1,128}", re.ASCII).fullmatch


class StrictDecoder(json.JSONDecoder):
    """Decode JSON; raise ``ValueError`` for a duplicate name, NaN and Infinity."""

    def __init__(self, **_options: Any) -> None:
        super().__init__(object_pairs_hook=_members, parse_constant=_refuse)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name is there twice")
    return members


def _refuse(_constant: str) -> None:
    raise ValueError("a number is not finite")


def parse_keys(document: bytes) -> dict[str, OKPKey]:
    """Return the Ed25519 keys of a key set (RFC 7517) by ``kid``.

    Raises ``ValueError`` for a document that is not a key set, is too large, or has a faulty key.
    """
    try:
        if len(document) > MAX_BYTES:
            raise ValueError("larger than 64 KiB")
        listed = StrictDecoder().decode(document.decode("utf-8"))["keys"]
        if not isinstance(listed, list) or len(listed) > MAX_KEYS:
            raise ValueError("no list of at most 50 keys")
        chosen = [each for each in listed if (each["kty"], each.get("crv")) == ("OKP", "Ed25519")]
        used = [each for each in chosen if _verifies(each)]
        keys = {str(each["kid"]): _key(each) for each in used}
        if len(keys) == len(used):
            return keys
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        pass
    raise ValueError("no set of Ed25519 keys, each with a `kid` of its own and without `d`")


def _verifies(member: Mapping[str, Any]) -> bool:
    """Return whether a key may be used to verify (RFC 7517, 4.2 and 4.3)."""
    operations = member.get("key_ops", ["verify"])
    return member.get("use", "sig") == "sig" and "verify" in operations


def _key(member: Mapping[str, Any]) -> OKPKey:
    """Build a public key from its coordinate alone. Raises ``ValueError``."""
    text, kid = member["x"], member["kid"]
    is_sound = "d" not in member and member.get("alg", "Ed25519") in ("Ed25519", "EdDSA")
    if not is_sound or not _COORDINATE(text) or not _KID(kid):
        raise ValueError("a faulty key")
    if base64.urlsafe_b64encode(base64.urlsafe_b64decode(f"{text}=")) != f"{text}=".encode():
        raise ValueError("a faulty coordinate")
    return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": text})


class KeySource:
    """The keys of a key set at a path or at an ``https://`` address.

    ``context`` verifies the server's certificate, by default with the system's authorities. Raises
    ``ConfigError`` E203 if the file is not a key set. An address may be unreachable: then ``find``
    raises ``Refused``, ``unavailable``, until it answers.
    """

    def __init__(self, location: str, *, context: ssl.SSLContext | None = None) -> None:
        self._url = urlsplit(location) if location.startswith("https://") else None
        self._path = Path(location)
        self._context = context
        self._keys: Mapping[str, OKPKey] = {}
        self._lock = threading.Lock()
        self._began = self._loaded = -_STALE_SECONDS
        self._done = threading.Event()
        self.waiting: int = 0
        """How many tokens wait for a refresh."""
        self.is_failing: bool = False
        """Whether the last refresh failed."""
        self._begin()
        self._done.wait(2 * _FETCH_SECONDS)
        if self._url is None and not self._keys:
            message = "the file of `recorder.keys` is not a JSON Web Key Set with an Ed25519 key"
            raise ConfigError("E203", message)

    def __repr__(self) -> str:
        return "<KeySource>"

    def find(self, kid: str) -> OKPKey | None:
        """Return the key of a ``kid``, or ``None`` for an unknown one. An unknown one starts a
        refresh, unless the last one started less than 30 s ago, and may wait for it: call it from a
        worker thread.

        Raises ``Refused``, ``unavailable``, while there are no usable keys.
        """
        if kid not in self._keys or monotonic() - self._loaded > _FRESH_SECONDS:
            self._begin()
        if kid not in self._keys:
            self._wait()
        if not self._keys or monotonic() - self._loaded > _STALE_SECONDS:
            raise Refused("unavailable")
        return self._keys.get(kid)

    def state(self) -> Literal["ok", "late", "failing"]:
        """Return ``late`` if the last refresh failed and earlier keys are in use, ``failing`` if
        there are no keys. In both cases, start a refresh, because there may be no token that
        would."""
        if not self.is_failing:
            return "ok"
        self._begin()
        is_usable = self._keys and monotonic() - self._loaded <= _STALE_SECONDS
        return "late" if is_usable else "failing"

    def _wait(self) -> None:
        """Wait for the running refresh, unless enough threads do already."""
        with self._lock:
            if self.waiting >= _MAX_WAITING:
                return
            self.waiting += 1
        self._done.wait(_WAIT_SECONDS)
        with self._lock:
            self.waiting -= 1

    def _begin(self) -> None:
        """Begin a refresh, unless one is running or the last one began less than 30 s ago."""
        with self._lock:
            now = monotonic()
            is_running = self._began > -_STALE_SECONDS and not self._done.is_set()
            if is_running or now - self._began < _REFRESH_SECONDS:
                return
            self._began = now
            self._done.clear()
        threading.Thread(target=self._refresh, name="keys", daemon=True).start()

    def _refresh(self) -> None:
        is_failing = True
        try:
            keys = parse_keys(self._read() if self._url is None else self._fetch(self._url))
            if keys:
                self._keys, self._loaded, is_failing = keys, monotonic(), False
        except Exception:  # noqa: BLE001, S110 - whatever it was, the previous keys stay
            pass
        finally:
            self.is_failing = is_failing
            self._done.set()

    def _read(self) -> bytes:
        if not self._path.is_file():  # reading a pipe would wait
            raise OSError
        with self._path.open("rb") as file:
            return file.read(MAX_BYTES + 1)

    def _fetch(self, url: SplitResult) -> bytes:
        """Get the document at an address, within the limits of size and time. Raises
        ``Exception``."""
        end = monotonic() + _FETCH_SECONDS
        peer = Endpoint("https", url.hostname or "", url.port or 443)
        client = HttpClient(peer, self._context or tls(None, None), lambda: end)
        target = f"{url.path or '/'}{'?' if url.query else ''}{url.query}"
        try:
            response = client.request("GET", target, {"Accept": "application/json"})
        finally:
            client.release()
        if response is None or response.status != _OK:
            raise OSError
        return response.body
