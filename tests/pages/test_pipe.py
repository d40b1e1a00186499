"""The picture of the pipe says what the filter does with the event, whatever the schema."""

from __future__ import annotations

from pathlib import Path
from random import Random

from collector.pages.pipe import Pipe, pipe
from collector.schema import load_schema, resources
from collector.schema.kinds import KINDS
from tests.pages.sample_config import NOW
from tests.strategies import draw_options
from tests.support.make_schemas import canonical, field
from tests.support.rows import for_each

_SELECTIVE = """
schema: selective
version: 1.0.0
title: What is selected
owner: a
also_collected: {more: We also read reports of calls.}
records:
  - {path: "batch.reports", when: {type: inbound, live: [true]}}
purposes:
  ops: {use: essential.service.operations, basis: contract, reason: It has to be}
fields:
  os.type:
    kind: enum
    values: [linux, windows]
    from: [{path: "host.system[1].family", when: {kind: [local, host]}}]
    REST
  call.delay: {kind: integer, minimum: 0, maximum: 100, step: 10, unit: ms, REST_}
  device.serial: {kind: pseudonym, key: "env:NOWHERE", rotate: 1d, REST_}
  call.started: {kind: time, precision: minute, within: 1h, REST_}
"""
_REST = (
    "also: more",
    "category: system",
    "purposes: [ops]",
    "retention: 1d",
    "reason: It has to be",
)


@for_each("kind", KINDS)
def test_every_field_has_an_example(kind: str) -> None:
    random = Random(0)
    for _ in range(50):
        drawn = field(kind, **draw_options(kind, random))
        assert canonical(drawn, NOW)(drawn.example(NOW)) is not None


def consistent(shown: Pipe) -> None:
    """What is kept of the lines is what is in the record; brackets are closed."""
    kept = {name for line in shown.lines if line.outcome == "kept" for name in line.fields}
    assert kept == {name for name, _ in shown.record}
    outcomes = [line.outcome for line in shown.lines]
    assert outcomes.count("open") == outcomes.count("close")
    assert not any(line.value for line in shown.lines if line.outcome == "content")
    assert 0 < shown.bytes_out < shown.bytes_in


@for_each("name", resources.names())
def test_shipped_schemas(name: str) -> None:
    shown = pipe(load_schema(name), NOW)
    consistent(shown)
    content = {line.detail for line in shown.lines if line.outcome == "content"}
    assert content == {"chat", "transcript", "audio", "video", "file"}
    assert {"kept", "unlisted"} <= {line.outcome for line in shown.lines}


def test_every_field_of_a_schema_with_conditions(tmp_path: Path) -> None:
    """Records in a list, conditions, elements of lists, texts with units, keys and times: each
    field has an example that comes through."""
    path = tmp_path / "selective.yaml"
    rest = "\n    ".join(_REST)
    path.write_text(_SELECTIVE.replace("REST_", ", ".join(_REST)).replace("REST", rest))
    schema = load_schema(path)
    shown = pipe(schema, NOW)
    consistent(shown)
    assert [name for name, _ in shown.record] == list(schema.fields)
    assert "compared" in {line.outcome for line in shown.lines}


def test_the_same_each_time() -> None:
    """Nothing of it is random, so that a page changes only when what it says does."""
    schema = load_schema("conferencing")
    assert pipe(schema, NOW) == pipe(schema, NOW)
