"""The key: made once, its owner's only, passed on, and without what it needs nothing fails."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from collector.errors import ConfigError
from collector.ledger import Note, opened
from collector.ledger.signing import KEY_NAME, Key, create_next_key, load_key, signature_check
from collector.spool import Spool, note, rotate
from tests.support.deadline import WAIT_SECONDS
from tests.support.ledgers import check_ledger
from tests.support.make_batches import entry
from tests.support.programs import script

READ = Note.of("read", command="store query", rows=3)


def test_it_is_made_once_and_private(tmp_path: Path) -> None:
    key = load_key(tmp_path, None)
    assert key is not None
    path = tmp_path / KEY_NAME
    path.chmod(0o644)
    again = load_key(tmp_path, key.public)
    assert again is not None
    assert again.public == key.public
    assert [stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()] == [0o600]
    assert key.public not in repr(key)


def test_a_signature_holds(tmp_path: Path) -> None:
    key, holds = load_key(tmp_path, None), signature_check()
    assert key is not None
    assert holds is not None
    signature = key.sign(b"text")
    assert holds(key.public, b"text", signature)
    for public, text, signed in [
        (key.public, b"Text", signature),
        (create_next_key(tmp_path).public, b"text", signature),
        (key.public, b"text", bytes(64)),
        (key.public, b"text", b""),
        ("00", b"text", signature),
        ("canary", b"text", signature),
    ]:
        assert not holds(public, text, signed)


@pytest.mark.parametrize("content", [b"", b"canary", b"-----BEGIN PRIVATE KEY-----\ncanary\n"])
def test_a_file_that_is_no_key(tmp_path: Path, content: bytes) -> None:
    """Nothing is signed, the file stays, and nothing of it is in an error."""
    (tmp_path / KEY_NAME).write_bytes(content)
    assert load_key(tmp_path, None) is None
    with pytest.raises(ValueError, match="no Ed25519 key") as caught:
        Key(content)
    assert caught.value.__context__ is None
    note(tmp_path, READ)
    assert (tmp_path / KEY_NAME).read_bytes() == content
    found = check_ledger(tmp_path / "spool.db")
    assert (found.entries, found.signed) == (1, 0)


def test_a_pipe_is_no_key(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / KEY_NAME)
    assert load_key(tmp_path, None) is None


def test_a_key_is_passed_on(tmp_path: Path) -> None:
    """The old one signs the new one, whether a sidecar runs or not; what comes after is under the
    new one."""
    note(tmp_path, READ)
    first = load_key(tmp_path, None)
    second = rotate(tmp_path)
    with Spool(tmp_path / "spool.db") as spool:
        spool.note(READ).result(WAIT_SECONDS)
        third = rotate(tmp_path)
        spool.note(READ).result(WAIT_SECONDS)
    with opened(tmp_path / "spool.db") as ledger:
        found, entries = ledger.verify(), list(ledger.entries())
    assert first is not None
    assert found.flaws == []
    assert [each.public for each in found.keys] == [first.public, second, third]
    assert all(each.is_vouched for each in found.keys)
    assert [each.key for each in entries] == [*[first.public] * 3, *[second] * 2, third]
    assert [path.name for path in tmp_path.glob("ledger*")] == [KEY_NAME]


def test_a_rotation_that_was_cut_short(tmp_path: Path) -> None:
    old = load_key(tmp_path, None)
    new = create_next_key(tmp_path)
    assert old is not None
    kept, taken = load_key(tmp_path, old.public), load_key(tmp_path, new.public)
    assert kept is not None
    assert taken is not None
    assert (kept.public, taken.public) == (old.public, new.public)
    next_one = create_next_key(tmp_path)
    again = load_key(tmp_path, new.public)
    assert again is not None
    assert again.public == new.public, "a late process does not create another one"
    last = load_key(tmp_path, next_one.public)
    assert last is not None
    assert last.public == next_one.public


def test_a_key_that_was_lost(tmp_path: Path) -> None:
    """The next one is signed by no earlier key, and the ledger shows that."""
    note(tmp_path, READ)
    (tmp_path / KEY_NAME).unlink()
    note(tmp_path, READ)
    found = check_ledger(tmp_path / "spool.db")
    assert [each.is_vouched for each in found.keys] == [True, False]


_WITHOUT = """
import sys
from pathlib import Path
sys.modules["cryptography"] = None
from collector.errors import ConfigError
from collector.ledger import Note, opened
from collector.spool import note, rotate
path = Path(sys.argv[1])
note(path, Note.of("read", command="store query", rows=3))
with opened(path / "spool.db") as ledger:
    found = ledger.verify()
print(found.flaws, found.entries, found.signed, found.is_checked)
try:
    rotate(path)
except ConfigError as error:
    print(error)
"""


def test_without_the_extra(tmp_path: Path) -> None:
    """Entries are not signed, signatures that are there are not checked, and the rest works."""
    note(tmp_path, READ)
    told = script(_WITHOUT, tmp_path).stdout.splitlines()
    assert told[0] == "[] 3 2 False"
    assert "data-minimisation-collector[signing]" in told[1]
    assert "[E201]" in told[1]
    found = check_ledger(tmp_path / "spool.db")
    assert (found.is_checked, found.signed_up_to) == (True, 2)


def test_a_full_disk_costs_no_batch(tmp_path: Path) -> None:
    """A key that cannot be made leaves entries unsigned, and what is received is kept."""
    with Spool(tmp_path / "spool.db") as spool:
        (tmp_path / f"{KEY_NAME}.part").mkdir()
        spool.put(entry(1))
        spool.note(READ).result(WAIT_SECONDS)
        assert spool.state().batches == 1
        (tmp_path / f"{KEY_NAME}.part").rmdir()
        spool.note(READ).result(WAIT_SECONDS)
    with opened(tmp_path / "spool.db") as ledger:
        assert [bool(each.key) for each in ledger.entries()] == [False, True, True]


def test_nowhere_to_rotate(tmp_path: Path) -> None:
    """E203 where there is no directory to be."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="E203"):
        rotate(tmp_path / "file")
