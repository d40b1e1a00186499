"""The charts: true to the figures, the same bytes every time, readable on light and on dark."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import charts, runner, svg
from benchmarks.__main__ import main
from benchmarks.growth import measure
from benchmarks.growth.axes import AXES
from benchmarks.growth.curve import Curve, Point
from benchmarks.results import CorpusResult, Results

SHOWN = Path(__file__).parents[2] / "docs" / "benchmarks"
SPACE = "{http://www.w3.org/2000/svg}"
TIMES = {"bare": [1.0, 1.2, 9.0], "ours": [2.4], "mapped": [0.4], "slow": [118.76]}
TITLES = {
    "bare": "bare msgspec (floor)",
    "ours": "collector",
    "mapped": "collector, of dictionaries that somebody has parsed <before>",
    "slow": "another & slower",
    "absent": "not installed",
}


def results() -> Results:
    """A corpus, and a curve of each sort."""
    return Results(
        environment={},
        titles=TITLES,
        checks_values={"ours": True, "mapped": True},
        corpora=[CorpusResult("small", "no content", 10, 480.0, TIMES, {})],
        growth=[
            curve("bytes", [512 << power for power in range(12)], 0.31),
            curve("members", [0, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000], 0.0571),
            curve("fields", [3, 6, 12, 25, 50, 100, 200, 300], 0.121),
            curve("events", [1, 3, 10, 30, 100, 300, 1_000, 100_000], 0, per_call=True),
        ],
    )


def curve(unit: str, xs: list[int], each: float, *, per_call: bool = False) -> Curve:
    points = [
        Point(x, {"ours": [3 + each * x], "bare": [1 + each * x / 5], "orjson_projection": [2.9]})
        for x in xs
    ]
    return Curve(f"of-{unit}", f"Some {unit}", unit, per_call, points)


def drawn() -> list[str]:
    """Every chart of the results."""
    all_of_it = results()
    bars = [charts.bars(corpus, all_of_it) for corpus in all_of_it.corpora]
    return bars + [charts.lines(each) for each in all_of_it.growth]


def texts(chart: str) -> list[ET.Element]:
    return list(ET.fromstring(chart).iter(f"{SPACE}text"))


def box(text: ET.Element) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a text, as wide as letters usually are."""
    x, y, size = (float(text.attrib[key]) for key in ("x", "y", "font-size"))
    wide = svg.width_of(text.text or "", size)
    left = x - wide * {"start": 0, "middle": 0.5, "end": 1}[text.attrib["text-anchor"]]
    if "transform" in text.attrib:
        return x - size, y - wide / 2, x, y + wide / 2
    return left, y - size * 0.8, left + wide, y + size * 0.2


def bar_widths(chart: str) -> list[float]:
    rects = ET.fromstring(chart).iter(f"{SPACE}rect")
    long = [r for r in rects if r.get("height") == "18.0" and r.get("class") != "paper"]
    return [float(rect.attrib["width"]) for rect in long]


def test_texts_never_overlap_and_stay_on_the_paper() -> None:
    """Whatever the figures and titles are, each text has its place."""
    for chart in drawn():
        root = ET.fromstring(chart)
        boxes = {text.text: box(text) for text in texts(chart)}
        assert len(boxes) >= 10
        for (one, a), (other, b) in combinations(boxes.items(), 2):
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, (one, other)
        for words, (left, top, right, bottom) in boxes.items():
            assert left >= 0, words
            assert top >= 0, words
            assert right <= float(root.attrib["width"]), words
            assert bottom <= float(root.attrib["height"]), words


def test_the_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    """Nothing of the day, the machine or the order of a set is in a file."""
    first = charts.draw(results(), tmp_path / "a" / "new")
    second = charts.draw(results(), tmp_path / "b")
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.name for path in first][:2] == ["corpus-small.svg", "growth-of-bytes.svg"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_bars_are_as_long_as_the_medians() -> None:
    """Lengths are to each other as the times are, and the floor stands where its bar ends."""
    chart = charts.bars(results().corpora[0], results())
    widths = bar_widths(chart)
    assert len(widths) == len(TIMES)
    scale = widths[-1] / 118.8
    assert widths == pytest.approx([1.2 * scale, 2.4 * scale, 0.4 * scale, 118.8 * scale], abs=0.1)
    words = [text.text for text in texts(chart)]
    assert TITLES["mapped"] in words
    assert TITLES["absent"] not in words
    assert {"µs of CPU per event", "checks values", "floor", "1.2", "118.8"} <= set(words)


def test_scales() -> None:
    """Equal steps, or equal ratios, are equally far apart; a zero comes first."""
    plain = svg.linear(13.9, 100, 500)
    assert plain.ticks[0] == 0
    assert plain(0) == 100
    assert plain(13.9) == pytest.approx(500)
    assert plain(6) - plain(3) == pytest.approx(plain(3) - plain(0))
    logs = svg.logarithmic([0, 1, 10_000], 0, 400)
    assert logs(100) - logs(10) == pytest.approx(logs(1_000) - logs(100))
    assert logs(0) == 0 < logs(1) < logs(10_000) < 400
    assert list(logs.ticks) == [0, 1, 10, 100, 1_000, 10_000]
    assert svg.logarithmic([2, 6], 0, 1).ticks == [2, 5]


def test_one_command_measures_growth_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options of the command line; the figures are in the table and in the JSON too."""
    little = runner.Effort(rounds=3, warmups=1, payload=50_000, events=10, runs=1)
    monkeypatch.setattr(runner, "QUICK", little)
    monkeypatch.setattr(measure, "QUICK", measure.Pace(rounds=1, least_ms=0.1, step=4))
    monkeypatch.setattr(measure, "AXES", AXES[5:7])
    data, folder = tmp_path / "all.json", tmp_path / "charts"
    command = ["--quick", "--corpus", "small", "--no-whole", "--growth", "--charts", str(folder)]
    assert main([*command, "--json", str(data)]) == 0
    assert "Content members of an event" in capsys.readouterr().out
    names = {path.name for path in folder.iterdir()}
    assert names == {"corpus-small.svg", "growth-content.svg", "growth-fields.svg"}
    content, _ = json.loads(data.read_bytes())["growth"]
    assert [point["x"] for point in content["points"]] == [0, 6, 24]
    assert set(content["points"][0]["times"]) == {"ours", "bare", "orjson_projection"}


def test_every_curve_is_shown() -> None:
    """docs/benchmarks.md shows each curve, and what is shown is a chart drawn here."""
    page = SHOWN.with_suffix(".md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[[^\]]+\]\(benchmarks/([\w.-]+)\)", page)
    assert {f"growth-{axis.name}.svg" for axis in AXES} <= set(shown)
    for name in shown:
        chart = (SHOWN / name).read_text(encoding="utf-8")
        assert svg.Drawing(1, 1, "").svg().splitlines()[1] in chart, f"{name} is of an old style"
