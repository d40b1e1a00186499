"""The SDK's benchmarks: real collectors, real processes, and sums that have to come out even."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import gate
from benchmarks.__main__ import main
from benchmarks.results import BenchmarkError, Interval
from benchmarks.sdk import calls, command, report, spans, start
from benchmarks.sdk.figures import Call, Figures, Hung, Install, Spans
from collector import Filter, load_schema
from tests.conftest import required
from tests.latency import IS_FULL

SHORT = command.Effort(rounds=1, runs=1, hung=0.2)


@pytest.mark.timed
def test_the_sdk_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures of every kind, the tables as text and Markdown; no store is left behind."""
    monkeypatch.setattr(command, "QUICK", SHORT)
    monkeypatch.setattr(spans, "obstacle", lambda: "not today")
    page, told = tmp_path / "PAGE.md", tmp_path / "figures.json"
    page.write_text("<!-- sdk:begin -->\nold\n<!-- sdk:end -->\n")
    place = ["--directory", str(tmp_path / "data")]
    files = ["--json", str(told), "--markdown", str(page), *place]
    assert main(["sdk", "--quick", *files]) == 0
    figures = json.loads(told.read_text())
    assert [(each["corpus"], each["form"]) for each in figures["calls"]] == [
        (kind.corpus, kind.form) for kind in calls.KINDS
    ]
    for each in figures["calls"]:
        (nothing,), (admit,), (emit,) = each["nothing"], each["admit"], each["emit"]
        assert min(nothing, admit, emit) > 0
        assert not IS_FULL or nothing < admit < emit < 1_000
        assert each["ratio"]["median"] == pytest.approx(emit / admit)
    assert list(figures["start"]) == list(start.STEPS)
    assert figures["skipped"] == {
        "OpenTelemetry": "not today",
        "installation": "only with --install, as it needs the package index",
    }
    assert "| medium, a mapping |" in page.read_text()
    assert "old" not in page.read_text()
    assert "dropped and counted" in capsys.readouterr().out
    assert list((tmp_path / "data").iterdir()) == []


def test_events_are_admitted_whole() -> None:
    """Each kind is what it says, and nothing of it is dropped."""
    filter_ = Filter(load_schema("conferencing"))
    for kind in calls.KINDS:
        for event in kind.events(20):
            assert type(event) is (dict if kind.parsed else bytes)
            tally = filter_.admit(event).tally
            assert (tally.admitted, tally.dropped) == (1, {})
            assert bool(tally.content) == (kind.corpus == "medium")


def test_an_event_that_is_not_admitted_has_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be quick for the wrong reason."""
    monkeypatch.setattr(calls.Kind, "events", lambda _kind, number: [{}] * number)
    with pytest.raises(BenchmarkError, match="not admitted"):
        calls.measure(calls.KINDS[0], 1, tmp_path, events=3)


@pytest.fixture
def with_otel() -> None:
    """Without the extra there is nothing to wrap."""
    if reason := spans.obstacle():
        required(reason)


@pytest.mark.usefixtures("with_otel")
def test_spans_are_timed() -> None:
    """Each round with and without the wrapper; the difference is what it adds."""
    found = spans.measure(2, batches=1)
    assert [len(times) for times in (found.bare, found.minimised)] == [2, 2]
    assert found.added > 0 or not IS_FULL


def _figures(**changes: float) -> Figures:
    """Figures that are within every limit but for some."""
    emit, ratio = changes.get("emit", 5.0), changes.get("ratio", 1.4)
    around = Interval(ratio, ratio, ratio)
    return Figures(
        {},
        calls=[
            Call("medium", "a mapping", [0.1], [4.0], [emit], around, 9.0),
            Call("medium", "JSON as bytes", [0.1], [9.0], [99.0], Interval(9, 9, 9), 99.0),
        ],
        hung=Hung(10_000, 1.0, 5.0, changes.get("hung", 40.0), 90.0, 5_000, 5_000),
        start={
            start.IMPORT: [changes.get("import", 40.0)],
            start.READY: [changes.get("ready", 300.0)],
        },
        install=Install(changes.get("install", 18.0), ["one"]),
        spans=Spans(512, [0.1], [0.1 + changes.get("span", 4.0)]),
    )


@pytest.mark.parametrize(
    ("changes", "fails"),
    [
        ({}, None),
        ({"ratio": 1.6}, "emit / admit"),
        ({"hung": 51}, "receiver hung"),
        ({"import": 61}, "ms to import"),
        ({"ready": 351}, "to a filter"),
        ({"install": 25.1}, "MB installed"),
    ],
)
def test_limits_are_judged(changes: dict[str, float], fails: str | None) -> None:
    """Each limit fails for its own figure; tables show whatever there is."""
    figures = _figures(**changes)
    verdicts = list(report.judge(figures, gate.read(gate.LIMITS)))
    assert len(verdicts) == 5
    failed = [verdict.text for verdict in verdicts if not verdict.holds]
    assert len(failed) == (fails is not None)
    assert all(fails in text for text in failed if fails)
    assert len(report.tables(figures)) == 5


def test_what_little_was_measured_may_miss_a_limit_of_time() -> None:
    """Not by much, and not one of size."""
    limits = gate.read(gate.LIMITS)
    figures = _figures(hung=51, install=25.1)
    figures.quick = True
    failed = [verdict.text for verdict in report.judge(figures, limits) if not verdict.holds]
    assert [text[:12] for text in failed] == ["MB installed"]


def test_what_was_not_measured_is_not_judged() -> None:
    """No limit holds or fails for nothing."""
    verdicts = list(report.judge(Figures({}), gate.read(gate.LIMITS)))
    assert [verdict.holds for verdict in verdicts] == [None] * 5
    assert report.tables(Figures({})) == []
