"""Commands of the operator to a recorder that runs, over ``control.sock`` in its directory (0600).

Without a running recorder a command opens the directory itself; both ways lead to ``operate``.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from time import monotonic

from collector.errors import DeliveryError
from collector.http_client import Endpoint, HttpClient
from collector.ingest.request import HttpRequest
from collector.ingest.responses import HttpResponse
from collector.recording.names import is_recording
from collector.recording.recorder import Recorder
from collector.recording.refusals import REFUSALS, Refused

SOCKET_NAME = "control.sock"
_SECONDS = 600.0
"""How long a command waits; every key is wrapped anew by ``rotate``."""


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


def ask(directory: Path, action: str, recording: str = "") -> None:
    """Ask the recorder that runs in a directory to do what ``operate`` does.

    Raises ``Refused`` as it does, and ``DeliveryError`` E514 without an answer.
    """
    if action == "erase" and not is_recording(recording):  # no path of a request may have it
        raise Refused("not_found")
    end = monotonic() + _SECONDS
    client = HttpClient(Endpoint("unix", path=directory / SOCKET_NAME), None, lambda: end)
    code = "unanswered"
    with suppress(ValueError, KeyError):
        response = client.request("POST", f"/{action}/{recording}".rstrip("/"), {})
        if response is not None:
            code = "" if response.status == 204 else str(json.loads(response.body)["code"])
    client.release()
    if code in REFUSALS:
        raise Refused(code)
    if code:
        message = "the recorder that uses this directory does not answer; stop it, and try again"
        raise DeliveryError("E514", message)
