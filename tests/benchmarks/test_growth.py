"""Growth: curves are measured on equal records, fitted as they should be, and at most linear."""

from __future__ import annotations

import pytest

from benchmarks.growth import measure
from benchmarks.growth.axes import AXES, Axis
from benchmarks.growth.cases import Case
from benchmarks.growth.curve import Curve, Point, slope
from benchmarks.growth.jobs import JOBS, TITLES, Job
from benchmarks.growth.measure import Pace
from benchmarks.results import BenchmarkError

LITTLE = Pace(rounds=5, least_ms=1)
AXIS = {axis.name: axis for axis in AXES}
PLACES = {
    "size-chat": (4_096, 16_384, 65_536),
    "size-transcript": (4_096, 16_384, 65_536),
    "size-audio": (16_384, 65_536, 262_144),
    "unlisted": (100, 300, 1_000),
    "depth": (100, 200, 400),
    "content": (6, 13, 24),
    "fields": (12, 25, 50),
    "fields-reversed": (12, 25, 50),
    "fields-one": (12, 25, 50),
    "fields-refused": (12, 25, 50),
    "paths": (3, 8, 20),
    "lines": (100, 300, 1_000),
    "documents": (100, 300, 1_000),
    "records": (100, 300, 1_000),
}
"""Small, but where what is varied weighs more than what is constant."""


def made_up(power: float, *, per_call: bool = False) -> Curve:
    """A curve of two jobs: the filter's rises with a power, the floor's is straight."""
    points = [Point(0, {"ours": [5.0], "bare": [2.0]})] + [
        Point(x, {"ours": [3 * x**power, 2 * x**power, 9 * x**power], "bare": [x / 10]})
        for x in (1, 10, 100, 1_000, 10_000)
    ]
    return Curve("made-up", "Made up", "members", per_call, points)


def is_at_most_linear(axis: Axis, attempts: int = 3) -> bool:
    """Whether the filter's exponent on small places is within its limit, in one of a few attempts:
    a disturbance is no growth, and growth is there every time."""
    for _ in range(attempts):
        curve = measure.curve(axis, PLACES[axis.name], LITTLE)
        if curve.exponent("ours") <= curve.limit():
            return True
    return False


@pytest.mark.parametrize("name", [name for name in PLACES if name != "fields-reversed"])
def test_growth_is_at_most_linear(name: str) -> None:
    """Twice as much of anything takes at most about twice the time."""
    assert is_at_most_linear(AXIS[name])


def test_order_of_members_costs_no_more_than_in_msgspec() -> None:
    """Members are looked up by msgspec from where the last one was, one name after the other, so
    an order which is not the schema's costs the square of the fields; the filter adds nothing. A
    machine that does other things meanwhile gets three attempts."""

    def adds_nothing() -> bool:
        curve = measure.curve(AXIS["fields-reversed"], PLACES["fields-reversed"], LITTLE)
        return curve.exponent("ours") < curve.exponent("bare")

    assert any(adds_nothing() for _ in range(3))


def test_growth_that_is_not_linear_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that goes through the whole event for each part of it is found out."""
    filtered = JOBS["ours"]

    def squared(case: Case) -> Job:
        job = filtered(case)

        def run() -> bytes:
            for event in case.events:
                for _ in range(0, len(event), 256):
                    event.count(b"{")
            return job()

        return run

    monkeypatch.setitem(JOBS, "ours", squared)
    assert not is_at_most_linear(AXIS["size-chat"], attempts=1)


def test_every_axis_is_tested_and_has_its_places() -> None:
    """No curve is forgotten here; places rise, and enough of them are left when every second one
    is taken."""
    assert list(PLACES) == [axis.name for axis in AXES]
    for axis in AXES:
        assert list(axis.places) == sorted(set(axis.places))
        assert len(axis.places) >= 6
        assert set(axis.jobs) <= set(JOBS)
    assert set(TITLES) == set(JOBS)


def test_exponent_and_cost_of_known_curves() -> None:
    """Powers are found again; medians ignore the outlier, and zero has no logarithm."""
    assert made_up(1).exponent("ours") == pytest.approx(1)
    assert made_up(2).exponent("ours") == pytest.approx(2)
    assert made_up(0, per_call=True).exponent("ours") == pytest.approx(0)
    assert made_up(1).per_unit("ours") == pytest.approx(3_000)
    assert made_up(1).limit() < made_up(2).exponent("ours")
    assert made_up(0.3, per_call=True).exponent("ours") > made_up(0, per_call=True).limit()
    assert slope([1, 2, 3], [5, 7, 9]) == pytest.approx(2)


def test_other_records_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that gives other records, or too few, is never timed."""
    fewer = {"bare": lambda _: lambda: b"{}\n", "orjson_projection": lambda _: lambda: b"{}\n" * 4}
    for name, make in fewer.items():
        with monkeypatch.context() as patch:
            patch.setitem(JOBS, name, make)
            with pytest.raises(BenchmarkError, match=f"{name} gives .*, lines at 4"):
                measure.curve(AXIS["lines"], [4], LITTLE)
