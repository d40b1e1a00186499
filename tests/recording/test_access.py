"""Tokens: what is valid, and every way known to make one that is not."""

from __future__ import annotations

import hashlib
import hmac
import json
import pickle
import sqlite3
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import ConfigError
from collector.recording import access
from collector.recording.access import (
    NO_MEETING,
    Caller,
    Replays,
    StoredAnswer,
    Verifier,
    create_key,
    issue,
    key_set,
    request_digest,
)
from collector.recording.jwks import KeySource
from collector.recording.names import ROLES
from collector.recording.refusals import Refused
from tests.recording.tokens import NOW, Platform, encoded
from tests.support.latency import within
from tests.support.rows import for_each


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(tmp_path)


@pytest.fixture
def verifier(platform: Platform) -> Verifier:
    return Verifier(KeySource(str(platform.path)))


def _refused(
    verifier: Verifier, token: bytes, meeting: str | None = "m-1", now: float = NOW
) -> str:
    with pytest.raises(Refused) as caught:
        verifier.verify(token, meeting, now)
    assert caught.value.__context__ is None, "a parser's error may show a part of the token"
    return caught.value.code


@for_each("role", sorted(ROLES))
def test_a_valid_token(platform: Platform, verifier: Verifier, role: str) -> None:
    caller = verifier.verify(platform.token(role=role), "m-1", NOW)
    assert (caller.role, caller.subject, caller.meeting) == (role, "ada", "m-1")
    assert (caller.jti, caller.exp) == ("j-1", NOW + 300)
    assert verifier.verify(platform.token(), None, NOW).meeting == "m-1"


@for_each(
    "changes",
    [
        {"iat": None},
        {"iat": NOW + 29, "exp": NOW + 329},
        {"nbf": NOW + 29},
        {"exp": int(NOW) + 300, "iat": int(NOW)},
        {"exp": NOW - 29, "iat": NOW - 300},
        {"aud": "collector"},
        {"aud": ["other", "collector"]},
        {"jti": "x" * 128},
        {"sub": "a" * 64},
        {"more": {"of": ["the platform's"]}},
    ],
)
def test_what_else_is_valid(
    platform: Platform, verifier: Verifier, changes: dict[str, Any]
) -> None:
    """Clocks differ by half a minute; claims that mean nothing here are passed over."""
    assert verifier.verify(platform.token(**changes), "m-1", NOW).role == "host"


@for_each(
    "changes",
    [
        *({name: None} for name in ("role", "sub", "meeting", "jti", "exp")),
        *({"role": role} for role in ("admin", "Host", "", ["host"], 1)),
        *({"sub": name} for name in ("mixed", "", "a b", "a/b", "é", "x" * 65, ["a"], 7)),
        *({"meeting": name} for name in ("m-2", "M-1", "", "*", "../m-1", ["m-1"], "m-1\n")),
        *({"jti": jti} for jti in ("", "x" * 129, "a b", "é", 1, ["j"])),
        *({"exp": exp} for exp in (True, "soon", str(NOW + 9), [NOW], -1, -1e300, 10**400)),
        *({"exp": exp} for exp in (float("inf"), float("nan"), float("-inf"), 1e308, 2**53)),
        {"exp": NOW + 301},
        {"exp": NOW + 331, "iat": None},
        {"exp": NOW + 3600, "iat": None},
        {"exp": NOW + 3600, "iat": NOW + 3400},
        {"iat": NOW + 31},
        {"iat": NOW + 200},
        {"iat": NOW - 3600},
        {"iat": float("nan")},
        {"iat": "now"},
        {"iat": -1},
        {"iat": NOW + 300, "exp": NOW + 300},
        {"nbf": NOW + 31},
        {"nbf": "later"},
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": []},
        {"aud": {"collector": 1}},
        {"aud": None, "exp": None},
    ],
)
def test_claims_that_are_not_valid(
    platform: Platform, verifier: Verifier, changes: dict[str, Any]
) -> None:
    assert _refused(verifier, platform.token(**changes)) == "not_found"


def test_expired(platform: Platform, verifier: Verifier) -> None:
    late = NOW + 330
    token = platform.token()
    assert verifier.verify(token, "m-1", late - 1).role == "host"
    assert _refused(verifier, token, now=late) == "expired"
    assert _refused(verifier, token, None, late) == "expired"
    assert _refused(verifier, token, "m-2", late) == "not_found"
    assert _refused(verifier, token, NO_MEETING, late) == "not_found"
    assert _refused(verifier, token[:-4] + b"AAAA", now=late) == "not_found"
    assert _refused(verifier, platform.token(role="admin"), now=late) == "not_found"
    assert _refused(verifier, platform.token(iat=NOW - 9000), now=late) == "not_found"


def test_a_recording_that_is_not_there(platform: Platform, verifier: Verifier) -> None:
    assert _refused(verifier, platform.token(), NO_MEETING) == "not_found"
    assert _refused(verifier, platform.token(meeting=""), NO_MEETING) == "not_found"


# -- headers --------------------------------------------------------------------------------------


_Make = Callable[[Platform, dict[str, Any]], bytes]


def _hs256(key: Callable[[Platform], bytes]) -> _Make:
    def make(platform: Platform, header: dict[str, Any]) -> bytes:
        text = f"{encoded(header)}.{encoded(platform.claims())}".encode()
        return text + b"." + encoded(hmac.digest(key(platform), text, hashlib.sha256)).encode()

    return make


def _es256(platform: Platform, header: dict[str, Any]) -> bytes:
    text = f"{encoded(header)}.{encoded(platform.claims())}".encode()
    signature = ec.generate_private_key(ec.SECP256R1()).sign(text, ec.ECDSA(SHA256()))
    return text + b"." + encoded(signature).encode()


def _unsigned(platform: Platform, header: dict[str, Any]) -> bytes:
    return f"{encoded(header)}.{encoded(platform.claims())}.".encode()


@for_each(
    "make",
    [
        _hs256(lambda platform: platform.public),
        _hs256(lambda platform: encoded(platform.public).encode()),
        _hs256(lambda platform: platform.path.read_bytes()),
        _es256,
        _unsigned,
        Platform.token,
    ],
)
@for_each("algorithm", [*"HS256 HS512 ES256 RS256 Ed448 EdDSA none None NONE nOnE".split(), ""])
def test_another_algorithm(
    platform: Platform, verifier: Verifier, make: _Make, algorithm: str
) -> None:
    """One is HMAC with the public key. A valid Ed25519 signature does not help."""
    assert _refused(verifier, make(platform, {"alg": algorithm, "kid": "one"})) == "not_found"


def test_the_older_name_where_it_is_configured(platform: Platform) -> None:
    """EdDSA serves for keys of Ed25519 only, and causes no warning at each token."""
    verifier = Verifier(KeySource(str(platform.path)), eddsa=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert verifier.verify(platform.token({"alg": "EdDSA"}), "m-1", NOW).role == "host"
        assert verifier.verify(platform.token(), "m-1", NOW).role == "host"
    assert _refused(verifier, platform.token({"alg": "Ed448"})) == "not_found"
    assert _refused(verifier, _unsigned(platform, {"alg": "EdDSA", "kid": "one"})) == "not_found"


@for_each(
    "kid",
    [
        None,
        "",
        "two",
        "One",
        "one\0",
        "one ",
        "../one",
        "/dev/null",
        "' OR 1=1 --",
        ["one"],
        1,
        {"one": 1},
        "*",
        "x" * 3000,
        True,
        "\ud800",
    ],
)
def test_another_key(platform: Platform, verifier: Verifier, kid: object) -> None:
    """A name is compared with those of the set, and is nothing else: no path, no query."""
    assert _refused(verifier, platform.token({"kid": kid})) == "not_found"


def test_a_key_that_the_token_brings(
    platform: Platform, verifier: Verifier, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Platform(tmp_path / "other")
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": encoded(other.public), "kid": "one"}
    for header in (
        {"jwk": jwk},
        {"jku": other.path.as_uri()},
        {"jku": "https://127.0.0.1:1/jwks"},
        {"x5u": "https://127.0.0.1:1/x"},
        {"x5c": [encoded(other.public)]},
    ):
        assert _refused(verifier, other.token(header)) == "not_found"
    for header in ({"jku": "https://127.0.0.1:1/"}, {"typ": "JWT"}, {"typ": "jwt"}):
        assert verifier.verify(platform.token(header), "m-1", NOW).jti == "j-1"


@for_each(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
        {"enc": "A256GCM"},
        {"zip": "DEF"},
        {"typ": "at+jwt"},
        {"typ": "dpop+jwt"},
        {"typ": ["JWT"]},
        {"pad": "x" * 3000},
        *({"alg": alg} for alg in (None, ["Ed25519"], {"Ed25519": 1}, 1, True, "ed25519")),
    ],
)
def test_headers_that_change_the_meaning(
    platform: Platform, verifier: Verifier, header: dict[str, Any]
) -> None:
    """Critical extensions, unencoded payloads and tokens for something else are refused."""
    assert _refused(verifier, platform.token(header)) == "not_found"


# -- forms ----------------------------------------------------------------------------------------


def _twice(text: str, name: str, value: str) -> str:
    """JSON in which a name is there twice, in base64url."""
    return encoded((text[:-1] + f', "{name}": {value}}}').encode())


def test_a_name_that_is_there_twice(platform: Platform, verifier: Verifier) -> None:
    """Different programs would read such a token differently."""
    claims = platform.claims()
    for name, value in [*claims.items(), ("role", "platform")]:
        payload = _twice(json.dumps(claims), name, json.dumps(value))
        assert _refused(verifier, platform.sign(payload)) == "not_found", name
    header = _twice('{"alg": "Ed25519", "kid": "two"}', "kid", '"one"')
    assert _refused(verifier, platform.sign(encoded(claims), header)) == "not_found"


@for_each(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"1",
        b'"x"',
        b"{",
        b"\xff\xfe",
        b"[" * 1500,
        b'{"a":' * 500,
        b"9" * 2500,
        b"NaN",
        b'{"exp": 1e999}',
        b"{}",
        b"\xef\xbb\xbf{}",
    ],
)
def test_a_payload_that_is_no_claims(
    platform: Platform, verifier: Verifier, payload: bytes
) -> None:
    assert _refused(verifier, platform.sign(encoded(payload))) == "not_found"
    assert _refused(verifier, platform.sign("x", encoded(payload))) == "not_found"


def test_forms_of_a_token(platform: Platform, verifier: Verifier) -> None:
    good = platform.token()
    head, payload, signature = good.split(b".")
    assert verifier.verify(good, "m-1", NOW).jti == "j-1"
    for bad in (
        b"",
        b".",
        b"..",
        b"...",
        b"." * 4096,
        b"\0" * 100,
        "é".encode() + good,
        good + b".",
        good + b"=",
        b" " + good,
        good + b"\n",
        good + b"." + signature,
        head + b"." + payload,
        head + b".." + signature,
        b"." + payload + b"." + signature,
        payload + b"." + head + b"." + signature,
        head + b"=." + payload + b"." + signature,
        head + b"." + payload + b"." + signature[:-1],
        head + b"." + payload + b"." + signature[::-1],
        head + b"." + payload + b"." + encoded(b"\0" * 64).encode(),
        head + b"." + payload + b"." + encoded(b"").encode(),
        json.dumps({"payload": payload.decode(), "signature": signature.decode()}).encode(),
    ):
        assert _refused(verifier, bad) == "not_found", bad


@pytest.mark.timed
def test_huge_tokens(platform: Platform, verifier: Verifier) -> None:
    assert verifier.verify(platform.token(pad="x" * 2500), "m-1", NOW).jti == "j-1"
    assert _refused(verifier, platform.token(pad="x" * 5000)) == "not_found"
    with within(1):
        assert _refused(verifier, b"a" * 50_000_000) == "not_found"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Verifier, bytes]:
    """A verifier for all examples, and a valid token."""
    platform = Platform(tmp_path_factory.mktemp("platform"))
    return Verifier(KeySource(str(platform.path))), platform.token()


@given(noise=st.binary(max_size=200), at=st.integers(0, 600))
def test_no_bytes_break_it(shared: tuple[Verifier, bytes], noise: bytes, at: int) -> None:
    """Any bytes, and a token with any of its bytes changed, are refused as such."""
    verifier, token = shared
    assert _refused(verifier, noise) == "not_found"
    place = at % len(token)
    changed = bytes([token[place] ^ 1])
    assert _refused(verifier, token[:place] + changed + token[place + 1 :]) == "not_found"


def test_nothing_shows_a_token(platform: Platform, verifier: Verifier) -> None:
    token = platform.token(sub="canary", jti="canary-2", meeting="canary-3")
    caller = verifier.verify(token, None, NOW)
    shown = [repr(caller), str(caller), repr(verifier), repr(access.Replays.__name__)]
    for bad in (token[:-9], token.replace(b".", b"..", 1), b"canary." + token):
        try:
            verifier.verify(bad, "m-1", NOW)
        except Refused as error:
            shown += [str(error), repr(error), *traceback.format_exception(error)]
    text = "".join(shown)
    assert "canary" not in text
    assert token[:20].decode() not in text


# -- each token once ------------------------------------------------------------------------------


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """A database that the recorder would have on disk."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        yield db


_ADA = Caller("host", "ada", "m-1", "j-1", NOW + 300)
_START = request_digest("POST", "/v1/recordings/0/start", b"")


def test_the_same_request_gets_the_same_answer(db: sqlite3.Connection) -> None:
    """A repetition gets it after a restart too. Another request is refused."""
    replays = Replays(db)
    assert replays.find(_ADA, _START) is None
    replays.add(_ADA, _START, StoredAnswer(409, b'{"code":"pending"}'))
    for again in (replays, Replays(db)):
        assert again.find(_ADA, _START) == StoredAnswer(409, b'{"code":"pending"}')
        with pytest.raises(Refused, match=r"^replayed"):
            again.find(_ADA, request_digest("POST", "/v1/recordings/0/stop", b""))
    other = Caller("host", "ada", "m-1", "j-2", NOW + 300)
    assert replays.find(other, _START) is None


def test_what_tells_requests_apart() -> None:
    """Every byte of method, path and body, and where one ends and the next begins."""
    digests = {
        request_digest(*parts)
        for parts in [
            ("POST", "/a", b""),
            ("PUT", "/a", b""),
            ("POST", "/b", b""),
            ("POST", "/", b"a"),
            ("POST", "/a", b"a"),
            ("POS", "T/a", b""),
            ("POST", "/a\n1\n", b"a"),
        ]
    }
    assert len(digests) == 7


def test_tokens_are_forgotten_when_they_have_expired(db: sqlite3.Connection) -> None:
    replays = Replays(db)
    replays.add(_ADA, _START, StoredAnswer(204, b""))
    replays.forget(NOW + 329)
    assert replays.find(_ADA, _START) == StoredAnswer(204, b"")
    replays.forget(NOW + 330)
    assert db.execute("SELECT count(*) FROM replays").fetchone() == (0,)


def test_a_change_that_was_not_committed_has_no_answer(db: sqlite3.Connection) -> None:
    replays = Replays(db)
    db.execute("BEGIN IMMEDIATE")
    replays.add(_ADA, _START, StoredAnswer(204, b""))
    db.execute("ROLLBACK")
    assert replays.find(_ADA, _START) is None


def test_no_token_is_on_disk(db: sqlite3.Connection) -> None:
    Replays(db).add(Caller("host", "ada", "m-1", "canary", NOW), _START, StoredAnswer(204, b""))
    assert "canary" not in "".join(db.iterdump())
    assert b"canary".hex() not in "".join(db.iterdump()).lower()


# -- for trying out -------------------------------------------------------------------------------


def test_a_token_of_our_own(tmp_path: Path) -> None:
    key, keys = tmp_path / "key.pem", tmp_path / "jwks.json"
    create_key(key)
    assert key.stat().st_mode & 0o777 == 0o600
    keys.write_bytes(key_set(key))
    assert b'"d"' not in key_set(key)
    verifier = Verifier(KeySource(str(keys)))
    tokens = [issue(key, meeting="m", role="media", subject="s") for _ in range(2)]
    first, second = (verifier.verify(token.encode(), "m", time.time()) for token in tokens)
    assert (first.role, first.subject) == ("media", "s")
    assert first.jti != second.jti
    with pytest.raises(ConfigError, match="E203"):
        create_key(key)


@for_each(
    "changes",
    [{"meeting": ""}, {"role": "admin"}, {"subject": "mixed"}, {"seconds": 301}, {"seconds": 0}],
)
def test_a_token_that_none_would_take(tmp_path: Path, changes: dict[str, Any]) -> None:
    create_key(tmp_path / "key")
    with pytest.raises(ValueError, match="no token can have"):
        issue(tmp_path / "key", **{"meeting": "m", "role": "host", "subject": "s", **changes})


def test_a_file_that_is_no_key(tmp_path: Path) -> None:
    public = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    rsa = "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n"
    for content in (b"", b"canary", public, rsa.encode(), pickle.dumps("canary")):
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            key_set(tmp_path / "key")
        assert "canary" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ConfigError):
        key_set(tmp_path / "none")
