"""A sidecar with everything switched on, and every kind of input to it with canaries inside.

OTLP's slots come from the official descriptors; JSON's slots are those of an event with every field
and every name of content. Store, files, derived values, the peer's address, pseudonyms and trusted
hops are on, and the log is at its most verbose.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from collector.contracts import Signal
from collector.schema import policy
from tests.sidecar.heads import heads
from tests.sidecar.marks import Marks
from tests.sidecar.senders import METHODS, Body, called, odd_calls, posted, shouted, spoilt
from tests.sidecar.slots import (
    REQUESTS,
    Members,
    as_json,
    members,
    planted,
    slots,
    variants,
    written,
)
from tests.support.database import query
from tests.support.sidecar import Sidecar, started

_REST = 'category: user.device, purposes: [ops], retention: 1d, reason: "Run the service"'
_SCHEMA = """\
schema: swept
version: 1.0.0
title: Every kind once, and everything that a request can fill
owner: tests
records: [participants, "."]
user_agent: [agent, user_agent.original]
content: {chat: [backchannel]}
purposes:
  ops: {use: essential.service.operations, basis: contract, reason: Run the service}
fields:
  client.address: {kind: ip, from: [client.address, ip], source: peer, REST}
  client.network: {kind: ip, from: [net.address], truncate: {ipv4: 24, ipv6: 48}, REST}
  device.type: {kind: enum, values: [desktop, phone], derive: user_agent, REST}
  device.model.name: {kind: token, catalogue: device-models, derive: user_agent, REST}
  os.type: {kind: enum, values: [linux, windows], derive: user_agent, REST}
  os.version: {kind: version, parts: 3, maximum: [99, 99, 99999], derive: user_agent, REST}
  os.build_id: {kind: token, pattern: "PATTERN", REST}
  cpu.count: {kind: integer, minimum: 0, maximum: MAXIMUM, step: 1, REST}
  cpu.load: {kind: number, minimum: 0, maximum: 1, step: 0.1, REST}
  cpu.throttled: {kind: boolean, REST}
  joined: {kind: time, precision: minute, within: ±7d, REST}
  device.id: {kind: pseudonym, key: "env:SWEPT_KEY", rotate: 1d, REST}
""".replace("REST", _REST)
TIGHT = {"PATTERN": "[0-9]{2}[A-Z][0-9]{1,3}", "MAXIMUM": "64"}
LEAKY = {"PATTERN": "canary-[0-9a-f]{8}-[0-9a-f]{4}[0-9]{4}", "MAXIMUM": "9000000000000000000"}
"""A schema that admits canaries. With more hexadecimal digits in its pattern it would not load."""
_KEYS = (
    *("os.version", "os.build_id", "cpu.count", "cpu.load", "device.id", "joined", "chat"),
    *("client.address", "user_agent.original", "device.model.name", "cpu.throttled", "audio"),
)
_EVENT: dict[str, Any] = {
    "client": {"address": "203.0.113.7", "port": 4000},
    "net.address": "198.51.100.77",
    "device": {"type": "phone", "id": "a-device", "model": {"name": "Pixel 8"}, "serial": "x"},
    "os": {"type": "linux", "version": "22.04", "build_id": "23E224"},
    "cpu": {"count": 8, "load": 0.5, "throttled": True},
    "joined": "2026-11-24T10:20:00Z",
    "agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
    "meeting": {"topic": "x", "people": [{"name": "x"}]},
    "backchannel": "x",
}
_RECORD = {
    "client.address": "203.0.113.7",
    "client.network": "198.51.100.0",
    "device.type": "phone",
    "device.model.name": "Pixel 8",
    "os.type": "linux",
    "os.version": "22.04",
    "os.build_id": "23E224",
    "cpu.count": 8,
    "cpu.load": 0.5,
    "cpu.throttled": True,
    "device.id": "abcdefghijklmnopqrstuvwxya",
    "chat": "x",
    "meeting": {"topic": "x"},
}
"""A finished record."""
_RECORDS = "/v1/records"
_LINES = 100
_WITH_ATTRIBUTES = "attributes.value.int_value"


@contextmanager
def swept(
    folder: Path,
    environ: Mapping[str, str] | None = None,
    *,
    schema: Mapping[str, str] = TIGHT,
    command: Sequence[str] | None = None,
) -> Iterator[Sidecar]:
    """Run the sidecar. At the end, the folder holds all that it has written and answered."""
    with running(folder, prepared(folder, environ, schema=schema), command=command) as sidecar:
        yield sidecar
        code, _ = sidecar.stop()
    (folder / "seen" / "log").write_text("\n".join(sidecar.log))
    assert code == 0


def prepared(
    folder: Path, environ: Mapping[str, str] | None = None, *, schema: Mapping[str, str] = TIGHT
) -> dict[str, str]:
    """Create what the sidecar needs in a folder, and return its environment. In the schema, each
    key of ``schema`` is replaced by its value."""
    text = _SCHEMA
    for name, value in schema.items():
        text = text.replace(name, value)
    for name in ("seen", "tmp", "home", "work"):
        (folder / name).mkdir()
    (folder / "swept.yaml").write_text(text)
    return {
        "COLLECTOR__SCHEMA": str(folder / "swept.yaml"),
        "COLLECTOR__DATA": str(folder / "data"),
        "COLLECTOR__SINKS__NDJSON__PATH": str(folder / "records" / "records.ndjson"),
        "COLLECTOR__LOG__LEVEL": "debug",
        "COLLECTOR__HTTP__TRUSTED_HOPS": "1",
        "COLLECTOR__LIMITS__BODY_TIME": "60s",
        "SWEPT_KEY": "a secret that is long enough",
        "TMPDIR": str(folder / "tmp"),
        "HOME": str(folder / "home"),
        **(environ or {}),
    }


@contextmanager
def running(
    folder: Path, environ: Mapping[str, str], *, command: Sequence[str] | None = None
) -> Iterator[Sidecar]:
    """Run the sidecar in a prepared folder."""
    with (
        (folder / "seen" / "stdout").open("ab") as stdout,
        started(folder / "work", environ=environ, command=command, stdout=stdout) as sidecar,
    ):
        yield sidecar


def kept_records(folder: Path) -> dict[str, int]:
    """Return how many events the records of each sink stand for."""
    (rows,) = query(folder / "data" / "store.db", "SELECT coalesce(sum(count), 0) FROM swept")[0]
    files = [path for path in (folder / "records").iterdir() if path.suffix != ".state"]
    lines = [line for path in files for line in path.read_bytes().splitlines()]
    return {"store": rows, "file": sum(json.loads(line).get("count", 1) for line in lines)}


def events(marks: Marks) -> Iterator[Body]:
    """Yield an event with a canary in each slot in turn: in lines, in a list, and alone."""
    names = [name for names in policy.CONTENT.values() for name in names]
    made = list(variants(members(_EVENT), marks, "event"))
    made += list(variants(members({"participants": [{"ip": "203.0.113.9"}, 1]}), marks, "list"))
    made += [
        members(_EVENT | {name: one})
        for name in names
        for one in variants(members({"from": "x", "text": ["x"]}), marks, name)
    ]
    texts = [written(one).encode() for one in made]
    for at in range(0, len(texts), _LINES):
        part = texts[at : at + _LINES]
        yield Body("/v1/events", "application/x-ndjson", b"\n".join(part))
        yield Body("/v1/events", "application/json", b"[%s]" % b",".join(part))
    yield from (Body("/v1/events", "application/json", text) for text in texts[::7])


def records(marks: Marks) -> Iterator[Body]:
    """Yield a record, as an SDK sends it, with a canary in each slot in turn: in lines, and alone
    if it names another schema."""
    received = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:00Z")
    record = members({"schema": "swept/1.0.0", **_RECORD, "count": 2, "received": received})
    texts: list[bytes] = []
    foreign: list[bytes] = []
    for one in variants(record, marks, "record"):
        named = dict(one).get("schema") if isinstance(one, Members) else None
        is_foreign = isinstance(named, str) and named != "swept/1.0.0"
        (foreign if is_foreign else texts).append(written(one).encode())
    for at in range(0, len(texts), _LINES):
        yield Body(_RECORDS, "application/x-ndjson", b"\n".join(texts[at : at + _LINES]))
    yield from (Body(_RECORDS, "application/x-ndjson", text) for text in (*foreign, *texts[::7]))


class Exports(NamedTuple):
    """OTLP requests as protobuf and as JSON, one for each slot with a canary. ``odd`` are JSON
    documents with a canary in each slot that only JSON has."""

    protobuf: list[tuple[Signal, bytes]]
    json: list[Body]
    odd: list[Body]

    def bodies(self) -> list[Body]:
        """The protobuf requests, for HTTP."""
        kind = "application/x-protobuf"
        return [Body(f"/v1/{signal}", kind, content) for signal, content in self.protobuf]

    def joined(self) -> list[Body]:
        """All requests of a signal in one: concatenated requests are a request."""
        whole = dict.fromkeys(REQUESTS, b"")
        for signal, content in self.protobuf:
            whole[signal] += content
        kind = "application/x-protobuf"
        return [Body(f"/v1/{signal}", kind, content) for signal, content in whole.items()]

    def calls(self) -> list[tuple[str, bytes]]:
        """Some of the requests for gRPC; the decoder does not know how a request came."""
        return [(METHODS[signal], content) for signal, content in self.protobuf[::5]]


def exports(marks: Marks) -> Exports:
    """Each signal with a canary in each slot in turn."""
    made, keys, kind = Exports([], [], []), cycle(_KEYS), "application/json"
    for signal, request in REQUESTS.items():
        path, known = f"/v1/{signal}", list(slots(request.DESCRIPTOR))
        for slot in known:
            content = planted(request, slot, marks, next(keys)).SerializeToString()
            made.protobuf.append((signal, content))
            document = members(as_json(planted(request, slot, marks, next(keys))))
            made.json.append(Body(path, kind, written(document).encode()))
        slot = next(slot for slot in known if str(slot).endswith(_WITH_ATTRIBUTES))
        document = members(as_json(planted(request, slot, marks, "chat")))
        odd = variants(document, marks, signal)
        made.odd.extend(Body(path, kind, written(each).encode()) for each in odd)
    return made


class Sent(NamedTuple):
    """The number of sent requests that must be taken; ``foreign`` has all well-formed ones that
    must be refused."""

    events: int
    records: int
    foreign: int
    exports: int
    calls: int


def send(
    sidecar: Sidecar, marks: Marks, folder: Path, headers: Mapping[str, str] | None = None
) -> Sent:
    """Send everything in every way, good and bad; the answers are saved in the folder."""

    def keep(name: str, heard: bytes) -> None:
        assert heard
        (folder / name).write_bytes(heard)

    bodies, otlp, more = list(events(marks)), exports(marks), dict(headers or {})
    keep("events", posted(sidecar, bodies, more))
    stored = list(records(marks))
    keep("records", posted(sidecar, stored, more))
    keep("otlp", posted(sidecar, otlp.bodies(), more))
    keep("otlp-json", posted(sidecar, otlp.json, more))
    keep("otlp-odd", posted(sidecar, otlp.odd, more))
    whole = otlp.joined()
    keep("whole", posted(sidecar, whole, more))
    some = (*bodies[:2], bodies[-1], stored[0], *whole)
    keep("bad", posted(sidecar, [each for body in some for each in spoilt(body, marks)], more))
    keep("heads", shouted(sidecar.ports["http"], list(heads(marks))))
    metadata: list[tuple[str, str | bytes]] = [
        (marks.text("metadata name"), marks.text("metadata value")),
        ("x-bin", marks.data("metadata bytes")),
        *((name.lower(), value) for name, value in more.items()),
    ]
    keep("grpc", called(sidecar, otlp.calls(), metadata))
    named = ("collector-schema", marks.text("metadata schema"))
    keep("grpc-schema", called(sidecar, otlp.calls()[:3], [named]))
    cut = [(method, content[:-3]) for method, content in otlp.calls()[::2]]
    cut += [(f"/{marks.text('method')}/Export", marks.data("grpc body"))]
    keep("bad-grpc", called(sidecar, cut, metadata) + odd_calls(sidecar, marks))
    foreign = sum(b"swept/1.0.0" not in body.content for body in stored)
    calls = len(otlp.calls())
    return Sent(len(bodies), len(stored) - foreign, foreign, len(otlp.protobuf), calls)
