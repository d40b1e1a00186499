"""Bearer tokens: the senders that are let in, and the form of digests."""

from __future__ import annotations

import hashlib
import hmac
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import ConfigError
from collector.ingest.auth import Tokens, hashed, new_token
from tests.support.rows import for_each

_TOKEN = "o1Ck4TIkC6Pvq9Zx-mUg5bW2e_Rf8sNhY0aLdJtQEwM"
_ANOTHER = "Zk3sVb9TqLx_7HnRe2WdCf0uYp5AmGj8-iOt1KcXyB4"
_HASH, _OTHER_HASH = hashed(_TOKEN), hashed(_ANOTHER)


@for_each(
    "header",
    [
        f"Bearer {_TOKEN}",
        f"bearer {_TOKEN}",
        f"BEARER {_TOKEN}",
        f"Bearer   {_TOKEN} ",
        f" Bearer {_TOKEN}",
        f"Bearer {_ANOTHER}",
    ],
)
def test_the_right_token_is_let_in(header: str) -> None:
    tokens = Tokens([_HASH, _OTHER_HASH])
    assert tokens.admits(header)
    assert tokens.admits(header.encode())


def test_a_token_for_its_own_digest() -> None:
    """A token of 64 hexadecimal digits looks like a digest. It is refused, and counted."""
    raw = secrets.token_hex(32)
    tokens = Tokens([_HASH, raw])
    for header in (f"Bearer {raw}", f"Bearer {raw.upper()}", f"Bearer {_HASH}"):
        assert not tokens.admits(header)
    assert tokens.unhashed == 3
    for other in (f"Bearer {_TOKEN}", f"Bearer {hashed(raw)}", "Bearer x", "", None):
        assert tokens.admits(other) is (other == f"Bearer {_TOKEN}")
    assert tokens.unhashed == 3
    assert Tokens([hashed(raw)]).admits(f"Bearer {raw}")


@for_each(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        _TOKEN,
        f"Bearer{_TOKEN}",
        f"Basic {_TOKEN}",
        f"Bearer {_TOKEN[:-1]}",
        f"Bearer {_TOKEN}x",
        f"Bearer {_TOKEN.swapcase()}",
        f"Bearer {_HASH}",
        f"Bearer {_TOKEN}, Bearer {_TOKEN}",
        f"Bearer {_TOKEN} {_TOKEN}",
        f"Bearer \x00{_TOKEN}",
        f"Bearer {_TOKEN}" + " " * 5000,
        "Bearer \ud800",
    ],
)
def test_everything_else_is_not(header: str | None) -> None:
    """Absent, cut, longer, another scheme, the digest itself."""
    tokens = Tokens([_HASH])
    assert not tokens.admits(header)
    if header is not None:
        assert not tokens.admits(header.encode("utf-8", "replace"))


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_anything_may_come(header: bytes | str) -> None:
    """No header raises, and none but the token's gets in."""
    assert not Tokens([_HASH, _OTHER_HASH]).admits(header)


def test_nobody_without_tokens() -> None:
    """An empty list refuses every sender, also one with the digest of an empty token."""
    assert not Tokens([]).admits(f"Bearer {_TOKEN}")
    assert not Tokens([hashed("")]).admits("Bearer ")
    assert not Tokens([hashed("")]).admits("")


def test_digests() -> None:
    """SHA-256 in hexadecimal; capitals and blanks around it are fine."""
    assert hashed(_TOKEN) == hashlib.sha256(_TOKEN.encode()).hexdigest() == _HASH
    assert Tokens([f"  {_HASH.upper()}\n"]).admits(f"Bearer {_TOKEN}")


@for_each(
    "wrong",
    ["", "secret-token", _TOKEN, _HASH[:-1], _HASH + "0", "g" * 64],
)
def test_what_is_no_digest(wrong: str) -> None:
    """E107 names the place in the list and holds nothing of it: it may be a token."""
    with pytest.raises(ConfigError, match=r"token 2 of the list .* \[E107\]$") as caught:
        Tokens([_HASH, wrong])
    assert not wrong or wrong not in str(caught.value)
    assert caught.value.__context__ is None


def test_new_tokens() -> None:
    """Random, long enough, and safe in a header."""
    made = {new_token()[0] for _ in range(100)}
    assert len(made) == 100
    assert all(
        len(token) == 43 and token.replace("-", "").replace("_", "").isalnum() for token in made
    )


def test_nothing_is_shown() -> None:
    """The object holds no token."""
    tokens = Tokens([_HASH, _OTHER_HASH])
    tokens.admits(f"Bearer {_TOKEN}")
    assert _TOKEN not in str(vars(tokens))


def test_every_digest_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first, the last or none: the same comparisons are made, by ``hmac.compare_digest``."""
    tokens = Tokens([hashed(str(number)) for number in range(20)])
    compared: list[bytes] = []
    real = hmac.compare_digest

    def counting(left: bytes, right: bytes) -> bool:
        compared.append(right)
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for token in ("0", "19", "none of them"):
        compared.clear()
        tokens.admits(f"Bearer {token}")
        assert len(compared) == 20
