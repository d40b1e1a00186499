"""The keys of recordings: wrapped, destroyed, rotated."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread, current_thread

import pytest

from collector.errors import ConfigError
from collector.recording.keys import Keys, read_identity, read_recipient
from collector.recording.refusals import Refused
from tests.recording.vaults import RECORDING
from tests.support.rows import for_each

OTHER = "f" * 32


def test_an_old_master_key_is_overwritten_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are synced away before another file has its name."""
    keys = _made(tmp_path)
    synced = list[bytes]()

    def sync(handle: int) -> None:
        if os.path.samestat(os.fstat(handle), (tmp_path / "master.key").stat()):
            synced.append((tmp_path / "master.key").read_bytes())
        real(handle)

    real = os.fsync
    monkeypatch.setattr(os, "fsync", sync)
    keys.rotate()
    keys.close()
    assert synced == [bytes(65)]


OnStep = Callable[[Callable[[str], None]], None]


@pytest.fixture
def on_step(monkeypatch: pytest.MonkeyPatch) -> OnStep:
    """Have a function called at each step of the rotations that follow: the next master key is
    ``written``, everything is ``wrapped`` under it, and the old one is ``destroyed``."""

    def install(call: Callable[[str], None]) -> None:
        write, wrap, replace = Keys._write, Keys._wrap_all, Path.replace

        def written(keys: Keys, name: str, key: bytes) -> None:
            write(keys, name, key)
            call("written")

        def wrapped(keys: Keys, following: bytes) -> None:
            wrap(keys, following)
            call("wrapped")

        def destroyed(path: Path, target: Path) -> Path:
            call("destroyed")
            return replace(path, target)

        monkeypatch.setattr(Keys, "_write", written)
        monkeypatch.setattr(Keys, "_wrap_all", wrapped)
        monkeypatch.setattr(Path, "replace", destroyed)

    return install


def _made(directory: Path) -> Keys:
    keys = Keys(directory)
    keys.add_recording(RECORDING)
    keys.add_track(RECORDING, "cam", "video", "owner", None)
    return keys


def _bytes(directory: Path) -> bytes:
    """All that is on disk, in files and in what SQLite keeps beside them."""
    return b"".join(path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file())


def _opened(keys: Keys, track: str = "cam") -> str:
    found = keys.find(RECORDING, track)
    assert found is not None
    identity = keys.identity(RECORDING, found.object)
    assert identity is not None
    assert str(identity.to_public()) == found.recipient
    return str(identity)


def test_identities_are_wrapped(tmp_path: Path) -> None:
    keys = _made(tmp_path)
    identity, secret = _opened(keys), keys.secret(RECORDING)
    assert identity.encode() not in _bytes(tmp_path)
    assert secret not in _bytes(tmp_path)
    assert secret.hex().encode() not in _bytes(tmp_path)
    keys.close()
    assert not any(stat.S_IMODE(path.stat().st_mode) & 0o077 for path in tmp_path.iterdir())
    again = Keys(tmp_path)
    assert _opened(again) == identity
    again.close()


def test_wrapped_keys_are_bound_to_their_track(tmp_path: Path) -> None:
    """A key that is copied to another track opens nothing."""
    keys = _made(tmp_path)
    other = keys.add_track(RECORDING, "other", "video", "owner", None)
    with keys.database.transaction() as db:
        db.execute(
            "UPDATE tracks SET identity = (SELECT identity FROM tracks WHERE name = 'cam')"
            " WHERE name = 'other'"
        )
    with pytest.raises(Refused, match="unavailable"):
        keys.identity(RECORDING, other.object)
    keys.close()


def test_a_destroyed_track_leaves_a_mark_only(tmp_path: Path) -> None:
    """Key, name and owner are in no byte of the files any more; the name is still refused."""
    keys = _made(tmp_path)
    for number in range(200):  # so that pages are divided
        keys.add_track(RECORDING, f"track-{number}", "audio", f"owner-{number}", None)
    victims = [f"track-{number}" for number in range(0, 200, 7)]
    found = {name: keys.find(RECORDING, name) for name in victims}
    wrapped = dict(keys.database.rows("SELECT name, identity FROM tracks"))
    keys.destroy(RECORDING, [key.object for key in found.values() if key is not None])
    text = _bytes(tmp_path)
    for name in victims:
        assert wrapped[name] not in text
        after = keys.find(RECORDING, name)
        assert after is not None
        assert after.is_destroyed
        assert keys.identity(RECORDING, after.object) is None
    assert b"track-70" not in text
    assert b"owner-70" not in text
    assert wrapped["track-1"] in text
    assert len(keys.tracks(RECORDING)) == 201 - len(victims)
    keys.close()


def test_an_erased_recording_leaves_nothing(tmp_path: Path) -> None:
    """Its secret and all its tracks go; others stay."""
    keys = _made(tmp_path)
    keys.add_recording(OTHER)
    secret = keys.database.rows("SELECT secret FROM recordings WHERE recording = ?", RECORDING)
    keys.destroy(RECORDING)
    assert secret[0][0] not in _bytes(tmp_path)
    assert RECORDING.encode() not in _bytes(tmp_path)
    assert not keys.has(RECORDING)
    with pytest.raises(Refused, match="erased"):
        keys.secret(RECORDING)
    assert len(keys.secret(OTHER)) == 32
    keys.close()


def test_rotation_ends_what_a_backup_opens(tmp_path: Path) -> None:
    """Everything opens as before; the old wrapping and the old master key are in no file."""
    keys = _made(tmp_path)
    before, old = _opened(keys), (tmp_path / "master.key").read_bytes()
    (wrapped,) = keys.database.rows("SELECT identity FROM tracks")[0]
    keys.rotate()
    keys.compact()
    assert _opened(keys) == before
    assert old.strip() not in _bytes(tmp_path)
    assert wrapped not in _bytes(tmp_path)
    keys.close()
    again = Keys(tmp_path)
    assert _opened(again) == before
    again.close()


@for_each("loss", ["missing", "another"])
def test_keys_without_their_master_key_are_not_opened(tmp_path: Path, loss: str) -> None:
    """The message says so, instead of answers that nothing can be opened."""
    _made(tmp_path).close()
    path = tmp_path / "master.key"
    path.unlink() if loss == "missing" else path.write_text(f"{os.urandom(32).hex()}\n")
    with pytest.raises(ConfigError, match=r"master\.key"):
        Keys(tmp_path)


def test_a_reader_leaves_a_rotation_alone(tmp_path: Path, on_step: OnStep) -> None:
    """The next master key stays, for the process that is rotating."""
    keys = _made(tmp_path)
    before = _opened(keys)
    on_step(lambda step: Keys(tmp_path, is_reader=True).close())
    keys.rotate()
    assert _opened(keys) == before
    keys.close()


def test_rotations_follow_one_another(tmp_path: Path, on_step: OnStep) -> None:
    """The second of two at once begins when the first has ended: the process may die in either."""
    threads, steps = list[Thread](), list[tuple[str, str]]()
    is_second_at_work = Event()

    def follow(step: str) -> None:
        steps.append((current_thread().name, step))
        if current_thread().name == "second":
            is_second_at_work.set()
        elif step == "written":
            threads[1].start()
            assert not is_second_at_work.wait(0.2)  # longer only proves more

    keys = _made(tmp_path)
    before = _opened(keys)
    on_step(follow)
    threads += [Thread(target=keys.rotate, name=name) for name in ("first", "second")]
    threads[0].start()
    for thread in threads:
        thread.join()
    assert [name for name, _ in steps] == ["first"] * 3 + ["second"] * 3
    assert _opened(keys) == before
    keys.close()
    again = Keys(tmp_path)
    assert _opened(again) == before
    again.close()


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_commit_that_fails_leaves_the_key_that_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    """What was there opens, what begins afterwards opens too, also after a restart."""
    keys = _made(tmp_path)
    before = _opened(keys)
    real = keys.database.transaction

    @contextmanager
    def failing() -> Iterator[sqlite3.Connection]:
        with real() as db:
            yield db
            if not is_committed:
                raise Refused("full")
        raise Refused("full")

    with monkeypatch.context() as patched:
        patched.setattr(keys.database, "transaction", failing)
        with pytest.raises(Refused, match="full"):
            keys.rotate()
    keys.add_recording(OTHER)
    secret = keys.secret(OTHER)
    assert _opened(keys) == before
    keys.close()
    again = Keys(tmp_path)
    assert (_opened(again), again.secret(OTHER)) == (before, secret)
    again.rotate()
    assert (_opened(again), again.secret(OTHER)) == (before, secret)
    again.close()


def test_a_rotation_keeps_the_key_that_an_earlier_one_could_not_put_in_place(
    tmp_path: Path, on_step: OnStep
) -> None:
    """It is the only one until its own place has it."""
    failing = ["destroyed", "written"]

    def fail(step: str) -> None:
        if failing and failing[0] == step:
            failing.pop(0)
            raise OSError("the disk does not answer")

    keys = _made(tmp_path)
    before = _opened(keys)
    on_step(fail)
    for _ in range(2):
        with pytest.raises(OSError, match="disk"):
            keys.rotate()
        assert _opened(keys) == before
        Keys(tmp_path, is_reader=True).close()  # a process that starts now
    keys.close()
    again = Keys(tmp_path)
    assert _opened(again) == before
    again.close()


@pytest.mark.parametrize("step", ["written", "wrapped", "destroyed"])
def test_a_rotation_that_ended_is_finished_at_the_next_start(
    tmp_path: Path, step: str, on_step: OnStep
) -> None:
    failing = [step]

    def end(name: str) -> None:
        if name in failing:
            failing.clear()
            raise OSError("the process ends")

    keys = _made(tmp_path)
    before, old = _opened(keys), (tmp_path / "master.key").read_bytes().strip()
    on_step(end)
    with pytest.raises(OSError, match="ends"):
        keys.rotate()
    keys.close()
    again = Keys(tmp_path)
    assert _opened(again) == before
    assert not (tmp_path / "master.key.new").exists()
    assert (old in _bytes(tmp_path)) == (step == "written")
    again.close()


@pytest.mark.parametrize("step", ["written", "wrapped", "destroyed", ""])
def test_a_reader_follows_a_rotation(tmp_path: Path, step: str, on_step: OnStep) -> None:
    """It was there before, and opens every key at each step, and after it."""
    seen = list[str]()

    def look(name: str) -> None:
        if name == step:
            seen.append(_opened(reader))

    keys = _made(tmp_path)
    before, reader = _opened(keys), Keys(tmp_path, is_reader=True)
    on_step(look)
    for _ in range(2):
        keys.rotate()
    assert seen == [before] * (2 if step else 0)
    assert (_opened(reader), reader.secret(RECORDING)) == (before, keys.secret(RECORDING))
    keys.close()
    reader.close()


def test_a_rotation_while_a_reader_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The master key that it had read the name of is gone: it reads anew."""
    keys, names = _made(tmp_path), list[str | None]()
    before = _opened(keys)

    def named(self: Keys) -> str | None:
        found = real(self)
        if not names:
            names.append(found)
            keys.rotate()
        return found

    real = Keys._named
    monkeypatch.setattr(Keys, "_named", named)
    reader = Keys(tmp_path, is_reader=True)
    assert (_opened(reader), len(names)) == (before, 1)
    keys.close()
    reader.close()


def test_a_reader_opens_no_key_that_was_exchanged(tmp_path: Path) -> None:
    keys = _made(tmp_path)
    other = keys.add_track(RECORDING, "other", "video", "owner", None)
    with keys.database.transaction() as db:
        db.execute("UPDATE tracks SET identity = (SELECT identity FROM tracks WHERE name = 'cam')")
    keys.close()
    reader = Keys(tmp_path, is_reader=True)
    with pytest.raises(Refused, match="unavailable"):
        reader.identity(RECORDING, other.object)
    reader.close()


@for_each("text", ["", "age1qqq", "AGE-SECRET-KEY-1QQ", "ssh-ed25519 AAAA", "é"])
def test_other_texts_are_no_keys(text: str) -> None:
    """The message holds nothing of them."""
    with pytest.raises(ValueError, match="age") as found:
        read_identity(text)
    assert text == "" or text not in str(found.value)
    with pytest.raises(ValueError, match="age"):
        read_recipient(text)
