"""The benchmark of the vault: a real one, and limits that can fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import gate, recording
from benchmarks.__main__ import main

pytestmark = pytest.mark.recordings


def test_the_vault_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rates in both directions and memory, in a process of its own; a limit that fails is said."""
    monkeypatch.setattr(recording, "_QUICK_ROUNDS", 1)
    limits = tmp_path / "limits.toml"
    text = gate.LIMITS.read_text(encoding="utf-8")
    limits.write_text(text.replace("of_bare_at_least = 0.35", "of_bare_at_least = 1000"))
    written = tmp_path / "figures.json"
    files = ["--json", str(written), "--limits", str(limits)]
    assert main(["recording", "--quick", "--check", *files]) == 1
    figures = json.loads(written.read_text(encoding="utf-8"))
    assert set(figures["rates"]) == {"in", "out"}
    assert all(min(rates[name]) > 0 for rates in figures["rates"].values() for name in rates)
    assert 10 < figures["peak_mb"] < 150
    assert "FAILED  recording, in: " in capsys.readouterr().out
