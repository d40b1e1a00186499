"""Every endpoint, asked by every caller in every state of a recording: the answers are worked out
from a table of words, what is refused changes nothing, and it is counted."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from collector.recording.routes import ROUTES
from collector.recording.store import read_rows
from tests.recording.serving import TERMS, Meeting, running
from tests.support.deadline import WAIT_SECONDS
from tests.support.sidecar import Answer

pytestmark = pytest.mark.long


class Person(NamedTuple):
    """A caller: Ana is the host, Ben stays and is her heir, Chloe has not chosen, Dan has left, and
    Eve is no member. Chloe and Eve are hosts of other recordings of the meeting."""

    role: str
    subject: str


PEOPLE = [
    Person("platform", "backend"),
    *(Person("host", each) for each in ("ana", "ben", "chloe", "eve")),
    *(Person("participant", each) for each in ("ana", "ben", "chloe", "dan", "eve")),
    Person("media", "egress"),
    Person("viewer", "victor"),
    Person("auditor", "aud"),
]
STATES = ["announced", "open", "paused", "closed", "erased"]
_MEMBERS = ("ana", "ben", "chloe", "dan")
_PEOPLE_OF_A_MEETING = ("host", "participant")

_WHO: dict[str, tuple[str, ...]] = {
    "request": ("host",),
    **dict.fromkeys(("join", "depart"), ("platform",)),
    **dict.fromkeys(("start", "pause", "resume", "stop", "handover"), _PEOPLE_OF_A_MEETING),
    **dict.fromkeys(("accept", "notice_wav", "notice_png"), _PEOPLE_OF_A_MEETING),
    **dict.fromkeys(("choice", "withdraw", "erase"), _PEOPLE_OF_A_MEETING),
    "chunk": ("host", "participant", "media"),
    "events": ("host", "participant", "media", "platform"),
    "track": ("host", "viewer"),
    "manifest": ("host", "viewer", "auditor"),
}
"""Which roles may ask at all."""

_ENDED = {"closed": "closed", "erased": "erased"}
_HOSTS: dict[str, dict[str, str]] = {
    "start": {"paused": "paused"},
    "pause": {"announced": "announced"},
    "resume": {"announced": "announced"},
    "stop": {},
    "handover": {},
}
"""What the host alone does, and the states in which it is refused, besides the end."""


def _expected(name: str, person: Person, state: str) -> str:
    """The code of a refusal, or an empty text."""
    if person.role not in _WHO[name]:
        return "forbidden"
    is_host, is_member = person.subject == "ana", person.subject in _MEMBERS
    ended = _ENDED.get(state, "")
    if name in _HOSTS:
        return ended or (_HOSTS[name].get(state, "") if is_host else "forbidden")
    if name == "accept":
        return ended or ("" if person.subject == "ben" else "handover")
    if name == "join":
        return ended
    if name == "withdraw":
        return "erased" if state == "erased" else ("" if is_member else "left")
    if name == "choice":
        return ended or ("" if person.subject in ("ana", "ben", "chloe") else "left")
    if name == "chunk":
        choices = {"ana": "", "ben": "", "egress": "", "chloe": "pending"}
        not_open = state if state != "open" else ""
        return ended or not_open or choices.get(person.subject, "left")
    if name == "events":
        is_there = is_member or state == "erased"
        return "" if person.role in ("media", "platform") or is_there else "forbidden"
    if name in ("track", "manifest"):
        if state != "erased" and person.role == "host" and person.subject not in ("ana", "ben"):
            return "forbidden"
        is_there = name == "manifest" or state == "closed"  # a manifest is there at any time
        return "erased" if state == "erased" else ("" if is_there else "open")
    if name == "erase" and state != "erased":
        return "forbidden" if not is_host else ("" if state == "closed" else "open")
    return ""  # a request, a notice, and what is there to be done no more


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meeting]:
    """One recorder for all tests of this module."""
    with running(tmp_path_factory.mktemp("matrix")) as meeting:
        yield meeting


_numbers = count()


class Desk:
    """Asks for things, and counts what is refused."""

    def __init__(self, recorder: Meeting) -> None:
        self.recorder = recorder

    def recording(self, state: str) -> Meeting:
        """A recording of a meeting of its own, in a state."""
        name = f"{state}-{next(_numbers)}"
        meeting = Meeting(self.recorder.process, self.recorder.key, name)
        meeting.request()
        meeting.join(*_MEMBERS)
        for member, choice in (("ana", "stay"), ("ben", "stay"), ("dan", "leave")):
            meeting.choose(member, choice)
        assert meeting.call("host", "ana", "POST", "/handover", {"to": "ben"}).status == 200
        reached = STATES[: STATES.index(state) + 1]
        if "open" in reached:
            assert meeting.control("start").status == 200
            assert meeting.chunk("bens", 0, b"content").status == 201
        if "paused" in reached:
            assert meeting.control("pause").status == 200
        if "closed" in reached:
            assert meeting.control("stop").status == 200
        if "erased" in reached:
            assert meeting.call("host", "ana", "DELETE", "").status == 204
        return meeting

    def refusals(self) -> int:
        """How many refusals the recorder has counted."""
        text = self.recorder.process.request("GET", "/metrics", to="recorder").body.decode()
        found = re.findall(r"^collector_recorder_refusals_total\{.*\} (\d+)", text, re.MULTILINE)
        return sum(map(int, found))


def _ask(meeting: Meeting, name: str, person: Person, token: str | None = None) -> Answer:
    """Ask for something, with a body that is sound."""
    route = next(each for each in ROUTES if each.name == name)
    member = {"join": "fay", "depart": "chloe"}.get(name, "")
    track = "bens" if name == "track" or person.role == "media" else f"{person.subject}s"
    path = route.path.removeprefix("/v1/recordings").removeprefix("/{id}")
    path = path.format(pseudonym=member, track=track, n=1 if track == "bens" else 0)
    body: object = {
        "request": {**TERMS, "meeting": meeting.name},
        "handover": {"to": "ben"},
        "choice": {"choice": "stay", "notice": meeting.notice},
        "chunk": b"more",
    }.get(name)
    about = {"Collector-Kind": "audio"} if name == "chunk" else {}
    if name == "chunk" and person.role == "media":
        about["Collector-Owner"] = "ben"
    if name == "events":
        return _first_of(meeting, person, token)
    place = Meeting(meeting.process, meeting.key, meeting.name) if name == "request" else meeting
    return place.call(*person, route.method, path, body, about, token=token)


def _first_of(meeting: Meeting, person: Person, token: str | None) -> Answer:
    """The begin of a stream of events."""
    port = meeting.process.ports["recorder"]
    sent = {"Authorization": f"Bearer {token or meeting.token(*person)}"}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)) as connection:
        connection.request("GET", f"/v1/recordings/{meeting.recording}/events", headers=sent)
        response = connection.getresponse()
        body = response.readline() if response.status == 200 else response.read()
        return Answer(response.status, dict(response.headers), body)


_READS = {"notice_wav", "notice_png", "events", "track", "manifest"}


@pytest.mark.parametrize("state", STATES)
def test_each_endpoint_for_each_caller(recorder: Meeting, state: str) -> None:
    desk = Desk(recorder)
    shared, refused = desk.recording(state), 0
    for other in ("chloe", "eve"):
        Meeting(recorder.process, recorder.key, shared.name).request(other)
    directory = Path(recorder.process.directory) / "recorder"
    stored = {each.id: each for each in read_rows(directory)}[shared.recording]
    before, wrong = desk.refusals(), list[str]()
    for name in _WHO:
        for person in PEOPLE:
            expected = _expected(name, person, state)
            changes = not expected and name not in _READS
            meeting = desk.recording(state) if changes else shared
            answer = _ask(meeting, name, person)
            found = answer.json["error"]["code"] if answer.status >= 400 else ""
            if found != expected:
                wrong.append(f"{name} by {person}: {found or 'done'}, not {expected or 'done'}")
            refused += bool(found)
    assert wrong == []
    assert desk.refusals() - before == refused
    assert {each.id: each for each in read_rows(directory)}[shared.recording] == stored


@pytest.mark.parametrize("name", _WHO)
def test_each_endpoint_without_a_token_for_it(recorder: Meeting, name: str) -> None:
    """An unknown recording, one of another meeting, no token, one of a key that is not the
    platform's: the same answer, byte for byte, whatever the role."""
    there = Desk(recorder).recording("open")
    other = Meeting(recorder.process, recorder.key, "elsewhere")
    answers = set()
    for person in PEOPLE:
        foreign = other.token(*person)
        if name != "request":
            unknown = Meeting(recorder.process, recorder.key, there.name, "0" * 32)
            answers.add(_answer(_ask(unknown, name, person)))
            answers.add(_answer(_ask(there, name, person, foreign)))
        elif person.role == "host":
            answers.add(_answer(_ask(there, name, person, foreign)))
        for bad in ("x", "..", foreign[:-2], foreign + "A", f"{foreign.partition('.')[0]}.."):
            answers.add(_answer(_ask(there, name, person, bad)))
    assert len(answers) == 1, answers
    assert next(iter(answers))[0] == 404


def _answer(answer: Answer) -> tuple[int, bytes, tuple[str, ...]]:
    names = sorted(name.lower() for name in answer.headers if name.lower() != "connection")
    return answer.status, answer.body, tuple(names)


def test_every_endpoint_is_in_the_table() -> None:
    assert set(_WHO) == {route.name for route in ROUTES}
    assert {person.role for person in PEOPLE} == {
        *("platform", "host", "participant", "media", "viewer", "auditor")
    }
