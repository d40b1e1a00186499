"""What docs/recording.md tells people to type: a pipe that is delivered, and a local
recording that is opened with age."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import Event, Lock, Thread
from time import sleep
from typing import IO

import pytest

from tests.conftest import required
from tests.recording.serving import MEETING, Meeting, running
from tests.support.deadline import WAIT_SECONDS, stays, wait_until

pytestmark = pytest.mark.recordings
_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs" / "recording.md").read_text()
_BLOCKS = re.findall(r"<!-- run -->\n```console\n(.*?)```", _PAGE, re.DOTALL)


def _typed(folder: Path, block: str, **variables: str) -> None:
    """Type the commands of a block into a shell."""
    for command in re.findall(r"^\$ (.*)", block, re.MULTILINE):
        environ = os.environ | variables
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder,
            env=environ,
            check=True,
            timeout=WAIT_SECONDS,
        )


def _delivery(meeting: Meeting, *options: str) -> subprocess.Popen[bytes]:
    token = f"{shlex.quote(sys.executable)} -m collector recording token --key {meeting.key}"
    token += f" --meeting {MEETING} --role media --subject media-1"
    address = f"http://127.0.0.1:{meeting.process.ports['recorder']}"
    program = [sys.executable, str(_ROOT / "examples" / "deliver_stream.py"), address]
    program += ["--recording", meeting.recording, "--kind", "audio", "--token", token, *options]
    return subprocess.Popen(program, stdin=subprocess.PIPE, bufsize=0)


def test_a_local_recording_opens_with_age_alone(tmp_path: Path) -> None:
    for program in ("age", "curl"):
        if shutil.which(program) is None:
            required(program)
    _typed(tmp_path, _BLOCKS[0])
    recipient = (tmp_path / "recipient.txt").read_text().split()[-1]
    with running(tmp_path) as meeting:
        meeting.request(storage="local", recipient=recipient)
        meeting.join("ana")
        meeting.choose("ana")
        meeting.control("start")
        chunks = [bytes([n]) * 70_000 for n in range(12)]
        for number, chunk in enumerate(chunks):
            assert meeting.chunk("ana-audio", number, chunk, owner="ana").status == 201
        meeting.control("stop")
        address = f"http://127.0.0.1:{meeting.process.ports['recorder']}"
        token = meeting.token("host", "ana")
        _typed(tmp_path, _BLOCKS[1], TOKEN=token, RECORDER=address, ID=meeting.recording)
        assert (tmp_path / "ana-audio.pcm").read_bytes() == b"".join(chunks)


def test_what_was_in_the_pipe_is_thrown_away_however_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is held up for ten seconds whenever it looks at its clock: what was captured
    before the recorder took the first chunk is none the less not delivered."""
    monkeypatch.syspath_prepend(str(_ROOT / "examples"))
    deliver_stream = importlib.import_module("deliver_stream")
    reading, writing = os.pipe()
    looks, delivered = count(1), list[bytes]()

    def clock() -> float:
        if (number := next(looks)) == 20:
            os.write(writing, b"\2\2")
            os.close(writing)
        return 10.0 * number

    class Track:
        """Takes every chunk; something is captured before it has the first one."""

        def deliver(self, chunk: bytes) -> str:
            if not delivered:
                os.write(writing, b"\1\1")
            delivered.append(chunk)
            return ""

    monkeypatch.setattr(deliver_stream, "monotonic", clock)
    assert deliver_stream.run(Track(), reading, 2, b"filler", 0.5) == 0
    os.close(reading)
    assert delivered == [b"filler", b"\2\2"]


def test_a_pipe_is_delivered_from_the_choice_on(tmp_path: Path) -> None:
    """Nothing that was in the pipe before is recorded, and nothing of a pause."""
    said, speaking, spoken = [b"\1"], Lock(), Event()

    def speak(pipe: IO[bytes]) -> None:
        with suppress(BrokenPipeError):
            while not spoken.wait(0.05):
                with speaking:
                    pipe.write(said[0] * 1_600)

    def say(sound: bytes) -> None:
        with speaking:
            said[0] = sound

    def chunks() -> int:
        return len([*(tmp_path / "recorder").rglob("*.age")])

    with running(tmp_path) as meeting:
        meeting.request()
        meeting.join("ana")
        meeting.control("start")
        with _delivery(meeting, "--track", "a", "--owner", "ana") as delivery:
            assert delivery.stdin is not None
            speaker = Thread(target=speak, args=(delivery.stdin,))
            speaker.start()
            stays(lambda: chunks() == 0, 2)
            say(b"")  # nothing between the choice and what follows it
            meeting.choose("ana")
            say(b"\2")
            wait_until(lambda: chunks() >= 3)  # the first one is filler
            meeting.control("pause")
            say(b"\3")
            sleep(2)
            meeting.control("stop")
            assert delivery.wait(WAIT_SECONDS) == 3, "the recording is closed"
            spoken.set()
            speaker.join()
        content = meeting.call("viewer", "v-1", "GET", "/tracks/a").body
    assert set(content.strip(b"\0")) == {2}
