"""The playground: a confined process that filters pasted text, and the class that asks it.

``python -m collector.dev.playground DESCRIPTOR SCHEMA`` loads the schema, gives up files and system
calls as a worker does, and then answers requests over the socket in ``DESCRIPTOR``. A request is a
byte for the form, four bytes for the length, and the text. The answer is four bytes for the length,
and JSON. A process that takes too long or too much memory is ended, and the next request starts a
new one.
"""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

import orjson

from collector.contracts import SIGNALS, Signal
from collector.errors import InputError, SandboxError
from collector.filter import Filter
from collector.filter.explain import Explanation, explain
from collector.keyring import Keyring
from collector.sandbox import restrict_calls, restrict_files
from collector.schema import Schema, load_schema
from collector.server.worker_process import environment

Pasted = Literal["json", "ndjson", "logs", "traces", "metrics"]
FORMS: tuple[Pasted, ...] = ("json", "ndjson", *SIGNALS)
"""The forms of pasted text: a document, lines, or one of OTLP's signals as JSON."""

MOST_BYTES = 1 << 20
"""The longest text that is filtered."""
TOO_LONG = f"the playground takes {MOST_BYTES:,} bytes at most"
"""The error for a longer text."""
_MOST_EVENTS = 50
"""The most events that are shown."""
_MOST_ANSWER = 32 << 20
_SECONDS = 5.0
_FIRST_SECONDS = 30.0
_MEMORY = 1 << 30
"""The process's address space in bytes, including libraries and the stacks of threads."""
_READY = b"\1"


class Playground:
    """Asks a confined process about texts. Not safe to use from several threads.

    ``schema`` is the name or the path of a valid schema. Raises ``InputError`` E416 with the reason
    if a text is too long or there is no answer.
    """

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self.process: subprocess.Popen[bytes] | None = None
        """The process that answers; started by the first request."""
        self._channel: socket.socket | None = None
        self.is_confined: bool = False
        """Whether the kernel confines the process that answered last."""

    def __repr__(self) -> str:
        return "<Playground>"

    def ask(self, form: Pasted, text: bytes) -> bytes:
        """Return what the filter makes of a text, as JSON: its events and its counts."""
        if len(text) > MOST_BYTES:
            raise InputError("E416", TOO_LONG)
        channel = self._started()
        try:
            head = bytes([FORMS.index(form)]) + len(text).to_bytes(4, "big")
            channel.settimeout(_SECONDS)
            channel.sendall(head + text)
            return _received(channel, int.from_bytes(_received(channel, 4), "big"))
        except OSError:
            self.close()
            message = "it takes longer than 5 s, or more memory than the playground has"
            raise InputError("E416", message) from None

    def close(self) -> None:
        """End the process, if there is one."""
        if self._channel is not None:
            self._channel.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self._channel = self.process = None

    def _started(self) -> socket.socket:
        """Return the channel to the process; start the process if need be."""
        if self._channel is not None:
            return self._channel
        ours, theirs = socket.socketpair()
        with theirs:
            words = [sys.executable, "-B", "-P", "-s", "-m", __name__, str(theirs.fileno())]
            self.process = subprocess.Popen(  # noqa: S603 - our own module
                [*words, self._schema],
                pass_fds=[theirs.fileno()],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        ours.settimeout(_FIRST_SECONDS)
        self._channel = ours
        try:
            self.is_confined = _received(ours, 1) == _READY
        except OSError:
            self.close()
            message = "the playground's process does not start"
            raise InputError("E416", message) from None
        return ours


def answer(chosen: Filter, form: Pasted, text: bytes) -> dict[str, Any]:
    """Filter a text. Return its events with the outcome for each field, and the counts; for an OTLP
    body, the records and the counts."""
    if form in SIGNALS:
        return _of_otlp(chosen, form, text)
    explained = [*explain(chosen.router, text, form == "ndjson", _MOST_EVENTS + 1)]
    admission = (chosen.admit_lines if form == "ndjson" else chosen.admit)(text)
    events = [_event(chosen.schema, each) for each in explained[:_MOST_EVENTS]]
    is_whole = len(explained) <= _MOST_EVENTS
    return {"events": events, "tally": admission.tally.as_dict(), "is_whole": is_whole}


def _of_otlp(chosen: Filter, form: Signal, text: bytes) -> dict[str, Any]:
    admission = chosen.admit_otlp(form, text, protobuf=False)
    records = [*admission.records]
    events = [
        {"verdict": "admitted", "record": record, "fields": _rules(chosen.schema, record)}
        for record in records[:_MOST_EVENTS]
    ]
    is_whole = len(records) <= _MOST_EVENTS
    return {"events": events, "tally": admission.tally.as_dict(), "is_whole": is_whole}


def _rules(schema: Schema, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "outcome": "kept", "value": value, "rule": schema.fields[name].description}
        for name, value in record.items()
        if name in schema.fields
    ]


def _event(schema: Schema, explanation: Explanation) -> dict[str, Any]:
    fields = [
        {
            "name": name,
            "outcome": found.outcome,
            "from": found.source,
            "value": found.value,
            "rule": schema.fields[name].description,
        }
        for name, found in explanation.fields.items()
        if found.outcome != "absent"
    ]
    return {
        "verdict": explanation.verdict,
        "record": explanation.record,
        "fields": fields,
        "content": explanation.content,
        "unlisted": explanation.unlisted,
    }


def _received(channel: socket.socket, size: int) -> bytes:
    """Receive ``size`` bytes. Raises ``OSError`` if they do not come."""
    if size > _MOST_ANSWER:
        raise ConnectionError
    found = bytearray()
    while len(found) < size:
        if not (more := channel.recv(min(size - len(found), 1 << 16))):
            raise ConnectionError
        found += more
    return bytes(found)


def main() -> None:
    """Answer until the other end closes the channel."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    channel = socket.socket(fileno=int(sys.argv[1]))
    chosen = Filter(load_schema(sys.argv[2]), keys=Keyring())
    for form in FORMS:  # loads the modules that are needed later
        answer(chosen, form, b"{}")
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    is_confined = False
    with suppress(SandboxError):
        restrict_files()
        restrict_calls()
        is_confined = True
    channel.sendall(_READY if is_confined else b"\0")
    with suppress(OSError):
        while True:
            form = FORMS[_received(channel, 1)[0]]
            text = _received(channel, int.from_bytes(_received(channel, 4), "big"))
            told = orjson.dumps(answer(chosen, form, text))
            channel.sendall(len(told).to_bytes(4, "big") + told)


if __name__ == "__main__":
    main()
