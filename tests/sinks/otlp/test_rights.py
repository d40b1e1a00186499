"""What the papers and the answers about rights say of a receiver: whose it is and where."""

from __future__ import annotations

from pathlib import Path

from collector.claims.verification import check
from collector.config import load
from collector.testing import canaries, scan
from tests.support.command import run

_SINK = """\
data: data
sinks:
  backend:
    type: otlp
    endpoint: https://otel.example.org:4318/secret-path
    PARTY
"""


def _config(folder: Path, **settings: str) -> Path:
    lines = "\n    ".join(f"{name}: {text}" for name, text in settings.items())
    path = folder / "c.yaml"
    path.write_text(_SINK.replace("PARTY", lines).replace("data: data", f"data: {folder}/data"))
    return path


_WHOSE = {
    "party": "processor",
    "recipient": "Example Observability",
    "country": "NL",
    "purposes": "[service_operations]",
}


def test_its_party_must_be_stated(tmp_path: Path) -> None:
    """E106, also for a receiver on this machine; the endpoint is not quoted."""
    done = run("config", "check", "--config", _config(tmp_path))
    assert done.code == 78
    assert b"sinks.backend.party" in done.err
    assert b"E106" in done.err
    assert b"secret-path" not in done.err


def test_the_flows_name_recipient_and_country(tmp_path: Path) -> None:
    """And the place without the path."""
    found = run("config", "flows", "--config", _config(tmp_path, **_WHOSE), "--json").json
    sink = found["sinks"]["backend"]
    assert (sink["party"], sink["recipient"], sink["country"]) == (
        "processor",
        "Example Observability",
        "NL",
    )
    assert "secret-path" not in str(found)
    table = run("config", "flows", "--config", _config(tmp_path, **_WHOSE)).out.decode()
    assert "backend (processor, Example Observability, NL)" in table


def test_faults_of_headers_have_a_place(tmp_path: Path) -> None:
    """The secret itself does not belong there, and is not quoted."""
    path = _config(tmp_path, **_WHOSE, headers="{api-key: hunter2}")
    done = run("config", "check", "--config", path)
    assert done.code == 78
    assert b"sinks.backend.headers" in done.err
    assert b"hunter2" not in done.err


def test_claims_of_it_are_unproven(tmp_path: Path) -> None:
    """Nothing tells how long a receiver keeps records."""
    config = load(_config(tmp_path, **_WHOSE))
    (finding,) = check(config, canaries(2), scan, meetings=2)["retention"] or ()
    assert finding.is_open
    assert "`sinks.backend.expires`" in finding.advice
