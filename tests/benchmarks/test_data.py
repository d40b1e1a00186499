"""The corpora: seeded, of the size they say, and with in them what they say."""

from __future__ import annotations

import json
import random

import pytest

from benchmarks import data, fleet
from benchmarks.data import CORPORA
from collector import Filter, Tally, load_schema
from collector.contracts import Record


def filtered(corpus: str, number: int) -> tuple[list[Record], Tally]:
    """The records and counts of a corpus under its schema."""
    filter_ = Filter(load_schema(CORPORA[corpus].schema))
    admission = filter_.admit_lines(b"\n".join(data.stream(corpus, number)))
    return admission.records, admission.tally


@pytest.mark.parametrize("corpus", CORPORA)
def test_corpora_are_seeded_and_of_their_size(corpus: str) -> None:
    """One seed gives one corpus, of the size and number it says, with content where it says so."""
    lines, about = data.lines(corpus, 100), CORPORA[corpus]
    assert lines == data.lines(corpus, 100)
    assert lines != data.lines(corpus, 100, seed=1)
    assert lines[:10] == data.lines(corpus, 10)
    assert sum(map(len, lines)) / 100 == pytest.approx(about.bytes, rel=0.04)
    records, tally = filtered(corpus, 100)
    assert tally.received == 100 * about.events
    assert len(records) == 100 * about.records
    expected = {
        "large": {"audio", "chat", "transcript"},
        "medium": {"chat", "transcript"},
        "non_ascii": {"chat", "transcript"},
        "hostile": {"chat"},
    }
    assert set(tally.content) == expected.get(corpus, set())
    assert all(line.isascii() for line in lines) == (corpus not in ("non_ascii", "hostile"))


@pytest.mark.parametrize("corpus", ["small", "strangers"])
def test_addresses_hardly_repeat(corpus: str) -> None:
    """Addresses are of high cardinality and about 15 % IPv6, so that no memo helps anybody."""
    addresses = [str(record["client.address"]) for record in filtered(corpus, 4_000)[0]]
    assert len(set(addresses)) > 0.98 * len(addresses)
    assert 0.12 < sum(":" in address for address in addresses) / len(addresses) < 0.18


def test_heartbeats_come_from_few_clients() -> None:
    """The fleet is 500 clients, each always with the same record: whoever remembers has it easy."""
    records, tally = filtered("fleet", 5_000)
    assert not tally.dropped
    assert 490 <= len({str(record["client.address"]) for record in records}) <= 500
    assert len({tuple(record.items()) for record in records}) <= 500


def test_strangers_are_strange() -> None:
    """Each is admitted whole, and hardly a version or a model repeats."""
    records, tally = filtered("strangers", 3_000)
    assert not tally.dropped
    assert {len(record) for record in records} == {10}
    for name in ("os.version", "os.build_id", "device.model.identifier"):
        assert len({record[name] for record in records}) > 0.98 * len(records), name
    assert len({record["device.model.name"] for record in records}) > 1_000


def test_hostile_events_are_refused_for_every_reason() -> None:
    """Every field of every event is refused, about half of them for their type; there are keys
    twice, of which the first one holds a value that would have been admitted."""
    _, tally = filtered("hostile", 400)
    assert dict(tally.rejected) == {"nothing_admitted": 400}
    for reasons in tally.dropped.values():
        assert sum(reasons.values()) == 400
        assert all(reasons[reason] > 100 for reason in ("invalid_value", "wrong_type"))

    def first_wins(pairs: list[tuple[str, object]]) -> dict[str, object]:
        return dict(reversed(pairs))

    filter_ = Filter(load_schema("conferencing"))
    for line in data.lines("hostile", 50):
        first = json.loads(line, object_pairs_hook=first_wins)
        assert len(filter_.admit(first).records) == 1


def test_fleet_is_a_few_hundred_admitted_machines() -> None:
    """Every machine is admitted as it is spelled, without a dropped field."""
    filter_ = Filter(load_schema("conferencing"))
    for each in fleet.MACHINES:
        assert not filter_.admit({"device": each.device, "os": each.os}).tally.dropped
    assert 200 <= len(fleet.MACHINES) <= 500
    assert fleet.machine(random.Random(1)) in fleet.MACHINES
