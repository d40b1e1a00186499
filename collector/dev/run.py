"""Run a sidecar with temporary data, its feed and the page, until Ctrl-C."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from itertools import islice
from pathlib import Path
from shlex import quote
from socket import create_server
from tempfile import TemporaryDirectory
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any

import orjson

from collector.dev import feed
from collector.dev.playground import Pasted, Playground
from collector.dev.site import Site
from collector.errors import (
    CollectorError,
    ConfigError,
    ConfigFaults,
    DeliveryError,
    SchemaError,
)
from collector.schema import load_schema
from collector.server import control_client
from collector.server.control_client import Reload
from collector.server.rates import Sample, summary

_FIRST_SECONDS = 30.0
_LOOK_SECONDS = 0.25
_FEED_SECONDS = 0.5
_STOP_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end it."""
_EVENTS = 5
"""How many events are sent at once."""
_SHOWN = 72
"""How many characters of a text are shown."""
_HEADERS = {"Content-Type": "application/json"}


class Dev:
    """A sidecar for trials. ``schema`` is a name or a path. ``port`` is the port of its HTTP
    address; the page has the second port after it. Its data is deleted when ``stack`` is closed.
    When the schema's file changes, ``tell`` gets a line for each fault, or one that the schema is
    in force.

    Raises ``SchemaError`` if the schema does not load, and ``ConfigError`` E207 if the sidecar or
    the page cannot start.
    """

    def __init__(
        self,
        schema: str,
        port: int,
        *,
        feeds: bool,
        stack: ExitStack,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._tell = tell
        self._path = schema
        self._port = port
        self._schema = load_schema(schema)
        self._seen = _changed(schema)
        self._events = feed.events(self._schema, schema)
        self._faults: list[str] = []
        self._latest: dict[str, Any] | None = None
        self._samples: list[Sample] = []
        self._lock = Lock()
        self._ends = Event()
        _refuse_taken(range(port, port + 3))
        self._playground = Playground(schema)
        stack.callback(self._playground.close)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="collector-dev-")))
        self._data = folder / "data"
        self._log = folder / "log"
        self._sidecar = self._started(stack)
        try:
            self._site = Site(port + 2, self.state, self.ask)
        except OSError:
            raise _taken(port + 2) from None
        stack.callback(self._site.server_close)
        self._jobs = [
            (self._look, _LOOK_SECONDS),
            *([(self._feed, _FEED_SECONDS)] if feeds else []),
        ]

    def __repr__(self) -> str:
        return f"<Dev, {self.url}>"

    @property
    def url(self) -> str:
        """Where the page is."""
        return self._site.url

    @property
    def curl(self) -> str:
        """A command that sends an event."""
        text = feed.sent(self._schema)
        return f"curl http://127.0.0.1:{self._port}/v1/events --json {quote(text)}"

    def run(self) -> None:
        """Serve the page until the sidecar ends, which is an error: E207."""
        threads = [Thread(target=self._repeat, args=job, daemon=True) for job in self._jobs]
        threads.append(Thread(target=self._site.serve_forever, daemon=True))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # they are for this thread only
        try:
            for thread in threads:
                thread.start()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._sidecar.wait()
        finally:
            self._ends.set()
            self._site.shutdown()
        raise self._failed()

    def state(self) -> dict[str, Any]:
        """Return what the page shows."""
        samples = self._samples  # two at most
        return {
            "schema": self._schema.id,
            "faults": self._faults,
            "now": summary(*samples) if len(samples) > 1 else None,
            "latest": self._latest,
            "confined": self._playground.is_confined,
            "public": f"http://127.0.0.1:{self._port + 1}/",
            "curl": self.curl,
        }

    def ask(self, form: Pasted, text: bytes) -> bytes:
        """Filter a text in the playground; the answer is JSON."""
        with self._lock:
            return self._playground.ask(form, text)

    def _started(self, stack: ExitStack) -> subprocess.Popen[bytes]:
        """Start the sidecar, and wait until it accepts events."""
        words = ["serve", "--data", self._data, "--schema", self._path, "--port", self._port]
        environ = {name: text for name, text in os.environ.items() if "COLLECTOR_" not in name}
        with self._log.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own command; no thread runs yet
                [sys.executable, "-m", "collector", *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environ,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - no thread runs yet
                start_new_session=True,  # Ctrl-C is for this process, which ends that one
            )
        stack.callback(_end, process)
        deadline = monotonic() + _FIRST_SECONDS
        while monotonic() < deadline:
            with suppress(DeliveryError):
                if (found := control_client.status(self._data)) is not None and found["ready"]:
                    return process
            if process.poll() is not None:
                break
            self._ends.wait(0.05)
        raise self._failed()

    def _failed(self) -> ConfigError:
        """Return an error with what the sidecar said last."""
        said = self._log.read_text("utf-8", "replace").strip().splitlines()
        last = re.sub(r" \[E\d+\]$", "", said[-1]) if said else "no reason"
        return ConfigError("E207", f"the sidecar does not run: {last}")

    def _repeat(self, job: Callable[[], None], seconds: float) -> None:
        """Do a job again and again. The page shows a failure, or it goes away."""
        while not self._ends.wait(seconds):
            with suppress(CollectorError, OSError):
                job()

    def _look(self) -> None:
        """Sample the sidecar once a second, and reload the schema when its file changes."""
        if not self._samples or monotonic() - self._samples[-1].at >= 1.0:
            found = control_client.status(self._data)
            if found is not None:
                self._samples = [*self._samples[-1:], Sample(monotonic(), found)]
        if (changed := _changed(self._path)) != self._seen:
            self._seen = changed
            self._reload()

    def _reload(self) -> None:
        """Put the schema's file into force, or show its faults."""
        try:
            schema = load_schema(self._path)
            control_client.ask(self._data, Reload(allow_widening=True))
        except (SchemaError, ConfigFaults) as error:
            self._faults = [*map(str, error.faults)]
        except CollectorError as error:
            self._faults = [str(error)]
        else:
            self._faults, self._schema = [], schema
            self._events = feed.events(schema, self._path)
            with self._lock:
                self._playground.close()
        for line in self._faults or [f"{self._schema.id} is in force"]:
            self._tell(line)

    def _feed(self) -> None:
        """Send some events, and show what happens to the last one."""
        events = [*islice(self._events, _EVENTS)]
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_STOP_SECONDS)
        try:
            connection.request("POST", "/v1/events", orjson.dumps(events), _HEADERS)
            connection.getresponse().read()
        finally:
            connection.close()
        found = self.ask("json", orjson.dumps(events[-1:]))  # a list alone would be many events
        text = orjson.dumps(_shortened(events[-1]), option=orjson.OPT_INDENT_2).decode()
        self._latest = {"text": text, "found": orjson.Fragment(found)}


def _refuse_taken(ports: range) -> None:
    """Raise ``ConfigError`` E207 if a port is in use, before anything starts."""
    for port in ports:
        try:
            create_server(("127.0.0.1", port)).close()
        except OSError:
            raise _taken(port) from None


def _taken(port: int) -> ConfigError:
    return ConfigError("E207", f"port {port} is in use; choose others with `--port`")


def _changed(schema: str) -> tuple[int, int] | None:
    """Return a value that differs between versions of a file; ``None`` if there is no file."""
    with suppress(OSError):
        found = Path(schema).stat()
        return found.st_mtime_ns, found.st_ino
    return None


def _shortened(value: Any) -> Any:
    """Cut the long texts of an event, which are noise in place of media."""
    if isinstance(value, dict):
        return {name: _shortened(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shortened(inner) for inner in value]
    is_long = isinstance(value, str) and len(value) > _SHOWN
    return f"{value[:_SHOWN]}…" if is_long else value


def _end_with_parent() -> None:
    """Have the kernel end the sidecar when this process ends, in whatever way."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the sidecar if it runs: with a signal first, then by force."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
