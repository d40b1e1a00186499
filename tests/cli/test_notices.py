"""``collector schema notice|ropa``: papers on stdout, what is left open on stderr."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tests.pages.sample_config import configured
from tests.support.command import run


def test_the_notice(tmp_path: Path) -> None:
    configured(tmp_path)
    config = ("--config", tmp_path / "collector.yaml")
    done = run("schema", "notice", *config)
    assert done.out.startswith(b"# Privacy notice: Conferencing client telemetry\n")
    assert rb"Stats \& Co \<b\> works for us under a contract" in done.out
    assert (done.code, done.err) == (0, b"")
    page = run("schema", "notice", *config, "--format", "html", "--language", "id").out
    assert page.startswith(b'<!DOCTYPE html>\n<html lang="id">')
    assert b"<bdi>Stats &amp; Co &lt;b&gt;</bdi> bekerja untuk kami" in page


def test_the_record(tmp_path: Path) -> None:
    configured(tmp_path, sinks={})
    config = ("--config", tmp_path / "collector.yaml")
    rows = list(csv.DictReader(io.StringIO(run("schema", "ropa", *config).out.decode())))
    assert [row["activity"] for row in rows] == [
        "service_operations",
        "security",
        "capacity_planning",
    ]
    document = run("schema", "ropa", *config, "--format", "json").json
    assert document["dpv:hasDataController"]["dpv:hasCountry"] == "DE"


def test_another_schema_than_the_configured_one() -> None:
    done = run("schema", "notice", "web")
    assert done.out.startswith(b"# Privacy notice: Requests to a web service\n")
    assert done.err.endswith(b": about.controller, about.contact, sinks.store.country\n")
    assert done.code == 0


def test_what_is_left_open_is_told(tmp_path: Path) -> None:
    """The notice also says what protects records abroad."""
    sink = {"path": "a", "party": "processor", "recipient": "A", "purposes": ["security"]}
    configured(tmp_path, sinks={"ndjson": sink | {"country": "ID"}})
    done = run("schema", "ropa", "--config", tmp_path / "collector.yaml")
    assert done.err.endswith(b": sinks.ndjson.safeguard\n")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    configured(tmp_path)
    config = ("--config", tmp_path / "collector.yaml")
    assert run("schema", "notice", "nonsense").code == 78
    assert b"E132" in run("schema", "ropa", "participants-qos", *config).err
    assert run("schema", "notice", "--language", "de").code == 2
