"""A recorder that is told what to do and when: ``python -m tests.recording.told_recorder``.

Its input is a socket, over which it sends what its system calls are supervised by, gets the
directory, the bucket and the time, and then what it is to do; it answers each with an ``Answer``.
"""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from collector.errors import CollectorError
from collector.recording import Caller, Recorder, Refused
from tests.recording.recorder_process import LOCAL, LONGEST, Answer, Content
from tests.recording.syscalls import install
from tests.support.deadline import wait_until


def look(recorder: Recorder, viewer: Caller, recording: str) -> dict[str, Content]:
    """Return what a viewer gets of each track of a recording."""
    found = dict[str, Content]()
    for track in recorder.tracks(viewer, recording):
        reader = recorder.open_track(viewer, recording, track.name)
        data: bytes | list[bytes]
        if reader.is_sealed:
            data = [reader.sealed(number) for number in range(reader.chunks)]
        else:
            data = b"".join(reader.read(0, None))
        found[track.name] = Content(reader.kind, reader.chunks, reader.size, data)
    return found


def settle(recorder: Recorder) -> None:
    """Wait until the bucket has all that it is to have, and nothing else."""
    store = recorder.store

    def is_settled() -> bool:
        return store.queued() == (0, 0) and not store.due(float("inf"), "erase", "delete", "again")

    wait_until(is_settled)


def lines(recorder: Recorder, reader: Caller, recording: str) -> None:
    """Have a reader fetch the manifest to its end."""
    for _ in recorder.manifest(reader, recording):
        pass


_FUNCTIONS: dict[str, Callable[..., Any]] = {"look": look, "lines": lines, "settle": settle}


def _answer(recorder: Recorder, what: str, values: tuple[Any, ...]) -> Answer | str:
    function = _FUNCTIONS.get(what)
    try:
        if function is not None:
            return Answer(None, function(recorder, *values))
        return Answer(None, getattr(recorder, what)(*values))
    except Refused as refused:
        return Answer(refused.code, None, refused.next)
    except CollectorError as error:
        return Answer(error.code, None)


def _main() -> None:
    now = 0.0
    with socket.socket(fileno=0) as line:
        listener = install()
        socket.send_fds(line, [b"."], [listener])
        os.close(listener)
        connection = Connection(line.detach())
    directory, bucket, now = connection.recv()

    def clock() -> float:
        return now

    try:
        recorder = Recorder(
            directory, bucket=bucket, longest_seconds=LONGEST, local_seconds=LOCAL, clock=clock
        )
        connection.send(Answer(None, None))
        while True:
            now, what, values = connection.recv()
            connection.send(_answer(recorder, what, values))
            if what == "close":
                return
    except EOFError:
        return
    except BaseException:  # noqa: BLE001 - the other side has to learn of it
        connection.send(traceback.format_exc())


if __name__ == "__main__":
    _main()
    os._exit(0)
