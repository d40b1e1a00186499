"""A real S3 server behind a proxy that fails: nothing acknowledged is lost."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from collector.recording import tasks
from collector.recording.refusals import Refused
from collector.recording.vault import Vault
from collector.recording.verification import verify
from collector.testing import canaries, scan
from tests.recording.vaults import (
    RECORDING,
    add,
    content,
    create,
    destroy,
    erase,
    finish,
    loop,
    opened,
    pending,
    queued,
    run,
)
from tests.support.deadline import wait_until
from tests.support.s3 import Proxy

pytestmark = pytest.mark.recordings

_MODES = ("away", "slow", "full", "500", "cut")
_SIZE = 800_000
"""Of a chunk that is larger than what a connection carries before it is cut, and that takes longer
than a request may where the bucket is slow."""
_HASTY = "10s"


@pytest.fixture(autouse=True)
def _retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that fails is asked again soon, and carries out nothing late."""
    values = {"_PAUSE_SECONDS": 0.05, "_LONGEST_PAUSE_SECONDS": 0.2}
    for name, value in values.items():
        monkeypatch.setattr(tasks, name, value)
    monkeypatch.setattr("collector.buckets._RETRIES", 0)
    _carry_out_within(monkeypatch, 0.0)


def _carry_out_within(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have a bucket carry out a request without an answer up to so many seconds later."""
    monkeypatch.setattr("collector.recording.vault._UNANSWERED_SECONDS", seconds)


def _options(port: int, timeout: str = "60s") -> dict[str, Any]:
    options = {
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "aws_region": "us-east-1",
        "endpoint": f"http://127.0.0.1:{port}",
        "allow_http": "true",
        "timeout": timeout,
    }
    return {"bucket": f"s3://recordings/{port}", "options": options}


def _store(s3: int) -> S3Store:
    return S3Store(
        "recordings",
        config={
            "aws_access_key_id": "key",
            "aws_secret_access_key": "secret",
            "aws_region": "us-east-1",
            "endpoint": f"http://127.0.0.1:{s3}",
        },  # type: ignore[arg-type]
        client_options={"allow_http": True},
    )


def _names(s3: int, port: int) -> list[str]:
    """The objects in the bucket below a vault's prefix."""
    return [str(each["path"]) for page in obstore.list(_store(s3), f"{port}/") for each in page]


def _objects(s3: int, port: int) -> dict[str, bytes]:
    """Everything in the bucket below a vault's prefix."""
    store = _store(s3)
    return {name: bytes(obstore.get(store, name).bytes()) for name in _names(s3, port)}


def _read(vault: Vault, track: str = "cam") -> bytes:
    return b"".join(vault.read(RECORDING, track))


@pytest.mark.parametrize("mode", _MODES)
def test_a_failing_bucket_loses_nothing(tmp_path: Path, s3: int, proxy: Proxy, mode: str) -> None:
    """Chunks are acknowledged and read while it fails; once it answers, all of them are there."""
    options = _options(proxy.port, timeout=_HASTY) if mode == "slow" else _options(proxy.port)
    with opened(tmp_path, **options) as vault:
        create(vault)
        add(vault, "cam", range(3), size=_SIZE)
        wait_until(lambda: queued(vault) == 0)
        proxy.mode = mode
        add(vault, "cam", range(3, 9), size=_SIZE)
        wait_until(lambda: loop(vault).is_failing)
        assert loop(vault).bucket_errors > 0
        size, files = vault.store.queued()
        assert files > 0
        assert size > _SIZE * files
        assert (
            b"".join(vault.read(RECORDING, "cam", 4 * _SIZE))
            == b"".join(content("cam", number, _SIZE) for number in range(9))[4 * _SIZE :]
        )
        proxy.mode = ""
        wait_until(lambda: queued(vault) == 0)
        wait_until(lambda: not loop(vault).is_failing)
        wait_until(lambda: not list(tmp_path.rglob("*.age")))
    with opened(tmp_path, **_options(proxy.port)) as vault:
        assert len(_objects(s3, proxy.port)) == 9
        expected = b"".join(content("cam", number, _SIZE) for number in range(9))
        assert _read(vault) == expected
        assert verify(vault, RECORDING) == []


def test_reading_from_a_failing_bucket_is_refused(tmp_path: Path, proxy: Proxy) -> None:
    """It says to try again; it is not taken for a missing chunk."""
    with opened(tmp_path, **_options(proxy.port)) as vault:
        create(vault)
        add(vault)
        wait_until(lambda: not list(tmp_path.rglob("*.age")))
        for mode in ("away", "500"):
            proxy.mode = mode
            with pytest.raises(Refused, match="unavailable"):
                _read(vault)
            with pytest.raises(Refused, match="unavailable"):
                verify(vault, RECORDING)
        proxy.mode = ""
        assert verify(vault, RECORDING) == []


def test_an_erasure_waits_for_the_bucket(
    tmp_path: Path, s3: int, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are gone at once; objects are when it answers, also after a restart."""
    options = _options(proxy.port)
    _carry_out_within(monkeypatch, 5)  # a new server may be late with an upload
    with opened(tmp_path, **options) as vault:
        create(vault)
        add(vault)
        add(vault, "mix", owner="mixed")
        wait_until(lambda: queued(vault) == 0)
        proxy.mode = "away"
        destroy(vault, "mix")
        with pytest.raises(Refused, match="left"):
            _read(vault, "mix")
    with opened(tmp_path, **options) as vault:
        assert len(_objects(s3, proxy.port)) == 6
        proxy.mode = ""
        wait_until(lambda: not pending(vault))
        assert len(_objects(s3, proxy.port)) == 3
        assert verify(vault, RECORDING) == []
        erase(vault)
        wait_until(lambda: not pending(vault))
        assert _objects(s3, proxy.port) == {}
        assert verify(vault, RECORDING) == []


def test_a_bucket_that_keeps_what_it_says_is_deleted(tmp_path: Path, s3: int, proxy: Proxy) -> None:
    """An erasure ends when a listing shows nothing of it, and not before."""
    with opened(tmp_path, **_options(proxy.port)) as vault:
        create(vault)
        add(vault)
        wait_until(lambda: queued(vault) == 0)
        proxy.mode = "keeps"
        erase(vault)
        wait_until(lambda: loop(vault).bucket_errors > 1)
        assert len(pending(vault)) == 1
        assert len(_objects(s3, proxy.port)) == 3
        proxy.mode = ""
        wait_until(lambda: not pending(vault))
        assert _objects(s3, proxy.port) == {}


def test_what_a_bucket_carries_out_late_is_removed_again(
    tmp_path: Path, s3: int, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload without an answer is made again, and an object comes back after its erasure."""
    _carry_out_within(monkeypatch, 20)
    with opened(tmp_path, **_options(proxy.port)) as vault:
        create(vault)
        proxy.mode = "late"
        add(vault, numbers=range(1))
        wait_until(lambda: proxy.held)
        proxy.mode = ""
        wait_until(lambda: queued(vault) == 0)
        erase(vault)
        wait_until(lambda: [each.what for each in pending(vault)] == ["again"])
        assert _names(s3, proxy.port) == []
        proxy.release.set()
        wait_until(lambda: _names(s3, proxy.port))
        wait_until(lambda: not pending(vault))
        assert _objects(s3, proxy.port) == {}


def test_an_erasure_that_the_bucket_carried_out_holds(
    tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = _options(proxy.port)
    _carry_out_within(monkeypatch, 3600)
    for _ in range(2):
        with opened(tmp_path, **options) as vault:
            if vault.store.find(RECORDING) is None:
                create(vault)
                add(vault)
                wait_until(lambda: queued(vault) == 0)
                erase(vault)
            wait_until(lambda: [e.what for e in pending(vault)] == ["again"])
            assert verify(vault, RECORDING) == []


def test_a_slow_bucket_does_not_hold_up_the_end(tmp_path: Path, proxy: Proxy) -> None:
    """Closing does not wait for an upload; it is made again at the next start."""
    options = _options(proxy.port)
    with opened(tmp_path, **options) as vault:
        create(vault)
        proxy.mode = "slow"
        add(vault, size=4_000_000)
        wait_until(lambda: proxy.slowed)
        uploading = loop(vault)._thread
        assert uploading is not None
    wait_until(lambda: not uploading.is_alive(), 30)  # the upload would take more than a minute
    proxy.mode = ""
    with opened(tmp_path, **options) as vault:
        wait_until(lambda: queued(vault) == 0)
        assert verify(vault, RECORDING) == []


def test_no_plaintext_in_the_bucket(tmp_path: Path, s3: int, proxy: Proxy) -> None:
    text, track = canaries(2)
    with opened(tmp_path / "vault", **_options(proxy.port)) as vault:
        create(vault)
        for number in range(3):
            data = text.encode() * 2000
            vault.add(RECORDING, track, number, data, owner_mark="owner", kind="chat")
        run(vault)
        wait_until(lambda: queued(vault) == 0)
        wait_until(lambda: not list(tmp_path.rglob("*.age")))  # else one may go while it is read
        assert list(scan([tmp_path], (text,))) == []
        (secret,) = vault.keys.database.rows("SELECT identity FROM tracks")[0]
        copy = tmp_path / "copy"
        for name, sealed in _objects(s3, proxy.port).items():
            path = copy / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sealed)
            assert secret not in sealed
        assert len(list(copy.rglob("*.age"))) == 3
        assert list(scan([copy], (text, track))) == []


def test_memory_is_bounded_while_the_bucket_is_slow(tmp_path: Path, proxy: Proxy) -> None:
    """128 MB wait on disk, and not in memory."""
    proxy.mode = "slow"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with opened(tmp_path, **_options(proxy.port, timeout=_HASTY)) as vault:
        create(vault)
        for number in range(32):
            data = os.urandom(4 << 20)
            vault.add(RECORDING, "cam", number, data, owner_mark="owner", kind="video")
        run(vault)
        wait_until(lambda: loop(vault).bucket_errors > 0)
        assert vault.store.queued()[0] > 100 << 20
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 80 << 20


def test_the_bucket_changes_under_the_vault(tmp_path: Path, s3: int, proxy: Proxy) -> None:
    """Objects that are removed, replaced or added in the bucket are found."""
    with opened(tmp_path, **_options(proxy.port)) as vault:
        create(vault)
        add(vault)
        finish(vault)
        wait_until(lambda: not list(tmp_path.rglob("*.age")))
        store = vault.bucket._store  # type: ignore[union-attr]
        names = sorted(name.partition("/")[2] for name in _objects(s3, proxy.port))
        whole = {name: bytes(obstore.get(store, name).bytes()) for name in names}
        obstore.put(store, names[0], whole[names[1]])
        assert len(verify(vault, RECORDING)) == 1
        obstore.delete(store, names[0])
        assert any("is missing" in fault for fault in verify(vault, RECORDING))
        obstore.put(store, names[0], whole[names[0]])
        obstore.put(store, names[0].replace("0.age", "7.age"), whole[names[0]])
        assert any("does not name" in fault for fault in verify(vault, RECORDING))
