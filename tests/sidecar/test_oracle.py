"""Even with the ledger and the exact record, nobody can tell whether the record was received.

Once a batch is delivered, the link between the batch and its receipt is gone. The test compares
everything that was ever known of a batch (records, salt, id, seal) with everything that is left on
the disk.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

import pytest

from collector.ledger import Receipt, opened
from collector.ledger.receipt import SALT_BYTES
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS
from tests.support.delivery import delivered, held, log_is_empty
from tests.support.sidecar import Sidecar, started
from tests.support.unpacked import every_byte

pytestmark = pytest.mark.long

_HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s", "sha3_256")


class Batch(NamedTuple):
    """Everything that is known of a batch while it waits."""

    id: bytes
    salt: bytes
    seal: bytes
    payload: bytes


def _events(number: int) -> Iterator[bytes]:
    """Yield events of one person each, which anybody might guess."""
    for at in range(number):
        event = {"ip": f"2001:db8::7{at:03x}", "os": {"type": "linux", "version": "22.04"}}
        yield json.dumps(event).encode()


def _send(sidecar: Sidecar, data: Path, copy: Path) -> list[Batch]:
    """Send events one by one, hold them back until they are copied, then let them be delivered."""
    with held(data / "store.db"):
        for event in _events(8):
            assert sidecar.send(event, "application/json").json["admitted"] == 1
        copy.mkdir()
        # Not the store: closing one of its files would release this process's locks on it. The log
        # comes first, so that data that moves to the file meanwhile is in both.
        for name in ("spool.db-wal", "spool.db"):
            shutil.copyfile(data / name, copy / name)
    batches = [
        Batch(*row)
        for row in query(copy / "spool.db", "SELECT id, salt, seal, payload FROM batches")
    ]
    assert len(batches) == 8
    delivered(sidecar)
    return batches


def _receipts(data: Path) -> list[Receipt]:
    with opened(data / "spool.db") as ledger:
        return list(ledger.receipts())


def _guesses(batches: list[Batch]) -> Iterator[bytes]:
    """Yield what an attacker with the exact records would try, for some batches."""
    for event, batch in list(zip(_events(8), batches, strict=True))[::3]:
        yield from (batch.payload, batch.payload[:-1], event, event + b"\n")
    yield b"".join(batch.payload for batch in batches)


def _told(data: Path, guesses: list[bytes]) -> int:
    """How many receipts reveal their records to an attacker who tries everything left as a key."""
    commitments = {receipt.commitment for receipt in _receipts(data)} - {None}
    left = b"".join(path.read_bytes() for path in sorted(data.iterdir()) if path.is_file())
    keys = {left[at : at + SALT_BYTES] for at in range(len(left) - SALT_BYTES + 1)} | {b""}
    found = {hmac.digest(key, guess, "sha256") for guess in guesses for key in keys}
    found |= {hashlib.new(name, guess).digest()[:32] for guess in guesses for name in _HASHES}
    return len(found & commitments)


def _left(data: Path, batches: list[Batch]) -> set[str]:
    """What is left of the batches in a file of the spool, and of their salts in any file."""
    spool = every_byte(*data.glob("spool.db*"))
    every = b"".join(path.read_bytes() for path in data.iterdir() if path.is_file())
    left = {name for batch in batches for name in batch._fields if getattr(batch, name) in spool}
    left |= {"a record's bytes" for _ in range(1) if b"2001:db8::7" in spool}
    return left | {"salt" for batch in batches if batch.salt in every or batch.salt[:16] in every}


@pytest.mark.parametrize(("meanwhile", "ending"), [("idle", "stop"), ("busy", "kill")])
def test_a_receipt_does_not_tell_of_what(meanwhile: str, ending: str, tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    environ = {"COLLECTOR__DATA": str(data)}
    with started(tmp_path, environ=environ) as sidecar:
        batches = _send(sidecar, data, copy)
        if meanwhile == "busy":
            _keep_busy(sidecar, lambda: not _left(data, batches))
        else:
            log_is_empty(data)
        assert _left(data, batches) == set()
        sidecar.stop(signal.SIGTERM if ending == "stop" else signal.SIGKILL)
    if ending == "kill":
        with started(tmp_path, environ=environ):
            log_is_empty(data)
            assert _left(data, batches) == set()
    assert _left(copy, batches) >= {"id", "salt", "seal", "payload"}
    assert _left(data, batches) == set()
    exact = [batch.payload for batch in batches]
    assert _told(copy, exact[:2]) == 2
    assert _told(data, exact[:2] if meanwhile == "busy" else list(_guesses(batches))) == 0


def _keep_busy(sidecar: Sidecar, is_over: Callable[[], bool]) -> None:
    """Send something twice a second, so that no second is idle, until ``is_over`` or the time
    limit."""
    until = monotonic() + WAIT_SECONDS
    while not is_over() and monotonic() < until:
        sidecar.send(b'{"os": {"type": "ios"}}', "application/json")
        sleep(0.5)
