"""No request becomes more events, bytes or work than allowed: over all forms and all shipped
schemas, an attacker's requests expand only within limits, and others are served meanwhile.

``make test`` sends some of them. ``COLLECTOR_BOMBS=full`` (``make nightly``) sends all to a sidecar
of each schema, repeatedly for a while, and prints how many times longer others wait.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest

from collector.contracts import MOST_EVENTS
from tests.sidecar.amplified import ATTACKS, SCHEMAS, Attack
from tests.sidecar.healthy import BATCH, honest
from tests.sidecar.senders import METHODS
from tests.support.deadline import eventually
from tests.support.failing_disk import Say, metric
from tests.support.latency import BOMBS, IS_FULL, assert_served, is_served, quantile, times_as_long
from tests.support.ledgers import check_ledger
from tests.support.processes import peak
from tests.support.sidecar import COMMAND, Sidecar, started

pytestmark = [
    pytest.mark.long,
    pytest.mark.timed,
    pytest.mark.skipif(
        not Path("/proc/self/status").exists(), reason="peak memory is read from /proc"
    ),
]

_SENDERS, _ATTACK_SECONDS = (10, 3.0) if IS_FULL else (4, 0.0)
_MOST_MEGABYTES = 256
_QUIET_SECONDS = 1.5
_SECONDS = 120
_ANSWERS = {200, 413, 503}
_FEW = {
    "conferencing": ("records of a letter", "short lines", "records for many events"),
    "participants-qos": ("nested lists in lines", "nested lists in shorter lines"),
}
"""The attacks that ``make test`` sends."""
_ACCEPTED = (
    *("an array, as sent", "short lines", "records", "a resource of items as JSON"),
    *("a resource of items", "call: a resource of items"),
)
"""Requests with the most events that are accepted, in each form."""


def _wait_for_rest(sidecar: Sidecar) -> None:
    """Wait until the sinks have the accepted events, if each attack is compared separately."""
    eventually(lambda: not IS_FULL or metric(sidecar, "collector_spool_batches") < 10, _SECONDS)


def _megabytes(sidecar: Sidecar) -> float:
    """The most memory that one of the processes has had."""
    return peak(sidecar.process.pid)


def _sent(sidecar: Sidecar, schema: str, attack: Attack) -> tuple[int, int]:
    """Send a body once; return the status, and how many events were acknowledged."""
    content = attack.content(schema)
    if attack.path == "grpc":
        with grpc.insecure_channel(f"127.0.0.1:{sidecar.ports['grpc']}") as channel:
            try:
                channel.unary_unary(METHODS["logs"])(content, timeout=_SECONDS)
            except grpc.RpcError as error:
                codes = {grpc.StatusCode.UNAVAILABLE: 503, grpc.StatusCode.RESOURCE_EXHAUSTED: 413}
                return codes.get(error.code(), 500), 0
        return 200, MOST_EVENTS
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.ports["http"], timeout=_SECONDS)
    try:
        with suppress(OSError):  # the answer may come before all is sent
            connection.request("POST", attack.path, content, attack.headers)
        answer = connection.getresponse()
        said = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        assert answer.status != 413 or b"E416" in said, said
        return answer.status, 0
    if attack.path == "/v1/logs":
        return 200, MOST_EVENTS
    counts = json.loads(said)
    return 200, counts["admitted"] + sum(counts["rejected"].values())


def _sent_for_a_while(sidecar: Sidecar, schema: str, attack: Attack) -> list[tuple[int, int]]:
    """Send a body at least once, and repeat it for a while, as one sender."""
    began, said = time.monotonic(), [_sent(sidecar, schema, attack)]
    while time.monotonic() < began + _ATTACK_SECONDS:
        said.append(_sent(sidecar, schema, attack))
    return said


def _sent_by(senders: int, sidecar: Sidecar, schema: str, attack: Attack) -> list[tuple[int, int]]:
    """Let several senders send a body in parallel, each for a while."""
    with ThreadPoolExecutor(senders) as pool:
        work = partial(_sent_for_a_while, sidecar, schema, attack)
        each_said = [pool.submit(work) for _ in range(senders)]
        return [one for each in each_said for one in each.result()]


def _is_complete(schema: str, name: str) -> bool:
    return BOMBS != "few" or name in _FEW.get(schema, ())


@pytest.mark.parametrize("schema", SCHEMAS if BOMBS != "few" else _FEW)
def test_requests_are_bounded(schema: str, tmp_path: Path, say: Say) -> None:
    """Memory and time are bounded. The ledger has exactly what was acknowledged."""
    only = os.environ.get("COLLECTOR_ATTACK", "")
    attacks = {n: a for n, a in ATTACKS.items() if _is_complete(schema, n) and only in n}
    for attack in attacks.values():
        attack.content(schema)
    environ = {"COLLECTOR__SCHEMA": schema}
    acknowledged, answers = 0, {}
    with started(tmp_path, environ=environ, command=COMMAND) as sidecar:
        with honest(sidecar.ports["http"], schema=schema) as times:
            windows = {}
            for name, attack in attacks.items():
                _wait_for_rest(sidecar)
                rest = time.monotonic()
                time.sleep(_QUIET_SECONDS)
                start = time.monotonic()
                said = _sent_by(_SENDERS, sidecar, schema, attack)
                windows[name] = rest, start, time.monotonic(), _megabytes(sidecar)
                answers[name] = Counter(status for status, _ in said)
                acknowledged += sum(number for _, number in said)
        quiet = [s for at, s in times if any(r < at <= start for r, start, *_ in windows.values())]
        attacked, late = [], []
        for name, (_, start, end, megabytes) in windows.items():
            meanwhile = [seconds for at, seconds in times if start < at <= end] or quiet
            attacked += meanwhile
            late += [] if is_served(quiet, meanwhile) else [name]
            say(
                f"{schema:20} {name:32} {end - start:5.1f} s  p99 {1000 * quantile(meanwhile):5.0f}"
                f" ms, {times_as_long(quiet, meanwhile):4.1f} times as long, of {len(meanwhile):4}"
                f"  {megabytes:4.0f} MB  {dict(answers[name])}"
            )
        say(f"{schema:20} without attacks p99 {1000 * quantile(quiet):.0f} ms of {len(quiet)}")
        assert _megabytes(sidecar) < _MOST_MEGABYTES
        assert all(set(found) <= _ANSWERS for found in answers.values()), answers
        assert_served(quiet, attacked)
        assert not late
        assert sidecar.process.poll() is None
        sidecar.stop()
    found = check_ledger(tmp_path / "collector-data" / "spool.db")
    assert found.received == acknowledged + BATCH * len(times)


@pytest.mark.parametrize("senders", [1, 4])
def test_small_requests_go_between_large_ones(senders: int, tmp_path: Path, say: Say) -> None:
    schema, late = "conferencing", []
    for name in _ACCEPTED:
        ATTACKS[name].content(schema)
    with started(tmp_path, environ={"COLLECTOR__SCHEMA": schema}, command=COMMAND) as sidecar:
        for name in _ACCEPTED:
            _wait_for_rest(sidecar)
            with honest(sidecar.ports["http"], schema=schema) as times:
                time.sleep(_QUIET_SECONDS)
                start = time.monotonic()
                said = _sent_by(senders, sidecar, schema, ATTACKS[name])
                end = time.monotonic()
            assert {status for status, _ in said} <= {200, 503}, said
            assert (200, MOST_EVENTS) in said
            quiet = [seconds for at, seconds in times if at <= start]
            meanwhile = [seconds for at, seconds in times if start < at <= end]
            assert meanwhile
            late += [] if is_served(quiet, meanwhile) else [name]
            say(
                f"{senders} of {name:28} p99 {1000 * quantile(meanwhile):4.0f} ms,"
                f" {times_as_long(quiet, meanwhile):4.1f} times as long, of {len(meanwhile):4}"
            )
        assert not late
        assert sidecar.stop()[0] == 0
