"""Recorders for tests: their time, callers, and a recording with a chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from collector.recording import Caller, NewChunk, Recorder, Refused, Terms

DAY = 86_400.0
NOW = 1_800_000_000.0


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def caller(role: str, subject: str = "ana", meeting: str = "m", jti: str = "jti") -> Caller:
    """A caller as a token names one, which is valid for a long time."""
    return Caller(role, subject, meeting, jti, 4e9)  # type: ignore[arg-type]


def terms(**changes: Any) -> Terms:
    """Terms for a recording of sound in the cloud, for a day."""
    chosen: dict[str, Any] = {"meeting": "m", "storage": "cloud", "recipient": None}
    chosen |= {"kinds": frozenset({"audio"}), "retention": DAY, "medium": "audio", "language": "en"}
    return Terms(**chosen | changes)


def opened_recording(recorder: Recorder, **changes: Any) -> str:
    """A recording that is open, with Ana as its host and a chunk of hers."""
    recording, digest = recorder.request(caller("host"), terms(**changes))
    recorder.choose(caller("participant"), recording, "stay", digest)
    recorder.control(caller("host"), recording, "start")
    recorder.add_chunk(caller("participant"), recording, NewChunk("a", 0, b"content", "audio"))
    return recording


def refused(code: str, call: Callable[..., object], *values: object) -> None:
    """Make a call, which must be refused with this code."""
    with pytest.raises(Refused) as caught:
        call(*values)
    assert caught.value.code == code


def content(recorder: Recorder, recording: str, track: str = "a") -> bytes:
    """What a viewer reads."""
    return b"".join(recorder.open_track(caller("viewer"), recording, track).read(0, None))


def abandon(recorder: Recorder) -> None:
    """Leave a recorder as a crash does, but for its locks."""
    recorder._opened.close()
