"""Catalogues: where they are looked for, and what is refused in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collector.schema import resources
from collector.schema.catalogue import CatalogueFault, examine, read
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
    """Comments and empty lines are no entries; spelling is kept, case and blanks inside too."""
    longest = "x" * 64
    text = f"{SOURCE}# note\nb\n\nB c\né\n{longest}\n"
    (tmp_path / "mine.txt").write_text(text, encoding="utf-8")
    assert read("mine", tmp_path) == {"b", "B c", "é", longest}


def test_windows_files(tmp_path: Path) -> None:
    """A byte order mark and Windows line ends do not matter."""
    assert _code(tmp_path, b"\xef\xbb\xbf# source: made up\r\na\r\nb\r\n") is None
    assert read("mine", tmp_path) == {"a", "b"}


@for_each(
    "data",
    [
        b"",
        b"a\nb\n",
        b"# source:\na\n",
        b"# source:   \na\n",
        b" # source: x\na\n",
        b"\n# source: x\na\n",
        b"# source: x\n",
        b"# source: x\n# only a note\n",
        b"# source: x\na\nb\na\n",
        b"# source: x\na \n",
        b"# source: x\n\ta\n",
        b"# source: x\n" + b"a" * 65 + b"\n",
        b"# source: x\na\x07b\n",
        b"# source: x\n\xff\n",
        "# source: x\na\u200bb\n".encode(),
        "# source: x\na\ufffd\n".encode(),
        b"# source: x\n" + b"a\n" * (3 << 20),
    ],
)
def test_faulty_catalogues(tmp_path: Path, data: bytes) -> None:
    """No source, no entry, an entry twice, blanks around it, too long, not text: E107."""
    assert _code(tmp_path, data) == "E107"


def test_none(tmp_path: Path) -> None:
    """A catalogue that is nowhere, or is a directory, is E101."""
    (tmp_path / "folder.txt").mkdir()
    for name in ("nowhere", "folder"):
        with pytest.raises(CatalogueFault) as caught:
            read(name, tmp_path)
        assert caught.value.code == "E101"


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue that the system does not let us read is E101."""
    (tmp_path / "mine.txt").write_text(f"{SOURCE}a\n")

    def refuse(path: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(CatalogueFault) as caught:
        read("mine", tmp_path)
    assert caught.value.code == "E101"


def test_beside_the_schema_comes_first(tmp_path: Path) -> None:
    """Beside the schema, then in ``catalogues`` beside it, then among the shipped ones."""
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
    """Each is without a fault, sorted, and every entry stands under a source that has a date."""
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
