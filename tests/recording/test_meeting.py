"""The recorded meeting of ``examples``: peers over WebRTC, and a recorder as a process."""

from __future__ import annotations

import math
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.recordings
_EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def media(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module with peers, media server and search."""
    monkeypatch.syspath_prepend(str(_EXAMPLES))
    import meeting_media  # noqa: PLC0415

    return meeting_media


def _sine(hertz: int, milliseconds: int, loudness: int = 6_000) -> array[int]:
    times = range(16 * milliseconds)
    return array("h", (round(loudness * math.sin(math.tau * hertz * n / 16_000)) for n in times))


def test_the_search_finds_each_tone_and_colour(media: Any) -> None:
    people = [media.Person(f"p{n}", (500 + 400 * n, 700 + 400 * n)) for n in range(5)]
    for person in people:
        for name, hertz in zip((person.name, person.name.upper()), person.tones, strict=True):
            assert media.tones(_sine(hertz, 1000).tobytes(), people) == {name}
            short = bytes(2 * 16 * 310) + _sine(hertz, 20).tobytes()
            assert media.tones(short.ljust(32_000, b"\0"), people) == {name}
    voices = [_sine(person.tones[0], 1000) for person in people]
    mix = array("h", map(sum, zip(*voices, strict=True)))
    assert media.tones(mix.tobytes(), people) == {person.name for person in people}
    burst = mix[:8000] + _sine(700, 20) + mix[8320:]
    assert media.tones(burst.tobytes(), people) == {"P0", *(person.name for person in people)}
    red = media.Person("red", (500, 700), ((230, 60, 60), (110, 20, 20)))
    pixels = bytes(30) + bytes((225, 62, 57)) + bytes((108, 22, 25))
    assert media.colours(pixels, [red]) == {"red", "RED"}
    assert media.colours(bytes((60, 60, 230)), [red]) == {"?"}


@pytest.mark.timeout(400)
def test_only_those_who_stay_are_in_any_second_of_any_track() -> None:
    """A pending, a departed and a paused participant are in none, and withdrawing destroys exactly
    the own tracks and the mix; the example looks itself, and says so."""
    program = [sys.executable, str(_EXAMPLES / "recorded_meeting.py")]
    done = subprocess.run(program, capture_output=True, check=False, timeout=380)
    shown = done.stdout.decode()
    assert done.returncode == 0, shown + done.stderr.decode()
    assert shown.count("\nmixed-2 ") == 1, "it is there until dewi withdraws"
    assert "ben crashes" in shown
    assert "No participant is in any second without having been recorded." in shown
