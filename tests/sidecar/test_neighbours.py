"""In a store full of meetings, the order of rows does not tell who met whom.

Each meeting comes as one request, which is the worst case. Each participant has their own address,
from which only the test knows the meeting.
"""

from __future__ import annotations

import json
import random
import sys
from itertools import pairwise
from math import sqrt
from pathlib import Path

import pytest

from tests.support.database import query
from tests.support.delivery import delivered
from tests.support.sidecar import started

pytestmark = pytest.mark.long

_MEETINGS, _PEOPLE = 150, 8
_SIGMAS = 6
_IN_ORDER = """
import itertools
from collector import cli
from collector.sinks import store_file

counted = itertools.count(1)
store_file.random_keys = lambda number: [next(counted) << 20 for _ in range(number)]
cli.main()
"""
_TOGETHER = """
import itertools
from collector import cli
from collector.sinks import store_file

counted, keys = itertools.count(1), store_file.random_keys

def together(number):
    base = next(counted) << 24
    return [base | key & 0xFFFFFF for key in keys(number)]

store_file.random_keys = together
cli.main()
"""


def _addresses() -> list[str]:
    """Addresses of one length, none contained in another."""
    numbers = random.sample(range(0x1000, 0x10000), _MEETINGS * _PEOPLE)
    return [f"2001:db8::{number:04x}" for number in numbers]


def _filled(folder: Path, addresses: list[str], program: str | None = None) -> Path:
    """Fill a store with all meetings."""
    command = [sys.executable, "-c", program, "serve"] if program else None
    environ = {"COLLECTOR__DATA": str(folder / "data")}
    with started(folder, environ=environ, command=command) as sidecar:
        for at in range(0, len(addresses), _PEOPLE):
            people = [{"ip": address} for address in addresses[at : at + _PEOPLE]]
            answer = sidecar.send(json.dumps(people).encode(), "application/json")
            assert answer.json["admitted"] == _PEOPLE
        delivered(sidecar)
        sidecar.stop()
    return folder / "data" / "store.db"


def _bytes(store: Path, addresses: list[str]) -> list[str]:
    """Return the addresses in the order of the file's bytes."""
    data = store.read_bytes()
    assert all(data.count(address.encode()) == 1 for address in addresses)
    return sorted(addresses, key=lambda address: data.find(address.encode()))


def _rows(store: Path) -> list[str]:
    return [row[0] for row in query(store, 'SELECT "client.address" FROM conferencing')]


def _meet(order: list[str], addresses: list[str]) -> float:
    """Return how many standard deviations more neighbours have met than by chance."""
    meeting = {address: at // _PEOPLE for at, address in enumerate(addresses)}
    met = sum(meeting[one] == meeting[other] for one, other in pairwise(order))
    return (met - (_PEOPLE - 1)) / sqrt(_PEOPLE - 1)


def test_neighbours_met_as_often_as_chance_wants(tmp_path: Path) -> None:
    """In the order of a query, which is that of ``rowid``, and in the order of the bytes."""
    addresses = _addresses()
    store = _filled(tmp_path, addresses)
    order = _rows(store)
    assert sorted(order) == sorted(addresses)
    assert abs(_meet(order, addresses)) < _SIGMAS
    assert abs(_meet(_bytes(store, addresses), addresses)) < _SIGMAS
    assert _meet(addresses, addresses) > 100


@pytest.mark.parametrize("program", [_IN_ORDER, _TOGETHER], ids=["in-order", "batch-by-batch"])
def test_without_the_mixing_they_would_tell(program: str, tmp_path: Path) -> None:
    """Rows in order of arrival, and rows shuffled only within their request: the test detects
    both."""
    addresses = _addresses()
    assert _meet(_rows(_filled(tmp_path, addresses, program)), addresses) > 100
