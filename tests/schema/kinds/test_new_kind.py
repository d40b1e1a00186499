"""A new kind is one file and two lines: every part of the product takes it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import collector
from tests.support.programs import script

_ROOT = Path(__file__).parents[3]
_KIND = '''
"""``weekday``: a day of the week, as the ISO number that a source sends."""

from typing import ClassVar, Literal

from pydantic import Field

from collector.schema.kinds.base import FieldBase


class WeekdayField(FieldBase):
    """A day of the week."""

    description = "A day of the week, Monday is 1."
    phrases: ClassVar = {
        "week": {"en": "one of {days} days of the week", "id": "salah satu dari {days} hari"}
    }
    wire: ClassVar = frozenset({int})
    column = "INTEGER"

    kind: Literal["weekday"]
    weekend: bool = Field(True, description="Whether 6 and 7 are accepted.")

    def canonical(self, circumstances):
        return lambda value: value if 1 <= value <= self.size() else None

    def size(self):
        return 7 if self.weekend else 5

    def shifts(self, new):
        yield from ()

    def value_schema(self):
        return {"type": "integer", "minimum": 1, "maximum": self.size()}

    def example(self, now):
        return 1

    def phrase(self):
        return "week", {"days": self.size()}

    def coarser(self):
        if self.weekend:
            yield "weekend: false", self.model_copy(update={"weekend": False})
'''
_SCHEMA = """\
schema: planted
version: VERSION
title: A schema with a planted kind
also_collected: {weekday: We also note on which day of the week a meeting is.}
owner: tests
max_bits: 8
purposes:
  ops: {use: essential.service.operations, basis: contract, reason: Plan the capacity of servers}
fields:
  meeting.weekday:
    also: weekday
    kind: weekday
    weekend: WEEKEND
    category: system.operations
    purposes: [ops]
    retention: 30d
    reason: Servers are planned by the day of the week
tests:
  - name: a weekday is kept
    event: {meeting.weekday: 3, chat: canary}
    keeps: {meeting.weekday: 3}
    never_contains: [canary]
"""
_COMMANDS = {
    "schema check --strict old.yaml": "planted/1.0.0, 3 bits at most",
    "schema test old.yaml": "",
    "schema show old.yaml": "weekday",
    "schema capacity old.yaml": "3.0",
    "schema jsonschema": "Whether 6 and 7 are accepted.",
    "schema jsonschema --records old.yaml": '"maximum": 7',
    "schema notice old.yaml": "one of 7 days of the week",
    "schema notice old.yaml --language id": "salah satu dari 7 hari",
    "schema ropa old.yaml": "meeting.weekday",
    "schema diff old.yaml new.yaml": "fields.meeting.weekday.weekend",
    "filter --schema old.yaml events.ndjson": '{"schema":"planted/1.0.0","meeting.weekday":3}',
    "explain --schema old.yaml events.ndjson": "meeting.weekday",
    "demo --schema old.yaml --events 5": "",
}
_RISK = """\
from pathlib import Path
from collector.risk import risks
from collector.schema import load_schema
(risk,) = risks(Path("collector-demo/store.db"), [load_schema("old.yaml")])
print(*(change.how for change in risk.changes))
"""
_RECHECK = """\
from datetime import UTC, datetime
from collector import Filter, load_schema
from collector.contracts import PendingBatch, to_minute
from collector.errors import RecheckError
from collector.filter.recheck import Recheck
schema = load_schema("old.yaml")
found = Filter(schema).admit_lines(b'{"meeting.weekday": 3}')
batch = PendingBatch(schema.layout, to_minute(datetime.now(UTC)), found.encode(), found.tally)
print(Recheck(schema).check(batch).payload == batch.payload)
for value in (b"8", b"1.5", b"true", b"null"):
    payload = batch.payload.replace(b"3", value)
    found.tally.bytes_out = len(payload)
    try:
        Recheck(schema).check(PendingBatch(schema.layout, batch.received, payload, found.tally))
    except RecheckError as error:
        print(error.code)
"""
_LAW = """\
from collector import load_schema
from collector.schema.kinds import KINDS
from collector.testing import assert_noninterference
from tests.strategies import schemas
from tests.strategies.options import OPTIONS
assert list(KINDS)[-1] == "weekday"
OPTIONS["weekday"] = lambda random: {"weekend": random.choice((False, True))}
assert_noninterference(load_schema("old.yaml"), examples=8)
schemas().validate()
"""


def _plant(folder: Path) -> None:
    """Copy the package, and add the kind to the copy as an author would: a file and two lines."""
    package = folder / "collector"
    source = Path(collector.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    documents = source.parent / "schemas"
    if documents.is_dir() and not (package / "schemas").exists():
        shutil.copytree(documents, folder / "schemas")
    kinds = package / "schema" / "kinds"
    (kinds / "weekday.py").write_text(_KIND)
    table = (kinds / "__init__.py").read_text()
    end = '    "pseudonym": PseudonymField,\n'
    assert end in table
    line = f'{end}    "weekday": WeekdayField,\n'
    imported = "from collector.schema.kinds.version import VersionField\n"
    table = table.replace(end, line).replace(
        imported, f"{imported}from collector.schema.kinds.weekday import WeekdayField\n"
    )
    (kinds / "__init__.py").write_text(table)
    drawn = package / "testing" / "_drawn.py"
    last = '    "pseudonym": _pseudonym,\n'
    assert last in drawn.read_text()
    line = f'{last}    "weekday": lambda field, random, now: random.randint(0, 8),\n'
    drawn.write_text(drawn.read_text().replace(last, line))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one more kind, and documents that use it."""
    folder = tmp_path_factory.mktemp("planted")
    _plant(folder)
    for name, version, weekend in (("old", "1.0.0", "true"), ("new", "1.1.0", "false")):
        text = _SCHEMA.replace("VERSION", version).replace("WEEKEND", weekend)
        (folder / f"{name}.yaml").write_text(text)
    (folder / "events.ndjson").write_text('{"meeting.weekday": 3}\n{"meeting.weekday": 9}\n')
    return folder


def _run(folder: Path, code: str) -> str:
    """Run Python code on the copy, and return what it prints."""
    environ = {"PYTHONPATH": f"{folder}{os.pathsep}{_ROOT}", "COLUMNS": "300"}
    return script(code, environ=environ, cwd=folder).stdout


def test_every_command_takes_a_new_kind(planted: Path) -> None:
    commands = [command.split() for command in _COMMANDS]
    code = (
        "from typer.testing import CliRunner\n"
        "from collector.cli.app import app\n"
        f"for command in {commands!r}:\n"
        "    result = CliRunner().invoke(app, command, prog_name='collector')\n"
        "    assert result.exit_code == 0, (command, result.output, result.exception)\n"
        "    print(result.output, end='\\x00')\n"
    )
    *outputs, coarser = _run(planted, code + _RISK).split("\x00")
    for (command, expected), output in zip(_COMMANDS.items(), outputs, strict=True):
        assert expected in output, (command, output)
    assert "weekend: false" in coarser


def test_batches_of_a_new_kind_are_checked(planted: Path) -> None:
    """They are checked value by value, as the kind offers nothing else."""
    assert _run(planted, _RECHECK).split() == ["True", "E513", "E513", "E513", "E513"]


def test_the_test_helpers_take_a_new_kind(planted: Path) -> None:
    _run(planted, _LAW)
