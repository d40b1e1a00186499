"""The benchmark of consent: real filters, and a limit that can fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import consent, gate, variants
from benchmarks.__main__ import main
from benchmarks.data import lines

_CASES = ("no choices", "choices in each", "a signal")


def test_consent_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every case of lines and of mappings, as a table and as JSON; and the one limit."""
    monkeypatch.setattr(variants, "_QUICK_TURNS", 1)
    monkeypatch.setattr(variants, "_EVENTS", 20)
    told, limits = tmp_path / "figures.json", tmp_path / "limits.toml"
    text = gate.LIMITS.read_text()
    for most, code in (("1000.0", 0), ("0.0001", 1)):
        limits.write_text(
            text.replace("of_the_filter_at_most = 1.05", f"of_the_filter_at_most = {most}")
        )
        files = ["--json", str(told), "--limits", str(limits)]
        assert main(["consent", "--quick", "--check", *files]) == code
    costs = json.loads(told.read_text())["costs"]
    assert [(each["form"], each["case"]) for each in costs if each["corpus"] == "medium"] == [
        (form, case) for case in _CASES for form in ("lines", "mappings")
    ]
    assert all(min(each["without"] + each["with_it"]) > 0 for each in costs)
    assert "FAILED  consent: " in capsys.readouterr().out


def test_choices_are_refusals() -> None:
    """What is measured with choices has fields withheld; without any, nothing is."""
    plain, path = consent.filters()
    event = lines("medium", 1)[0]
    assert path.admit(event).encode() == plain.admit(event).encode()
    refused = path.admit(consent.choosing(event)).tally.dropped
    assert {reason for reasons in refused.values() for reason in reasons} == {"purpose_refused"}
