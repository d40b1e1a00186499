"""The registry of grants: no change is without its entry in the ledger, whatever fails."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from collector.recording import Recorder, Refused
from collector.recording.notices import Notice
from tests.ledgers import entries_of
from tests.recording.recorders import Clock, abandon, caller, opened_recording, terms


class _Crash(BaseException):
    """The process ends here."""


def _crash(*_: object) -> None:
    raise _Crash


def _refuse(*_: object) -> None:
    raise Refused("unavailable")


def _entries(directory: Path) -> list[str]:
    """What the ledger says was done, in its order."""
    return [each.fact("what") or "" for each in entries_of(directory / "spool.db", "recording")]


_AT: dict[str, Callable[[Recorder], tuple[object, str]]] = {
    "before the entry": lambda recorder: (recorder.journal, "add"),
    "after the entry": lambda recorder: (recorder.grants.store, "entered"),
}


@pytest.mark.parametrize("place", _AT)
@pytest.mark.parametrize("what", ["pause", "resume", "leave", "withdraw", "stop", "request"])
def test_a_crash_leaves_no_change_without_its_entry(tmp_path: Path, place: str, what: str) -> None:
    """A change that is stored has exactly one entry after the next start, in its place; also where
    the same was done and undone before."""
    recorder = Recorder(tmp_path, clock=Clock())
    recording = opened_recording(recorder)
    for action in ("pause", "resume", *(["pause"] if what == "resume" else [])):
        recorder.control(caller("host"), recording, action)  # type: ignore[arg-type]
    digest = Notice("en", "audio", "cloud").digest
    calls: dict[str, Callable[[], Any]] = {
        "leave": lambda: recorder.choose(caller("participant"), recording, "leave", digest),
        "withdraw": lambda: recorder.withdraw(caller("participant"), recording),
        "request": lambda: recorder.request(caller("host", meeting="n"), terms(meeting="n")),
    }
    call = calls.get(what) or (lambda: recorder.control(caller("host"), recording, what))  # type: ignore[arg-type]
    before = _entries(tmp_path)
    target, name = _AT[place](recorder)
    with patch.object(target, name, _crash), pytest.raises(_Crash):
        call()
    abandon(recorder)
    Recorder(tmp_path, clock=Clock()).close()
    new = _entries(tmp_path)[len(before) :]
    assert new.count(what) == 1 + (what == "withdraw")  # the second one: its keys are destroyed
    closed = 1 + (what == "request")
    assert new.count("close") == closed
    expected = ["close", "stop"] if what == "stop" else [what, "close"]
    assert new[: len(expected)] == expected


def test_a_ledger_that_cannot_be_written_keeps_no_member(tmp_path: Path) -> None:
    """A change is answered, as its entry is on disk and follows; nothing is read meanwhile."""
    recorder = Recorder(tmp_path, clock=Clock())
    recording = opened_recording(recorder)
    before = _entries(tmp_path)
    with patch.object(recorder.journal, "add", _refuse):
        for action in ("pause", "resume", "pause", "stop"):
            recorder.control(caller("host"), recording, action)
        with pytest.raises(Refused, match="unavailable"):
            recorder.open_track(caller("viewer"), recording, "a")
    assert recorder.state().errors >= 4
    assert _entries(tmp_path) == before
    recorder.grants.retry_at = 0
    recorder.tick()
    assert _entries(tmp_path)[len(before) :] == ["pause", "resume", "pause", "close", "stop"]
    assert recorder.grants.store.pending() == []
    recorder.close()


def test_a_full_disk_forgets_no_entry(tmp_path: Path) -> None:
    """A change that was made and could not be stored is stored with its entry later, once."""
    recorder = Recorder(tmp_path, clock=Clock())
    recording = opened_recording(recorder)
    before = _entries(tmp_path)
    with patch.object(recorder.grants.store, "save", _refuse):
        for _ in range(2):
            with suppress(Refused):
                recorder.control(caller("host"), recording, "pause")
    recorder.tick()
    assert _entries(tmp_path)[len(before) :] == ["pause"]
    recorder.close()
