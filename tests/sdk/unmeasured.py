"""A process whose coverage nobody measures: that takes time, and an interrupt in the middle of it
would break the locks of whoever measures."""

from __future__ import annotations

import os
import subprocess
import sys

__all__ = ["unmeasured"]


def unmeasured(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with some arguments."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
