"""``collector config check|show`` in a real process: what ``serve`` reads, every fault at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collector.config.model import settings
from tests.cli.process import run

_SECRET = "hunter2secret"
_HASH = "cd" * 32


def test_nothing_to_complain_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults are fine, and so is a file; nothing is made."""
    monkeypatch.chdir(tmp_path)
    done = run("config", "check")
    assert (done.code, done.out, done.err) == (0, b"no faults\n", b"")
    (tmp_path / "c.yaml").write_text("log: {level: debug}\n")
    done = run("config", "check", "c.yaml", "--json")
    assert (done.code, json.loads(done.out)) == (0, {"ok": True, "faults": []})
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


def test_every_fault_of_settings(tmp_path: Path) -> None:
    """One line each, exit 78, and no value in any."""
    path = tmp_path / "c.yaml"
    path.write_text(f"http:\n  address: {_SECRET}\nauth:\n  tokens: [{_SECRET}]\nfoo: 1\n")
    done = run("config", "check", path, env={"COLLECTOR__LOG__LEVEL": _SECRET})
    assert done.code == 78
    lines = done.err.decode().splitlines()
    assert [line.partition(" ")[0] for line in lines] == [
        f"{path}:2:3:",
        f"{path}:4:3:",
        f"{path}:5:1:",
        "environment:",
    ]
    assert _SECRET.encode() not in done.err + done.out
    done = run("config", "check", path, "--json", env={"COLLECTOR__LOG__LEVEL": _SECRET})
    found = json.loads(done.out)
    assert (done.code, found["ok"], len(found["faults"])) == (78, False, 4)
    assert _SECRET.encode() not in done.err + done.out


def test_every_fault_of_what_settings_name(tmp_path: Path) -> None:
    """The schema, certificates, directories and addresses, as ``serve`` would find them."""
    (tmp_path / "file").write_text("")
    (tmp_path / "s.yaml").write_text("name: x\n")
    path = tmp_path / "c.yaml"
    path.write_text(
        f"data: {tmp_path}/file/below\nschema: {tmp_path}/s.yaml\n"
        f"tls: {{certificate: {tmp_path}/none.pem, key: {tmp_path}/none.pem}}\n"
        f"http: {{unix: {tmp_path}/none/in.sock}}\n"
        "admin: {address: '192.0.2.1:1'}\n"
        f"auth: {{tokens: [{_HASH}]}}\n"
        f"sinks:\n  ndjson: {{path: {tmp_path}/file/out.ndjson}}\n"
    )
    done = run("config", "check", path)
    assert done.code == 78
    said = done.err.decode()
    for setting in ("tls.certificate", "data", "http.unix", "sinks.ndjson.path", "admin.address"):
        assert f": {setting}: " in said, said
    assert f"{tmp_path}/s.yaml:" in said
    assert f"{path}:4:1: http.unix" in said or f"{path}:4:" in said
    assert _HASH not in said


def test_faults_of_both_at_once(tmp_path: Path) -> None:
    """What settings name is tried although others are faulty; a schema that is not there is a fault
    of the line that names it."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "c.yaml"
    path.write_text(
        f"schema: {_SECRET}\nspool: {{limit: lots}}\ndata: {tmp_path}/file/below\n"
        "http: {address: everywhere}\n"
    )
    done = run("config", "check", path)
    assert done.code == 78
    said = sorted(line.split(" ")[:2] for line in done.err.decode().splitlines())
    assert said == [
        [f"{path}:1:1:", "schema:"],
        [f"{path}:2:9:", "spool.limit:"],
        [f"{path}:3:1:", "data:"],
        [f"{path}:4:8:", "http.address:"],
    ]
    assert _SECRET.encode() not in done.err
    path.write_text(f"schema: {tmp_path}/none.yaml\n")
    assert f"{path}:1:1: schema: ".encode() in run("config", "check", path).err


def test_show(tmp_path: Path) -> None:
    """Every setting with its value and origin; of tokens only the number."""
    path = tmp_path / "c.yaml"
    path.write_text(
        f"auth:\n  tokens: [{_HASH}, {_HASH}]\nlimits: {{body: 32MiB, header_time: 1500ms}}\n"
        "http: {origins: [https://a.example]}\n"
    )
    done = run("config", "show", path, "--json", env={"COLLECTOR__GRPC__ADDRESS": "off"})
    assert done.code == 0
    found = json.loads(done.out)
    assert list(found) == [one.name for one in settings()]
    assert found["auth.tokens"] == {"value": 2, "origin": f"{path}:2"}
    assert found["limits.body"] == {"value": "32MiB", "origin": f"{path}:3"}
    assert found["limits.header_time"]["value"] == "1.5s"
    assert found["grpc.address"] == {"value": "off", "origin": "environment"}
    assert found["http.address"] == {"value": "127.0.0.1:4318", "origin": "default"}
    assert found["http.origins"]["value"] == ["https://a.example"]
    done = run("config", "show", path)
    assert _HASH.encode() not in done.out
    assert b"limits.body" in done.out


def test_show_of_a_faulty_file(tmp_path: Path) -> None:
    """The same faults, exit 78."""
    (tmp_path / "c.yaml").write_text(f"log: {{level: {_SECRET}}}\n")
    done = run("config", "show", tmp_path / "c.yaml")
    assert (done.code, done.out) == (78, b"")
    assert b"[E209]" in done.err
    assert _SECRET.encode() not in done.err
