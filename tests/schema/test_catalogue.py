"""Catalogues: where they are looked for, what is refused in them, and what each line is worth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collector.schema import resources
from collector.schema.catalogue import CatalogueFault, CatalogueFile, examine, fault_of, read
from tests.support.rows import for_each

SOURCE = "# source: made up\n"


def _code(beside: Path, data: bytes) -> str | None:
    (beside / "mine.txt").write_bytes(data)
    try:
        read("mine", beside)
    except CatalogueFault as fault:
        return fault.code
    return None


def test_entries(tmp_path: Path) -> None:
    """Comments and empty lines are no entries; spelling is kept."""
    longest = "x" * 64
    text = f"{SOURCE}# note\nb\n\nB c\né\n{longest}\n"
    (tmp_path / "mine.txt").write_text(text, encoding="utf-8")
    assert read("mine", tmp_path) == {"b", "B c", "é", longest}


def test_windows_files(tmp_path: Path) -> None:
    assert _code(tmp_path, b"\xef\xbb\xbf# source: made up\r\na\r\nb\r\n") is None
    assert read("mine", tmp_path) == {"a", "b"}


def test_none(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    for name in ("nowhere", "folder"):
        with pytest.raises(CatalogueFault) as caught:
            read(name, tmp_path)
        assert caught.value.code == "E101"


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.txt").write_text(f"{SOURCE}a\n")

    def refuse(path: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(CatalogueFault) as caught:
        read("mine", tmp_path)
    assert caught.value.code == "E101"


def test_beside_the_schema_comes_first(tmp_path: Path) -> None:
    shipped = read("os-names", tmp_path)
    assert "iOS" in shipped
    assert shipped == read("os-names", None)
    (tmp_path / "catalogues").mkdir()
    (tmp_path / "catalogues" / "os-names.txt").write_text(f"{SOURCE}folder\n")
    assert read("os-names", tmp_path) == {"folder"}
    (tmp_path / "os-names.txt").write_text(f"{SOURCE}beside\n")
    assert read("os-names", tmp_path) == {"beside"}


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """What is remembered of a catalogue ends when its file changes."""
    assert _code(tmp_path, b"# source: x\na\n") is None
    assert _code(tmp_path, b"# source: x\nab\n") is None
    assert read("mine", tmp_path) == {"ab"}


_SHIPPED = sorted((resources.shipped() / "catalogues").glob("*.txt"))


@for_each("path", _SHIPPED)
def test_shipped_catalogues(path: Path) -> None:
    catalogue_file, findings = examine(path.read_bytes())
    assert len(catalogue_file.entries) > 500
    assert set(catalogue_file.entries) == read(path.stem, None)
    assert all(not finding.code for finding in findings), findings
    for block in catalogue_file.blocks:
        entries = [entry for _, entry in block.entries]
        assert entries == sorted(entries, key=lambda entry: (entry.casefold(), entry))
        assert re.search(r"\b20[12][0-9]\b", block.source), block.source
        assert re.search(r"\(.*(MIT|Apache|BSD|CC|XFree86).*\)|https://", block.source), (
            block.source
        )


# -- a file, line by line ----------------------------------------------------------------------

GOOD = b"""# source: the vendor's list, 2026
# A note.
Alpha
beta
Gamma

# source: another list, 2025
Apple
Zebra
"""


def _faults(data: bytes) -> list[tuple[int, str]]:
    return [(found.line, found.code) for found in examine(data)[1] if found.code]


def _warnings(data: bytes) -> list[int]:
    return [found.line for found in examine(data)[1] if not found.code]


def test_a_good_file() -> None:
    catalogue_file, findings = examine(GOOD)
    assert findings == []
    assert catalogue_file.entries == {"Alpha": 3, "beta": 4, "Gamma": 5, "Apple": 8, "Zebra": 9}
    assert [block.source for block in catalogue_file.blocks] == [
        "the vendor's list, 2026",
        "another list, 2025",
    ]
    assert catalogue_file.longest == 5
    assert catalogue_file.bits == pytest.approx(2.32, abs=0.01)


def test_an_empty_listing() -> None:
    assert (CatalogueFile().bits, CatalogueFile().longest) == (0.0, 0)


@for_each(
    ("data", "lines"),
    [
        *((b"", [1, 1]), (b"a\n", [1]), (b"# a note\na\n", [1]), (b"\n# source: x\na\n", [1])),
        (b"# source:  \na\n", [1]),
        (b"# source: x\na\n# source:\nb\n", [3]),
        (b"# source: x\n# only a note\n", [2]),
        (b"# source: x\na\nb\na\n\na\n", [4, 6]),
        (b"# source: x\na \n b\n", [2, 3]),
        (b"# source: x\n" + b"a" * 65 + b"\nb\x07\n", [2, 3]),
        (b" # source: x\na\n", [1, 1]),
        (b"# source: x\n\ta\n", [2]),
        (b"# source: x\n\xff\n", [1]),
        ("# source: x\na\u200bb\n".encode(), [2]),
        ("# source: x\na\ufffd\n".encode(), [1]),
        (b"# source: x\n" + b"a\n" * (3 << 20), [1]),
        (b"a\nb\nb \n# source:\nann@example.org\n", [1, 3, 4, 5]),
    ],
)
def test_all_faults_with_their_lines(data: bytes, lines: list[int], tmp_path: Path) -> None:
    assert _faults(data) == [(line, "E107") for line in lines]
    assert _code(tmp_path, data) == "E107"


@for_each(
    "entry",
    [
        *("Ana's iPhone", "ANA\u2019S IPHONE", "ana@example.org", "https://example.org/ana"),
        *("+62 812 5550 123", "Pixel of 0812-5550-123", "030 1234 5678", "00:1b:63:84:45:e6"),
        *("00-1B-63-84-45-E6", "laptop 192.0.2.17", "123e4567-e89b-12d3-a456-426614174000"),
        *("353918051234567", "C02XK0ABJGH5", "iPhone F2LW48XHKXKN", "deadbeef0123"),
    ],
)
def test_what_is_about_a_person_or_one_device(entry: str) -> None:
    """The message does not repeat it."""
    why = fault_of(entry)
    assert why is not None
    assert not any(word in why for word in entry.split() if len(word) > 3 and word != "iPhone")
    assert _faults(f"# source: x\na\n{entry}\n".encode()) == [(3, "E107")]


@for_each(
    "entry",
    [
        *("iPhone16,1", "iPad Pro (12.9-inch) (3rd generation)"),
        *("Standard PC (i440FX + PIIX, 1996)", 'Kindle Fire HDX 8.9" 4G'),
        *("SAMSUNG ELECTRONICS CO., LTD.", "CHUWI Innovation And Technology(ShenZhen)co.,Ltd"),
        *("HP EliteBook 840 14 inch G10 Notebook PC", "Windows Server 2008 R2", "NUC13ANHi7"),
        *("Pop!_OS", "Galaxy A8+ (2018)", "10.or", "é"),
    ],
)
def test_what_products_are_called(entry: str) -> None:
    assert fault_of(entry) is None


def test_warnings() -> None:
    assert _warnings(b"# source: x\nGalaxy Maria\n") == [2]
    assert _warnings(b"# source: x\nMac Mini\n# source: y\nmacmini\n") == [4]
    assert _warnings(b"# source: x\nb\na\nc\nb2\n# source: y\na1\n") == [3]
    assert _warnings(b"# source: x\na\nB\nc\n") == []
