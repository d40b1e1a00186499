"""Commands of the operator to a recorder that runs, over ``control.sock`` in its directory (0600).

Without a running recorder a command opens the directory itself; both ways lead to ``operate``.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from collector.errors import DeliveryError
from collector.ingest.request import HttpRequest
from collector.ingest.responses import HttpResponse
from collector.recording.names import is_recording
from collector.recording.recorder import Recorder
from collector.recording.refusals import REFUSALS, Refused

SOCKET_NAME = "control.sock"
_LONGEST_PATH = 100
_HANDLES = Path("/proc/self/fd")
_SECONDS = 600.0
"""How long a command waits; every key is wrapped anew by ``rotate``."""


@contextmanager
def socket_path(directory: Path) -> Iterator[Path]:
    """Give a path of the socket file that the system takes, which is about 100 bytes at most: for a
    longer one, it leads through an open handle of the directory (Linux)."""
    path = directory / SOCKET_NAME
    if len(os.fsencode(path)) <= _LONGEST_PATH or not _HANDLES.is_dir():
        yield path
        return
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield _HANDLES / str(handle) / SOCKET_NAME
    finally:
        os.close(handle)


def operate(recorder: Recorder, action: str, recording: str = "") -> None:
    """Do what an operator asks for: ``erase`` a recording, or ``rotate``.

    Raises ``Refused``: ``not_found`` for another action too.
    """
    if action == "erase":
        recorder.erase_now(recording)
    elif action == "rotate":
        recorder.rotate()
    else:
        raise Refused("not_found")


class ControlHandler:
    """The HTTP handler of the socket file: ``POST /erase/{id}`` and ``POST /rotate``."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        """Respond to a request, with the code of a refusal."""
        _, _, path = request.path.partition("/")
        action, _, recording = path.partition("/")
        try:
            if request.method != "POST":
                raise Refused("not_found")
            await asyncio.to_thread(operate, self._recorder, action, recording)
        except Refused as refused:
            return HttpResponse(refused.status, (), json.dumps({"code": refused.code}).encode())
        return HttpResponse(204)


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket file."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(str(self._path))


def ask(directory: Path, action: str, recording: str = "") -> None:
    """Have the recorder that has a directory do what ``operate`` does.

    Raises ``Refused`` as it does, and ``DeliveryError`` E514 without an answer.
    """
    if action == "erase" and not is_recording(recording):  # no path of a request may have it
        raise Refused("not_found")
    code = "unanswered"
    with (
        suppress(OSError, http.client.HTTPException, ValueError, KeyError),
        socket_path(directory) as path,
        closing(_Connection(path)) as connection,
    ):
        connection.request("POST", f"/{action}/{recording}".rstrip("/"))
        response = connection.getresponse()
        code = "" if response.status == 204 else str(json.loads(response.read())["code"])
    if code in REFUSALS:
        raise Refused(code)
    if code:
        message = "the recorder that uses this directory does not answer; stop it, and try again"
        raise DeliveryError("E514", message)
