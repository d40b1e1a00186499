"""The library: retention, time, restarts and faults, without a server."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import patch

import pytest

from collector.ledger import opened
from collector.recording import NewChunk, Recorder, Refused
from collector.recording.control import operate
from collector.recording.manifest import check_manifest
from collector.recording.notices import Notice
from collector.recording.recorder import MOST_ACTIVE_OF_MEETING
from collector.recording.store import read_rows
from collector.recording.vault import Added
from tests.recording.recorders import (
    DAY,
    Clock,
    abandon,
    caller,
    content,
    opened_recording,
    refused,
    terms,
)
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.ledgers import entries_of
from tests.support.rows import for_each


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(tmp_path: Path, clock: Clock) -> Iterator[Recorder]:
    made = Recorder(tmp_path / "r", clock=clock)
    yield made
    made.close()


def test_it_embeds(recorder: Recorder) -> None:
    recording = opened_recording(recorder)
    told = list[str]()
    recorder.subscribe(told.append)
    recorder.control(caller("host"), recording, "stop")
    assert told == [recording]
    assert content(recorder, recording) == b"content"
    assert [each.name for each in recorder.tracks(caller("viewer"), recording)] == ["a"]
    assert recorder.verify(recording) == []
    lines = b"".join(recorder.manifest(caller("host"), recording))
    assert check_manifest(lines)[0] == []  # the end mark is there
    events = [each.state for each in recorder.events(caller("host"), recording)]
    assert events == ["announced", "open", "closed"]


def test_retention_is_carried_out(recorder: Recorder, clock: Clock, tmp_path: Path) -> None:
    """A recording is erased when its time is over, and not before, without being asked."""
    recording = opened_recording(recorder)
    recorder.control(caller("host"), recording, "stop")
    clock.now += DAY - 1
    recorder.tick()
    assert content(recorder, recording) == b"content"
    clock.now += 1
    recorder.tick()
    refused("erased", content, recorder, recording)
    assert not list((tmp_path / "r" / "vault" / "objects").rglob("*.age"))


def test_local_files_are_deleted(tmp_path: Path, clock: Clock) -> None:
    """What waits for the host is deleted after three days, however long the retention is."""
    pyrage = pytest.importorskip("pyrage")
    key = str(pyrage.x25519.Identity.generate().to_public())
    recorder = Recorder(tmp_path / "r", clock=clock)
    recording = opened_recording(recorder, storage="local", recipient=key, retention=30 * DAY)
    recorder.control(caller("host"), recording, "stop")
    reader = recorder.open_track(caller("host"), recording, "a")
    assert reader.is_sealed
    assert reader.sealed(0).startswith(b"age-encryption.org/v1")
    clock.now += 3 * DAY
    recorder.tick()
    refused("erased", recorder.open_track, caller("host"), recording, "a")
    recorder.close()


def test_time_closes(recorder: Recorder, clock: Clock) -> None:
    """An absent host's recording is closed after a minute, an old one after a day."""
    recording = opened_recording(recorder)
    recorder.depart(caller("platform", "p"), recording, "ana")
    clock.now += 61
    recorder.tick()
    last = recorder.events(caller("host"), recording)[-1]
    assert (last.state, last.reason) == ("closed", "host_absent")
    other = opened_recording(recorder)
    clock.now += DAY
    recorder.tick()
    last = recorder.events(caller("host"), other)[-1]
    assert (last.state, last.reason) == ("closed", "expired")


def test_a_close_leaves_nothing_open(tmp_path: Path, clock: Clock) -> None:
    """A recorder that is opened again has every recording closed, and every chunk."""
    recorder = Recorder(tmp_path / "r", clock=clock)
    recording = opened_recording(recorder)
    recorder.close()
    assert [(row.id, row.state) for row in read_rows(tmp_path / "r")] == [(recording, "closed")]
    again = Recorder(tmp_path / "r", clock=clock)
    assert content(again, recording) == b"content"
    refused(
        "closed", again.add_chunk, caller("participant"), recording, NewChunk("a", 1, b"x", "audio")
    )
    again.close()


def test_what_a_crash_left_undone_is_done(tmp_path: Path, clock: Clock) -> None:
    """A withdrawal that was stored, and whose tracks are still there, is carried out at the next
    start: before, nothing was answered."""
    recorder = Recorder(tmp_path / "r", clock=clock)
    recording = opened_recording(recorder)
    with patch.object(recorder.vault.keys, "destroy", _fail):
        refused("unavailable", recorder.withdraw, caller("participant"), recording)
    refused(
        "left",
        recorder.add_chunk,
        caller("participant"),
        recording,
        NewChunk("a", 1, b"x", "audio"),
    )
    abandon(recorder)
    again = Recorder(tmp_path / "r", clock=clock)
    refused("left", content, again, recording)
    assert again.state().errors == 0
    assert not list((tmp_path / "r" / "vault" / "objects").rglob("*.age"))
    again.close()


def _fail(*_: object, **__: object) -> None:
    raise Refused("unavailable")


def test_a_fault_is_counted_and_tried_again(recorder: Recorder, clock: Clock) -> None:
    first, second = opened_recording(recorder), opened_recording(recorder)
    for recording in (first, second):
        recorder.control(caller("host"), recording, "stop")
    clock.now += DAY
    with patch.object(recorder.vault.keys, "destroy", _fail):
        recorder.tick()
    assert recorder.state().errors >= 2

    def is_done() -> bool:
        recorder.tick()
        return not recorder.store.due(float("inf"), "expire", "erase", "delete")

    wait_until(is_done)


def test_bounds(recorder: Recorder) -> None:
    for _ in range(MOST_ACTIVE_OF_MEETING):
        recorder.request(caller("host"), terms())
    refused("busy", recorder.request, caller("host"), terms())
    recorder.request(caller("host", meeting="n"), terms(meeting="n"))
    refused(
        "terms",
        recorder.request,
        caller("host", meeting="o"),
        terms(meeting="o", retention=999 * DAY),
    )


def test_other_meetings_find_nothing(recorder: Recorder) -> None:
    """A caller of another meeting is told the same as for an unknown id."""
    recording = opened_recording(recorder)
    for each in (recording, "0" * 32):
        refused("not_found", recorder.manifest, caller("host", meeting="n"), each)


def test_reads_are_in_the_ledger_first(recorder: Recorder, tmp_path: Path) -> None:
    """The ledger has the access before the first byte of a track is read, and also each refusal.
    While the ledger cannot be written, nothing is read."""
    recording = opened_recording(recorder)
    refused("open", recorder.open_track, caller("viewer", "victor"), recording, "a")
    recorder.control(caller("host"), recording, "stop")
    for _ in range(2):  # one entry for a token, in however many ranges it reads
        recorder.open_track(caller("viewer", "victor"), recording, "a")
    with opened(tmp_path / "r" / "recorder.db") as ledger:
        facts = [dict(entry.facts) for entry in ledger.entries() if entry.kind == "access"]
    assert [(each["what"], each["outcome"]) for each in facts] == [
        ("track", "open"),
        ("track", "done"),
    ]
    assert facts[0]["who"] == facts[1]["who"] != "victor"
    with patch.object(recorder.store, "append", _fail):
        refused("unavailable", recorder.open_track, caller("viewer"), recording, "a")


def test_only_its_own_hosts_read_a_recording(recorder: Recorder, clock: Clock) -> None:
    """Three hosts record the same meeting. Each reads the recordings that are the host's own or
    whose heir the host is, before a handover, during one, after one, and after a restart."""
    hosts = ("ana", "ben", "cas")
    recording = opened_recording(recorder)
    for host in ("ben", "cas"):
        recorder.request(caller("host", host), terms())
        recorder.join(caller("platform", "p"), recording, host)

    def readers() -> set[str]:
        """The hosts who get anything of the recording; it is all or nothing."""
        found = set[str]()
        for host in hosts:
            codes = set[str]()
            for read in (
                lambda by: list(recorder.manifest(by, recording)),
                lambda by: recorder.tracks(by, recording),
                lambda by: recorder.open_track(by, recording, "a"),
                lambda by: recorder.open_track(by, recording, "none"),
            ):
                try:
                    read(caller("host", host, jti=f"{host} {len(codes)}"))
                    codes.add("read")
                except Refused as refused:
                    codes.add(refused.code)
            found |= {host} if codes != {"forbidden"} else set()
        return found

    assert readers() == {"ana"}
    for heir in ("ben", "cas", "ana", "ben"):
        recorder.handover(caller("host"), recording, heir)
        assert readers() == {"ana", heir}
    recorder.control(caller("participant", "ben"), recording, "accept")
    assert readers() == {"ben"}
    recorder.handover(caller("host", "ben"), recording, "cas")
    recorder.control(caller("host", "ben"), recording, "stop")
    assert readers() == {"ben", "cas"}
    assert content(recorder, recording) == b"content"
    for host in ("ana", "cas"):
        refused("forbidden", recorder.erase, caller("host", host), recording)
    recorder.erase(caller("host", "ben"), recording)
    assert readers() == set(hosts)  # who are told that it is erased


def test_a_host_follows_no_recording_of_another(recorder: Recorder) -> None:
    """The states of a recording are for its members, its heir among them, for media and for the
    platform."""
    recording = opened_recording(recorder)
    refused("forbidden", recorder.events, caller("host", "ben"), recording)
    recorder.join(caller("platform", "p"), recording, "ben")
    assert recorder.events(caller("host", "ben"), recording)
    recorder.handover(caller("host"), recording, "ben")
    recorder.depart(caller("platform", "p"), recording, "ben")
    assert recorder.events(caller("host", "ben"), recording)
    assert recorder.events(caller("media", "egress"), recording)


def test_operators(recorder: Recorder, tmp_path: Path) -> None:
    """An operator erases an open recording too. After a rotation no byte is a key that was wrapped
    under the old master key. There are no other commands."""
    recording, files = opened_recording(recorder), tmp_path / "r" / "vault"
    (old,) = recorder.vault.keys.database.rows("SELECT identity FROM tracks")[0]
    operate(recorder, "rotate")
    assert not any(old in path.read_bytes() for path in files.iterdir() if path.is_file())
    operate(recorder, "erase", recording)
    refused("erased", recorder.manifest, caller("host"), recording)
    refused("not_found", operate, recorder, "stop", recording)


def test_a_bucket_holds_no_content(tmp_path: Path) -> None:
    """It holds no pseudonym and no name of a track either. What is erased is removed from it."""
    (tmp_path / "bucket").mkdir()
    recorder = Recorder(tmp_path / "r", bucket=(tmp_path / "bucket").as_uri())
    recording, digest = recorder.request(caller("host", "Canary-4711"), terms())
    recorder.choose(caller("participant", "Canary-4711"), recording, "stay", digest)
    recorder.control(caller("host", "Canary-4711"), recording, "start")
    chunk = NewChunk("Track-4711", 0, b"CONTENT-4711" * 9000, "audio")
    recorder.add_chunk(caller("participant", "Canary-4711"), recording, chunk)
    recorder.control(caller("host", "Canary-4711"), recording, "stop")
    wait_until(lambda: not recorder.state().queued_files)
    stored = [path for path in (tmp_path / "bucket").rglob("*") if path.is_file()]
    assert len(stored) == 1
    assert not any(b"4711" in path.read_bytes() or "4711" in str(path) for path in stored)
    assert content(recorder, recording, "Track-4711") == chunk.data
    recorder.erase(caller("host", "Canary-4711"), recording)

    def is_erased() -> bool:
        recorder.tick()
        return not any(path.exists() for path in stored)

    wait_until(is_erased)
    recorder.close()


def test_a_step_that_cannot_be_stored_did_not_happen(recorder: Recorder, tmp_path: Path) -> None:
    """The disk is full when a host pauses, and when a member withdraws: it is refused, nothing has
    changed, and the second attempt does it."""
    recording = opened_recording(recorder)
    host, member = caller("host"), caller("participant")
    before = entries_of(tmp_path / "r" / "recorder.db")
    steps: dict[str, Callable[[], object]] = {
        "pause": lambda: recorder.control(host, recording, "pause"),
        "withdraw": lambda: recorder.withdraw(member, recording),
    }
    for step in steps.values():
        with patch.object(recorder.store, "append", _fail):
            refused("unavailable", step)
    assert entries_of(tmp_path / "r" / "recorder.db") == before
    assert recorder.events(host, recording)[-1].state == "open"
    recorder.add_chunk(member, recording, NewChunk("a", 1, b" more", "audio"))
    for step in steps.values():
        step()
    new = [dict(each.facts) for each in entries_of(tmp_path / "r" / "recorder.db")[len(before) :]]
    assert [each["what"] for each in new] == ["pause", "withdraw", "withdraw"]  # its keys went
    recorder.control(host, recording, "stop")
    refused("left", content, recorder, recording)


def test_a_close_that_was_not_stored_is_stored_later(recorder: Recorder, clock: Clock) -> None:
    """The disk is full when a recording ends: members learn of it at a later tick."""
    recording = opened_recording(recorder)
    clock.now += DAY
    with patch.object(recorder.store, "save", _fail):
        recorder.tick()
        refused(
            "unavailable",
            recorder.add_chunk,
            caller("participant"),
            recording,
            NewChunk("a", 1, b"x", "audio"),
        )
    assert recorder.events(caller("host"), recording)[-1].state == "open"

    def is_closed() -> bool:
        recorder.tick()
        return recorder.state().recordings == {"closed": 1}

    wait_until(is_closed)
    assert recorder.events(caller("host"), recording)[-1].state == "closed"


class _Crash(BaseException):
    """The process ends here."""


@for_each("what", ["pause", "resume", "leave", "withdraw", "stop", "request"])
@for_each("is_committed", [False, True])
def test_a_crash_leaves_no_change_without_its_entry(
    tmp_path: Path, what: str, is_committed: bool
) -> None:
    """A change that is stored has exactly one entry after the next start, in its place, and one
    that is not has none; also where the same was done and undone before."""
    recorder = Recorder(tmp_path, clock=Clock())
    recording, host = opened_recording(recorder), caller("host")
    for action in ("pause", "resume", *(["pause"] if what == "resume" else [])):
        recorder.control(host, recording, action)  # type: ignore[arg-type]
    digest = Notice("en", "audio", "cloud").digest
    calls: dict[str, Callable[[], object]] = {
        "leave": lambda: recorder.choose(caller("participant"), recording, "leave", digest),
        "withdraw": lambda: recorder.withdraw(caller("participant"), recording),
        "request": lambda: recorder.request(caller("host", meeting="n"), terms(meeting="n")),
    }
    call = calls.get(what) or (lambda: recorder.control(host, recording, what))  # type: ignore[arg-type]
    before, commit = len(_entries(tmp_path)), recorder.store.commit

    def crash(work: Callable[[sqlite3.Connection], None]) -> None:
        if is_committed:
            commit(work)
        raise _Crash

    with patch.object(recorder.store, "commit", crash), pytest.raises(_Crash):
        call()
    abandon(recorder)
    Recorder(tmp_path, clock=Clock()).close()
    new = _entries(tmp_path)[before:]
    is_withdrawn = what in ("leave", "withdraw") and is_committed
    first = {"stop": ["close", "stop"]}.get(what, [what])
    more = ["close"] * ((what != "stop") + (what == "request"))
    expected = [*first, *more] if is_committed else ["close"]
    assert [each for each in new if each != "withdraw" or what == "withdraw"][: len(expected)] == (
        expected
    )
    assert len(new) == len(expected) + is_withdrawn  # the recorder's own: keys are destroyed


def _entries(directory: Path) -> list[str]:
    """What the ledger says was done, in its order."""
    return [each.fact("what") or "" for each in entries_of(directory / "recorder.db", "recording")]


def test_a_withdrawal_waits_for_the_chunk_that_is_being_sealed(recorder: Recorder) -> None:
    """The withdrawal destroys that chunk too."""
    recording, member = opened_recording(recorder), caller("participant")
    sealing, go_on, add = Event(), Event(), recorder.vault.add

    def slow(*place: Any, **about: Any) -> Added:
        sealing.set()
        assert go_on.wait(WAIT_SECONDS)
        return add(*place, **about)

    chunk = NewChunk("a", 1, b" more", "audio")
    with patch.object(recorder.vault, "add", slow), ThreadPoolExecutor(2) as pool:
        sent = pool.submit(recorder.add_chunk, member, recording, chunk)
        assert sealing.wait(WAIT_SECONDS)
        withdrawn = pool.submit(recorder.withdraw, member, recording)
        assert not wait([withdrawn], 0.2).done  # longer only proves more
        go_on.set()
        assert sent.result().next == 2
        withdrawn.result()
    recorder.control(caller("host"), recording, "stop")
    refused("left", content, recorder, recording)
    assert recorder.verify(recording) == []


def test_retention_counts_from_the_start_after_a_crash(tmp_path: Path, clock: Clock) -> None:
    """A long meeting with a short retention is there after a crash: the last change that was
    stored is no time of a close."""
    recorder = Recorder(tmp_path / "r", clock=clock)
    recording = opened_recording(recorder, retention=3600.0)
    clock.now += 7200
    recorder.add_chunk(caller("participant"), recording, NewChunk("a", 1, b" more", "audio"))
    abandon(recorder)
    again = Recorder(tmp_path / "r", clock=clock)
    again.tick()
    assert content(again, recording) == b"content more"
    clock.now += 3600
    again.tick()
    refused("erased", content, again, recording)
    again.close()


@pytest.mark.parametrize(
    "low",
    [
        "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z",
        "age1qyqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqj7vrya",
    ],
)
def test_recipients_without_a_secret_are_refused(recorder: Recorder, low: str) -> None:
    """A point of low order: X25519 with it is zero for all, and age panics."""
    refused("terms", recorder.request, caller("host"), terms(storage="local", recipient=low))
    assert recorder.state().recordings == {}
