"""The load: a process that sends requests over several connections, and prints the outcome.

    python -m benchmarks.sidecar.load PLAN

``PLAN`` is the JSON of a ``Plan``. Without a rate, each connection sends as soon as it has its
answer. With a rate, every request has its due time, even if earlier ones are unanswered. Waiting
for a connection then counts as latency; otherwise a server that stalls would look quick
("coordinated omission").
"""

from __future__ import annotations

import selectors
import socket
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing
from itertools import count, cycle, islice
from time import perf_counter, process_time

import msgspec

from benchmarks.data import stream

_PIECE = 1 << 18
_GIVE_UP_SECONDS = 30.0


class Plan(msgspec.Struct, frozen=True):
    """What to send, and where. ``rate`` is in requests per second, ``kind`` a content type;
    ``bodies`` different bodies of ``events`` events each are sent in turns."""

    port: int
    path: str
    kind: str
    corpus: str
    events: int
    bodies: int
    connections: int
    seconds: float
    warmup: float = 0.0
    rate: float | None = None


class Outcome(msgspec.Struct, frozen=True):
    """The measured requests by status, with their latencies in seconds, in order; and the number of
    all successful requests. ``share`` is the share of a core that sending took."""

    seconds: float
    statuses: dict[int, int]
    latencies: list[float]
    taken: int
    share: float = 0.0


def bodies(plan: Plan) -> list[bytes]:
    """Lines, or an array for servers that take no lines."""
    lines = stream(plan.corpus, plan.events * plan.bodies)
    each = (list(islice(lines, plan.events)) for _ in range(plan.bodies))
    if "ndjson" in plan.kind:
        return [b"".join(line + b"\n" for line in chosen) for chosen in each]
    return [b"[" + b",".join(chosen) + b"]" for chosen in each]


class _Connection:
    """A keep-alive connection with at most one pending request."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.since = 0.0
        self._left = memoryview(b"")
        self._answer = b""

    def begin(self, request: bytes, since: float) -> None:
        """Take a request that has been pending since then."""
        self.since = since
        self._left = memoryview(request)
        self._answer = b""

    def send(self) -> bool:
        """Send as much as possible; return whether everything is sent."""
        while self._left:
            try:
                sent = self.socket.send(self._left[:_PIECE])
            except BlockingIOError:
                return False
            self._left = self._left[sent:]
        return True

    def status(self) -> int | None:
        """Receive; return the status once the answer is complete."""
        part = self.socket.recv(_PIECE)
        if not part:
            raise ConnectionError("the server hung up")
        self._answer += part
        head, end, body = self._answer.partition(b"\r\n\r\n")
        name = b"\ncontent-length:"
        _, _, length = head.lower().partition(name)
        if not end or len(body) < int(length.partition(b"\r")[0] or 0):
            return None
        return int(head[9:12])


class _Drive:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._requests = cycle([_request(plan, body) for body in bodies(plan)])
        self._connections = [_Connection(plan.port) for _ in range(plan.connections)]
        self._idle = deque(self._connections)
        self._selector = selectors.DefaultSelector()
        for connection in self._idle:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._begin = perf_counter()
        self._counts_from = self._begin + plan.warmup
        self._end = self._counts_from + plan.seconds
        self._moments = self._schedule()
        self._due = next(self._moments)
        self._statuses: Counter[int] = Counter()
        self._latencies: list[float] = []
        self._taken = 0

    def _schedule(self) -> Iterator[float]:
        """When requests are due: at the rate, or immediately."""
        if (rate := self._plan.rate) is None:
            while True:
                yield self._begin
        for number in count():
            yield self._begin + number / rate

    def run(self) -> Outcome:
        """Run until everything that was due in time is answered."""
        used = process_time()
        while True:
            now = self._send_due()
            is_over = self._due >= self._end or (self._plan.rate is None and now >= self._end)
            if is_over and len(self._idle) == self._plan.connections:
                break
            if now > self._end + _GIVE_UP_SECONDS:
                raise TimeoutError("the server does not answer")
            wait = max(0.0, self._due - now) if self._idle and not is_over else 1.0
            for key, events in self._selector.select(wait):
                if events & selectors.EVENT_WRITE:
                    self._send(key.data)
                if events & selectors.EVENT_READ:
                    self._receive(key.data)
        share = (process_time() - used) / (perf_counter() - self._begin)
        latencies = sorted(self._latencies)
        return Outcome(self._plan.seconds, dict(self._statuses), latencies, self._taken, share)

    def close(self) -> None:
        self._selector.close()
        for connection in self._connections:
            connection.socket.close()

    def _send_due(self) -> float:
        """Begin all requests that are due while connections are free; return the time."""
        now = perf_counter()
        while self._idle and self._due <= now:
            if self._due >= self._end or (self._plan.rate is None and now >= self._end):
                break
            connection = self._idle.popleft()
            since = now if self._plan.rate is None else self._due
            connection.begin(next(self._requests), since)
            self._send(connection)
            self._due = next(self._moments)
            now = perf_counter()
        return now

    def _send(self, connection: _Connection) -> None:
        """Send, and wait for room if there is more to send."""
        wants = selectors.EVENT_READ | (0 if connection.send() else selectors.EVENT_WRITE)
        if self._selector.get_key(connection.socket).events != wants:
            self._selector.modify(connection.socket, wants, connection)

    def _receive(self, connection: _Connection) -> None:
        status = connection.status()
        if status is None:
            return
        now = perf_counter()
        self._idle.append(connection)
        self._taken += 200 <= status < 300
        # At a rate, requests that were due in time count; otherwise, those that were answered in
        # time.
        moment = now if self._plan.rate is None else connection.since
        if self._counts_from <= moment < self._end:
            self._statuses[status] += 1
            self._latencies.append(now - connection.since)


def _request(plan: Plan, body: bytes) -> bytes:
    lines = (
        f"POST {plan.path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: {plan.kind}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def drive(plan: Plan) -> Outcome:
    """Send as planned for ``seconds``, after ``warmup`` seconds that do not count."""
    with closing(_Drive(plan)) as run:
        return run.run()


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(drive(msgspec.json.decode(sys.argv[1], type=Plan))))
