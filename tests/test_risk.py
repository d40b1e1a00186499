"""What identifies: figures as a plain count has them, of whatever is in a store."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.contracts import Batch
from collector.errors import ConfigError, DeliveryError
from collector.risk import GroupStats, Risk, risks
from collector.schema import Schema, load_schema
from collector.sinks.store import Store
from tests.support.database import query
from tests.support.make_schemas import sample

_FIELDS = {
    "client.address": "{kind: ip, ",
    "os.type": "{kind: enum, values: [linux, windows], ",
    "os.version": "{kind: version, parts: 3, ",
}
_ADDRESSES = ["192.0.2.1", "192.0.2.2", "192.0.3.1", "198.51.100.7", "2001:db8::1", "2001:db8:1::1"]
_VERSIONS = ["10", "10.1", "10.1.2", "10.1.3", "10.2", "11.0.1"]
Row = Mapping[str, Any]


def typed(**kinds: str) -> Schema:
    """A schema of an address, a system and a version."""
    return sample("".join(f"  {name}: {kind}REST}}\n" for name, kind in (_FIELDS | kinds).items()))


def look(folder: Path, schema: Schema, rows: list[Row]) -> Risk:
    """What is found of rows in a new store."""
    path = folder / "store.db"
    path.unlink(missing_ok=True)
    with Store(path, schema) as store:
        store.deliver(Batch(b"i" * 16, "2999-01-01T00:00:00Z", rows))
    (found,) = risks(path, [schema])
    return found


def one(address: str | None = None, version: str | None = None, count: int = 1) -> Row:
    """A row; what is ``None`` is not there."""
    row = {"client.address": address, "os.version": version, "count": count}
    return {key: value for key, value in row.items() if value is not None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for stores, one after the other."""
    return tmp_path_factory.mktemp("risk")


def _cut4(text: str) -> str:
    """The first 24 or 48 bits of the addresses above."""
    return {"2001:db8::1": "a", "2001:db8:1::1": "b"}.get(text, text.rpartition(".")[0])


def _events(rows: list[Row], key: Callable[[Row], object]) -> GroupStats:
    groups: Counter[object] = Counter()
    for row in rows:
        groups[key(row)] += row["count"]
    sizes = groups.values()
    return GroupStats(len(sizes), sum(sizes), min(sizes, default=0), sum(n == 1 for n in sizes))


def _people(rows: list[Row], key: Callable[[Row], object]) -> GroupStats:
    groups: dict[object, set[str]] = defaultdict(set)
    for row in rows:
        if "client.address" in row:
            groups[key(row)].add(row["client.address"])
    alone = {next(iter(group)) for group in groups.values() if len(group) == 1}
    sizes = list(map(len, groups.values()))
    return GroupStats(
        len(sizes), len(set().union(*groups.values())), min(sizes, default=0), len(alone)
    )


_rows = st.lists(
    st.builds(
        one,
        st.none() | st.sampled_from(_ADDRESSES),
        st.none() | st.sampled_from(_VERSIONS),
        st.integers(1, 3),
    ).filter(lambda row: len(row) > 1),
    max_size=12,
)


@given(_rows)
def test_figures_are_those_of_a_plain_count(folder: Path, rows: list[Row]) -> None:
    found = look(folder, typed(), rows)

    def address(row: Row) -> Any:
        return row.get("client.address")

    def version(row: Row, parts: int = 3) -> Any:
        return row["os.version"].split(".")[:parts] if "os.version" in row else None

    def key(*parts: object) -> bytes:
        return orjson.dumps(parts)

    assert found.events == _events(rows, lambda row: key(address(row), version(row)))
    assert found.people == _people(rows, lambda row: key(version(row)))
    changes = {(change.field, change.how): change for change in found.changes}
    parts = changes["os.version", "parts: 1"]
    assert parts.events == _events(rows, lambda row: key(address(row), version(row, 1)))
    assert parts.people == _people(rows, lambda row: key(version(row, 1)))
    dropped = changes["os.version", "dropped"]
    assert dropped.events == _events(rows, lambda row: key(address(row)))
    assert dropped.people == _people(rows, lambda row: key())
    whole = changes["client.address", "dropped"]
    assert whole.events == _events(rows, lambda row: key(version(row)))
    cut = changes["client.address", "truncate: {ipv4: 24, ipv6: 48}"]
    assert cut.events == _events(
        rows, lambda row: key(address(row) and _cut4(address(row)), version(row))
    )
    assert whole.people is cut.people is None


def test_the_options(folder: Path) -> None:
    """Each field may be dropped; addresses and versions may be coarser than they are."""
    found = look(folder, typed(), [])
    assert {(change.field, change.how) for change in found.changes} == {
        ("client.address", "dropped"),
        ("client.address", "truncate: {ipv4: 24, ipv6: 48}"),
        ("client.address", "truncate: {ipv4: 16, ipv6: 32}"),
        ("os.type", "dropped"),
        ("os.version", "dropped"),
        ("os.version", "parts: 2"),
        ("os.version", "parts: 1"),
    }
    assert found.by == "client.address"
    assert found.events == GroupStats(0, 0, 0, 0)


_EVERY = {
    "a": "{kind: time, precision: minute, within: ±7d, ",
    "b": "{kind: integer, minimum: 0, maximum: 99, step: 1, ",
    "c": "{kind: integer, minimum: 5, maximum: 500, step: 5, ",
    "d": "{kind: number, minimum: 0, maximum: 1, step: 0.1, ",
    "e": "{kind: ip, truncate: {ipv4: 20, ipv6: 128}, ",
}


def test_options_of_every_kind(folder: Path) -> None:
    rows: list[Row] = [
        {"a": "2020-01-02T03:04:00Z", "b": 17, "c": 55, "d": 0.7, "e": "192.0.0.0"},
        {"a": "2020-01-02T04:04:00Z", "b": 18, "c": 60, "d": 0.8, "e": "2001:db8::1"},
    ]
    found = look(folder, typed(**_EVERY), rows)
    options = {change.field: set[str]() for change in found.changes}
    for change in found.changes:
        options[change.field] |= {change.how} - {"dropped"}
    assert options | {"client.address": set(), "os.version": set()} == {
        **{name: set() for name in _FIELDS},
        "a": {"precision: hour", "precision: day"},
        "b": {"step: 10"},
        "c": set(),
        "d": {"step: 1.0"},
        "e": {"truncate: {ipv4: 20, ipv6: 48}", "truncate: {ipv4: 16, ipv6: 32}"},
    }
    for change in found.changes:
        if change.how != "dropped":
            kind = (_FIELDS | _EVERY)[change.field]
            option = change.how.partition(":")[0]
            kept = re.sub(rf"{option}: (\{{[^}}]*}}|[^,]*), ", "", kind)
            typed(**_EVERY | {change.field: f"{kept}{change.how}, "})
    alone = {(each.field, each.how): each.events.alone for each in found.changes}
    assert set(alone.values()) == {2}
    one_day: list[Row] = [{"a": row["a"]} for row in rows]
    found = look(folder, typed(**_EVERY), one_day)
    times = {each.how: each.events.alone for each in found.changes if each.field == "a"}
    assert times == {"dropped": 0, "precision: hour": 2, "precision: day": 0}


def test_what_tells_nobody_apart(folder: Path) -> None:
    """A truncated address is no person; a pseudonym is one."""
    cut = "{kind: ip, truncate: {ipv4: 24, ipv6: 48}, "
    found = look(folder, typed(**{"client.address": cut}), [one("192.0.2.0")])
    assert (found.by, found.people) == (None, None)
    assert "truncate: {ipv4: 24, ipv6: 48}" not in {change.how for change in found.changes}
    kinds = {"client.address": cut, "a": '{kind: pseudonym, key: "env:KEY", rotate: 7d, '}
    assert look(folder, typed(**kinds), [{"a": "x"}]).by == "a"


def test_what_helps_comes_first(folder: Path) -> None:
    """Three people whose versions differ in the last number only."""
    rows = [one(f"192.0.2.{n}", f"10.1.{n}", 5) for n in range(3)]
    found = look(folder, typed(), rows)
    assert found.people == GroupStats(3, 3, 1, 3)
    helpful = [(each.field, each.how) for each in found.changes if found.helped_by(each)]
    assert ("os.version", "parts: 2") in helpful
    assert ("os.type", "dropped") not in helpful
    assert [each.events.alone for each in found.changes] == sorted(
        each.events.alone for each in found.changes
    )


def test_tables_of_other_schemas(tmp_path: Path) -> None:
    """Their fields can be dropped, at least; and the store is as it was."""
    path = tmp_path / "store.db"
    with Store(path, load_schema("web")) as store:
        store.deliver(Batch(b"i" * 16, "2999-01-01T00:00:00Z", [{"os.type": "linux"}]))
    before = path.read_bytes()
    (found,) = risks(path, [load_schema("conferencing")])
    assert (found.table, found.by) == ("web", None)
    assert {change.how for change in found.changes} == {"dropped"}
    assert path.read_bytes() == before


def test_nobody_is_held_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, schema = tmp_path / "store.db", load_schema("conferencing")
    busy: list[int] = []

    def emptied(*_: object) -> GroupStats:
        with closing(sqlite3.connect(path, timeout=0)) as db:
            busy.append(db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        return GroupStats(0, 0, 0, 0)

    monkeypatch.setattr("collector.risk._events", emptied)
    with Store(path, schema) as store:
        store.deliver(Batch(b"i" * 16, "2999-01-01T00:00:00Z", [{"os.type": "linux"}]))
        risks(path, [schema])
    assert busy
    assert not any(busy)


def test_no_store(tmp_path: Path) -> None:
    """It is said; so is a file that is none, without what is in it."""
    path, schema = tmp_path / "store.db", load_schema("conferencing")
    with pytest.raises(ConfigError, match="E203"):
        risks(path, [schema])
    query(path, "CREATE TABLE conferencing (received TEXT, os TEXT)")
    with pytest.raises(DeliveryError, match="E501") as caught:
        risks(path, [schema])
    assert caught.value.__context__ is None
