"""Workers that are not what they should be, for the check of the claims: each is a function."""

from __future__ import annotations

import os
from pathlib import Path

from collector.errors import SandboxError
from collector.server import sandbox_check, worker


def files_only() -> None:
    """Says that it is confined, and makes whatever calls it likes."""
    _replace("restrict_calls", lambda: None)


def with_a_file() -> None:
    """Has a file that was open before."""
    os.open(__file__, os.O_RDONLY)


def unconfined() -> None:
    """Is not let."""

    def refuse() -> None:
        raise SandboxError("E217", "not here")

    _replace("restrict_calls", refuse)


def short() -> None:
    """Ends in the middle."""
    _replace("restrict_calls", lambda: os._exit(1))


def _replace(name: str, function: object) -> None:
    setattr(worker, name, function)


if __name__ == "__main__":
    globals()[Path(os.environ["FAKETIME_LEAK"]).name]()
    worker.main(sandbox_check.Probe)
