"""Landlock alone, before system calls are restricted too."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from collector.sandbox import support
from tests.support import programs
from tests.support.rows import for_each

script = partial(programs.script, fails=True)
_BEGIN = """
import os, socket, threading
from pathlib import Path
from collector.sandbox import restrict_files

def denied(action, *arguments):
    try:
        action(*arguments)
    except PermissionError:
        return True
    return False
"""


def _run(text: str, folder: Path) -> str:
    done = script(f"{_BEGIN}\nfolder = Path({str(folder)!r})\n{text}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_files(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    for name in ("open/one", "named", "other"):
        (tmp_path / name).write_text("x")
    said = _run(
        """
restrict_files([folder / "open", folder / "named"])
assert (folder / "named").read_text() == (folder / "open" / "one").read_text() == "x"
assert os.listdir(folder / "open") == ["one"]
for path in (folder / "other", Path("/etc/passwd"), Path("/dev/urandom"), Path("/proc/self/maps")):
    assert denied(path.read_bytes), path
assert denied(os.listdir, folder)
for path in (folder / "other", folder / "named", folder / "open" / "one"):
    assert denied(path.write_text, "y")
    assert denied(path.unlink)
    assert denied(path.rename, folder / "new")
    assert denied(os.truncate, path, 0)
for make in (Path.mkdir, Path.touch, os.mkfifo, lambda path: path.symlink_to("x")):
    assert denied(make, folder / "open" / "new"), make
assert denied(os.execv, "/bin/true", ["true"])
print("done")
""",
        tmp_path,
    )
    assert said == "done\n"
    assert {path.name for path in tmp_path.rglob("*")} == {"open", "one", "named", "other"}


@pytest.mark.skipif(support().landlock < 4, reason="this Landlock does not know of ports")
def test_ports(tmp_path: Path) -> None:
    said = _run(
        """
listening = socket.create_server(("127.0.0.1", 0))
restrict_files([], ports=[0])
assert denied(socket.create_connection, listening.getsockname())
assert denied(socket.create_server, listening.getsockname())
socket.create_server(("127.0.0.1", 0)).close()
print("done")
""",
        tmp_path,
    )
    assert said == "done\n"


@pytest.mark.skipif(support().landlock < 6, reason="this Landlock does not know of signals")
def test_other_processes(tmp_path: Path) -> None:
    said = _run(
        """
theirs = socket.socket(socket.AF_UNIX)
theirs.bind("\\0collector-%d" % os.getpid())
theirs.listen()
ours = socket.socket(socket.AF_UNIX)
restrict_files()
assert denied(os.kill, os.getppid(), 0)
assert denied(ours.connect, theirs.getsockname())
print("done")
""",
        tmp_path,
    )
    assert said == "done\n"


_TO_ANY = "is a socket that can send to any address"


@for_each(
    ("begin", "words"),
    [
        (
            "threading.Thread(target=threading.Event().wait, daemon=True).start()",
            "in a single thread: there are 2 threads",
        ),
        ("paths = [folder / 'missing']", "no such file or directory"),
        ("udp = socket.socket(type=socket.SOCK_DGRAM)", _TO_ANY),
        ("pair = socket.socketpair(type=socket.SOCK_DGRAM)", _TO_ANY),
        ("import uvloop; loop = uvloop.new_event_loop()", "is a queue of system calls"),
    ],
)
def test_refusals(tmp_path: Path, begin: str, words: str) -> None:
    """A second thread, a path that is not there, a descriptor that is a way out."""
    said = _run(
        f"""
paths = []
{begin}
try:
    restrict_files(paths)
except Exception as error:
    print(error)
""",
        tmp_path,
    )
    assert words in said
    assert said.rstrip().endswith("[E217]")


def test_a_thread_that_has_just_ended_is_no_thread(tmp_path: Path) -> None:
    said = _run(
        """
for _ in range(50):
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
restrict_files()
print("done")
""",
        tmp_path,
    )
    assert said == "done\n"
