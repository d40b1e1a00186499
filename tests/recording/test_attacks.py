"""A stranger at the recorder's address: canaries, garbage, floods, and kills in the middle."""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from collector.ledger import opened
from collector.recording.grant import MAX_OWN_TRACKS
from collector.recording.store import read_rows
from collector.recording.vault import opened_to_read
from collector.recording.verification import verify
from tests.recording.serving import TERMS, Meeting, running
from tests.support.deadline import WAIT_SECONDS

pytestmark = pytest.mark.long

CANARY = "Canary4711"


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meeting]:
    """One recorder for all tests of this module."""
    with running(tmp_path_factory.mktemp("attacks")) as meeting:
        yield meeting


def _meeting(recorder: Meeting, name: str) -> Meeting:
    return Meeting(recorder.process, recorder.key, name)


def _raw(recorder: Meeting, data: bytes) -> bytes:
    """Send bytes, and return all that comes back."""
    address, answer = ("127.0.0.1", recorder.process.ports["recorder"]), bytearray()
    with socket.create_connection(address, WAIT_SECONDS) as line, suppress(OSError):
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        while piece := line.recv(65536):
            answer += piece
    return bytes(answer)


def _refusals(recorder: Meeting) -> int:
    text = recorder.process.request("GET", "/metrics", to="recorder").body.decode()
    found = re.findall(r"^collector_recorder_refusals_total\{.*\} (\d+)", text, re.MULTILINE)
    return sum(map(int, found))


def test_no_answer_log_or_file_has_a_canary(recorder: Meeting) -> None:
    meeting = _meeting(recorder, "canaries")
    meeting.opened("ben")
    token, shown = meeting.token("participant", CANARY), list[bytes]()
    one = f"/v1/recordings/{meeting.recording}"
    secrets = [CANARY, token, token.split(".")[1], token.split(".")[2]]
    bearer = {"Authorization": f"Bearer {meeting.token('host', 'ana')}"}
    paths = [
        *(f"{one}/{CANARY}", f"{one}/tracks/{CANARY}", f"{one}/members/{CANARY}", f"/{CANARY}"),
        *(f"{one}/events?access_token={token}", f"{one}/manifest?{CANARY}", f"{one}/%43{CANARY}"),
        *(f"{one}/tracks/../{CANARY}", f"//{CANARY}@x/{one}", f"{one}/tracks/t/chunks/{CANARY}"),
    ]
    headers = [
        {},
        bearer,
        {"Authorization": f"Bearer {token}"},
        {"Authorization": f"Bearer {token}{CANARY}"},
        {"Authorization": f"Basic {CANARY}"},
        {"Authorization": f"{CANARY} {token}"},
        bearer | {"Collector-Kind": CANARY, "Collector-Owner": CANARY},
        bearer | {"Collector-Kind": "audio", "Collector-Owner": f"{CANARY}/.."},
        bearer | {"Last-Event-ID": CANARY, "Range": CANARY, "Cookie": f"t={token}"},
        bearer | {"Content-Type": CANARY, "Content-Encoding": CANARY, "X-Forwarded-For": CANARY},
    ]
    bodies = [
        None,
        CANARY.encode(),
        json.dumps({CANARY: CANARY}).encode(),
        json.dumps({"choice": CANARY, "notice": CANARY}).encode(),
        json.dumps({"to": f"{CANARY}!"}).encode(),
        json.dumps({**TERMS, "meeting": "canaries", "storage": CANARY}).encode(),
        json.dumps({**TERMS, "recipient": f"age1{CANARY}", "storage": "local"}).encode(),
    ]
    methods = ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"]
    chance = random.Random(4711)
    for path in [*paths, "/v1/recordings", f"{one}/choice", f"{one}/handover", f"{one}/start"]:
        for sent in headers:
            method, body = chance.choice(methods), chance.choice(bodies)
            if method in ("PUT", "POST") and path.startswith(f"{one}/members/"):
                continue  # which a platform may put there
            answer = recorder.process.request(method, path, body, sent, to="recorder")
            shown += [answer.body, str(answer.headers).encode()]
            assert answer.status != 500, (method, path, sent, body)
    for text in (f"GET / HTTP/9.{CANARY}\r\n\r\n", f"{CANARY}\r\n\r\n", f"GET {token}"):
        shown.append(_raw(recorder, text.encode()))
    shown.append(recorder.process.request("GET", "/metrics", to="recorder").body)
    shown.append("\n".join(recorder.process.log).encode())
    files = [each for each in (recorder.key.parent / "recorder").rglob("*") if each.is_file()]
    shown += [each.read_bytes() for each in files]
    found = [text for text in shown if any(secret.encode() in text for secret in secrets)]
    assert found == []
    assert "error" not in {json.loads(line).get("level") for line in recorder.process.log}


def test_a_name_that_another_took_first(recorder: Meeting) -> None:
    """Media learns that a track is another's, and goes on under another name; whoever took it has
    the content of nobody else under it, and cannot take every name."""
    meeting = _meeting(recorder, "names")
    meeting.opened("ben", "eve")
    eve = ("participant", "eve")
    for name in ("mixed-1", "ben-audio"):
        assert meeting.chunk(name, 0, b"of eve", "eve", sender=eve).status == 201
    for name, owner in (("mixed-1", "mixed"), ("ben-audio", "ben")):
        assert meeting.code(meeting.chunk(name, 0, b"content", owner)) == "owner"
        assert meeting.chunk(f"{name}-2", 0, b"content", owner).json == {"next": 1}
    codes = Counter(
        meeting.chunk(f"name-{at}", 0, b"x", "eve", sender=eve).status for at in range(300)
    )
    assert codes == {201: MAX_OWN_TRACKS - 2, 413: 300 - MAX_OWN_TRACKS + 2}
    assert meeting.chunk("another", 0, b"content").status == 201
    assert meeting.call(*eve, "DELETE", "/members/me").status == 204
    meeting.control("stop")
    assert meeting.code(meeting.call("viewer", "v", "GET", "/tracks/ben-audio")) == "left"
    assert meeting.call("viewer", "v", "GET", "/tracks/ben-audio-2").body == b"content"


def test_a_host_has_nothing_of_another_hosts_recording(recorder: Meeting) -> None:
    """Eve records the same meeting, with a token of the same role, and tries each endpoint of
    Ana's recording, before and after the close: nothing of it is in an answer, nothing changes."""
    meeting = _meeting(recorder, "two-hosts")
    meeting.opened("ben")
    assert meeting.chunk("b", 0, CANARY.encode()).status == 201
    own = _meeting(recorder, "two-hosts")
    own.request("eve")
    eve = ("host", "eve")
    for stopped in (200, 409):
        answers = {
            path or "erase": meeting.call(*eve, method, path, body)
            for method, path, body in (
                ("GET", "/tracks/b", None),
                ("GET", "/tracks/none", None),
                ("GET", "/manifest", None),
                ("GET", "/events", None),
                ("DELETE", "", None),
                *(("POST", f"/{each}", None) for each in ("start", "pause", "resume", "stop")),
                ("POST", "/handover", {"to": "eve"}),
                ("POST", "/accept", None),
            )
        }
        codes = {path: meeting.code(answer) for path, answer in answers.items()}
        assert set(codes.values()) <= {"forbidden", "handover", "closed"}
        reads = {"/tracks/b", "/tracks/none", "/manifest", "/events", "erase"}
        assert {codes[each] for each in reads} == {"forbidden"}
        assert not any(CANARY.encode() in answer.body for answer in answers.values())
        assert meeting.control("stop").status == stopped
    assert meeting.call("host", "ana", "GET", "/tracks/b").body == CANARY.encode()
    assert meeting.call("host", "ana", "DELETE", "").status == 204
    assert own.control("start", "eve").status == 200


def test_garbage_is_no_request(recorder: Meeting) -> None:
    """Random bytes, broken requests and mixtures of sound ones are refused; the recorder serves."""
    meeting = _meeting(recorder, "garbage")
    meeting.opened("ben")
    sound = (
        f"PUT /v1/recordings/{meeting.recording}/tracks/b/chunks/0 HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {meeting.token('media', 'm')}\r\nCollector-Kind: audio\r\n"
        "Collector-Owner: ben\r\nContent-Length: 5\r\n\r\nsound"
    ).encode()
    chance, statuses = random.Random(7), Counter[bytes]()
    for _ in range(300):
        data = bytearray(sound)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(data) - 40)
            match chance.randrange(4):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + chance.randrange(1, 30)]
                case 2:
                    data[at:at] = chance.randbytes(chance.randrange(1, 30))
                case _:
                    data[at:at] = data[at : at + chance.randrange(1, 200)]
        statuses[_raw(recorder, bytes(data))[9:12]] += 1
    for size in (1, 100, 10_000):
        statuses[_raw(recorder, chance.randbytes(size))[9:12]] += 1
    assert statuses.keys() <= {
        b"",
        *b"201 400 401 403 404 405 408 409 413 414 415 421 431 501 505".split(),
    }
    assert meeting.chunk("b2", 0, b"x").status == 201


def test_smuggled_requests_are_not_answered(recorder: Meeting) -> None:
    meeting = _meeting(recorder, "smuggled")
    meeting.opened("ben")
    place = f"PUT /v1/recordings/{meeting.recording}/tracks/b/chunks/0 HTTP/1.1\r\nHost: localhost"
    token = f"Authorization: Bearer {meeting.token('media', 'm')}"
    about = f"{token}\r\nCollector-Kind: audio\r\nCollector-Owner: ben"
    second = f"{place}\r\n{about}\r\nContent-Length: 1\r\n\r\nx"
    for framing in (
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Content-Length: -4",
        "Content-Length: +4",
        "Content-Length: 0x4",
        "Content-Length : 4",
        "X: y\r\n Content-Length: 4",
    ):
        for body in ("abcd", "0\r\n\r\n"):
            request = f"{place}\r\n{about}\r\n{framing}\r\n\r\n{body}{second}"
            answer = _raw(recorder, request.encode())
            assert b" 201 " not in answer, (framing, answer)
    for headers in (
        f"{about}\r\n{token}",
        f"{about}, Bearer x",
        f"{about}\r\nCollector-Owner: ana",
        f"{about}\r\nCollector-Kind: video",
        f"{about}\r\nContent-Encoding: identity",
    ):
        answer = _raw(recorder, f"{place}\r\n{headers}\r\nContent-Length: 4\r\n\r\nabcd".encode())
        assert answer[9:12] in (b"400", b"404"), (headers, answer)
    assert meeting.chunk("b", 0, b"x").json == {"next": 1}


def test_one_token_from_many_callers_at_once(recorder: Meeting) -> None:
    """Does one thing once; each caller has its answer, or comes again."""
    meeting = _meeting(recorder, "at-once")
    meeting.request()
    body = json.dumps({**TERMS, "meeting": "at-once"}).encode()
    token = meeting.token("host", "ana")
    there = Meeting(recorder.process, recorder.key, "at-once")
    with ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(there.call, "", "", "POST", "", body, token=token) for _ in range(64)]
        answers = [call.result() for call in calls]
    made = {answer.json["id"] for answer in answers if answer.status == 201}
    assert len(made) == 1
    assert {answer.status for answer in answers} <= {201, 429}
    assert there.call("", "", "POST", "", body, token=token).json["id"] in made
    changed = body.replace(b"30d", b"31d")
    assert there.code(there.call("", "", "POST", "", changed, token=token)) == "replayed"


def test_chunks_while_their_owner_leaves(recorder: Meeting) -> None:
    """Every chunk that is answered after the withdrawal is refused, and none can be read."""
    meeting = _meeting(recorder, "leaving")
    meeting.opened("ben")
    left, late = threading.Event(), list[int]()

    def send(track: str) -> None:
        for number in range(200):
            was_gone = left.is_set()
            answer = meeting.chunk(track, number, b"x" * 1000)
            if answer.status != 201:
                assert meeting.code(answer) == "left"
                return
            if was_gone:
                late.append(number)

    with ThreadPoolExecutor(4) as pool:
        sending = [pool.submit(send, f"b{at}") for at in range(4)]
        assert meeting.call("participant", "ben", "DELETE", "/members/me").status == 204
        left.set()
        for each in sending:
            each.result()
    assert late == []
    meeting.control("stop")
    for at in range(4):
        answer = meeting.call("viewer", "v", "GET", f"/tracks/b{at}")
        assert meeting.code(answer) in ("left", "not_found")


def test_many_ranges_are_one_entry(recorder: Meeting) -> None:
    """A reader with a token fills no ledger; another token, track or refusal is another entry."""
    meeting = _meeting(recorder, "ranges")
    meeting.opened("ben")
    for track in ("b1", "b2"):
        assert meeting.chunk(track, 0, bytes(1000)).status == 201
    token = meeting.token("viewer", "v")
    before = _accesses(recorder)

    def read(track: str, by: str = token, first: int = 0) -> int:
        ranges = {"Range": f"bytes={first}-{first}"}
        path = f"/tracks/{track}"
        return meeting.call("", "", "GET", path, None, ranges, token=by).status

    assert {read("b1") for _ in range(20)} == {409}
    meeting.control("stop")
    assert {read("b1", first=at) for at in range(50)} == {206}
    assert {read(f"none{at}") for at in range(50)} == {404}
    assert read("b2") == 206
    assert read("b1", meeting.token("viewer", "v")) == 206
    assert _accesses(recorder) - before == Counter({"open": 1, "done": 3, "not_found": 1})


def _accesses(recorder: Meeting) -> Counter[str]:
    """The entries of accesses in the ledger, by what came of each."""
    with opened(recorder.key.parent / "recorder" / "recorder.db") as ledger:
        found = [each for each in ledger.entries() if each.kind == "access"]
    return Counter(each.fact("outcome") or "" for each in found if each.fact("what") == "track")


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=pytest.mark.recordings)])
def test_a_kill_in_the_middle_of_choices(tmp_path: Path, kills: int) -> None:
    """What was answered is there afterwards, with its entry, and everything holds."""
    answered: dict[str, set[str]] = {}
    for kill in range(kills):
        with running(tmp_path) as recorder, ThreadPoolExecutor(8) as pool:
            meeting, enough = _meeting(recorder, f"kill-{kill}"), threading.Event()
            meeting.request()
            members = [f"p{at}" for at in range(40)]
            meeting.join("ana", *members)
            meeting.choose("ana")
            meeting.control("start")
            left = answered.setdefault(meeting.recording, set())
            for member in members:
                pool.submit(_stay_and_leave, meeting, member, left, enough, 2 + kill % 9)
            enough.wait(WAIT_SECONDS)
            recorder.process.stop(signal.SIGKILL)
    with running(tmp_path) as recorder:
        for kill, (recording, left) in enumerate(answered.items()):
            meeting = Meeting(recorder.process, recorder.key, f"kill-{kill}", recording)
            for member in left:
                answer = meeting.call("viewer", "v", "GET", f"/tracks/{member}-a")
                assert meeting.code(answer) == "left"
        directory = tmp_path / "recorder"
        with opened_to_read(directory) as vault:
            assert [verify(vault, recording) for recording in answered] == [[]] * kills
        assert {each.state for each in read_rows(directory)} == {"closed"}
        with opened(directory / "recorder.db") as ledger:
            assert ledger.verify().flaws == []
            noted = [
                each.fact("recording") for each in ledger.entries() if each.fact("what") == "leave"
            ]
        for recording, left in answered.items():
            assert noted.count(recording) >= len(left)


def _stay_and_leave(
    meeting: Meeting, member: str, left: set[str], enough: threading.Event, most: int
) -> None:
    """Stay, send a chunk, and leave, until the recorder is gone."""
    with suppress(OSError, AssertionError, ValueError, HTTPException):
        meeting.choose(member)
        assert meeting.chunk(f"{member}-a", 0, b"x", member).status == 201
        meeting.choose(member, "leave")
        left.add(member)
        if len(left) >= most:
            enough.set()
