"""The contenders: all there; one that disagrees with the others is never timed."""

from __future__ import annotations

import sys

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
        required(f"what {', '.join(missing)} need")
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


def test_a_contender_without_the_schema_is_left_out_of_its_corpus() -> None:
    """And it is said why."""
    taking, others = runner.takers("qos", contenders.load(["ours", "bare", "pydantic_models"])[0])
    assert [contender.name for contender in taking] == ["ours", "bare"]
    assert others == {"does not know the schema participants-qos": ["pydantic_models"]}


@pytest.mark.parametrize(("corpus", "payloads"), [("small", 1), ("strangers", 4)])
def test_fresh_lines_are_seen_once(
    corpus: str, payloads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers are other ones in every round; elsewhere a payload serves for all of them."""
    (contender,), _ = contenders.load(["ours"])
    prepare, seen = contender.prepare, []

    def watched(lines: list[bytes], schema: str) -> None:
        seen.append(lines)
        prepare(lines, schema)

    monkeypatch.setattr(contender, "prepare", watched)
    runner.measure(corpus, [contender], runner.Effort(3, 1, 20_000, 1, 1))
    assert len(seen) == payloads
    drawn = [line for lines in seen for line in lines]
    assert len(set(drawn)) == len(drawn)


def test_own_thread_is_what_the_process_used() -> None:
    """The collector works on the thread that calls it; the two clocks agree about it."""
    effort = runner.Effort(rounds=7, warmups=1, payload=500_000, events=1, runs=1)
    result = runner.measure("small", contenders.load(["ours", "bare"])[0], effort)
    assert result.own_thread.keys() == {"ours", "bare"}
    assert all(0.97 < share <= 1.01 for share in result.own_thread.values())


GOOD = b'{"client": {"address": "203.0.113.7"}, "device": {"type": "phone"}, "os": {"type": "ios"}}'
BAD_VALUE = GOOD.replace(b"ios", b"call me at nine")
ALIAS = GOOD.replace(b"phone", b"iPhone")
BAD_LINE = GOOD[:40]


def made_of(contender: Contender, *lines: bytes) -> list[dict[str, object]] | None:
    """The records of some lines; ``None`` if the contender cannot do them at all."""
    try:
        contender.prepare(list(lines), "conferencing")
        return contender.check(contender.run()).records
    except Exception:  # noqa: BLE001 - each engine has its own
        return None


@pytest.mark.parametrize("name", contenders.NAMES)
def test_no_contender_is_said_to_do_less_than_it_does(name: str) -> None:
    """Nor more: what stands in the column is tried."""
    found = {contender.name: contender for contender in ready()}
    if name in IMPOSSIBLE:
        pytest.skip("cannot be had under this Python")
    contender = found[name]
    does_not = set(contender.does_not.replace(";", ",").split(", "))
    (good,) = made_of(contender, GOOD) or [{}]
    assert len(good) == 4
    output = contender.run()
    without_os = {key: value for key, value in good.items() if key != "os.type"}
    checked = [] if "a bad value costs the event" in does_not else [without_os]
    assert (made_of(contender, BAD_VALUE) == checked) == ("check" not in does_not)
    assert (made_of(contender, ALIAS) == [good]) == ("alias" not in does_not)
    assert (b"null" in output) == ("leave nulls out" in does_not)
    assert (b"client.address" not in output) == ("flatten" in does_not)
    assert (contender.check(output).tally is None) == ("count" in does_not)
    if "parse" not in does_not:
        skips = made_of(contender, GOOD, BAD_LINE, GOOD) == [good, good]
        assert skips == ("skip bad lines" not in does_not)


def test_missing_dependency_is_skipped_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contender whose library is not there is left out, and it is said why."""

    def absent(_: str) -> object:
        raise ModuleNotFoundError("No module named 'fast'", name="fast")

    monkeypatch.setattr(contenders, "import_module", absent)
    assert contenders.load(["bare"]) == ([], {"bare": "fast is not installed"})
