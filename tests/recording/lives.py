"""A process that works on vaults and is killed in the middle: ``python -m tests.recording.lives``.

Its input is a JSON list of lives: a directory, an action, and the step at which the process kills
itself. Each is lived by a child of its own; the answer is a line for each with its exit code.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from collector.recording.vault import Vault
from tests.recording.vaults import RECORDING, add, create, opened

JOURNAL = "journal.txt"
"""The file that the stand-in of the journal writes to."""

Life = tuple[str, str, str]
"""Directory, action, and the step at which it ends."""


def _begin(vault: Vault) -> None:
    create(vault)
    add(vault)
    add(vault, "mix", owner="mixed")


ACTIONS: dict[str, Callable[[Vault], None]] = {
    "begin": _begin,
    "add": lambda vault: add(vault, "cam", range(3, 4)),
    "add track": lambda vault: add(vault, "new", range(1)),
    "finish": lambda vault: vault.finish(RECORDING),
    "destroy": lambda vault: vault.destroy(RECORDING, ["mix"]),
    "erase": lambda vault: vault.erase(RECORDING),
    "rotate": lambda vault: vault.rotate(),
    "recover": lambda vault: None,
}


def lived(lives: Sequence[Life]) -> list[int]:
    """Live the lives in a new process, one after the other; return their exit codes."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.recording.lives"],
        input=json.dumps(lives),
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return [int(line) for line in done.stdout.split()]


def _live(directory: Path, action: str, last: str) -> None:
    def step(name: str) -> None:
        if name == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_erased(recording: str, is_whole: bool) -> None:
        with (directory / JOURNAL).open("a") as file:
            file.write(f"{recording} {is_whole}\n")

    bucket = (directory / "bucket").as_uri() if (directory / "bucket").is_dir() else None
    with opened(directory, on_step=step, on_erased=on_erased, bucket=bucket) as vault:
        ACTIONS[action](vault)


def _main() -> None:
    for directory, action, step in json.load(sys.stdin):
        if (child := os.fork()) == 0:
            _live(Path(directory), action, step)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _main()
