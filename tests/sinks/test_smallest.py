"""The smallest sink that the documents show works as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

from collector.schema import load_schema
from collector.sinks import Opening
from collector.testing.sinks import batch_of, person

_PAGE = Path(__file__).parents[2] / "docs" / "sinks.md"


def test_it_keeps_what_it_gets(tmp_path: Path) -> None:
    found = re.search(r"<!-- sink -->\n```python\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    assert found is not None
    shown = ModuleType("smallest")
    exec(compile(found[1], str(_PAGE), "exec", dont_inherit=True), shown.__dict__)
    settings = shown.JsonlSettings(type="jsonl", path=tmp_path / "records.jsonl")
    schema = load_schema("conferencing")
    sink = shown.Jsonl(settings, Opening("copy", (schema,), tmp_path))
    sink.deliver(batch_of(1, [1, 2], schema))
    stored = map(json.loads, settings.path.read_text().splitlines())
    assert [record["client.address"] for record in stored] == [person(1), person(2)]
