"""The lock between test processes: who has it is named, and it ends with its holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deadline import WAIT_SECONDS
from tests.exclusive import MachineLock

_ROOT = Path(__file__).parents[1]
_HOLD = """
import os, signal, sys
from pathlib import Path
from tests.exclusive import MachineLock

with getattr(MachineLock(Path(sys.argv[1])), sys.argv[2])("a test"):
    if os.fork() == 0:
        os.close(1)
    else:
        print("it has the lock", flush=True)
    signal.pause()
"""


@contextmanager
def _holder(folder: Path, kind: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the lock, and has forked a child."""
    command = [sys.executable, "-c", _HOLD, str(folder), kind]
    with subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"it has the lock\n"
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("kind", ["shared", "exclusive"])
def test_the_holder_is_named(tmp_path: Path, kind: str) -> None:
    """By its process and its test, when waiting for it is given up."""
    lock = MachineLock(tmp_path, wait=0.1)
    with _holder(tmp_path, kind) as process:
        named = rf"had the lock for 0\.1 s: process {process.pid}: a test"
        with pytest.raises(TimeoutError, match=named), lock.exclusive("another"):
            pass
    lock.close()


def test_it_ends_with_its_holder(tmp_path: Path) -> None:
    """Also where a child of the holder is still running; its note goes then."""
    lock = MachineLock(tmp_path, wait=WAIT_SECONDS)
    with _holder(tmp_path, "exclusive") as process:
        process.kill()
        process.wait(WAIT_SECONDS)
        with lock.exclusive("another"):
            assert lock.holders() == []
    lock.close()


def test_shared_holders_run_side_by_side(tmp_path: Path) -> None:
    """And leave no note."""
    first, second = (MachineLock(tmp_path, wait=0.1) for _ in range(2))
    with first.shared("one"), second.shared("other"):
        pass
    with first.exclusive("one"), pytest.raises(TimeoutError), second.shared("other"):
        pass
    assert not [*tmp_path.glob("holder-*")]
    first.close()
    second.close()
