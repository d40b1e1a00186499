"""The corpora: seeded, of the size they say, and with in them what they say."""

from __future__ import annotations

import json

import pytest

from benchmarks import data
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


@pytest.mark.parametrize(("corpus", "number"), [("small", 4_000), ("strangers", 3_000)])
def test_most_values_are_new(corpus: str, number: int) -> None:
    """Addresses hardly repeat and about 15 % are IPv6, so that no memo helps; of strangers,
    who are admitted whole, neither do versions and models."""
    records, tally = filtered(corpus, number)
    addresses = [str(record["client.address"]) for record in records]
    assert len(set(addresses)) > 0.98 * number
    assert 0.12 < sum(":" in address for address in addresses) / number < 0.18
    if corpus == "strangers":
        assert not tally.dropped
        for name in ("os.version", "os.build_id", "device.model.identifier"):
            assert len({record[name] for record in records}) > 0.98 * number, name


def test_heartbeats_come_from_few_clients() -> None:
    """The fleet is 500 clients, each always with the same record, so that a memo helps."""
    records, tally = filtered("fleet", 5_000)
    assert not tally.dropped
    assert 490 <= len({str(record["client.address"]) for record in records}) <= 500
    assert len({tuple(record.items()) for record in records}) <= 500
