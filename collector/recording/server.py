"""The recorder process: check, open, listen, wait for a signal, close every grant, end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from threading import Event, Thread, Timer
from time import monotonic

import uvloop

from collector.config import Address, Config, Loaded
from collector.control_socket import FILE_NAME as CONTROL_NAME
from collector.errors import ConfigError
from collector.files import short_path
from collector.ingest.limits import IngestLimits
from collector.ingest.protocol import in_task
from collector.ingest.request import HttpRequest
from collector.ingest.responses import HttpResponse
from collector.ops.error_log import LibraryLogHandler
from collector.ops.log import EventLog, EventName
from collector.recording.access import Verifier
from collector.recording.api import RecorderApi
from collector.recording.control import answer
from collector.recording.metrics import RecorderMetrics
from collector.recording.names import MAX_CHUNK_BYTES
from collector.recording.recorder import Recorder
from collector.recording.settings import bucket_options, require_sound, verifier
from collector.server import listeners
from collector.server.admin import AdminPages, State
from collector.server.http_receiver import HttpReceiver
from collector.server.lifecycle import notify, restore_signals, signalled
from collector.server.listeners import Location

_GRACE_SECONDS = 3
_SHUTDOWN_SECONDS = 20.0
"""How long the process may take to end, so that an unresponsive disk or bucket cannot keep it."""
_TICK_SECONDS = 1.0
_FAILING: dict[str, tuple[EventName, EventName]] = {
    "bucket": ("uploads_failing", "uploads_recovered"),
    "disk": ("disk_full", "disk_recovered"),
    "keys": ("keys_failing", "keys_recovered"),
}
"""The log events when a part fails, and when it is ready again."""
_OPERATORS = frozenset({"/livez", "/readyz", "/metrics"})


def serve(loaded: Loaded) -> int:
    """Run until SIGTERM or SIGINT. Returns 0 when every grant is closed or the time is up.

    A second signal ends the process at once: acknowledged chunks are on disk anyway. Raises
    ``ConfigError`` or ``ConfigFaults`` if it cannot start.
    """
    config = loaded.config
    places = _places(config)
    require_sound(loaded)
    log = EventLog(config.log.level)
    LibraryLogHandler(log).install()
    deadline = Timer(_SHUTDOWN_SECONDS, os._exit, (0,))
    deadline.daemon = True
    with ExitStack() as stack:
        # It stays after a signal: Python waits for threads, and one may be waiting for the bucket.
        stack.push(lambda kind, *_: None if kind is None else deadline.cancel())
        for setting, place in places.items():
            listeners.check(place, setting)
        verifying = verifier(config.recorder)
        recorder = stack.enter_context(closing(open_recorder(config)))
        listening = {place: listeners.opened(place, name, stack) for name, place in places.items()}
        data = config.recorder.data or Path()
        path = Path(stack.enter_context(short_path(data / CONTROL_NAME)))
        control = listeners.opened(path, "recorder.data", stack)
        stack.enter_context(_ticking(recorder, log))
        with asyncio.Runner(debug=False, loop_factory=uvloop.new_event_loop) as runner:
            process = _Process(config, log, recorder, verifying)
            stopped_at = runner.run(process.run(listening, control, deadline))
        restore_signals()
    log.write("stopped", seconds=round(monotonic() - stopped_at, 3))
    return 0


def open_recorder(config: Config) -> Recorder:
    """Open the recorder that a configuration describes, for this process only.

    Raises ``InUse`` and ``ConfigError``.
    """
    chosen = config.recorder
    return Recorder(
        chosen.data or Path(),
        bucket=chosen.bucket,
        options=bucket_options(chosen),
        queue_bytes=chosen.queue,
        longest_seconds=chosen.longest,
        local_seconds=chosen.local_time,
        most_retention=chosen.retention,
    )


def _places(config: Config) -> dict[str, Location]:
    """Return where to listen, by setting. Raises ``ConfigError`` E122 if the recorder is off."""
    chosen = config.recorder
    found = {"recorder.address": chosen.address, "recorder.unix": chosen.unix}
    places = {name: place for name, place in found.items() if place is not None}
    if not chosen.enabled or chosen.keys is None or not places:
        message = "the recorder is off: set `recorder.enabled`, `recorder.keys` and an address"
        raise ConfigError("E122", message)
    return places


@contextmanager
def _ticking(recorder: Recorder, log: EventLog) -> Iterator[None]:
    """Call the recorder's ``tick`` regularly, in a separate thread."""
    ended = Event()

    def tick() -> None:
        while not ended.wait(_TICK_SECONDS):
            try:
                recorder.tick()
            except Exception as error:  # noqa: BLE001 - time goes on
                log.unexpected(error)

    thread = Thread(target=tick, name="tick")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _Process:
    """The handlers of a recorder that listens."""

    def __init__(
        self, config: Config, log: EventLog, recorder: Recorder, verifier: Verifier
    ) -> None:
        self._config, self._log = config, log
        self._recorder, self._verifier = recorder, verifier
        self._limits = _limits(config)

    async def run(
        self,
        listening: Mapping[Location, socket.socket],
        control: socket.socket,
        deadline: Timer,
    ) -> float:
        """Serve until a signal, and return when it came."""
        ending = signalled(asyncio.get_running_loop(), self._log)
        api = self._api()
        receivers = [self._receiver(api, *each) for each in listening.items()]
        for receiver in receivers:
            await receiver.start()
        carry_out = partial(answer, self._recorder, self._log.unexpected)
        operator = await asyncio.start_unix_server(carry_out, sock=control, **listeners.KEEP_FILE)
        notify("READY=1")
        self._log.write("started", **_ports(receivers))
        await self._watch(ending)
        received, stopped_at = ending.result()
        deadline.start()
        notify("STOPPING=1")
        self._log.write("stopping", signal=received)
        operator.close()
        await asyncio.gather(*(each.stop(_GRACE_SECONDS) for each in receivers))
        await asyncio.to_thread(api.close)
        return stopped_at

    async def _watch(self, ending: asyncio.Future[tuple[int, float]]) -> None:
        """Log when the bucket, the disk or the keys start or stop failing, until a signal comes."""
        failing = set[str]()
        while not ending.done():
            await asyncio.wait([ending], timeout=_TICK_SECONDS)
            states = self._readiness()
            for name, events in _FAILING.items():
                if (states[name] != "ok") != (name in failing):
                    failing ^= {name}
                    self._log.write(events[name not in failing])

    def _api(self) -> RecorderApi:
        chosen = self._config.recorder
        return RecorderApi(
            self._recorder,
            self._verifier,
            self._limits,
            hosts=listeners.accepted_hosts(chosen.address, chosen.hosts),
            on_error=self._log.unexpected,
        )

    def _receiver(
        self, api: RecorderApi, place: Location, listening: socket.socket
    ) -> HttpReceiver:
        is_file = not isinstance(place, Address)
        certificates = None if is_file else listeners.certificates(self._config)
        ends = None if certificates is None else certificates.validity[1]
        metrics = RecorderMetrics(self._recorder.state, lambda: api.refusals, ends)
        pages = _Pages(api, partial(AdminPages, self._readiness, metrics.text))
        context = None if certificates is None else certificates.context()
        return HttpReceiver(in_task(pages), place, listening, self._limits, context=context)

    def _readiness(self) -> Mapping[str, State]:
        state = self._recorder.state()
        is_full = state.queued_bytes + MAX_CHUNK_BYTES > self._config.recorder.queue
        return {
            "queue": "failing" if is_full else "ok",
            "bucket": "late" if state.is_failing else "ok",
            "disk": "ok" if self._recorder.vault.has_room() else "failing",
            "keys": self._verifier.state(),
        }


class _Pages:
    """The handler of an address: health for everybody, metrics for this machine, and the API.

    Even on this machine, a request for metrics must have a loopback name as its ``Host``, so that a
    web page in a browser cannot ask for them.
    """

    def __init__(self, api: RecorderApi, pages: partial[AdminPages]) -> None:
        self._api = api
        self._local, self._other = pages(), pages(admits=lambda _: False)

    async def __call__(self, request: HttpRequest) -> HttpResponse | None:
        """Respond to a request."""
        if request.path not in _OPERATORS:
            return await self._api(request)
        return await (self._local if _is_local(request) else self._other)(request)


def _is_local(request: HttpRequest) -> bool:
    peer = request.peer(0)
    if peer is None:
        return True
    with suppress(ValueError):
        return ip_address(peer).is_loopback
    return False


def _limits(config: Config) -> IngestLimits:
    """Return the limits for callers from the settings; the largest body is a chunk."""
    chosen = config.limits
    return IngestLimits(
        wire=MAX_CHUNK_BYTES,
        body=MAX_CHUNK_BYTES,
        header_bytes=chosen.header,
        header_seconds=chosen.header_time,
        body_seconds=chosen.body_time,
        connections=chosen.connections,
    )


def _ports(receivers: list[HttpReceiver]) -> dict[str, int]:
    """Return, for the log, the port of ``recorder.address``, and 1 for a socket file."""
    addresses = [each.address for each in receivers]
    named = {"recorder" if isinstance(each, Address) else "unix": each for each in addresses}
    return {name: getattr(each, "port", 1) for name, each in named.items()}
