"""Steps of tests in a git repository; see the fixture of that name."""

from __future__ import annotations

import subprocess

from tests.support.deadline import WAIT_SECONDS


def git(*arguments: str) -> str:
    """Run git in the working directory, and return its output."""
    done = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, check=True, timeout=WAIT_SECONDS
    )
    return done.stdout.strip()


def commit(message: str = "a step") -> str:
    """Commit all that is there; the name of the commit."""
    git("add", "--all")
    git("commit", "--quiet", "--message", message)
    return git("rev-parse", "HEAD")
