"""Hints at inputs of which nothing is admitted: they name the file, never anything in it."""

from __future__ import annotations

import gzip
from pathlib import Path

import orjson

from tests.support.command import run
from tests.support.rows import for_each

_CSV = b"ip_address,canary-key\n203.0.113.7,canary-value\n"
_LINE = b'{"ip_address": "203.0.113.7", "canary-key": "canary-value"}'
_OTHER = b'{"canary-key": "canary-value"}\n'
_BARE = (
    b'{"canary-key": {"type": "inbound-rtp", "kind": "audio", "jitter": 0.01, "packetsLost": 2},'
    b' "C1": {"type": "local-candidate", "address": "203.0.113.7"}}\n'
)
_STATS = b'["getstats","PC_0",{"id":"C1","type":"local-candidate","address":"203.0.113.7"},1]\n'


@for_each(
    ("name", "data", "says"),
    [
        ("a.csv", _CSV, "a.csv looks like CSV"),
        ("a.ndjson", _CSV.replace(b",", b";"), "a.ndjson looks like CSV"),
        ("a.tsv", _CSV.replace(b",", b"\t"), "a.tsv looks like CSV"),
        ("a.ndjson", b"", "a.ndjson is empty"),
        ("a.json", b'{"resourceSpans": []}', "curl localhost:4318/v1/traces --json @a.json"),
        ("a.json", b"", "a.json is empty"),
        ("a.ndjson", b" \n\n", "a.ndjson holds no event"),
        ("a.ndjson", b"[\n" + _LINE + b",\n" + _LINE + b"\n]", "`--input json`"),
        ("a.ndjson", b"[" + _LINE + b"]", "`--input json`"),
        ("a.ndjson", _LINE.replace(b",", b",\n"), "`--input json`"),
        ("a.json", _LINE + b"\n" + _LINE + b"\n", "`--input ndjson`"),
        ("a.xml", b"<canary-key/>", "looks like XML or HTML"),
        ("a.ndjson", gzip.compress(_LINE), "gzip"),
        ("a.parquet", b"PAR1\0canary-key", "is a Parquet file"),
        ("a.yaml", b"schema: canary-key\n", "`--schema`"),
        ("a.ndjson", b"canary-key\0,\n", "a.ndjson: "),
        ("a.ndjson", _OTHER, "`collector explain`"),
        ("a.ndjson.gz", gzip.compress(_STATS * 2), "`--schema webrtc`"),
        ("a.ndjson", _BARE * 2, "`collector schema new NAME --from a.ndjson`"),
        ("a.json", _BARE, "`collector schema new NAME --from a.json`"),
        ("a.ndjson", b"{'canary': 1}\n", "single quotes"),
        ("a.ndjson", _LINE[:-1] + b",}\n", "a.ndjson: "),
        ("a.json", b"[[3]]", "no JSON object"),
    ],
)
def test_what_an_input_is(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    """``filter`` adds one hint to the counts, which stay one JSON document, and ``explain`` prints
    it; the exit code is that of any input."""
    (tmp_path / name).write_bytes(data)
    filtered = run("filter", name, directory=tmp_path)
    assert filtered.code == 0
    (hint,) = orjson.loads(filtered.err)["hints"]
    assert says in hint
    explained = run("explain", name, directory=tmp_path)
    assert explained.code == 0
    if explained.err:
        assert explained.err.decode() == f"hint: {hint}\n"
    assert b"canary" not in filtered.out + filtered.err + explained.out + explained.err


def test_a_wrong_schema(tmp_path: Path) -> None:
    """A shipped schema that admits some of the events is named."""
    (tmp_path / "a.ndjson").write_bytes(_LINE)
    ended = run("filter", "a.ndjson", "-s", "participants-qos", directory=tmp_path)
    assert "try `--schema conferencing` or" in ended.tally["hints"][0]


def test_of_stdin_the_counts_alone_speak() -> None:
    """It cannot be read again."""
    assert run("filter", stdin=_CSV).tally["hints"][0].startswith("stdin")
    assert run("filter").tally["hints"] == ["stdin is empty"]


def test_what_is_fine_gets_no_hint(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(_LINE + b"\n" + _LINE + b"\n{\n")
    ended = run("filter", "a.ndjson", directory=tmp_path)
    assert "hints" not in ended.tally
    assert run("explain", "a.ndjson", directory=tmp_path).err == b""


def test_many_files_get_few_hints(tmp_path: Path) -> None:
    """Three are enough to see it; the file of counts has none."""
    names = [f"{number}.ndjson" for number in range(5)]
    for name in names:
        (tmp_path / name).write_bytes(_OTHER)
    ended = run("filter", *names, "--tally", "counts.json", directory=tmp_path)
    assert len(ended.tally["hints"]) == 3
    counts = orjson.loads((tmp_path / "counts.json").read_bytes())
    assert counts == {key: value for key, value in ended.tally.items() if key != "hints"}


def test_events_in_the_place_of_a_schema(tmp_path: Path) -> None:
    """The message says what a schema file is, and names no key of the event."""
    (tmp_path / "a.ndjson").write_bytes(_OTHER)
    for reference, says in (("a.ndjson", "`.yaml`"), ("./a.ndjson", "E106")):
        ended = run("filter", "-s", reference, "a.ndjson", directory=tmp_path)
        assert (ended.code, ended.err.count(b"\n")) == (78, 1)
        assert says in ended.err.decode()
        assert b"canary" not in ended.err
