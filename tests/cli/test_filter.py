"""``collector filter`` as its users run it: files, streams, formats, options, exit codes."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pyarrow.parquet as parquet
import pytest

from collector.arrow.tables import read_records
from collector.filter import Filter
from collector.schema import load_schema
from collector.synthetic import events
from tests.support.command import COMMAND, run, run_process, started
from tests.support.deadline import WAIT_SECONDS
from tests.support.make_schemas import HEAD
from tests.support.programs import script
from tests.support.rows import for_each
from tests.support.terminal import Terminal

_CANARY = "canary-of-test-filter"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 20 MB of synthetic meetings, more than two ranges of ``--jobs``."""
    path = tmp_path_factory.mktemp("corpus") / "events.ndjson"
    with path.open("wb") as handle:
        for event in events(7000, seed=5, canaries=[_CANARY]):
            handle.write(orjson.dumps(event) + b"\n")
    return path


@pytest.fixture(scope="module")
def expected(corpus: Path) -> bytes:
    return Filter(load_schema("conferencing")).admit_lines(corpus.read_bytes()).encode()


def test_a_file_gives_records_and_exact_counts(corpus: Path, expected: bytes) -> None:
    ended = run("filter", corpus)
    assert (ended.code, ended.out) == (0, expected)
    assert ended.tally["received"] == ended.tally["admitted"] == 7000
    assert ended.tally["bytes_in"] == corpus.stat().st_size
    assert ended.tally["bytes_out"] == len(expected)
    assert _CANARY.encode() not in ended.out + ended.err


@pytest.mark.parametrize("jobs", [2, 3])
def test_jobs_keep_the_order_and_the_counts(corpus: Path, expected: bytes, jobs: int) -> None:
    ended = run_process("filter", corpus, "--jobs", jobs)
    assert (ended.code, ended.out) == (0, expected)
    assert ended.tally == run("filter", corpus).tally


_BESIDE_A_THREAD = """
import sys, threading
from pathlib import Path
from collector.cli.inputs import FilterRun
from collector.schema import load_schema

done = threading.Event()
threading.Thread(target=done.wait).start()
for records, _ in FilterRun(load_schema("conferencing"), jobs=2).run(Path(sys.argv[1]), "ndjson"):
    sys.stdout.buffer.write(records)
done.set()
"""


@pytest.mark.long
def test_jobs_do_not_copy_a_process_that_has_threads(corpus: Path, expected: bytes) -> None:
    """A copy of such a process may hang, so the processes are started anew."""
    command = [sys.executable, "-W", "error", "-c", _BESIDE_A_THREAD, str(corpus)]
    ended = subprocess.run(command, capture_output=True, timeout=WAIT_SECONDS, check=True)
    assert (ended.stdout, ended.stderr) == (expected, b"")


_KEY = {"COLLECTOR_TEST_KEY": "a secret of this test, long enough"}
_PSEUDONYM = """
  device.id: {kind: pseudonym, key: 'env:COLLECTOR_TEST_KEY', rotate: 1d, category: user.device,
    purposes: [ops], retention: 1d, reason: for this test}
"""


def test_jobs_share_one_key_for_pseudonyms(tmp_path: Path) -> None:
    schema = tmp_path / "ids.yaml"
    schema.write_text(HEAD + "fields:" + _PSEUDONYM)
    data = tmp_path / "ids.ndjson"
    padding = "x" * 1000
    with data.open("wb") as handle:
        for number in range(20_000):
            handle.write(orjson.dumps({"device.id": f"id-{number % 7}", "pad": padding}) + b"\n")
    ended = run_process("filter", data, "-s", schema, "--jobs", 2, env=_KEY)
    assert ended.code == 0, ended.err
    assert len(ended.lines) == 20_000
    assert len({line["device.id"] for line in ended.lines}) == 7
    missing = run("filter", data, "-s", schema)
    assert missing.code == 78
    assert b"[E202]" in missing.err


@for_each("jobs", [1, 2])
def test_one_run_has_one_key_for_pseudonyms(tmp_path: Path, jobs: int) -> None:
    """The next run has another key."""
    schema = tmp_path / "ids.yaml"
    schema.write_text(HEAD + "fields:" + _PSEUDONYM)
    event = b'{"device.id": "id-1"}\n'
    for name in ("1.ndjson", "2.ndjson", "3.json"):
        (tmp_path / name).write_bytes(event)
    (tmp_path / "4.ndjson.gz").write_bytes(gzip.compress(event))
    files = [*sorted(tmp_path.glob("[0-9]*")), "-"]
    command = ("filter", *files, "-s", schema, "--jobs", jobs)
    runs = [run_process(*command, env=_KEY, stdin=event) for _ in range(2)]
    assert [len(each.lines) for each in runs] == [5, 5], runs
    pseudonyms = [{line["device.id"] for line in each.lines} for each in runs]
    assert [len(each) for each in pseudonyms] == [1, 1]
    assert pseudonyms[0] != pseudonyms[1]


def test_stdin_is_ndjson_and_documents_go_by_their_name(tmp_path: Path) -> None:
    """An array in ``.json`` is many events; on a line it is ``not_an_object``."""
    array = b'[{"ip": "203.0.113.7"}, {"ip": "2001:DB8::1"}, 3]'
    path = tmp_path / "events.json"
    path.write_bytes(array)
    document = run("filter", path)
    assert [line["client.address"] for line in document.lines] == ["203.0.113.7", "2001:db8::1"]
    assert document.tally["rejected"] == {"not_an_object": 1}
    line = run("filter", stdin=array)
    assert line.tally["rejected"] == {"not_an_object": 1}
    assert line.tally["received"] == 1
    forced = run("filter", "--input", "json", stdin=array)
    assert forced.out == document.out
    packed = tmp_path / "events.json.gz"
    packed.write_bytes(gzip.compress(array))
    assert run("filter", packed).out == document.out


def test_a_byte_order_mark_counts_only_at_the_start() -> None:
    """A BOM before another line makes that line malformed."""
    line = b'{"ip":"203.0.113.7"}\n'
    ended = run("filter", stdin=b"\xef\xbb\xbf" + line + b"\xef\xbb\xbf" + line)
    assert (ended.tally["admitted"], ended.tally["rejected"]) == (1, {"malformed": 1})


def test_merge_counts_identical_records(corpus: Path) -> None:
    merged = run("filter", corpus, "--merge", "-s", "conferencing-strict")
    counts = [line.get("count", 1) for line in merged.lines]
    assert sum(counts) == merged.tally["admitted"] == 7000
    assert len(counts) < 7000
    assert all(count > 1 for line in merged.lines if (count := line.get("count")) is not None)
    plain = [{k: v for k, v in line.items() if k != "count"} for line in merged.lines]
    assert len({orjson.dumps(line) for line in plain}) == len(plain)
    assert merged.tally["bytes_out"] == len(merged.out)
    several = run_process("filter", corpus, "--merge", "-s", "conferencing-strict", "-j", 2)
    assert several.out == merged.out


def test_output_and_tally_files(tmp_path: Path, corpus: Path, expected: bytes) -> None:
    """An input is never overwritten."""
    out, counts = tmp_path / "out.ndjson", tmp_path / "counts.json"
    ended = run("filter", corpus, "--output", out, "--tally", counts)
    assert (ended.code, ended.out, out.read_bytes()) == (0, b"", expected)
    assert orjson.loads(counts.read_bytes()) == ended.tally
    itself = run("filter", out, "--output", out)
    assert (itself.code, out.read_bytes()) == (78, expected)
    assert run("filter", corpus, "--output", tmp_path / "no" / "out").code == 78


def test_an_output_as_parquet(tmp_path: Path, corpus: Path, expected: bytes) -> None:
    out = tmp_path / "out.Parquet"
    ended = run("filter", corpus, "--output", out)
    assert (ended.code, ended.out) == (0, b"")
    assert ended.tally["bytes_out"] == len(expected)
    found = list(read_records(parquet.read_table(out)))
    assert found == [{**orjson.loads(line), "count": 1} for line in expected.splitlines()]
    assert _CANARY.encode() not in out.read_bytes()
    full = tmp_path / "full.parquet"
    full.symlink_to("/dev/full")
    ended = run("filter", corpus, "--output", full)
    assert (ended.code, b"[E203]" in ended.err, b"Traceback" in ended.err) == (75, True, False)


@for_each("name", ["x.feather", "x.CSV", "x.ndjson.gz"])
@for_each("option", ["--output", "--tally"])
def test_an_output_of_another_format_is_refused(tmp_path: Path, option: str, name: str) -> None:
    """It is E122, before anything is read or made."""
    ended = run("filter", option, name, stdin=b"{}\n", directory=tmp_path)
    assert (ended.code, ended.out, list(tmp_path.iterdir())) == (78, b"", [])
    assert ended.err.startswith(f"{name} would hold ".encode())
    assert b"`x." in ended.err
    assert b"[E122]" in ended.err
    for plain in ("x", "x.txt", "x.json", "x.ndjson", "x.log", "x.2026-11-24"):
        given = b'{"ip":"203.0.113.7"}'
        assert run("filter", option, plain, stdin=given, directory=tmp_path).code == 0


@for_each("arguments", [["filter", "d"], ["filter", "none"], ["explain", "none"]])
def test_errors_of_files_name_the_file(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "d").mkdir()
    ended = run(*arguments, directory=tmp_path)
    assert ended.code == 2
    assert f"{arguments[1]} cannot be opened: " in ended.err.decode()
    for option in ("--output", "--tally"):
        written = run("filter", option, "d", stdin=b"{}", directory=tmp_path)
        assert written.code == 78
        assert b"d cannot be written: is a directory [E203]" in written.err


def test_strict_exits_65_but_keeps_what_is_good() -> None:
    data = b'{"ip":"203.0.113.7"}\nno json\n'
    loose, strict = run("filter", stdin=data), run("filter", "--strict", stdin=data)
    assert (loose.code, strict.code) == (0, 65)
    assert loose.out == strict.out != b""
    assert b"[E403]" in strict.err
    assert run("filter", "--strict", stdin=b'{"ip":"203.0.113.7"}').code == 0


def test_as_of_decides_what_has_expired(tmp_path: Path) -> None:
    """The same input gives the same bytes on the same day, whatever today is."""
    source = Path(__file__).parents[2] / "schemas" / "conferencing-strict.yaml"
    schema = tmp_path / "expiring.yaml"
    text = source.read_text().replace("schema: conferencing-strict", "schema: expiring")
    schema.write_text(text.replace("    parts: 2\n", "    parts: 2\n    expires: 2030-01-01\n"))
    event = b'{"ip":"203.0.113.7","os.version":"17.4"}'
    before = run("filter", "-s", schema, "--as-of", "2029-12-31", stdin=event)
    after = run("filter", "-s", schema, "--as-of", "2030-01-01", stdin=event)
    assert before.lines[0]["os.version"] == "17.4"
    assert "os.version" not in after.lines[0]
    assert after.tally["dropped"] == {"os.version": {"expired": 1}}


@for_each(
    ("arguments", "code", "says"),
    [
        (["filter", "no-such-file.ndjson"], 2, b"[E101]"),
        (["filter", "-s", "conferncing"], 78, b"did you mean `conferencing`"),
        (["filter", "--nonsense"], 2, b"No such option"),
        (["filter", "--jobs", "0"], 2, b"--jobs"),
        (["filter", "--as-of", "yesterday"], 2, b"--as-of"),
        (["schema", "check", "no-such.yaml"], 78, b"[E101]"),
        (["schema", "test", "no-such.yaml"], 1, b"[E101]"),
        (["nonsense"], 2, b"No such command"),
    ],
)
def test_wrong_use_has_its_exit_code(arguments: list[str], code: int, says: bytes) -> None:
    ended = run(*arguments)
    assert ended.code == code
    assert says in ended.err
    assert b"Traceback" not in ended.err


def test_damaged_gzip_keeps_what_came_before(tmp_path: Path, corpus: Path, expected: bytes) -> None:
    """The records before the damage are written and counted."""
    packed = gzip.compress(corpus.read_bytes())
    path = tmp_path / "cut.ndjson.gz"
    path.write_bytes(packed[: len(packed) // 2])
    ended = run("filter", path)
    assert ended.code == 65
    assert b"[E422]" in ended.err
    assert len(ended.out) > 100_000
    assert expected.startswith(ended.out)
    assert ended.tally["admitted"] == len(ended.out.splitlines())


def test_a_closed_pipe_ends_cleanly(corpus: Path) -> None:
    with started("filter", corpus) as running:
        assert running.out.readline().startswith(b'{"schema"')
        running.out.close()
        ended = running.ended()
    assert ended.code == 0
    assert b"Traceback" not in ended.err
    assert b"Broken" not in ended.err


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_cleanly(corpus: Path, expected: bytes, jobs: int) -> None:
    """SIGINT goes to the process group; no process writes a traceback."""
    pipe_read, pipe_write = os.pipe()
    process = subprocess.Popen(
        [*COMMAND, "filter", str(corpus), "-", "--jobs", str(jobs)],
        stdin=pipe_read,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(pipe_read)
    assert process.stdout is not None
    assert process.stdout.read(len(expected)) == expected  # now it waits for stdin
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=WAIT_SECONDS)
    os.close(pipe_write)
    assert process.returncode == 130, errors
    assert b"Traceback" not in errors


_OTHER_MOMENTS = ("spawn", "before the end")
_INTERRUPTED_AT_START = """
import os, signal, sys, threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import sleep
from collector.cli.inputs import RANGE_BYTES, FilterRun
from collector.schema import load_schema

def submit(pool, *work):
    future = submits(pool, *work)
    if threads:
        sleep(0.3)  # until the new process imports its modules
        os.killpg(0, signal.SIGINT)
    return future

def fork():
    pid = forks()
    if pid == 0 and when == "fork":
        os.killpg(0, signal.SIGINT)
    return pid

def shutdown(pool, *options, **named):
    thread = pool._executor_manager_thread
    if thread:
        print("shutdown")  # a second one would find the first unfinished
    if thread and when == "end":
        join = thread.join

        def interrupted():
            del thread.join
            os.killpg(0, signal.SIGINT)
            join()

        thread.join = interrupted
    shuts(pool, *options, **named)

def sigmask(how, signals):
    blocked.append(bool(signals) and how == signal.SIG_BLOCK)
    if when == "before the end" and sum(blocked) == ranges + 1:  # each was blocked for its start
        os.killpg(0, signal.SIGINT)
    return masks(how, signals)

when, blocked = sys.argv[2], []
ranges = -(-os.path.getsize(sys.argv[1]) // RANGE_BYTES)
masks, signal.pthread_sigmask = signal.pthread_sigmask, sigmask
shuts, ProcessPoolExecutor.shutdown = ProcessPoolExecutor.shutdown, shutdown
submits, ProcessPoolExecutor.submit = ProcessPoolExecutor.submit, submit
forks, os.fork = os.fork, fork
threads, done = when == "spawn", threading.Event()
if threads:
    threading.Thread(target=done.wait, args=[60]).start()
try:
    for _ in FilterRun(load_schema("conferencing"), jobs=2).run(Path(sys.argv[1]), "ndjson"):
        pass
except KeyboardInterrupt:
    print("interrupted")
done.set()
"""


@pytest.mark.parametrize(
    "when",
    ["fork", "end", *(pytest.param(each, marks=pytest.mark.long) for each in _OTHER_MOMENTS)],
)
def test_ctrl_c_while_processes_start_or_end(corpus: Path, when: str) -> None:
    ended = script(_INTERRUPTED_AT_START, corpus, when, start_new_session=True)
    assert (ended.stdout, ended.stderr) == ("shutdown\ninterrupted\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("to_file", [True, False])
def test_a_full_disk_is_said(corpus: Path, to_file: bool) -> None:
    more = ["-o", "/dev/full"] if to_file else []
    with (
        Path("/dev/full").open("wb") as full,
        started("filter", corpus, *more, out=full.fileno()) as running,
    ):
        ended = running.ended()
    assert ended.code == 75
    assert b"[E203]" in ended.err
    assert b"unexpectedly" not in ended.err
    assert ended.tally["received"] > 0


@for_each("command", ["filter", "explain"])
def test_a_bare_command_on_a_terminal_says_that_it_reads(command: str) -> None:
    terminal = Terminal(command)
    terminal.wait_for("Ctrl-D ends them")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_a_terminal_gets_a_table_and_a_progress_bar(corpus: Path) -> None:
    """A pipe gets JSON."""
    terminal = Terminal("filter", corpus, "--output", os.devnull, TTY_INTERACTIVE="1")
    assert terminal.end() == 0
    assert all(part in terminal.shown for part in ("7,000", "never decoded", "MB"))
