"""The library: retention, time, restarts and faults, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from collector.ledger import opened
from collector.recording import NewChunk, Recorder, Refused
from collector.recording.control import operate
from collector.recording.registry import MOST_ACTIVE_OF_MEETING, read_rows
from tests.deadline import wait_until
from tests.recording.recorders import DAY, Clock, abandon, caller, content, opened_recording, terms


@pytest.fixture
def clock() -> Clock:
    """The time of the recorder."""
    return Clock()


@pytest.fixture
def recorder(tmp_path: Path, clock: Clock) -> Iterator[Recorder]:
    """A recorder in a directory of its own."""
    made = Recorder(tmp_path / "r", clock=clock)
    yield made
    made.close()


def test_it_embeds(recorder: Recorder) -> None:
    """A platform can call it without a server."""
    recording = opened_recording(recorder)
    told = list[str]()
    recorder.subscribe(told.append)
    recorder.control(caller("host"), recording, "stop")
    assert told == [recording]
    assert content(recorder, recording) == b"content"
    assert [each.name for each in recorder.tracks(caller("viewer"), recording)] == ["a"]
    assert recorder.verify(recording) == []
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
    with pytest.raises(Refused, match="erased"):
        content(recorder, recording)
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
    with pytest.raises(Refused, match="erased"):
        recorder.open_track(caller("host"), recording, "a")
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
    with pytest.raises(Refused, match="closed"):
        again.add_chunk(caller("participant"), recording, NewChunk("a", 1, b"x", "audio"))
    again.close()


def test_what_a_crash_left_undone_is_done(tmp_path: Path, clock: Clock) -> None:
    """A withdrawal that was stored, and whose tracks are still there, is carried out at the next
    start: before, nothing was answered."""
    recorder = Recorder(tmp_path / "r", clock=clock)
    recording = opened_recording(recorder)
    with (
        patch.object(recorder.vault, "destroy", _fail),
        pytest.raises(Refused, match="unavailable"),
    ):
        recorder.withdraw(caller("participant"), recording)
    with pytest.raises(Refused, match="left"):
        recorder.add_chunk(caller("participant"), recording, NewChunk("a", 1, b"x", "audio"))
    abandon(recorder)
    again = Recorder(tmp_path / "r", clock=clock)
    with pytest.raises(Refused, match="left"):
        content(again, recording)
    assert again.state().errors == 0
    assert not list((tmp_path / "r" / "vault" / "objects").rglob("*.age"))
    again.close()


def test_a_close_is_in_the_ledger_also_after_a_crash(tmp_path: Path, clock: Clock) -> None:
    """The process ends when the close is stored, and before the ledger has it."""
    recorder = Recorder(tmp_path / "r", clock=clock)
    recording = opened_recording(recorder)
    with patch.object(recorder.journal, "add_since", _fail):
        recorder.control(caller("host"), recording, "stop")
    abandon(recorder)
    Recorder(tmp_path / "r", clock=clock).close()
    with opened(tmp_path / "r" / "spool.db") as ledger:
        facts = [dict(entry.facts) for entry in ledger.entries() if entry.kind == "recording"]
    closed = [each["outcome"] for each in facts if each["what"] == "close"]
    assert closed == ["stopped"]


def _fail(*_: object, **__: object) -> None:
    raise Refused("unavailable")


def test_a_fault_is_counted_and_tried_again(recorder: Recorder, clock: Clock) -> None:
    """A tick does what it can."""
    first, second = opened_recording(recorder), opened_recording(recorder)
    for recording in (first, second):
        recorder.control(caller("host"), recording, "stop")
    clock.now += DAY
    with patch.object(recorder.vault, "erase", _fail):
        recorder.tick()
    assert recorder.state().errors >= 2
    recorder.grants.retry_at = 0
    recorder.tick()
    assert recorder.grants.store.pending() == []


def test_bounds(recorder: Recorder) -> None:
    """A meeting has a few recordings at a time; a retention above the longest is refused."""
    for _ in range(MOST_ACTIVE_OF_MEETING):
        recorder.request(caller("host"), terms())
    with pytest.raises(Refused, match="busy"):
        recorder.request(caller("host"), terms())
    recorder.request(caller("host", meeting="n"), terms(meeting="n"))
    with pytest.raises(Refused, match="terms"):
        recorder.request(caller("host", meeting="o"), terms(meeting="o", retention=999 * DAY))


def test_other_meetings_find_nothing(recorder: Recorder) -> None:
    """A caller of another meeting is told the same as for an unknown id."""
    recording = opened_recording(recorder)
    for each in (recording, "0" * 32):
        with pytest.raises(Refused, match="not_found"):
            recorder.manifest(caller("host", meeting="n"), each)


def test_reads_are_in_the_ledger_first(recorder: Recorder, tmp_path: Path) -> None:
    """Before the first byte of a track, the ledger has the access; and the refused one."""
    recording = opened_recording(recorder)
    with pytest.raises(Refused, match="open"):
        recorder.open_track(caller("viewer", "victor"), recording, "a")
    recorder.control(caller("host"), recording, "stop")
    recorder.open_track(caller("viewer", "victor"), recording, "a")
    with opened(tmp_path / "r" / "spool.db") as ledger:
        facts = [dict(entry.facts) for entry in ledger.entries() if entry.kind == "access"]
    assert [(each["what"], each["outcome"]) for each in facts] == [
        ("track", "open"),
        ("track", "done"),
    ]
    assert facts[0]["who"] == facts[1]["who"] != "victor"


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
    recorder.handover(caller("host"), recording, "ben")
    assert readers() == {"ana", "ben"}
    recorder.handover(caller("host"), recording, "cas")
    assert readers() == {"ana", "cas"}
    recorder.handover(caller("host"), recording, "ana")
    assert readers() == {"ana"}
    recorder.handover(caller("host"), recording, "ben")
    recorder.control(caller("participant", "ben"), recording, "accept")
    assert readers() == {"ben"}
    recorder.handover(caller("host", "ben"), recording, "cas")
    recorder.control(caller("host", "ben"), recording, "stop")
    assert readers() == {"ben", "cas"}
    assert content(recorder, recording) == b"content"
    for host in ("ana", "cas"):
        with pytest.raises(Refused, match="forbidden"):
            recorder.erase(caller("host", host), recording)
    recorder.erase(caller("host", "ben"), recording)
    assert readers() == set(hosts)  # who are told that it is erased


def test_a_host_follows_no_recording_of_another(recorder: Recorder) -> None:
    """The states of a recording are for its members, its heir among them, for media and for the
    platform."""
    recording = opened_recording(recorder)
    with pytest.raises(Refused, match="forbidden"):
        recorder.events(caller("host", "ben"), recording)
    recorder.join(caller("platform", "p"), recording, "ben")
    assert recorder.events(caller("host", "ben"), recording)
    recorder.handover(caller("host"), recording, "ben")
    recorder.depart(caller("platform", "p"), recording, "ben")
    assert recorder.events(caller("host", "ben"), recording)
    assert recorder.events(caller("media", "egress"), recording)


def test_operators(recorder: Recorder) -> None:
    """An operator erases what is open too, and rotates keys; other commands there are none."""
    recording = opened_recording(recorder)
    operate(recorder, "rotate")
    operate(recorder, "erase", recording)
    with pytest.raises(Refused, match="erased"):
        recorder.manifest(caller("host"), recording)
    with pytest.raises(Refused, match="not_found"):
        operate(recorder, "stop", recording)


def test_a_bucket_holds_no_content(tmp_path: Path) -> None:
    """Nor pseudonym nor name of a track; what is erased is not in it any more."""
    (tmp_path / "bucket").mkdir()
    recorder = Recorder(tmp_path / "r", bucket=(tmp_path / "bucket").as_uri())
    recording, digest = recorder.request(caller("host", "Canary-4711"), terms())
    recorder.choose(caller("participant", "Canary-4711"), recording, "stay", digest)
    recorder.control(caller("host", "Canary-4711"), recording, "start")
    chunk = NewChunk("Track-4711", 0, b"CONTENT-4711" * 9000, "audio")
    recorder.add_chunk(caller("participant", "Canary-4711"), recording, chunk)
    recorder.control(caller("host", "Canary-4711"), recording, "stop")
    wait_until(lambda: not recorder.state().vault.queued_files)
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


def test_a_withdrawal_that_was_not_stored_is_not_forgotten(recorder: Recorder) -> None:
    """The disk is full when a member withdraws: the second attempt, or a tick, destroys."""
    for is_repeated in (True, False):
        recording = opened_recording(recorder)
        with (
            patch.object(recorder.grants.store, "save", _fail),
            pytest.raises(Refused, match="unavailable"),
        ):
            recorder.withdraw(caller("participant"), recording)
        if is_repeated:
            recorder.withdraw(caller("participant"), recording)
        else:
            recorder.tick()
        recorder.control(caller("host"), recording, "stop")
        with pytest.raises(Refused, match="left"):
            content(recorder, recording)


def test_a_close_that_was_not_stored_is_stored_later(recorder: Recorder, clock: Clock) -> None:
    """The disk is full when a recording ends: members learn of it at a later tick."""
    recording = opened_recording(recorder)
    clock.now += DAY
    with patch.object(recorder.grants.store, "save", _fail):
        recorder.tick()
    assert recorder.events(caller("host"), recording)[-1].state == "open"
    recorder.tick()
    assert recorder.events(caller("host"), recording)[-1].state == "closed"
    assert recorder.state().recordings == {"closed": 1}


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
    with pytest.raises(Refused, match="erased"):
        content(again, recording)
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
    with pytest.raises(Refused, match="terms"):
        recorder.request(caller("host"), terms(storage="local", recipient=low))
    assert recorder.state().recordings == {}
