"""The vault: what is acknowledged is there, what is erased is not, and every change is found."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pyrage
import pytest

from collector.errors import ConfigError, InputError, InUse
from collector.recording.manifest import check_manifest
from collector.recording.names import chunk_key
from collector.recording.refusals import Refused
from collector.recording.store import Store
from collector.recording.vault import Added, Vault, opened_to_read
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
    manifest,
    opened,
    run,
)
from tests.support.ledgers import entries_of
from tests.support.programs import threads
from tests.support.rows import for_each

OTHER = "f" * 32


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault with a cloud recording of two tracks."""
    with opened(tmp_path / "vault") as made:
        create(made)
        add(made, "cam", range(5))
        add(made, "mix", range(2), owner="mixed", kind="audio")
        yield made


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Vault]:
    """A vault in ``tmp_path`` with a cloud recording of one track."""
    with opened(tmp_path) as made:
        create(made)
        add(made)
        yield made


def _read(vault: Vault, track: str = "cam", *place: int | None) -> bytes:
    return b"".join(vault.read(RECORDING, track, *place))  # type: ignore[arg-type]


def _whole(track: str = "cam", numbers: range = range(5)) -> bytes:
    return b"".join(content(track, number) for number in numbers)


def _refusal(call: Callable[[], object]) -> str:
    with pytest.raises(Refused) as found:
        call()
    return found.value.code


# -- chunks -------------------------------------------------------------------------------------


def test_what_was_added_is_read(vault: Vault) -> None:
    assert _read(vault) == _whole()
    assert _read(vault, "mix") == _whole("mix", range(2))
    chances, whole = Random(7), _whole()
    for _ in range(100):
        start, end = chances.randrange(len(whole) + 9), chances.randrange(len(whole) + 9)
        assert _read(vault, "cam", start, end) == whole[start:end]
        assert _read(vault, "cam", start) == whole[start:]
    found = {
        track.name: (track.kind, track.chunks, track.size) for track in vault.tracks(RECORDING)
    }
    assert found == {
        "cam": ("video", 5, len(whole)),
        "mix": ("audio", 2, len(_whole("mix", range(2)))),
    }


def test_a_repetition_changes_nothing(vault: Vault) -> None:
    lines = manifest(vault).count(b"\n")
    again = vault.add(RECORDING, "cam", 2, content("cam", 2), owner_mark="owner", kind="video")
    assert again == Added(5, is_new=False)
    assert manifest(vault).count(b"\n") == lines


def test_chunks_come_in_order_and_once(vault: Vault) -> None:
    """Other content, a gap, another owner or kind, and too many bytes are refused by code."""

    def add_one(
        number: int,
        data: bytes = b"x",
        owner: str = "owner",
        kind: Any = "video",
        track: str = "cam",
    ) -> Callable[[], object]:
        return lambda: vault.add(RECORDING, track, number, data, owner_mark=owner, kind=kind)

    with pytest.raises(Refused) as found:
        add_one(7)()
    assert (found.value.code, found.value.next) == ("next", 5)
    assert _refusal(add_one(1, track="new")) == "next"
    assert _refusal(add_one(2)) == "conflict"
    assert _refusal(add_one(5, owner="another")) == "owner"
    assert _refusal(add_one(5, kind="audio")) == "kind"
    assert _refusal(add_one(5, bytes((4 << 20) + 1))) == "too_large"
    assert _refusal(add_one(5, b"")) == "malformed"
    assert _refusal(add_one(5, track="../cam")) == "malformed"
    assert _refusal(add_one(-1)) == "malformed"
    assert _read(vault) == _whole()
    assert verify(vault, RECORDING) == []
    assert add_one(5, bytes(4 << 20))() == Added(6, is_new=True)


def test_a_finished_recording_takes_no_chunk(vault: Vault) -> None:
    """Repetitions are still answered, so that a sender whose answer was lost learns of it."""
    finish(vault)
    assert _refusal(lambda: add(vault, "cam", range(5, 6))) == "closed"
    assert _refusal(lambda: add(vault, "new", range(1))) == "closed"
    add(vault, "cam", range(4, 5))
    assert check_manifest(manifest(vault))[0] == []


def test_unknown_recordings_and_tracks(vault: Vault) -> None:
    for call in (
        lambda: add(vault, recording=OTHER),
        lambda: vault.tracks(OTHER),
        lambda: manifest(vault, OTHER),
        lambda: vault.checkpoint(OTHER),
        lambda: vault.read(RECORDING, "none"),
        lambda: vault.ciphertext(RECORDING, "cam", 9),
    ):
        assert _refusal(call) == "not_found"
    assert verify(vault, OTHER) == ["the recording is not in the vault"]


def test_recordings_of_several_threads_do_not_mix(tmp_path: Path) -> None:
    with opened(tmp_path) as vault:
        recordings = [f"{number:032x}" for number in range(8)]
        for recording in recordings:
            create(vault, recording)
        with threads(*(partial(add, vault, each[-5:], recording=each) for each in recordings)):
            pass
        for recording in recordings:
            found = b"".join(vault.read(recording, recording[-5:]))
            assert found == _whole(recording[-5:], range(3))
            assert verify(vault, recording) == []


def test_a_recipient_is_one_of_age(tmp_path: Path) -> None:
    with opened(tmp_path) as vault:
        assert _refusal(lambda: vault.prepare(RECORDING, "age1")) == "terms"
        assert not vault.keys.has(RECORDING)


def test_a_local_recording_is_sealed_for_its_host_only(tmp_path: Path) -> None:
    """The vault hands out age files, and has nothing that opens them."""
    host = pyrage.x25519.Identity.generate()
    with opened(tmp_path) as vault:
        create(vault, recipient=str(host.to_public()))
        add(vault)
        assert _refusal(lambda: vault.read(RECORDING, "cam")) == "forbidden"
        for number in range(3):
            sealed = vault.ciphertext(RECORDING, "cam", number)
            assert pyrage.decrypt(sealed, [host]) == content("cam", number)
        assert vault.keys.database.rows("SELECT identity FROM tracks") == [(None,)]
        assert verify(vault, RECORDING) == []


def test_one_process_at_a_time(small: Vault, tmp_path: Path) -> None:
    with pytest.raises(InUse):
        Store(tmp_path)
    with opened_to_read(tmp_path) as reader:
        assert verify(reader, RECORDING) == []
        assert b"".join(reader.read(RECORDING, "cam")) == _whole(numbers=range(3))


def test_a_rotation_beside_a_reader(small: Vault, tmp_path: Path) -> None:
    """A reader that was there before sees nothing changed, and reads on."""
    with opened_to_read(tmp_path) as reader:
        content_ = reader.read(RECORDING, "cam")
        first = next(content_)
        small.keys.rotate()
        assert verify(reader, RECORDING) == []
        small.keys.rotate()
        assert first + b"".join(content_) == _whole(numbers=range(3))


def test_chunks_whose_lines_find_no_room_leave_no_file(tmp_path: Path) -> None:
    """The same chunks are taken when the database has room again."""
    with opened(tmp_path) as vault:
        create(vault)
        db = vault.store.database._db
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
        tracks = ("cam", "mix", "chat")
        for track in tracks:
            assert _refusal(partial(add, vault, track, range(1000), size=10)) == "full"
        added = dict.fromkeys(tracks, 0) | {t.name: t.chunks for t in vault.tracks(RECORDING)}
        files = [path for path in tmp_path.rglob("*.age") if path.is_file()]
        assert len(files) == sum(added.values())
        assert verify(vault, RECORDING) == []
        db.execute("PRAGMA max_page_count = 1000000")
        for track, number in added.items():
            add(vault, track, range(number, number + 1), size=10)
        assert verify(vault, RECORDING) == []


def test_a_file_without_a_line_is_removed_at_the_end(tmp_path: Path) -> None:
    """A crash may leave one; it is looked for once, when its recording is finished."""
    with opened(tmp_path) as vault:
        create(vault)
        add(vault)
        stray = next(tmp_path.rglob("2.age")).with_name("3.age")
        failing = patch.object(vault.store, "commit", side_effect=MemoryError)
        with failing, pytest.raises(MemoryError):
            add(vault, numbers=range(3, 4))
        assert stray.exists()
    with opened(tmp_path) as vault:
        run(vault)
        assert stray.exists()
        with patch.object(vault.files, "remove", side_effect=OSError):
            finish(vault)
        assert stray.exists()
        loop(vault).carry_out(RECORDING, "sweep")
        assert not stray.exists()
        assert verify(vault, RECORDING) == []
        assert vault.store.tasks(RECORDING, "sweep") == []


def test_directories_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "recorder.db").write_text("no database, but long enough to be looked at" * 99)
    with pytest.raises(ConfigError, match="E203"):
        Store(tmp_path)
    (tmp_path / "recorder.db").unlink()
    Store(tmp_path).close()  # which is not locked any more


def test_no_plaintext_on_disk(tmp_path: Path) -> None:
    """No byte of any file shows content, or the name of a destroyed track."""
    content_, name = canaries(2)
    with opened(tmp_path / "vault") as vault:
        create(vault)
        for number in range(3):
            data = content_.encode() * 3000
            vault.add(RECORDING, name, number, data, owner_mark="owner", kind="chat")
        with (tmp_path / "vault" / "recorder.db-wal").open("rb") as log:
            assert log.read(1)
        assert list(scan([tmp_path], (content_,))) == []
        destroy(vault, name)
        assert list(scan([tmp_path], (content_, name))) == []


def test_a_long_recording_costs_no_more(vault: Vault) -> None:
    """The steps that SQLite takes for a chunk grow with the depth of its trees, not with lines."""
    db, done = vault.store.database._reader, list[int]()

    def count(call: Callable[[], object]) -> int:
        done.clear()
        db.set_progress_handler(lambda: done.append(1), 1)
        call()
        db.set_progress_handler(None, 0)
        return len(done)

    key = vault.keys.find(RECORDING, "cam")
    assert key is not None
    place = (RECORDING, key.object)

    def figures() -> list[int]:
        calls: list[Callable[[], object]] = [
            lambda: vault.store.last(*place),
            lambda: vault.store.chunk(*place, 3),
            lambda: vault.store.is_living(*place),
        ]
        return [count(call) for call in calls]

    short = figures()
    add(vault, "cam", range(5, 105), size=10)
    assert all(long < 2 * steps for long, steps in zip(figures(), short, strict=True))


# -- disks and queues ---------------------------------------------------------------------------


def test_a_full_disk_refuses_and_loses_nothing(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails leaves no file. The same chunk is taken later."""

    def fail(handle: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr("collector.recording.storage.os.write", fail)
        assert _refusal(lambda: add(vault, "cam", range(5, 6))) == "full"
    assert vault.has_room()
    with monkeypatch.context() as patch:
        patch.setattr("collector.recording.vault._SPARE_BYTES", 1 << 60)
        assert not vault.has_room()
        for track, number in (("cam", 5), ("new", 0)):
            assert _refusal(partial(add, vault, track, range(number, number + 1))) == "full"
    assert verify(vault, RECORDING) == []
    add(vault, "cam", range(5, 6))
    assert _read(vault) == _whole(numbers=range(6))


# -- erasing ------------------------------------------------------------------------------------


def test_a_destroyed_track_cannot_be_read_or_continued(vault: Vault, tmp_path: Path) -> None:
    """The others stay, and the manifest is still valid."""
    reading = vault.read(RECORDING, "cam")
    next(reading)
    destroy(vault, "cam", "none")
    destroy(vault, "cam")
    assert _refusal(lambda: list(reading)) == "left"
    assert _refusal(lambda: vault.read(RECORDING, "cam")) == "left"
    assert _refusal(lambda: vault.ciphertext(RECORDING, "cam", 0)) == "left"
    assert _refusal(lambda: add(vault, "cam", range(1))) == "left"
    assert [track.name for track in vault.tracks(RECORDING)] == ["mix"]
    assert _read(vault, "mix") == _whole("mix", range(2))
    assert len(list((tmp_path / "vault/vault/objects/recordings" / RECORDING).iterdir())) == 1
    finish(vault)
    destroy(vault, "mix")
    assert vault.tracks(RECORDING) == []
    assert verify(vault, RECORDING) == []
    assert check_manifest(manifest(vault))[1] == []


def test_an_erased_recording_leaves_its_id_only(small: Vault, tmp_path: Path) -> None:
    """Every call answers that it was erased; a copy of an age file opens with nothing."""
    checkpoint, sealed = small.checkpoint(RECORDING), small.ciphertext(RECORDING, "cam", 0)
    reading = small.read(RECORDING, "cam")
    next(reading)
    assert RECORDING in small._next
    erase(small)
    assert RECORDING not in small._next  # nor its secret
    assert _refusal(lambda: list(reading)) == "left"
    for call in (add, lambda v: v.tracks(RECORDING), manifest):
        assert _refusal(lambda c=call: c(small)) == "erased"  # type: ignore[misc]
    assert verify(small, RECORDING, checkpoint) == []
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(sealed[:200] in path.read_bytes() for path in files)
    assert not any(path.suffix == ".age" for path in files)
    assert small.store.database.rows("SELECT COUNT(*) FROM lines") == [(0,)]
    assert small.store.database.rows("SELECT COUNT(*) FROM tasks") == [(0,)]


def test_an_erasure_that_is_stopped_goes_on(small: Vault, tmp_path: Path) -> None:
    """Keys are gone first, and the ledger has it before any file is removed; nothing can be read
    meanwhile."""
    for name, step in {
        "append": partial(destroy, small, "cam"),
        "commit": partial(loop(small).carry_out, RECORDING, "erase"),
    }.items():
        with patch.object(small.store, name, side_effect=OSError):
            assert _refusal(step) == "unavailable"
        assert _refusal(lambda: small.read(RECORDING, "cam")) == "left"
        assert list(tmp_path.rglob("*.age"))
    loop(small).carry_out(RECORDING, "erase")
    assert not list(tmp_path.rglob("*.age"))
    assert verify(small, RECORDING) == []
    facts = [each.fact("what") for each in entries_of(tmp_path / "recorder.db", "recording")]
    assert facts == ["withdraw"]


@for_each("begin", [erase, lambda vault: destroy(vault, "cam")])
def test_two_threads_that_erase_note_it_once(
    begin: Callable[[Vault], None], tmp_path: Path
) -> None:
    """The recorder looks for tasks each second, also while a caller waits for one of them."""
    with opened(tmp_path) as vault:
        create(vault)
        add(vault)
        destroy_keys = vault.keys.destroy

        def meanwhile(*tasks: Any) -> bool:
            patched.stop()
            run(vault)
            return destroy_keys(*tasks)

        patched = patch.object(vault.keys, "destroy", side_effect=meanwhile)
        patched.start()
        begin(vault)
        assert not list(tmp_path.rglob("*.age"))
        assert vault.store.database.rows("SELECT COUNT(*) FROM tasks") == [(0,)]
    assert len(entries_of(tmp_path / "recorder.db", "recording")) == 1


def test_a_full_disk_keeps_no_file_of_a_destroyed_track(small: Vault, tmp_path: Path) -> None:
    """If the keys cannot be written anew, that is done later."""
    with patch.object(small.keys.database, "compact", return_value=False):
        destroy(small, "cam")
        assert not list(tmp_path.rglob("*.age"))
        run(small)
    assert [each.what for each in small.store.due(1.0, "compact")] == ["compact"]
    loop(small).carry_out("", "compact")
    assert small.store.due(1.0, "compact") == []


def test_rotation_touches_no_content(vault: Vault, tmp_path: Path) -> None:
    """Objects and manifest stay as they are, and everything opens."""
    before = {path: path.read_bytes() for path in (tmp_path / "vault/vault/objects").rglob("*.age")}
    vault.keys.rotate()
    vault.keys.rotate()
    assert before == {path: path.read_bytes() for path in before}
    assert _read(vault) == _whole()
    assert verify(vault, RECORDING) == []


# -- attacks ------------------------------------------------------------------------------------


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other thread writes here: what is missing is not looked up again later."""
    monkeypatch.setattr("collector.recording.verification._PAUSE", 0.0)


@contextmanager
def _index(vault: Vault) -> Iterator[sqlite3.Connection]:
    """The index, to change it behind the vault's back."""
    with closing(sqlite3.connect(vault.store.database.path)) as db, db:
        yield db


def _change(vault: Vault, statement: str, *values: object) -> None:
    with _index(vault) as db:
        assert db.execute(statement, values).rowcount


def _objects(vault: Vault) -> list[Path]:
    return sorted(vault.files.path("").rglob("*.age"))


@pytest.mark.usefixtures("no_pause")
def test_changed_objects_are_found(vault: Vault) -> None:
    """A flipped bit, a missing, swapped, duplicated or additional object: each by each."""
    for path in _objects(vault):
        whole = path.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            assert any("was changed" in fault for fault in verify(vault, RECORDING))
        path.write_bytes(whole[:-1])
        assert verify(vault, RECORDING)
        path.unlink()
        assert any("is missing" in fault for fault in verify(vault, RECORDING))
        path.write_bytes(whole)
    first, second = _objects(vault)[:2]
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    assert len(verify(vault, RECORDING)) == 2
    second.write_bytes(two)
    assert len(verify(vault, RECORDING)) == 1
    first.write_bytes(one)
    (first.parent / "9.age").write_bytes(one)
    assert any("does not name" in fault for fault in verify(vault, RECORDING))
    (first.parent / "9.age").unlink()
    assert verify(vault, RECORDING) == []


@pytest.mark.usefixtures("no_pause")
def test_a_changed_object_is_not_read(vault: Vault) -> None:
    """An object that is sealed with the right key is refused too: any process that knows the
    recipient can make one."""
    found = vault.keys.find(RECORDING, "cam")
    assert found is not None
    path = vault.files.path(chunk_key(RECORDING, found.object, 1))
    forged = pyrage.encrypt(b"forged", [pyrage.x25519.Recipient.from_str(found.recipient)])
    for sealed in (forged, path.read_bytes()[:-1], b"", None):
        path.unlink() if sealed is None else path.write_bytes(sealed)
        with pytest.raises(InputError, match="E422"):
            _read(vault)
        with pytest.raises(InputError, match="E422"):
            vault.ciphertext(RECORDING, "cam", 1)


def test_a_track_that_is_destroyed_while_a_chunk_is_fetched_is_not_read(vault: Vault) -> None:
    """A bucket may take a minute to answer; consent may be withdrawn meanwhile."""
    fetch = vault.files.read

    def destroyed(key: str) -> bytes | None:
        found = fetch(key)
        destroy(vault, "cam")
        return found

    reader = vault.read(RECORDING, "cam")
    with patch.object(vault.files, "read", destroyed), pytest.raises(Refused, match="left"):
        next(reader)


@pytest.mark.usefixtures("no_pause")
def test_changed_lines_are_found(vault: Vault) -> None:
    """Lines of the index that are cut off, left out, changed, moved or repeated, at every row."""
    finish(vault)
    with _index(vault) as db:
        rows = db.execute("SELECT * FROM lines ORDER BY line").fetchall()
        head = db.execute("SELECT * FROM manifests").fetchone()

    def attempt(other: list[tuple[Any, ...]], lines: int | None = None, **columns: object) -> None:
        with _index(vault) as db:
            db.execute("DELETE FROM lines")
            db.executemany("INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?, ?)", other)
            db.execute("UPDATE manifests SET lines = ?", (head[4] if lines is None else lines,))
            for name, value in columns.items():
                db.execute(f"UPDATE manifests SET {name} = ?", (value,))
        assert verify(vault, RECORDING), (len(other), columns)

    for at in range(len(rows)):
        attempt(rows[:at])
        attempt(rows[:at], at)
        attempt(rows[:at], at, state="open")
        moved = [
            (*row[:1], number, *row[2:]) for number, row in enumerate(rows[:at] + rows[at + 1 :], 1)
        ]
        attempt(moved, len(moved))
        changed = [*rows]
        changed[at] = (*rows[at][:-1], rows[at][-1].replace(b'"line":', b'"line":1', 1))
        attempt(changed)
        if rows[at][4] is not None:  # a chunk: where its content begins
            attempt([*rows[:at], (*rows[at][:4], rows[at][4] + 1, *rows[at][5:]), *rows[at + 1 :]])
    for at in range(2, len(rows) - 2):
        swapped = [*rows]
        swapped[at] = (*rows[at][:-1], rows[at + 1][-1])
        swapped[at + 1] = (*rows[at + 1][:-1], rows[at][-1])
        attempt(swapped)


@pytest.mark.usefixtures("no_pause")
def test_a_rollback_is_found_against_a_checkpoint(tmp_path: Path) -> None:
    """A directory that was put back as a whole, with keys and all, holds in itself; what was kept
    elsewhere shows that it lacks something."""
    with opened(tmp_path / "vault") as vault:
        create(vault)
        add(vault)
    shutil.copytree(tmp_path / "vault", tmp_path / "backup")
    with opened(tmp_path / "vault") as vault:
        add(vault, "cam", range(3, 5))
        checkpoint, whole = vault.checkpoint(RECORDING), manifest(vault)
        assert verify(vault, RECORDING, checkpoint) == []
    with opened(tmp_path / "backup") as vault:
        assert verify(vault, RECORDING) == []
        for noted in (checkpoint, whole):
            assert verify(vault, RECORDING, noted) == [
                "the lines after 4 are missing: the checkpoint names line 6"
            ]
        add(vault, "cam", range(3, 4))
        vault.add(RECORDING, "cam", 4, b"other", owner_mark="owner", kind="video")
        assert verify(vault, RECORDING, checkpoint) == [
            "line 6: is not the one that the checkpoint names: rewritten"
        ]
        assert verify(vault, RECORDING, b"nonsense")


@pytest.mark.usefixtures("no_pause")
def test_swapped_keys_recordings_and_signers_are_found(vault: Vault) -> None:
    create(vault, OTHER)
    add(vault, recording=OTHER)
    finish(vault, OTHER)
    finish(vault)
    with vault.keys.database.transaction() as db:
        db.execute("UPDATE tracks SET recipient = ? WHERE name = 'mix'", ("age1other",))
    assert any("does not open it" in fault for fault in verify(vault, RECORDING))
    _change(vault, "DELETE FROM lines WHERE recording = ?", RECORDING)
    _change(vault, "UPDATE lines SET recording = ?", RECORDING)
    _change(vault, "UPDATE manifests SET lines = 5 WHERE recording = ?", RECORDING)
    assert "line 1: the manifest is of another recording" in verify(vault, RECORDING)
    checkpoint, vault.trusted = vault.checkpoint(OTHER), frozenset({"0" * 64})
    found = verify(vault, OTHER, checkpoint)
    for signed in ("the checkpoint", "the signature"):
        assert f"{signed} is signed with a key that is not the recorder's" in found


@pytest.mark.usefixtures("no_pause")
def test_lost_lines_do_not_lose_their_objects(vault: Vault, tmp_path: Path) -> None:
    """Files that no line names are reported, and not swept away, when the index was put back."""
    add(vault, "cam", range(5, 9))
    _change(vault, "DELETE FROM lines WHERE line > 8")
    _change(vault, "UPDATE manifests SET lines = 8")
    run(vault)
    assert sum("does not name" in fault for fault in verify(vault, RECORDING)) == 4
