"""A sidecar that reports which modules run for one request, and in which shapes its payload goes.

Run as a program, it starts ``collector serve`` in its main thread, sends requests from another, and
prints the walk as JSON. The processes that the sidecar starts run under it, too: their interpreter
is a script. It knows no class and no function of the package: a module runs if a function of it is
called, and a shape is an object that holds the payload and is handed on.
"""

from __future__ import annotations

import http.client
import json
import os
import runpy
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, field
from inspect import CO_COROUTINE
from itertools import pairwise
from pathlib import Path
from time import perf_counter, sleep
from types import CodeType, FrameType
from typing import Any, NamedTuple

from tests.deadline import wait_until
from tests.house.figures import PACKAGE, ROOT
from tests.tcp import free_port

__all__ = ["ANSWER", "COMMIT", "PHASES", "STORE", "Walk", "walk"]

COMMIT, ANSWER, STORE = "commit", "answer", "store"
PHASES = (COMMIT, ANSWER, STORE)
"""From the socket to the commit, from there to the answer, and from the spool into the store."""

_ROUNDS = 5
_WARM = 2
_IDLE_SECONDS = 0.6
"""Between two requests, so that no delivery of the last one is left."""
_AFTER_SECONDS = 0.05
"""After the row is in the store, for the note that it is."""
_TIMEOUT_SECONDS = 200
_KEEPER, _WORKER = "keeper", "worker"
_DRAIN, _SPOOL = f"{_KEEPER} {PACKAGE}-drain", f"{_KEEPER} {PACKAGE}-spool"
_BESIDE = f"{_KEEPER} {PACKAGE}-checkpoints"
"""A thread that works for no request, but beside each that takes long."""
_SERVER = f"{PACKAGE}.server"
_MARKER = "203.0.113.10"
"""How the payloads begin; a digit follows."""
_DEPTH = 3
_MOST_ITEMS = 20


@dataclass
class Walk:
    """The modules of each phase in the order in which they ran first, and the shapes."""

    modules: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in PHASES})
    shapes: list[str] = field(default_factory=list)


def walk(folder: Path) -> Walk:
    """Start a sidecar in an empty folder, send requests, and take what all of them had in common,
    since what runs once a second or once a minute is not a request's."""
    port = str(free_port())
    names = ("GRPC__ADDRESS", "ADMIN__ADDRESS", "SANDBOX")  # what a worker notes is a file
    off = {f"COLLECTOR__{name}": "off" for name in names}
    data = {"COLLECTOR__DATA": str(folder / "data")}
    place = data | {"COLLECTOR__HTTP__ADDRESS": f"127.0.0.1:{port}"}
    command = [sys.executable, "-m", __name__, str(folder), port]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | off | place,
        capture_output=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return Walk(**json.loads(done.stdout))


# -- in the processes of the sidecar ----------------------------------------------------------


class _Call(NamedTuple):
    """A call of a function. ``resumed`` is that of a coroutine that goes on after a wait."""

    moment: float
    thread: str
    module: str
    resumed: bool


class _Shape(NamedTuple):
    """An object that holds the payload, and is handed on."""

    moment: float
    name: str


class _Recorder:
    """A profile function that notes calls of the package, and shapes of the payload."""

    def __init__(self, process: str) -> None:
        self.calls: list[_Call] = []
        self.shapes: list[_Shape] = []
        self._process = process
        self._coroutines: set[FrameType] = set()

    def __call__(self, frame: FrameType, event: str, result: Any) -> None:
        """Called by the interpreter for each call and return."""
        if event not in ("call", "return"):
            return
        module = frame.f_globals.get("__name__", "")
        is_ours = module.partition(".")[0] == PACKAGE
        if is_ours and event == "call":
            resumed = frame in self._coroutines
            thread = f"{self._process} {threading.current_thread().name}"
            self.calls.append(_Call(perf_counter(), thread, module, resumed))
            if frame.f_code.co_flags & CO_COROUTINE:
                self._coroutines.add(frame)
        if is_ours:
            values = _arguments(frame.f_code, frame) if event == "call" else [result]
            for value in values:
                self._look(value)

    def _look(self, value: Any) -> None:
        """Note the shape of a value if it holds the payload. An object counts as what it is; of a
        list of objects, these; a text is no payload but a value."""
        kind = type(value)
        if isinstance(value, str) or not self._holds(value, _DEPTH):
            return
        if kind in (list, tuple, dict) and not self._holds(value, 1):
            for item in value.values() if isinstance(value, dict) else value:
                self._look(item)
        elif _is_ours(kind) or kind in (bytes, list, tuple, dict):
            name = "row" if kind in (list, tuple) else kind.__name__
            self.shapes.append(_Shape(perf_counter(), name))

    def _holds(self, value: Any, depth: int) -> bool:
        if isinstance(value, str):
            return _MARKER in value
        if isinstance(value, bytes | bytearray):
            return _MARKER.encode() in value
        if depth == 0:
            return False
        if isinstance(value, dict):
            items = list(value.values())
        elif isinstance(value, list | tuple):
            items = list(value[:_MOST_ITEMS])
        elif _is_ours(type(value)):
            items = list(_attributes(value))
        else:
            return False
        return any(self._holds(item, depth - 1) for item in items[:_MOST_ITEMS])


def _is_ours(kind: type) -> bool:
    return (kind.__module__ or "").partition(".")[0] == PACKAGE


def _attributes(value: Any) -> list[Any]:
    names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    found = [getattr(value, name, None) for name in names if not name.startswith("__")]
    return [*found, *getattr(value, "__dict__", {}).values()]


def _arguments(code: CodeType, frame: FrameType) -> list[Any]:
    """Return the arguments of a call, without the object of a method."""
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    values = frame.f_locals
    return [values[name] for name in names if name in values and name not in ("self", "cls")]


def _rows(data: Path) -> int:
    name = f"file:{data}/store.db?mode=ro"
    with suppress(sqlite3.Error), closing(sqlite3.connect(name, uri=True)) as db:
        (number,) = db.execute("SELECT count(*) FROM conferencing").fetchone()
        return int(number)
    return 0


def _send(port: int, address: str) -> None:
    body = {"ip_address": address, "os": {"type": "ios", "version": "17.4.1"}, "chat": ["hello"]}
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/events", json.dumps(body).encode(), headers)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["admitted"]) == (200, 1)


class _Round(NamedTuple):
    """The moments of one request: sent, answered, and in the store."""

    began: float
    answered: float
    ended: float


def _round(data: Path, port: int, number: int) -> _Round:
    """Send one request and follow it until it is in the store."""
    sleep(_IDLE_SECONDS)
    before, began = _rows(data), perf_counter()
    _send(port, f"{_MARKER}{number}")
    answered = perf_counter()
    wait_until(lambda: _rows(data) != before)
    sleep(_AFTER_SECONDS)
    return _Round(began, answered, perf_counter())


def _divided(calls: list[_Call], shapes: list[_Shape], one: _Round) -> Walk:
    """The calls by phase. The commit is done when the spool's thread calls the server back, last
    before the coroutines of the worker are resumed, which wait for it."""
    calls = [call for call in calls if one.began <= call.moment <= one.ended]
    main = threading.main_thread().name
    served = (f"{_KEEPER} {main}", f"{_WORKER} {main}")
    own = [call for call in calls if call.thread == served[1] and call.moment < one.answered]
    resumed = max(
        after.moment for before, after in pairwise(own) if after.resumed and not before.resumed
    )
    calling = [call for call in calls if call.thread == _SPOOL and call.module.startswith(_SERVER)]
    done = max(call.moment for call in calling if call.moment < resumed)
    within = (shape.name for shape in shapes if one.began <= shape.moment <= one.ended)
    found = Walk(shapes=list(dict.fromkeys(within)))
    for moment, thread, module, _ in calls:
        if thread.startswith(_DRAIN):
            phase = STORE
        elif moment <= done and thread != _BESIDE:
            phase = COMMIT
        elif thread in served and moment < one.answered:
            phase = ANSWER
        else:
            continue
        if module not in found.modules[phase]:
            found.modules[phase].append(module)
    return found


def _common(walks: list[Walk]) -> Walk:
    """Return the parts that all of them have, in the order of the last."""
    *others, last = walks
    return Walk(
        {
            phase: [m for m in names if all(m in one.modules[phase] for one in others)]
            for phase, names in last.modules.items()
        },
        [shape for shape in last.shapes if all(shape in one.shapes for one in others)],
    )


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def _drive(recorder: _Recorder, folder: Path, port: int) -> None:
    """Send the requests, print the walk, and end the sidecar."""
    sys.setprofile(None)
    wait_until(lambda: _listens(port))
    rounds = [_round(folder / "data", port, number) for number in range(_WARM + _ROUNDS)]
    (folder / "ask").touch()
    wait_until((folder / "noted").exists)
    calls, shapes = json.loads((folder / "noted").read_text())
    both = sorted([*recorder.calls, *(_Call(*call) for call in calls)])
    seen = sorted([*recorder.shapes, *(_Shape(*shape) for shape in shapes)])
    walks = [_divided(both, seen, one) for one in rounds]
    print(json.dumps(vars(_common(walks[_WARM:]))), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


def _note(recorder: _Recorder, folder: Path) -> None:
    """Write what a worker has recorded into a file, once it is asked for."""
    sys.setprofile(None)
    while not (folder / "ask").exists():
        sleep(0.05)
    (folder / "new").write_text(json.dumps([recorder.calls, recorder.shapes]))
    (folder / "new").rename(folder / "noted")


def _record(process: str) -> _Recorder:
    recorder = _Recorder(process)
    threading.setprofile(recorder)
    return recorder


def _keep() -> None:
    """Run the sidecar; what it starts is this module again."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    script = folder / "interpreter"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {__spec__.name} "{folder}" "$@"\n')
    script.chmod(0o700)
    sys.executable = str(script)
    recorder = _record(_KEEPER)
    threading.Thread(target=_drive, args=(recorder, folder, port), daemon=True).start()
    sys.setprofile(recorder)
    sys.argv = ["collector", "serve"]
    from collector.cli import main  # noqa: PLC0415 - every thread of it is to be seen

    main()


def _work() -> None:
    """Run the module that an interpreter would, with its arguments."""
    folder = Path(sys.argv[1])
    sys.argv = sys.argv[sys.argv.index("-m") + 1 :]
    recorder = _record(_WORKER)
    threading.Thread(target=_note, args=(recorder, folder), daemon=True).start()
    sys.setprofile(recorder)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    if "-m" in sys.argv:
        _work()
    else:
        _keep()
