"""The processes of ``collector filter --jobs`` get content, and can hand on records only."""

from __future__ import annotations

import errno
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from collector.cli import inputs
from collector.cli.inputs import FilterRun
from collector.keyring import Keyring
from collector.sandbox import support
from collector.sandbox.attempts import ATTEMPTS
from collector.schema import load_schema
from collector.synthetic import events
from tests.conftest import required
from tests.support.deadline import WAIT_SECONDS
from tests.support.programs import script

SCHEMAS = ("conferencing", "conferencing-strict", "participants-qos", "web", "webrtc")
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than two ranges of ``--jobs``; every other event tells its user agent."""
    path = tmp_path_factory.mktemp("corpus") / "events.ndjson"
    with path.open("wb") as handle:
        for number, event in enumerate(events(200, seed=7)):
            more = {"user_agent.original": f"{AGENT}{number}", "pad": "x" * 100_000}
            handle.write(orjson.dumps({**event, **(more if number % 2 else {})}) + b"\n")
    return path


def _set_up(*setup: Any) -> None:
    """Set a process up; what the test runs in it is loaded before."""
    inputs.set_up_process(*setup)


def _refused() -> list[tuple[str, str, int]]:
    """Try everything; return what was not refused."""
    refusals = (errno.EPERM, errno.EACCES, errno.ENOSYS)
    found = [(each.what, each.call, each.error()) for each in ATTEMPTS]
    return [each for each in found if each[2] not in refusals]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_process_of_the_pool_is_confined(corpus: Path, start: str) -> None:
    if support().lacks:
        required("a kernel with a sandbox")
    setup = (load_schema("webrtc"), datetime.now(UTC), Keyring(), corpus)
    context = multiprocessing.get_context(start)
    with ProcessPoolExecutor(1, context, _set_up, setup) as pool:
        assert pool.submit(_refused).result(WAIT_SECONDS) == []
        _, tally = pool.submit(inputs.filter_range, 0, 1 << 20).result(WAIT_SECONDS)
        assert tally.received > 0
        assert pool.submit(_refused).result(WAIT_SECONDS) == []
        with pytest.raises(OSError, match="Invalid argument"):
            pool.submit(inputs.filter_range, -1, 1).result(WAIT_SECONDS)


def test_a_file_that_is_gone_is_said(tmp_path: Path) -> None:
    setup = (load_schema("web"), datetime.now(UTC), Keyring(), tmp_path / "missing")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, inputs.set_up_process, setup) as pool:
        fault = pool.submit(inputs.filter_range, 0, 1).exception(WAIT_SECONDS)
    assert "[E101]" in str(fault)


@pytest.mark.parametrize(
    "name",
    [*SCHEMAS[::4], *(pytest.param(each, marks=pytest.mark.long) for each in SCHEMAS[1:4])],
)
def test_every_shipped_schema_is_filtered(corpus: Path, name: str) -> None:
    """What the fields load late can still be loaded in the sandbox."""
    schema = load_schema(name)
    day = datetime.now(UTC).date()
    one = b"".join(records for records, _ in FilterRun(schema, day).run(corpus, "ndjson"))
    code = (
        "import sys\nfrom datetime import date\nfrom pathlib import Path\n"
        "from collector.cli.inputs import FilterRun\nfrom collector.schema import load_schema\n"
        "run = FilterRun(load_schema(sys.argv[2]), date.fromisoformat(sys.argv[3]), 2)\n"
        "for records, _ in run.run(Path(sys.argv[1]), 'ndjson'):\n"
        "    sys.stdout.buffer.write(records)\n"
    )
    ended = script(code, corpus, name, day.isoformat())
    assert (ended.stdout, ended.stderr) == (one.decode(), "")
    assert one or name == "participants-qos"  # which has other events


_WITHOUT = """
import ctypes, struct, sys
from pathlib import Path
from collector.cli.inputs import FilterRun
from collector.sandbox import kernel, seccomp, support
from collector.schema import load_schema
code = [
    seccomp._operation(seccomp._LOAD, seccomp._NUMBER),
    seccomp._operation(seccomp._EQUAL, 444, 0, 1),
    seccomp._UNKNOWN,
    seccomp._SUCCESS,
]
lines = ctypes.create_string_buffer(b"".join(code))
head = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", 4, ctypes.addressof(lines)))
kernel.forbid_new_privileges()
kernel.system_call(seccomp._SECCOMP["seccomp"], 1, 0, ctypes.addressof(head))
assert support().landlock == 0
print(sum(tally.received for _, tally in
          FilterRun(load_schema("web"), jobs=2).run(Path(sys.argv[1]), "ndjson")))
"""


def test_a_kernel_without_a_sandbox_filters_too(corpus: Path) -> None:
    if support().lacks:
        required("a kernel with a sandbox")
    ended = script(_WITHOUT, corpus)
    assert (ended.stdout, ended.stderr) == ("200\n", "")
