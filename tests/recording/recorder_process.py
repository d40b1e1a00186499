"""A recorder in a process of its own (``told_recorder``), which can be killed at any of its system
calls that change files."""

from __future__ import annotations

import os
import select
import socket
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from tests.recording.syscalls import Call, Supervisor
from tests.support.deadline import WAIT_SECONDS
from tests.support.forkserver import begin

LONGEST = 3600.0
"""Seconds after which a grant ends."""
LOCAL = 7200.0
"""Seconds for which a recording for the host's own key is there."""

_ROOT = Path(__file__).parents[2]


class Kill(NamedTuple):
    """When a process is killed: at which of the calls that change files, counted from 1 (0: before
    it is asked), and which part of that is done, if it is a write; and kills while it starts again.
    Where ``is_after_sync``, only calls that follow a sync count: they come between two commits.
    """

    at: int
    part: float
    is_after_sync: bool = False
    then: tuple[Kill, ...] = ()


class Killed(Exception):
    """The process was killed before it answered."""

    def __init__(self, where: str, kill: Kill) -> None:
        self.kill = kill
        super().__init__(where)


class Unsupervised(Exception):
    """The system has nothing by which calls could be supervised."""


class Answer(NamedTuple):
    """What a process answers: a result, or the code of a refusal; ``next`` belongs to that."""

    code: str | None
    result: Any
    next: int | None = None


class Content(NamedTuple):
    """What a viewer gets of a track: its kind, its number of chunks, its size, and its content, as
    a whole, or sealed by chunks."""

    kind: str
    chunks: int
    size: int
    data: bytes | list[bytes]


class RecorderProcess:
    """The process; it has the directory until it is killed or closed. Raises ``Killed`` if it is
    killed while it starts, and ``Unsupervised`` where none can be supervised."""

    def __init__(
        self, directory: Path, now: float, *, bucket: str | None, kill: Kill | None = None
    ) -> None:
        self._directory = str(directory.resolve())
        self._is_local = bucket is None
        ours, theirs = socket.socketpair()
        with theirs:
            streams = (theirs.fileno(), 2, 2)
            name = "tests.recording.told_recorder"
            self._process = begin(name, [], streams, _ROOT, os.environ)
        self.calls = 0
        self._has_synced = False
        _, handles, _, _ = socket.recv_fds(ours, 1, 1)
        if not handles:
            self._process.wait(WAIT_SECONDS)
            raise Unsupervised
        self._supervisor = Supervisor(handles[0])
        self._line = Connection(ours.detach())
        self._poll = select.poll()
        for handle in (self._supervisor.listener, self._line.fileno()):
            self._poll.register(handle, select.POLLIN)
        self._ask((directory, bucket, now), kill)

    def call(self, now: float, what: str, *values: Any, kill: Kill | None = None) -> Answer:
        """Have a method of the recorder, or a function of this module, called at a time. Raises
        ``Killed`` if the process is killed before it answers."""
        return self._ask((now, what, values), kill)

    def close(self, now: float, kill: Kill | None = None) -> None:
        """Close the recorder, and let the process end. Raises ``Killed``."""
        self._ask((now, "close", ()), kill)
        self._end()

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._end()

    def _end(self) -> None:
        self._supervisor.close()
        self._line.close()
        self._process.wait(WAIT_SECONDS)

    def _ask(self, question: object, kill: Kill | None) -> Answer:
        self.calls = 0
        if kill is not None and kill.at == 0:
            self.kill()
            raise Killed("between calls", kill)
        self._line.send(question)
        while True:
            found = dict(self._poll.poll(1000 * WAIT_SECONDS))
            assert found, "the process does not answer"
            if found.get(self._supervisor.listener, 0) & select.POLLIN:
                if (call := self._supervisor.take()) is not None:
                    self._judge(call, kill)
            else:
                answer: Answer = self._line.recv()
                assert not isinstance(answer, str), answer
                unsynced = self._unsynced()
                assert not unsynced, f"a crash of the machine would undo changes of {unsynced}"
                return answer

    def _judge(self, call: Call, kill: Kill | None) -> None:
        self.calls += kill is None or not kill.is_after_sync or self._has_synced
        self._has_synced = call.name in ("fsync", "fdatasync")
        if kill is None or self.calls < kill.at:
            self._supervisor.allow(call)
            return
        self._supervisor.write_part(call, kill.part)
        self.kill()
        raise Killed(f"at call {self.calls}: {call.name} {call.path}", kill)

    def _unsynced(self) -> set[str]:
        """Return what a crash of the machine would undo of what is answered. Uploads go on
        meanwhile, so with a bucket there is no such moment."""
        return {
            path
            for path in self._supervisor.unsynced
            if self._is_local
            if path.startswith(f"{self._directory}/") and Path(path).exists()
            if not path.endswith("-shm") and (Path(path).is_file() or "/objects" in path)
        }
