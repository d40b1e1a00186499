"""Settings of a PostgreSQL sink: addresses, secrets by reference, encryption, the extra."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.config import Loaded, examine
from collector.config.sink_types import sink_class
from collector.contracts import Batch, Layout, Row
from collector.errors import ConfigError, Unacceptable
from collector.schema import load_schema
from collector.sinks.postgres import PostgresSettings, PostgresSink
from collector.sinks.postgres.columns import (
    _ENCODERS,
    column_types,
    copied_order,
    encoded,
    value_fits,
)
from collector.sinks.sink import Opening
from tests.support.raising import raises

_SECRET = "hunter2"
_URL = "postgres://collector@db.example.com/telemetry"


def _settings(url: str, **more: object) -> PostgresSettings:
    values = {"type": "postgres", "url": url, "party": "first"} | more
    return PostgresSettings.model_validate(values)


def _loaded(tmp_path: Path, text: str) -> Loaded:
    (tmp_path / "collector.yaml").write_text(text)
    return examine(tmp_path / "collector.yaml", {})


def test_an_address_and_what_is_shown_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither user nor password is shown."""
    monkeypatch.setenv(
        "WAREHOUSE", f"postgres://us%20er:{_SECRET}@db.example.com:6432/tele%2Dmetry"
    )
    settings = _settings("env:WAREHOUSE")
    assert settings.place(Path()) == "postgres://db.example.com:6432/tele-metry/collector"
    shown = f"{settings!r} {settings} {settings.place(Path())} {' '.join(settings.beyond())}"
    assert _SECRET not in shown
    assert "us er" not in shown
    found = settings.parameters()
    assert (found["user"], found["password"], found["port"]) == ("us er", _SECRET, 6432)
    assert (found["sslmode"], found["sslrootcert"]) == ("verify-full", "system")


def test_a_password_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{_SECRET}\n")
    settings = _settings(_URL, password=f"file:{tmp_path / 'password'}", ca=tmp_path / "ca.pem")
    assert settings.parameters()["password"] == _SECRET
    assert settings.parameters()["sslrootcert"] == str(tmp_path / "ca.pem")


def test_what_is_no_address(tmp_path: Path) -> None:
    """No fault quotes any of it."""
    for url in [
        f"postgres://collector:{_SECRET}@db.example.com/telemetry",
        "postgres://db.example.com/telemetry",
        "postgres://collector@db.example.com",
        "postgres://collector@one,two/telemetry",
        "postgres://collector@db.example.com/telemetry?options=-csearch_path=x",
        "postgres://collector@db.example.com/telemetry?passfile=/etc/passwd",
        "postgres://collector@db.example.com/telemetry?sslmode=maybe",
        "postgres://collector@db.example.com:port/telemetry",
        "postgres://collector@db.example.com/a/b",
        "postgres://collector@/telemetry?host=relative",
        "mysql://collector@db.example.com/telemetry",
        "host=db.example.com",
        "",
    ]:
        text = f"sinks: {{warehouse: {{type: postgres, party: first, url: '{url}'}}}}"
        faults = _loaded(tmp_path, text).faults
        assert [fault.code for fault in faults if fault.field == "sinks.warehouse.url"] == ["E107"]
        assert _SECRET not in str(faults)


def test_a_sink_needs_a_party(tmp_path: Path) -> None:
    text = "sinks: {warehouse: {type: postgres, url: 'env:X'}}"
    assert [fault.code for fault in _loaded(tmp_path, text).faults] == ["E106"]


def test_encryption() -> None:
    """Another machine needs a verified name."""
    for url, mode in [
        ("postgres://c@localhost/t", "prefer"),
        ("postgres://c@127.0.0.1/t?sslmode=disable", "disable"),
        ("postgres://c@[::1]/t?sslmode=require", "require"),
        ("postgres://c@/t?host=/run/postgresql", "prefer"),
        ("postgres://c@db/t", "verify-full"),
        ("postgres://c@10.0.0.1/t?sslmode=verify-full", "verify-full"),
        ("postgres://c@db/t?sslmode=require", None),
        ("postgres://c@db/t?sslmode=verify-ca", None),
        ("postgres://c@10.0.0.1/t?sslmode=disable", None),
        ("postgres://c@[2001:db8::1]/t?sslmode=prefer", None),
    ]:
        if mode is None:
            with raises("E219", ConfigError):
                _settings(url).parameters()
        else:
            assert _settings(url).parameters()["sslmode"] == mode


def test_references_that_lead_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The matrix of flows shows the reference."""
    monkeypatch.delenv("NOWHERE", raising=False)
    monkeypatch.setenv("NONSENSE", f"{_SECRET} is no address")
    settings = _settings("env:NOWHERE")
    assert settings.place(Path()) == "env:NOWHERE, collector"
    with raises("E202", ConfigError):
        settings.parameters()
    with raises("E107", ConfigError) as caught:
        _settings("env:NONSENSE").parameters()
    assert _SECRET not in str(caught.value)


def test_without_psycopg(tmp_path: Path) -> None:
    opening = Opening("warehouse", (load_schema("conferencing"),), tmp_path)
    with (
        mock.patch("collector.extras.is_installed", return_value=False),
        raises("E201", ConfigError, match="postgres"),
    ):
        PostgresSink.check(_settings(_URL), opening)


def test_the_type_is_loaded_without_psycopg() -> None:
    found, settings = sink_class("postgres")
    assert (found, settings) == (PostgresSink, PostgresSettings)


# -- values ----------------------------------------------------------------------------------------

_SCHEMA = load_schema("conferencing")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("inet", ["203.0.113.7", "2001:db8::1"], ["203.0.113.7/8", "1.2.3", "fe80::1%eth0", 7]),
        ("timestamptz", ["2026-02-28T00:00:00Z"], ["2026-02-30T00:00:00Z", "now", "infinity"]),
        ("bigint", [0, True, -(1 << 63)], [1 << 63, 0.5, "1"]),
        ("boolean", [True, 0], [2, "t"]),
        ("double precision", [0.5, 7], [float("nan"), float("inf"), "0.5"]),
        ("text", ["", "a\tb", "é" * 128], ["a\0b", "a" * 257, "\ud800", 7]),
        ("jsonb", [], ["{}"]),
    ],
)
def test_values_of_columns(kind: str, good: list[object], bad: list[object]) -> None:
    """What a server would refuse, or take for something else, is refused before."""
    assert all(value_fits(each, kind) for each in good)
    assert not any(value_fits(each, kind) for each in bad)


def test_columns_have_the_types_of_their_kinds() -> None:
    assert column_types(_SCHEMA.layout, [_SCHEMA])["client.address"] == "inet"
    assert column_types(_SCHEMA.layout, [])["client.address"] == "text"


def test_a_minute_that_is_none() -> None:
    layout = _SCHEMA.layout
    rows: list[Row] = [(*[None] * len(layout.columns), 1)]
    types = [*column_types(layout, [_SCHEMA]).values()]
    batch = Batch(b"1", "2026-13-01T00:00:00Z", layout=layout, rows=lambda: rows)
    with raises("E511", Unacceptable):
        encoded(batch, layout, types)
    good = Batch(b"1", "2026-11-01T00:00:00Z", layout=layout, rows=lambda: rows)
    assert encoded(good, layout, types) == ["\\N\t" * len(types) + "1\t2026-11-01T00:00:00Z\n"]


@pytest.mark.parametrize(
    "addresses",
    [
        ["203.0.113.7", "203.0.113.8"],
        ["203.0.113.7", None],
        ["203.0.113.7", "2001:db8::1"],
        [None, None],
        ["203.0.113.7", "203.0.113.7"],
    ],
)
def test_columns_of_addresses(addresses: list[str | None]) -> None:
    assert _written(addresses) == [each or "\\N" for each in addresses]


@pytest.mark.parametrize(
    "address",
    ["203.0.113.256", "203.0.113.07", "203.0.113", "203.0.113.7\n203.0.113.8", "203.0.113.7\n", ""],
)
def test_an_address_among_others_that_is_none(address: str) -> None:
    """A line too many would be another row."""
    with raises("E511", Unacceptable):
        _written(["203.0.113.7", address, "203.0.113.9"])


def _written(addresses: list[str | None]) -> list[str]:
    """The first column of the lines of records with these addresses."""
    layout = _SCHEMA.layout
    rest = [None] * (len(layout.columns) - 1)
    rows: list[Row] = [(address, *rest, 1) for address in addresses]
    batch = Batch(b"1", "2026-11-01T00:00:00Z", layout=layout, rows=lambda: rows)
    lines = encoded(batch, layout, [*column_types(layout, [_SCHEMA]).values()])
    assert all(line.count("\n") == 1 for line in lines)
    return [line.split("\t")[0] for line in lines]


_VALUES: dict[str, st.SearchStrategy[object]] = {
    "inet": st.ip_addresses().map(str),
    "text": st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20),
    "bigint": st.integers(-(1 << 63), (1 << 63) - 1),
    "double precision": st.floats(allow_nan=False, allow_infinity=False).filter(bool),
    "boolean": st.booleans(),
    "timestamptz": st.just("2026-11-01T10:00:00Z"),
}


@given(st.data())
def test_lines_have_the_values_of_their_rows(data: st.DataObject) -> None:
    """Rows may be alike or not; columns are in the order in which they are copied."""
    types = data.draw(st.lists(st.sampled_from(sorted(_VALUES)), min_size=1, max_size=5))
    columns = [
        st.sampled_from(data.draw(st.lists(st.none() | _VALUES[kind], min_size=1, max_size=3)))
        for kind in types
    ]
    rows: list[Row] = data.draw(
        st.lists(st.tuples(*columns, st.integers(1, 3)), min_size=1, max_size=8)
    )
    named = tuple((f"c{at}", "TEXT") for at in range(len(types)))
    layout = Layout("a/1.0.0", "0" * 64, "a", named)
    batch = Batch(b"1", "2026-11-01T00:00:00Z", layout=layout, rows=lambda: rows)
    expected = []
    for row in rows:
        written = [
            "\\N" if row[at] is None else _ENCODERS[types[at]](row[at])
            for at in copied_order(types)
        ]
        expected.append("\t".join([*written, str(row[-1]), "2026-11-01T00:00:00Z\n"]))
    assert encoded(batch, layout, types) == expected
