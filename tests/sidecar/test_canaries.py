"""Canaries in every slot of every input: none appears in any byte written or answered.

If a fault is planted in the schema or in the program, the same search finds canaries.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor  # type: ignore[import-untyped]

from collector.ingest.auth import hashed
from tests.conftest import required_root
from tests.sidecar.heads import heads
from tests.sidecar.marks import Marks
from tests.sidecar.senders import shouted
from tests.sidecar.slots import REQUESTS, slots
from tests.sidecar.swept import LEAKY, events, exports, kept_records, send, swept
from tests.support.delivery import delivered, held, log_is_empty
from tests.support.processes import command
from tests.support.sidecar import Sidecar
from tests.support.unpacked import every_byte

_SAID = {"starting", "started", "stopping", "stopped", "sink_failing", "sink_recovered", "refused"}
"""All events in the log here: one sink fails because the test locks its file, and at `debug` each
refused request has a line."""
_PAGES = (
    *("/metrics", "/readyz?verbose", "/readyz", "/livez", "/favicon.ico"),
    *("/", "/?lang=id", "/page.json", "/status"),
)


@pytest.mark.long
def test_a_slot_cannot_be_forgotten(tmp_path: Path) -> None:
    """Every field of every message that a request can reach has a slot. Its canary is in the
    request, and the search finds it there."""
    marks = Marks()
    made = exports(marks)
    (tmp_path / "protobuf").write_bytes(b"".join(content for _, content in made.protobuf))
    (tmp_path / "json").write_bytes(b"".join(body.content for body in made.json + made.odd))
    found = {leak.place for leak in marks.found(tmp_path)}
    assert found == set(marks.places.values())
    for kind in REQUESTS.values():
        own = list(slots(kind.DESCRIPTOR))
        every = {field for message in _reached(kind.DESCRIPTOR) for field in message.fields}
        assert {field for slot in own for field in slot.path} == every
        unmarked = {str(slot).rpartition(".")[2] for slot in own if str(slot) not in found}
        assert unmarked <= {"bool_value", "is_monotonic"}, "only these are too small for a canary"


def _reached(message: Descriptor) -> set[Descriptor]:
    """A message, and the messages that it can hold."""
    reached, queue = set(), [message]
    while queue:
        one = queue.pop()
        if one not in reached:
            reached.add(one)
            queue += [field.message_type for field in one.fields if field.message_type]
    return reached


def test_nothing_of_what_is_sent_is_written_or_said(tmp_path: Path) -> None:
    """Send everything to a sidecar that takes it. Search while batches wait, and again once they
    are delivered and the sidecar has ended. Well-formed inputs are taken, so they pass every
    stage."""
    marks, seen = Marks(), tmp_path / "seen"
    with swept(tmp_path) as sidecar:
        with held(tmp_path / "data" / "store.db"):
            sent = send(sidecar, marks, seen, {"User-Agent": marks.text("user agent")})
            _ask_admin(sidecar, marks, seen)
            log_is_empty(tmp_path / "data")  # else data might move during the search
            spool = every_byte(*(tmp_path / "data").glob("spool.db*"))
            assert spool.count(b'"os.type":"linux"') >= sent.exports
            assert marks.found(tmp_path / "data") == []
        admitted = delivered(sidecar)
    assert marks.found(tmp_path) == []
    _has_said_nothing_else(tmp_path, sidecar)
    answers = {file.name: file.read_bytes() for file in seen.iterdir()}
    assert answers["events"].count(b"200 OK") == sent.events
    assert answers["records"].count(b"200 OK") == sent.records
    assert answers["records"].count(b"409 Conflict") == sent.foreign > 0
    assert answers["otlp"].count(b"200 OK") == answers["otlp-json"].count(b"200 OK") == sent.exports
    assert answers["grpc"].count(b"StatusCode.OK") == sent.calls
    assert admitted >= 2 * sent.exports + sent.calls + 20 * sent.events + 2 * sent.records
    assert kept_records(tmp_path) == {"store": admitted, "file": admitted}
    print(f"{len(marks.places)} canaries, {admitted} records: no leak")


@pytest.mark.long
def test_nothing_is_kept_of_who_is_refused(tmp_path: Path) -> None:
    """Wrong tokens, and everything that comes with them or without a token, are nowhere."""
    marks, right = Marks(), "the right token, which is long enough"
    tokens = {"COLLECTOR__AUTH__TOKENS": hashed(right)}
    with swept(tmp_path, tokens) as sidecar:
        wrong = {"Authorization": f"Bearer {marks.text('wrong token')}"}
        send(sidecar, marks, tmp_path / "seen", wrong)
        _ask_admin(sidecar, marks, tmp_path / "seen")
    assert marks.found(tmp_path) == []
    _has_said_nothing_else(tmp_path, sidecar)
    answers = {file.name: file.read_bytes() for file in (tmp_path / "seen").iterdir()}
    assert all(b"200 OK" not in answer for name, answer in answers.items() if name != "admin")
    assert b"StatusCode.OK" not in answers["grpc"]
    assert answers["grpc"].count(b"StatusCode.UNAUTHENTICATED") > 100
    assert kept_records(tmp_path) == {"store": 0, "file": 0}


@pytest.mark.long
def test_a_schema_that_lets_canaries_through_is_found(tmp_path: Path) -> None:
    """The same search finds texts and numbers in spool, store and file if a schema admits them."""
    marks = Marks()
    with swept(tmp_path, schema=LEAKY) as sidecar:
        with held(tmp_path / "data" / "store.db"):
            for body in events(marks):
                sidecar.request("POST", body.path, body.content, body.headers())
            log_is_empty(tmp_path / "data")
            # Not the whole folder: closing one of the store's files would release this process's
            # locks on it.
            _found(marks, tmp_path / "data" / "spool.db", "spool.db", {"plain"})
        delivered(sidecar)
    _found(marks, tmp_path / "data" / "store.db", "store.db", {"plain", "value"})
    _found(marks, tmp_path / "records", "records.ndjson", {"plain"})


_FAULTY = """
import gzip, os, tempfile
from pathlib import Path
from collector.ingest import http

take = http.EventsHandler.__call__

def faulty(self, head, respond):
    agent = head.only(b"user-agent") or b""
    if b"echo" in agent:
        return take(self, head, lambda answer: respond(
            answer and answer._replace(headers=(*answer.headers, (b"x-agent", agent)))
        ))
    if b"say" in agent:
        with Path(f"/proc/{os.getppid()}/fd/2").open("w") as stderr:  # it has none of its own
            print(repr(head.headers), file=stderr, flush=True)
    if b"file" in agent:
        with tempfile.NamedTemporaryFile(dir=".", delete=False) as file:
            file.write(gzip.compress(agent))
    take(self, head, respond)

http.EventsHandler.__call__ = faulty
"""


@pytest.mark.long
def test_a_program_that_leaks_is_found(tmp_path: Path) -> None:
    """It echoes, logs, or leaves a packed temporary file: the search finds each."""
    required_root()
    marks = Marks()
    program = tmp_path / "program"
    program.mkdir()
    off = {"COLLECTOR__SANDBOX": "off"}
    with swept(tmp_path, off, command=command(program, _FAULTY)) as sidecar:
        for fault in ("echo", "say", "file"):
            headers = {"Content-Type": "application/json"}
            headers["User-Agent"] = f"{fault} {marks.text(fault)}"
            answer = sidecar.request("POST", "/v1/events", b"{}", headers)
            (tmp_path / "seen" / fault).write_text(repr(answer))
    leaks = {(leak.place, leak.form) for leak in marks.found(tmp_path)}
    assert leaks == {("echo", "plain"), ("say", "plain"), ("file", "gzip>plain")}


def _ask_admin(sidecar: Sidecar, marks: Marks, folder: Path) -> None:
    """Request every page, correctly and incorrectly."""
    heard = repr([sidecar.admin(path) for path in _PAGES]).encode()
    odd = shouted(sidecar.ports["admin"], list(heads(marks)))
    (folder / "admin").write_bytes(heard + odd)


def _has_said_nothing_else(folder: Path, sidecar: Sidecar) -> None:
    """Its log has only our events, and the folder only its own files."""
    assert {event["event"] for event in sidecar.events} <= _SAID
    assert (folder / "seen" / "stdout").read_bytes() == b""
    assert [*(folder / "tmp").iterdir(), *(folder / "home").iterdir()] == []
    assert list((folder / "work").iterdir()) == []


def _found(marks: Marks, where: Path, name: str, forms: set[str]) -> None:
    leaks = [leak for leak in marks.found(where) if leak.file.startswith(name)]
    assert forms <= {leak.form for leak in leaks}
    assert {"event.os.build_id", "event.cpu.count"} <= {leak.place for leak in leaks}
