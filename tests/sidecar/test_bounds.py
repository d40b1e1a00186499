"""No request becomes more events, bytes or work than one may: what an attacker's requests grow to
is bounded, over all forms and all shipped schemas, and others are served meanwhile.

``make test`` sends some of them; ``COLLECTOR_BOMBS=full`` (``make bombs``) sends all, to a sidecar
of each schema.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest

from tests.latency import BOMBS, IS_FULL, assert_served, quantile
from tests.ledgers import check_ledger
from tests.sidecar.amplified import ATTACKS, SCHEMAS, Attack
from tests.sidecar.faults import Say
from tests.sidecar.healthy import BATCH, honest
from tests.sidecar.processes import peak
from tests.sidecar.senders import METHODS
from tests.sidecar.serving import COMMAND, Sidecar, started

pytestmark = [
    pytest.mark.alone,
    pytest.mark.long,
    pytest.mark.timed,
    pytest.mark.skipif(
        not Path("/proc/self/status").exists(), reason="peak memory is read from /proc"
    ),
]

_SENDERS = 10 if IS_FULL else 4
_MOST_MEGABYTES = 256
_QUIET_SECONDS = 1.5
_SECONDS = 120
_ANSWERS = {200, 413, 503}
_FEW = {
    "conferencing": ("records of a letter", "short lines", "records for many events"),
    "participants-qos": ("nested lists in lines", "nested lists in shorter lines"),
}
"""What ``make test`` sends."""


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
        return 200, 50_000
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.ports["http"], timeout=_SECONDS)
    try:
        with suppress(OSError):  # it may be answered before all is sent
            connection.request("POST", attack.path, content, attack.headers)
        answer = connection.getresponse()
        said = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        assert answer.status != 413 or re.search(rb"E416|E417|E431", said), said
        return answer.status, 0
    if attack.path == "/v1/logs":
        return 200, 50_000
    counts = json.loads(said)
    return 200, counts["admitted"] + sum(counts["rejected"].values())


def _is_complete(schema: str, name: str) -> bool:
    return BOMBS != "few" or name in _FEW.get(schema, ())


@pytest.mark.parametrize("schema", SCHEMAS if BOMBS != "few" else _FEW)
def test_requests_are_bounded(schema: str, tmp_path: Path, say: Say) -> None:
    """In memory and in time; what was acknowledged is in the ledger, and nothing else is."""
    only = os.environ.get("COLLECTOR_ATTACK", "")
    attacks = {n: a for n, a in ATTACKS.items() if _is_complete(schema, n) and only in n}
    for attack in attacks.values():
        attack.content(schema)
    environ = {"COLLECTOR__SCHEMA": schema}
    acknowledged, answers = 0, {}
    with started(tmp_path, environ=environ, command=COMMAND) as sidecar:
        with honest(sidecar.ports["http"], schema=schema) as times:
            time.sleep(_QUIET_SECONDS)
            began = time.monotonic()
            windows = {}
            for name, attack in attacks.items():
                start = time.monotonic()
                with ThreadPoolExecutor(_SENDERS) as pool:
                    work = [pool.submit(_sent, sidecar, schema, attack) for _ in range(_SENDERS)]
                    said = [each.result() for each in work]
                windows[name] = start, time.monotonic(), _megabytes(sidecar)
                answers[name] = Counter(status for status, _ in said)
                acknowledged += sum(number for _, number in said)
        quiet = [seconds for at, seconds in times if at <= began]
        for name, (start, end, megabytes) in windows.items():
            meanwhile = [seconds for at, seconds in times if start < at <= end] or [0.0]
            say(
                f"{schema:20} {name:32} {end - start:5.1f} s  p99 {1000 * quantile(meanwhile):5.0f}"
                f" ms (quiet {1000 * quantile(quiet):3.0f}) of {len(meanwhile):4}"
                f"  {megabytes:4.0f} MB  {dict(answers[name])}"
            )
        assert _megabytes(sidecar) < _MOST_MEGABYTES
        assert all(set(found) <= _ANSWERS for found in answers.values()), answers
        assert_served(quiet, [seconds for at, seconds in times if at > began])
        assert sidecar.process.poll() is None
        sidecar.stop()
    found = check_ledger(tmp_path / "collector-data" / "spool.db")
    assert found.received == acknowledged + BATCH * len(times)
