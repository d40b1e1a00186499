"""The contenders: all there, all of one opinion, and whoever is not is never timed."""

from __future__ import annotations

import sys
from itertools import combinations

import pytest

from benchmarks import contenders, data, runner
from benchmarks.contenders import Contender, Outcome
from benchmarks.data import CORPORA
from benchmarks.results import BenchmarkError
from tests.conftest import required

IMPOSSIBLE = {"vrl"} if sys.version_info < (3, 12) else set()
"""What cannot be installed under this Python."""


def ready() -> list[Contender]:
    """The contenders that are here; where everything must be, none is missing."""
    found, skipped = contenders.load()
    if missing := {name: why for name, why in skipped.items() if name not in IMPOSSIBLE}:
        required("; ".join(missing.values()))
    assert [contender.name for contender in found] == [
        name for name in contenders.NAMES if name not in IMPOSSIBLE
    ]
    return found


def few(corpus: str) -> list[bytes]:
    return data.lines(corpus, 20 if CORPORA[corpus].bytes > 10_000 else 300)


@pytest.mark.parametrize("corpus", CORPORA)
def test_contenders_agree(corpus: str) -> None:
    """Every contender that takes part in a corpus makes the same of it."""
    taking, _ = runner.takers(corpus, ready())
    assert {"ours", "ours_documents", "ours_mappings"} < {each.name for each in taking}
    runner.agree(taking, few(corpus), CORPORA[corpus])


@pytest.mark.parametrize("name", ["ours", "ours_documents", "ours_mappings", "bare"])
def test_records_and_counts_are_compared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contender that gives other records, too few, or other counts, is never timed."""
    both, _ = contenders.load(["ours", name])
    check, lines = type(both[1]).check, data.lines("small", 10)
    other = {"received": 11}
    for wrong, message in (
        (lambda found: Outcome([{}] * 10, found.tally), f"{name} and ours"),
        (lambda found: Outcome(found.records[1:], found.tally), f"{name} gives 9 of 10"),
        (lambda found: Outcome(found.records, other), f"{name} counts"),
    ):
        monkeypatch.setattr(both[1], "check", lambda out, w=wrong: w(check(both[1], out)))
        with pytest.raises(BenchmarkError, match=message):
            runner.agree(both, lines, CORPORA["small"])


def test_counts_are_compared_where_nothing_is_admitted() -> None:
    """On the hostile corpus there are no records: the counts are what is compared, and they say
    that each field of each event was refused."""
    taking, others = runner.takers("hostile", contenders.load()[0])
    lines = few("hostile")
    runner.agree(taking, lines, CORPORA["hostile"])
    outcomes = [contender.check(contender.run()) for contender in taking]
    tallies = [outcome.tally for outcome in outcomes if outcome.tally is not None]
    assert len(tallies) == 3
    assert all(one == two for one, two in combinations(tallies, 2))
    assert all(sum(drops.values()) == len(lines) for drops in tallies[0]["dropped"].values())
    assert len(tallies[0]["dropped"]) == len(contenders.FIELDS)
    (names,) = others.values()
    assert "bare" in names


def test_whoever_knows_no_schema_is_left_out_of_its_corpus() -> None:
    """And it is said why."""
    taking, others = runner.takers("qos", contenders.load(["ours", "bare", "pydantic_models"])[0])
    assert [contender.name for contender in taking] == ["ours", "bare"]
    assert others == {"does not know the schema participants-qos": ["pydantic_models"]}


def test_times_are_per_event_of_a_document() -> None:
    """A document with twenty participants is twenty events."""
    effort = runner.Effort(rounds=2, warmups=1, payload=50_000, events=1, runs=1)
    result = runner.measure("qos", contenders.load(["ours"])[0], effort)
    assert result.events == 20 * (50_000 // CORPORA["qos"].bytes)
    assert 300 < result.bytes_per_event < 700


def test_own_thread_is_what_the_process_used() -> None:
    """The collector works on the thread that calls it; the two clocks agree about it."""
    effort = runner.Effort(rounds=7, warmups=1, payload=500_000, events=1, runs=1)
    result = runner.measure("small", contenders.load(["ours", "bare"])[0], effort)
    assert result.own_thread.keys() == {"ours", "bare"}
    assert all(0.97 < share <= 1.01 for share in result.own_thread.values())


def test_missing_dependency_is_skipped_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contender whose library is not there is left out, and it is said why."""

    def absent(_: str) -> object:
        raise ModuleNotFoundError("No module named 'fast'", name="fast")

    monkeypatch.setattr(contenders, "import_module", absent)
    assert contenders.load(["bare"]) == ([], {"bare": "fast is not installed"})


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="it can be had")
def test_what_cannot_be_here_is_skipped_with_its_reason() -> None:
    """A library that this Python is too old for is no missing one."""
    assert contenders.load(["vrl"]) == ([], {"vrl": "vector-vrl needs Python 3.12"})
