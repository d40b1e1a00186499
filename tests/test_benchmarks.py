"""The benchmarks measure what they say: equal records, honest gate, tables nobody types."""

from __future__ import annotations

import gc
import json
import os
import random
from pathlib import Path

import pytest

from benchmarks import contenders, data, fleet, gate, markdown, report, runner, whole
from benchmarks.__main__ import main
from benchmarks.conditions import steady
from benchmarks.results import BenchmarkError, CorpusResult, Interval, Results, paired
from benchmarks.results import ProcessResult as Process
from benchmarks.results import WholeResult as Whole
from collector import Filter, load_schema
from tests.conftest import required

SMALL = ("--quick", "--corpus", "small", "--no-whole")
LITTLE = runner.Effort(rounds=5, warmups=1, payload=100_000, events=10, runs=1)

LIMITS = """\
[at_most."ours/bare"]
small = {ceiling}
medium = {ceiling}
[at_least."orjson_projection/ours"]
small = {floor}
[whole]
cpu_ratio_at_most = 0.4
cpu_ratio_from_events = 200_000
peak_mb_below = 100
"""


def limits(folder: Path, ceiling: float, floor: float) -> Path:
    path = folder / "limits.toml"
    path.write_text(LIMITS.format(ceiling=ceiling, floor=floor), encoding="utf-8")
    return path


def whole_result(events: int, cpu: float, peak: float) -> Whole:
    ratio = Interval(cpu, cpu, cpu)
    return Whole("medium", events, 9_000, Process([cpu], [peak]), Process([1.0], [5.0]), ratio)


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real timings, but of so few events that they say nothing."""
    monkeypatch.setattr(runner, "QUICK", LITTLE)


def made_up() -> Results:
    """Results without measuring anything."""
    times = {"bare": [1.0, 1.2], "ours": [2.0, 2.4]}
    ratios = {"ours/bare": Interval(2.0, 1.9, 2.1)}
    return Results(
        environment={"python": "CPython"},
        titles={"bare": "bare msgspec", "ours": "collector"},
        checks_values={"bare": False, "ours": True},
        corpora=[CorpusResult("small", "no content", 10, 480.0, times, ratios)],
        whole=whole_result(20_000, 0.5, 50),
        skipped={"pydantic_models": "pydantic is not installed"},
    )


@pytest.mark.parametrize("corpus", data.CORPORA)
def test_contenders_give_equal_records(corpus: str) -> None:
    """Every contender gives the same records for every corpus, and none is missing here."""
    ready, skipped = contenders.load()
    assert skipped == {}
    assert [contender.name for contender in ready] == list(contenders.NAMES)
    runner.agree(ready, data.lines(corpus, 20 if corpus == "large" else 300))


def test_other_records_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contender that gives other records is never timed."""
    ready, _ = contenders.load(["ours", "bare"])
    monkeypatch.setattr(ready[1], "check", lambda output: [{}] * output.count(b"\n"))
    with pytest.raises(BenchmarkError, match="bare and ours"):
        runner.agree(ready, data.lines("small", 10))


def test_missing_dependency_is_skipped_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contender whose library is not there is left out, and it is said why."""

    def absent(_: str) -> object:
        raise ModuleNotFoundError("No module named 'fast'", name="fast")

    monkeypatch.setattr(contenders, "import_module", absent)
    assert contenders.load(["bare"]) == ([], {"bare": "fast is not installed"})


@pytest.mark.parametrize("corpus", data.CORPORA)
def test_corpora_are_seeded_and_of_their_size(corpus: str) -> None:
    """One seed gives one corpus, of the size it says, with content where it says so."""
    lines = data.lines(corpus, 100)
    assert lines == data.lines(corpus, 100)
    assert lines != data.lines(corpus, 100, seed=1)
    assert sum(map(len, lines)) / 100 == pytest.approx(data.CORPORA[corpus].bytes, rel=0.04)
    content = Filter(load_schema("conferencing")).admit_lines(b"\n".join(lines)).tally.content
    expected = {"small": set(), "large": {"audio", "chat", "transcript"}}
    assert set(content) == expected.get(corpus, {"chat", "transcript"})
    assert all(line.isascii() for line in lines) == (corpus != "non_ascii")


def test_addresses_hardly_repeat() -> None:
    """Addresses are of high cardinality and about 15 % IPv6, so that no memo helps anybody."""
    filter_ = Filter(load_schema("conferencing"))
    records = filter_.admit_lines(b"\n".join(data.stream("small", 4_000))).records
    addresses = [str(record["client.address"]) for record in records]
    assert len(set(addresses)) > 0.98 * len(addresses)
    assert 0.12 < sum(":" in address for address in addresses) / len(addresses) < 0.18


def test_fleet_is_a_few_hundred_admitted_machines() -> None:
    """Every machine is admitted as it is spelled, without a dropped field."""
    filter_ = Filter(load_schema("conferencing"))
    for each in fleet.MACHINES:
        assert not filter_.admit({"device": each.device, "os": each.os}).tally.dropped
    assert 200 <= len(fleet.MACHINES) <= 500
    assert fleet.machine(random.Random(1)) in fleet.MACHINES


def test_steady_gives_everything_back() -> None:
    """Pinning and the garbage collector are as they were afterwards."""
    allowed = getattr(os, "sched_getaffinity", lambda _: None)
    before = allowed(0)
    with steady() as held:
        assert not gc.isenabled()
        assert set(held) == {"cpu_pin", "gc", "heap"}
    assert gc.isenabled()
    assert allowed(0) == before


def test_ratios_are_taken_pair_by_pair() -> None:
    """A disturbed round disturbs both contenders, and so not their ratio."""
    assert paired([2.0, 20.0, 2.2], [1.0, 10.0, 1.1]) == Interval(2.0, 2.0, 2.0)
    interval = paired([1.0, 2.0, 3.0], [1.0] * 3)
    assert interval.low < interval.median == 2.0 < interval.high


@pytest.mark.parametrize(
    ("ceiling", "floor", "code"), [(1000, 0.001, 0), (0.001, 0.001, 1), (1000, 1000, 1)]
)
def test_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ceiling: float, floor: float, code: int
) -> None:
    """Exit 1 past a limit, and only then; what was not measured is said to be skipped."""
    path = limits(tmp_path, ceiling, floor)
    assert main([*SMALL, "--check", "--limits", str(path)]) == code
    out = capsys.readouterr().out
    assert ("FAILED" in out) == bool(code)
    assert f"skipped ours/bare on medium: at most {ceiling:g}, not measured" in out
    assert "skipped: whole processes: left out" in out


def test_gate_of_whole_processes() -> None:
    """Few events do not judge CPU; memory is always judged."""
    asked = gate.read(gate.LIMITS)

    def verdicts(events: int, cpu: float, peak: float) -> list[bool | None]:
        results = Results({}, whole=whole_result(events, cpu, peak))
        return [verdict.holds for verdict in gate.judge(results, asked)[-2:]]

    assert verdicts(20_000, 0.9, 50) == [None, True]
    assert verdicts(200_000, 0.3, 50) == [True, True]
    assert verdicts(200_000, 0.5, 100) == [False, False]


@pytest.mark.parametrize(
    ("old", "new"), [("ours/bare", "ours/no"), ("small", "tiny"), ("peak_mb", "peak"), ("[w", "[")]
)
def test_misspelled_limits_are_refused(tmp_path: Path, old: str, new: str) -> None:
    """A limit that would never be judged is a usage error before anything is measured."""
    path = limits(tmp_path, 1, 1)
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    assert main([*SMALL, "--check", "--limits", str(path)]) == 2


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
    markdown.rewrite(page, made_up())
    once = page.read_text(encoding="utf-8")
    markdown.rewrite(page, made_up())
    assert page.read_text(encoding="utf-8") == once
    assert "| collector | yes | 2.2 |" in once
    assert "| collector filter | 0.50 | 25.0 | 50 | 0.50 (0.50–0.50) |" in once
    assert "Skipped: pydantic_models (pydantic is not installed)." in once


@pytest.mark.parametrize("text", ["", markdown.BEGIN, f"{markdown.END}{markdown.BEGIN}"])
def test_markdown_without_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    """A file without both markers is a usage error, and stays as it is."""
    page = tmp_path / "PAGE.md"
    page.write_text(text, encoding="utf-8")
    assert main([*SMALL, "--markdown", str(page)]) == 2
    assert page.read_text(encoding="utf-8") == text


def test_text_tables_are_aligned() -> None:
    """Every row of a table is as wide as its rule, and what was skipped is said."""
    text = report.text(made_up())
    assert len({len(line) for line in text.splitlines()[1:5]}) == 1
    assert "skipped: pydantic_models: pydantic is not installed" in text


def test_whole_processes() -> None:
    """Both commands run, agree, and their use is the child's own, not that of this process."""
    if reason := whole.obstacle():
        required(reason)
    result = whole.measure(events=300, runs=1)
    assert min(*result.collector.cpu_seconds, *result.jq.cpu_seconds) > 0
    assert result.jq.peak_mb[0] < result.collector.peak_mb[0] < 150


def test_whole_process_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that fails, or gives other records, has no time."""
    if reason := whole.obstacle():
        required(reason)
    monkeypatch.setattr(whole, "JQ_PROGRAM", "nonsense(")
    with pytest.raises(BenchmarkError, match="jq ended with status"):
        whole.measure(events=10, runs=1)
    monkeypatch.setattr(whole, "JQ_PROGRAM", "{}")
    with pytest.raises(BenchmarkError, match="differ in record 1"):
        whole.measure(events=10, runs=1)
