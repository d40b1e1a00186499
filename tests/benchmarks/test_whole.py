"""Whole processes: commands run, agree, and are charged with what they used themselves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import fluent_bit, memory, parallel, processes, start, whole
from benchmarks.results import BenchmarkError
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
    assert result.control is not None
    assert result.control.cpu_seconds[0] > 0


def test_a_control_is_two_processes() -> None:
    """They filter half of the events each, at the same time, and use the CPU of two."""
    with processes.source("medium", 40, times=2) as source:
        assert (source.events, len(source.path.read_bytes().splitlines())) == (80, 80)
        assert parallel.control_gain(source, runs=2).median > 0
        records = source.beside("control.ndjson").read_bytes()
        assert len(records.splitlines()) == 40
        assert records == source.beside("control.second").read_bytes()


def test_a_process_that_fails_beside_another_is_seen(tmp_path: Path) -> None:
    """Of two commands that run at the same time, either may be the one."""
    good, bad = (sys.executable, "-c", ""), (sys.executable, "-c", "raise SystemExit(3)")
    for first, second in ((good, bad), (bad, good)):
        process = processes.Process("two", first, tmp_path / "printed", beside=second)
        with pytest.raises(BenchmarkError, match="status 3"):
            process.run()


def test_the_start_of_a_command_is_measured() -> None:
    """Against importing the libraries that it needs."""
    with processes.source("medium", 1) as source:
        found = start.measure(source, runs=3)
    assert len(found.command.cpu_seconds) == 3
    assert found.ratio.median > 0


def test_memory_is_of_a_fresh_process() -> None:
    """A contender needs more than the events alone, and both less than this process would."""
    with processes.source("medium", 500) as source:
        peaks = memory.measure(["ours", "ours_mappings"], source)
    assert list(peaks) == ["", "ours", "ours_mappings"]
    assert 5 < peaks[""] < peaks["ours"] < peaks["ours_mappings"] < 150


# Fluent Bit itself is in no registry of packages. Its place is taken by a program that keeps the
# top-level keys it is told to, if it is told what Fluent Bit documents.
STAND_IN = """\
#!/bin/sh
'''exec' "{python}" "$0" "$@"
'''
import json, sys
if sys.argv[1:] == ["--version"]:
    print("Fluent Bit v4.2.0\\nGit commit: none")
    sys.exit()
print("what it prints is not its output")
options = [word.partition("=")[::2] for word in sys.argv if "=" in word]
source, target = (value for name, value in options if name == "path")
allowed = [value for name, value in options if name == "allowlist_key"]
assert allowed == ["client", "device", "os"]
assert dict(options).items() >= {{
    "parser": "json", "read_from_head": "true", "exit_on_eof": "true", "format": "plain"
}}.items()
with open(target + "/" + dict(options)["file"], "a") as records:
    for line in open(source):
        event = json.loads(line)
        {change}
        print(json.dumps({{key: event[key] for key in allowed if key in event}}), file=records)
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
    with processes.source("medium", 10) as source, pytest.raises(BenchmarkError, match=message):
        whole.measure(source, 1, executable)
