"""The metrics of the recorder: closed, all there from the start, and as the document has them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from collector.recording.metrics import LABELS, METRICS, RecorderMetrics
from collector.recording.recorder import RecorderState
from collector.recording.refusals import REFUSALS
from collector.recording.routes import ROUTES

_PAGE = (Path(__file__).parents[2] / "docs" / "recording.md").read_text()
_NOTHING = RecorderState({}, {}, {})


def test_every_series_is_there_from_the_start() -> None:
    text = RecorderMetrics(lambda: _NOTHING, dict).text().decode()
    for name, kind in METRICS.items():
        for value in LABELS[kind.labels[0]] if kind.labels else ("",):
            label = f'{{{kind.labels[0]}="{value}"}}' if value else ""
            assert f"\n{name}{label} 0.0\n" in text


def test_counts_are_shown() -> None:
    """Words that are not listed are left out."""
    state = RecorderState({"open": 2, "x": 9}, {"accepted": 3}, {}, 1, 5, 1, True, 4)
    text = RecorderMetrics(lambda: state, lambda: {"paused": 7, "x": 9}).text().decode()
    assert 'collector_recorder_recordings{state="open"} 2.0' in text
    assert 'collector_recorder_refusals_total{code="paused"} 7.0' in text
    assert "collector_recorder_queue_bytes 5.0" in text
    assert "collector_recorder_bucket_failing 1.0" in text
    assert '"x"' not in text


def test_the_expiry_of_its_certificate() -> None:
    """It is shown where there is one."""
    name = "collector_tls_certificate_expiry_timestamp_seconds{"
    assert name not in RecorderMetrics(lambda: _NOTHING, dict).text().decode()
    text = RecorderMetrics(lambda: _NOTHING, dict, 1_800_000_000.0).text().decode()
    assert f'{name}receiver="recorder"}} 1.8e+09\n' in text


def test_the_document_has_the_tables() -> None:
    """Metrics, codes and endpoints of the page are those of the code."""
    for name, kind in METRICS.items():
        by = f" by `{kind.labels[0]}`" if kind.labels else ""
        assert f"| `{name}`{by} | {kind.type} | {kind.meaning} |" in _PAGE
    for code, refusal in REFUSALS.items():
        assert f"| `{code}` | {refusal.status} | {refusal.message} |" in _PAGE
    listed = {line.split("`")[1] for line in _PAGE.splitlines() if " /v1/" in line and "|" in line}
    assert listed == {f"{route.method} {route.path}" for route in ROUTES}
    assert len(list(product(METRICS))) == _PAGE.count("| `collector_recorder_")
