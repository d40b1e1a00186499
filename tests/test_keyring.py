"""Keys of pseudonyms: one per reference and period, out of a secret that nothing gives away."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from threading import Barrier

import pytest

from collector import ConfigError, Filter, Keyring, load_schema
from tests.support.deadline import WAIT_SECONDS
from tests.support.raising import raises

SECRET = "a-secret-of-the-operator"
REFERENCE = "env:COLLECTOR_TEST_KEY"
OTHER = "env:COLLECTOR_TEST_OTHER_KEY"
_DAY = date(2026, 6, 1)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTOR_TEST_KEY", SECRET)
    monkeypatch.setenv("COLLECTOR_TEST_OTHER_KEY", SECRET)


def test_a_key_is_stable_within_its_period() -> None:
    """The same reference and period give the same 32 bytes again."""
    keyring = Keyring()
    key = keyring(REFERENCE, 7)
    assert len(key) == 32
    assert [keyring(REFERENCE, 7) for _ in range(3)] == [key] * 3


def test_keys_differ() -> None:
    keyring, another = Keyring(), Keyring()
    keys = [
        keyring(REFERENCE, 7),
        keyring(OTHER, 7),
        keyring(REFERENCE, 8),
        keyring(REFERENCE, 9),
        another(REFERENCE, 7),
        another(REFERENCE, 8),
    ]
    assert len(set(keys)) == len(keys)


def test_old_keys_are_gone() -> None:
    """When a period ends its key is nowhere any more, and asking for it again gives another."""
    keyring = Keyring()
    first, kept = keyring(REFERENCE, 7), keyring(OTHER, 7)
    for period in range(8, 20):
        keyring(REFERENCE, period)
        assert repr(keyring) == "<Keyring of 2>"
    assert first not in keyring._keys.values()
    assert keyring(REFERENCE, 7) != first
    assert keyring(OTHER, 7) == kept


def test_two_periods_share_nothing() -> None:
    """A later key does not follow from the one before it: random bytes go into each."""
    one = Keyring()
    one(REFERENCE, 7)
    same: Keyring = pickle.loads(pickle.dumps(one))
    assert one(REFERENCE, 7) == same(REFERENCE, 7), "workers of one period share the key"
    assert one(REFERENCE, 8) != same(REFERENCE, 8)


def test_the_secret_is_not_kept() -> None:
    """A keyring holds no secret, and needs none for a period after the first."""
    keyring = Keyring()
    keyring(REFERENCE, 7)
    assert SECRET.encode() not in pickle.dumps(keyring)
    del os.environ["COLLECTOR_TEST_KEY"]
    assert len(keyring(REFERENCE, 8)) == 32


def test_secret_in_a_file(tmp_path: Path) -> None:
    """A file is read without the blanks around its text: an editor's newline is harmless."""
    path = tmp_path / "key"
    path.write_bytes(b" " + SECRET.encode() + b"\r\n")
    assert len(Keyring()(f"file:{path}", 7)) == 32


SHORT = "short-secret-15"
BAD_VALUES = {
    "missing": None,
    "empty": "",
    "short": SHORT,
    "long": SECRET + "x" * 4096,
}


@pytest.fixture(params=["env", "file"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("fault", BAD_VALUES)
def test_no_secret(
    fault: str, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing, short or long secret is E202, which tells neither it nor its place."""
    value = BAD_VALUES[fault]
    if scheme == "env":
        place = "COLLECTOR_TEST_PLACE"
        monkeypatch.delenv(place, raising=False)
        if value is not None:
            monkeypatch.setenv(place, value)
    else:
        place = str(tmp_path / "place-of-the-key")
        if value is not None:
            Path(place).write_text(value, encoding="utf-8")
    check_refusal(f"{scheme}:{place}", (place, *([value] if value else [])))


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "env:",
        "env",
        "file:",
        "file:.",
        "file:/",
        "file:\0",
        "env:\0",
        "env:\ud800",
        "file:\ud800",
        "file:" + "x" * 100_000,
        "https://example.org/key",
        "ENV:COLLECTOR_TEST_KEY",
        "/dev/zero",
        "file:/dev/zero",
        "file:/dev/null",
        SECRET,
    ],
    ids=ascii,
)
def test_no_reference(reference: str) -> None:
    """What is no reference to a readable place is E202 as well, whatever it is."""
    check_refusal(reference, (reference,) if len(reference) > 8 else ())


@pytest.mark.parametrize("size", [16, 4096])
def test_sizes(size: int, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 and 4096 bytes are a secret, counted in bytes and not in characters."""
    for text, good in (("x" * size, True), ("é" * (size // 2), True), ("é" * 7 + "x", False)):
        (tmp_path / "key").write_text(text, encoding="utf-8")
        monkeypatch.setenv("COLLECTOR_TEST_PLACE", text)
        reference = "env:COLLECTOR_TEST_PLACE" if scheme == "env" else f"file:{tmp_path / 'key'}"
        if good:
            assert len(Keyring()(reference, 7)) == 32
        else:
            check_refusal(reference, (text,))


def check_refusal(reference: str, secrets: tuple[str, ...]) -> None:
    """E202, and no secret in it: message, context, or the variables of our frames."""
    with pytest.raises(ConfigError) as caught:
        Keyring()(reference, 7)
    error = caught.value
    assert (error.code, error.__context__, error.__cause__) == ("E202", None, None)
    for text in told(error):
        for secret in secrets:
            assert secret not in text


def told(error: BaseException) -> Iterator[str]:
    """All that an error report could show. The reference itself is the schema author's."""
    yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals["__name__"].startswith("collector"):
            yield from (
                repr(value)
                for name, value in frame.f_locals.items()
                if name not in ("reference", "scheme", "place")
            )


def test_repr() -> None:
    """A keyring shows how many keys it holds, never one of them."""
    keyring = Keyring()
    key = keyring(REFERENCE, 7)
    assert repr(keyring) == str(keyring) == "<Keyring of 1>"
    assert key.hex() not in repr(keyring)


def test_threads() -> None:
    """Threads that begin a period at once all get its one key."""
    keyring = Keyring()
    for period in range(200):
        barrier = Barrier(4)

        def ask(period: int = period, barrier: Barrier = barrier) -> bytes:
            barrier.wait(WAIT_SECONDS)
            return keyring(REFERENCE, period)

        with ThreadPoolExecutor(4) as pool:
            keys = [future.result(WAIT_SECONDS) for future in [pool.submit(ask) for _ in range(4)]]
        assert len(set(keys)) == 1
        assert repr(keyring) == "<Keyring of 1>"


PSEUDONYM = """\
schema: pseudonyms
version: 1.0.0
title: One pseudonym
owner: tests
purposes:
  ops: {use: essential.service.operations, basis: contract, reason: Run the service}
fields:
  os.type: {kind: enum, values: [linux], category: user.device, purposes: [ops], retention: 1d,
    reason: Run the service}
  device.id: {kind: pseudonym, key: "env:COLLECTOR_TEST_KEY", rotate: 1d, category: user.device,
    purposes: [ops], retention: 1d, reason: Run the service}
"""


@pytest.fixture
def pseudonyms(tmp_path: Path) -> Path:
    path = tmp_path / "pseudonyms.yaml"
    path.write_text(PSEUDONYM, encoding="utf-8")
    return path


def test_a_filter_asks_before_the_first_event(
    pseudonyms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter without keys, or whose secret is missing, is not made at all; one whose secret goes
    away later works on."""
    schema = load_schema(pseudonyms)
    with raises("E202", ConfigError):
        Filter(schema)
    filter_ = Filter(schema, keys=Keyring())
    monkeypatch.delenv("COLLECTOR_TEST_KEY")
    with raises("E202", ConfigError):
        Filter(schema, keys=Keyring())
    assert filter_.admit({"device.id": "canary"}).tally.admitted == 1
    Filter(schema, keys=Keyring(), purposes=[]).admit({"device.id": "canary"})


def test_pseudonyms_of_two_filters(pseudonyms: Path) -> None:
    """Filters with one keyring agree within a period, filters with two never do."""
    schema, keyring = load_schema(pseudonyms), Keyring()
    made = [
        Filter(schema, keys=keys, as_of=_DAY).admit({"device.id": "canary"}).records[0]["device.id"]
        for keys in (keyring, keyring, Keyring())
    ]
    assert made[0] == made[1] != made[2]
