"""Commands where the configuration has several schemas."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.schema import load_schema
from tests.support.command import run

_SINKS = "sinks: {ndjson: {path: out.ndjson, purposes: [capacity_planning]}}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two schemas, and a file for a purpose of one."""
    path = tmp_path / "collector.yaml"
    path.write_text(f"schemas: [conferencing, web]\ndata: {tmp_path / 'data'}\n{_SINKS}")
    return path


def test_flows_of_each(config: Path) -> None:
    shown = run("config", "flows", "--config", config).out.decode()
    assert "conferencing/1.0.0" in shown
    assert "web/1.0.0" in shown
    calls, web = run("config", "flows", "--config", config, "--json").json["schemas"]
    assert (calls["schema"], web["schema"]) == ("conferencing/1.0.0", "web/1.0.0")
    assert {flow["sink"] for flow in web["flows"]} == {"store"}
    chart = run("config", "flows", "--config", config, "--mermaid").out.decode()
    fields = len(load_schema("web").fields) + len(load_schema("conferencing").fields)
    assert chart.count('["') == fields
    assert chart.count("subgraph") == chart.count("  end\n") == 2
    assert chart.count("-->") == len(calls["flows"]) + len(web["flows"])


def test_the_difference(config: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.yaml"
    old.write_text(f"data: {tmp_path / 'data'}\n{_SINKS}")
    done = run("config", "diff", old, config, "--json")
    assert done.code == 1
    assert {change["schema"] for change in done.json["changes"]} == {"web"}
    assert "schema added" in run("config", "diff", old, config).out.decode()
    assert run("config", "diff", config, old).code == 0


def test_check(config: Path) -> None:
    assert run("config", "check", "--config", config).code == 0
    config.write_text("data: data\nschemas: [web, nothing]\n")
    done = run("config", "check", "--config", config, "--json")
    (fault,) = done.json["faults"]
    assert (done.code, fault["line"], fault["field"], fault["code"]) == (78, 2, "schemas", "E101")
    assert fault["message"].startswith("entry 2: ")
    config.write_text("schemas: [web, conferencing]\nsinks: {ndjson: {path: a, purposes: [no]}}\n")
    (fault,) = run("config", "check", "--config", config, "--json").json["faults"]
    assert (fault["field"], fault["code"]) == ("sinks.ndjson.purposes", "E132")


def test_a_notice_is_of_one(config: Path) -> None:
    done = run("schema", "notice", "--config", config)
    assert done.code == 2
    assert b"conferencing, web" in done.err
    for name in ("conferencing", "web"):
        done = run("schema", "notice", name, "--config", config)
        assert done.out.decode().startswith(f"# Privacy notice: {load_schema(name).title}\n")
        assert run("schema", "ropa", name, "--config", config).code == 0
    assert run("schema", "notice", "conferencing-strict").code == 0


@pytest.mark.timeout(300)
def test_claims_of_each(config: Path) -> None:
    """The verdict is that of all schemas together."""
    config.write_text("schemas: [conferencing, web]\nsandbox: 'off'\ndata: none\n")
    told = run("claims", "--verify", "--config", config, "--json", directory=config.parent).json
    by_name = {claim["id"]: claim for claim in told["claims"]}
    assert by_name["no-sale"]["verdicts"] == {"conferencing": "holds", "web": "holds"}
    assert by_name["no-sale"]["verdict"] == "holds"
    assert told["checks"]["delivery"] == told["checks"]["canaries"] == []
