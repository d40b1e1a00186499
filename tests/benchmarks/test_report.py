"""Reports: generated tables, JSON with all figures, and the conditions of the measurement."""

from __future__ import annotations

import gc
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import markdown, runner
from benchmarks.__main__ import main
from benchmarks.conditions import steady
from benchmarks.results import Interval, paired
from tests.benchmarks.made_up import LITTLE, SMALL, results


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real timings, but of so few events that they say nothing."""
    monkeypatch.setattr(runner, "QUICK", LITTLE)


def test_steady_gives_everything_back() -> None:
    """Pinning and the garbage collector are as they were afterwards."""
    allowed = getattr(os, "sched_getaffinity", lambda _: None)
    before = allowed(0)
    with steady() as held:
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 0
        assert set(held) == {"cpu_pin", "gc", "heap"}
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    assert allowed(0) == before


def test_ratios_are_taken_pair_by_pair() -> None:
    """A disturbed round disturbs both contenders, and so not their ratio."""
    assert paired([2.0, 20.0, 2.2], [1.0, 10.0, 1.1]) == Interval(2.0, 2.0, 2.0)
    interval = paired([1.0, 2.0, 3.0], [1.0] * 3)
    assert interval.low < interval.median == 2.0 < interval.high


def test_json_and_markdown_hold_what_was_measured(tmp_path: Path) -> None:
    """Both files come of one call; the rest of the Markdown file stays as it was."""
    page, data_file = tmp_path / "PAGE.md", tmp_path / "out.json"
    old = f"# Title\r\n\r\n{markdown.BEGIN}\nold figures\n{markdown.END}\r\nafter\n"
    page.write_bytes(old.encode())
    assert main([*SMALL, "--json", str(data_file), "--markdown", str(page)]) == 0
    text = page.read_bytes().decode()
    assert text.startswith(f"# Title\r\n\r\n{markdown.BEGIN}\n")
    assert text.endswith(f"\n{markdown.END}\r\nafter\n")
    assert "old figures" not in text
    measured = json.loads(data_file.read_bytes())
    (small,) = measured["corpora"]
    assert {len(times) for times in small["times"].values()} == {LITTLE.rounds}
    assert all(time > 0 for times in small["times"].values() for time in times)
    ratio = small["ratios"]["ours/bare"]["median"]
    assert f"| collector / bare msgspec (floor) | {ratio:.2f} (" in text
    assert {"python", "msgspec", "cpu", "cpu_pin", "gc"} <= set(measured["environment"])


def test_markdown_can_be_rewritten_again(tmp_path: Path) -> None:
    """Writing the same results twice changes nothing."""
    page = tmp_path / "PAGE.md"
    page.write_text(f"{markdown.BEGIN}{markdown.END}\n", encoding="utf-8")
    markdown.rewrite(page, results())
    once = page.read_text(encoding="utf-8")
    markdown.rewrite(page, results())
    assert page.read_text(encoding="utf-8") == once
    assert "| collector | – | 2.2 |" in once
    assert "| bare msgspec | check | 1.1 |" in once
    assert "| collector | 45 | 5 |" in once
    assert "| collector filter | 0.50 | 25.0 | 50 | 1 |" in once
    assert "| jq -c, same projection | 1.00 | 50.0 | 5 | 0.50 (0.50–0.50) |" in once
    assert "| collector filter --jobs 2 | 0.62 | 32,000 | 1.10 | 1.60 (1.60–1.60) |" in once
    assert "| DuckDB, every thread | 0.80 | 25,000 | 2.00 | – |" in once
    control = "two processes that share nothing, half of the events each (control)"
    assert f"| {control} | 0.50 | 40,000 | 1.00 | 2.00 (1.90–2.10) |" in once
    assert "| collector filter, one event | 400 | 50 | 4.00 (3.90–4.10) |" in once
    assert "Skipped: pydantic_models (pydantic is not installed)." in once


@pytest.mark.parametrize("command", [SMALL, ("sdk",), ("sidecar",)])
@pytest.mark.parametrize("text", ["", "<!-- a:begin -->\n<!-- a:end -->", f"{markdown.END}\n"])
def test_markdown_without_markers_is_left_alone(
    tmp_path: Path, command: tuple[str, ...], text: str
) -> None:
    """A file without both markers of the command is a usage error, and stays as it is."""
    page = tmp_path / "PAGE.md"
    page.write_text(text, encoding="utf-8")
    assert main([*command, "--markdown", str(page)]) == 2
    assert page.read_text(encoding="utf-8") == text


def test_a_brief_report_is_about_plain_corpora() -> None:
    """The other corpora, ways of calling the filter, memory and growth have pages of their own."""
    full = results()
    others = {"ours_documents": "one", "ours_mappings": "two"}
    full.titles = {**full.titles, **others}
    full.corpora = [*full.corpora, replace(full.corpora[0], corpus="hostile")]
    full.skipped = {"vrl": "is not here", "bare on hostile": "checks nothing"}
    brief = full.brief()
    assert set(full.titles) - set(brief.titles) == set(others)
    assert [result.corpus for result in brief.corpora] == ["small"]
    assert not brief.growth
    assert not brief.memory
    assert brief.skipped == {"vrl": "is not here"}
