"""Requests that differ only in their chat leave the same traces: receipts, rows, lines, answers.

The number and length of a person's messages are content too.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format  # type: ignore[import-untyped]
from google.protobuf.message import Message  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.ledger import opened
from collector.spool.idempotency import request_key
from tests.sidecar.senders import METHODS, Body, called, posted
from tests.support.command import run_process
from tests.support.database import query
from tests.support.deadline import wait_until
from tests.support.delivery import delivered, held
from tests.support.sidecar import Sidecar, started

_CHATS: tuple[list[str], ...] = ([], ["hi"] * 700, ["x" * 300_000])
"""From nothing to 600 KB: above and below the size at which a body is filtered in parts."""
_RECORDS = 3
"""The index of the request that has records."""
_OWN = ("commitment", "previous", "hash")
"""The members of a receipt that are random, or depend on random ones."""
_MINUTE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:00Z")
"""These minutes may differ because the clock goes on."""
_HOUR = re.compile(rb"\d{4}-\d\d-\d\dT?[0-9:+Z]*|\d\d:\d\d")
"""In pages, these hours may differ because the clock goes on."""
_PATHS = ("/", "/?lang=id", "/page.json")
_DATE = re.compile(rb"(?m)^date: .*\n")


def _events(chat: Sequence[str]) -> Iterator[Body]:
    """An event, a list of events, lines with some bad ones, and a record, all with the chat."""
    event = {"ip": "203.0.113.7", "device": {"type": "phone"}, "os": {"type": "ios"}}
    messages = [{"from": "x", "text": text} for text in chat]
    events = [json.dumps(one | {"chat": messages, "captions": chat}) for one in (event, {}, event)]
    yield Body("/v1/events", "application/json", events[0].encode())
    yield Body("/v1/events", "application/json", f"[{','.join(events)}]".encode())
    lines = [*events, "no JSON", "[]", events[0]]
    yield Body("/v1/events", "application/x-ndjson", "\n".join(lines).encode())
    record = {"schema": "conferencing/1.0.0", "os.type": "ios", "chat": messages, "captions": chat}
    yield Body("/v1/records", "application/x-ndjson", json.dumps(record | {"count": 2}).encode())


def _logs(chat: Sequence[str]) -> Message:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for system in ("linux", "linux", "ios", ""):
        record = scope.log_records.add()
        record.attributes.add(key="os.type").value.string_value = system
        record.body.string_value = "".join(chat)
        messages = record.attributes.add(key="chat").value.array_value
        for text in chat:
            messages.values.add().string_value = text
    return request


def _spans(chat: Sequence[str]) -> Message:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="".join(chat))
    span.attributes.add(key="client.address").value.string_value = "203.0.113.9"
    for text in chat:
        span.events.add(name=text).attributes.add(key="message").value.string_value = text
    return request


def _send(sidecar: Sidecar, data: Path, chat: Sequence[str]) -> tuple[list[bytes], list[bytes]]:
    """Send them one after another. Return the answers, and the payloads that waited."""
    kind, proto = "application/json", "application/x-protobuf"
    with held(data / "store.db"):
        answers = [
            posted(sidecar, [body], _key(number)) for number, body in enumerate(_events(chat))
        ]
        for path, request in (("/v1/logs", _logs(chat)), ("/v1/traces", _spans(chat))):
            text = json_format.MessageToJson(request).encode()
            answers.append(posted(sidecar, [Body(path, kind, text)], _key(len(answers))))
            body = Body(path, proto, request.SerializeToString())
            answers.append(posted(sidecar, [body], _key(len(answers))))
        call = (METHODS["logs"], _logs(chat).SerializeToString())
        answers.append(called(sidecar, [call], [("idempotency-key", f"{len(answers):032x}")]))
        payloads = [row[0] for row in query(data / "spool.db", "SELECT payload FROM batches")]
    delivered(sidecar)
    return answers, payloads


def _key(number: int) -> dict[str, str]:
    """The header of a retry key. Records are sent without one, because a hash of them is stored."""
    return {} if number == _RECORDS else {"Idempotency-Key": f"{number:032x}"}


def _keys(data: Path) -> list[tuple[int, object, bytes]]:
    """What is stored of retry keys, without what the day's secret randomises: the key's number, the
    body, and the counts."""
    secrets = [secret for (secret,) in query(data / "spool.db", "SELECT secret FROM key_days")]
    hashes = {
        request_key(number.to_bytes(16), path, "conferencing", None).key: number
        for number in range(9)
        for path in ("events", "logs", "traces")
    }
    known = {
        hmac.digest(secret, key, "sha256")[:16]: (number, secret, key)
        for secret in secrets
        for key, number in hashes.items()
    }
    found = []
    rows = "SELECT hash, body, counts FROM request_keys"
    for hash_, body, counts in query(data / "spool.db", rows):
        number, secret, key = known[hash_]
        stream = hmac.digest(secret, b"counts" + key, "sha512")
        found.append((number, body, bytes(a ^ b for a, b in zip(counts, stream, strict=False))))
    return sorted(found)


def _left(data: Path) -> dict[str, Any]:
    """Receipts without their random members, rows without their places, lines and retry keys."""
    with opened(data / "spool.db") as ledger:
        receipts = [receipt.as_dict() | {"minute": ""} for receipt in ledger.receipts()]
    rows = [repr(row) for row in query(data / "store.db", "SELECT * FROM conferencing")]
    return {
        "receipts": [{k: v for k, v in one.items() if k not in _OWN} for one in receipts],
        "rows": sorted(_MINUTE.sub("", row) for row in rows),
        "keys": _keys(data),
        "lines": sorted(_MINUTE.sub("", (data / "records").read_text()).splitlines()),
    }


def _life(folder: Path, chat: Sequence[str]) -> tuple[list[bytes], list[bytes], dict[str, Any]]:
    """The life of a sidecar that gets everything: answers, what waited, and what is left."""
    folder.mkdir()
    environ = {
        "COLLECTOR__DATA": str(folder),
        "COLLECTOR__SINKS__NDJSON__PATH": str(folder / "records"),
    }
    with started(folder, environ=environ) as sidecar:
        answers, payloads = _send(sidecar, folder, chat)
        sidecar.stop()
    return [_DATE.sub(b"", answer) for answer in answers], payloads, _left(folder)


def _pages(folder: Path, chat: Sequence[str]) -> tuple[list[bytes], bytes, bytes]:
    """The pages of a sidecar that got everything and was verified meanwhile, the text of its
    status, and its verdicts."""
    folder.mkdir()
    with started(folder, environ={"COLLECTOR__DATA": str(folder)}) as sidecar:
        for body in _events(chat):
            posted(sidecar, [body])
        delivered(sidecar)
        run_process("claims", "--data", folder)
        wait_until(lambda: b"unproven" not in sidecar.admin("/page.json").body)
        pages = [_HOUR.sub(b"", sidecar.admin(path).body) for path in _PATHS]
        status = re.sub(rb"[0-9a-f]{64}|[0-9]+", b"", sidecar.admin("/status").body)
        sidecar.stop()
    verdicts = (folder / "verdicts.json").read_bytes()
    verdicts = re.sub(rb'"(at|configuration)": "[^"]*"', b"", verdicts)
    return pages, status.replace(str(folder).encode(), b""), verdicts


@pytest.mark.long
def test_pages_of_twins(tmp_path: Path) -> None:
    """The pages are identical byte for byte, whatever content and unlisted members say."""
    with ThreadPoolExecutor(2) as pool:
        folders = [tmp_path / name for name in ("a", "b")]
        first, other = pool.map(_pages, folders, (["tulip"] * 3, ["lilac"] * 3))
    assert first[0] == other[0]
    assert re.sub(rb"--data [^<]*", b"", first[1]) == re.sub(rb"--data [^<]*", b"", other[1])
    assert first[2] == other[2]
    assert b"tulip" not in b"".join(first[0]) + first[1] + first[2]


def test_only_chat_differs_and_nothing_of_what_is_left(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number, _ in enumerate(_CHATS)]
    with ThreadPoolExecutor(len(_CHATS)) as pool:
        first, *others = pool.map(_life, folders, _CHATS)
    answers, payloads, left = first
    assert len(answers) == len(payloads) == len(left["receipts"]) == 9
    rejected = {"malformed": 1, "not_an_object": 1, "nothing_admitted": 1}
    assert left["receipts"][2]["rejected"] == rejected
    assert len(left["rows"]) == len(left["lines"]) > 8
    assert [body for _, body, _ in left["keys"]] == [None] * 8
    for other in others:
        assert other == first
