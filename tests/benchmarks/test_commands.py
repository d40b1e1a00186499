"""Each benchmark runs to its end with little to do, and its limits can fail; a contender that does
another job is never timed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import contenders, data, filters, growth, processes, recording, sdk, sinks, variants
from benchmarks.__main__ import main
from benchmarks.contenders import Outcome
from benchmarks.data import CORPORA
from benchmarks.figures import (
    LIMITS,
    BenchmarkError,
    Figures,
    Interval,
    UsageError,
    interval,
    paired,
    percentile,
    read_limits,
    slope,
)
from benchmarks.sidecar import command as sidecar
from benchmarks.sidecar.server import obstacle
from tests.conftest import required
from tests.support.postgres import require_postgres
from tests.support.rows import for_each


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run a benchmark, which writes its tables into a page; returns what it writes as JSON."""
    page, told = tmp_path / "PAGE.md", tmp_path / "figures.json"

    def run(name: str, *words: str, code: int = 0) -> dict[str, Any]:
        page.write_text(
            f"before\n<!-- {name}:begin -->\nstale figures\n<!-- {name}:end -->\nafter\n"
        )
        files = ["--json", str(told), "--markdown", str(page), "--directory", str(tmp_path / "d")]
        found = main([*([] if name == "benchmarks" else [name]), "--quick", *files, *words])
        assert found == code
        text = page.read_text()
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        assert "stale figures" not in text
        figures: dict[str, Any] = json.loads(told.read_text())
        return figures

    return run


Run = Callable[..., dict[str, Any]]


def test_the_filter(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contenders in one process, OTLP, growth and whole processes: figures and limits."""
    if reason := filters.obstacle():
        required(reason)
    little = filters.Effort(rounds=2, payload=60_000, events=40, runs=1)
    monkeypatch.setattr(filters, "QUICK", little)
    monkeypatch.setattr(filters, "_AGAIN", 1)
    axes = [axis._replace(places=axis.places[:5]) for axis in growth.AXES]
    monkeypatch.setattr(growth, "AXES", axes)
    limits = tmp_path / "limits.toml"
    limits.write_text(re.sub(r"(?m)^medium = [0-9.]+$", "medium = 0.001", LIMITS.read_text()))
    words = ("--growth", "--check", "--limits", str(limits))
    figures = run("benchmarks", *words, code=1)
    assert figures["corpora"].keys() == CORPORA.keys()
    assert len(figures["growth"]) == len(axes)
    assert figures["whole medium"]["jq"]["peak_mb"] < figures["start"].popitem()[1]["peak_mb"]
    failed = [each["text"] for each in figures["verdicts"] if each["holds"] is False]
    assert any(text.startswith("ours/bare on medium") for text in failed)


@pytest.mark.parametrize("corpus", CORPORA)
def test_contenders_agree(corpus: str) -> None:
    """Every contender that takes part in a corpus makes the same of it."""
    ready, _ = contenders.load()
    about = CORPORA[corpus]
    takers = [each for each in ready if contenders.takes(each, about)]
    assert {"ours", "ours_documents", "ours_mappings"} < {each.name for each in takers}
    lines = data.lines(corpus, 20 if about.bytes > 10_000 else 300)
    assert len(set(lines)) > 1
    filters.agree(takers, lines, about)


def test_records_and_counts_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contender that gives other records, too few, or other counts, is never timed."""
    both, _ = contenders.load(["ours", "ours_mappings"])
    check, lines = both[1].check, data.lines("small", 10)
    for wrong, message in (
        (lambda found: Outcome([{}] * 10, found.tally), "ours_mappings and ours"),
        (lambda found: Outcome(found.records[1:], found.tally), "ours_mappings gives 9 of 10"),
        (lambda found: Outcome(found.records, {"received": 11}), "ours_mappings counts"),
    ):
        monkeypatch.setattr(both[1], "check", lambda out, w=wrong: w(check(out)))
        with pytest.raises(BenchmarkError, match=message):
            filters.agree(both, lines, CORPORA["small"])


def test_a_slowdown_is_seen() -> None:
    """A filter that does its work ten times misses its limit, by real times."""
    ready, _ = contenders.load(["ours", "bare"])
    effort = filters.Effort(rounds=5, payload=200_000, events=1, runs=1)
    make = ready[0].make

    def slow(lines: list[bytes], schema: str) -> Callable[[], bytes]:
        job = make(lines, schema)
        return lambda: max(job() for _ in range(10))

    failed = []
    for each in (make, slow):
        ready[0] = replace(ready[0], make=each)
        timed = {"medium": filters._corpus("medium", ready, effort)}
        figures = Figures(limits={"at_most": {"ours/bare": {"medium": 4.0}}})
        filters._judge(figures, timed, {})
        failed.append(figures.missed())
    assert failed == [set(), {"medium"}]


@for_each(
    "limits",
    [
        {"at_most": {"ours/nothing": {"medium": 1}}},
        {"at_least": {"ours/bare": {"midium": 1}}},
        {"otlp": {"logs": 1}},
        {"corpora": {"our": {"hostile/medium": 1}}},
        {"corpora": {"ours": {"hostile/midium": 1}}},
    ],
)
def test_a_limit_of_what_is_never_measured(limits: dict[str, Any]) -> None:
    """It would hold for ever."""
    with pytest.raises(BenchmarkError, match="never measured"):
        filters._judge(Figures(limits=limits), {}, {})


def test_a_process_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that fails, or gives other records, has no time."""
    if reason := filters.obstacle():
        required(reason)
    for program, message in (("nonsense(", "jq ended with status"), ("{}", "differ in record 1")):
        monkeypatch.setattr(filters, "JQ_PROGRAM", program)
        with processes.source("medium", 10) as source, pytest.raises(BenchmarkError, match=message):
            filters.beside(source, 1, None, Figures())


def test_the_sidecar(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load on a real server, and on that of a checkout; all that was acknowledged is kept."""
    if reason := obstacle():
        required(reason)
    short = sidecar.Effort(rounds=1, seconds=1.5, warmup=0.3, steady=1.0, bodies=2, connections=2)
    monkeypatch.setattr(sidecar, "QUICK", short)
    found = run("sidecar", "--against", str(LIMITS.parent.parent))
    assert all(ours > 0 < theirs for each in found["against"].values() for ours, theirs in each)
    first = found["servers"][0]
    assert first["stored"] == first["acknowledged"] >= 2 * sidecar.EVENTS
    assert 0 < first["steady"]["p50"] <= first["steady"]["p99"] <= first["steady"]["longest"]


def test_a_soak(run: Run) -> None:
    """Samples of memory, and a slope with its interval."""
    if reason := obstacle():
        required(reason)
    found = run("soak", "--minutes", "0.1", "--rate", "2000")
    assert len(found["samples"]) >= sidecar.SAMPLES
    assert found["low"] <= found["slope"] <= found["high"]


def test_the_sdk(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls, a receiver that hangs, fresh processes, and spans."""
    monkeypatch.setattr(sdk, "_EVENTS", 50)
    monkeypatch.setattr(sdk, "_BEHIND_SECONDS", math.inf)
    found = run("sdk")
    assert found["calls"].keys() == sdk.KINDS.keys()
    assert found["hung"]["queued"] > 0 < found["hung"]["dropped"]
    assert len(found["spans"]["bare"]) == len(found["spans"]["minimised"]) == 5


@pytest.mark.parametrize("name", ["consent", "when"])
def test_parts_of_a_schema(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every form and case, without the part and with it."""
    monkeypatch.setattr(variants, "_QUICK_TURNS", 12)
    found = run(name)["costs"]
    assert all(len(times) == 12 for cost in found.values() for times in cost)


def test_sinks(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sink and its bare writer; both limits can fail."""
    monkeypatch.setattr(sinks, "_QUICK_ROUNDS", 2)
    monkeypatch.setattr(sinks, "_RECORDS", 20)
    limits = tmp_path / "limits.toml"
    limits.write_text(LIMITS.read_text().replace("of_bare_at_least = 0.5", "of_bare_at_least = 99"))
    found = run("sinks", "--check", "--limits", str(limits), code=1)
    judged = [each for each in found["verdicts"] if "bare writer" in each["text"]]
    assert [each["holds"] for each in judged] == [False] * len(judged)
    assert len(judged) + len(found["skipped"]) == len(sinks.CONTENDERS)


@pytest.mark.servers
def test_a_database_is_measured(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    require_postgres()
    monkeypatch.setattr(sinks, "_QUICK_ROUNDS", 2)
    monkeypatch.setattr(sinks, "_RECORDS", 20)
    monkeypatch.setattr(sinks, "CONTENDERS", {"postgres": sinks.CONTENDERS["postgres"]})
    assert len(run("sinks")["postgres"]["sink"]) == 2


@pytest.mark.recordings
def test_the_vault(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates in both directions and memory, in a process of its own."""
    monkeypatch.setattr(recording, "_QUICK_ROUNDS", 1)
    found = run("recording")
    assert all(min(of) > 0 for way in found["rates"].values() for of in way.values())
    assert 10 < found["peak_mb"] < 150


def test_every_figure_is_written_by_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into the marked parts of the pages, and nowhere else; the README follows the pages."""
    pages = []
    for name in ("README", "SPEED", "LEAKS"):
        page = tmp_path / name
        page.write_bytes(getattr(command, name).read_bytes())
        monkeypatch.setattr(command, name, page)
        pages.append(page)
    readme, speed, _ = pages
    row = "| collector | – | 1 | 2 | 3 | 4 |"
    speed.write_text(re.sub(r"(?m)^\| collector \|.*$", row, speed.read_text()))
    before = [_unmarked(page) for page in pages]
    written = {words[0] for _, words in command.DOCS}
    monkeypatch.setattr(variants, "_QUICK_TURNS", 12)
    monkeypatch.setattr(command, "DOCS", [(speed, (name,)) for name in ("when",)])
    assert command.docs(["--quick"]) in (0, 1)
    assert [_unmarked(page) for page in pages] == before
    assert "| Collector | 2 | 3 |" in readme.read_text()
    sections = re.findall(r"<!-- (\w+):begin -->", "".join(map(Path.read_text, pages)))
    assert sorted(sections) == sorted({"measured", *written})


def _unmarked(page: Path) -> str:
    return re.sub(r"(?s)(<!-- (\w+):begin -->).*?(<!-- \2:end -->)", r"\1\3", page.read_text())


def test_what_rounds_come_to() -> None:
    """Medians, ratios of the same round, shares of calls, and slopes."""
    assert interval([1.0, 5.0, 3.0]).median == 3
    assert paired([2.0, 6.0, 40.0], [1.0, 2.0, 10.0]).median == 3
    assert [percentile(range(1, 101), share) for share in (0.01, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert slope([1, 2, 4], [3, 5, 9]) == pytest.approx(2)
    assert sidecar.trend([(at, 3.0 * at + 1) for at in range(60)]) == pytest.approx((3, 3, 3))
    assert sidecar.trend([(at, max(0.0, at - 30)) for at in range(60)])[0] > 0.3
    cost = ([1.0] * 20, [3.0] * 20)
    assert (variants._ratio(cost).median, variants._more(cost).median) == (3, 2)


def test_limits_are_judged() -> None:
    """A limit does not hold only where all of the interval lies beyond it; with ``--quick`` it may
    be missed by the tolerance, and what was not measured is not judged."""
    for quick, found, most, least in (
        (False, Interval(2.0, 1.0, 3.0), True, True),
        (False, Interval(2.0, 1.6, 3.0), False, True),
        (False, Interval(1.0, 0.5, 1.4), True, False),
        (True, 1.6, True, True),
        (True, 1.9, False, True),
        (False, None, None, None),
        (True, None, None, None),
    ):
        figures = Figures(limits=read_limits(LIMITS), quick=quick)
        figures.at_most("", 1.5, found)
        figures.at_least("", 1.5, found)
        figures.at_most("", None, found)
        assert [each.holds for each in figures.verdicts] == [most, least, None]
    figures.at_most("", 1.5, 1.6, is_exact=True, about=("small",))
    assert figures.missed() == {"small"}


def test_limits_of_a_version_and_unknown_ones(tmp_path: Path) -> None:
    """Newer versions of Python replace single ratios; a limit that is never judged is refused."""
    found = [read_limits(LIMITS, each)["at_most"]["ours/bare"] for each in ((3, 11), (3, 12))]
    assert found[0]["medium"] < found[1]["medium"]
    assert found[0]["qos"] == found[1]["qos"]
    path = tmp_path / "limits.toml"
    for text in ('[at_most."ours/bare"]\nmidium = 1', "[sdk]\nimport_ms_at_most = 'x'", "["):
        path.write_text(text)
        with pytest.raises(UsageError):
            read_limits(path)
        assert main(["--limits", str(path)]) == 2


def test_a_page_needs_its_markers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "PAGE.md"
    page.write_text("<!-- sdk:end --><!-- sdk:begin -->")
    assert main(["sdk", "--markdown", str(page)]) == 2
    assert "once each, in this order" in capsys.readouterr().err
