"""The gate: exit 1 past a limit and only then; it sees a planted slowdown."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import gate, runner
from benchmarks.__main__ import main
from benchmarks.results import CorpusResult, Interval, Results
from tests.benchmarks.made_up import LITTLE, SMALL, parallel_result, results, whole_result

ROOT = Path(__file__).resolve().parents[2]

LIMITS = """\
[at_most."ours/bare"]
small = {ceiling}
medium = {ceiling}
[at_least."orjson_projection/ours"]
small = {floor}
[otlp]
"logs, JSON, one resource" = 2.0
[corpora.ours]
"hostile/medium" = 3.0
[whole]
from_events = 200_000
cpu_of_jq_at_most = {{medium = 0.4}}
cpu_of_fluent_bit_at_most = 0.5
two_jobs_at_least = 1.3
two_jobs_of_control_at_least = 0.7
peak_mb_below = 100
[quick]
tolerance = 1.2
"""
NEWER = """\
[from_python."3.12".at_most."ours/bare"]
small = 1.5
[from_python."3.14".at_most."ours/bare"]
small = 1.7
"""


def limits(folder: Path, ceiling: float = 1, floor: float = 1) -> Path:
    path = folder / "limits.toml"
    path.write_text(LIMITS.format(ceiling=ceiling, floor=floor), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("ceiling", "floor", "code"), [(1000, 0.001, 0), (0.001, 0.001, 1), (1000, 1000, 1)]
)
def test_gate(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    ceiling: float,
    floor: float,
    code: int,
) -> None:
    """What was not measured is said to be skipped. What misses a limit is measured again."""
    monkeypatch.setattr(runner, "QUICK", LITTLE)
    path = limits(tmp_path, ceiling, floor)
    assert main([*SMALL, "--check", "--limits", str(path)]) == code
    out, said = capsys.readouterr()
    assert ("FAILED" in out) == bool(code)
    assert said.count("measuring small again") == 3 * code
    assert re.search(f"skipped ours/bare on medium: at most {ceiling:g}.*, not measured", out)
    assert "skipped: whole processes: left out" in out


def test_every_round_counts() -> None:
    """A slow minute is outvoted by the rounds of those that follow, and so is a lucky one."""
    first = CorpusResult("small", "", 1, 1.0, {"ours": [9.0], "bare": [2.0]}, {})
    again = CorpusResult("small", "", 1, 1.0, {"ours": [3.0, 4.0], "bare": [2.0, 2.0]}, {})
    first = replace(first, ratios={"ours/bare": Interval(4.5, 4.5, 4.5)})
    pooled = first.with_rounds_of(again)
    assert pooled.times == {"ours": [9.0, 3.0, 4.0], "bare": [2.0, 2.0, 2.0]}
    assert pooled.ratios["ours/bare"].median == 2.0


def verdicts(measured: Results, folder: Path, **limit: float) -> dict[str, bool | None]:
    """Whether each limit holds, by what stands before the colon."""
    asked = gate.read(limits(folder, **limit))
    return {v.text.partition(":")[0]: v.holds for v in gate.judge(measured, asked)}


@pytest.mark.parametrize(
    ("quick", "ceiling", "holds"),
    [
        (False, 2.0, True),
        (False, 1.95, True),
        (False, 1.85, False),
        (True, 1.85, True),
        (True, 1.55, False),
    ],
)
def test_tolerance_is_for_quick_calls_only(
    tmp_path: Path, quick: bool, ceiling: float, holds: bool
) -> None:
    """A ratio of 1.9 to 2.1 passes a ceiling of 1.95, and one of 1.85 × 1.2, but not of 1.85 when
    much was measured: all of the interval lies beyond it."""
    measured = results()
    measured.quick = quick
    assert verdicts(measured, tmp_path, ceiling=ceiling)["ours/bare on small"] is holds


@pytest.mark.parametrize(("hostile", "holds"), [(2.9, True), (3.1, False), (None, None)])
def test_corpora_are_compared(tmp_path: Path, hostile: float | None, holds: bool | None) -> None:
    """What one contender takes on two corpora."""
    times = {"medium": 1.0, "hostile": hostile}
    corpora = [
        CorpusResult(name, "", 1, 1.0, {"ours": [time]}, {})
        for name, time in times.items()
        if time is not None
    ]
    found = verdicts(Results({}, corpora=corpora), tmp_path)
    assert found["ours on hostile/medium"] is holds


def test_gate_of_whole_processes(tmp_path: Path) -> None:
    """Few events do not judge CPU and time; memory is always judged."""

    def judged(events: int, cpu: float, peak: float, speedup: float) -> list[bool | None]:
        whole = whole_result(events, cpu, peak, fluent=cpu + 0.1)
        measured = Results({}, whole=[whole], parallel=parallel_result(speedup))
        return list(verdicts(measured, tmp_path).values())[-5:]

    assert judged(20_000, 0.9, 50, 0.5) == [None, None, None, None, True]
    assert judged(200_000, 0.3, 50, 1.6) == [True, True, True, True, True]
    assert judged(200_000, 0.5, 100, 1.2) == [False, False, False, False, False]


@pytest.mark.parametrize(("low", "holds"), [(1.9, True), (2.1, False), (None, None)])
def test_otlp_is_compared_with_its_floor(
    tmp_path: Path, low: float | None, holds: bool | None
) -> None:
    """By corpus; a limit holds until all of the interval lies beyond it."""
    name = "logs, JSON, one resource"
    ratios = {"collector/parsing": Interval(2.2, low or 0, 2.3)}
    times = {"collector": [2.2], "parsing": [1.0]}
    otlp = [CorpusResult(name, "", 1, 1.0, times, ratios)] if low else []
    measured = Results({}, otlp=otlp)
    assert verdicts(measured, tmp_path)[f"OTLP over its floor, {name}"] is holds
    limit = gate.read(limits(tmp_path))
    assert gate.missed(measured, limit) == ({name} if holds is False else set())


def test_a_start_is_judged(tmp_path: Path) -> None:
    """It is four times as long as importing what it needs."""
    text = limits(tmp_path).read_text(encoding="utf-8")
    for most, holds in ((4, True), (3.5, False)):
        path = tmp_path / "start.toml"
        named = f"start_of_imports_at_most = {most}\npeak_mb"
        path.write_text(text.replace("peak_mb", named), encoding="utf-8")
        found = {v.text.partition(":")[0]: v.holds for v in gate.judge(results(), gate.read(path))}
        assert found["start of collector filter / of its libraries"] is holds


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ours/bare", "ours/no"),
        ("small", "tiny"),
        ("peak_mb", "peak"),
        ("[w", "["),
        ("corpora.ours", "corpora.theirs"),
        ("hostile/", "hospitable/"),
        ("one resource", "one resort"),
        ("{medium", "{average"),
        ('"3.12".at_most."ours', '"3.12".at_most."yours'),
        ('"3.14"', '"newest"'),
    ],
)
def test_misspelled_limits_are_refused(tmp_path: Path, old: str, new: str) -> None:
    """A limit that would never be judged is a usage error before anything is measured."""
    path = limits(tmp_path)
    text = path.read_text(encoding="utf-8") + NEWER
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert main([*SMALL, "--check", "--limits", str(path)]) == 2


@pytest.mark.parametrize(
    ("python", "small"), [((3, 11), 1.9), ((3, 12), 1.5), ((3, 13), 1.5), ((3, 14), 1.7)]
)
def test_limits_of_newer_versions_of_python(
    tmp_path: Path, python: tuple[int, int], small: float
) -> None:
    """They replace what they name and leave the rest."""
    path = limits(tmp_path, ceiling=1.9)
    path.write_text(path.read_text(encoding="utf-8") + NEWER, encoding="utf-8")
    read = gate.read(path, python)
    assert read.at_most == {"ours/bare": {"small": small, "medium": 1.9}}


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    """The real gate, of the project in a folder."""
    command = "-m benchmarks --quick --check --corpus medium --no-whole".split()
    return subprocess.run(
        [sys.executable, "-B", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


@pytest.mark.nightly
@pytest.mark.timed
def test_gate_sees_a_planted_slowdown(tmp_path: Path) -> None:
    """With a needless loop per event in the generated function the gate fails, by the ratios to the
    collector; the copy that is not slowed passes."""
    for name in ("collector", "schemas", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    untouched = checked(tmp_path)
    assert untouched.returncode == 0, untouched.stdout + untouched.stderr
    source = tmp_path / "collector" / "filter" / "generate.py"
    text = source.read_text(encoding="utf-8")
    loop = "    for payload in payloads:\n"
    assert text.count(loop) >= 1
    slow = f"{loop}        for _ in range(1_000):\n            pass\n"
    source.write_text(text.replace(loop, slow, 1), encoding="utf-8")
    slowed = checked(tmp_path)
    assert slowed.returncode == 1, slowed.stdout + slowed.stderr
    assert re.search(r"FAILED +ours/bare on medium", slowed.stdout)
