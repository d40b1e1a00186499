"""``collector explain``: everything about the schema's fields, nothing about anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from tests.support.command import run

_EVENT = {
    "ip": "203.0.113.7",
    "canary-key": {"a": 1},
    "device": {"type": "canary-type", "canary-inner": 1, "model": {"name": "Pixel 8"}},
    "os": {"type": 5, "version": None},
    "chat": ["canary-chat"],
    "recording": None,
}


def _explained(*arguments: Any, stdin: bytes) -> list[dict[str, Any]]:
    ended = run("explain", "--json", *arguments, stdin=stdin)
    assert ended.code == 0, ended.err
    return ended.lines


def test_each_field_has_an_outcome_and_its_source() -> None:
    """Kept, absent, or dropped for a reason; null is absence; the deciding path is named."""
    (explained,) = _explained(stdin=orjson.dumps(_EVENT))
    fields = explained["fields"]
    assert explained["verdict"] == "admitted"
    assert fields["client.address"] == {"outcome": "kept", "from": "ip", "value": "203.0.113.7"}
    assert fields["device.type"] == {"outcome": "invalid_value", "from": "device.type"}
    assert fields["os.type"] == {"outcome": "wrong_type", "from": "os.type"}
    assert fields["os.version"] == {"outcome": "absent"}
    assert fields["device.model.name"]["value"] == "Pixel 8"
    assert explained["content"] == ["chat"]
    assert explained["unlisted"] == 2


def test_what_was_not_looked_at_is_not_said_to_be_absent(tmp_path: Path) -> None:
    """Nothing of a record that is not selected, or of an unreadable one, is counted as none."""
    schema = tmp_path / "selective.yaml"
    schema.write_text(
        "schema: selective\nversion: 1.0.0\ntitle: Selected\nowner: a\n"
        "records: [{path: ., when: {type: stats}}]\npurposes:\n"
        "  ops: {use: essential.service.operations, basis: contract, reason: It has to be}\n"
        "fields:\n  os.type: {kind: enum, values: [linux], category: system, purposes: [ops],"
        " retention: 1d, reason: It has to be}\n"
    )
    lines = (
        b'{"type": "x", "chat": ["canary"], "b": 1}\nnope\n{"type": "stats", "chat": ["canary"]}\n'
    )
    found = {each["verdict"]: each for each in _explained("-s", schema, stdin=lines)}
    assert {name: (each["content"], each["unlisted"]) for name, each in found.items()} == {
        "not_selected": (None, None),
        "malformed": (None, None),
        "nothing_admitted": (["chat"], 0),
    }
    told = run("explain", "-s", schema, stdin=lines).out.decode()
    assert told.count("not looked at") == 2
    assert told.count("content (counted, never decoded)") == 1


def test_nothing_unlisted_and_nothing_refused_is_shown() -> None:
    data = orjson.dumps(_EVENT)
    for arguments in (["explain"], ["explain", "--json"]):
        ended = run(*arguments, stdin=data)
        assert b"canary" not in ended.out + ended.err


def test_rejected_events_are_explained_too(tmp_path: Path) -> None:
    """The reason stands where the verdict stands; ``--limit`` bounds the output."""
    lines = b'{}\nnope canary\n[1]\n\n{"chat":[]}\n'
    verdicts = sorted(one["verdict"] for one in _explained(stdin=lines))
    assert verdicts == ["malformed", "not_an_object", "nothing_admitted", "nothing_admitted"]
    assert len(_explained("--limit", 2, stdin=lines)) == 2
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"ip": "203.0.113.7"}, 3, {"ip": "not one"}]')
    verdicts = [one["verdict"] for one in _explained(path, stdin=b"")]
    assert verdicts == ["admitted", "not_an_object", "nothing_admitted"]
    assert b"admits none" not in run("explain", path).err


def test_records_are_explained_with_what_lies_around_them() -> None:
    """A value of the outer document says so."""
    document = {
        "ip_address": "203.0.113.1",
        "recording": True,
        "participants": [{"device": "Mac"}, {"ip_address": "198.51.100.1", "user": "canary"}],
    }
    one, two = _explained("-s", "participants-qos", stdin=orjson.dumps(document))
    assert one["fields"]["client.address"]["value"] == "203.0.113.1"
    assert "outside" in one["fields"]["client.address"]["from"]
    assert two["fields"]["client.address"]["value"] == "198.51.100.1"
    assert one["content"] == two["content"] == ["file"]
    assert (one["unlisted"], two["unlisted"]) == (0, 1)
