"""The arithmetic of many machines, and the simulation that checks it."""

from __future__ import annotations

from math import inf, isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scale import PIECES, Fault, Station, backlog, simulate, sizes, until_empty

_stations = st.lists(
    st.builds(
        Station,
        st.sampled_from("abcdef"),
        st.integers(1, 9),
        st.floats(1, 1000),
        st.one_of(st.just(inf), st.floats(1, 10_000)),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda station: station.name,
)
_faults = st.lists(
    st.builds(
        lambda station, begin, length, left: Fault(station, begin, begin + length, left),
        st.sampled_from(["", *"abcdef"]),
        st.floats(0, 60),
        st.floats(0, 60),
        st.floats(0, 9),
    ),
    max_size=3,
)


@given(_stations, _faults, st.floats(1, 10_000), st.integers(0, 9))
def test_events_are_conserved(
    stations: list[Station], faults: list[Fault], rate: float, seed: int
) -> None:
    """What arrived came through, waits, or is sent again; no queue has more than its room."""
    found = simulate(rate, stations, faults, 30, seed)
    assert isclose(found.arrived, found.through + found.left, rel_tol=1e-6, abs_tol=1e-3)
    for station in stations:
        assert found.peak[station.name] <= station.room * (1 + 1e-9)
    assert found == simulate(rate, stations, faults, 30, seed)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("left", [0, 1])
def test_arithmetic_is_what_a_simulation_finds(place: int, left: int) -> None:
    """Whichever station is faulty: what waits at most, and until when."""
    stations = [Station("a", 3, 1000.0), Station("b", 2, 1000.0)]
    fault = Fault(stations[place].name, 50, 150, left)
    found = simulate(1_500, stations, [fault], 1_000)
    waiting = backlog(1_500, left * 1000.0, 100)
    assert found.peak[fault.station] == pytest.approx(waiting, rel=0.02)
    # Behind both there are two thousand a second.
    assert found.empty - 150 == pytest.approx(until_empty(waiting, 1_500, 2_000), rel=0.1)


def test_what_arrives_beyond_the_rate_never_ends() -> None:
    assert until_empty(1, 2, 2) == inf
    assert backlog(1, 2, 9) == 0


@given(st.floats(1, 1e9))
def test_sizes_grow_with_the_rate(rate: float) -> None:
    """There are enough cores, and not one too many."""
    for piece, (name, cores, megabytes, terabytes) in zip(PIECES, sizes(rate), strict=True):
        assert name == piece.name
        needed = rate / piece.rate / 0.6
        assert needed <= cores * (1 + 1e-9) < needed + 1.001
        assert terabytes == pytest.approx(megabytes * 86_400 / 1e6)
