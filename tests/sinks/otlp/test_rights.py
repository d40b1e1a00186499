"""What the papers and the answers about rights say of a receiver: whose it is and where."""

from __future__ import annotations

from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, b"sinks.backend.party"),
        (_WHOSE | {"headers": "{api-key: hunter2}"}, b"sinks.backend.headers"),
    ],
)
def test_faults_are_named_and_quote_nothing(
    tmp_path: Path, settings: dict[str, str], field: bytes
) -> None:
    """A receiver on this machine needs a party too; a secret does not belong into the file."""
    done = run("config", "check", "--config", _config(tmp_path, **settings))
    assert done.code == 78
    assert field in done.err
    assert settings or b"E106" in done.err
    assert not any(each in done.err for each in (b"secret-path", b"hunter2"))


def test_the_flows_name_recipient_and_country(tmp_path: Path) -> None:
    found = run("config", "flows", "--config", _config(tmp_path, **_WHOSE), "--json").json
    sink = found["sinks"]["backend"]
    assert {name: sink[name] for name in ("party", "recipient", "country")} == {
        name: _WHOSE[name] for name in ("party", "recipient", "country")
    }
    assert "secret-path" not in str(found)
    table = run("config", "flows", "--config", _config(tmp_path, **_WHOSE)).out.decode()
    assert "backend (processor, Example Observability, NL)" in table


def test_claims_of_it_are_unproven(tmp_path: Path) -> None:
    config = load(_config(tmp_path, **_WHOSE))
    (finding,) = check(config, canaries(2), scan, meetings=2)["retention"] or ()
    assert finding.is_open
    assert "`sinks.backend.expires`" in finding.advice
