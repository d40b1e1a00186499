"""The sidecar's benchmarks: a real server, a real load, and sums that have to come out even."""

from __future__ import annotations

import json
import random
import socket
import threading
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from time import sleep

import pytest

from benchmarks import exports, gate, otlp
from benchmarks.__main__ import main
from benchmarks.report import text as report_text
from benchmarks.results import BenchmarkError, Results
from benchmarks.sidecar import command, measure, report, server, soak
from benchmarks.sidecar.figures import Figures, Served, Soaked, Steady, Throughput
from benchmarks.sidecar.load import Plan, drive
from benchmarks.sidecar.trend import slope
from collector import Filter, load_schema
from collector.contracts import Signal
from tests.conftest import required
from tests.tcp import tcp_server

_ROOT = Path(__file__).parents[2]
SHORT = measure.Effort(rounds=1, seconds=1.5, warmup=0.3, steady=1.0, bodies=2, connections=2)


@pytest.fixture
def possible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this can be measured where processes cannot be pinned."""
    if reason := server.obstacle():
        required(reason)
    monkeypatch.setattr(measure, "QUICK", SHORT)


@pytest.mark.usefixtures("possible")
def test_a_sidecar_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures of every kind, the tables as text and Markdown, all that was acknowledged is kept."""
    page, told = tmp_path / "PAGE.md", tmp_path / "figures.json"
    page.write_text("<!-- sidecar:begin -->\nold\n<!-- sidecar:end -->\n")
    files = ["--json", str(told), "--markdown", str(page), "--directory", str(tmp_path / "data")]
    assert main(["sidecar", "--quick", *files]) == 0
    figures = json.loads(told.read_text())
    (served,) = (each for each in figures["servers"] if each["name"] == "collector serve")
    assert served["stored"] == served["acknowledged"] >= 2 * measure.EVENTS
    assert served["rounds"][0]["events_per_second"] >= measure.EVENTS / SHORT.seconds
    assert 1 < served["rounds"][0]["cpu_seconds"] / served["rounds"][0]["events"] * 1e6 < 5_000
    assert 0 < served["steady"]["p50"] <= served["steady"]["p99"] <= served["steady"]["longest"]
    assert 20 < served["peak_mb"] < served["resident_mb"] < 300  # of one process, of all
    assert 0 < served["rounds"][0]["share"] < 1
    assert [name[:14] for name in figures["otlp"]] == ["logs, protobuf"] * 2
    shown = capsys.readouterr().out
    assert "CPU s per million events" in shown
    assert "records in the spool" in shown
    assert "| collector serve |" in page.read_text()
    assert "old" not in page.read_text()
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.usefixtures("possible")
def test_a_soak_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At least 60 samples under load, a slope with its interval, and a verdict."""
    told = tmp_path / "soak.json"
    arguments = ["--minutes", "0.1", "--rate", "2000", "--json", str(told)]
    assert main(["soak", *arguments, "--directory", str(tmp_path / "data")]) == 0
    found = json.loads(told.read_text())
    assert len(found["samples"]) >= soak.SAMPLES
    assert found["low"] <= found["slope"] <= found["high"]
    assert found["rate"] == pytest.approx(2000, rel=0.2)
    assert "95 % interval" in capsys.readouterr().out


def _plan(port: int, **changes: object) -> Plan:
    values: dict[str, object] = {
        "path": "/v1/events",
        "kind": "application/x-ndjson",
        "corpus": "small",
        "events": 3,
        "bodies": 2,
        "connections": 2,
        "seconds": 0.5,
    }
    return Plan(port, **(values | changes))  # type: ignore[arg-type]


def answering(pause: float = 0.0, status: int = 200) -> AbstractContextManager[int]:
    """A server that answers each request after a pause, one at a time; yields its port."""
    answer = f"HTTP/1.1 {status} OK\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    turn = threading.Lock()

    def serve(connection: socket.socket) -> None:
        with connection.makefile("rb") as reader:
            while line := reader.readline():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
                elif line == b"\r\n":
                    reader.read(length)
                    with turn:
                        sleep(pause)
                    connection.sendall(answer)

    return tcp_server(serve)


def test_waiting_for_a_connection_is_latency() -> None:
    """50 requests per second to a server that takes 40 ms for each, one at a time: the last of half
    a second has waited for the 24 before it."""
    with answering(pause=0.04) as port:
        outcome = drive(_plan(port, rate=50.0))
    assert sum(outcome.statuses.values()) == len(outcome.latencies) == 25
    assert outcome.latencies[-1] - outcome.latencies[0] > 0.4


@pytest.mark.usefixtures("possible")
def test_what_is_refused_has_no_speed(tmp_path: Path) -> None:
    """A server that answers 503 is no server."""
    with answering(status=503) as port, server.pinned(["sleep", "20"], tmp_path, {0}) as process:
        refusing = server.Server("refusing", process, port, "/", "application/x-ndjson", {0})
        with pytest.raises(BenchmarkError, match="503"):
            measure.load(refusing, _plan(port), 0)


def test_a_slope_is_found_and_noise_is_none() -> None:
    """A line is found in noise; noise alone has zero in its interval, even where samples that
    follow each other are alike, nine times of ten at least."""
    rng = random.Random(1)
    rising = slope([(t, 0.1 * t + rng.gauss(0, 1)) for t in range(240)])
    assert rising.low < 0.1 < rising.high
    assert rising.low > 0
    wrong = 0
    for _ in range(200):
        level, samples = 0.0, []
        for at in range(600):
            level = 0.8 * level + rng.gauss(0, 1)
            samples.append((float(at), level))
        found = slope(samples)
        wrong += not found.low <= 0 <= found.high
    assert wrong < 20
    with pytest.raises(ValueError, match="three"):
        slope([(0, 1), (1, 1)])


def _figures(speed: float, p99: float, peak: float, after: int) -> Figures:
    served = Served("collector serve", [Throughput(speed, 1.0, 100_000, 5, 9, 0, after)])
    served.steady = Steady(10_000, 4, 200, 3, p99, p99)
    served.resident_mb = served.peak_mb = peak
    return Figures({}, servers=[served])


@pytest.mark.parametrize(
    ("figures", "fails"),
    [
        (_figures(80_000, 10, 100, 8_000), None),
        (_figures(80_000, 26, 100, 8_000), "p99"),
        (_figures(80_000, 10, 130, 8_000), "resident MB"),
        (_figures(80_000, 10, 100, 90_000), "spool"),
    ],
)
def test_limits_are_judged(figures: Figures, fails: str | None) -> None:
    """Each limit fails for its own figure."""
    verdicts = list(report.judge(figures, gate.read(gate.LIMITS)))
    assert len(verdicts) == 3
    failed = [verdict.text for verdict in verdicts if not verdict.holds]
    assert [fails in text for text in failed if fails] == [True] * (fails is not None)
    assert gate.announce(verdicts) == (fails is not None)


@pytest.mark.parametrize(
    ("cores", "speed", "holds"),
    [(1.9, 130_000, [True]), (1.9, 120_000, [False]), (1.2, 90_000, [])],
)
def test_two_workers_are_judged_where_they_got_their_cores(
    cores: float, speed: float, holds: list[bool]
) -> None:
    figures = _figures(80_000, 10, 100, 8_000)
    round_ = Throughput(speed, 1.0, 100_000, 5, 9, 0, 0, 0.5, cores, (0.5, 0.5))
    figures.servers.append(Served("collector serve, 2 workers", [round_]))
    verdicts = report.judge(figures, gate.read(gate.LIMITS))
    assert [each.holds for each in verdicts if each.text.startswith("two workers")] == holds


def test_growth_is_judged() -> None:
    """Memory may shrink, and may move; it may not grow for sure."""
    for low, holds in ((-1.0, True), (0.0, True), (0.1, False)):
        soaked = Soaked(1.0, [(0.0, 1.0), (1.0, 1.0)], 0.5, low, 1.0, {})
        assert report.judge_soak(soaked).holds is holds


def test_nothing_is_measured_where_it_cannot_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is skipped, and the reason is said."""
    monkeypatch.setattr(command, "obstacle", lambda: "one CPU")
    assert main(["sidecar"]) == main(["soak"]) == 0
    assert capsys.readouterr().err.count("one CPU") == 2


@pytest.mark.parametrize("signal", ["logs", "traces", "metrics"])
@pytest.mark.parametrize("shared", [True, False])
def test_exports_are_admitted_whole(signal: Signal, shared: bool) -> None:
    """Seeded, and the same in both encodings: 200 items, each a record, nothing dropped."""
    filter_ = Filter(load_schema("conferencing"))
    outcomes = []
    for protobuf in (True, False):
        made = [
            list(
                islice(
                    exports.bodies(
                        signal, protobuf=protobuf, shared=shared, rng=random.Random(seed)
                    ),
                    2,
                )
            )
            for seed in (1, 1, 2)
        ]
        assert made[0] == made[1] != made[2]
        admission = filter_.admit_otlp(signal, made[0][0], protobuf=protobuf)
        assert admission.tally.received == admission.tally.admitted == exports.ITEMS
        assert not admission.tally.dropped
        assert admission.tally.content["chat"] == (exports.ITEMS if signal == "logs" else 0)
        outcomes.append(admission.encode())
    assert outcomes[0] == outcomes[1]
    assert {"client.address", "os.type", "device.type"} <= set(admission.records[0])


def test_otlp_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every corpus, the collector and the floor below it; each round of both, and their ratio."""
    monkeypatch.setattr(otlp, "_BODIES", 3)
    found = otlp.measure(2)
    assert len(found) == 12
    for each in found:
        assert [len(times) for times in each.times.values()] == [2, 2]
        assert 0.1 < each.ratios[f"{otlp.OURS}/{otlp.BARE}"].median < 100
    shown = report_text(Results({}, otlp=found))
    assert "logs, protobuf, one resource" in shown
