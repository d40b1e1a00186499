"""Attacks on the whole sidecar: it answers each as documented, in bounded memory, and an honest
sender hardly notices.

By default every third attack runs. ``COLLECTOR_BOMBS=most`` runs all that are not slow.
``COLLECTOR_BOMBS=full`` runs all, and repeats each for a while, with more senders and 1,000
sockets.
"""

from __future__ import annotations

import re
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]
import pytest

from tests.sidecar import attacks
from tests.sidecar.healthy import Times, honest
from tests.sidecar.senders import METHODS
from tests.support import http2
from tests.support.failing_disk import Say
from tests.support.latency import BOMBS, IS_FULL, assert_served, at_most, quantile
from tests.support.processes import peak
from tests.support.sidecar import COMMAND, Sidecar, started

pytestmark = [
    pytest.mark.long,
    pytest.mark.timed,
    pytest.mark.skipif(
        not Path("/proc/self/status").exists(), reason="peak memory is read from /proc"
    ),
]

_SENDERS, _ATTACK_SECONDS, _SOCKETS = (8, 3.0, 1000) if IS_FULL else (3, 0.0, 200)
_MOST_MEGABYTES = 256
_QUIET_SECONDS = 1.5
_LATE_SECONDS = 30
_SLOW = ("lines of empty objects, packed", "19,999 resources", "empty resources, packed")
"""Skipped by default: each takes seconds of work, and covers no other path than the rest."""


class Watched:
    """A sidecar under attack, with an honest sender beside it."""

    def __init__(self, sidecar: Sidecar, say: Say) -> None:
        self.sidecar = sidecar
        self.windows: dict[str, tuple[float, float, str]] = {}
        self._say = say

    def attack(self, name: str, send: Callable[[], Any]) -> Counter[Any]:
        """Attack with several senders at once, and count the answers."""
        began = time.monotonic()

        def work(_: int) -> list[Any]:
            answers = [send()]
            while time.monotonic() < began + _ATTACK_SECONDS:
                answers.append(send())
            return answers

        with ThreadPoolExecutor(_SENDERS) as pool:
            answers = Counter(str(a) for part in pool.map(work, range(_SENDERS)) for a in part)
        said = ", ".join(f"{answer}: {times}" for answer, times in sorted(answers.items()))
        self.windows[name] = began, time.monotonic(), said
        return answers

    def megabytes(self) -> float:
        """The most memory that one of the processes has had."""
        return peak(self.sidecar.process.pid)

    def report(self, times: Times) -> None:
        """Print one line for each attack: how long it took, how long honest batches took, and the
        answers."""
        for name, (began, ended, said) in self.windows.items():
            meanwhile = [seconds for at, seconds in times if began < at <= ended]
            p99 = f"p99 {1000 * quantile(meanwhile):4.0f} ms" if meanwhile else "p99 -"
            self._say(f"{name:36} {ended - began:5.1f} s  {p99} of {len(meanwhile):4}  {said}")


_T = TypeVar("_T")


def chosen(attacks: Mapping[str, _T]) -> dict[str, _T]:
    """The attacks that this run tries."""
    quick = {name: one for name, one in attacks.items() if IS_FULL or name not in _SLOW}
    return dict(list(quick.items())[:: 3 if BOMBS == "few" else 1])


@contextmanager
def watched(directory: Path, say: Say, **environ: str) -> Iterator[Watched]:
    """Run attacks in the block, and check at its end what must hold after all of them."""
    with started(directory, environ=environ, command=COMMAND) as sidecar:
        watch = Watched(sidecar, say)
        with honest(sidecar.ports["http"]) as times:
            time.sleep(_QUIET_SECONDS)
            began = time.monotonic()
            yield watch
        watch.report(times)
        megabytes = watch.megabytes()
        quiet = [seconds for at, seconds in times if at <= began]
        attacked = [seconds for at, seconds in times if at > began]
        p99, without = (1000 * quantile(seconds) for seconds in (attacked, quiet))
        say(
            f"{megabytes:.0f} MB at most; {len(attacked)} honest batches, p99 {p99:.0f} ms;"
            f" without attacks {without:.0f} ms"
        )
        assert megabytes < _MOST_MEGABYTES
        assert_served(quiet, attacked)
        for name, (start, end, _) in watch.windows.items():
            assert end - start < _ATTACK_SECONDS + at_most(_LATE_SECONDS), name
        assert sidecar.process.poll() is None
        assert [event["event"] for event in sidecar.events] == ["starting", "started"]


def test_http(tmp_path: Path, say: Say) -> None:
    """Bodies are refused or counted as documented, or their senders are asked to retry. The same
    holds for malformed requests: headers without end, wrong lengths, garbage for chunks."""
    bodies = chosen(attacks.BODIES)
    for post in bodies.values():
        post.content()
    with watched(tmp_path, say) as watch:
        for name, post in bodies.items():
            answers = watch.attack(name, partial(attacks.posted, watch.sidecar, post))
            assert set(answers) <= {str(post.status), "503"}, name
            assert answers[str(post.status)], name
        for name, shout in attacks.SHOUTS.items():
            answers = watch.attack(name, partial(attacks.shouted, watch.sidecar, shout))
            assert set(answers) == {str(shout.statuses)}, name


def test_grpc(tmp_path: Path, say: Say) -> None:
    """The same over gRPC, with its codes."""
    calls = chosen(attacks.CALLS)
    for call in calls.values():
        call.content()
    with watched(tmp_path, say) as watch:
        for name, call in calls.items():
            answers = watch.attack(name, partial(attacks.called, watch.sidecar, call))
            assert set(answers) <= {str(call.code), str(grpc.StatusCode.UNAVAILABLE)}, name
            assert answers[str(call.code)], name
        # Two bytes of HPACK repeat 4 KB, so that each call would have metadata of 2 MB.
        again = http2.again(METHODS["logs"].encode(), b"v" * 3900, 500)
        frames = (
            http2.frame(http2.HEADERS, http2.END_HEADERS, 2 * number + 1, block)
            for number, block in enumerate(again)
        )
        port, sent = watch.sidecar.ports["grpc"], [http2.HELLO, *frames]
        answers = watch.attack(
            "metadata that is named again", lambda: b"[E416]" in http2.exchange(port, sent, 0.5)
        )
        assert answers["True"]


_HEAD = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\n"
_DRIPS: Mapping[str, tuple[str, bytes, bytes]] = {
    "heads": ("http", _HEAD, b"X"),
    "bodies": ("http", _HEAD + b"Content-Length: 1000\r\n\r\n", b"{"),
    "heads to admin": ("admin", b"GET / HTTP/1.1\r\n", b"X"),
    "half a hello": ("grpc", http2.HELLO[:20], b""),
}


def test_slow_sockets(tmp_path: Path, say: Say) -> None:
    """They send a byte now and then; the sidecar closes all of them at their time limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    limits = {"COLLECTOR__LIMITS__HEADER_TIME": "1s", "COLLECTOR__LIMITS__BODY_TIME": "2s"}
    with watched(tmp_path, say, **limits) as watch:
        lines: list[tuple[socket.socket, bytes]] = []
        began = time.monotonic()
        for port, first, drip in _DRIPS.values():
            for _ in range(_SOCKETS // len(_DRIPS)):
                line = socket.create_connection(("127.0.0.1", watch.sidecar.ports[port]), 20)
                line.sendall(first)
                line.setblocking(False)
                lines.append((line, drip))
        left = lines
        while left and time.monotonic() < began + at_most(15):
            time.sleep(0.2)
            left = [each for each in left if _is_open(*each)]
        watch.windows["slow sockets"] = began, time.monotonic(), f"{len(lines)} closed"
        assert not left
        assert time.monotonic() - began < at_most(12)
        for line, _ in lines:
            line.close()


def _is_open(line: socket.socket, drip: bytes) -> bool:
    """Send a little more, and return whether the other side still listens."""
    try:
        line.send(drip)
        while line.recv(1 << 16):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def test_distinct_keys(tmp_path: Path, say: Say) -> None:
    """100,000 different keys leave no trace in metrics: no new series, and no name."""
    lines = b"".join(b'{"key%d":1,"ip_address":"203.0.113.7"}\n' % n for n in range(100_000))
    item = b'{"attributes":[{"key":"key%d","value":{"stringValue":"x"}}]}'
    items = b",".join(item % n for n in range(20_000))
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b]}]}]}' % items
    with watched(tmp_path, say) as watch:
        sidecar = watch.sidecar
        assert sidecar.send(b'{"ip_address":"203.0.113.7"}\n').json["admitted"] == 1
        before = sidecar.admin("/metrics").body
        began = time.monotonic()
        for at in range(0, len(lines), 1 << 19):
            cut = lines.rfind(b"\n", 0, at + (1 << 19)) + 1
            start = lines.rfind(b"\n", 0, at) + 1 if at else 0
            assert sidecar.send(lines[start:cut]).status == 200
        sent = sidecar.request("POST", "/v1/logs", body, {"Content-Type": "application/json"})
        assert sent.status == 200
        watch.windows["distinct keys"] = began, time.monotonic(), "200"
        after = sidecar.admin("/metrics").body
        assert _series(after) == _series(before)
        assert b"key1" not in after
        counted = re.search(rb'events_total\{outcome="rejected",schema="[^"]*"\} (\S+)', after)
        assert counted is not None
        assert float(counted[1]) == 20_000


def _series(metrics: bytes) -> list[bytes]:
    """The names and labels of all series."""
    lines = (line for line in metrics.splitlines() if not line.startswith(b"#"))
    return sorted(line.rpartition(b" ")[0] for line in lines)
