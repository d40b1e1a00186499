"""Faulty schema documents: each fault is found at its place, with its code, all in one pass.

The documents of ``tests.schema.faulty`` carry their faults as marks, see
``tests.support.make_schemas``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collector.errors import CODES, SchemaError
from collector.schema import load_schemas
from tests.schema.conftest import Faults
from tests.schema.faulty import TABLE
from tests.support.make_schemas import PLAIN, marked, one


def test_every_fault_is_found_at_its_place(faults: Faults, tmp_path: Path) -> None:
    (tmp_path / "sourceless.txt").write_text("a\n")
    for name, document in TABLE.items():
        text, expected = marked(document)
        found = faults(text)
        assert [(f.line, f.column, f.code) for f in found] == [tuple(e)[:3] for e in expected], name
        for fault, wanted in zip(found, expected, strict=True):
            hint = re.search(r"did you mean `(.*)`", fault.message)
            assert wanted.nearest is None or (hint and hint[1] == wanted.nearest), fault.message


def test_the_table_is_wide() -> None:
    codes = {fault.code for document in TABLE.values() for fault in marked(document)[1]}
    assert len(set(TABLE.values())) == len(TABLE) > 120
    assert len(codes) > 15
    assert codes <= set(CODES)


def test_faults_of_several_documents_come_together(tmp_path: Path) -> None:
    """The faults come in the order in which the documents were named."""
    first, second, fine = (tmp_path / f"{name}.yaml" for name in ("first", "second", "fine"))
    first.write_text(PLAIN.replace("retention: 30d", "retention: x").replace("title", "titel"))
    second.write_text(one("kind: token, pattern: '.*', from: [chat]"))
    fine.write_text(PLAIN)
    with pytest.raises(SchemaError) as caught:
        load_schemas([first, fine, tmp_path / "none.yaml", "conferencin", second])
    found = [(Path(fault.file).stem, fault.code) for fault in caught.value.faults]
    assert found == [
        *(("first", "E106"), ("first", "E105"), ("first", "E107"), ("none", "E101")),
        *(("conferencin", "E101"), ("second", "E116"), ("second", "E305")),
    ]
    lines = str(caught.value).splitlines()
    assert len(lines) == len(found)
    assert lines[2].startswith(f"{first}:8:")
    assert "fields.os.type.retention" in lines[2]
    assert lines[2].endswith("[E107]")


def test_no_fault_quotes_a_value(faults: Faults) -> None:
    """Faults name keys of the document and constants only."""
    text = PLAIN.replace("linux", "' canary'").replace("30d", "canary").replace("[ops]", "[canary]")
    text = text.replace("user.device,", "canary,").replace("essential.service.operations", "canary")
    text = text.replace("1.0.0", "canary").replace("contract", "canary").replace("enum", "canary")
    text += "records: chat.canary\nmax_bits: canary\ncontent: {chat: canary}\n"
    text += "tests: [{name: canary, event: {a: canary}, keeps: canary, never_contains: canary}]\n"
    found = faults(text)
    assert len({fault.field for fault in found}) > 8
    assert "canary" not in "\n".join(map(str, found))


def test_keys_are_shown_on_one_line(faults: Faults) -> None:
    (fault,) = faults(f'{PLAIN}? "\\e[31m\\n{"x" * 5000}"\n: 1\n')
    assert fault.field.startswith("\\x1b[31m\\nxxx")
    assert str(fault).isprintable()
    assert len(str(fault)) < 600
    assert fault.code == "E107"
