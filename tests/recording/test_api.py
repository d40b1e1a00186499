"""The recorder over HTTP: every endpoint, every refusal, and nothing without a valid token."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from select import select
from threading import Event
from typing import Any

import pytest

from collector.ingest.limits import IngestLimits
from collector.recording.access import Verifier, create_key, key_set
from collector.recording.api import THREADS, RecorderApi
from collector.recording.bodies import ErrorBody
from collector.recording.jwks import KeySource
from collector.recording.names import MAX_CHUNK_BYTES
from collector.recording.recorder import Recorder
from collector.recording.refusals import REFUSALS
from collector.recording.routes import ROUTES
from collector.recording.streams import MOST_STREAMS
from tests.recording.serving import TERMS, Meeting, running
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.rows import for_each

_AT_ONCE = 6
"""How many of the largest chunks find room."""
_numbers = count()


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meeting]:
    """One recorder for all tests of this module."""
    with running(tmp_path_factory.mktemp("recorder")) as meeting:
        yield meeting


@pytest.fixture
def meeting(recorder: Meeting) -> Meeting:
    """A meeting of its own for each test."""
    return Meeting(recorder.process, recorder.key, f"m-{next(_numbers)}")


def test_a_recording_from_request_to_erasure(meeting: Meeting) -> None:
    """Each endpoint does what its row of the table says."""
    meeting.opened("ben")
    data = [bytes([number]) * 70_000 for number in range(3)]
    for number, each in enumerate(data):
        assert meeting.chunk("ben-1", number, each).json == {"next": number + 1}
    own = meeting.chunk("ana-1", 0, b"ana", "ana", sender=("participant", "ana"))
    assert own.status == 201
    assert meeting.chunk("all", 0, b"both", "mixed").status == 201
    paused = meeting.control("pause").json
    assert paused == {"state": "paused", "indicator": False, "reason": "host"}
    assert meeting.control("resume").json["indicator"]
    assert meeting.call("host", "ana", "POST", "/handover", {"to": "ben"}).status == 200
    assert meeting.call("participant", "ben", "POST", "/accept").status == 200
    assert meeting.code(meeting.control("pause")) == "forbidden"
    assert meeting.call("participant", "ben", "POST", "/stop").json["state"] == "closed"
    assert meeting.call("viewer", "v", "GET", "/tracks/ben-1").body == b"".join(data)
    manifest = meeting.call("auditor", "a", "GET", "/manifest")
    assert b"ben-1" in manifest.body.splitlines()[-1]
    assert meeting.call("platform", "p", "DELETE", "/members/ana").status == 204
    assert meeting.call("participant", "ana", "DELETE", "/members/me").status == 204
    for track in ("ana-1", "all"):
        assert meeting.code(meeting.call("viewer", "v", "GET", f"/tracks/{track}")) == "left"
    assert meeting.call("viewer", "v", "GET", "/tracks/ben-1").status == 200
    assert meeting.call("host", "ben", "DELETE", "").status == 204
    assert meeting.code(meeting.call("viewer", "v", "GET", "/tracks/ben-1")) == "erased"
    assert meeting.call("participant", "ben", "GET", "/notice.png").status == 200


def test_without_a_valid_token_every_answer_is_the_same(meeting: Meeting) -> None:
    """No path, method or id can be told from another; nor can a token for another meeting."""
    meeting.request()
    place, own = f"/v1/recordings/{meeting.recording}", meeting.token("host", "ana")
    other = Meeting(meeting.process, meeting.key, "elsewhere").token("host", "ana")
    forged = own[:-6] + ("AAAAAA" if own[-6:] != "AAAAAA" else "BBBBBB")
    answers = set()
    for token in (None, "", "x", forged, other, own.replace(".", "")):
        sent = {} if token is None else {"Authorization": f"Bearer {token}"}
        for method, path in [
            *((route.method, route.path.format(id=meeting.recording, **_PATH)) for route in ROUTES),
            ("GET", f"/v1/recordings/{'0' * 32}/manifest"),
            ("GET", f"{place}/nothing"),
            ("PATCH", place),
        ]:
            if token == other and path == "/v1/recordings":
                continue  # a host of another meeting may record that one
            answer = meeting.process.request(method, path, None, sent, to="recorder")
            answers.add((answer.status, answer.body))
    for path in ("/v1/recordings/..%2f..", f"{place}/tracks/..%2f..%2fkeys.db", f"/{place}", "//"):
        sent = {"Authorization": f"Bearer {own}"}
        answer = meeting.process.request("GET", path, None, sent, to="recorder")
        answers.add((answer.status, answer.body))
    assert len(answers) == 1
    status, body = answers.pop()
    assert (status, json.loads(body)["error"]["code"]) == (404, "not_found")


_PATH = {"pseudonym": "ben", "track": "t", "n": "0"}
_MAY = {
    "members": {"platform"},
    "host": {"host", "participant"},
    "choice": {"host", "participant"},
    "chunks": {"host", "participant", "media"},
    "events": {"host", "participant", "media", "platform"},
    "tracks": {"host", "viewer"},
    "manifest": {"host", "viewer", "auditor"},
}


@for_each(
    ("method", "path", "may"),
    [
        ("PUT", "/members/ben", "members"),
        ("DELETE", "/members/ben", "members"),
        ("DELETE", "/members/me", "choice"),
        *(("POST", f"/{each}", "host") for each in ("start", "pause", "resume", "stop", "accept")),
        ("POST", "/handover", "host"),
        ("PUT", "/choice", "choice"),
        ("GET", "/notice.wav", "choice"),
        ("GET", "/notice.png", "choice"),
        ("PUT", "/tracks/t/chunks/0", "chunks"),
        ("GET", "/events", "events"),
        ("GET", "/tracks/t", "tracks"),
        ("GET", "/manifest", "manifest"),
        ("DELETE", "", "host"),
    ],
)
def test_wrong_roles(recorder: Meeting, method: str, path: str, may: str) -> None:
    """A valid token of this meeting with another role is refused, and nothing changes."""
    if not recorder.recording:
        recorder.request()
    bodies = {
        "/handover": {"to": "ben"},
        "/choice": {"choice": "stay", "notice": recorder.notice},
        "/tracks/t/chunks/0": b"x",
    }
    headers = {"Collector-Kind": "audio", "Collector-Owner": "ana"}
    for role in {"platform", "host", "participant", "media", "viewer", "auditor"} - _MAY[may]:
        answer = recorder.call(role, "ana", method, path, bodies.get(path), headers)
        assert (answer.status, recorder.code(answer)) == (403, "forbidden"), role
    state = recorder.call("host", "ana", "GET", "/manifest").body
    assert len(state.splitlines()) == 2


def test_only_a_host_requests(meeting: Meeting) -> None:
    for role in ("platform", "participant", "media", "viewer", "auditor"):
        answer = meeting.call(role, "ana", "POST", "", {**TERMS, "meeting": meeting.name})
        assert meeting.code(answer) == "forbidden"
    answer = meeting.call("host", "ana", "POST", "", {**TERMS, "meeting": "another"})
    assert answer.status == 404


def test_chunks_are_refused_as_their_state_says(meeting: Meeting) -> None:
    """Each refusal has its code, and says what to do next."""
    meeting.request()
    meeting.join("ana", "ben", "chloe")
    assert meeting.code(meeting.chunk("b", 0, b"x")) == "announced"
    meeting.choose("ana")
    meeting.control("start")
    assert meeting.code(meeting.chunk("b", 0, b"x")) == "pending"
    meeting.choose("ben")
    assert meeting.code(meeting.chunk("all", 0, b"x", "mixed")) == "pending"
    assert meeting.code(meeting.chunk("b", 1, b"x")) == "next"
    assert meeting.chunk("b", 1, b"x").json["error"]["next"] == 0
    assert meeting.chunk("b", 0, b"x").json == {"next": 1}
    assert meeting.chunk("b", 0, b"x").json == {"next": 1}
    assert meeting.code(meeting.chunk("b", 0, b"y")) == "conflict"
    assert meeting.code(meeting.chunk("b", 1, b"x", "ana")) == "owner"
    assert meeting.code(meeting.chunk("b", 1, b"x", kind="video")) == "kind"
    assert meeting.code(meeting.chunk("c", 0, b"x", kind="chat")) == "kind"
    assert meeting.code(meeting.chunk("b", 1, b"x", sender=("participant", "ana"))) == "owner"
    mixed = meeting.chunk("all", 0, b"x", "mixed", sender=("participant", "ana"))
    assert meeting.code(mixed) == "forbidden"
    meeting.control("pause")
    assert meeting.code(meeting.chunk("b", 1, b"x")) == "paused"
    meeting.control("resume")
    meeting.choose("ben", "leave")
    assert meeting.code(meeting.chunk("b", 1, b"x")) == "left"
    meeting.control("stop")
    assert meeting.code(meeting.chunk("a", 0, b"x", "ana")) == "closed"


@for_each(
    ("headers", "body", "code"),
    [
        ({}, b"x", "malformed"),
        ({"Collector-Kind": "audio"}, b"x", "malformed"),
        ({"Collector-Kind": "audio", "Collector-Owner": "a/b"}, b"x", "malformed"),
        ({"Collector-Kind": "audio", "Collector-Owner": "é"}, b"x", "malformed"),
        ({"Collector-Kind": "audio", "Collector-Owner": "ben"}, b"", "malformed"),
        ({"Collector-Kind": "smell", "Collector-Owner": "ben"}, b"x", "kind"),
        (
            {"Collector-Kind": "audio", "Collector-Owner": "ben", "Content-Encoding": "gzip"},
            b"x",
            "malformed",
        ),
        (
            {"Collector-Kind": "audio", "Collector-Owner": "ben"},
            b"x" * ((4 << 20) + 1),
            "too_large",
        ),
    ],
)
def test_malformed_chunks(
    recorder: Meeting, headers: dict[str, str], body: bytes, code: str
) -> None:
    """They are refused, whatever the state is."""
    if not recorder.recording:
        recorder.request()
    answer = recorder.call("media", "m", "PUT", "/tracks/t/chunks/0", body, headers)
    assert recorder.code(answer) == code


@for_each(
    "changes",
    [
        {"storage": "local"},
        {"storage": "local", "recipient": "age1nonsense"},
        {"recipient": "age1" + "q" * 58},
        {"kinds": []},
        {"kinds": ["audio", "audio"]},
        {"kinds": ["smell"]},
        {"retention": 0},
        {"retention": "9999999y"},
        {"retention": "99y"},
        {"retention": 10**400},
        {"notice": {"medium": "audio", "language": "xx"}},
        {"more": 1},
    ],
)
def test_faulty_terms(meeting: Meeting, changes: dict[str, Any]) -> None:
    """A host learns that the terms are faulty, and no recording is made."""
    body = {**TERMS, "meeting": meeting.name, **changes}
    assert meeting.code(meeting.call("host", "ana", "POST", "", body)) == "terms"


def test_choices(meeting: Meeting) -> None:
    """A choice needs the notice's digest, and is only the member's own; leaving is for good."""
    meeting.request()
    meeting.join("ben")
    choose = {"choice": "stay", "notice": "0" * 64}
    assert meeting.code(meeting.call("participant", "ben", "PUT", "/choice", choose)) == "notice"
    assert meeting.code(meeting.call("participant", "ben", "PUT", "/choice", b"{")) == "malformed"
    choose["notice"] = meeting.notice
    assert meeting.code(meeting.call("participant", "eve", "PUT", "/choice", choose)) == "left"
    assert meeting.code(meeting.call("participant", "ben", "POST", "/accept")) == "handover"
    meeting.choose("ben", "leave")
    assert meeting.code(meeting.call("participant", "ben", "PUT", "/choice", choose)) == "left"
    assert meeting.code(meeting.call("platform", "p", "PUT", "/members/me")) == "malformed"


def test_a_token_serves_once(meeting: Meeting) -> None:
    """The same request again has the same answer, another one is refused; readers are free."""
    meeting.request()
    token = meeting.token("host", "ana")
    first = meeting.call("", "", "POST", "/start", token=token)
    assert meeting.call("", "", "POST", "/start", token=token).body == first.body
    assert meeting.control("stop").status == 200
    again = meeting.call("", "", "POST", "/start", token=token)
    assert (again.status, again.body) == (200, first.body)
    assert meeting.code(meeting.call("", "", "POST", "/stop", token=token)) == "replayed"
    assert meeting.call("", "", "GET", "/manifest", token=token).status == 200
    refused = meeting.token("host", "ana")
    for _ in range(2):
        assert meeting.code(meeting.call("", "", "POST", "/pause", token=refused)) == "closed"


def test_expired_tokens(meeting: Meeting) -> None:
    meeting.request()
    token = _expired(meeting)
    answer = meeting.call("", "", "GET", "/manifest", token=token)
    assert (answer.status, meeting.code(answer)) == (401, "expired")
    meeting.recording = "0" * 32
    assert meeting.call("", "", "GET", "/manifest", token=token).status == 404


def _expired(meeting: Meeting) -> str:
    from collector.recording.access import _private  # noqa: PLC0415
    from tests.recording.tokens import encoded  # noqa: PLC0415

    now = int(time.time())
    claims = {"role": "host", "sub": "ana", "meeting": meeting.name, "jti": "old"}
    key = _private(meeting.key)
    header = {"alg": "Ed25519", "kid": key.thumbprint()}
    text = f"{encoded(header)}.{encoded({**claims, 'iat': now - 200, 'exp': now - 100})}"
    signature = key.private_key.sign(text.encode())  # type: ignore[union-attr]
    return f"{text}.{encoded(signature)}"


@for_each(
    ("asked", "status", "found"),
    [
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=99990-100009", 206, slice(99_990, 100_010)),
        ("bytes=150000-", 206, slice(150_000, 200_000)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=-999999", 206, slice(None)),
        ("bytes=199999-999999", 206, slice(199_999, None)),
        ("bytes=200000-", 416, slice(0, 0)),
        ("bytes=5-1", 200, slice(None)),
        ("bytes=0-1,3-4", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
    ],
)
def test_ranges(ranges: tuple[Meeting, bytes], asked: str, status: int, found: slice) -> None:
    """A range of a track is those bytes; what is no range of ours is passed over."""
    meeting, data = ranges
    answer = meeting.call("viewer", "v", "GET", "/tracks/b", None, {"Range": asked})
    assert (answer.status, answer.body) == (status, data[found])


@pytest.fixture(scope="module")
def ranges(recorder: Meeting) -> tuple[Meeting, bytes]:
    """A closed recording with a track of two chunks."""
    meeting = Meeting(recorder.process, recorder.key, "ranges")
    meeting.opened("ben")
    data = bytes(range(250)) * 400
    assert meeting.chunk("b", 0, data).status == 201
    assert meeting.chunk("b", 1, data[::-1]).status == 201
    assert meeting.code(meeting.call("viewer", "v", "GET", "/tracks/b")) == "open"
    assert meeting.code(meeting.call("host", "ana", "DELETE", "")) == "open"
    meeting.control("stop")
    return meeting, data + data[::-1]


@contextmanager
def _events(
    meeting: Meeting, token: str, last: str | None = None
) -> Iterator[http.client.HTTPResponse]:
    port = meeting.process.ports["recorder"]
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)) as connection:
        sent = {"Authorization": f"Bearer {token}"} | ({"Last-Event-ID": last} if last else {})
        connection.request("GET", f"/v1/recordings/{meeting.recording}/events", headers=sent)
        with connection.getresponse() as response:
            yield response


def test_events(meeting: Meeting) -> None:
    """They come as the state changes, end when the token does, and go on where they ended."""
    meeting.request()
    meeting.join("ben")
    with _events(meeting, meeting.token("participant", "ben")) as stream:
        assert stream.getheader("content-type") == "text/event-stream"
        assert b'"announced"' in _until(stream, b"data:")
        meeting.control("start")
        state = {"state": "open", "indicator": True, "reason": None}
        assert json.loads(_until(stream, b"data:")[5:]) == state
    meeting.control("pause")
    with _events(meeting, meeting.token("host", "ana", 2), "1") as stream:
        meeting.control("resume")  # of which it tells, unless the token has ended by then
        found = re.findall(rb"id: (\d+)", stream.read())
        assert found in ([b"2", b"3"], [b"2", b"3", b"4"])
    for token, last, code in (
        (meeting.token("host", "ana"), "x", "malformed"),
        (meeting.token("participant", "eve"), None, "forbidden"),
    ):
        with _events(meeting, token, last) as stream:
            assert json.loads(stream.read())["error"]["code"] == code


def test_members_are_told_of_an_erasure(meeting: Meeting) -> None:
    meeting.opened("ben")
    meeting.control("stop")
    token = meeting.token("participant", "ben")
    erased = {"state": "erased", "indicator": False, "reason": None}
    with _events(meeting, token) as stream:
        assert b'"closed"' in _until(stream, b"data:")
        assert meeting.call("host", "ana", "DELETE", "").status == 204
        assert json.loads(_until(stream, b"data:")[5:]) == erased
    with _events(meeting, token) as stream:
        assert json.loads(_until(stream, b"data:")[5:]) == erased
    other = Meeting(meeting.process, meeting.key, "another", meeting.recording)
    with _events(other, other.token("participant", "ben")) as stream:
        assert json.loads(stream.read())["error"]["code"] == "not_found"


def test_a_reader_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """The bucket may not respond for a minute; recordings have to be closed before that."""
    create_key(tmp_path / "key")
    (tmp_path / "keys.json").write_bytes(key_set(tmp_path / "key"))
    verifier = Verifier(KeySource(str(tmp_path / "keys.json")))
    has_begun, has_ended = Event(), Event()

    def read() -> None:
        has_begun.set()
        has_ended.wait()

    with closing(Recorder(tmp_path / "r")) as recorder:

        async def run() -> None:
            api = RecorderApi(recorder, verifier, IngestLimits())
            reading = asyncio.create_task(api._read(read))
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await asyncio.to_thread(has_begun.wait, WAIT_SECONDS)
                    await asyncio.to_thread(api.close)
            finally:
                has_ended.set()
            await reading

        asyncio.run(run())


def test_one_caller_does_not_hold_every_stream(meeting: Meeting) -> None:
    """Connections are left for others, and the caller may come again when a stream has ended."""
    meeting.request()
    meeting.join("ben")
    token = meeting.token("participant", "ben")
    with ExitStack() as stack:
        for _ in range(MOST_STREAMS):
            _until(stack.enter_context(_events(meeting, token)), b"data:")
        with _events(meeting, token) as stream:
            assert json.loads(stream.read())["error"]["code"] == "busy"
        with _events(meeting, meeting.token("host", "ana")) as stream:
            assert b'"announced"' in _until(stream, b"data:")


def _until(stream: http.client.HTTPResponse, begin: bytes) -> bytes:
    return next(line for line in iter(stream.readline, b"") if line.startswith(begin))


def test_a_body_that_breaks_off_is_not_kept(meeting: Meeting) -> None:
    """A chunk is whole, or it is not there."""
    meeting.opened("ben")
    head = (
        f"PUT /v1/recordings/{meeting.recording}/tracks/b/chunks/0 HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {meeting.token('media', 'm')}\r\nCollector-Kind: audio\r\n"
        "Collector-Owner: ben\r\nContent-Length: 100000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", meeting.process.ports["recorder"])) as sender:
        sender.sendall(head.encode() + b"x" * 50_000)
    assert meeting.code(meeting.chunk("b", 1, b"x")) == "next"
    assert meeting.chunk("b", 0, b"whole").json == {"next": 1}


def test_bodies_are_counted_before_they_are_read(meeting: Meeting) -> None:
    """What would be too much at once is refused with `busy`; then there is room again. Meanwhile
    members leave; and nothing is read of those who have."""
    meeting.opened("ben", "chloe")
    head = (
        f"PUT /v1/recordings/{meeting.recording}/tracks/b/chunks/0 HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {meeting.token('media', 'm')}\r\nCollector-Kind: audio\r\n"
        f"Collector-Owner: ben\r\nContent-Length: {MAX_CHUNK_BYTES}\r\n\r\n"
    )
    address = ("127.0.0.1", meeting.process.ports["recorder"])
    with ExitStack() as stack:
        senders = [
            stack.enter_context(socket.create_connection(address, WAIT_SECONDS))
            for _ in range(_AT_ONCE + 1)
        ]
        for sender in senders:
            sender.sendall(head.encode())
        answered, _, _ = select(senders, [], [], WAIT_SECONDS)
        assert [sender.recv(12) for sender in answered] == [b"HTTP/1.1 429"]
        assert meeting.call("participant", "chloe", "DELETE", "/members/me").status == 204
        assert meeting.code(meeting.chunk("c", 0, b"x", "chloe")) == "left"
    wait_until(lambda: meeting.chunk("b", 0, b"x").status == 201)


def test_one_slow_member_holds_up_no_other(meeting: Meeting) -> None:
    """A member who sends many chunks at once, slowly, is told to come again; others send."""
    meeting.opened("ben", "chloe")
    address = ("127.0.0.1", meeting.process.ports["recorder"])
    with ExitStack() as stack:
        senders = [
            stack.enter_context(socket.create_connection(address, WAIT_SECONDS)) for _ in range(8)
        ]
        for at, sender in enumerate(senders):
            head = (
                f"PUT /v1/recordings/{meeting.recording}/tracks/b{at}/chunks/0 HTTP/1.1\r\n"
                f"Host: localhost\r\nAuthorization: Bearer {meeting.token('participant', 'ben')}"
                f"\r\nCollector-Kind: audio\r\nContent-Length: {MAX_CHUNK_BYTES}\r\n\r\n"
            )
            sender.sendall(head.encode())
        refused = set[socket.socket]()
        while len(refused) < 6:
            answered, _, _ = select(set(senders) - refused, [], [], WAIT_SECONDS)
            assert [sender.recv(12) for sender in answered] == [b"HTTP/1.1 429"] * len(answered)
            refused.update(answered)
        whole = bytes(MAX_CHUNK_BYTES)
        assert meeting.chunk("c", 0, whole, "chloe", sender=("participant", "chloe")).status == 201
        assert meeting.chunk("m", 0, whole, "chloe").status == 201


def test_readers_of_a_notice_have_no_copy_of_it(meeting: Meeting) -> None:
    """Hundreds who take nothing of it need little memory."""
    meeting.opened("ben")
    ask = (
        f"GET /v1/recordings/{meeting.recording}/notice.wav HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {meeting.token('participant', 'ben')}\r\n\r\n"
    )
    address, status = ("127.0.0.1", meeting.process.ports["recorder"]), Path("/proc")
    status /= f"{meeting.process.process.pid}/status"
    if not status.exists():
        pytest.skip("the memory of a process is not known here")
    with ExitStack() as stack:
        for _ in range(200):
            idle = stack.enter_context(socket.socket())
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.connect(address)
            idle.sendall(ask.encode() * 10)
        assert meeting.call("participant", "ben", "GET", "/notice.png").status == 200
        most = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    assert most is not None
    assert int(most[1]) < 150 << 10


def test_a_bucket_that_hangs_holds_up_readers_only(tmp_path: Path) -> None:
    """Members choose and leave while every reader waits for an object."""
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))
        place = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (tmp_path / "secret").write_text("secret")
        secrets = dict.fromkeys(
            ("bucket_access_key", "bucket_secret_key"), f"file:{tmp_path / 'secret'}"
        )
        chosen = {"bucket": "s3://recordings", "bucket_endpoint": place, **secrets}
        meeting = stack.enter_context(running(tmp_path, **chosen))
        meeting.opened("ben")
        assert meeting.chunk("b", 0, b"content").status == 201
        meeting.control("stop")
        for path in tmp_path.rglob("*.age"):
            path.unlink()  # as if it were uploaded
        ask = (
            f"GET /v1/recordings/{meeting.recording}/tracks/b HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {meeting.token('viewer', 'v')}\r\n\r\n"
        )
        address = ("127.0.0.1", meeting.process.ports["recorder"])
        for _ in range(THREADS + 1):
            reader = stack.enter_context(socket.create_connection(address, WAIT_SECONDS))
            reader.sendall(ask.encode())
        for _ in range(THREADS + 1):  # until the readers wait for the bucket
            stack.enter_context(silent.accept()[0])
            if select([silent], [], [], 1)[0] == []:
                break
        begun = time.monotonic()
        assert meeting.call("participant", "ben", "DELETE", "/members/me").status == 204
        assert time.monotonic() - begun < 40  # a request to the bucket may take a minute


def test_readers_who_take_nothing_hold_up_others_for_a_while_only(tmp_path: Path) -> None:
    """What is on its way to readers is bounded: more wait, and get all once others are gone."""
    with running(tmp_path, {"limits": {"header_time": "60s", "body_time": "4s"}}) as meeting:
        _outlast(meeting)


def _outlast(meeting: Meeting) -> None:
    """Read a track while others take nothing."""
    meeting.opened("ben")
    data = bytes(range(256)) * (MAX_CHUNK_BYTES // 256)
    for number in range(2):
        assert meeting.chunk("b", number, data).status == 201
    meeting.control("stop")
    ask = (
        f"GET /v1/recordings/{meeting.recording}/tracks/b HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {meeting.token('viewer', 'v')}\r\n\r\n"
    )
    address = ("127.0.0.1", meeting.process.ports["recorder"])
    with ExitStack() as stack:
        for _ in range(_AT_ONCE + 2):
            idle = stack.enter_context(socket.create_connection(address, WAIT_SECONDS))
            idle.sendall(ask.encode())
        whole = stack.enter_context(ThreadPoolExecutor(1)).submit(
            meeting.call, "viewer", "v", "GET", "/tracks/b"
        )
        idle.close()
        assert whole.result(WAIT_SECONDS).body == data * 2


def test_pages_of_operators(recorder: Meeting) -> None:
    """Health and metrics are for this machine; a web page in a browser gets neither metrics."""
    assert recorder.process.request("GET", "/livez", to="recorder").body == b"ok\n"
    ready = recorder.process.request("GET", "/readyz?verbose", to="recorder")
    lines = [b"[+] %b ok\n" % part for part in (b"queue", b"bucket", b"disk", b"keys")]
    assert ready.body == b"".join(lines) + b"ready\n"
    metrics = recorder.process.request("GET", "/metrics", to="recorder").body.decode()
    assert all(f'code="{code}"' in metrics for code in REFUSALS)
    named = recorder.process.request("GET", "/metrics", None, {"Host": "evil.test"}, to="recorder")
    assert named.status == 421
    other = recorder.process.request("GET", "/v1/x", None, {"Host": "evil.test"}, to="recorder")
    assert other.status == 421


def test_refusals_are_of_one_form() -> None:
    """Every message is a constant that ends without a value."""
    assert set(ErrorBody.__struct_fields__) == {"error"}
    assert all(REFUSALS[code].status >= 400 for code in REFUSALS)


def test_files_are_private(recorder: Meeting) -> None:
    """Nothing in the directory can be read by others."""
    folder = Path(recorder.process.directory) / "recorder"
    for path in [folder, *folder.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path.name
