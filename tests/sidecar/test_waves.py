"""Waves of small compressed bombs against whole processes: memory stays bounded, each request is
answered in time, and honest senders are served meanwhile.

``make test`` sends few and compares within one run. ``make long`` sends all of them for some forms,
and ``make nightly`` for every form, to processes in a control group of 512 MB.
"""

from __future__ import annotations

import resource
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.recording.serving import Meeting, running
from tests.sidecar.cgroups import bounded
from tests.sidecar.waves import (
    BOMBS,
    Answers,
    Sent,
    attacked,
    called,
    honest_calls,
    honest_posts,
    posted,
)
from tests.support.failing_disk import Say
from tests.support.latency import IS_FULL
from tests.support.processes import children, peak
from tests.support.sidecar import COMMAND, Sidecar, started

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory is read from /proc"
)

_CONNECTIONS, _WAVES = 900, 14
_FEW_CONNECTIONS, _FEW_WAVES = 250, 2
_MOST_MEGABYTES, _GROUP_MEGABYTES = 256, 512
_MOST_GROWTH = 90
"""The megabytes by which a process may grow: its budget is 80 MiB. Without one, the few bombs of
the short tests make it grow by 250."""
_MOST_SECONDS = 10.0
_REFUSED = {400, 413, 503}
_CALLS_REFUSED = {1, 3, 8, 14}
"""Codes of calls: the bomb is undecodable or too large, or its sender must retry."""
_HEAD = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_LONG = ("zstd, window 2^24", "zstd, window 2^18", "gzip", "deflate")
_CALLED = ("gzip", "gzip, 1 MiB", "deflate", "deflate, 1 MiB")
_FULL = [
    pytest.mark.long,
    pytest.mark.timed,
    pytest.mark.timeout(1800),
]


@pytest.fixture(autouse=True)
def _files() -> Iterator[None]:
    """Allow as many open files as the waves have connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _check(
    answers: Answers, honest: Sequence[Answers], statuses: Collection[int], served: int, sent: int
) -> None:
    """Each request got the proper answer or was asked to retry. Some requests of each honest sender
    were served, on a quiet machine at least half."""
    assert answers.lost == 0
    assert answers.untold == 0
    assert set(answers.statuses) <= set(statuses)
    assert sum(answers.statuses.values()) == sent
    for each in honest:
        assert each.lost == 0
        least = 0.5 if IS_FULL else 0.0
        assert each.statuses[served] > 0
        assert each.statuses[served] >= least * sum(each.statuses.values())
    if IS_FULL:
        assert max(each.longest for each in (answers, *honest)) < _MOST_SECONDS


def _report(say: Say, name: str, answers: Answers, honest: Sequence[Answers], mb: float) -> None:
    said = ", ".join(f"{status}: {times}" for status, times in sorted(answers.statuses.items()))
    others = "; ".join(str(dict(each.statuses)) for each in honest)
    say(f"{name}: {mb:.0f} MB; {said}; {answers.longest:.1f} s at most; honest: {others}")


# -- few bombs, compared within one run


@pytest.mark.parametrize(
    "name",
    [
        "zstd, window 2^23",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("zstd, window 2^18", "gzip", "deflate")
        ),
    ],
)
def test_a_worker_grows_by_its_budget(tmp_path: Path, name: str) -> None:
    """A worker grows by no more than its budget, whatever many small bodies would become."""
    bomb = BOMBS[name]
    with started(tmp_path) as sidecar:
        before = peak(sidecar.process.pid)
        workers = children(sidecar.process.pid)
        sent = posted(bomb, bomb.content(), {"Content-Type": "application/json"})
        answers, honest = attacked(
            sidecar.ports["http"], sent, honest_posts(), _FEW_CONNECTIONS, _FEW_WAVES
        )
        assert peak(sidecar.process.pid) - before < _MOST_GROWTH
        assert children(sidecar.process.pid) == workers
    _check(answers, honest, _REFUSED, 200, _FEW_CONNECTIONS * _FEW_WAVES)
    assert answers.statuses[413]


_QUEUED_EVENT = _HEAD + b"Content-Length: 60000\r\n\r\n" + b" " * 60_000
_HELD_HEAD = _HEAD + b"X-Forwarded-For: " + b"1" * 31_000 + b"\r\n"
_BEHIND = {"bodies": _QUEUED_EVENT * 4, "heads": (_HELD_HEAD + b"\r\n") * 8}


@pytest.mark.parametrize("behind", ["heads", pytest.param("bodies", marks=pytest.mark.long)])
def test_what_waits_behind_a_bomb_is_little(tmp_path: Path, behind: str) -> None:
    """Requests that are pipelined without waiting for the answer take little memory."""
    bomb = BOMBS["zstd, window 2^23"].content()
    head = _HEAD + b"Content-Encoding: zstd\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    sent = Sent(head + bomb + _BEHIND[behind])
    with started(tmp_path) as sidecar:
        before = peak(sidecar.process.pid)
        answers, honest = attacked(
            sidecar.ports["http"], sent, honest_posts(), 2 * _FEW_CONNECTIONS, _FEW_WAVES
        )
        assert peak(sidecar.process.pid) - before < _MOST_GROWTH
    _check(answers, honest, _REFUSED, 200, 2 * _FEW_CONNECTIONS * _FEW_WAVES)


# -- all bombs, absolute limits


@contextmanager
def _attacked(tmp_path: Path) -> Iterator[Sidecar]:
    """Run a sidecar in a small control group, and check that its processes stay small and none is
    replaced."""
    with bounded(_GROUP_MEGABYTES) as group:
        with started(tmp_path, command=group.command(COMMAND)) as sidecar:
            workers = children(sidecar.process.pid)
            yield sidecar
            assert peak(sidecar.process.pid) < _MOST_MEGABYTES
            assert children(sidecar.process.pid) == workers
            assert sidecar.process.poll() is None
            assert [event["event"] for event in sidecar.events] == ["starting", "started"]
        assert group.kills() == 0


def _marked(name: str, chosen: Collection[str]) -> object:
    is_left = not IS_FULL and name not in chosen
    more = [pytest.mark.skip(reason="`make nightly` sends it")] if is_left else []
    return pytest.param(name, marks=[*_FULL, *more])


@pytest.mark.parametrize("name", [_marked(name, _LONG) for name in BOMBS])
def test_http(tmp_path: Path, say: Say, name: str) -> None:
    """900 connections, 14 times."""
    bomb = BOMBS[name]
    with _attacked(tmp_path) as sidecar:
        sent = posted(bomb, bomb.content(), {"Content-Type": "application/json"})
        answers, honest = attacked(
            sidecar.ports["http"], sent, honest_posts(), _CONNECTIONS, _WAVES
        )
        _report(say, name, answers, honest, peak(sidecar.process.pid))
    _check(answers, honest, _REFUSED, 200, _CONNECTIONS * _WAVES)


@pytest.mark.parametrize("name", [_marked(name, _CALLED[:1]) for name in _CALLED])
def test_grpc(tmp_path: Path, say: Say, name: str) -> None:
    """The same, over gRPC."""
    bomb = BOMBS[name]
    with _attacked(tmp_path) as sidecar:
        sent = called(bomb, bomb.content())
        answers, honest = attacked(
            sidecar.ports["grpc"], sent, honest_calls(), _CONNECTIONS, _WAVES
        )
        _report(say, f"gRPC, {name}", answers, honest, peak(sidecar.process.pid))
    answers.untold = 0  # the details of a call tell when to retry
    for each in honest:
        each.untold = 0
    _check(answers, honest, _CALLS_REFUSED, 0, _CONNECTIONS * _WAVES)


def _chunk(meeting: Meeting, number: int, body: bytes, encoding: str) -> Sent:
    headers = {
        "Authorization": f"Bearer {meeting.token('media', 'egress')}",
        "Collector-Kind": "audio",
        "Collector-Owner": "ben",
        **({"Content-Encoding": encoding} if encoding else {}),
    }
    path = f"/v1/recordings/{meeting.recording}/tracks/b/chunks/{number}"
    return posted(None, body, headers, f"PUT {path}")


@pytest.mark.parametrize("name", [_marked(name, ("gzip",)) for name in _LONG])
def test_recorder(tmp_path: Path, say: Say, name: str) -> None:
    """The same for a recorder: bombs, and as many of the largest chunks at once."""
    bomb = BOMBS[name]
    with bounded(_GROUP_MEGABYTES) as group, running(tmp_path) as meeting:
        (group.path / "cgroup.procs").write_text(str(meeting.process.process.pid))
        meeting.opened("ben")
        token = meeting.token("participant", "ben")
        path = f"/v1/recordings/{meeting.recording}/notice.wav"
        reader = Sent(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Authorization: Bearer {token}\r\n\r\n".encode()
        )
        port = meeting.process.ports["recorder"]
        for sent, waves in (
            (_chunk(meeting, 0, bomb.content(), bomb.encoding), _WAVES),
            (_chunk(meeting, 0, bytes(4 << 20), ""), 1),
        ):
            answers, honest = attacked(port, sent, [reader], _CONNECTIONS, waves)
            megabytes = peak(meeting.process.process.pid)
            _report(say, f"recorder, {name}", answers, honest, megabytes)
            assert set(answers.statuses) <= {201, 400, 409, 429, 503}
            least = 0.5 if IS_FULL else 0.0
            assert honest[0].statuses[200] > least * sum(honest[0].statuses.values())
        assert megabytes < _MOST_MEGABYTES
        assert meeting.process.process.poll() is None
        assert group.kills() == 0
