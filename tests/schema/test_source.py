"""YAML into plain values: the core schema, places, limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from collector.documents import Document, read, read_text
from tests.support.rows import for_each


def _source(text: str) -> Document:
    return read_text(text, Document("made-up"))


@for_each(
    ("written", "value"),
    [
        *(("", None), ("~", None), ("null", None), ("NULL", None), ("nULL", "nULL")),
        *(("true", True), ("TRUE", True), ("False", False), ("FALSE", False), ("false", False)),
        *(("True", True), ("tRUE", "tRUE"), ("yes", "yes"), ("off", "off"), ("0", 0), ("-17", -17)),
        *(("+17", 17), ("017", 17), ("0o17", 15), ("0x1F", 31), ("0b11", "0b11")),
        *(("1_000", "1_000"), ("1:30", "1:30"), ("-", [None]), ("-_", "-_"), ("._", "._")),
        *(("1.5", 1.5), ("1.", 1.0), (".5", 0.5), ("-1e3", -1000.0), ("1e-400", 0.0)),
        *(("1.2.3", "1.2.3"), ("2026-11-24", "2026-11-24")),
        ("2026-11-24T10:20:00Z", "2026-11-24T10:20:00Z"),
        *(("=", "="), ("٣", "٣"), ("'1'", "1"), ('"true"', "true"), ('"\\u00e9"', "é")),
        *(("'null'", "null"), ("|-\n  1", "1")),
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
        ("[1, [], {}]", [1, [], {}]),
        ("{a: {b: }}", {"a": {"b": None}}),
    ],
)
def test_core_schema(written: str, value: Any) -> None:
    """Plain scalars are those of the YAML 1.2 core schema."""
    for head in ("", "%YAML 1.1\n---\n"):
        source = _source(f"{head}a:\n  {written}\n")
        assert source.faults == []
        assert source.value == {"a": value}
        assert type(source.value["a"]) is type(value)


@for_each(
    "written",
    ["18446744073709551616", "-9223372036854775809", "9" * 5000, "0x" + "f" * 17, "1e309", "-.INF"],
)
def test_numbers_that_json_cannot_carry(written: str) -> None:
    source = _source(f"a:\n  - 1\n  - {written}\n")
    assert [fault[1:4] + fault[5:] for fault in source.faults] == [(3, 5, "a.1", "E107")]
    source.report(("a", 1), "E107", "a fault that follows from it")
    assert len(source.faults) == 1


def test_places() -> None:
    """An unknown place is put at what holds it."""
    source = _source('é: 1\n"b c": [x,\n  {d: 2}]\n')
    assert source.places[("é",)] == (1, 1)
    assert source.places[("b c",)] == (2, 1)
    assert source.places[("b c", 1, "d")] == (3, 4)
    fault = source.fault(("b c", 1, "e", "f"), "E105", "what")
    assert (fault.line, fault.column, fault.field) == (3, 3, "b c.1.e.f")
    assert source.fault(("b c", 1, "e"), "E105", "what")[1:3] == (3, 3)
    assert source.fault(("nowhere",), "E105", "what")[1:3] == (1, 1)
    assert str(fault) == "made-up:3:3: b c.1.e.f: what [E105]"


def test_the_first_of_two_equal_keys_stays() -> None:
    source = _source("a: 1\nb: 2\na: 3\n")
    assert source.value == {"a": 1, "b": 2}
    assert [(fault.line, fault.code) for fault in source.faults] == [(3, "E122")]


def test_an_empty_document_is_an_empty_mapping() -> None:
    """Everything that is missing can be reported then; a written null is no mapping."""
    assert _source("# nothing\n").value == {}
    assert _source("~\n").value is None


@for_each("bom", [b"", b"\xef\xbb\xbf"])
@for_each("end", [b"\n", b"\r\n"])
def test_files(tmp_path: Path, bom: bytes, end: bytes) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(bom + b"a: 1" + end + b"b: 2" + end)
    source = read(path, "called")
    assert source.value == {"a": 1, "b": 2}
    assert source.places[("b",)] == (2, 1)
    assert source.directory == tmp_path.resolve()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    for path in (tmp_path / "none", tmp_path, loop, Path("a\0b"), Path("x" * 5000)):
        source = read(path, "called")
        assert source.value is None
        assert [(fault.file, fault.code) for fault in source.faults] == [("called", "E101")]


def test_the_largest_file(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"a: 1\n" + b"#" * ((256 << 10) - 5))
    assert read(path, "large").value == {"a": 1}
    path.write_bytes(path.read_bytes() + b"#")
    assert [fault.code for fault in read(path, "large").faults] == ["E101"]
