"""Operator commands to a running recorder, over the control socket in its directory.

A command is one line of JSON with an action and a recording. The answer is the code of a refusal,
or an empty text. Without a running recorder a command opens the directory itself; both ways lead to
``operate``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from collector.control_socket import exchange
from collector.errors import DeliveryError
from collector.recording.recorder import Recorder
from collector.recording.refusals import Refused

_REQUEST_SECONDS = 5.0
_SECONDS = 600.0
"""How long a command waits: ``rotate`` wraps every key anew."""


def operate(recorder: Recorder, action: str, recording: str = "") -> None:
    """Do what an operator asks for: ``erase`` a recording, or ``rotate``.

    Raises ``Refused``, ``not_found`` also for an unknown action.
    """
    if action == "erase":
        recorder.erase_now(recording)
    elif action == "rotate":
        recorder.rotate()
    else:
        raise Refused("not_found")


async def answer(
    recorder: Recorder,
    on_error: Callable[[Exception], object],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Carry out the command of a connection, and answer it. Close the connection without an answer
    if no command comes in time, or if the recorder ends."""
    code = ""
    with closing(writer), suppress(asyncio.CancelledError, OSError):  # OSError: the caller is gone
        try:
            line = await asyncio.wait_for(reader.readline(), _REQUEST_SECONDS)
            action, recording = msgspec.json.decode(line, type=tuple[str, str])
        except (TimeoutError, ValueError, RecursionError):  # ValueError: too long, or no command
            return
        try:
            await asyncio.to_thread(operate, recorder, action, recording)
        except Refused as refused:
            code = refused.code
        except Exception as error:  # noqa: BLE001 - whatever happens, the command is answered
            on_error(error)
            code = "unavailable"
        writer.write(json.dumps(code).encode() + b"\n")
        await writer.drain()


def ask(directory: Path, action: str, recording: str = "") -> None:
    """Ask the running recorder of a directory to do what ``operate`` does.

    Raises ``Refused`` as ``operate`` does, and ``DeliveryError`` E514 without an answer.
    """
    answered = exchange(directory, json.dumps([action, recording]).encode() + b"\n", _SECONDS)
    if answered is None or not answered.endswith(b"\n"):
        message = "the recorder that uses this directory does not answer; stop it, and try again"
        raise DeliveryError("E514", message)
    if code := json.loads(answered):
        raise Refused(code)
