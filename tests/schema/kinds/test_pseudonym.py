"""``pseudonym``: a keyed hash that does not outlive its period."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b32decode
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import ConfigError
from collector.keyring import Keyring
from collector.schema.kinds import Circumstances
from tests.support.make_schemas import NOW, canonical, field, refuses
from tests.support.raising import raises
from tests.support.rows import for_each

_OPTIONS = {"key": "env:COLLECTOR_TEST_KEY", "rotate": "1d"}
_DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTOR_TEST_KEY", "a secret of the tests, long enough")


@given(st.text(max_size=300))
def test_form(text: str) -> None:
    """It is 128 bits as 26 characters of base32 in lower case."""
    found = canonical(field("pseudonym", **_OPTIONS))(text)
    if not 1 <= len(text.encode(errors="surrogatepass")) <= 256:
        assert found is None
        return
    assert isinstance(found, str)
    assert re.fullmatch("[a-z2-7]{26}", found)
    assert len(b32decode(found.upper() + "=" * 6)) == 16


def test_it_is_hmac_sha_256() -> None:
    """The algorithm is RFC 2104 with SHA-256, cut to 128 bits."""
    found = canonical(field("pseudonym", **_OPTIONS), key=lambda _r, _p: b"k" * 32)("a")
    digest = hmac.new(b"k" * 32, b"a", hashlib.sha256).digest()[:16]
    assert isinstance(found, str)
    assert b32decode(found.upper() + "=" * 6) == digest


def test_edges() -> None:
    make = canonical(field("pseudonym", **_OPTIONS))
    for refused in ("", "x" * 257, "é" * 129, "\ud800", "a" * 10**6):
        assert make(refused) is None
    for text in ("x", "x" * 256, "é" * 128, "\0", " "):
        assert make(text) is not None


def test_the_key_is_asked_for_by_reference_and_period() -> None:
    """The period is the number of whole rotations since 1970, so that all processes agree on it."""
    asked: list[tuple[str, int]] = []

    def key(reference: str, period: int) -> bytes:
        asked.append((reference, period))
        return bytes(32)

    for rotate, seconds in (("15m", 900), ("1h", 3600), ("1d", 86400), ("2w", 1209600)):
        of = field("pseudonym", key="file:/run/key", rotate=rotate)
        canonical(of, key=key)("a")
        assert asked[-1] == ("file:/run/key", int(NOW.timestamp()) // seconds)


def _at(keys: Keyring, now: datetime, text: str = "a", key: str = _OPTIONS["key"]) -> object:
    return canonical(field("pseudonym", key=key, rotate="1d"), now, keys)(text)


def test_equal_within_a_period_only() -> None:
    keys = Keyring()
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    first = _at(keys, midnight)
    assert _at(keys, midnight + _DAY - timedelta(microseconds=1)) == first
    assert _at(keys, midnight + _DAY) != first
    assert _at(keys, midnight) != first


def test_different_values_keys_and_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTOR_OTHER_KEY", "a secret of the tests, long enough")
    keys = Keyring()
    made = {_at(keys, NOW), _at(keys, NOW, "b"), _at(keys, NOW, key="env:COLLECTOR_OTHER_KEY")}
    made |= {_at(Keyring(), NOW)}
    assert len(made) == 4
    assert _at(keys, NOW) in made


@pytest.mark.parametrize("secret", [None, "", "too short"])
def test_no_secret(monkeypatch: pytest.MonkeyPatch, secret: str | None) -> None:
    """A reference that leads nowhere, or to too little, is E202 and quotes nothing."""
    monkeypatch.delenv("COLLECTOR_TEST_KEY")
    if secret is not None:
        monkeypatch.setenv("COLLECTOR_TEST_KEY", secret)
    with raises("E202", ConfigError) as caught:
        _at(Keyring(), NOW)
    assert "COLLECTOR_TEST_KEY" not in str(caught.value)
    assert not secret or secret not in str(caught.value)


def test_size_and_types() -> None:
    of = field("pseudonym", **_OPTIONS)
    assert of.size() == 1 << 128
    assert of.wire == {str}
    assert not of.repeats


@for_each(
    ("key", "rotate", "code"),
    [
        *((key, "1d", "E202") for key in ("hunter2", "env:", "vault:a", "env:A\nB")),
        *(("env:A", "1y", "E107"), ("env:A", "30s", "E107"), ("file:relative/key", "4w", None)),
    ],
)
def test_options(key: str, rotate: str, code: str | None) -> None:
    assert refuses("pseudonym", key=key, rotate=rotate) == code


def test_both_options_are_needed() -> None:
    assert refuses("pseudonym", key="env:A") == refuses("pseudonym", rotate="1d") == "missing"


@given(st.text(max_size=40))
def test_what_is_stored_is_not_hashed_again(text: str) -> None:
    """A pseudonym stays as it is; nothing else is taken for one."""
    pseudonym = field("pseudonym", **_OPTIONS)
    around = Circumstances(lambda: NOW, lambda _reference, _period: b"k" * 32)
    stored, made = pseudonym.stored(around), pseudonym.canonical(around)(text)
    assert made is None or stored(made) == made
    assert stored(text) is None


@pytest.mark.parametrize("end", ["b", "2", "7", "aa", "", "A", " ", "\n"])
def test_what_no_hash_becomes(end: str) -> None:
    """The last of 26 characters carries three bits only."""
    around = Circumstances(lambda: NOW, lambda _reference, _period: b"k" * 32)
    stored = field("pseudonym", **_OPTIONS).stored(around)
    assert stored("a" * 25 + "4") == "a" * 25 + "4"
    assert stored("a" * 25 + end) is None
    assert stored("1" * 25 + "a") is None
