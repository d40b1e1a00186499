"""``collector schema new``: a schema to start from, in the current directory."""

from __future__ import annotations

import gzip
from contextlib import chdir
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from collector.cli.app import command
from collector.documents import read
from collector.errors import ConfigError
from collector.filter.schema_test import run_samples, run_tests
from collector.schema import load_schema, resources
from collector.schema.jsonschema import document_schema
from collector.schema.kinds import KINDS
from collector.schema.lints import lint
from collector.schema.model import DocumentHead, Purpose, Trial
from tests.support.command import run
from tests.support.raising import raises

_MODELINE = "# yaml-language-server: $schema=./collector-schema.json"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _new(*arguments: str) -> int:
    """Its exit code, in this process; ``ConfigError`` is raised."""
    with pytest.raises(SystemExit) as ended:
        command("schema")(["schema", "new", *arguments], prog_name="collector")
    assert isinstance(ended.value.code, int)
    return ended.value.code


def _files() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def test_it_passes_everything_as_written() -> None:
    ended = run("schema", "new", "my-calls")
    assert (ended.code, ended.out) == (0, b"")
    assert len(_files()) == 4
    sorts = sorted(path.suffixes[0] for path in Path("my-calls.samples").iterdir())
    assert sorts == [".fail", ".pass"]
    checked = run("schema", "check", "--strict", "my-calls.yaml")
    assert (checked.code, checked.err) == (0, b"")
    tested = run("schema", "test", "my-calls.yaml")
    assert (tested.code, tested.out) == (0, b"4 passed, 0 failed\n")
    commands = [line.split(" #")[0].split() for line in ended.err.decode().splitlines()[1:]]
    assert len(commands) == 3
    for words in commands:
        assert words[0] == "collector"
        assert run(*words[1:]).code == 0
    assert Path("collector-schema.json").is_file()


def test_it_explains_every_key() -> None:
    """A comment is enough; the first line is for editors."""
    assert _new("a") == 0
    text = Path("a.yaml").read_text("utf-8")
    assert text.splitlines()[0] == _MODELINE
    assert max(map(len, text.splitlines())) <= 100
    models: tuple[Any, ...] = (DocumentHead, Purpose, Trial, *KINDS.values())
    for model in models:
        for name, info in model.model_fields.items():
            assert f"{info.alias or name}:" in text, name
    assert all(f"kind: {kind}" in text for kind in KINDS)
    value = read(Path("a.yaml"), "a.yaml").value
    assert Draft202012Validator(document_schema()).is_valid(value)


@pytest.mark.parametrize("name", ["a", "a-b_c", "x" * 64, "conferencing", "name", "a1"])
def test_good_names(name: str) -> None:
    assert _new(name) == 0
    assert load_schema(Path(f"{name}.yaml")).name == name


@pytest.mark.parametrize(
    "name", ["", "A", "a b", "a.yaml", "../a", "a/b", "-a", "a-", "é", "x" * 65, "1a", "a\n", "."]
)
def test_bad_names(name: str) -> None:
    assert _new("--", name) == 2
    assert _files() == set()


@pytest.mark.parametrize("taken", ["a.yaml", "a.samples", "link"])
def test_nothing_is_overwritten(taken: str) -> None:
    if taken == "link":
        Path("a.yaml").symlink_to("nowhere")
    else:
        Path(taken).write_text("mine")
    with raises("E203", ConfigError, match="a"):
        _new("a")
    assert len(_files()) == 1
    assert taken == "link" or Path(taken).read_text() == "mine"


def test_a_directory_that_cannot_be_written_to() -> None:
    Path("gone").mkdir()
    with chdir("gone"):
        Path.cwd().rmdir()
        with raises("E203", ConfigError):
            _new("a")


@pytest.mark.parametrize("name", resources.templates())
def test_copies_of_templates(name: str) -> None:
    assert _new("mine", "--from", name) == 0
    copied = load_schema(Path("mine.yaml"))
    assert copied.id == "mine/1.0.0"
    assert all(outcome.passed for outcome in run_tests(copied))
    assert _files() == {"mine.yaml"}
    ended = run("schema", "show", name)
    assert (ended.code, f"schema new NAME --from {name}" in ended.err.decode()) == (78, True)


@pytest.mark.parametrize("name", resources.names())
def test_copies_of_shipped_schemas(name: str) -> None:
    assert _new("mine", "--from", name) == 0
    path, original = Path("mine.yaml"), resources.shipped() / f"{name}.yaml"
    copied, shipped = load_schema(path), load_schema(name)
    assert (copied.id, list(copied.fields)) == ("mine/1.0.0", list(shipped.fields))
    own = {"name", "version"}
    assert copied.model_dump(exclude=own) == shipped.model_dump(exclude=own)
    outcomes = [*run_tests(copied), *run_samples(copied, resources.samples(path))]
    assert len(outcomes) >= 3
    assert all(outcome.passed for outcome in outcomes)
    assert path.read_text("utf-8").startswith(_MODELINE)
    found, known = lint(copied, path), lint(shipped, original)
    assert [f.fault.code for f in found] == [f.fault.code for f in known]


@pytest.mark.parametrize("reference", ["none", "a.yaml", "./conferencing.yaml", ""])
def test_only_shipped_schemas_are_copied(reference: str) -> None:
    assert _new("mine", "--from", reference) == 2
    assert _files() == set()


def test_a_proposal_names_no_sentence_of_a_shipped_schema() -> None:
    for event, asked in (
        ({"ip_address": "203.0.113.7"}, False),
        ({"participants": 12, "conferences": 3}, True),
    ):
        Path("events.ndjson").write_bytes(orjson.dumps(event))
        assert _new("calls", "--from", "events.ndjson") == 0
        found = read(Path("calls.yaml")).value.get("also_collected")
        assert (found is not None) == asked
        Path("calls.yaml").unlink()


def test_a_proposal_finds_what_a_webhook_wraps() -> None:
    member = {"user_name": "canary", "ip_address": "203.0.113.7", "device": "Mac"}
    event = {"event": "joined", "payload": {"object": {"id": "1", "participant": member}}}
    Path("hook.ndjson").write_bytes(orjson.dumps(event) + b'\n{"event": "canary')
    assert _new("hook", "--from", "hook.ndjson") == 0
    fields = read(Path("hook.yaml")).value["fields"]
    assert {name: each["from"] for name, each in fields.items()} == {
        "client.address": ["payload.object.participant.ip_address"],
        "device.type": ["payload.object.participant.device"],
    }


_REPORT = {"type": "inbound-rtp", "kind": "audio", "jitter": 0.013, "canary": "canary"}
_LINES = b"\n".join(
    [
        orjson.dumps(["create", "PC_0", {"canary": 1}, 1697705954000]),
        b'["getstats", "PC_0", {"canary',
        orjson.dumps(["getstats", "PC_0", {"IT": _REPORT}, 1697705990000]),
    ]
)
_DOCUMENT = orjson.dumps({"stats": {"IT": _REPORT}}, option=orjson.OPT_INDENT_2)


@pytest.mark.parametrize(
    ("name", "data", "template", "fields"),
    [
        ("rtcstats.dump", _LINES, "rtcstats", {"trace.type", "report.type", "rtp.jitter"}),
        ("stats.dump.gz", gzip.compress(_LINES), "rtcstats", {"trace.type", "rtp.jitter"}),
        ("stats.json", _DOCUMENT, "getstats", {"report.type", "media.type", "rtp.jitter"}),
        ("stats.txt", _DOCUMENT, "getstats", {"report.type", "media.type", "rtp.jitter"}),
        ("colibri.json", b'{"participants": 12, "conferences": 3}', "jitsi", set()),
    ],
)
def test_dumps_of_other_products(name: str, data: bytes, template: str, fields: set[str]) -> None:
    """It reads whatever ``filter`` reads, and names no unknown member of the events."""
    Path(name).write_bytes(data)
    for words, stdin in ((("mine", "--from", name), b""), (("other", "--from", "-"), data)):
        if stdin[:2] == b"\x1f\x8b":
            continue
        ended = run("schema", "new", *words, stdin=stdin)
        assert ended.code == 0, ended.err
        assert f"schema new OTHER --from {template}\n" in ended.err.decode()
        text = Path(f"{words[0]}.yaml").read_text()
        assert fields <= read(Path(f"{words[0]}.yaml")).value["fields"].keys()
        assert "canary" not in text + ended.err.decode()
