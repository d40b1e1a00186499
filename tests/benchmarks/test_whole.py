"""Whole processes: commands run, agree, and are charged with what they used themselves."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import orjson
import pytest

from benchmarks import fluent_bit, memory, parallel, processes, whole
from benchmarks.contenders import FIELDS
from benchmarks.results import BenchmarkError
from collector import Filter, load_schema
from tests.conftest import required


@pytest.fixture(autouse=True, scope="module")
def possible() -> None:
    """Nothing of this can be measured where the system does not tell, or without jq."""
    if reason := whole.obstacle():
        required(reason)


def test_whole_processes() -> None:
    """Both commands run, agree, and their use is the child's own, not that of this process."""
    with processes.source("medium", 300) as source:
        result = whole.measure(source, runs=1)
    assert not source.path.parent.exists()
    assert (result.events, result.bytes) == (300, source.bytes)
    for used in (result.collector, result.jq):
        assert used.cpu_seconds[0] > 0
        assert used.wall_seconds[0] > 0.5 * used.cpu_seconds[0]
    assert result.jq.peak_mb[0] < result.collector.peak_mb[0] < 150
    assert result.fluent_bit is None


def test_whole_process_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that fails, or gives other records, has no time."""
    with processes.source("medium", 10) as source:
        monkeypatch.setattr(whole, "JQ_PROGRAM", "nonsense(")
        with pytest.raises(BenchmarkError, match="jq ended with status"):
            whole.measure(source, runs=1)
        monkeypatch.setattr(whole, "JQ_PROGRAM", "{}")
        with pytest.raises(BenchmarkError, match="differ in record 1"):
            whole.measure(source, runs=1)


def test_every_command_of_all_cores_agrees() -> None:
    """As many jobs as there are CPUs, two at least, and the engines that are here."""
    with processes.source("medium", 50) as source:
        result = parallel.measure(source, runs=1)
    numbers = parallel.jobs(parallel.cpus())
    assert list(result.speedups) == numbers[1:]
    assert list(result.commands)[: len(numbers)] == [
        f"collector filter --jobs {number}" for number in numbers
    ]
    assert all(used.wall_seconds[0] > 0 for used in result.commands.values())


@pytest.mark.parametrize(
    ("available", "numbers"), [(1, [1, 2]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_jobs_are_doubled_up_to_every_cpu(available: int, numbers: list[int]) -> None:
    """Two are tried even on one CPU, where they cannot be faster."""
    assert parallel.jobs(available) == numbers


def test_memory_is_of_a_fresh_process() -> None:
    """A contender needs more than the events alone, and both less than this process would."""
    with processes.source("medium", 500) as source:
        peaks = memory.measure(["ours", "ours_mappings"], source)
    assert list(peaks) == ["", "ours", "ours_mappings"]
    assert 5 < peaks[""] < peaks["ours"] < peaks["ours_mappings"] < 150


# Fluent Bit itself is in no registry of packages. Its place is taken by a program that keeps the
# top-level keys it is told to, if it is told what Fluent Bit documents.
STAND_IN = """\
#!{python}
import json, sys
if sys.argv[1:] == ["--version"]:
    print("Fluent Bit v4.2.0\\nGit commit: none")
    sys.exit()
print("what it prints is not its output")
section, told = None, {{"input": {{}}, "filter": {{}}, "output": {{}}}}
words = iter(sys.argv[1:])
kept = []
for word in words:
    if word in ("--input", "--filter", "--output"):
        section = word[2:]
        told[section]["name"] = next(words)
    elif word == "--prop":
        name, _, value = next(words).partition("=")
        if name == "allowlist_key":
            kept.append(value)
        told[section][name] = value
    elif word == "--match":
        told[section]["match"] = next(words)
    elif word == "--parser":
        text = open(next(words)).read()
        assert "[PARSER]" in text and "Format json" in text
    else:
        assert word == "--quiet", word
assert told["input"].items() >= {{
    "name": "tail", "parser": "json", "read_from_head": "true", "exit_on_eof": "true"
}}.items()
assert told["filter"]["name"] == "record_modifier" and told["filter"]["match"] == "*"
assert told["output"]["name"] == "file" and told["output"]["format"] == "plain"
with open(told["output"]["path"] + "/" + told["output"]["file"], "a") as target:
    for line in open(told["input"]["path"]):
        event = json.loads(line)
        {change}
        print(json.dumps({{key: event[key] for key in kept if key in event}}), file=target)
"""


def stand_in(folder: Path, change: str = "pass") -> str:
    path = folder / "fluent-bit"
    path.write_text(STAND_IN.format(python=sys.executable, change=change), encoding="utf-8")
    path.chmod(0o700)
    return str(path)


def test_fluent_bit_is_told_what_to_do(tmp_path: Path) -> None:
    """Its output is compared, and its use is there beside jq's."""
    executable = fluent_bit.find(stand_in(tmp_path))
    assert executable is not None
    assert fluent_bit.version(executable) == "Fluent Bit v4.2.0"
    with processes.source("medium", 30) as source:
        result = whole.measure(source, 2, executable)
    assert result.fluent_bit is not None
    assert result.fluent_bit_ratio is not None
    assert len(result.fluent_bit.cpu_seconds) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("event['os']['type'] = 'plan9'", "collector and fluent-bit differ in record 1"),
        ("continue", "fluent-bit gives 0 records of 10"),
        ("sys.exit(3)", "fluent-bit ended with status 3"),
    ],
)
def test_fluent_bit_that_does_another_job_has_no_time(
    tmp_path: Path, change: str, message: str
) -> None:
    """Other records, none, or a failure."""
    executable = stand_in(tmp_path, change)
    with (
        processes.source("medium", 10) as source,
        pytest.raises(BenchmarkError, match=message),
    ):
        whole.measure(source, 1, executable)


def test_fluent_bit_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is said to be, or else in PATH; what is no program is not there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(fluent_bit, "_USUAL", str(tmp_path / "opt"))
    assert fluent_bit.find() is None
    path = stand_in(tmp_path)
    assert fluent_bit.find() == fluent_bit.find(path) == path
    assert fluent_bit.find(str(tmp_path / "nothing")) is None


def test_record_of_fluent_bit_is_the_schema_s_part() -> None:
    """What it cannot take out below the top level is taken out for the comparison."""
    with processes.source("medium", 1) as source:
        event = source.path.read_bytes().rstrip()
    (expected,) = Filter(load_schema("conferencing")).admit(event).records
    kept = {key: orjson.loads(event)[key] for key in ("client", "device", "os")}
    assert fluent_bit.record(orjson.dumps(kept)) == expected
    assert {name.partition(".")[0] for name in FIELDS} == set(kept)


def test_command_of_fluent_bit_can_be_read(tmp_path: Path) -> None:
    """One key of the allowlist for each top-level key of the fields, each once."""
    with processes.source("medium", 1) as source:
        command = shlex.join(fluent_bit.process("fluent-bit", source).command)
    keys = "--prop allowlist_key=client --prop allowlist_key=device --prop allowlist_key=os"
    assert keys in command
    assert command.count("allowlist_key") == 3
