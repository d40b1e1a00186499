"""The benchmark of leaks: what is sent is found, and what is planted fails."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.__main__ import main
from benchmarks.figures import BenchmarkError
from benchmarks.leaks import channels, contenders, measure
from benchmarks.leaks.attacks import (
    ENCODINGS,
    PAYLOADS,
    SLOTS,
    STEMS,
    attacks,
    clean,
    ordered,
    rank,
)
from benchmarks.leaks.events import CANONICAL, SHAPES, export, spec, write
from benchmarks.leaks.places import PLACES, channel_of
from benchmarks.leaks.search import normal, readings, search
from benchmarks.leaks.sidecar import running
from benchmarks.leaks.spelling import Delivered, Record, Speller, event, spelled, values_of
from benchmarks.leaks.sweep import Sweep, attack_sidecar
from collector import Filter, Schema, load_schema
from collector.schema import resources
from collector.schema.model import record_bits
from tests.support.processes import command

_SHIPPED = resources.names()
_FAULTY = """
from collector.schema.kinds.version import VersionField

VersionField.canonical = lambda self, circumstances: lambda text: text
VersionField.column_check = lambda self, first, last: lambda values: True
"""
_UNSPLIT = """
from collector.filter import sdk_records

sdk_records._powers_of_two = lambda times: [times]
"""
_TALKATIVE = """
import sys
import tempfile
from pathlib import Path

print("one more line", file=sys.stderr, flush=True)
Path("data").mkdir(mode=0o700)
Path("data/seen").write_text("more")
Path("seen").write_text("more")
Path(tempfile.gettempdir(), "seen").write_text("more")

from collector import cli

cli.main()
"""


def _command(folder: Path, before: str) -> list[str]:
    """The command of a sidecar all of whose processes run code first."""
    *python, program, serve = command(folder, before)
    return [*python, f"{before}\n{program}", serve]


def test_what_is_sent_is_found() -> None:
    """Every class of payload in every slot and encoding is found in what is sent; what one attack
    sends is not found for another."""
    made = list(attacks(1, 1, 3))
    assert {each.cell.slot for each in made} == {each.name for each in SLOTS}
    assert {each.cell.encoding for each in made} == {each.name for each in ENCODINGS}
    assert {each.cell.payload for each in made} == {each.name for each in PAYLOADS}
    missed = [each.cell for each in made if not search(each.payload, each.texts).leaks]
    assert missed == []
    assert not any(
        search(each.payload, other.texts).mark
        for each, other in pairwise(made)
        if each.payload.mark != other.payload.mark
    )


def test_clean_events_hold_no_payload() -> None:
    stems = {normal(stem) for stem in STEMS}
    for shape in SHAPES.values():
        for text, listed in islice(clean(shape, 1), 30):
            assert not any(stem in reading for reading in readings(text) for stem in stems)
            assert all(each.canonical in CANONICAL[each.field] for each in listed)


@given(st.integers(0, 1 << 900))
def test_an_order_is_a_number(number: int) -> None:
    """Each number has an order of its own; things that are missing or there twice spell nothing."""
    order = ordered(number)
    assert rank(order) == number
    assert rank([*order, order[0]]) is rank([at + 1 for at in order]) is None


def test_records_in_an_order_are_found() -> None:
    """The order of records and of members, and only in that order."""
    made = [each for each in attacks(3, 1) if each.cell.slot == "ordering"]
    assert {len(each.bodies) > 1 for each in made} == {True, False}
    for each in made:
        assert search(each.payload, each.texts).mark
        if len(each.bodies) > 1:
            backwards = replace(each, bodies=each.bodies[::-1])
            assert not search(each.payload, backwards.texts).leaks


def test_protobuf_is_what_json_says() -> None:
    """Each shape of OTLP, with payloads in every slot, gives the same records in both encodings."""
    filter_ = Filter(load_schema("conferencing"))
    for each in attacks(1, 1, 11):
        shape = SHAPES[each.cell.shape]
        if shape.signal is not None:
            body = export(shape.wrap(each.bodies))
            found = [
                filter_.admit_otlp(shape.signal, sent, protobuf=sent is body).encode()
                for sent in (body, write(shape.wrap(each.bodies)).encode())
            ]
            assert found[0] == found[1]


@pytest.mark.parametrize("name", _SHIPPED)
def test_values_are_counted_alike_twice(name: str) -> None:
    """The benchmark's count of a field's values is the package's; first and last are values."""
    schema = load_schema(name)
    for field, values in values_of(schema).items():
        assert values.size == schema.fields[field].size()
        some = [values.nth(at) for at in (0, values.size // 2, values.size - 1)]
        assert len(set(some)) == len(some)
        assert all(values.has(text) for text in some)
    assert Speller(values_of(schema)).bits == pytest.approx(record_bits(schema))


def _through(schema: Schema, other: Schema) -> Delivered:
    def send(records: Sequence[Record]) -> list[Record]:
        lines = "\n".join(event(schema, records)).encode()
        found = Filter(other).admit_lines(lines).records
        return [{n: str(v) for n, v in each.items() if n != "schema"} for each in found]

    return spelled(schema, record_bits(schema), send, 200, random.Random(1))


def _altered(folder: Path, before: str, after: str) -> Schema:
    text = (resources.shipped() / "conferencing-strict.yaml").read_text(encoding="utf-8")
    assert before in text
    path = folder / "conferencing-strict.yaml"
    text = text.partition("tests:")[0].replace("max_bits: 110", "max_bits: 140")
    path.write_text(text.replace(before, after), encoding="utf-8")
    return load_schema(path)


def test_a_schema_delivers_what_it_states(tmp_path: Path) -> None:
    """All of it; more where the filter admits more than was counted, less where it admits less."""
    schema = load_schema("conferencing-strict")
    found = _through(schema, schema)
    assert (found.beyond, found.left_out, round(found.share, 6)) == (0, (), 1)
    wide = _altered(tmp_path, "maximum: [99, 99]", "maximum: [999, 99]")
    assert _through(schema, wide).beyond > 0
    narrow = _altered(tmp_path, "maximum: [99, 99]", "maximum: [9, 99]")
    found = _through(schema, narrow)
    assert found.left_out == ("os.version",)
    assert found.share < 0.95


def _swept(folder: Path, schema: str, run: Sequence[str] = (), number: int = 600) -> Sweep:
    found = Sweep()
    attack_sidecar(folder, schema, number, rng=random.Random(3), found=found, command=run)
    return found


def test_no_attack_comes_through(tmp_path: Path) -> None:
    """Over every way in, and looked for everywhere."""
    found = _swept(tmp_path, "conferencing")
    assert not found.leaks
    assert sum(found.attacks.values()) == 600
    assert {"spool", "store", "ndjson"} <= {place for place, n in found.records.items() if n > 50}


def test_a_schema_that_is_too_wide_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pattern that card numbers match: in spool, store and files, by value and by bytes."""
    monkeypatch.setattr("benchmarks.leaks.sweep._HELD", 3_000)
    text = (resources.shipped() / "conferencing.yaml").read_text(encoding="utf-8")
    start = text.index('    pattern: "[0-9]{2}[A-Z]')
    end = text.index("    max_length: 18")
    path = tmp_path / "conferencing.yaml"
    planted = f"{text[:start]}    pattern: '4539[0-9]{{12}}'\n{text[end:]}".partition("tests:")[0]
    path.write_text(planted, encoding="utf-8")
    leaks = _swept(tmp_path / "run", str(path), number=3_000).leaks
    places = ("spool", "store", "ndjson")
    assert {f"{place}: os.build_id" for place in places} <= set(leaks)
    assert {"spool.db, plain", "store.db, plain", "records.ndjson, plain"} & set(leaks)


def test_a_filter_that_is_patched_is_found(tmp_path: Path) -> None:
    """A kind that admits any text."""
    (program := tmp_path / "program").mkdir()
    leaks = _swept(tmp_path / "run", "conferencing", _command(program, _FAULTY)).leaks
    assert {f"{place}: os.version" for place in ("spool", "store", "ndjson")} <= set(leaks)


def test_a_channel_without_a_name_is_found() -> None:
    """A line of the log and files that no channel names, anywhere; as it is, each place has one."""
    found = channels.unnamed(random.Random(1), [sys.executable, "-c", _TALKATIVE, "serve"])
    places = ("file:data/seen", "file:seen", "file:temporary/seen", "log:none.text")
    assert {f"{place} belongs to no channel" for place in places} == set(found)
    assert {name for name in PLACES if name not in ("record", "random", "constant", "machine")} <= {
        channel.name for channel in channels.CHANNELS
    }
    assert channel_of("spool:receipts.sequence") == "requests"
    assert channel_of("spool:receipts.mood") is None
    assert channel_of("metric:collector_request_duration_seconds_sum") == "durations"


@pytest.mark.parametrize("channel", channels.CHANNELS, ids=lambda channel: channel.name)
def test_channels_carry_what_is_said(channel: channels.Channel, tmp_path: Path) -> None:
    """No more than is offered, and nothing where nothing may be left."""
    if channel.name in ("clock", "moment"):
        pytest.skip("it waits for a time to come; `python -m benchmarks leaks` measures it")
    found = channels.of_channel(channel, tmp_path, random.Random(2))
    if found is None:
        pytest.skip("PostgreSQL is not installed")
    offered, delivered = found
    expected = 0.0 if channel.ceiling.startswith("none") else offered
    assert delivered == pytest.approx(expected, rel=0.01)  # a minute may end meanwhile


def test_a_value_that_was_not_counted_has_no_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count that is no power of two fails, whatever else is read."""
    (program := tmp_path / "program").mkdir()
    (channel,) = (each for each in channels.CHANNELS if each.name == "count")
    with running(tmp_path / "run", "conferencing", _command(program, _UNSPLIT)) as sidecar:
        offered, delivered = channel.measure(sidecar, random.Random(2))
    assert delivered > offered


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables, JSON, a chart, a page; contenders that are not there are named, and not counted."""
    few = measure.Effort(step=41, clean=2, personal=5, messages=100, sweep=300)
    monkeypatch.setattr(measure, "QUICK", few)
    page, told, drawn = tmp_path / "PAGE.md", tmp_path / "figures.json", tmp_path / "chart.svg"
    page.write_text("<!-- leaks:begin -->\nold\n<!-- leaks:end -->\n")
    files = ["--json", str(told), "--markdown", str(page), "--chart", str(drawn)]
    assert main(["leaks", "--quick", "--check", "--only", "contenders", *files]) == 0
    figures = json.loads(told.read_text())
    by_name = {(each["title"], each["variant"]): each for each in figures["results"]}
    ours, other = by_name["Collector", "documented"], by_name["pydantic models", "documented"]
    assert ours["leaks"] == 0 < other["leaks"]
    assert ours["utility"] == 1
    assert ours["bits"] <= record_bits(load_schema("conferencing")) + 1e-6
    assert (ours["is_free"], other["is_free"]) == (False, True)
    assert other["bits"] > 10 * ours["bits"] > 2_000
    assert by_name["pydantic models", "strongest"]["leaks"] == 0
    assert "Presidio, patterns" in figures["skipped"]
    assert all(each["title"] not in figures["skipped"] for each in figures["results"])
    assert "| Collector, documented | 0 | 0 | 0 | 100 |" in page.read_text()
    assert drawn.read_text().startswith("<svg ")
    assert "skipped: Presidio" in capsys.readouterr().out


def test_a_contender_that_is_not_there_has_no_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says why; one that fails raises."""
    monkeypatch.setattr(contenders, "BUILT", tmp_path / "nothing")
    presidio = contenders.CONTENDERS[-1]
    found = contenders.run(presidio, "documented", spec(), [("meeting", "{}")])
    assert found == "presidio-analyzer is not installed (`benchmarks leaks --build` does)"
    with pytest.raises(BenchmarkError, match="Collector, documented: KeyError"):
        contenders.run(contenders.CONTENDERS[0], "documented", {}, [("no shape", "{}")])


def test_lists_for_others_are_those_of_the_schemas() -> None:
    """No contender knows less than Collector: every clean value is one that it may have."""
    fields = spec()
    for shape in SHAPES.values():
        for _, listed in islice(clean(shape, 2), 20):
            for one in listed:
                known = fields[shape.name][one.field].get("values")
                assert known is None or one.written in known
