"""Names, versions, durations, dates, windows: what is written, what it means, what is refused."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from collector.schema import scalars
from tests.support.programs import script
from tests.support.rows import for_each


def _read(of: Any, value: object) -> Any:
    """The value, or the code of its fault."""
    try:
        return TypeAdapter(of).validate_python(value, strict=True)
    except ValidationError as error:
        return error.errors()[0]["type"]


_EIGHT, _NINE = ".".join("abcdefgh"), ".".join("abcdefghi")


@for_each(
    ("of", "texts"),
    [
        (scalars.Name, ["a", "a1", "os-names", "a_b-c", "x" * 64]),
        (scalars.FieldName, ["ip", "os.type", "a_b.c_d", "a.1", _EIGHT, "count_"]),
        (scalars.Version, ["0.0.0", "1.2.3", "10.20.999999"]),
        (scalars.Path, ["a", "a.b", "a b.c-d", '"é"', 'a."é.b"[0]', "a.0.b", "$x", "x" * 256]),
        (scalars.Path, [_EIGHT]),
        (scalars.Reason, ["why"]),
    ],
)
def test_what_is_taken(of: Any, texts: list[str]) -> None:
    assert [_read(of, text) for text in texts] == texts


@for_each(
    ("of", "texts"),
    [
        (scalars.Name, ["", "A", "1a", "a-", "-a", "a--b", "a b", "a.b", "é", "a\n", "x" * 65]),
        (scalars.Name, ["../a", "a\0"]),
        (scalars.Catalogue, ["", "A", "-a", "a b", "a.b", "é", "a\n", "x" * 65, "../a", "a\0"]),
        (scalars.FieldName, ["", "A", "a..b", ".a", "a.", "a-b", _NINE, "x" * 65, "a b", "a\n"]),
        (scalars.FieldName, ["1a", "schema", "received", "count"]),
        (scalars.Version, ["", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-rc1", "v1.0.0", "1.0.0 "]),
        (scalars.Version, ["1.0.1000000", "١.0.0"]),
        (scalars.Path, ["", ".", "a.", ".a", "a..b", "é", "a.体温", "a\nb", "a\0", "x" * 257]),
        (scalars.Path, [_NINE, 'a"b', 'a"b.c"', "a\\b", '"a\\b"']),
        (scalars.Reason, ["...", "", "ab"]),
        (scalars.RecordsPath, ["[]", "a[][]", "a[].*", "a[][0]", "a[]..b", "*[]", "a.*.b"]),
        (scalars.Duration, ["", "30", "d", "0d", "-1d", "1.5d", "30 d", "30D", "5m", "101y", 30]),
        (scalars.Duration, ["01d", "1d\n", "٣d", "1000000h", "9999999d", "1h30m", True, ["1d"]]),
        (scalars.Duration, [None]),
        (scalars.Period, ["1y", "10s", "0m", "1"]),
        (scalars.Window, ["7", "+7d", "-7d", "±0d", "±7y", "± 7d", "±7.5h", "±100000w", 7, None]),
        (scalars.Day, ["2026-1-1", "20260101", "2026-W01-1", "2026-02-30", "0000-01-01", ""]),
        (scalars.Day, ["2026-01-01T00", "tomorrow", "２０２６-01-01", "2026-01-01\n", 20260101]),
        (scalars.Day, [None]),
    ],
)
def test_what_is_refused(of: Any, texts: list[object]) -> None:
    assert {_read(of, text) for text in texts} == {"E107"}


@for_each(
    ("of", "text", "meaning"),
    [
        (scalars.Duration, "12h", timedelta(hours=12)),
        (scalars.Duration, "30d", timedelta(days=30)),
        (scalars.Duration, "2w", timedelta(weeks=2)),
        (scalars.Duration, "100y", timedelta(days=36500)),
        (scalars.Period, "5m", timedelta(minutes=5)),
        (scalars.Period, "4w", timedelta(weeks=4)),
        (scalars.Window, "±7d", timedelta(days=7)),
        (scalars.Window, "90s", timedelta(seconds=90)),
        (scalars.Window, "±99999w", timedelta(weeks=99999)),
        (scalars.Day, "2028-02-29", date(2028, 2, 29)),
    ],
)
def test_spans(of: Any, text: str, meaning: object) -> None:
    """A year is 365 days."""
    assert _read(of, text) == meaning


@given(st.integers(1, 36500 * 24))
def test_durations_are_written_as_they_are_read(hours: int) -> None:
    """Digests are stable because of it."""
    span = timedelta(hours=hours)
    adapter: TypeAdapter[timedelta] = TypeAdapter(scalars.Duration)
    assert adapter.validate_python(adapter.dump_python(span)) == span
    assert adapter.validate_python(span) is span


def test_equal_durations_are_written_alike() -> None:
    adapter: TypeAdapter[timedelta] = TypeAdapter(scalars.Duration)
    for text in ("365d", "8760h"):
        assert adapter.dump_python(adapter.validate_python(text)) == "365d"


@for_each(
    ("path", "keys", "is_exact", "spoken"),
    [
        ("a.b", ("a", "b"), False, "a.b"),
        ("[2].a", (2, "a"), False, "[2].a"),
        ('a."b.c"[0]', ("a", "b.c", 0), True, "a.b.c[0]"),
        ('"a.b"', ("a.b",), True, "a.b"),
        ('"email."', ("email.",), True, "email"),
        ('"[0]"', ("[0]",), True, "[0]"),
        ("a[0][12].b", ("a", 0, 12, "b"), True, "a[0][12].b"),
        ("[1][0]", (1, 0), True, "[1][0]"),
        ("a[0]b", ("a[0]b",), False, "a[0]b"),
    ],
)
def test_keys_of_paths(path: str, keys: tuple[object, ...], is_exact: bool, spoken: str) -> None:
    assert _read(scalars.Path, path) == path
    found = scalars.keys(path)
    assert found == keys
    assert scalars.is_exact(path) == is_exact
    assert scalars.spoken(path) == spoken


@for_each(
    ("way", "levels"),
    [
        ("a.b", ("a.b",)),
        ("a[].b[]", ("a", "b")),
        ('a."b[].c"[].d.*', ('a."b[].c"', "d.*")),
        ("[1][].r", ("[1]", "r")),
        (".", (".",)),
    ],
)
def test_levels_of_ways(way: str, levels: tuple[str, ...]) -> None:
    assert _read(scalars.RecordsPath, way) == way
    assert scalars.levels(way) == levels


def test_threads_that_need_the_same_models_at_once() -> None:
    script(
        """
        import sys
        from concurrent.futures import ThreadPoolExecutor
        from threading import Barrier
        from collector import load_schema

        names = ["conferencing", "conferencing-strict", "participants-qos", "web", "webrtc"] * 3
        together = Barrier(len(names))

        def load(name):
            together.wait()
            return load_schema(name).name

        sys.setswitchinterval(1e-5)
        with ThreadPoolExecutor(len(names)) as pool:
            assert list(pool.map(load, names)) == names
        """
    )


def test_a_worker_builds_none() -> None:
    """It gets a schema that is loaded already."""
    script(
        """
        import collector.server.worker
        from collector.schema.kinds import KINDS
        assert not any(kind.__pydantic_complete__ for kind in KINDS.values())
        """
    )
